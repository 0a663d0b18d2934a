//! 16-bit floats with 5 bits of exponent.

use super::{Record, Stored, layout};
use crate::lanes::Wide;

struct Half;

layout!(
    Half,
    "f16",
    (1, 2),
    Record { head: &[(1, 2)], parts: (0, &[]) },
    |from, to| to.copy_from_slice(from),
    |b| b.as_chunks::<2>().0.iter().all(|x| u16::from_le_bytes(*x) & 0x7c00 != 0x7c00),
    |_| &[],
    |_| &[]
);

impl Stored for Half {
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
        unsafe { V::load_f16(part.add(step * 32)) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V, (): &()) -> V {
        *words
    }
}
