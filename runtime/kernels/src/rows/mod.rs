//! Row primitives behind function pointers, for compiled code to call.
//!
//! A lookup returns a function for an instruction set; it panics when this processor lacks it.
//! The functions take `n` numbers per row at any alignment, and nothing where `n` is 0. A
//! destination may be exactly one of the sources (in place) but may not overlap one otherwise.
//! Element `i` of an elementwise result depends on element `i` of the sources only. The order of
//! sums is that of [`Reduce`].
//!
//! # Safety
//! Each pointer must be valid for the row it stands for.

mod body;
mod top_k;

use crate::isa::{Isa, by_isa, for_each_isa};
use crate::ops::{Binary, Reduce, Stored, Summed, Unary};

/// `(dst, a, n)`: `dst[i] = f(a[i])`.
pub type UnaryFn = unsafe extern "C" fn(*mut f32, *const f32, usize);
/// `(dst, a, b, n)`: `dst[i] = f(a[i], b[i])`.
pub type BinaryFn = unsafe extern "C" fn(*mut f32, *const f32, *const f32, usize);
/// `(dst, a, s, n)`: `dst[i] = f(a[i], s)`.
pub type BinaryVsFn = unsafe extern "C" fn(*mut f32, *const f32, f32, usize);
/// `(dst, s, b, n)`: `dst[i] = f(s, b[i])`.
pub type BinarySvFn = unsafe extern "C" fn(*mut f32, f32, *const f32, usize);
/// `f(a)`.
pub type ScalarUnaryFn = unsafe extern "C" fn(f32) -> f32;
/// `f(a, b)`.
pub type ScalarBinaryFn = unsafe extern "C" fn(f32, f32) -> f32;
/// `(dst, a, s, x, n)`: `dst[i] = a[i] + s * x[i]`, rounded once.
pub type AxpyFn = unsafe extern "C" fn(*mut f32, *const f32, f32, *const f32, usize);
/// `(dst, cond, a, b, n)`: `dst[i] = a[i]` where `cond[i]` is not zero (NaN is not), else `b[i]`.
pub type SelectFn = unsafe extern "C" fn(*mut f32, *const f32, *const f32, *const f32, usize);
/// [`SelectFn`] with one number as `b`.
pub type SelectVsFn = unsafe extern "C" fn(*mut f32, *const f32, *const f32, f32, usize);
/// [`SelectFn`] with one number as `a`.
pub type SelectSvFn = unsafe extern "C" fn(*mut f32, *const f32, f32, *const f32, usize);
/// [`SelectFn`] with numbers as `a` and `b`.
pub type SelectSsFn = unsafe extern "C" fn(*mut f32, *const f32, f32, f32, usize);
/// `(dst, a, s, x, y, n)`: [`Stored`] of `a`, `s` and `x` goes to `dst`, [`Summed`] of it and `y` is returned. What the two
/// do not use is not read. `y` may be `dst`: then it is what is stored.
pub type StoreSumFn = unsafe extern "C" fn(*mut f32, *const f32, f32, *const f32, *const f32, usize) -> f32;
/// `(dst, a, scale, sink, n)`.
pub type SoftmaxSinkFn = unsafe extern "C" fn(*mut f32, *const f32, f32, f32, usize);
/// `(dst, s, n)`: `dst[i] = s`.
pub type FillFn = unsafe extern "C" fn(*mut f32, f32, usize);
/// `(a, n)`.
pub type ReduceFn = unsafe extern "C" fn(*const f32, usize) -> f32;
/// `(a, n, stride)`: over `a[i * stride]`, with the bits of the same numbers side by side.
pub type ReduceStridedFn = unsafe extern "C" fn(*const f32, usize, isize) -> f32;
/// `(a, b, n)`.
pub type DotFn = unsafe extern "C" fn(*const f32, *const f32, usize) -> f32;
/// `(dst, a, n, k)`.
pub type TopKFn = unsafe extern "C" fn(*mut f32, *const f32, usize, usize);
/// `(dst, a, n, stride)`: `dst[i] = a[i * stride]`, or `dst[i * stride] = a[i]`.
pub type StridedFn = unsafe extern "C" fn(*mut f32, *const f32, usize, isize);

struct Table {
    unary: [UnaryFn; Unary::ALL.len()],
    scalar_unary: [ScalarUnaryFn; Unary::ALL.len()],
    binary: [BinaryFn; Binary::ALL.len()],
    binary_vs: [BinaryVsFn; Binary::ALL.len()],
    binary_sv: [BinarySvFn; Binary::ALL.len()],
    scalar_binary: [ScalarBinaryFn; Binary::ALL.len()],
    reduce: [ReduceFn; Reduce::ALL.len()],
    reduce_strided: [ReduceStridedFn; Reduce::ALL.len()],
    axpy: AxpyFn,
    select: SelectFn,
    select_vs: SelectVsFn,
    select_sv: SelectSvFn,
    select_ss: SelectSsFn,
    store_sum: [[StoreSumFn; Summed::ALL.len()]; Stored::ALL.len()],
    fill: FillFn,
    dot: DotFn,
    softmax: UnaryFn,
    softmax_scaled: BinaryVsFn,
    softmax_sink: SoftmaxSinkFn,
}

macro_rules! of_each {
    (unary $f:ident) => {
        [
            $f::<0>, $f::<1>, $f::<2>, $f::<3>, $f::<4>, $f::<5>, $f::<6>, $f::<7>, $f::<8>, $f::<9>, $f::<10>,
            $f::<11>, $f::<12>, $f::<13>, $f::<14>, $f::<15>, $f::<16>, $f::<17>, $f::<18>, $f::<19>, $f::<20>,
        ]
    };
    (binary $f:ident) => {
        [
            $f::<0>, $f::<1>, $f::<2>, $f::<3>, $f::<4>, $f::<5>, $f::<6>, $f::<7>, $f::<8>, $f::<9>, $f::<10>,
            $f::<11>, $f::<12>, $f::<13>, $f::<14>,
        ]
    };
    (reduce $f:ident) => {
        [$f::<0>, $f::<1>, $f::<2>, $f::<3>, $f::<4>]
    };
    (store_sum $f:ident) => {
        of_each!(store_sum $f: 0, 1, 2, 3, 4, 5, 6, 7)
    };
    (store_sum $f:ident: $($stored:literal),*) => {
        [$([$f::<$stored, 0>, $f::<$stored, 1>, $f::<$stored, 2>]),*]
    };
}

macro_rules! table {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{Binary, Reduce, Stored, Summed, Table, Unary, body};
            use crate::math;
            type V = $lanes;

            pub(super) static TABLE: Table = Table {
        unary: of_each!(unary unary),
        scalar_unary: of_each!(unary scalar_unary),
        binary: of_each!(binary binary),
        binary_vs: of_each!(binary binary_vs),
        binary_sv: of_each!(binary binary_sv),
        scalar_binary: of_each!(binary scalar_binary),
        reduce: of_each!(reduce reduce),
        reduce_strided: of_each!(reduce reduce_strided),
                axpy,
                select,
                select_vs,
                select_sv,
                select_ss,
        store_sum: of_each!(store_sum store_sum),
                fill,
                dot,
                softmax,
                softmax_scaled,
                softmax_sink,
            };

            #[$attribute]
            unsafe extern "C" fn unary<const OP: usize>(dst: *mut f32, a: *const f32, n: usize) {
                unsafe { body::unary::<V>(const { Unary::ALL[OP] }, dst, a, n) }
            }
            #[$attribute]
            unsafe extern "C" fn scalar_unary<const OP: usize>(a: f32) -> f32 {
                math::unary(const { Unary::ALL[OP] }, a)
            }
            #[$attribute]
            unsafe extern "C" fn binary<const OP: usize>(dst: *mut f32, a: *const f32, b: *const f32, n: usize) {
                unsafe { body::binary::<V, _, _>(const { Binary::ALL[OP] }, dst, body::Row(a), body::Row(b), n) }
            }
            #[$attribute]
            unsafe extern "C" fn binary_vs<const OP: usize>(dst: *mut f32, a: *const f32, s: f32, n: usize) {
                unsafe { body::binary::<V, _, _>(const { Binary::ALL[OP] }, dst, body::Row(a), body::Same(s), n) }
            }
            #[$attribute]
            unsafe extern "C" fn binary_sv<const OP: usize>(dst: *mut f32, s: f32, b: *const f32, n: usize) {
                unsafe { body::binary::<V, _, _>(const { Binary::ALL[OP] }, dst, body::Same(s), body::Row(b), n) }
            }
            #[$attribute]
            unsafe extern "C" fn scalar_binary<const OP: usize>(a: f32, b: f32) -> f32 {
                math::binary(const { Binary::ALL[OP] }, a, b)
            }
            #[$attribute]
            unsafe extern "C" fn reduce<const OP: usize>(a: *const f32, n: usize) -> f32 {
                unsafe { body::reduce::<V, _>(const { Reduce::ALL[OP] }, body::Row(a), n) }
            }
            #[$attribute]
            unsafe extern "C" fn reduce_strided<const OP: usize>(a: *const f32, n: usize, stride: isize) -> f32 {
                unsafe { body::reduce::<V, _>(const { Reduce::ALL[OP] }, body::Strided(a, stride), n) }
            }
            #[$attribute]
            unsafe extern "C" fn axpy(dst: *mut f32, a: *const f32, s: f32, x: *const f32, n: usize) {
                unsafe { body::axpy::<V>(dst, a, s, x, n) }
            }
            #[$attribute]
            unsafe extern "C" fn select(dst: *mut f32, cond: *const f32, a: *const f32, b: *const f32, n: usize) {
                unsafe { body::select::<V, _, _>(dst, cond, body::Row(a), body::Row(b), n) }
            }
            #[$attribute]
            unsafe extern "C" fn select_vs(dst: *mut f32, cond: *const f32, a: *const f32, b: f32, n: usize) {
                unsafe { body::select::<V, _, _>(dst, cond, body::Row(a), body::Same(b), n) }
            }
            #[$attribute]
            unsafe extern "C" fn select_sv(dst: *mut f32, cond: *const f32, a: f32, b: *const f32, n: usize) {
                unsafe { body::select::<V, _, _>(dst, cond, body::Same(a), body::Row(b), n) }
            }
            #[$attribute]
            unsafe extern "C" fn select_ss(dst: *mut f32, cond: *const f32, a: f32, b: f32, n: usize) {
                unsafe { body::select::<V, _, _>(dst, cond, body::Same(a), body::Same(b), n) }
            }
            #[$attribute]
            unsafe extern "C" fn store_sum<const STORED: usize, const SUMMED: usize>(
                dst: *mut f32,
                a: *const f32,
                s: f32,
                x: *const f32,
                y: *const f32,
                n: usize,
            ) -> f32 {
                let (stored, summed) = const { (Stored::ALL[STORED], Summed::ALL[SUMMED]) };
                unsafe { body::store_sum::<V>(stored, summed, dst, a, s, x, y, n) }
            }
            #[$attribute]
            unsafe extern "C" fn fill(dst: *mut f32, s: f32, n: usize) {
                unsafe { body::fill::<V>(dst, s, n) }
            }
            #[$attribute]
            unsafe extern "C" fn dot(a: *const f32, b: *const f32, n: usize) -> f32 {
                unsafe { body::dot::<V>(a, b, n) }
            }
            #[$attribute]
            unsafe extern "C" fn softmax(dst: *mut f32, a: *const f32, n: usize) {
                unsafe { body::softmax::<V>(dst, a, 1.0, None, n) }
            }
            #[$attribute]
            unsafe extern "C" fn softmax_scaled(dst: *mut f32, a: *const f32, scale: f32, n: usize) {
                unsafe { body::softmax::<V>(dst, a, scale, None, n) }
            }
            #[$attribute]
            unsafe extern "C" fn softmax_sink(dst: *mut f32, a: *const f32, scale: f32, sink: f32, n: usize) {
                unsafe { body::softmax::<V>(dst, a, scale, Some(sink), n) }
            }
        }
    };
}
for_each_isa!(table);

#[track_caller]
fn table(isa: Isa) -> &'static Table {
    isa.require();
    by_isa!(isa, TABLE)
}

/// `dst[i] = op(a[i])`.
pub fn unary(isa: Isa, op: Unary) -> UnaryFn {
    table(isa).unary[op as usize]
}

/// `dst[i] = op(a[i], b[i])`.
pub fn binary(isa: Isa, op: Binary) -> BinaryFn {
    table(isa).binary[op as usize]
}

/// `dst[i] = op(a[i], s)`.
pub fn binary_vs(isa: Isa, op: Binary) -> BinaryVsFn {
    table(isa).binary_vs[op as usize]
}

/// `dst[i] = op(s, b[i])`.
pub fn binary_sv(isa: Isa, op: Binary) -> BinarySvFn {
    table(isa).binary_sv[op as usize]
}

/// `op(a)`, the function [`Unary::apply`] is.
pub fn scalar_unary(isa: Isa, op: Unary) -> ScalarUnaryFn {
    table(isa).scalar_unary[op as usize]
}

/// `op(a, b)`, the function [`Binary::apply`] is.
pub fn scalar_binary(isa: Isa, op: Binary) -> ScalarBinaryFn {
    table(isa).scalar_binary[op as usize]
}

/// `dst[i] = a[i] + s * x[i]`, one fused multiply-add.
pub fn axpy(isa: Isa) -> AxpyFn {
    table(isa).axpy
}

/// `dst[i] = cond[i] != 0 ? a[i] : b[i]`.
pub fn select(isa: Isa) -> SelectFn {
    table(isa).select
}

/// [`select`] with one number as `b`.
pub fn select_vs(isa: Isa) -> SelectVsFn {
    table(isa).select_vs
}

/// [`select`] with one number as `a`.
pub fn select_sv(isa: Isa) -> SelectSvFn {
    table(isa).select_sv
}

/// [`select`] of two numbers.
pub fn select_ss(isa: Isa) -> SelectSsFn {
    table(isa).select_ss
}

/// An elementwise operation and a sum over its result in one pass, with the bits of the two one after another.
pub fn store_sum(isa: Isa, stored: Stored, summed: Summed) -> StoreSumFn {
    table(isa).store_sum[stored as usize][summed as usize]
}

/// `dst[i] = s`.
pub fn fill(isa: Isa) -> FillFn {
    table(isa).fill
}

/// `dst[i] = a[i]`. The rows may overlap.
pub fn copy() -> UnaryFn {
    body::copy
}

/// A row to a number, in the order of [`Reduce`].
pub fn reduce(isa: Isa, op: Reduce) -> ReduceFn {
    table(isa).reduce[op as usize]
}

/// The same over `a[0], a[stride], a[2 * stride], ...`, with the same bits.
pub fn reduce_strided(isa: Isa, op: Reduce) -> ReduceStridedFn {
    table(isa).reduce_strided[op as usize]
}

/// The sum of `a[i] * b[i]`: one fused multiply-add each, in the order of [`Reduce::Sum`].
pub fn dot(isa: Isa) -> DotFn {
    table(isa).dot
}

/// `dst[i] = exp(a[i] - m) / s` with `m` the row's [`Reduce::Max`] and `s` the [`Reduce::Sum`] of
/// the exponentials: the bits of these row operations one after another. A row that holds a NaN,
/// an infinity or nothing above minus infinity becomes NaN where that arithmetic says so.
pub fn softmax(isa: Isa) -> UnaryFn {
    table(isa).softmax
}

/// [`softmax`] of the row times a number.
pub fn softmax_scaled(isa: Isa) -> BinaryVsFn {
    table(isa).softmax_scaled
}

/// [`softmax_scaled`] where one more score takes part in the sum: what the others sum to is 1 without that score's part,
/// `sigmoid(sink - max - log(sum of exp(row - max)))`.
pub fn softmax_sink(isa: Isa) -> SoftmaxSinkFn {
    table(isa).softmax_sink
}

/// `dst[i]` is 1 for the `k` greatest of `a` and 0 for the rest. Of equal ones (the two zeros are
/// equal) the lowest indices are taken. A NaN comes before every number.
pub fn top_k_mask() -> TopKFn {
    top_k::top_k_mask
}

/// `dst[i] = a[i * stride]`.
pub fn gather_strided() -> StridedFn {
    body::gather_strided
}

/// `dst[i * stride] = a[i]`.
pub fn scatter_strided() -> StridedFn {
    body::scatter_strided
}
