//! 32-bit floats: what the tiles read as it is.

use super::{Layout, Products, Record, Stored, fused};
use crate::lanes::Wide;
use crate::tile::tiles;

struct Single;

pub(super) static LAYOUT: Layout = Layout {
    name: "f32",
    block: (1, 4),
    record: Record { head: &[(1, 4)], parts: (0, &[]) },
    rearrange: |from, to| to.copy_from_slice(from),
    finite: |b| b.as_chunks::<4>().0.iter().all(|x| u32::from_le_bytes(*x) & 0x7f80_0000 != 0x7f80_0000),
    in_place: true,
    products: |isa| Products { few: tiles(isa).direct, decode: fused::decode_of::<Single>(isa), dots: &[], pairs: &[] },
};

impl Stored for Single {
    const PART: usize = 8;
    const BYTES: usize = 8 * 64;
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
        unsafe { V::load(part.add(step * 64).cast()) }
    }
    #[inline(always)]
    fn weights<V: Wide, const J: usize>(words: &V, (): &()) -> V {
        *words
    }
}
