//! Random numbers by their place, so that parts of a tensor can be made in any order and by any thread.

/// The numbers of one tensor, the same in every run.
#[derive(Clone, Copy)]
pub struct Random(u64);

impl Random {
    pub fn named(name: &str) -> Self {
        // FNV-1a.
        Random(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }

    /// Number `i`, about normal with deviation 1: four that are uniform, added.
    pub fn at(self, i: usize) -> f32 {
        let bits = self.bits(i);
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65536.0 - 2.0) * 3f32.sqrt()
    }

    /// Number `i`, below `n`.
    pub fn below(self, i: usize, n: usize) -> u32 {
        (self.bits(i) % n as u64) as u32
    }

    /// splitmix64
    fn bits(self, i: usize) -> u64 {
        let mut z = self.0.wrapping_add((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
