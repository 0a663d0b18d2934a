//! The lanes in plain Rust: `f32` itself, and sixteen of them in an array.

use super::{Lanes, Whole, Wide, fold16, operators};
use std::array::from_fn;

impl Lanes for f32 {
    type Mask = bool;
    const WIDTH: usize = 1;

    #[inline(always)]
    fn splat(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn fma(self, b: f32, c: f32) -> f32 {
        self.mul_add(b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn round(self) -> f32 {
        self.round_ties_even()
    }
    #[inline(always)]
    fn floor(self) -> f32 {
        f32::floor(self)
    }
    #[inline(always)]
    fn above(self, b: f32) -> f32 {
        if self > b { self } else { b }
    }
    #[inline(always)]
    fn below(self, b: f32) -> f32 {
        if self < b { self } else { b }
    }
    #[inline(always)]
    fn lt(self, b: f32) -> bool {
        self < b
    }
    #[inline(always)]
    fn le(self, b: f32) -> bool {
        self <= b
    }
    #[inline(always)]
    fn equal(self, b: f32) -> bool {
        self == b
    }
    #[inline(always)]
    fn and(a: bool, b: bool) -> bool {
        a & b
    }
    #[inline(always)]
    fn or(a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    fn not(a: bool) -> bool {
        !a
    }
    #[inline(always)]
    fn select(m: bool, a: f32, b: f32) -> f32 {
        if m { a } else { b }
    }
    #[inline(always)]
    fn first(m: bool) -> usize {
        usize::from(!m)
    }
    #[inline(always)]
    fn scale2(self, n: f32) -> f32 {
        let n = n as i32;
        let low = n >> 1;
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        self * power(low) * power(n.wrapping_sub(low))
    }
    #[inline(always)]
    fn split(self) -> (f32, f32) {
        let x = self.to_bits().wrapping_sub(0x3f35_04f3);
        let e = (x as i32) >> 23;
        (f32::from_bits((x & 0x7f_ffff).wrapping_add(0x3f35_04f3)), e as f32)
    }
    #[inline(always)]
    fn each(self, f: fn(f32) -> f32) -> f32 {
        f(self)
    }
    #[inline(always)]
    fn each2(self, b: f32, f: fn(f32, f32) -> f32) -> f32 {
        f(self, b)
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        unsafe { *p }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { *p = self }
    }
    #[inline(always)]
    unsafe fn load_part(_: *const f32, _: usize) -> f32 {
        0.0
    }
    #[inline(always)]
    unsafe fn store_part(self, _: *mut f32, _: usize) {}
    #[inline(always)]
    fn fold(self, _: fn(f32, f32) -> f32) -> f32 {
        self
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        self
    }
}

/// Sixteen numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct P16([f32; 16]);

operators! { P16,
    Add add |a, b| P16(from_fn(|i| a.0[i] + b.0[i]));
    Sub sub |a, b| P16(from_fn(|i| a.0[i] - b.0[i]));
    Mul mul |a, b| P16(from_fn(|i| a.0[i] * b.0[i]));
    Div div |a, b| P16(from_fn(|i| a.0[i] / b.0[i]));
}

impl std::ops::Neg for P16 {
    type Output = P16;
    #[inline(always)]
    fn neg(self) -> P16 {
        P16(from_fn(|i| -self.0[i]))
    }
}

impl Lanes for P16 {
    type Mask = [bool; 16];
    const WIDTH: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> P16 {
        P16([x; 16])
    }
    #[inline(always)]
    fn fma(self, b: P16, c: P16) -> P16 {
        P16(from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }
    #[inline(always)]
    fn sqrt(self) -> P16 {
        P16(from_fn(|i| self.0[i].sqrt()))
    }
    #[inline(always)]
    fn abs(self) -> P16 {
        P16(from_fn(|i| self.0[i].abs()))
    }
    #[inline(always)]
    fn round(self) -> P16 {
        P16(from_fn(|i| self.0[i].round_ties_even()))
    }
    #[inline(always)]
    fn floor(self) -> P16 {
        P16(from_fn(|i| self.0[i].floor()))
    }
    #[inline(always)]
    fn above(self, b: P16) -> P16 {
        P16(from_fn(|i| self.0[i].above(b.0[i])))
    }
    #[inline(always)]
    fn below(self, b: P16) -> P16 {
        P16(from_fn(|i| self.0[i].below(b.0[i])))
    }
    #[inline(always)]
    fn lt(self, b: P16) -> [bool; 16] {
        from_fn(|i| self.0[i] < b.0[i])
    }
    #[inline(always)]
    fn le(self, b: P16) -> [bool; 16] {
        from_fn(|i| self.0[i] <= b.0[i])
    }
    #[inline(always)]
    fn equal(self, b: P16) -> [bool; 16] {
        from_fn(|i| self.0[i] == b.0[i])
    }
    #[inline(always)]
    fn and(a: [bool; 16], b: [bool; 16]) -> [bool; 16] {
        from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn or(a: [bool; 16], b: [bool; 16]) -> [bool; 16] {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn not(a: [bool; 16]) -> [bool; 16] {
        from_fn(|i| !a[i])
    }
    #[inline(always)]
    fn select(m: [bool; 16], a: P16, b: P16) -> P16 {
        P16(from_fn(|i| if m[i] { a.0[i] } else { b.0[i] }))
    }
    #[inline(always)]
    fn first(m: [bool; 16]) -> usize {
        m.iter().position(|&x| x).unwrap_or(16)
    }
    #[inline(always)]
    fn scale2(self, n: P16) -> P16 {
        P16(from_fn(|i| self.0[i].scale2(n.0[i])))
    }
    #[inline(always)]
    fn split(self) -> (P16, P16) {
        (P16(from_fn(|i| self.0[i].split().0)), P16(from_fn(|i| self.0[i].split().1)))
    }
    #[inline(always)]
    fn each(self, f: fn(f32) -> f32) -> P16 {
        P16(from_fn(|i| f(self.0[i])))
    }
    #[inline(always)]
    fn each2(self, b: P16, f: fn(f32, f32) -> f32) -> P16 {
        P16(from_fn(|i| f(self.0[i], b.0[i])))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> P16 {
        P16(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { p.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> P16 {
        let mut v = [0.0; 16];
        unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n) };
        P16(v)
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), p, n) }
    }
    #[inline(always)]
    fn fold(self, f: fn(f32, f32) -> f32) -> f32 {
        fold16(self.0, f)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        fold16(self.0, |a, b| a + b)
    }
}

/// Sixteen whole numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct W16(pub(super) [i32; 16]);

impl Whole for W16 {
    #[inline(always)]
    fn splat(n: i32) -> W16 {
        W16([n; 16])
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> W16 {
        W16(unsafe { p.cast::<[[u8; 4]; 16]>().read() }.map(i32::from_le_bytes))
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> W16 {
        let bytes = unsafe { p.cast::<[u8; 16]>().read() };
        W16(bytes.map(i32::from))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> W16 {
        let bytes = unsafe { p.cast::<[i8; 16]>().read() };
        W16(bytes.map(i32::from))
    }
    #[inline(always)]
    fn and(self, mask: i32) -> W16 {
        W16(self.0.map(|x| x & mask))
    }
    #[inline(always)]
    fn or(self, b: W16) -> W16 {
        W16(from_fn(|i| self.0[i] | b.0[i]))
    }
    #[inline(always)]
    fn plus(self, b: W16) -> W16 {
        W16(from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    fn left(self, n: i32) -> W16 {
        W16(self.0.map(|x| x << n))
    }
    #[inline(always)]
    fn right(self, n: i32) -> W16 {
        W16(self.0.map(|x| (x.cast_unsigned() >> n).cast_signed()))
    }
}

/// An f16 by its bits.
#[inline(always)]
fn half(bits: u16) -> f32 {
    let (sign, rest) = (u32::from(bits >> 15) << 31, u32::from(bits & 0x7fff));
    let size = match rest >> 10 {
        // Beside the exponent 2^-24 the fraction is a whole number.
        0 => rest as f32 * f32::from_bits(103 << 23),
        31 => f32::from_bits(0x7f80_0000 | (rest & 0x3ff) << 13),
        _ => f32::from_bits((rest << 13) + (112 << 23)),
    };
    f32::from_bits(size.to_bits() | sign)
}

impl Wide for P16 {
    type Whole = W16;
    #[inline(always)]
    fn of(n: W16) -> P16 {
        P16(n.0.map(|x| x as f32))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> P16 {
        let bytes = unsafe { p.cast::<[[u8; 2]; 16]>().read() };
        P16(bytes.map(|b| half(u16::from_le_bytes(b))))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> P16 {
        let bytes = unsafe { p.cast::<[[u8; 2]; 16]>().read() };
        P16(bytes.map(|b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)))
    }
    #[inline(always)]
    fn transpose(rows: [P16; 16]) -> [P16; 16] {
        from_fn(|i| P16(from_fn(|j| rows[j].0[i])))
    }
    #[inline(always)]
    fn prefetch(_: *const f32) {}
}
