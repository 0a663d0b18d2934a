//! Q4_0: blocks of 32 whole numbers of four bits, from -8 to 7, and their scale.

use super::levels::{Levels, around};
use super::{Leveled, Record, Stored, finite_halves, fours, layout};
use crate::lanes::{Whole, Wide};

struct Q4;

layout!(
    Q4,
    "q4_0",
    (32, 18),
    Record { head: &[(1, 2)], parts: (1, &[(4, 4)]) },
    |from, to| {
        to[..2].copy_from_slice(&from[..2]);
        let levels: [u8; 32] = std::array::from_fn(|i| from[2 + i % 16] >> (i / 16 * 4) & 15);
        fours(&levels, &mut to[2..]);
    },
    |blocks| finite_halves(blocks, 18, &[0])
);

impl Stored for Q4 {
    const PART: usize = 32;
    const BYTES: usize = 16 * 18;
    const STEP: usize = 8;
    type Scale<V: Wide> = Levels<V, 8>;
    type Words<V: Wide> = V::Whole;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part * Self::BYTES)
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

impl Leveled for Q4 {
    const BITS: u32 = 4;
    const MIDDLE: Option<i32> = Some(8);

    #[inline(always)]
    unsafe fn factors<V: Wide>(panel: *const u8, part: usize) -> (V, V) {
        unsafe { around(8.0, V::load_f16(Self::part(panel, part))) }
    }
    #[inline(always)]
    unsafe fn levels<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        let words = unsafe { V::Whole::load(part.add(32 + step * 64)) };
        if J < 4 { words.and(0x0f0f_0f0f) } else { words.right(4).and(0x0f0f_0f0f) }
    }
}
