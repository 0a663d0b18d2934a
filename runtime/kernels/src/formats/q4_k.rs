//! Q4_K: blocks of 256 whole numbers of four bits; each 32 have a scale and a minimum of six bits, which have two scales
//! in common.

use super::levels::Levels;
use super::{Leveled, Record, Stored, finite_halves, fours, layout, sixes};
use crate::lanes::{Whole, Wide};

struct Q4K;

/// A part of a record: scale, minimum, levels.
const PART: usize = 2 + 16;

layout!(
    Q4K,
    "q4_K",
    (256, 144),
    Record { head: &[(2, 2)], parts: (8, &[(2, 1), (4, 4)]) },
    |from, to| {
        to[..4].copy_from_slice(&from[..4]);
        for (i, part) in to[4..].chunks_exact_mut(PART).enumerate() {
            let levels: [u8; 32] = std::array::from_fn(|j| from[16 + i / 2 * 32 + j] >> (i % 2 * 4) & 15);
            (part[0], part[1]) = sixes(&from[4..16], i);
            fours(&levels, &mut part[2..]);
        }
    },
    |blocks| finite_halves(blocks, 144, &[0, 2])
);

/// Bytes of a block of a panel: the two common scales, then the parts.
const BLOCK: usize = 64 + 8 * Q4K::BYTES;

impl Stored for Q4K {
    const PART: usize = 32;
    const BYTES: usize = 16 * PART;
    const STEP: usize = 8;
    type Scale<V: Wide> = Levels<V, 8>;
    type Words<V: Wide> = V::Whole;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part / 8 * BLOCK + 64 + part % 8 * Self::BYTES)
    }
    #[inline(always)]
    unsafe fn scale<V: Wide>(panel: *const u8, part: usize) -> Self::Scale<V> {
        Levels::new(unsafe { Self::factors(panel, part) })
    }
    #[inline(always)]
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { V::Whole::load(part.add(32 + step * 64)) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V::Whole, scale: &Levels<V, 8>) -> V {
        scale.weights::<J>(words, 15)
    }
}

impl Leveled for Q4K {
    const BITS: u32 = 4;
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
        let words = unsafe { V::Whole::load(part.add(32 + step * 64)) };
        if J < 4 { words.and(0x0f0f_0f0f) } else { words.right(4).and(0x0f0f_0f0f) }
    }
}
