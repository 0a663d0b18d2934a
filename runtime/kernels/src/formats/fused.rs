//! The kernels of a format: tiles of a few rows that decode in registers, and decoding to f32.

use super::{DecodeFn, Stored, Taker};
use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Wide;
use crate::pack::PART;
use crate::tile::{Tile, TileFn, store_c};
use std::mem::MaybeUninit;

/// How far ahead of a row's products weights are asked for, in bytes.
const AHEAD: usize = 4096;

/// As many rows leave room in the registers to decode beside their sums.
const BESIDE: usize = 1;

/// The chains of a tile of stored weights; see [`crate::tile`]. They begin here.
#[inline(always)]
unsafe fn run<F: Stored, V: Wide, const R: usize, const N: usize>(t: &Tile) {
    unsafe {
        let mut acc = [[V::splat(0.0); R]; N];
        let parts = t.inputs / F::PART;
        for part in 0..parts {
            chains::<F, V, R, N>(&mut acc, t, part, F::PART);
        }
        if !t.inputs.is_multiple_of(F::PART) {
            chains::<F, V, R, N>(&mut acc, t, parts, t.inputs % F::PART);
        }
        let mut rows = [[V::splat(0.0); N]; R];
        for r in 0..R {
            for n in 0..N {
                rows[r][n] = acc[n][r];
            }
        }
        store_c(rows, t.c, t.c_row, t.cols);
    }
}

/// The chains of one panel, on through a step.
struct Chains<'a, V, const R: usize> {
    acc: &'a mut [V; R],
    /// Row 0, at the first input of the step.
    a: *const f32,
    a_row: usize,
}

impl<V: Wide, const R: usize> Taker<V> for Chains<'_, V, R> {
    #[inline(always)]
    unsafe fn take(&mut self, j: usize, weights: V) {
        for r in 0..R {
            unsafe { self.acc[r] = V::splat(*self.a.add(r * self.a_row + j)).fma(weights, self.acc[r]) };
        }
    }
}

/// Numbers, 16 of an input side by side.
struct Numbers(*mut f32);

impl<V: Wide> Taker<V> for Numbers {
    #[inline(always)]
    unsafe fn take(&mut self, j: usize, weights: V) {
        unsafe { weights.store(self.0.add(16 * j)) };
    }
}

/// The chains of a tile, on through some inputs of a part.
#[inline(always)]
unsafe fn chains<F: Stored, V: Wide, const R: usize, const N: usize>(
    acc: &mut [[V; R]; N],
    t: &Tile,
    part: usize,
    inputs: usize,
) {
    unsafe {
        let panel = |n: usize| t.b.cast::<u8>().wrapping_add(n * t.b_panel * size_of::<f32>());
        let a = t.a.add(part * F::PART);
        for n in 0..N {
            let ahead = F::part(panel(n), part).wrapping_add(AHEAD);
            for line in 0..F::BYTES.div_ceil(64) {
                V::prefetch(ahead.wrapping_add(64 * line).cast());
            }
        }
        if R > BESIDE {
            let mut numbers = [const { MaybeUninit::<[f32; 16 * PART]>::uninit() }; N];
            for n in 0..N {
                decode_part::<F, V>(panel(n), part, inputs, numbers[n].as_mut_ptr().cast());
            }
            for k in 0..inputs {
                for n in 0..N {
                    let weights = V::load(numbers[n].as_ptr().cast::<f32>().add(16 * k));
                    Chains { acc: &mut acc[n], a: a.add(k), a_row: t.a_row }.take(0, weights);
                }
            }
            return;
        }
        let mut scales = [F::scale::<V>(panel(0), part); N];
        for n in 1..N {
            scales[n] = F::scale::<V>(panel(n), part);
        }
        let mut at = [t.b.cast::<u8>(); N];
        for n in 0..N {
            at[n] = F::part(panel(n), part);
        }
        for step in 0..inputs / F::STEP {
            for n in 0..N {
                F::step(at[n], step, &scales[n], &mut Chains { acc: &mut acc[n], a: a.add(step * F::STEP), a_row: t.a_row });
                // There are not enough registers for what several panels unpack.
                let next = (n + 1) % N;
                at[next] = acc[n][R - 1].before(at[next]);
            }
        }
    }
}

/// The first inputs of a part as numbers.
#[inline(always)]
unsafe fn decode_part<F: Stored, V: Wide>(panel: *const u8, part: usize, inputs: usize, dst: *mut f32) {
    unsafe {
        let scale = F::scale::<V>(panel, part);
        for step in 0..inputs / F::STEP {
            F::step(F::part(panel, part), step, &scale, &mut Numbers(dst.add(step * F::STEP * 16)));
        }
    }
}

/// Inputs `from`, which begins a part, up to `to` of a panel as numbers.
#[inline(always)]
unsafe fn decode<F: Stored, V: Wide>(panel: *const u8, from: usize, to: usize, dst: *mut f32) {
    unsafe {
        for k in (from..to).step_by(F::PART) {
            decode_part::<F, V>(panel, k / F::PART, F::PART.min(to - k), dst.add((k - from) * 16));
        }
    }
}

macro_rules! fused {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{DecodeFn, Stored, Tile, TileFn};
            use std::marker::PhantomData;
            type V = $lanes;

            #[$attribute]
            unsafe fn few<F: Stored, const R: usize, const N: usize>(t: &Tile) {
                unsafe { super::run::<F, V, R, N>(t) }
            }
            #[$attribute]
            unsafe fn decode<F: Stored>(panel: *const u8, from: usize, to: usize, dst: *mut f32) {
                unsafe { super::decode::<F, V>(panel, from, to, dst) }
            }

            pub(super) struct Of<F>(PhantomData<F>);
            impl<F: Stored> Of<F> {
                pub(super) const FEW: &'static [&'static [TileFn]] = lists!($isa);
                pub(super) const DECODE: DecodeFn = decode::<F>;
            }
        }
    };
}

/// Which tiles there are; decoding takes registers too.
macro_rules! lists {
    (avx512) => {
        &[rows!(1: 1 2 3 4 5 6), rows!(2: 1 2 3 4), rows!(4: 1 2)]
    };
    ($other:ident) => {
        &[rows!(1: 1 2 3 4), rows!(2: 1 2)]
    };
}

macro_rules! rows {
    ($n:literal: $($r:literal)*) => {
        &[$(few::<F, $r, $n>),*]
    };
}

for_each_isa!(fused);

/// The tiles of a format for a few rows.
pub(super) fn few_of<F: Stored + 'static>(isa: Isa) -> &'static [&'static [TileFn]] {
    *by_isa!(isa, Of::<F>::FEW)
}

/// What decodes a format.
pub(super) fn decode_of<F: Stored + 'static>(isa: Isa) -> DecodeFn {
    *by_isa!(isa, Of::<F>::DECODE)
}
