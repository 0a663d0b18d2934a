//! Sixteen lanes in one 512-bit register.

use super::{Lanes, Whole, Wide, fold16, operators};
use std::arch::x86_64::*;

/// Sixteen numbers in a register.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct V512(pub(crate) __m512);

// The operations below are reached only from functions that enable AVX-512 (F, DQ, BW, VL), AVX2
// and FMA, which is what makes each of these calls sound.

operators! { V512,
    Add add |a, b| V512(unsafe { _mm512_add_ps(a.0, b.0) });
    Sub sub |a, b| V512(unsafe { _mm512_sub_ps(a.0, b.0) });
    Mul mul |a, b| V512(unsafe { _mm512_mul_ps(a.0, b.0) });
    Div div |a, b| V512(unsafe { _mm512_div_ps(a.0, b.0) });
}

impl std::ops::Neg for V512 {
    type Output = V512;
    #[inline(always)]
    fn neg(self) -> V512 {
        V512(unsafe { _mm512_xor_ps(self.0, _mm512_set1_ps(-0.0)) })
    }
}

impl V512 {
    #[inline(always)]
    fn array(self) -> [f32; 16] {
        let mut v = [0.0; 16];
        unsafe { _mm512_storeu_ps(v.as_mut_ptr(), self.0) };
        v
    }
}

impl Lanes for V512 {
    type Mask = __mmask16;
    const WIDTH: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> V512 {
        V512(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn fma(self, b: V512, c: V512) -> V512 {
        V512(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    fn sqrt(self) -> V512 {
        V512(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    fn abs(self) -> V512 {
        V512(unsafe { _mm512_abs_ps(self.0) })
    }
    #[inline(always)]
    fn round(self) -> V512 {
        V512(unsafe { _mm512_roundscale_ps::<8>(self.0) })
    }
    #[inline(always)]
    fn floor(self) -> V512 {
        V512(unsafe { _mm512_roundscale_ps::<9>(self.0) })
    }
    #[inline(always)]
    fn above(self, b: V512) -> V512 {
        V512(unsafe { _mm512_max_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn below(self, b: V512) -> V512 {
        V512(unsafe { _mm512_min_ps(self.0, b.0) })
    }
    #[inline(always)]
    fn lt(self, b: V512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn le(self, b: V512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn equal(self, b: V512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0) }
    }
    #[inline(always)]
    fn and(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn or(a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn not(a: __mmask16) -> __mmask16 {
        !a
    }
    #[inline(always)]
    fn select(m: __mmask16, a: V512, b: V512) -> V512 {
        V512(unsafe { _mm512_mask_blend_ps(m, b.0, a.0) })
    }
    #[inline(always)]
    fn first(m: __mmask16) -> usize {
        m.trailing_zeros() as usize
    }
    #[inline(always)]
    fn scale2(self, n: V512) -> V512 {
        V512(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn split(self) -> (V512, V512) {
        unsafe {
            let base = _mm512_set1_epi32(0x3f35_04f3);
            let x = _mm512_sub_epi32(_mm512_castps_si512(self.0), base);
            let e = _mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(x));
            let m = _mm512_and_si512(x, _mm512_set1_epi32(0x7f_ffff));
            (V512(_mm512_castsi512_ps(_mm512_add_epi32(m, base))), V512(e))
        }
    }
    #[inline(always)]
    fn each(self, f: fn(f32) -> f32) -> V512 {
        let mut v = self.array();
        for x in &mut v {
            *x = f(*x);
        }
        unsafe { V512::load(v.as_ptr()) }
    }
    #[inline(always)]
    fn each2(self, b: V512, f: fn(f32, f32) -> f32) -> V512 {
        let mut v = self.array();
        for (x, y) in v.iter_mut().zip(b.array()) {
            *x = f(*x, y);
        }
        unsafe { V512::load(v.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V512 {
        V512(unsafe { _mm512_loadu_ps(p) })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> V512 {
        V512(unsafe { _mm512_maskz_loadu_ps(part(n), p) })
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, part(n), self.0) }
    }
    #[inline(always)]
    fn fold(self, f: fn(f32, f32) -> f32) -> f32 {
        fold16(self.array(), f)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let a = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0));
            super::avx2::sum8(a)
        }
    }
}

/// The mask of the first `n < 16` lanes.
#[inline(always)]
fn part(n: usize) -> __mmask16 {
    (1u16 << n).wrapping_sub(1)
}

/// Sixteen whole numbers in a register.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct W512(pub(super) __m512i);

impl Whole for W512 {
    #[inline(always)]
    fn splat(n: i32) -> W512 {
        W512(unsafe { _mm512_set1_epi32(n) })
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> W512 {
        W512(unsafe { _mm512_loadu_si512(p.cast()) })
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> W512 {
        W512(unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> W512 {
        W512(unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())) })
    }
    #[inline(always)]
    fn and(self, mask: i32) -> W512 {
        W512(unsafe { _mm512_and_si512(self.0, _mm512_set1_epi32(mask)) })
    }
    #[inline(always)]
    fn or(self, b: W512) -> W512 {
        W512(unsafe { _mm512_or_si512(self.0, b.0) })
    }
    #[inline(always)]
    fn plus(self, b: W512) -> W512 {
        W512(unsafe { _mm512_add_epi32(self.0, b.0) })
    }
    #[inline(always)]
    fn left(self, n: i32) -> W512 {
        W512(unsafe { _mm512_sllv_epi32(self.0, _mm512_set1_epi32(n)) })
    }
    #[inline(always)]
    fn right(self, n: i32) -> W512 {
        W512(unsafe { _mm512_srlv_epi32(self.0, _mm512_set1_epi32(n)) })
    }
}

impl Wide for V512 {
    type Whole = W512;
    #[inline(always)]
    fn of(n: W512) -> V512 {
        V512(unsafe { _mm512_cvtepi32_ps(n.0) })
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V512 {
        V512(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> V512 {
        unsafe {
            let tops = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            V512(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(tops)))
        }
    }
    #[inline(always)]
    fn transpose(r: [V512; 16]) -> [V512; 16] {
        unsafe {
            // Four by four blocks within the 128-bit quarters, then the quarters.
            let mut t = r;
            let mut b = 0;
            while b < 16 {
                let (r0, r1, r2, r3) = (r[b].0, r[b + 1].0, r[b + 2].0, r[b + 3].0);
                let a0 = _mm512_castps_pd(_mm512_unpacklo_ps(r0, r1));
                let a1 = _mm512_castps_pd(_mm512_unpackhi_ps(r0, r1));
                let a2 = _mm512_castps_pd(_mm512_unpacklo_ps(r2, r3));
                let a3 = _mm512_castps_pd(_mm512_unpackhi_ps(r2, r3));
                t[b] = V512(_mm512_castpd_ps(_mm512_unpacklo_pd(a0, a2)));
                t[b + 1] = V512(_mm512_castpd_ps(_mm512_unpackhi_pd(a0, a2)));
                t[b + 2] = V512(_mm512_castpd_ps(_mm512_unpacklo_pd(a1, a3)));
                t[b + 3] = V512(_mm512_castpd_ps(_mm512_unpackhi_pd(a1, a3)));
                b += 4;
            }
            let mut o = t;
            let mut i = 0;
            while i < 4 {
                let (t0, t1, t2, t3) = (t[i].0, t[4 + i].0, t[8 + i].0, t[12 + i].0);
                let a = _mm512_shuffle_f32x4::<0x44>(t0, t1);
                let b = _mm512_shuffle_f32x4::<0xee>(t0, t1);
                let c = _mm512_shuffle_f32x4::<0x44>(t2, t3);
                let d = _mm512_shuffle_f32x4::<0xee>(t2, t3);
                o[i] = V512(_mm512_shuffle_f32x4::<0x88>(a, c));
                o[4 + i] = V512(_mm512_shuffle_f32x4::<0xdd>(a, c));
                o[8 + i] = V512(_mm512_shuffle_f32x4::<0x88>(b, d));
                o[12 + i] = V512(_mm512_shuffle_f32x4::<0xdd>(b, d));
                i += 1;
            }
            o
        }
    }
    #[inline(always)]
    fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}
