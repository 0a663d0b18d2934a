//! Sine, cosine and power through `f64`, without fused operations: the same everywhere.

/// `x + 1.5 * 2^52 - 1.5 * 2^52` is the integer nearest to `x`, half to even.
const SHIFT: f64 = 6_755_399_441_055_744.0;

fn horner(x: f64, c: &[f64]) -> f64 {
    c.iter().rev().fold(0.0, |y, &k| y * x + k)
}

/// Bits of 2/π after the point, most significant first.
const TWO_OVER_PI: [u32; 8] =
    [0xa2f9_836e, 0x4e44_1529, 0xfc27_57d1, 0xf534_ddc0, 0xdb62_9599, 0x3c43_9041, 0xfe51_63ab, 0xdebb_c561];

/// `x - n π/2` within [-π/4, π/4], and `n mod 4`.
fn quadrant(x: f32) -> (f64, u32) {
    if x.abs() < 1.0e8 {
        // π/2 in two parts, the first of 25 bits: `n` times it is exact.
        let wide = f64::from(x);
        let n = (wide * std::f64::consts::FRAC_2_PI + SHIFT) - SHIFT;
        let r = (wide - n * 1.570_796_310_901_641_8) - n * 1.589_325_477_352_819_7e-8;
        return (r, n as i64 as u32 & 3);
    }
    // |x| = m 2^e. The bits of 2/π that come to multiples of four are dropped; the next 96 leave
    // 2 bits of quadrant and more than 64 of fraction.
    let bits = x.to_bits();
    let e = ((bits >> 23) & 0xff) as usize - 150;
    let m = u128::from(bits & 0x7f_ffff | 0x80_0000);
    let first = e.saturating_sub(2);
    let word = |i: usize| u128::from(TWO_OVER_PI[i]);
    let at = first / 32;
    let window = word(at) << 96 | word(at + 1) << 64 | word(at + 2) << 32 | word(at + 3);
    let window = (window << (first % 32)) >> 32;
    // The window's last bit weighs 2^(e - first - 96).
    let product = m * window;
    let point = 96 + first - e;
    let n = ((product >> (point - 1)) + 1) >> 1;
    let rest = product.wrapping_sub(n << point) as i128;
    let r = rest as f64 * 0.5f64.powi(point as i32) * std::f64::consts::FRAC_PI_2;
    let n = n as u32;
    if x < 0.0 { (-r, n.wrapping_neg() & 3) } else { (r, n & 3) }
}

fn sine(r: f64) -> f64 {
    let s = r * r;
    let c = [-1.0 / 6.0, 1.0 / 120.0, -1.0 / 5040.0, 1.0 / 362_880.0, -1.0 / 39_916_800.0, 1.0 / 6_227_020_800.0];
    r + r * s * horner(s, &c)
}

fn cosine(r: f64) -> f64 {
    let s = r * r;
    let c = [
        -1.0 / 2.0,
        1.0 / 24.0,
        -1.0 / 720.0,
        1.0 / 40_320.0,
        -1.0 / 3_628_800.0,
        1.0 / 479_001_600.0,
        -1.0 / 87_178_291_200.0,
    ];
    1.0 + s * horner(s, &c)
}

/// The sine; minus zero at minus zero.
pub(crate) fn sin(x: f32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    if x == 0.0 {
        return x;
    }
    let (r, n) = quadrant(x);
    let y = if n & 1 == 0 { sine(r) } else { cosine(r) };
    (if n & 2 == 0 { y } else { -y }) as f32
}

/// The cosine.
pub(crate) fn cos(x: f32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    let (r, n) = quadrant(x);
    let y = if n & 1 == 0 { cosine(r) } else { sine(r) };
    (if (n + 1) & 2 == 0 { y } else { -y }) as f32
}

/// The logarithm of a positive finite number to base 2.
fn log2(x: f64) -> f64 {
    let shifted = x.to_bits().wrapping_sub(0x3fe6_a09e_667f_3bcd);
    let e = (shifted as i64) >> 52;
    let m = f64::from_bits((shifted & 0xf_ffff_ffff_ffff).wrapping_add(0x3fe6_a09e_667f_3bcd));
    let s = (m - 1.0) / (m + 1.0);
    let odd: [f64; 12] = std::array::from_fn(|i| 1.0 / (2 * i + 1) as f64);
    e as f64 + 2.0 * std::f64::consts::LOG2_E * s * horner(s * s, &odd)
}

/// 2 to the power of `x`, for `x` from -1000 to 1000.
fn exp2(x: f64) -> f64 {
    let n = (x + SHIFT) - SHIFT;
    let r = (x - n) * std::f64::consts::LN_2;
    let mut y = 1.0;
    for i in (1..=14).rev() {
        y = 1.0 + y * r / f64::from(i);
    }
    y * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// `a` to the power of `b`, with the special cases of IEEE 754 `pow`.
pub(crate) fn pow(a: f32, b: f32) -> f32 {
    if b == 0.0 || a == 1.0 {
        return 1.0;
    }
    if b == 1.0 {
        return a;
    }
    if b == 2.0 {
        return a * a;
    }
    if a.is_nan() || b.is_nan() {
        return f32::NAN;
    }
    let whole = b.abs() >= 8_388_608.0 || b == b as i32 as f32;
    if a < 0.0 && a.is_finite() && b.is_finite() && !whole {
        return f32::NAN;
    }
    let odd = whole && b.abs() < 16_777_216.0 && b as i32 & 1 == 1;
    let size = f64::from(a.abs());
    let magnitude = if size == 1.0 {
        1.0
    } else {
        let log = match size {
            0.0 => f64::NEG_INFINITY,
            f64::INFINITY => f64::INFINITY,
            _ => log2(size),
        };
        match f64::from(b) * log {
            p if p > 900.0 => f32::INFINITY,
            p if p < -900.0 => 0.0,
            p => exp2(p) as f32,
        }
    };
    if odd && a.is_sign_negative() { -magnitude } else { magnitude }
}
