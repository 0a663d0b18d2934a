//! Vectors of sixteen `f32` lanes, one type per instruction set, and one lane.
//!
//! Every formula and every loop of this crate is written once over [`Lanes`]. A vector operation
//! is the IEEE 754 operation in each lane, so the instruction sets agree bit for bit; only the
//! payload of a NaN may differ.
//!
//! The methods are `inline(always)` and are only reached from functions compiled for their
//! instruction set, which is why the arithmetic is not marked `unsafe`.

use std::ops::{Add, Div, Mul, Neg, Sub};

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod dots;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;

/// A vector of [`Lanes::WIDTH`] lanes.
pub(crate) trait Lanes:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// One truth value per lane.
    type Mask: Copy;
    /// Lanes of one vector: 16, or 1 for `f32` itself.
    const WIDTH: usize;

    fn splat(x: f32) -> Self;
    /// `self * b + c`, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// To the nearest integer, half to even.
    fn round(self) -> Self;
    fn floor(self) -> Self;
    /// `self > b ? self : b`: `b` where either is NaN or both are zero.
    fn above(self, b: Self) -> Self;
    /// `self < b ? self : b`: `b` where either is NaN or both are zero.
    fn below(self, b: Self) -> Self;
    fn lt(self, b: Self) -> Self::Mask;
    fn le(self, b: Self) -> Self::Mask;
    fn equal(self, b: Self) -> Self::Mask;
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn or(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn not(a: Self::Mask) -> Self::Mask;
    /// `m ? a : b`.
    fn select(m: Self::Mask, a: Self, b: Self) -> Self;
    /// The index of the first true lane, or `WIDTH`.
    fn first(m: Self::Mask) -> usize;
    /// `self * 2^n` rounded once, for `self` within [0.5, 2] and an integral `n` within ±252.
    fn scale2(self, n: Self) -> Self;
    /// The same, where what comes out is a normal number.
    #[inline(always)]
    fn scale_near(self, n: Self) -> Self {
        self.scale2(n)
    }
    /// A positive normal number as `m * 2^e`, with `m` in [sqrt(1/2), sqrt(2)).
    fn split(self) -> (Self, Self);
    /// Each lane through a function of one number.
    fn each(self, f: fn(f32) -> f32) -> Self;
    /// Each pair of lanes through a function of two numbers.
    fn each2(self, b: Self, f: fn(f32, f32) -> f32) -> Self;

    /// # Safety
    /// `p` is readable for `WIDTH` numbers.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// `p` is writable for `WIDTH` numbers.
    unsafe fn store(self, p: *mut f32);
    /// The first `n < WIDTH` lanes, and zeros.
    ///
    /// # Safety
    /// `p` is readable for `n` numbers.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;
    /// The first `n < WIDTH` lanes.
    ///
    /// # Safety
    /// `p` is writable for `n` numbers.
    unsafe fn store_part(self, p: *mut f32, n: usize);

    /// Lanes `i` and `i + 8`, then `i` and `i + 4`, `i + 2`, `i + 1`, joined by `f`.
    fn fold(self, f: fn(f32, f32) -> f32) -> f32;
    /// [`Lanes::fold`] by addition.
    fn sum(self) -> f32;
}

/// Sixteen whole numbers of 32 bits, out of which stored weights are unpacked.
pub(crate) trait Whole: Copy {
    fn splat(n: i32) -> Self;
    /// # Safety
    /// `p` is readable for 64 bytes.
    unsafe fn load(p: *const u8) -> Self;
    /// # Safety
    /// `p` is readable for 16 bytes.
    unsafe fn load_u8(p: *const u8) -> Self;
    /// # Safety
    /// `p` is readable for 16 bytes.
    unsafe fn load_i8(p: *const u8) -> Self;
    fn and(self, mask: i32) -> Self;
    fn or(self, b: Self) -> Self;
    fn plus(self, b: Self) -> Self;
    /// To the left by `n < 32` bits.
    fn left(self, n: i32) -> Self;
    /// To the right by `n < 32` bits, zeros coming in.
    fn right(self, n: i32) -> Self;
}

/// Vectors of sixteen lanes that the matrix and attention loops use.
pub(crate) trait Wide: Lanes {
    type Whole: Whole;
    /// Whole numbers of which at most 24 bits follow one another.
    fn of(n: Self::Whole) -> Self;
    /// Sixteen f16.
    ///
    /// # Safety
    /// `p` is readable for 32 bytes.
    unsafe fn load_f16(p: *const u8) -> Self;
    /// Sixteen bf16.
    ///
    /// # Safety
    /// `p` is readable for 32 bytes.
    unsafe fn load_bf16(p: *const u8) -> Self;
    /// Rows become columns.
    fn transpose(rows: [Self; 16]) -> [Self; 16];
    /// The [`Lanes::sum`] of each row, one beside another.
    #[inline(always)]
    fn sums(rows: [Self; 16]) -> Self {
        let mut v = Self::transpose(rows);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                v[i] = v[i] + v[i + half];
            }
        }
        v[0]
    }
    /// Asks for the cache line at `p`, which need not be readable.
    fn prefetch(p: *const f32);
}

/// `std::ops` in terms of one intrinsic each.
macro_rules! operators {
    ($t:ty, $($trait:ident $method:ident |$a:ident, $b:ident| $e:expr;)*) => {
        $(impl std::ops::$trait for $t {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                let ($a, $b) = (self, other);
                $e
            }
        })*
    };
}
pub(crate) use operators;

/// The fold over sixteen numbers that [`Lanes::fold`] describes.
#[inline(always)]
pub(crate) fn fold16(mut v: [f32; 16], f: fn(f32, f32) -> f32) -> f32 {
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
        half /= 2;
    }
    v[0]
}
