//! Products of rows of bf16 with matrices of bf16, by processors that multiply those themselves.

use crate::activations::brain;
use crate::isa::Isa;
use crate::made::MadeFn;

/// Two neighbours of a row as bf16, the first one in the upper half: a processor adds the product of the upper halves
/// first, and rounds after each of both, so that a chain has the bits of one of multiply-adds. Only that it takes what is
/// below the least normal number for zero.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

pub(crate) type PairFn = MadeFn<Pair>;

impl Pair {
    /// # Safety
    /// `row` is readable for so many numbers, of which there are two for each pair, but the last may have one.
    pub unsafe fn make(row: *const f32, numbers: usize, pairs: &mut [Pair]) {
        // SAFETY: as the caller says.
        let row = unsafe { std::slice::from_raw_parts(row, numbers) };
        let (twos, rest) = row.as_chunks::<2>();
        for (pair, two) in pairs.iter_mut().zip(twos) {
            *pair = Pair(upper(two[0]) | upper(two[1]) >> 16);
        }
        if let ([last], Some(pair)) = (rest, pairs.get_mut(twos.len())) {
            *pair = Pair(upper(*last));
        }
    }
}

#[cfg(test)]
impl Pair {
    pub fn numbers(self) -> [f32; 2] {
        [f32::from_bits(self.0 & 0xffff_0000), f32::from_bits(self.0 << 16)]
    }
}

/// As bf16 in the upper half, and zeros.
#[inline]
fn upper(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { brain(x).to_bits() }
}

/// Tiles as [`crate::made::Made::tiles`] has them, where this processor has such products.
pub(super) fn tiles(isa: Isa) -> &'static [&'static [PairFn]] {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 && is_x86_feature_detected!("avx512bf16") {
        static CHAINS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        // SAFETY: the processor has them.
        if *CHAINS.get_or_init(|| unsafe { avx512_bf16::are_chains() }) {
            return avx512_bf16::TILES;
        }
    }
    let _ = isa;
    &[]
}

#[cfg(target_arch = "x86_64")]
mod avx512_bf16 {
    use super::{Pair, PairFn};
    use crate::lanes::Lanes;
    use crate::lanes::avx512::V512;
    use crate::made::MadeTile;
    use crate::tile::{load_c, store_c};
    use std::arch::x86_64::*;

    /// How far ahead of a few rows' products weights are asked for, in bytes.
    const AHEAD: usize = 8192;

    macro_rules! tiles {
        ($($n:literal: $($r:literal)*;)*) => { &[$(&[$(tile::<$r, $n>),*]),*] };
    }

    // As many sums as leave room for a word of each panel and how it is turned.
    pub(super) static TILES: &[&[PairFn]] = tiles!(
        1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
        2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14;
        4: 1 2 3 4 5 6;
    );

    /// Of two inputs of a panel, 16 outputs each, those of an output side by side, the first input's above.
    const BESIDE: [u16; 32] = {
        let mut from = [0; 32];
        let mut i = 0;
        while i < 16 {
            from[2 * i] = 16 + i as u16;
            from[2 * i + 1] = i as u16;
            i += 1;
        }
        from
    };

    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
    #[allow(clippy::needless_range_loop)]
    unsafe fn tile<const R: usize, const N: usize>(t: &MadeTile<Pair>) {
        unsafe {
            let beside = _mm512_loadu_si512(BESIDE.as_ptr().cast());
            let mut acc = [[V512::splat(0.0); N]; R];
            if !t.begin {
                acc = load_c(t.c, t.c_row, t.cols);
            }
            for pair in t.blocks.clone() {
                // The last input may be alone.
                let there = if 2 * pair + 1 < t.inputs { !0 } else { 0xffff };
                for n in 0..N {
                    let at = t.w.wrapping_add(n * t.w_panel + pair * 64);
                    if t.first {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    }
                    let both = _mm512_maskz_loadu_epi16(there, at.cast());
                    let weights = _mm512_permutexvar_epi16(beside, both);
                    for r in 0..R {
                        let x = (*t.x.add(r * t.x_row + pair - t.blocks.start)).0;
                        acc[r][n] = acc[r][n].pairs(weights, _mm512_set1_epi32(x.cast_signed()));
                    }
                }
            }
            store_c(acc, t.c, t.c_row, t.cols);
        }
    }

    /// Whether this processor's products are chains of multiply-adds as [`Pair`] says, which no other test shows before they
    /// are used: sums whose bits tell the order of both products, and whether each is rounded.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn are_chains() -> bool {
        let number =
            |i: u32| f32::from_bits((0x3f80_0000 | i.wrapping_mul(0x9e37_79b9) & 0x80ff_0000) + ((i % 23) << 23));
        (0..4096u32).all(|i| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|k| number(4 * i + k));
            let start = number(i ^ 0x5555) * 1.000_123;
            let pair = |high: f32, low: f32| _mm512_set1_epi32((high.to_bits() | low.to_bits() >> 16).cast_signed());
            let sums = V512::splat(start).pairs(pair(a, b), pair(c, d));
            sums.fold(|x, _| x).to_bits() == b.mul_add(d, a.mul_add(c, start)).to_bits()
        })
    }

    impl V512 {
        /// With the products of the upper halves of each lane, then those of the lower ones.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn pairs(self, a: __m512i, b: __m512i) -> V512 {
            // SAFETY: registers of the same bits.
            let [a, b]: [__m512bh; 2] = unsafe { std::mem::transmute::<[__m512i; 2], [__m512bh; 2]>([a, b]) };
            V512(_mm512_dpbf16_ps(self.0, a, b))
        }
    }
}
