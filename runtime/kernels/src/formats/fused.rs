//! The kernels of a format: tiles of a few rows that decode in registers, and decoding to f32.

use super::{DecodeFn, Stored};
use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Wide;
use crate::pack::PART;
use crate::tile::{Tile, TileFn, store_c};
use std::hint::black_box;
use std::mem::MaybeUninit;

/// How far ahead of a row's products weights are asked for, in bytes: as measured, 4 KB and 16 KB are some percent slower.
const AHEAD: usize = 8192;

/// As many rows leave room in the registers to decode beside their sums.
const BESIDE: usize = 1;

/// Something in the frame of a function that begins at a line of the cache. The compiler aligns what it spills to the
/// stack only where something asks for that, and every other vector lies across two lines elsewhere.
#[repr(align(64))]
#[expect(dead_code)]
struct Line(u8);

/// The chains of a tile of stored weights; see [`crate::tile`]. They begin here.
#[inline(always)]
unsafe fn run<F: Stored, V: Wide, const R: usize, const N: usize>(t: &Tile) {
    unsafe {
        black_box(&mut Line(0));
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

/// One panel's chains, on by an input.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn advance<V: Wide, const R: usize>(acc: &mut [V; R], a: *const f32, a_row: usize, weights: V) {
    for r in 0..R {
        acc[r] = V::splat(unsafe { *a.add(r * a_row) }).fma(weights, acc[r]);
    }
}

/// For each turn of a step, `$turn!` with its inputs.
macro_rules! turns {
    ($step:expr, $turn:ident) => {
        if $step == 1 {
            $turn!(0);
        }
        if $step >= 4 {
            $turn!(0 1 2 3);
        }
        if $step >= 8 {
            $turn!(4 5 6 7);
        }
    };
}

/// The chains of a tile, on through some inputs of a part.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn chains<F: Stored, V: Wide, const R: usize, const N: usize>(
    acc: &mut [[V; R]; N],
    t: &Tile,
    part: usize,
    inputs: usize,
) {
    unsafe {
        let panel = |n: usize| t.b.cast::<u8>().wrapping_add(n * t.b_panel * size_of::<f32>());
        let at: [*const u8; N] = std::array::from_fn(|n| F::part(panel(n), part));
        let ahead: [*const u8; N] = std::array::from_fn(|n| ahead(at[n], panel(n), t.b_panel * size_of::<f32>(), N));
        let a = t.a.add(part * F::PART);
        if R > BESIDE {
            let mut numbers = [const { MaybeUninit::<[f32; 16 * PART]>::uninit() }; N];
            for n in 0..N {
                ask::<V>(ahead[n], F::BYTES, 0, 1);
                decode_part::<F, V>(panel(n), part, inputs, numbers[n].as_mut_ptr().cast());
            }
            for k in 0..inputs {
                for n in 0..N {
                    let weights = V::load(numbers[n].as_ptr().cast::<f32>().add(16 * k));
                    advance(&mut acc[n], a.add(k), t.a_row, weights);
                }
            }
            return;
        }
        let mut scales = [F::scale::<V>(panel(0), part); N];
        for n in 1..N {
            scales[n] = F::scale::<V>(panel(n), part);
        }
        for step in 0..inputs / F::STEP {
            for n in 0..N {
                ask::<V>(ahead[n], F::BYTES, step, F::PART / F::STEP);
            }
            let a = a.add(step * F::STEP);
            macro_rules! turn {
                ($first:literal $($more:literal)*) => {
                    let mut words = [F::words::<V, $first>(at[0], step); N];
                    for n in 1..N {
                        words[n] = F::words::<V, $first>(at[n], step);
                    }
                    // The panels' chains in turns: one chain alone waits for its own last sum.
                    for n in 0..N {
                        advance(&mut acc[n], a.add($first), t.a_row, F::weights::<V, $first>(&words[n], &scales[n]));
                    }
                    $(for n in 0..N {
                        advance(&mut acc[n], a.add($more), t.a_row, F::weights::<V, $more>(&words[n], &scales[n]));
                    })*
                };
            }
            turns!(F::STEP, turn);
        }
    }
}

/// Where what will be read a while after a part of a panel lies, where `group` panels are read side by side.
#[inline(always)]
pub(super) fn ahead(part: *const u8, panel: *const u8, panel_bytes: usize, group: usize) -> *const u8 {
    // Behind the end of a panel stands the next one, which is read beside it; the next to be read is that of as many
    // panels later.
    let (mut at, mut beside) = (part as usize - panel as usize + AHEAD, 0);
    while at >= panel_bytes {
        at -= panel_bytes;
        beside += (group - 1) * panel_bytes;
    }
    part.wrapping_add(AHEAD + beside)
}

/// Asks for a step's share of so many bytes: lines of the cache that are asked for at once wait for one another.
#[inline(always)]
pub(super) fn ask<V: Wide>(ahead: *const u8, bytes: usize, step: usize, steps: usize) {
    let lines = bytes.div_ceil(64);
    for line in lines * step / steps..lines * (step + 1) / steps {
        V::prefetch(ahead.wrapping_add(64 * line).cast());
    }
}

/// The first inputs of a part as numbers, 16 of an input side by side.
#[inline(always)]
unsafe fn decode_part<F: Stored, V: Wide>(panel: *const u8, part: usize, inputs: usize, dst: *mut f32) {
    unsafe {
        let scale = F::scale::<V>(panel, part);
        let at = F::part(panel, part);
        for step in 0..inputs / F::STEP {
            let dst = dst.add(step * F::STEP * 16);
            macro_rules! turn {
                ($first:literal $($more:literal)*) => {
                    let words = F::words::<V, $first>(at, step);
                    F::weights::<V, $first>(&words, &scale).store(dst.add(16 * $first));
                    $(F::weights::<V, $more>(&words, &scale).store(dst.add(16 * $more));)*
                };
            }
            turns!(F::STEP, turn);
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
    by_isa!(isa, Of::<F>::FEW)
}

/// What decodes a format.
pub(super) fn decode_of<F: Stored + 'static>(isa: Isa) -> DecodeFn {
    *by_isa!(isa, Of::<F>::DECODE)
}
