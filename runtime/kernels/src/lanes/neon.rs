//! Sixteen lanes in four 128-bit registers.

use super::{Lanes, Whole, Wide, fold16, operators};
use std::arch::aarch64::*;
use std::arch::asm;

/// Sixteen numbers in four registers.
#[derive(Clone, Copy)]
pub(crate) struct V128(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

/// One truth value per lane, all bits alike.
#[derive(Clone, Copy)]
pub(crate) struct M128(uint32x4_t, uint32x4_t, uint32x4_t, uint32x4_t);

// Every aarch64 processor that runs an operating system has these instructions; the functions that the operations below
// are reached from enable them all the same.

macro_rules! four {
    ($to:ident, $f:expr $(, $v:expr)*) => {
        unsafe { $to($f($($v.0),*), $f($($v.1),*), $f($($v.2),*), $f($($v.3),*)) }
    };
}

operators! { V128,
    Add add |a, b| four!(V128, vaddq_f32, a, b);
    Sub sub |a, b| four!(V128, vsubq_f32, a, b);
    Mul mul |a, b| four!(V128, vmulq_f32, a, b);
    Div div |a, b| four!(V128, vdivq_f32, a, b);
}

impl std::ops::Neg for V128 {
    type Output = V128;
    #[inline(always)]
    fn neg(self) -> V128 {
        four!(V128, vnegq_f32, self)
    }
}

impl V128 {
    #[inline(always)]
    fn array(self) -> [f32; 16] {
        let mut v = [0.0; 16];
        unsafe { self.store(v.as_mut_ptr()) };
        v
    }
}

#[inline(always)]
unsafe fn power2(n: int32x4_t) -> float32x4_t {
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) }
}

#[inline(always)]
unsafe fn scale(x: float32x4_t, n: float32x4_t) -> float32x4_t {
    unsafe {
        let n = vcvtnq_s32_f32(n);
        let low = vshrq_n_s32::<1>(n);
        vmulq_f32(vmulq_f32(x, power2(low)), power2(vsubq_s32(n, low)))
    }
}

#[inline(always)]
unsafe fn split(x: float32x4_t) -> (float32x4_t, float32x4_t) {
    unsafe {
        let base = vdupq_n_s32(0x3f35_04f3);
        let x = vsubq_s32(vreinterpretq_s32_f32(x), base);
        let e = vcvtq_f32_s32(vshrq_n_s32::<23>(x));
        let m = vandq_s32(x, vdupq_n_s32(0x7f_ffff));
        (vreinterpretq_f32_s32(vaddq_s32(m, base)), e)
    }
}

/// `a` where it is greater, else `b`.
#[inline(always)]
unsafe fn above(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

#[inline(always)]
unsafe fn below(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcltq_f32(a, b), a, b) }
}

#[inline(always)]
unsafe fn fused(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    unsafe { vfmaq_f32(c, a, b) }
}

impl Lanes for V128 {
    type Mask = M128;
    const WIDTH: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> V128 {
        let v = unsafe { vdupq_n_f32(x) };
        V128(v, v, v, v)
    }
    #[inline(always)]
    fn fma(self, b: V128, c: V128) -> V128 {
        four!(V128, fused, self, b, c)
    }
    #[inline(always)]
    fn sqrt(self) -> V128 {
        four!(V128, vsqrtq_f32, self)
    }
    #[inline(always)]
    fn abs(self) -> V128 {
        four!(V128, vabsq_f32, self)
    }
    #[inline(always)]
    fn round(self) -> V128 {
        four!(V128, vrndnq_f32, self)
    }
    #[inline(always)]
    fn floor(self) -> V128 {
        four!(V128, vrndmq_f32, self)
    }
    #[inline(always)]
    fn above(self, b: V128) -> V128 {
        four!(V128, above, self, b)
    }
    #[inline(always)]
    fn below(self, b: V128) -> V128 {
        four!(V128, below, self, b)
    }
    #[inline(always)]
    fn lt(self, b: V128) -> M128 {
        four!(M128, vcltq_f32, self, b)
    }
    #[inline(always)]
    fn le(self, b: V128) -> M128 {
        four!(M128, vcleq_f32, self, b)
    }
    #[inline(always)]
    fn equal(self, b: V128) -> M128 {
        four!(M128, vceqq_f32, self, b)
    }
    #[inline(always)]
    fn and(a: M128, b: M128) -> M128 {
        four!(M128, vandq_u32, a, b)
    }
    #[inline(always)]
    fn or(a: M128, b: M128) -> M128 {
        four!(M128, vorrq_u32, a, b)
    }
    #[inline(always)]
    fn not(a: M128) -> M128 {
        four!(M128, vmvnq_u32, a)
    }
    #[inline(always)]
    fn select(m: M128, a: V128, b: V128) -> V128 {
        four!(V128, vbslq_f32, m, a, b)
    }
    #[inline(always)]
    fn first(m: M128) -> usize {
        let mut lanes = [0u32; 16];
        let at = lanes.as_mut_ptr();
        unsafe {
            vst1q_u32(at, m.0);
            vst1q_u32(at.add(4), m.1);
            vst1q_u32(at.add(8), m.2);
            vst1q_u32(at.add(12), m.3);
        }
        lanes.iter().position(|lane| *lane != 0).unwrap_or(16)
    }
    #[inline(always)]
    fn scale2(self, n: V128) -> V128 {
        four!(V128, scale, self, n)
    }
    #[inline(always)]
    fn split(self) -> (V128, V128) {
        let (a, b, c, d) = unsafe { (split(self.0), split(self.1), split(self.2), split(self.3)) };
        (V128(a.0, b.0, c.0, d.0), V128(a.1, b.1, c.1, d.1))
    }
    #[inline(always)]
    fn each(self, f: fn(f32) -> f32) -> V128 {
        let mut v = self.array();
        for x in &mut v {
            *x = f(*x);
        }
        unsafe { V128::load(v.as_ptr()) }
    }
    #[inline(always)]
    fn each2(self, b: V128, f: fn(f32, f32) -> f32) -> V128 {
        let mut v = self.array();
        for (x, y) in v.iter_mut().zip(b.array()) {
            *x = f(*x, y);
        }
        unsafe { V128::load(v.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V128 {
        unsafe { V128(vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            vst1q_f32(p, self.0);
            vst1q_f32(p.add(4), self.1);
            vst1q_f32(p.add(8), self.2);
            vst1q_f32(p.add(12), self.3);
        }
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> V128 {
        let mut v = [0.0; 16];
        unsafe {
            std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), n);
            V128::load(v.as_ptr())
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
        unsafe {
            let all = vaddq_f32(vaddq_f32(self.0, self.2), vaddq_f32(self.1, self.3));
            let two = vadd_f32(vget_low_f32(all), vget_high_f32(all));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
}

/// Four rows of four.
#[inline(always)]
unsafe fn transpose4(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    unsafe {
        let pairs = |a, b| (vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(a, b)));
        let ((a0, a1), (b0, b1)) = (pairs(r[0], r[1]), pairs(r[2], r[3]));
        [vtrn1q_f64(a0, b0), vtrn1q_f64(a1, b1), vtrn2q_f64(a0, b0), vtrn2q_f64(a1, b1)]
            .map(|v| vreinterpretq_f32_f64(v))
    }
}

/// Sixteen whole numbers in four registers.
#[derive(Clone, Copy)]
pub(crate) struct W128(pub(super) uint32x4_t, pub(super) uint32x4_t, pub(super) uint32x4_t, pub(super) uint32x4_t);

impl Whole for W128 {
    #[inline(always)]
    fn splat(n: i32) -> W128 {
        let n = unsafe { vreinterpretq_u32_s32(vdupq_n_s32(n)) };
        W128(n, n, n, n)
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> W128 {
        let p = p.cast::<u32>();
        unsafe { W128(vld1q_u32(p), vld1q_u32(p.add(4)), vld1q_u32(p.add(8)), vld1q_u32(p.add(12))) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> W128 {
        unsafe {
            let bytes = vld1q_u8(p);
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
            W128(
                vmovl_u16(vget_low_u16(low)),
                vmovl_u16(vget_high_u16(low)),
                vmovl_u16(vget_low_u16(high)),
                vmovl_u16(vget_high_u16(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const u8) -> W128 {
        unsafe {
            let bytes = vld1q_s8(p.cast());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_s8(vget_high_s8(bytes)));
            W128(
                vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(low))),
                vreinterpretq_u32_s32(vmovl_s16(vget_high_s16(low))),
                vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(high))),
                vreinterpretq_u32_s32(vmovl_s16(vget_high_s16(high))),
            )
        }
    }
    #[inline(always)]
    fn and(self, mask: i32) -> W128 {
        let mask = unsafe { vdupq_n_u32(mask as u32) };
        let mask = W128(mask, mask, mask, mask);
        four!(W128, vandq_u32, self, mask)
    }
    #[inline(always)]
    fn or(self, b: W128) -> W128 {
        four!(W128, vorrq_u32, self, b)
    }
    #[inline(always)]
    fn plus(self, b: W128) -> W128 {
        four!(W128, vaddq_u32, self, b)
    }
    #[inline(always)]
    fn left(self, n: i32) -> W128 {
        let n = unsafe { vdupq_n_s32(n) };
        unsafe { W128(vshlq_u32(self.0, n), vshlq_u32(self.1, n), vshlq_u32(self.2, n), vshlq_u32(self.3, n)) }
    }
    #[inline(always)]
    fn right(self, n: i32) -> W128 {
        self.left(-n)
    }
}

/// Half precision as float32: the exponent's bias by a product, which is exact below the least normal number, too.
#[inline(always)]
unsafe fn widened(halves: uint16x4_t) -> float32x4_t {
    unsafe {
        let bits = vmovl_u16(halves);
        let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7fff)));
        let x = vmulq_f32(vreinterpretq_f32_u32(magnitude), vreinterpretq_f32_u32(vdupq_n_u32(0x7780_0000)));
        let beyond = vcgeq_u32(magnitude, vdupq_n_u32(0x0f80_0000));
        let special = vorrq_u32(vdupq_n_u32(0x7f80_0000), vandq_u32(magnitude, vdupq_n_u32(0x007f_ffff)));
        let x = vbslq_u32(beyond, special, vreinterpretq_u32_f32(x));
        vreinterpretq_f32_u32(vorrq_u32(x, vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)))))
    }
}

#[inline(always)]
unsafe fn of_bf16(halves: uint16x4_t) -> float32x4_t {
    unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(halves))) }
}

/// Sixteen halves through a function of four.
macro_rules! halves {
    ($f:ident, $p:expr) => {
        unsafe {
            let p = $p.cast::<u16>();
            let (low, high) = (vld1q_u16(p), vld1q_u16(p.add(8)));
            V128($f(vget_low_u16(low)), $f(vget_high_u16(low)), $f(vget_low_u16(high)), $f(vget_high_u16(high)))
        }
    };
}

#[inline(always)]
unsafe fn number(n: uint32x4_t) -> float32x4_t {
    unsafe { vcvtq_f32_s32(vreinterpretq_s32_u32(n)) }
}

impl Wide for V128 {
    type Whole = W128;
    #[inline(always)]
    fn of(n: W128) -> V128 {
        four!(V128, number, n)
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u8) -> V128 {
        halves!(widened, p)
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u8) -> V128 {
        halves!(of_bf16, p)
    }
    #[inline(always)]
    fn transpose(r: [V128; 16]) -> [V128; 16] {
        let mut o = r;
        let mut i = 0;
        while i < 16 {
            // Four rows become a quarter of each column.
            let (a, b, c, d) = (r[i], r[i + 1], r[i + 2], r[i + 3]);
            let parts = unsafe {
                [
                    transpose4([a.0, b.0, c.0, d.0]),
                    transpose4([a.1, b.1, c.1, d.1]),
                    transpose4([a.2, b.2, c.2, d.2]),
                    transpose4([a.3, b.3, c.3, d.3]),
                ]
            };
            let mut k = 0;
            while k < 16 {
                let part = parts[k / 4][k % 4];
                match i {
                    0 => o[k].0 = part,
                    4 => o[k].1 = part,
                    8 => o[k].2 = part,
                    _ => o[k].3 = part,
                }
                k += 1;
            }
            i += 4;
        }
        o
    }
    #[inline(always)]
    fn prefetch(p: *const f32) {
        // SAFETY: it reads nothing that the program could see, and an address that is not there is passed over.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly)) }
    }
}
