//! Q8_0: blocks of 32 whole numbers of eight bits and their scale.

use super::levels::{Levels, around};
use super::{Leveled, Record, Stored, finite_halves, layout};
use crate::lanes::{Whole, Wide};

struct Q8;

layout!(
    Q8,
    "q8_0",
    (32, 34),
    Record { head: &[(1, 2)], parts: (1, &[(8, 4)]) },
    |from, to| {
        to[..2].copy_from_slice(&from[..2]);
        // From zero on.
        to[2..].iter_mut().zip(&from[2..]).for_each(|(level, byte)| *level = byte ^ 128);
    },
    |blocks| finite_halves(blocks, 34, &[0])
);

impl Stored for Q8 {
    const PART: usize = 32;
    const BYTES: usize = 16 * 34;
    const STEP: usize = 4;
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
    #[inline(always)]
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { V::Whole::load(part.add(32 + step * 64)) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V::Whole, scale: &Levels<V, 4>) -> V {
        scale.weights::<J>(words, 255)
    }
}

impl Leveled for Q8 {
    const BITS: u32 = 8;
    const MIDDLE: Option<i32> = Some(128);

    #[inline(always)]
    unsafe fn factors<V: Wide>(panel: *const u8, part: usize) -> (V, V) {
        unsafe { around(128.0, V::load_f16(Self::part(panel, part))) }
    }
    #[inline(always)]
    unsafe fn levels<V: Wide, const J: usize>(part: *const u8, step: usize) -> V::Whole {
        unsafe { Self::words::<V, J>(part, step) }
    }
}
