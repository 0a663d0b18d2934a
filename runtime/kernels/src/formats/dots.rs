//! Products of rows of whole numbers with matrices of levels: sums of whole numbers, exact, and one scaling a part.

use super::Leveled;
use super::fused::{ahead, ask};
use crate::activations::{BLOCK, Block};
use crate::isa::{Isa, by_isa};
use crate::lanes::dots::Dot;
use crate::lanes::{Whole, Wide};
use crate::made::MadeTile;
use crate::tile::{load_c, store_c};

/// With so many rows it is the memory that they wait for, and weights are asked for beside each step.
const WAITING: usize = 2;

type DotTile = MadeTile<Block>;
pub(crate) type DotFn = unsafe fn(&DotTile);

/// A chain of multiply-adds for each output, of the scaled sums of ascending parts.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn run<F: Leveled, V: Wide, D: Dot<V::Whole>, const R: usize, const N: usize>(t: &DotTile) {
    unsafe {
        let mut acc = [[V::splat(0.0); N]; R];
        if !t.begin {
            acc = load_c(t.c, t.c_row, t.cols);
        }
        let parts = BLOCK / F::PART;
        for block in t.blocks.clone() {
            let x: [&Block; R] = std::array::from_fn(|r| &*t.x.add(r * t.x_row + block - t.blocks.start));
            for half in 0..parts {
                let part = block * parts + half;
                let at: [*const u8; N] = std::array::from_fn(|n| F::part(t.w.wrapping_add(n * t.w_panel), part));
                let ahead: [*const u8; N] =
                    std::array::from_fn(|n| ahead(at[n], t.w.wrapping_add(n * t.w_panel), t.w_panel, N));
                if R > WAITING && t.first {
                    (0..N).for_each(|n| ask::<V>(ahead[n], F::BYTES, 0, 1));
                }
                let sums = sums::<F, V, D, R, N>(&at, &ahead, &x, half * F::PART);
                for n in 0..N {
                    let (scale, less) = F::factors::<V>(t.w.wrapping_add(n * t.w_panel), part);
                    for r in 0..R {
                        acc[r][n] = V::of(sums[r][n]).fma(scale * V::splat(x[r].scale), acc[r][n]);
                        if F::MIDDLE.is_none() {
                            acc[r][n] = less.fma(V::splat(x[r].total), acc[r][n]);
                        }
                    }
                }
            }
        }
        store_c(acc, t.c, t.c_row, t.cols);
    }
}

/// The products of a part's levels with some numbers of blocks, from `first` on. What is `ahead` is asked for.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn sums<F: Leveled, V: Wide, D: Dot<V::Whole>, const R: usize, const N: usize>(
    at: &[*const u8; N],
    ahead: &[*const u8; N],
    x: &[&Block; R],
    first: usize,
) -> [[V::Whole; N]; R] {
    let steps = F::PART / F::STEP;
    // Words are summed in groups, of whole steps.
    let group = (D::words(F::BITS) / F::STEP.div_ceil(4)).clamp(1, steps);
    let begin = |r: usize| {
        let of = if F::PART == BLOCK { x[r].sums[0] + x[r].sums[1] } else { x[r].sums[first / F::PART] };
        let centred = F::BITS == 8 && D::CENTRED;
        V::Whole::splat(if centred { 0 } else { -F::MIDDLE.unwrap_or(0) * of })
    };
    let mut sums: [[V::Whole; N]; R] = std::array::from_fn(|r| [begin(r); N]);
    for from in (0..steps).step_by(group) {
        let mut few = [[V::Whole::splat(0); N]; R];
        for step in from..from + group {
            if R <= WAITING {
                (0..N).for_each(|n| ask::<V>(ahead[n], F::BYTES, step, steps));
            }
            macro_rules! word {
                ($j:literal) => {
                    let mut levels = [V::Whole::splat(0); N];
                    for n in 0..N {
                        levels[n] = unsafe { F::levels::<V, $j>(at[n], step) };
                    }
                    for r in 0..R {
                        let four = x[r].numbers.as_ptr().wrapping_add(first + step * F::STEP + $j);
                        let four = unsafe { four.cast::<i32>().read_unaligned() };
                        for n in 0..N {
                            few[r][n] = D::add(few[r][n], F::BITS, levels[n], four);
                        }
                    }
                };
            }
            word!(0);
            if F::STEP == 8 {
                word!(4);
            }
        }
        for r in 0..R {
            for n in 0..N {
                sums[r][n] = D::take(few[r][n], sums[r][n]);
            }
        }
    }
    sums
}

/// The tiles of at most so many rows.
const fn up_to(tiles: &'static [DotFn], rows: usize) -> &'static [DotFn] {
    if rows < tiles.len() { tiles.split_at(rows).0 } else { tiles }
}

macro_rules! dots {
    ($name:ident, $lanes:ty, $dot:ty, $attribute:meta, $($n:literal: $($r:literal)*;)*) => {
        mod $name {
            use super::{Dot, DotFn, DotTile, Leveled};
            use std::marker::PhantomData;

            #[$attribute]
            unsafe fn tile<F: Leveled, const R: usize, const N: usize>(t: &DotTile) {
                unsafe { super::run::<F, $lanes, $dot, R, N>(t) }
            }

            pub(super) struct Of<F>(PhantomData<F>);
            impl<F: Leveled> Of<F> {
                const ROWS: usize = if F::BITS == 8 { <$dot>::ROWS_OF_EIGHT } else { usize::MAX };
                pub(super) const DOTS: &'static [&'static [DotFn]] =
                    &[$(super::up_to(&[$(tile::<F, $r, $n>),*], Self::ROWS)),*];
            }
        }
    };
}

dots!(portable, crate::lanes::portable::P16, crate::lanes::dots::portable::Plain, inline, 1: 1 2 3 4;);
#[cfg(target_arch = "aarch64")]
dots!(neon, crate::lanes::neon::V128, crate::lanes::dots::neon::Long, target_feature(enable = "neon"), 1: 1 2 3 4;);
#[cfg(target_arch = "x86_64")]
dots!(
    avx2,
    crate::lanes::avx2::V256,
    crate::lanes::dots::x86::Pairs,
    target_feature(enable = "avx2,fma,f16c"),
    1: 1 2 3 4; 2: 1 2;
);
#[cfg(target_arch = "x86_64")]
dots!(
    avx_vnni,
    crate::lanes::avx2::V256,
    crate::lanes::dots::x86::Fours256,
    target_feature(enable = "avx2,fma,f16c,avxvnni"),
    1: 1 2 3 4; 2: 1 2;
);
#[cfg(target_arch = "x86_64")]
dots!(
    avx512,
    crate::lanes::avx512::V512,
    crate::lanes::dots::x86::Halves,
    target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c"),
    1: 1 2 3 4 5 6 7 8; 2: 1 2 3 4;
);
#[cfg(target_arch = "x86_64")]
dots!(
    avx512_vnni,
    crate::lanes::avx512::V512,
    crate::lanes::dots::x86::Fours512,
    target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c"),
    1: 1 2 3 4 5 6 7 8; 2: 1 2 3 4; 4: 1 2;
);

/// The tiles of a format: `f[n][r - 1]` does `r` rows, the index of a list is the power of two of its panels.
pub(super) fn dots_of<F: Leveled + 'static>(isa: Isa) -> &'static [&'static [DotFn]] {
    #[cfg(target_arch = "x86_64")]
    match isa {
        Isa::Avx2 if is_x86_feature_detected!("avxvnni") => return avx_vnni::Of::<F>::DOTS,
        Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => return avx512_vnni::Of::<F>::DOTS,
        _ => {}
    }
    by_isa!(isa, Of::<F>::DOTS)
}
