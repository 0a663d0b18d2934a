//! The loops over rows, once for every instruction set.

use crate::lanes::Lanes;
use crate::math;
use crate::ops::{Binary, Reduce, Stored, Summed, Unary};

/// Where the elements of a row come from.
pub(crate) trait Source: Copy {
    /// Elements `i` up to `i + 16`.
    unsafe fn full<V: Lanes>(self, i: usize) -> V;
    /// Elements `i` up to `i + n`, `n < 16`, and `pad`.
    unsafe fn part<V: Lanes>(self, i: usize, n: usize, pad: f32) -> V;
}

/// Side by side in memory.
#[derive(Clone, Copy)]
pub(crate) struct Row(pub *const f32);
/// One number for every element.
#[derive(Clone, Copy)]
pub(crate) struct Same(pub f32);
/// At a distance of so many numbers.
#[derive(Clone, Copy)]
pub(crate) struct Strided(pub *const f32, pub isize);

impl Source for Row {
    #[inline(always)]
    unsafe fn full<V: Lanes>(self, i: usize) -> V {
        unsafe { V::load(self.0.add(i)) }
    }
    #[inline(always)]
    unsafe fn part<V: Lanes>(self, i: usize, n: usize, pad: f32) -> V {
        if pad == 0.0 {
            return unsafe { V::load_part(self.0.add(i), n) };
        }
        let mut v = [pad; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.add(i), v.as_mut_ptr(), n);
            V::load(v.as_ptr())
        }
    }
}

/// Side by side in memory, times a number.
#[derive(Clone, Copy)]
struct Scaled(*const f32, f32);

impl Source for Scaled {
    #[inline(always)]
    unsafe fn full<V: Lanes>(self, i: usize) -> V {
        unsafe { Row(self.0).full::<V>(i) * V::splat(self.1) }
    }
    #[inline(always)]
    unsafe fn part<V: Lanes>(self, i: usize, n: usize, pad: f32) -> V {
        let mut v = [pad; 16];
        for (j, x) in v.iter_mut().enumerate().take(n) {
            *x = unsafe { *self.0.add(i + j) } * self.1;
        }
        unsafe { V::load(v.as_ptr()) }
    }
}

impl Source for Same {
    #[inline(always)]
    unsafe fn full<V: Lanes>(self, _: usize) -> V {
        V::splat(self.0)
    }
    #[inline(always)]
    unsafe fn part<V: Lanes>(self, _: usize, _: usize, _: f32) -> V {
        V::splat(self.0)
    }
}

impl Source for Strided {
    #[inline(always)]
    unsafe fn full<V: Lanes>(self, i: usize) -> V {
        unsafe { self.part(i, 16, 0.0) }
    }
    #[inline(always)]
    unsafe fn part<V: Lanes>(self, i: usize, n: usize, pad: f32) -> V {
        let mut v = [pad; 16];
        unsafe {
            for (j, x) in v.iter_mut().enumerate().take(n) {
                *x = *self.0.offset((i + j) as isize * self.1);
            }
            V::load(v.as_ptr())
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn unary<V: Lanes>(op: Unary, dst: *mut f32, a: *const f32, n: usize) {
    unsafe {
        let mut i = 0;
        while i + V::WIDTH <= n {
            math::unary(op, V::load(a.add(i))).store(dst.add(i));
            i += V::WIDTH;
        }
        if i < n {
            math::unary(op, V::load_part(a.add(i), n - i)).store_part(dst.add(i), n - i);
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn binary<V: Lanes, A: Source, B: Source>(op: Binary, dst: *mut f32, a: A, b: B, n: usize) {
    unsafe {
        let mut i = 0;
        while i + V::WIDTH <= n {
            math::binary::<V>(op, a.full(i), b.full(i)).store(dst.add(i));
            i += V::WIDTH;
        }
        if i < n {
            math::binary::<V>(op, a.part(i, n - i, 0.0), b.part(i, n - i, 0.0)).store_part(dst.add(i), n - i);
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn axpy<V: Lanes>(dst: *mut f32, a: *const f32, s: f32, x: *const f32, n: usize) {
    unsafe {
        let s = V::splat(s);
        let mut i = 0;
        while i + V::WIDTH <= n {
            s.fma(V::load(x.add(i)), V::load(a.add(i))).store(dst.add(i));
            i += V::WIDTH;
        }
        if i < n {
            let m = n - i;
            s.fma(V::load_part(x.add(i), m), V::load_part(a.add(i), m)).store_part(dst.add(i), m);
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn select<V: Lanes, A: Source, B: Source>(dst: *mut f32, cond: *const f32, a: A, b: B, n: usize) {
    unsafe {
        let zero = V::splat(0.0);
        let mut i = 0;
        while i + V::WIDTH <= n {
            let m = V::load(cond.add(i)).equal(zero);
            V::select(m, b.full(i), a.full(i)).store(dst.add(i));
            i += V::WIDTH;
        }
        if i < n {
            let k = n - i;
            let m = V::load_part(cond.add(i), k).equal(zero);
            V::select(m, b.part(i, k, 0.0), a.part(i, k, 0.0)).store_part(dst.add(i), k);
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn fill<V: Lanes>(dst: *mut f32, s: f32, n: usize) {
    unsafe {
        let mut i = 0;
        while i + V::WIDTH <= n {
            V::splat(s).store(dst.add(i));
            i += V::WIDTH;
        }
        if i < n {
            V::splat(s).store_part(dst.add(i), n - i);
        }
    }
}

/// `step(accumulator, i)` over the groups of 16 elements, and the four accumulators as one.
macro_rules! in_lanes {
    ($V:ident, $n:expr, $start:expr, |$acc:ident, $i:ident| $full:expr, |$rest:ident| $part:expr, |$x:ident, $y:ident| $join:expr) => {{
        let start = $V::splat($start);
        let (mut a, mut b, mut c, mut d) = (start, start, start, start);
        let mut i = 0;
        while i + 64 <= $n {
            a = {
                let ($acc, $i) = (a, i);
                $full
            };
            b = {
                let ($acc, $i) = (b, i + 16);
                $full
            };
            c = {
                let ($acc, $i) = (c, i + 32);
                $full
            };
            d = {
                let ($acc, $i) = (d, i + 48);
                $full
            };
            i += 64;
        }
        for lane in [&mut a, &mut b, &mut c, &mut d] {
            let ($acc, $i) = (*lane, i);
            if i + 16 <= $n {
                *lane = $full;
            } else if i < $n {
                let $rest = $n - i;
                *lane = $part;
            }
            i += 16;
        }
        let left = {
            let ($x, $y) = (a, b);
            $join
        };
        let right = {
            let ($x, $y) = (c, d);
            $join
        };
        let ($x, $y) = (left, right);
        $join
    }};
}

#[inline(always)]
pub(crate) unsafe fn reduce<V: Lanes, S: Source>(op: Reduce, a: S, n: usize) -> f32 {
    const { assert!(V::WIDTH == 16) }
    unsafe {
        match op {
            Reduce::Sum => {
                in_lanes!(V, n, 0.0, |acc, i| acc + a.full::<V>(i), |m| acc + a.part::<V>(i, m, 0.0), |x, y| x + y)
                    .sum()
            }
            Reduce::SumSq => in_lanes!(
                V,
                n,
                0.0,
                |acc, i| {
                    let x = a.full::<V>(i);
                    x.fma(x, acc)
                },
                |m| {
                    let x = a.part::<V>(i, m, 0.0);
                    x.fma(x, acc)
                },
                |x, y| x + y
            )
            .sum(),
            Reduce::Max => extreme::<V, S, true>(a, n),
            Reduce::Min => extreme::<V, S, false>(a, n),
            Reduce::ArgMax => {
                let greatest = V::splat(extreme::<V, S, true>(a, n));
                let mut i = 0;
                while i < n {
                    let m = (n - i).min(16);
                    let x = if m == 16 { a.full::<V>(i) } else { a.part::<V>(i, m, f32::NAN) };
                    let at = V::first(x.equal(greatest));
                    if at < 16 {
                        return (i + at) as f32;
                    }
                    i += 16;
                }
                0.0
            }
        }
    }
}

/// The greatest or the least, passing over NaNs.
#[inline(always)]
unsafe fn extreme<V: Lanes, S: Source, const MAX: bool>(a: S, n: usize) -> f32 {
    let op = if MAX { Binary::Max } else { Binary::Min };
    let none = if MAX { f32::NEG_INFINITY } else { f32::INFINITY };
    unsafe {
        in_lanes!(
            V,
            n,
            none,
            |acc, i| math::binary(op, acc, a.full::<V>(i)),
            |m| math::binary(op, acc, a.part::<V>(i, m, none)),
            |x, y| math::binary(op, x, y)
        )
    }
    .fold(if MAX { |x, y| x.above(y) } else { |x, y| x.below(y) })
}

#[inline(always)]
pub(crate) unsafe fn dot<V: Lanes>(a: *const f32, b: *const f32, n: usize) -> f32 {
    let (a, b) = (Row(a), Row(b));
    unsafe {
        in_lanes!(
            V,
            n,
            0.0,
            |acc, i| a.full::<V>(i).fma(b.full(i), acc),
            |m| a.part::<V>(i, m, 0.0).fma(b.part(i, m, 0.0), acc),
            |x, y| x + y
        )
    }
    .sum()
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn store_sum<V: Lanes>(
    stored: Stored,
    summed: Summed,
    dst: *mut f32,
    a: *const f32,
    s: f32,
    x: *const f32,
    y: *const f32,
    n: usize,
) -> f32 {
    let (a, s, x, y, d) = (Row(a), Same(s), Row(x), Row(y), Row(dst));
    // Reads no row that the operation has no use for.
    macro_rules! element {
        ($get:ident($($at:tt)*)) => {
            match stored {
                Stored::Copy => a.$get::<V>($($at)*),
                Stored::Axpy => s.$get::<V>($($at)*).fma(x.$get($($at)*), a.$get($($at)*)),
                Stored::Add => a.$get::<V>($($at)*) + x.$get($($at)*),
                Stored::Sub => a.$get::<V>($($at)*) - x.$get($($at)*),
                Stored::Mul => a.$get::<V>($($at)*) * x.$get($($at)*),
                Stored::AddVs => a.$get::<V>($($at)*) + s.$get($($at)*),
                Stored::SubVs => a.$get::<V>($($at)*) - s.$get($($at)*),
                Stored::MulVs => a.$get::<V>($($at)*) * s.$get($($at)*),
            }
        };
    }
    macro_rules! added {
        ($acc:ident, $e:ident, $y:expr) => {
            match summed {
                Summed::Sum => $acc + $e,
                Summed::SumSq => $e.fma($e, $acc),
                Summed::Dot => $e.fma($y, $acc),
            }
        };
    }
    unsafe {
        in_lanes!(
            V,
            n,
            0.0,
            |acc, i| {
                let e = element!(full(i));
                e.store(dst.add(i));
                added!(acc, e, y.full::<V>(i))
            },
            |m| {
                element!(part(i, m, 0.0)).store_part(dst.add(i), m);
                // What pads the last group is 0 again.
                let e = d.part::<V>(i, m, 0.0);
                added!(acc, e, y.part::<V>(i, m, 0.0))
            },
            |x, y| x + y
        )
    }
    .sum()
}

#[inline(always)]
pub(crate) unsafe fn softmax<V: Lanes>(dst: *mut f32, a: *const f32, scale: f32, sink: Option<f32>, n: usize) {
    unsafe {
        let max = extreme::<V, Scaled, true>(Scaled(a, scale), n);
        let shift = V::splat(max);
        let total = in_lanes!(
            V,
            n,
            0.0,
            |acc, i| {
                let e = math::exp(Scaled(a, scale).full::<V>(i) - shift);
                e.store(dst.add(i));
                acc + e
            },
            |m| {
                math::exp(Scaled(a, scale).part::<V>(i, m, 0.0) - shift).store_part(dst.add(i), m);
                acc + V::load_part(dst.add(i), m)
            },
            |x, y| x + y
        )
        .sum();
        binary::<V, _, _>(Binary::Div, dst, Row(dst), Same(total), n);
        if let Some(sink) = sink {
            let own = math::unary(Unary::Sigmoid, sink - max - math::unary(Unary::Log, total));
            binary::<V, _, _>(Binary::Mul, dst, Row(dst), Same(1.0 - own), n);
        }
    }
}

pub(crate) unsafe extern "C" fn copy(dst: *mut f32, a: *const f32, n: usize) {
    unsafe { std::ptr::copy(a, dst, n) }
}

pub(crate) unsafe extern "C" fn gather_strided(dst: *mut f32, a: *const f32, n: usize, stride: isize) {
    for i in 0..n {
        unsafe { *dst.add(i) = *a.offset(i as isize * stride) }
    }
}

pub(crate) unsafe extern "C" fn scatter_strided(dst: *mut f32, a: *const f32, n: usize, stride: isize) {
    for i in 0..n {
        unsafe { *dst.offset(i as isize * stride) = *a.add(i) }
    }
}
