//! Q5_0: blocks of 32 whole numbers of five bits, from -16 to 15, and their scale.

use super::levels::{Levels, around};
use super::{Leveled, Record, Stored, finite_halves, fives, fours, layout};
use crate::lanes::Wide;

struct Q5;

layout!(
    Q5,
    "q5_0",
    (32, 22),
    // Scale, the lower bits of levels, and a word of their fifth bits: of input `4 i + b` bit `i` of byte `b`.
    Record { head: &[(1, 2)], parts: (1, &[(4, 4), (1, 4)]) },
    |from, to| {
        to[..2].copy_from_slice(&from[..2]);
        let levels: [u8; 32] = std::array::from_fn(|i| from[6 + i % 16] >> (i / 16 * 4) & 15);
        fours(&levels, &mut to[2..18]);
        let fifth = |i: usize| from[2 + i / 8] >> (i % 8) & 1;
        for (b, fifths) in to[18..22].iter_mut().enumerate() {
            *fifths = (0..8).fold(0, |bits, k| bits | fifth(4 * k + b) << k);
        }
    },
    |blocks| finite_halves(blocks, 22, &[0])
);

impl Stored for Q5 {
    const PART: usize = 32;
    const BYTES: usize = 16 * 22;
    const STEP: usize = 8;
    type Scale<V: Wide> = Levels<V, 4>;
    type Words<V: Wide> = V::Whole;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part * Self::BYTES)
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

impl Leveled for Q5 {
    const BITS: u32 = 5;
    const MIDDLE: Option<i32> = Some(16);

    #[inline(always)]
    unsafe fn factors<V: Wide>(panel: *const u8, part: usize) -> (V, V) {
        unsafe { around(16.0, V::load_f16(Self::part(panel, part))) }
    }
    #[inline(always)]
    unsafe fn levels<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { Self::words::<V, J>(part, step) }
    }
}
