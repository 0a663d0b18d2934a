//! How keys and values are stored, and sixteen of their numbers in a vector.

use crate::lanes::portable::P16;
use crate::lanes::{Whole, Wide};

/// Numbers of a head that share a scale.
const BLOCK: usize = 32;

/// How the numbers of a head are stored. A head takes whole words of four bytes, and what is stored is what everyone
/// reads: numbers are rounded once, to the nearest, ties to even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheFormat {
    /// As they are.
    #[default]
    F32,
    /// In half precision; beyond 65504 a number becomes infinite.
    F16,
    /// In 8 bits: each 32 numbers of a head, or what is left of it, have a scale in half precision, which is the largest
    /// of them divided by 127. The scales stand before the numbers. Where one is not finite, none of its block is a number.
    Q8,
}

impl CacheFormat {
    pub const ALL: [CacheFormat; 3] = [CacheFormat::F32, CacheFormat::F16, CacheFormat::Q8];

    /// `f32`, `f16` or `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            CacheFormat::F32 => "f32",
            CacheFormat::F16 => "f16",
            CacheFormat::Q8 => "q8_0",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<CacheFormat> {
        CacheFormat::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Words of four bytes that a head of so many numbers takes.
    pub fn words(self, d_head: usize) -> usize {
        match self {
            CacheFormat::F32 => d_head,
            CacheFormat::F16 => d_head.div_ceil(2),
            CacheFormat::Q8 => (2 * d_head.div_ceil(BLOCK) + d_head).div_ceil(4),
        }
    }

    /// Stores heads of `d_head` numbers side by side; words hold bits, whatever number they would be.
    ///
    /// # Panics
    /// When `to` has other than the words of as many heads as `from` has.
    pub fn store(self, d_head: usize, from: &[f32], to: &mut [f32]) {
        assert_eq!(from.len() / d_head * self.words(d_head), to.len(), "words of {d_head} numbers");
        if self == CacheFormat::F32 {
            return to.copy_from_slice(from);
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(4 * self.words(d_head));
        for (head, to) in from.chunks_exact(d_head).zip(to.chunks_exact_mut(self.words(d_head))) {
            bytes.clear();
            match self {
                CacheFormat::F32 => {}
                CacheFormat::F16 => head.iter().for_each(|x| bytes.extend(to_half(*x).to_ne_bytes())),
                CacheFormat::Q8 => {
                    let scales = head.chunks(BLOCK).map(scale_of);
                    scales.for_each(|scale| bytes.extend(scale.to_ne_bytes()));
                    for block in head.chunks(BLOCK) {
                        let scale = from_half(scale_of(block));
                        bytes.extend(block.iter().map(|x| quantized(*x, scale) as u8));
                    }
                }
            }
            bytes.resize(4 * to.len(), 0);
            for (word, bytes) in to.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = f32::from_bits(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            }
        }
    }

    /// The numbers of a row of heads as they are read once they were stored.
    pub fn rounded(self, d_head: usize, row: &mut [f32]) {
        for block in row.chunks_exact_mut(d_head).flat_map(|head| head.chunks_mut(BLOCK)) {
            match self {
                CacheFormat::F32 => {}
                CacheFormat::F16 => block.iter_mut().for_each(|x| *x = from_half(to_half(*x))),
                CacheFormat::Q8 => {
                    let scale = from_half(scale_of(block));
                    block.iter_mut().for_each(|x| *x = f32::from(quantized(*x, scale)) * scale);
                }
            }
        }
    }
}

/// The scale of a block, in half precision.
fn scale_of(block: &[f32]) -> u16 {
    let most = block.iter().fold(0.0f32, |most, x| if x.is_nan() || x.abs() > most { x.abs() } else { most });
    // Rounded down it would not reach the largest number; one that is small enough to be lost is.
    to_half(most / 127.0)
}

fn quantized(x: f32, scale: f32) -> i8 {
    // What is beyond ends at the bound; not a number becomes 0, and its scale makes it one again.
    if scale == 0.0 { 0 } else { (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8 }
}

/// To the nearest number of half precision, ties to even.
fn to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // Below the least normal number there are multiples of 2^-24: adding 0.5 rounds to them.
    if magnitude < 0x3880_0000 {
        return sign | (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits()) as u16;
    }
    let rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    let half = (rounded >> 13).wrapping_sub((127 - 15) << 10);
    sign | half.min(0x7c00) as u16
}

/// Exactly.
#[inline(always)]
fn from_half(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7fff) << 13;
    // The exponent's bias, by a product that is exact for numbers below the least normal one, too.
    let x = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let bits = if magnitude >= 0x0f80_0000 { 0x7f80_0000 | (magnitude & 0x007f_ffff) } else { x.to_bits() };
    f32::from_bits(bits | u32::from(half & 0x8000) << 16)
}

/// Vectors that are made of stored numbers.
pub(crate) trait Stored: Wide {
    /// Of half precision.
    fn half(x: u16) -> f32 {
        from_half(x)
    }
    /// Sixteen numbers of each row as columns: `dst[k * 16 + r] = rows[r][k]`.
    ///
    /// # Safety
    /// The rows are readable for 16 numbers, and `dst` is writable for all of them.
    #[inline(always)]
    unsafe fn turn(rows: &[*const f32; 16], dst: *mut f32) {
        unsafe {
            let mut block = [Self::splat(0.0); 16];
            for (v, &row) in block.iter_mut().zip(rows) {
                *v = Self::load(row);
            }
            for (k, column) in Self::transpose(block).into_iter().enumerate() {
                column.store(dst.add(k * 16));
            }
        }
    }
}

impl Stored for P16 {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Stored;
    use crate::lanes::{avx2::V256, avx512::V512};
    use std::arch::x86_64::*;

    impl Stored for V256 {
        /// Eight rows of eight at a time, which fit into the registers.
        #[inline(always)]
        unsafe fn turn(rows: &[*const f32; 16], dst: *mut f32) {
            unsafe {
                for r in [0, 8] {
                    for k in [0, 8] {
                        let row = |i: usize| _mm256_loadu_ps(rows[r + i].add(k));
                        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                        let (e, f, g, h) = (row(4), row(5), row(6), row(7));
                        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                        let (ef, gh) = (_mm256_unpacklo_ps(e, f), _mm256_unpacklo_ps(g, h));
                        let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                        let (ef_high, gh_high) = (_mm256_unpackhi_ps(e, f), _mm256_unpackhi_ps(g, h));
                        let left = [
                            _mm256_shuffle_ps::<0x44>(ab, cd),
                            _mm256_shuffle_ps::<0xee>(ab, cd),
                            _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                            _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
                        ];
                        let right = [
                            _mm256_shuffle_ps::<0x44>(ef, gh),
                            _mm256_shuffle_ps::<0xee>(ef, gh),
                            _mm256_shuffle_ps::<0x44>(ef_high, gh_high),
                            _mm256_shuffle_ps::<0xee>(ef_high, gh_high),
                        ];
                        let to = dst.add(k * 16 + r);
                        for i in 0..4 {
                            _mm256_storeu_ps(to.add(i * 16), _mm256_permute2f128_ps::<0x20>(left[i], right[i]));
                            _mm256_storeu_ps(to.add(i * 16 + 64), _mm256_permute2f128_ps::<0x31>(left[i], right[i]));
                        }
                    }
                }
            }
        }
        #[inline(always)]
        fn half(x: u16) -> f32 {
            unsafe { _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(x)))) }
        }
    }

    impl Stored for V512 {
        #[inline(always)]
        fn half(x: u16) -> f32 {
            V256::half(x)
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl Stored for crate::lanes::neon::V128 {}

/// A format, seen by the loops.
pub(crate) trait Element {
    /// Sixteen numbers from coordinate `k` of a head on.
    ///
    /// # Safety
    /// The head at `head` has `d_head` numbers, and there are 16 from `k` on.
    unsafe fn load<V: Stored>(head: *const f32, d_head: usize, k: usize) -> V;
    /// The first `n < 16` of them, and zeros.
    ///
    /// # Safety
    /// The head at `head` has `d_head` numbers, and there are `n` from `k` on.
    unsafe fn load_part<V: Stored>(head: *const f32, d_head: usize, k: usize, n: usize) -> V;
    /// Sixteen numbers from coordinate `k` of sixteen heads on, as columns.
    ///
    /// # Safety
    /// The heads have `d_head` numbers, there are 16 from `k` on, and `dst` is writable for all of them.
    #[inline(always)]
    unsafe fn turn<V: Stored>(heads: &[*const f32; 16], d_head: usize, k: usize, dst: *mut f32) {
        let mut rows = [0.0; 256];
        let at = rows.as_mut_ptr();
        unsafe {
            for (r, head) in heads.iter().enumerate() {
                Self::load::<V>(*head, d_head, k).store(at.add(r * 16));
            }
            V::turn(&std::array::from_fn(|r| at.add(r * 16).cast_const()), dst)
        }
    }
    /// Where coordinate `k` is.
    fn place(head: *const f32, d_head: usize, k: usize) -> *const f32;
}

pub(crate) struct Single;
pub(crate) struct Half;
pub(crate) struct Eighth;

impl Element for Single {
    #[inline(always)]
    unsafe fn load<V: Stored>(head: *const f32, _: usize, k: usize) -> V {
        unsafe { V::load(head.add(k)) }
    }
    #[inline(always)]
    unsafe fn load_part<V: Stored>(head: *const f32, _: usize, k: usize, n: usize) -> V {
        unsafe { V::load_part(head.add(k), n) }
    }
    #[inline(always)]
    unsafe fn turn<V: Stored>(heads: &[*const f32; 16], _: usize, k: usize, dst: *mut f32) {
        unsafe { V::turn(&heads.map(|head| head.add(k)), dst) }
    }
    #[inline(always)]
    fn place(head: *const f32, _: usize, k: usize) -> *const f32 {
        head.wrapping_add(k)
    }
}

impl Element for Half {
    #[inline(always)]
    unsafe fn load<V: Stored>(head: *const f32, _: usize, k: usize) -> V {
        unsafe { V::load_f16(head.cast::<u16>().add(k).cast()) }
    }
    #[inline(always)]
    unsafe fn load_part<V: Stored>(head: *const f32, _: usize, k: usize, n: usize) -> V {
        let mut halves = [0; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(head.cast::<u16>().add(k), halves.as_mut_ptr(), n);
            V::load_f16(halves.as_ptr().cast())
        }
    }
    #[inline(always)]
    fn place(head: *const f32, _: usize, k: usize) -> *const f32 {
        head.cast::<u16>().wrapping_add(k).cast()
    }
}

impl Eighth {
    #[inline(always)]
    unsafe fn scale<V: Stored>(head: *const f32, k: usize) -> V {
        V::splat(V::half(unsafe { *head.cast::<u16>().add(k / BLOCK) }))
    }
}

impl Element for Eighth {
    #[inline(always)]
    unsafe fn load<V: Stored>(head: *const f32, d_head: usize, k: usize) -> V {
        unsafe { V::of(V::Whole::load_i8(Self::place(head, d_head, k).cast())) * Self::scale::<V>(head, k) }
    }
    #[inline(always)]
    unsafe fn load_part<V: Stored>(head: *const f32, d_head: usize, k: usize, n: usize) -> V {
        let mut bytes = [0i8; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(Self::place(head, d_head, k).cast(), bytes.as_mut_ptr(), n);
            let numbers = V::of(V::Whole::load_i8(bytes.as_ptr().cast())) * Self::scale::<V>(head, k);
            // Zeros also where the scale is not finite.
            let mut all = [0.0; 16];
            numbers.store_part(all.as_mut_ptr(), n);
            V::load(all.as_ptr())
        }
    }
    #[inline(always)]
    fn place(head: *const f32, d_head: usize, k: usize) -> *const f32 {
        head.cast::<u8>().wrapping_add(2 * d_head.div_ceil(BLOCK) + k).cast()
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheFormat, from_half, to_half};

    #[test]
    fn halves_are_the_nearest() {
        // Every half is itself again, and what lies between two goes to the nearer one.
        for half in (0..0x7c00u16).chain(0x8000..0xfc00) {
            let x = from_half(half);
            assert_eq!(to_half(x), half, "{x:e}");
            let next = from_half(half + 1);
            if next.is_finite() {
                let middle = ((f64::from(x) + f64::from(next)) / 2.0) as f32;
                assert_eq!(to_half(middle), half + (half & 1), "between {x:e} and {next:e}");
                assert_eq!(to_half(f32::from_bits(middle.to_bits() - 1)), half);
                assert_eq!(to_half(f32::from_bits(middle.to_bits() + 1)), half + 1);
            }
        }
        assert_eq!((from_half(1), from_half(0x3c00), from_half(0x7bff)), (2f32.powi(-24), 1.0, 65504.0));
        assert_eq!((to_half(65519.99), to_half(65520.0), to_half(1e30)), (0x7bff, 0x7c00, 0x7c00));
        assert_eq!((to_half(f32::NEG_INFINITY), from_half(0xfc00)), (0xfc00, f32::NEG_INFINITY));
        assert!(from_half(to_half(f32::NAN)).is_nan());
    }

    #[test]
    fn bytes_are_within_half_a_step() {
        let row: Vec<f32> = (0..80).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01 * (1 + i / 40) as f32).collect();
        let mut rounded = row.clone();
        CacheFormat::Q8.rounded(40, &mut rounded);
        for (head, read) in row.chunks(40).zip(rounded.chunks(40)) {
            for (block, read) in head.chunks(32).zip(read.chunks(32)) {
                let most = block.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let near = |(x, y): (&f32, &f32)| (x - y).abs() <= most * (0.5 / 127.0 + 1.0 / 1024.0);
                assert!(block.iter().zip(read).all(near), "{block:?} {read:?}");
            }
        }
        let mut odd = [1e9, 1.0, f32::NAN, 0.0];
        CacheFormat::Q8.rounded(2, &mut odd[..2]);
        CacheFormat::Q8.rounded(2, &mut odd[2..]);
        assert!(odd[2].is_nan() && odd[3].is_nan() && odd[1].is_nan());
        let mut none = [0.0, -0.0, 1e-12];
        CacheFormat::Q8.rounded(3, &mut none);
        assert_eq!(none, [0.0; 3]);
    }
}
