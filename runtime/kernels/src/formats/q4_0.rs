//! Q4_0: blocks of 32 whole numbers of four bits, from -8 to 7, and their scale.

use super::{Record, Stored, finite_halves, layout, nibbles};
use crate::lanes::{Whole, Wide};

struct Q4;

layout!(
    Q4,
    "q4_0",
    (32, 18),
    Record { head: &[(1, 2)], parts: (1, &[(4, 4)]) },
    |from, to| {
        to[..2].copy_from_slice(&from[..2]);
        // Less eight, in two's complement.
        let levels: [u8; 32] = std::array::from_fn(|i| from[2 + i % 16] >> (i / 16 * 4) & 15 ^ 8);
        nibbles(&levels, &mut to[2..]);
    },
    |blocks| finite_halves(blocks, 18, &[0])
);

impl Stored for Q4 {
    const PART: usize = 32;
    const BYTES: usize = 16 * 18;
    const STEP: usize = 8;
    type Scale<V: Wide> = V;
    type Words<V: Wide> = V::Whole;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part * Self::BYTES)
    }
    /// The numbers are unpacked to the upper four bits of words.
    #[inline(always)]
    unsafe fn scale<V: Wide>(panel: *const u8, part: usize) -> V {
        unsafe { V::load_f16(Self::part(panel, part)) * V::splat(f32::from_bits((127 - 28) << 23)) }
    }
    #[inline(always)]
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { V::Whole::load(part.add(32 + step * 64)) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V::Whole, scale: &V) -> V {
        let level = if J < 7 { words.left(28 - 4 * J as i32) } else { *words };
        V::of(if J > 0 { level.and(15 << 28) } else { level }) * *scale
    }
}
