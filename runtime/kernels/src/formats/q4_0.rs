//! Q4_0: blocks of 32 whole numbers of four bits, from -8 to 7, and their scale.

use super::{Record, Stored, Taker, finite_halves, layout, nibbles};
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
    unsafe fn step<V: Wide, T: Taker<V>>(part: *const u8, step: usize, scale: &V, to: &mut T) {
        const TOP: i32 = 15 << 28;
        unsafe {
            let words = V::Whole::load(part.add(32 + step * 64));
            to.take(0, V::of(words.left(28)) * *scale);
            to.take(1, V::of(words.left(24).and(TOP)) * *scale);
            to.take(2, V::of(words.left(20).and(TOP)) * *scale);
            to.take(3, V::of(words.left(16).and(TOP)) * *scale);
            to.take(4, V::of(words.left(12).and(TOP)) * *scale);
            to.take(5, V::of(words.left(8).and(TOP)) * *scale);
            to.take(6, V::of(words.left(4).and(TOP)) * *scale);
            to.take(7, V::of(words.and(TOP)) * *scale);
        }
    }
}
