//! Each operation as one formula over [`Lanes`].

use crate::lanes::Lanes;
use crate::math64;
use crate::ops::{Binary, Unary};

#[inline(always)]
pub(crate) fn unary<V: Lanes>(op: Unary, x: V) -> V {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    match op {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => V::select(zero.lt(x), one, V::select(x.lt(zero), -one, x)),
        Unary::Exp => exp(x),
        Unary::Log => log(x),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => one / x.sqrt(),
        Unary::Recip => one / x,
        Unary::Tanh => tanh(x),
        Unary::Sigmoid => {
            let e = exp(-x.abs());
            V::select(x.lt(zero), e, one) / (one + e)
        }
        Unary::Silu => {
            let t = V::splat(200.0).below(x.abs());
            let e = exp(-t);
            mirror(x, t * (e / (one + e)))
        }
        Unary::Relu => zero.above(x),
        Unary::Gelu => gelu(x),
        Unary::GeluTanh => gelu_tanh(x),
        Unary::Softplus => zero.above(x) + log1p(exp(-x.abs())),
        Unary::Sin => x.each(math64::sin),
        Unary::Cos => x.each(math64::cos),
        Unary::Round => x.round(),
        Unary::Floor => x.floor(),
        Unary::Not => truth(x.equal(zero)),
        Unary::IsFinite => truth(x.abs().lt(V::splat(f32::INFINITY))),
    }
}

#[inline(always)]
pub(crate) fn binary<V: Lanes>(op: Binary, a: V, b: V) -> V {
    let zero = V::splat(0.0);
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => V::select(b.equal(b), a.below(b), a),
        Binary::Max => V::select(b.equal(b), a.above(b), a),
        Binary::Pow => a.each2(b, math64::pow),
        Binary::Lt => truth(a.lt(b)),
        Binary::Le => truth(a.le(b)),
        Binary::Gt => truth(b.lt(a)),
        Binary::Ge => truth(b.le(a)),
        Binary::Eq => truth(a.equal(b)),
        Binary::Ne => truth::<V>(V::not(a.equal(b))),
        Binary::And => truth::<V>(V::not(V::or(a.equal(zero), b.equal(zero)))),
        Binary::Or => truth::<V>(V::not(V::and(a.equal(zero), b.equal(zero)))),
    }
}

/// 1 and 0.
#[inline(always)]
fn truth<V: Lanes>(m: V::Mask) -> V {
    V::select(m, V::splat(1.0), V::splat(0.0))
}

/// `c[0] + c[1] x + c[2] x² + ...`, from the highest power down.
#[inline(always)]
fn polynomial<V: Lanes, const N: usize>(x: V, c: [f32; N]) -> V {
    let mut y = V::splat(c[N - 1]);
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        y = y.fma(x, V::splat(c[i]));
    }
    y
}

/// `x * s(x)` for a sigmoidal `s` with `s(x) = 1 - s(-x)`, from `tail = |x| * s(-|x|)`.
#[inline(always)]
fn mirror<V: Lanes>(x: V, tail: V) -> V {
    V::select(x.lt(V::splat(0.0)), -tail, x - tail)
}

const LN2_HIGH: f32 = std::f32::consts::LN_2;
const LN2_LOW: f32 = -1.904_654_2e-9;

/// With `n` the integer nearest to `x / ln 2` and `r = x - n ln 2`: `2^n (1 + r + r² p(r))`.
#[inline(always)]
pub(crate) fn exp<V: Lanes>(x: V) -> V {
    let x = V::splat(-104.0).above(x);
    let x = V::splat(89.0).below(x);
    let (y, n) = exp_parts(x);
    y.scale2(n)
}

/// The same bits for numbers within ±87.
#[inline(always)]
pub(crate) fn exp_near<V: Lanes>(x: V) -> V {
    let (y, n) = exp_parts(x);
    y.scale_near(n)
}

#[inline(always)]
fn exp_parts<V: Lanes>(x: V) -> (V, V) {
    let n = (x * V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.fma(V::splat(-LN2_HIGH), x);
    let r = n.fma(V::splat(-LN2_LOW), r);
    let p = polynomial(r, [0.5, 0.166_666_66, 0.041_666_288, 0.008_333_5, 0.001_394_520_2, 0.000_197_898_28]);
    (V::splat(1.0) + p.fma(r * r, r), n)
}

/// `e ln 2 + log(1 + f)` for `f` in [sqrt(1/2) - 1, sqrt(2) - 1].
#[inline(always)]
fn log_near<V: Lanes>(e: V, f: V) -> V {
    let s = f * f;
    let q = polynomial(
        f,
        [
            0.333_333_12,
            -0.250_000_1,
            0.200_021_36,
            -0.166_680_13,
            0.142_191_88,
            -0.124_050_25,
            0.118_904_58,
            -0.116_802_68,
            0.067_470_17,
        ],
    );
    let t = q.fma(f * s, V::splat(-0.5) * s);
    let t = e.fma(V::splat(LN2_LOW), t);
    e.fma(V::splat(LN2_HIGH), f + t)
}

#[inline(always)]
fn log<V: Lanes>(x: V) -> V {
    let (zero, infinity) = (V::splat(0.0), V::splat(f32::INFINITY));
    let small = x.lt(V::splat(f32::MIN_POSITIVE));
    let (m, e) = V::select(small, x * V::splat(8_388_608.0), x).split();
    let e = e - V::select(small, V::splat(23.0), zero);
    let y = log_near(e, m - V::splat(1.0));
    // Positive and finite; infinity and NaN stay; zero and below.
    let y = V::select(x.lt(infinity), y, x);
    let below = V::select(x.equal(zero), -infinity, V::splat(f32::NAN));
    V::select(x.le(zero), below, y)
}

/// `log(1 + u)` for `u` in [0, 1].
#[inline(always)]
fn log1p<V: Lanes>(u: V) -> V {
    let one = V::splat(1.0);
    let low = u.lt(V::splat(0.414));
    let f = V::select(low, u, (u - one) * V::splat(0.5));
    let y = log_near(V::select(low, V::splat(0.0), one), f);
    V::select(u.equal(u), y, u)
}

/// A polynomial near zero, `1 - 2 / (e^2|x| + 1)` elsewhere.
#[inline(always)]
fn tanh<V: Lanes>(x: V) -> V {
    let (one, two) = (V::splat(1.0), V::splat(2.0));
    let s = x * x;
    let p = polynomial(s, [-0.333_333_3, 0.133_332_04, -0.053_946_52, 0.021_699_32, -0.008_173_859, 0.002_139_619_7]);
    let near = p.fma(x * s, x);
    let t = x.abs();
    let far = one - two / (exp(t + t) + one);
    let far = V::select(x.lt(V::splat(0.0)), -far, far);
    V::select(t.lt(V::splat(0.625)), near, far)
}

/// `e^-(v + low)` for a tiny `low`.
#[inline(always)]
fn exp_minus<V: Lanes>(v: V, low: V) -> V {
    let e = exp(-v);
    (-e).fma(low, e)
}

/// With `t = |x|`, `Φ(-t) = e^(-t²/2) q(y) / (1 + t)` where `y = (t - 4) / (t + 4)`.
#[inline(always)]
fn gelu<V: Lanes>(x: V) -> V {
    let four = V::splat(4.0);
    let t = V::splat(14.5).below(x.abs());
    let q = polynomial(
        (t - four) / (t + four),
        [
            0.472_053_2,
            -0.096_703_47,
            0.013_999_596,
            0.028_599_98,
            -0.032_197_27,
            0.017_940_203,
            -0.005_004_379,
            -0.000_303_755_44,
            0.000_692_855_6,
            -6.056_553_4e-5,
            -7.161_513e-5,
        ],
    );
    let s = t * t;
    let low = t.fma(t, -s);
    let half = V::splat(0.5);
    let e = exp_minus(s * half, low * half);
    mirror(x, t * (e * (q / (V::splat(1.0) + t))))
}

/// `x * sigmoid(v)` with `v = x (a + b x²)`, the product's rounding carried along.
#[inline(always)]
fn gelu_tanh<V: Lanes>(x: V) -> V {
    // a = 2 sqrt(2 / π) and b = 0.044715 a, in two parts each.
    let (a, a_low) = (V::splat(1.595_769_2), V::splat(-4.534_068e-8));
    let (b, b_low) = (V::splat(0.071_354_814), V::splat(2.398_832_5e-9));
    let t = V::splat(11.0).below(x.abs());
    let s = t * t;
    let s_low = t.fma(t, -s);
    let p = b * s;
    let p_low = b.fma(s, -p);
    let w = a + p;
    let back = w - p;
    let lost = (p - (w - back)) + (a - back);
    let w_low = (lost + p_low) + b.fma(s_low, b_low.fma(s, a_low));
    let v = t * w;
    let v_low = t.fma(w, -v) + t * w_low;
    let e = exp_minus(v, v_low);
    mirror(x, t * (e / (V::splat(1.0) + e)))
}
