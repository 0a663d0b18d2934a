//! Q5_K: as Q4_K, with a fifth bit of each number.

use super::levels::Levels;
use super::{Leveled, Record, Stored, finite_halves, fives, fours, layout, sixes};
use crate::lanes::{Whole, Wide};

struct Q5K;

/// A part of a record: scale, minimum, the lower bits of levels, and a word of their fifth bits: of input `4 i + b` bit `i` of
/// byte `b`.
const PART: usize = 2 + 16 + 4;

layout!(
    Q5K,
    "q5_K",
    (256, 176),
    Record { head: &[(2, 2)], parts: (8, &[(2, 1), (4, 4), (1, 4)]) },
    |from, to| {
        to[..4].copy_from_slice(&from[..4]);
        for (i, part) in to[4..].chunks_exact_mut(PART).enumerate() {
            let levels: [u8; 32] = std::array::from_fn(|j| from[48 + i / 2 * 32 + j] >> (i % 2 * 4) & 15);
            (part[0], part[1]) = sixes(&from[4..16], i);
            fours(&levels, &mut part[2..18]);
            for (b, fifths) in part[18..].iter_mut().enumerate() {
                *fifths = (0..8).fold(0, |bits, k| bits | (from[16 + k * 4 + b] >> i & 1) << k);
            }
        }
    },
    |blocks| finite_halves(blocks, 176, &[0, 2])
);

/// Bytes of a block of a panel: the two common scales, then the parts.
const BLOCK: usize = 64 + 8 * Q5K::BYTES;

impl Stored for Q5K {
    const PART: usize = 32;
    const BYTES: usize = 16 * PART;
    const STEP: usize = 8;
    type Scale<V: Wide> = Levels<V, 4>;
    type Words<V: Wide> = V::Whole;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part / 8 * BLOCK + 64 + part % 8 * Self::BYTES)
    }
    #[inline(always)]
    unsafe fn scale<V: Wide>(panel: *const u8, part: usize) -> Self::Scale<V> {
        Levels::new(unsafe { Self::factors(panel, part) })
    }
    /// The levels of four inputs, a byte each.
    #[inline(always)]
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { fives::<V, J>(part.add(32), part.add(288), step) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V::Whole, scale: &Levels<V, 4>) -> V {
        scale.weights::<J>(words, 31)
    }
}

impl Leveled for Q5K {
    const BITS: u32 = 5;
    const MIDDLE: Option<i32> = None;

    #[inline(always)]
    unsafe fn factors<V: Wide>(panel: *const u8, part: usize) -> (V, V) {
        unsafe {
            let (block, part) = (panel.add(part / 8 * BLOCK), Self::part(panel, part));
            let scale = V::load_f16(block) * V::of(V::Whole::load_u8(part));
            (scale, -(V::load_f16(block.add(32)) * V::of(V::Whole::load_u8(part.add(16)))))
        }
    }
    #[inline(always)]
    unsafe fn levels<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { Self::words::<V, J>(part, step) }
    }
}
