//! Sixteen lanes in two 256-bit registers.

use super::{Lanes, Whole, Wide, fold16, operators};
use std::arch::x86_64::*;

/// Sixteen numbers in two registers.
#[derive(Clone, Copy)]
pub(crate) struct V256(__m256, __m256);

// The operations below are reached only from functions that enable AVX2, FMA and F16C, which is what
// makes each of these calls sound.

macro_rules! both {
    ($f:expr $(, $v:expr)*) => {
        unsafe { V256($f($($v.0),*), $f($($v.1),*)) }
    };
}

operators! { V256,
    Add add |a, b| both!(_mm256_add_ps, a, b);
    Sub sub |a, b| both!(_mm256_sub_ps, a, b);
    Mul mul |a, b| both!(_mm256_mul_ps, a, b);
    Div div |a, b| both!(_mm256_div_ps, a, b);
}

impl std::ops::Neg for V256 {
    type Output = V256;
    #[inline(always)]
    fn neg(self) -> V256 {
        both!(_mm256_xor_ps, self, V256::splat(-0.0))
    }
}

impl V256 {
    #[inline(always)]
    fn array(self) -> [f32; 16] {
        let mut v = [0.0; 16];
        unsafe { self.store(v.as_mut_ptr()) };
        v
    }
}

/// Lanes `i` and `i + 4`, then `i` and `i + 2`, `i + 1`, added.
#[inline(always)]
pub(super) fn sum8(v: __m256) -> f32 {
    unsafe {
        let a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
        _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
    }
}

#[inline(always)]
unsafe fn power2(n: __m256i) -> __m256 {
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

#[inline(always)]
unsafe fn scale(x: __m256, n: __m256) -> __m256 {
    unsafe {
        let n = _mm256_cvtps_epi32(n);
        let low = _mm256_srai_epi32::<1>(n);
        _mm256_mul_ps(_mm256_mul_ps(x, power2(low)), power2(_mm256_sub_epi32(n, low)))
    }
}

/// The same of what stays normal: on its exponent alone.
#[inline(always)]
unsafe fn scale_near(x: __m256, n: __m256) -> __m256 {
    unsafe {
        let n = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), n))
    }
}

#[inline(always)]
unsafe fn split(x: __m256) -> (__m256, __m256) {
    unsafe {
        let base = _mm256_set1_epi32(0x3f35_04f3);
        let x = _mm256_sub_epi32(_mm256_castps_si256(x), base);
        let e = _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(x));
        let m = _mm256_and_si256(x, _mm256_set1_epi32(0x7f_ffff));
        (_mm256_castsi256_ps(_mm256_add_epi32(m, base)), e)
    }
}

impl Lanes for V256 {
    type Mask = V256;
    const WIDTH: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> V256 {
        let v = unsafe { _mm256_set1_ps(x) };
        V256(v, v)
    }
    #[inline(always)]
    fn fma(self, b: V256, c: V256) -> V256 {
        both!(_mm256_fmadd_ps, self, b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> V256 {
        both!(_mm256_sqrt_ps, self)
    }
    #[inline(always)]
    fn abs(self) -> V256 {
        both!(_mm256_andnot_ps, V256::splat(-0.0), self)
    }
    #[inline(always)]
    fn round(self) -> V256 {
        both!(_mm256_round_ps::<8>, self)
    }
    #[inline(always)]
    fn floor(self) -> V256 {
        both!(_mm256_round_ps::<9>, self)
    }
    #[inline(always)]
    fn above(self, b: V256) -> V256 {
        both!(_mm256_max_ps, self, b)
    }
    #[inline(always)]
    fn below(self, b: V256) -> V256 {
        both!(_mm256_min_ps, self, b)
    }
    #[inline(always)]
    fn lt(self, b: V256) -> V256 {
        both!(_mm256_cmp_ps::<_CMP_LT_OQ>, self, b)
    }
    #[inline(always)]
    fn le(self, b: V256) -> V256 {
        both!(_mm256_cmp_ps::<_CMP_LE_OQ>, self, b)
    }
    #[inline(always)]
    fn equal(self, b: V256) -> V256 {
        both!(_mm256_cmp_ps::<_CMP_EQ_OQ>, self, b)
    }
    #[inline(always)]
    fn and(a: V256, b: V256) -> V256 {
        both!(_mm256_and_ps, a, b)
    }
    #[inline(always)]
    fn or(a: V256, b: V256) -> V256 {
        both!(_mm256_or_ps, a, b)
    }
    #[inline(always)]
    fn not(a: V256) -> V256 {
        both!(_mm256_xor_ps, a, V256::splat(f32::from_bits(u32::MAX)))
    }
    #[inline(always)]
    fn select(m: V256, a: V256, b: V256) -> V256 {
        both!(_mm256_blendv_ps, b, a, m)
    }
    #[inline(always)]
    fn first(m: V256) -> usize {
        let bits = unsafe { _mm256_movemask_ps(m.0) | _mm256_movemask_ps(m.1) << 8 };
        (bits as u16).trailing_zeros() as usize
    }
    #[inline(always)]
    fn scale2(self, n: V256) -> V256 {
        both!(scale, self, n)
    }
    #[inline(always)]
    fn scale_near(self, n: V256) -> V256 {
        both!(scale_near, self, n)
    }
    #[inline(always)]
    fn split(self) -> (V256, V256) {
        let (a, b) = unsafe { (split(self.0), split(self.1)) };
        (V256(a.0, b.0), V256(a.1, b.1))
    }
    #[inline(always)]
    fn each(self, f: fn(f32) -> f32) -> V256 {
        let mut v = self.array();
        for x in &mut v {
            *x = f(*x);
        }
        unsafe { V256::load(v.as_ptr()) }
    }
    #[inline(always)]
    fn each2(self, b: V256, f: fn(f32, f32) -> f32) -> V256 {
        let mut v = self.array();
        for (x, y) in v.iter_mut().zip(b.array()) {
            *x = f(*x, y);
        }
        unsafe { V256::load(v.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V256 {
        unsafe { V256(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            _mm256_storeu_ps(p, self.0);
            _mm256_storeu_ps(p.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> V256 {
        let mut v = [0.0; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n);
            V256::load(v.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        unsafe { std::ptr::copy_nonoverlapping(self.array().as_ptr(), p, n) }
    }
    #[inline(always)]
    fn fold(self, f: fn(f32, f32) -> f32) -> f32 {
        fold16(self.array(), f)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        sum8(unsafe { _mm256_add_ps(self.0, self.1) })
    }
}

/// Eight rows of eight.
#[inline(always)]
unsafe fn transpose8(r: [__m256; 8]) -> [__m256; 8] {
    unsafe {
        let mut t = r;
        let mut b = 0;
        while b < 8 {
            let a0 = _mm256_castps_pd(_mm256_unpacklo_ps(r[b], r[b + 1]));
            let a1 = _mm256_castps_pd(_mm256_unpackhi_ps(r[b], r[b + 1]));
            let a2 = _mm256_castps_pd(_mm256_unpacklo_ps(r[b + 2], r[b + 3]));
            let a3 = _mm256_castps_pd(_mm256_unpackhi_ps(r[b + 2], r[b + 3]));
            t[b] = _mm256_castpd_ps(_mm256_unpacklo_pd(a0, a2));
            t[b + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a0, a2));
            t[b + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(a1, a3));
            t[b + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(a1, a3));
            b += 4;
        }
        let mut o = t;
        let mut i = 0;
        while i < 4 {
            o[i] = _mm256_permute2f128_ps::<0x20>(t[i], t[4 + i]);
            o[4 + i] = _mm256_permute2f128_ps::<0x31>(t[i], t[4 + i]);
            i += 1;
        }
        o
    }
}

/// The sums of eight rows of sixteen, in the order of [`sum8`] of both halves.
#[inline(always)]
unsafe fn sums8(rows: &[V256]) -> __m256 {
    unsafe {
        // Eight numbers of a row are left, then four of it and of the fourth one after it, and so on.
        let mut halves = [_mm256_setzero_ps(); 8];
        for (half, row) in halves.iter_mut().zip(rows) {
            *half = _mm256_add_ps(row.0, row.1);
        }
        let fours = |i: usize| {
            let (a, b) = (halves[i], halves[i + 4]);
            _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
        };
        let twos = |i: usize| {
            let (a, b) = (_mm256_castps_pd(fours(i)), _mm256_castps_pd(fours(i + 1)));
            let (low, high) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
            _mm256_add_ps(_mm256_castpd_ps(low), _mm256_castpd_ps(high))
        };
        let (a, b) = (twos(0), twos(2));
        _mm256_add_ps(_mm256_shuffle_ps::<0x88>(a, b), _mm256_shuffle_ps::<0xdd>(a, b))
    }
}

/// Sixteen whole numbers in two registers.
#[derive(Clone, Copy)]
pub(crate) struct W256(pub(super) __m256i, pub(super) __m256i);

impl Whole for W256 {
    #[inline(always)]
    fn splat(n: i32) -> W256 {
        let n = unsafe { _mm256_set1_epi32(n) };
        W256(n, n)
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> W256 {
        unsafe { W256(_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> W256 {
        unsafe {
            W256(
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())),
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast())),
            )
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> W256 {
        unsafe {
            W256(
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast())),
            )
        }
    }
    #[inline(always)]
    fn and(self, mask: i32) -> W256 {
        unsafe {
            let mask = _mm256_set1_epi32(mask);
            W256(_mm256_and_si256(self.0, mask), _mm256_and_si256(self.1, mask))
        }
    }
    #[inline(always)]
    fn or(self, b: W256) -> W256 {
        unsafe { W256(_mm256_or_si256(self.0, b.0), _mm256_or_si256(self.1, b.1)) }
    }
    #[inline(always)]
    fn plus(self, b: W256) -> W256 {
        unsafe { W256(_mm256_add_epi32(self.0, b.0), _mm256_add_epi32(self.1, b.1)) }
    }
    #[inline(always)]
    fn left(self, n: i32) -> W256 {
        unsafe {
            let n = _mm256_set1_epi32(n);
            W256(_mm256_sllv_epi32(self.0, n), _mm256_sllv_epi32(self.1, n))
        }
    }
    #[inline(always)]
    fn right(self, n: i32) -> W256 {
        unsafe {
            let n = _mm256_set1_epi32(n);
            W256(_mm256_srlv_epi32(self.0, n), _mm256_srlv_epi32(self.1, n))
        }
    }
}

impl Wide for V256 {
    type Whole = W256;
    #[inline(always)]
    fn of(n: W256) -> V256 {
        unsafe { V256(_mm256_cvtepi32_ps(n.0), _mm256_cvtepi32_ps(n.1)) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V256 {
        unsafe { V256(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> V256 {
        unsafe {
            let a = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            let b = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(16).cast()));
            V256(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(a)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b)))
        }
    }
    #[inline(always)]
    fn sums(rows: [V256; 16]) -> V256 {
        unsafe { V256(sums8(&rows[..8]), sums8(&rows[8..])) }
    }
    #[inline(always)]
    fn transpose(r: [V256; 16]) -> [V256; 16] {
        unsafe {
            let mut o = r;
            let mut half = 0;
            while half < 16 {
                let h = half;
                let rows = [r[h], r[h + 1], r[h + 2], r[h + 3], r[h + 4], r[h + 5], r[h + 6], r[h + 7]];
                let low = transpose8([
                    rows[0].0, rows[1].0, rows[2].0, rows[3].0, rows[4].0, rows[5].0, rows[6].0, rows[7].0,
                ]);
                let high = transpose8([
                    rows[0].1, rows[1].1, rows[2].1, rows[3].1, rows[4].1, rows[5].1, rows[6].1, rows[7].1,
                ]);
                let mut i = 0;
                while i < 8 {
                    if half == 0 {
                        o[i].0 = low[i];
                        o[8 + i].0 = high[i];
                    } else {
                        o[i].1 = low[i];
                        o[8 + i].1 = high[i];
                    }
                    i += 1;
                }
                half += 8;
            }
            o
        }
    }
    #[inline(always)]
    fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
