//! Every row primitive, on every instruction set, against a plain statement of it.

mod common;

use common::{Numbers, bits, same};
use steer_kernels::{Binary, Isa, Reduce, Stored, Summed, Unary, rows};

fn lengths() -> impl Iterator<Item = usize> {
    (0..=130).chain([255, 256, 257, 1000, 4099])
}

/// Some of the lengths, at several alignments.
fn cases() -> impl Iterator<Item = (usize, usize)> {
    lengths().map(|n| (n, n % 5))
}

#[test]
fn names_are_read_back() {
    for op in Unary::ALL {
        assert_eq!(Unary::from_name(op.name()), Some(op));
    }
    for op in Binary::ALL {
        assert_eq!(Binary::from_name(op.name()), Some(op));
    }
    for op in Reduce::ALL {
        assert_eq!(Reduce::from_name(op.name()), Some(op));
    }
    for isa in Isa::ALL {
        assert_eq!(Isa::from_name(isa.name()), Some(isa));
    }
    assert_eq!(Unary::from_name("nothing"), None);
}

#[test]
fn unary_rows_are_their_scalar_definition() {
    for isa in Isa::supported() {
        for op in Unary::ALL {
            let (row, scalar) = (rows::unary(isa, op), rows::scalar_unary(isa, op));
            let mut numbers = Numbers::new(1);
            for (n, at) in cases() {
                let a = numbers.wild(n + at);
                let expected: Vec<f32> = a[at..].iter().map(|&x| op.apply(x)).collect();
                let mut got = vec![7.0; n + at + 3];
                unsafe { row(got[at..].as_mut_ptr(), a[at..].as_ptr(), n) };
                same(&got[at..at + n], &expected, || format!("{isa:?} {op:?}, {n} numbers"));
                assert!(got[..at].iter().chain(&got[at + n..]).all(|&x| x == 7.0), "{isa:?} {op:?} wrote beyond");
                let mut place = a.clone();
                unsafe { row(place[at..].as_mut_ptr(), place[at..].as_ptr(), n) };
                same(&place[at..], &expected, || format!("{isa:?} {op:?} in place"));
                for (x, y) in a[at..].iter().zip(&expected) {
                    assert_eq!(bits(unsafe { scalar(*x) }), bits(*y), "{isa:?} {op:?}({x:e})");
                }
            }
        }
    }
}

#[test]
fn binary_rows_are_their_scalar_definition() {
    for isa in Isa::supported() {
        for op in Binary::ALL {
            let mut numbers = Numbers::new(2);
            for (n, at) in cases() {
                let (a, b) = (numbers.wild(n + at), numbers.wild(n));
                let s = numbers.wild(1)[0];
                let a = &a[at..];
                let mut got = vec![0.0; n];
                unsafe { rows::binary(isa, op)(got.as_mut_ptr(), a.as_ptr(), b.as_ptr(), n) };
                let expected: Vec<f32> = a.iter().zip(&b).map(|(&x, &y)| op.apply(x, y)).collect();
                same(&got, &expected, || format!("{isa:?} {op:?}"));
                got.copy_from_slice(&b);
                unsafe { rows::binary(isa, op)(got.as_mut_ptr(), a.as_ptr(), got.as_ptr(), n) };
                same(&got, &expected, || format!("{isa:?} {op:?} in place"));
                unsafe { rows::binary_vs(isa, op)(got.as_mut_ptr(), a.as_ptr(), s, n) };
                let expected: Vec<f32> = a.iter().map(|&x| op.apply(x, s)).collect();
                same(&got, &expected, || format!("{isa:?} {op:?} with {s:e}"));
                unsafe { rows::binary_sv(isa, op)(got.as_mut_ptr(), s, b.as_ptr(), n) };
                let expected: Vec<f32> = b.iter().map(|&y| op.apply(s, y)).collect();
                same(&got, &expected, || format!("{isa:?} {s:e} {op:?}"));
                for (x, y) in a.iter().zip(&b) {
                    let got = unsafe { rows::scalar_binary(isa, op)(*x, *y) };
                    assert_eq!(bits(got), bits(op.apply(*x, *y)), "{isa:?} {op:?}({x:e}, {y:e})");
                }
            }
        }
    }
}

#[test]
fn least_and_greatest_pass_over_nan() {
    assert_eq!(Binary::Max.apply(f32::NAN, 1.0), 1.0);
    assert_eq!(Binary::Max.apply(1.0, f32::NAN), 1.0);
    assert_eq!(Binary::Min.apply(f32::NAN, 1.0), 1.0);
    assert!(Binary::Min.apply(f32::NAN, f32::NAN).is_nan());
    assert!(Binary::Max.apply(0.0, -0.0).is_sign_negative());
    assert!(Binary::Max.apply(-0.0, 0.0).is_sign_positive());
}

/// The order of a sum, as [`Reduce`] states it.
fn sum_in_lanes(n: usize, step: impl Fn(usize, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 64];
    for i in 0..n {
        lanes[i % 64] = step(i, lanes[i % 64]);
    }
    let mut v: [f32; 16] = std::array::from_fn(|i| (lanes[i] + lanes[i + 16]) + (lanes[i + 32] + lanes[i + 48]));
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] += v[i + half];
        }
    }
    v[0]
}

#[test]
fn sums_run_in_their_order() {
    for isa in Isa::supported() {
        let mut numbers = Numbers::new(3);
        for (n, at) in cases() {
            let (a, b) = (numbers.row(n + at), numbers.row(n));
            let a = &a[at..];
            let check = |got: f32, expected: f32, what: &str| {
                assert_eq!(bits(got), bits(expected), "{isa:?} {what} of {n}: {got:e}, expected {expected:e}")
            };
            let reduce = |op| unsafe { rows::reduce(isa, op)(a.as_ptr(), n) };
            check(reduce(Reduce::Sum), sum_in_lanes(n, |i, s| s + a[i]), "sum");
            check(reduce(Reduce::SumSq), sum_in_lanes(n, |i, s| a[i].mul_add(a[i], s)), "sum of squares");
            let dot = unsafe { rows::dot(isa)(a.as_ptr(), b.as_ptr(), n) };
            check(dot, sum_in_lanes(n, |i, s| a[i].mul_add(b[i], s)), "dot");
        }
    }
}

#[test]
fn reductions_agree_over_wild_numbers_and_strides() {
    for op in Reduce::ALL {
        let mut numbers = Numbers::new(4);
        for (n, at) in cases() {
            let a = numbers.wild(n + at);
            let a = &a[at..];
            let expected = op.apply(a);
            // Processors differ in what `f32::max` makes of a signalling NaN.
            let numbers = || a.iter().copied().filter(|x| !x.is_nan());
            match op {
                Reduce::Max => assert_eq!(expected, numbers().fold(f32::NEG_INFINITY, f32::max)),
                Reduce::Min => assert_eq!(expected, numbers().fold(f32::INFINITY, f32::min)),
                Reduce::ArgMax => {
                    let max = numbers().fold(f32::NEG_INFINITY, f32::max);
                    assert_eq!(expected as usize, a.iter().position(|&x| x == max).unwrap_or(0));
                }
                _ => {}
            }
            for isa in Isa::supported() {
                let got = unsafe { rows::reduce(isa, op)(a.as_ptr(), n) };
                assert_eq!(bits(got), bits(expected), "{isa:?} {op:?} of {n}");
                let mut spread = vec![f32::NAN; 3 * n + 1];
                unsafe { rows::scatter_strided()(spread.as_mut_ptr(), a.as_ptr(), n, 3) };
                let got = unsafe { rows::reduce_strided(isa, op)(spread.as_ptr(), n, 3) };
                assert_eq!(bits(got), bits(expected), "{isa:?} {op:?} of {n} with a stride");
                let mut back = vec![0.0; n];
                unsafe { rows::gather_strided()(back.as_mut_ptr(), spread.as_ptr(), n, 3) };
                same(&back, a, || "gathered".into());
            }
        }
    }
}

#[test]
fn rows_of_several_sources() {
    for isa in Isa::supported() {
        let mut numbers = Numbers::new(5);
        for (n, at) in cases() {
            let (a, b, c) = (numbers.wild(n), numbers.wild(n + at), numbers.wild(n));
            let b = &b[at..];
            let s = numbers.small();
            let mut got = vec![0.0; n];
            unsafe { rows::axpy(isa)(got.as_mut_ptr(), a.as_ptr(), s, b.as_ptr(), n) };
            let expected: Vec<f32> = a.iter().zip(b).map(|(&a, &x)| s.mul_add(x, a)).collect();
            same(&got, &expected, || format!("{isa:?} axpy"));
            unsafe { rows::select(isa)(got.as_mut_ptr(), c.as_ptr(), a.as_ptr(), b.as_ptr(), n) };
            let expected: Vec<f32> = (0..n).map(|i| if c[i] != 0.0 { a[i] } else { b[i] }).collect();
            same(&got, &expected, || format!("{isa:?} select"));
            unsafe { rows::select_vs(isa)(got.as_mut_ptr(), c.as_ptr(), a.as_ptr(), s, n) };
            let expected: Vec<f32> = (0..n).map(|i| if c[i] != 0.0 { a[i] } else { s }).collect();
            same(&got, &expected, || format!("{isa:?} select with a number"));
            unsafe { rows::select_sv(isa)(got.as_mut_ptr(), c.as_ptr(), s, b.as_ptr(), n) };
            let expected: Vec<f32> = (0..n).map(|i| if c[i] != 0.0 { s } else { b[i] }).collect();
            same(&got, &expected, || format!("{isa:?} select of a number"));
            unsafe { rows::select_ss(isa)(got.as_mut_ptr(), c.as_ptr(), s, -s, n) };
            let expected: Vec<f32> = (0..n).map(|i| if c[i] != 0.0 { s } else { -s }).collect();
            same(&got, &expected, || format!("{isa:?} select of two numbers"));
            unsafe { rows::fill(isa)(got.as_mut_ptr(), s, n) };
            same(&got, &vec![s; n], || format!("{isa:?} fill"));
            unsafe { rows::copy()(got.as_mut_ptr(), a.as_ptr(), n) };
            same(&got, &a, || format!("{isa:?} copy"));
        }
    }
}

#[test]
fn a_sum_of_what_is_stored_is_the_two_one_after_another() {
    for isa in Isa::supported() {
        let mut numbers = Numbers::new(8);
        for (n, at) in cases() {
            let (a, x, y) = (numbers.row(n + at), numbers.row(n), numbers.row(n));
            let a = &a[at..];
            let s = numbers.small();
            for stored in Stored::ALL {
                let element = |i: usize| match stored {
                    Stored::Copy => a[i],
                    Stored::Axpy => s.mul_add(x[i], a[i]),
                    Stored::Add => a[i] + x[i],
                    Stored::Sub => a[i] - x[i],
                    Stored::Mul => a[i] * x[i],
                    Stored::AddVs => a[i] + s,
                    Stored::SubVs => a[i] - s,
                    Stored::MulVs => a[i] * s,
                };
                let row: Vec<f32> = (0..n).map(element).collect();
                for summed in Summed::ALL {
                    let sum = |y: &[f32]| match summed {
                        Summed::Sum => sum_in_lanes(n, |i, s| s + row[i]),
                        Summed::SumSq => sum_in_lanes(n, |i, s| row[i].mul_add(row[i], s)),
                        Summed::Dot => sum_in_lanes(n, |i, s| row[i].mul_add(y[i], s)),
                    };
                    let f = rows::store_sum(isa, stored, summed);
                    let what = || format!("{isa:?} {stored:?} {summed:?} of {n}");
                    let mut got = vec![7.0; n + 3];
                    let total = unsafe { f(got.as_mut_ptr(), a.as_ptr(), s, x.as_ptr(), y.as_ptr(), n) };
                    same(&got[..n], &row, what);
                    assert_eq!(got[n..], [7.0; 3], "{} wrote beyond", what());
                    assert_eq!(bits(total), bits(sum(&y)), "{}", what());
                    // In place, and with itself.
                    let mut got = a.to_vec();
                    let at = got.as_mut_ptr();
                    let total = unsafe { f(at, at, s, x.as_ptr(), at, n) };
                    same(&got, &row, what);
                    assert_eq!(bits(total), bits(sum(&row)), "{} in place", what());
                }
            }
        }
    }
}

#[test]
fn softmax_is_its_steps() {
    for isa in Isa::supported() {
        let mut numbers = Numbers::new(6);
        for (n, _) in cases() {
            let a: Vec<f32> = numbers.row(n).iter().map(|x| x * 20.0).collect();
            let max = Reduce::Max.apply(&a);
            let scaled: Vec<f32> = a.iter().map(|x| x * 0.3).collect();
            let e: Vec<f32> = a.iter().map(|x| Unary::Exp.apply(x - max)).collect();
            let sum = Reduce::Sum.apply(&e);
            let expected: Vec<f32> = e.iter().map(|x| x / sum).collect();
            let mut got = a.clone();
            unsafe { rows::softmax(isa)(got.as_mut_ptr(), got.as_ptr(), n) };
            same(&got, &expected, || format!("{isa:?} softmax of {n}"));
            let mut expected = vec![0.0; n];
            unsafe { rows::softmax(isa)(expected.as_mut_ptr(), scaled.as_ptr(), n) };
            unsafe { rows::softmax_scaled(isa)(got.as_mut_ptr(), a.as_ptr(), 0.3, n) };
            same(&got, &expected, || format!("{isa:?} scaled softmax of {n}"));
            let max = Reduce::Max.apply(&scaled);
            let sum = Reduce::Sum.apply(&scaled.iter().map(|x| Unary::Exp.apply(x - max)).collect::<Vec<_>>());
            for sink in [-200.0, -3.5, 0.0, 2.0, 200.0, f32::NEG_INFINITY] {
                let rest = 1.0 - Unary::Sigmoid.apply(sink - max - Unary::Log.apply(sum));
                let expected: Vec<f32> = expected.iter().map(|x| x * rest).collect();
                unsafe { rows::softmax_sink(isa)(got.as_mut_ptr(), a.as_ptr(), 0.3, sink, n) };
                same(&got, &expected, || format!("{isa:?} softmax of {n} with a sink of {sink}"));
            }
        }
    }
}

#[test]
fn the_greatest_k_lowest_index_first() {
    let mut numbers = Numbers::new(7);
    for n in (0..40).chain([200, 1001]) {
        for k in [0, 1, 2, 3, n / 2, n, n + 5] {
            let a = if k % 2 == 0 { numbers.wild(n) } else { (0..n).map(|_| (numbers.bits() % 4) as f32).collect() };
            // What is no number is beyond all that are.
            let rank = |i: usize| if a[i].is_nan() { f32::NAN.abs() } else { a[i] + 0.0 };
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&i, &j| rank(j).total_cmp(&rank(i)));
            let mut expected = vec![0.0; n];
            order.iter().take(k).for_each(|&i| expected[i] = 1.0);
            let mut got = a.clone();
            unsafe { rows::top_k_mask()(got.as_mut_ptr(), got.as_ptr(), n, k) };
            same(&got, &expected, || format!("the greatest {k} of {a:?}"));
        }
    }
}
