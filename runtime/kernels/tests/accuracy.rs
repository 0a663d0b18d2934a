//! The transcendental functions against `f64`.

use steer_kernels::{Binary, Unary};

/// `Φ(x)` in the lower tail and around zero: a series, and a continued fraction for the tail.
fn normal(x: f64) -> f64 {
    let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x > 0.0 {
        return 1.0 - normal(-x);
    }
    if x < -3.0 {
        let t = -x;
        let fraction = (1..=200).rev().fold(t, |f, k| t + f64::from(k) / f);
        return density / fraction;
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while f64::abs(term) > 1e-18 * f64::abs(sum) {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + density * sum
}

fn exact(op: Unary, x: f64) -> f64 {
    let sigmoid = |x: f64| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) };
    match op {
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Recip => 1.0 / x,
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => sigmoid(x),
        Unary::Silu => x * sigmoid(x),
        Unary::Gelu => x * normal(x),
        Unary::GeluTanh => x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        _ => unreachable!("{op:?}"),
    }
}

/// The greatest error of normal results over floats spread evenly by their bits.
fn worst(op: Unary, from: f32, to: f32) -> (f64, f32) {
    let (a, b) = (from.to_bits(), to.to_bits());
    let (low, high) = (a.min(b), a.max(b));
    let mut worst = (0.0, 0.0);
    for i in 0..=400_000u64 {
        let x = f32::from_bits(low + (u64::from(high - low) * i / 400_000) as u32);
        let expected = exact(op, f64::from(x));
        let got = f64::from(op.apply(x));
        if expected.abs() > f64::from(f32::MAX) {
            assert!(got.abs() >= f64::from(f32::MAX), "{op:?}({x:e}) = {got:e}");
            continue;
        }
        let error = (got - expected).abs();
        // Among subnormal numbers: a step of theirs.
        let step = 1.5e-45 * f64::from(x).abs().clamp(1.0, 200.0);
        assert!(error < 4e-7 * expected.abs() + step, "{op:?}({x:e}) = {got:e}, not {expected:e}");
        if expected.abs() < 1e-35 {
            continue;
        }
        let error = error / expected.abs();
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

#[test]
fn functions_are_within_4e7_of_exact() {
    for op in [
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Recip,
        Unary::Tanh,
        Unary::Sigmoid,
        Unary::Silu,
        Unary::Gelu,
        Unary::GeluTanh,
        Unary::Softplus,
        Unary::Sin,
        Unary::Cos,
    ] {
        let mut ranges = vec![(1e-45, f32::MAX), (1e-6, 150.0), (0.3, 20.0)];
        if !matches!(op, Unary::Log | Unary::Sqrt | Unary::Rsqrt) {
            ranges.extend([(-1e-45, -f32::MAX), (-1e-6, -150.0), (-0.3, -20.0)]);
        }
        if matches!(op, Unary::Log) {
            ranges.push((0.5, 2.0));
        }
        let worst = ranges.iter().map(|&(a, b)| worst(op, a, b)).fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        println!("{:10} {:.2e} at {:e}", op.name(), worst.0, worst.1);
    }
}

#[test]
fn limits_and_special_values() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let table: &[(Unary, f32, f32)] = &[
        (Unary::Exp, inf, inf),
        (Unary::Exp, -inf, 0.0),
        (Unary::Exp, 0.0, 1.0),
        (Unary::Exp, 89.0, inf),
        (Unary::Exp, -105.0, 0.0),
        (Unary::Log, 0.0, -inf),
        (Unary::Log, -0.0, -inf),
        (Unary::Log, 1.0, 0.0),
        (Unary::Log, inf, inf),
        (Unary::Log, -1.0, nan),
        (Unary::Log, -inf, nan),
        (Unary::Tanh, inf, 1.0),
        (Unary::Tanh, -inf, -1.0),
        (Unary::Sigmoid, inf, 1.0),
        (Unary::Sigmoid, -inf, 0.0),
        (Unary::Sigmoid, 0.0, 0.5),
        (Unary::Silu, inf, inf),
        (Unary::Silu, -inf, 0.0),
        (Unary::Gelu, inf, inf),
        (Unary::Gelu, -inf, 0.0),
        (Unary::Gelu, 0.0, 0.0),
        (Unary::GeluTanh, inf, inf),
        (Unary::GeluTanh, -inf, 0.0),
        (Unary::Softplus, inf, inf),
        (Unary::Softplus, -inf, 0.0),
        (Unary::Sin, inf, nan),
        (Unary::Cos, -inf, nan),
        (Unary::Cos, 0.0, 1.0),
        (Unary::Round, 2.5, 2.0),
        (Unary::Round, 3.5, 4.0),
        (Unary::Round, -0.4, 0.0),
        (Unary::Floor, -0.4, -1.0),
        (Unary::Sign, -3.0, -1.0),
        (Unary::Sign, -0.0, 0.0),
        (Unary::Rsqrt, 0.0, inf),
        (Unary::Not, nan, 0.0),
        (Unary::Not, -0.0, 1.0),
        (Unary::IsFinite, nan, 0.0),
        (Unary::IsFinite, inf, 0.0),
        (Unary::IsFinite, f32::MAX, 1.0),
    ];
    for &(op, x, expected) in table {
        let got = op.apply(x);
        assert!(got == expected || got.is_nan() && expected.is_nan(), "{op:?}({x}) = {got}, not {expected}");
    }
    for op in Unary::ALL {
        if !matches!(op, Unary::Not | Unary::IsFinite) {
            assert!(op.apply(nan).is_nan(), "{op:?}");
        }
    }
}

#[test]
fn powers_are_those_of_f64() {
    let mut worst = 0.0f64;
    let bases = (0..2000).map(|i| f32::from_bits(0x0080_0000 + i * 0x000f_e000));
    for a in bases.chain([0.0, -0.0, 1.0, f32::INFINITY, f32::MAX, 1e-45]) {
        for b in
            [-3.0, -2.5, -1.0, -0.5, -0.1, 0.3, 0.5, 1.0, 1.7, 2.0, 3.0, 7.0, 40.0, f32::INFINITY, f32::NEG_INFINITY]
        {
            for a in [a, -a] {
                let got = Binary::Pow.apply(a, b);
                let exact = f64::from(a).powf(f64::from(b));
                let expected = exact as f32;
                if expected.is_nan() {
                    assert!(got.is_nan(), "{a}^{b} = {got}");
                } else if got != expected || got.is_sign_negative() != expected.is_sign_negative() {
                    let error = ((f64::from(got) - exact) / exact).abs();
                    assert!(
                        error < 1e-7 || (f64::from(got) - exact).abs() < 2e-45,
                        "{a:e}^{b} = {got:e}, not {expected:e}"
                    );
                    worst = worst.max(error);
                }
            }
        }
    }
    for (a, b) in [(f32::NAN, 0.0), (1.0, f32::NAN), (-1.0, f32::INFINITY)] {
        assert_eq!(Binary::Pow.apply(a, b), 1.0);
    }
    assert!(Binary::Pow.apply(f32::NAN, 1.0).is_nan());
    assert!(Binary::Pow.apply(2.0, f32::NAN).is_nan());
}
