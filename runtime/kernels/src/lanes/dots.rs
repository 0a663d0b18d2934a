//! Products of levels with whole numbers of eight bits, four of them in each lane, summed exactly.

use super::Whole;

/// How an instruction set sums such products. Levels are bytes from zero on, the numbers are from -127 to 127.
pub(crate) trait Dot<W: Whole> {
    /// Whether levels of eight bits are counted from their middle, 128, and not from zero.
    const CENTRED: bool = false;
    /// Rows of a tile with such levels, where more have no registers for their sums.
    const ROWS_OF_EIGHT: usize = usize::MAX;

    /// The products of how many words of levels of so many bits may be summed before they are taken.
    #[inline(always)]
    fn words(_bits: u32) -> usize {
        usize::MAX
    }
    /// With the products of four levels in each lane and the four numbers that `x` consists of, the first one low. The first of
    /// such sums are zeros.
    fn add(few: W, bits: u32, levels: W, x: i32) -> W;
    /// Adds them to sums in 32 bits.
    #[inline(always)]
    fn take(few: W, sums: W) -> W {
        few.plus(sums)
    }
}

pub(crate) mod portable {
    use super::super::portable::W16;
    use super::Dot;

    /// Number by number.
    pub(crate) struct Plain;

    impl Dot<W16> for Plain {
        #[inline(always)]
        fn add(few: W16, _: u32, levels: W16, x: i32) -> W16 {
            let x = x.to_le_bytes().map(|b| i32::from(b.cast_signed()));
            W16(std::array::from_fn(|i| {
                let levels = levels.0[i].to_le_bytes();
                (0..4).fold(few.0[i], |sum, k| sum + i32::from(levels[k]) * x[k])
            }))
        }
    }
}

// As in the other files of this folder, the operations below are reached only from functions that enable what they need.

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::super::{avx2::W256, avx512::W512};
    use super::Dot;
    use std::arch::x86_64::*;

    /// Levels beyond seven bits: less their middle they have a sign.
    const MIDDLE: i32 = i32::from_ne_bytes([128; 4]);

    /// Pairs in 16 bits, with AVX2: as many as cannot be more than 32767.
    pub(crate) struct Pairs;

    #[inline(always)]
    unsafe fn pairs(sums: __m256i, bits: u32, levels: __m256i, x: __m256i) -> __m256i {
        unsafe {
            let products = if bits == 8 {
                let levels = _mm256_xor_si256(levels, _mm256_set1_epi32(MIDDLE));
                _mm256_maddubs_epi16(_mm256_abs_epi8(levels), _mm256_sign_epi8(x, levels))
            } else {
                _mm256_maddubs_epi16(levels, x)
            };
            _mm256_add_epi16(sums, products)
        }
    }

    #[inline(always)]
    unsafe fn joined(pairs: __m256i, sums: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) }
    }

    impl Dot<W256> for Pairs {
        const CENTRED: bool = true;
        const ROWS_OF_EIGHT: usize = 3;

        #[inline(always)]
        fn words(bits: u32) -> usize {
            match bits {
                ..=4 => 8,
                5 => 4,
                6 => 2,
                _ => 1,
            }
        }
        #[inline(always)]
        fn add(few: W256, bits: u32, levels: W256, x: i32) -> W256 {
            unsafe {
                let x = _mm256_set1_epi32(x);
                W256(pairs(few.0, bits, levels.0, x), pairs(few.1, bits, levels.1, x))
            }
        }
        #[inline(always)]
        fn take(few: W256, sums: W256) -> W256 {
            unsafe { W256(joined(few.0, sums.0), joined(few.1, sums.1)) }
        }
    }

    /// Fours in 32 bits, with AVX-VNNI.
    pub(crate) struct Fours256;

    impl Dot<W256> for Fours256 {
        #[inline(always)]
        fn add(few: W256, _: u32, levels: W256, x: i32) -> W256 {
            unsafe {
                let x = _mm256_set1_epi32(x);
                W256(_mm256_dpbusd_avx_epi32(few.0, levels.0, x), _mm256_dpbusd_avx_epi32(few.1, levels.1, x))
            }
        }
    }

    /// Even and odd levels in 16 bits, with AVX-512 BW.
    pub(crate) struct Halves;

    impl Dot<W512> for Halves {
        #[inline(always)]
        fn add(few: W512, _: u32, levels: W512, x: i32) -> W512 {
            unsafe {
                let x = _mm512_set1_epi32(x);
                let (even, odd) = (_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(x)), _mm512_srai_epi16::<8>(x));
                let low = _mm512_and_si512(levels.0, _mm512_set1_epi16(255));
                let high = _mm512_srli_epi16::<8>(levels.0);
                let sums = _mm512_add_epi32(few.0, _mm512_madd_epi16(low, even));
                W512(_mm512_add_epi32(sums, _mm512_madd_epi16(high, odd)))
            }
        }
    }

    /// Fours in 32 bits, with AVX-512 VNNI.
    pub(crate) struct Fours512;

    impl Dot<W512> for Fours512 {
        #[inline(always)]
        fn add(few: W512, _: u32, levels: W512, x: i32) -> W512 {
            W512(unsafe { _mm512_dpbusd_epi32(few.0, levels.0, _mm512_set1_epi32(x)) })
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon {
    use super::super::neon::W128;
    use super::Dot;
    use std::arch::aarch64::*;

    /// Bytes with signs into 16 bits, and pairs of them into 32.
    pub(crate) struct Long;

    #[inline(always)]
    unsafe fn long(sums: uint32x4_t, bits: u32, levels: uint32x4_t, x: int8x16_t) -> uint32x4_t {
        unsafe {
            let levels = vreinterpretq_u8_u32(levels);
            let levels = if bits == 8 { veorq_u8(levels, vdupq_n_u8(128)) } else { levels };
            let levels = vreinterpretq_s8_u8(levels);
            // Two of the four products of each lane, then all.
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(levels), vget_low_s8(x)));
            let high = vpaddlq_s16(vmull_s8(vget_high_s8(levels), vget_high_s8(x)));
            vaddq_u32(sums, vreinterpretq_u32_s32(vpaddq_s32(low, high)))
        }
    }

    impl Dot<W128> for Long {
        const CENTRED: bool = true;

        #[inline(always)]
        fn add(few: W128, bits: u32, levels: W128, x: i32) -> W128 {
            unsafe {
                let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                W128(
                    long(few.0, bits, levels.0, x),
                    long(few.1, bits, levels.1, x),
                    long(few.2, bits, levels.2, x),
                    long(few.3, bits, levels.3, x),
                )
            }
        }
    }
}
