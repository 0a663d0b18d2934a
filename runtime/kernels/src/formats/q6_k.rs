//! Q6_K: blocks of 256 whole numbers of six bits, from -32 to 31; each 16 have a scale of eight bits, which have one
//! scale in common.

use super::levels::{Levels, around};
use super::{Leveled, Record, Stored, finite_halves, fours, layout};
use crate::lanes::{Whole, Wide};

struct Q6K;

/// A part of a record: scale, the lower bits of levels, and a word of their upper two, less 32 in two's complement: of input
/// `4 i + b` bits `2 i` of byte `b`.
const PART: usize = 1 + 8 + 4;

layout!(
    Q6K,
    "q6_K",
    (256, 210),
    Record { head: &[(1, 2)], parts: (16, &[(1, 1), (2, 4), (1, 4)]) },
    |from, to| {
        to[..2].copy_from_slice(&from[208..]);
        for (i, part) in to[2..].chunks_exact_mut(PART).enumerate() {
            // 128 elements are in 64 bytes of low halves and 32 bytes of pairs.
            let (half, i_of) = (i / 8, i % 8);
            let low: [u8; 16] = std::array::from_fn(|j| from[half * 64 + i_of % 4 * 16 + j] >> (i_of / 4 * 4) & 15);
            let high: [u8; 16] =
                std::array::from_fn(|j| from[128 + half * 32 + i_of % 2 * 16 + j] >> (i_of / 2 * 2) & 3);
            part[0] = from[192 + i];
            fours(&low, &mut part[1..9]);
            for (b, byte) in part[9..].iter_mut().enumerate() {
                *byte = (0..4).fold(0, |bits, k| bits | high[4 * k + b] << (2 * k));
            }
        }
    },
    |blocks| finite_halves(blocks, 210, &[208])
);

/// Bytes of a block of a panel: the common scale, then the parts.
const BLOCK: usize = 32 + 16 * Q6K::BYTES;

impl Stored for Q6K {
    const PART: usize = 16;
    const BYTES: usize = 16 * PART;
    const STEP: usize = 8;
    type Scale<V: Wide> = Levels<V, 4>;
    type Words<V: Wide> = V::Whole;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part / 16 * BLOCK + 32 + part % 16 * Self::BYTES)
    }
    #[inline(always)]
    unsafe fn scale<V: Wide>(panel: *const u8, part: usize) -> Self::Scale<V> {
        Levels::new(unsafe { Self::factors(panel, part) })
    }
    /// The levels of four inputs, a byte each.
    #[inline(always)]
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        const LOW: i32 = 0x0f0f_0f0f;
        const HIGH: i32 = 0x3030_3030;
        unsafe {
            let low = V::Whole::load(part.add(16 + step * 64));
            let high = V::Whole::load(part.add(144)).right(4 * step as i32);
            match J {
                0..4 => low.and(LOW).or(high.left(4).and(HIGH)),
                _ => low.right(4).and(LOW).or(high.left(2).and(HIGH)),
            }
        }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V::Whole, scale: &Levels<V, 4>) -> V {
        scale.weights::<J>(words, 63)
    }
}

impl Leveled for Q6K {
    const BITS: u32 = 6;
    const MIDDLE: Option<i32> = Some(32);

    #[inline(always)]
    unsafe fn factors<V: Wide>(panel: *const u8, part: usize) -> (V, V) {
        unsafe {
            let common = V::load_f16(panel.add(part / 16 * BLOCK));
            around(32.0, common * V::of(V::Whole::load_i8(Self::part(panel, part))))
        }
    }
    #[inline(always)]
    unsafe fn levels<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { Self::words::<V, J>(part, step) }
    }
}
