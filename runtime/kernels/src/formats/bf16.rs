//! 16-bit floats that are the upper halves of f32.

use super::{Record, Stored, layout};
use crate::lanes::Wide;

struct Brain;

layout!(
    Brain,
    "bf16",
    (1, 2),
    Record { head: &[(1, 2)], parts: (0, &[]) },
    |from, to| to.copy_from_slice(from),
    |b| b.as_chunks::<2>().0.iter().all(|x| u16::from_le_bytes(*x) & 0x7f80 != 0x7f80),
    |_| &[],
    super::pairs::tiles
);

impl Stored for Brain {
    const PART: usize = 8;
    const BYTES: usize = 8 * 32;
    type Scale<V: Wide> = ();
    type Words<V: Wide> = V;
    const STEP: usize = 1;

    #[inline(always)]
    fn part(panel: *const u8, part: usize) -> *const u8 {
        panel.wrapping_add(part * Self::BYTES)
    }
    #[inline(always)]
    unsafe fn scale<V: Wide>(_: *const u8, _: usize) {}
    #[inline(always)]
    unsafe fn words<V: Wide, const J: usize>(part: *const u8, step: usize) -> V {
        unsafe { V::load_bf16(part.add(step * 32)) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V, (): &()) -> V {
        *words
    }
}
