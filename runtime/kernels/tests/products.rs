//! Products of rows with packed weights.

mod common;

use common::{Numbers, bits, same};
use steer_kernels::{Isa, PANEL, Packed, fill_panel, gemm, matmul};

/// One chain a number, from zero.
fn naive(x: &[f32], w: &Packed) -> Vec<f32> {
    let mut y = Vec::new();
    for row in x.chunks(w.inputs()) {
        for o in 0..w.outputs() {
            y.push(row.iter().enumerate().fold(0.0f32, |sum, (k, x)| x.mul_add(w.get(o, k), sum)));
        }
    }
    y
}

#[test]
fn products_are_one_chain_each_however_they_are_cut() {
    let mut numbers = Numbers::new(1);
    for (outputs, inputs) in [(1, 1), (5, 3), (16, 17), (33, 64), (70, 129), (100, 1100), (224, 600)] {
        let w = Packed::from_fn(outputs, inputs, |o, k| ((o * 7 + k * 13) % 31) as f32 / 15.0 - 1.0);
        for rows in [1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 29, 300] {
            if rows * outputs * inputs > 30_000_000 {
                continue;
            }
            let x = numbers.row(rows * inputs);
            let expected = naive(&x, &w);
            for isa in Isa::supported() {
                let mut y = vec![f32::NAN; rows * outputs];
                matmul(isa, &x, rows, &w, &mut y);
                same(&y, &expected, || format!("{isa:?} {rows} rows, {outputs} x {inputs}"));
                // Panels apart, rows at strides, and nothing written beyond.
                let (xs, ys) = (inputs + 3, outputs + 5);
                let mut wide = vec![f32::NAN; rows * xs];
                for r in 0..rows {
                    wide[r * xs..r * xs + inputs].copy_from_slice(&x[r * inputs..(r + 1) * inputs]);
                }
                let mut y = vec![7.0; rows * ys];
                let cut = w.panels() / 3;
                for panels in [0..cut, cut..w.panels()] {
                    unsafe { gemm(isa, &wide, xs, rows, &w, panels, y.as_mut_ptr(), ys) };
                }
                for r in 0..rows {
                    same(&y[r * ys..r * ys + outputs], &expected[r * outputs..(r + 1) * outputs], || {
                        format!("{isa:?} cut")
                    });
                    assert!(y[r * ys + outputs..(r + 1) * ys].iter().all(|&v| v == 7.0));
                }
            }
        }
    }
}

#[test]
fn products_are_near_the_exact_ones() {
    let mut numbers = Numbers::new(2);
    let (outputs, inputs, rows) = (40, 3000, 20);
    let weights = numbers.row(outputs * inputs);
    let w = Packed::from_fn(outputs, inputs, |o, k| weights[o * inputs + k]);
    let x = numbers.row(rows * inputs);
    let mut y = vec![0.0; rows * outputs];
    matmul(Isa::detect(), &x, rows, &w, &mut y);
    for r in 0..rows {
        for o in 0..outputs {
            let terms = (0..inputs).map(|k| f64::from(x[r * inputs + k]) * f64::from(weights[o * inputs + k]));
            let exact: f64 = terms.clone().sum();
            let size: f64 = terms.map(f64::abs).sum();
            assert!((f64::from(y[r * outputs + o]) - exact).abs() < 1e-5 * size);
        }
    }
}

#[test]
fn an_infinite_weight_stays_in_its_column() {
    let w = Packed::from_fn(20, 4, |o, k| if (o, k) == (18, 2) { f32::INFINITY } else { 1.0 });
    for isa in Isa::supported() {
        for rows in [1, 9] {
            let x = vec![0.0; rows * 4];
            let mut y = vec![1.0; rows * 20];
            matmul(isa, &x, rows, &w, &mut y);
            for (i, v) in y.iter().enumerate() {
                assert_eq!(v.is_nan(), i % 20 == 18, "{isa:?} column {}", i % 20);
            }
        }
    }
}

#[test]
fn matrices_pack_from_every_layout() {
    let (outputs, inputs) = (37, 21);
    let number = |o: usize, k: usize| (o * 40 + k) as f32;
    // As linear layers store it, as GPT-2 does, and with neither side by side.
    for (out_step, in_step) in [(inputs, 1), (1, outputs), (2, 2 * outputs)] {
        let mut data = vec![f32::NAN; 3 + (outputs - 1) * out_step + (inputs - 1) * in_step + 1];
        for o in 0..outputs {
            (0..inputs).for_each(|k| data[3 + o * out_step + k * in_step] = number(o, k));
        }
        let outs: Vec<usize> = (0..outputs).map(|o| 3 + o * out_step).collect();
        let ins: Vec<usize> = (0..inputs).map(|k| k * in_step).collect();
        let mut w = Packed::with_shape(outputs, inputs);
        for (panel, outs) in w.as_mut_slice().chunks_exact_mut(PANEL * inputs).zip(outs.chunks(PANEL)) {
            fill_panel(panel, &data, outs, &ins);
        }
        assert_eq!(w.as_slice().as_ptr() as usize % 64, 0);
        let mut row = vec![0.0; inputs];
        for o in 0..outputs {
            w.copy_row(o, &mut row);
            for (k, x) in row.iter().enumerate() {
                assert_eq!((w.get(o, k), *x), (number(o, k), number(o, k)));
            }
        }
        assert!(w.as_slice()[(w.panels() - 1) * PANEL * inputs..].chunks(PANEL).all(|c| c[5..] == [0.0; 11]));
        assert_eq!(w.clone().as_slice(), w.as_slice());
    }
}

#[test]
fn selected_outputs_keep_their_bits() {
    let mut numbers = Numbers::new(3);
    let w = Packed::from_fn(50, 300, |o, k| ((o * 5 + k * 3) % 17) as f32 / 9.0);
    let x = numbers.row(300);
    let chosen: Vec<u32> = vec![49, 0, 7, 7, 31, 16, 15, 1, 2, 3, 4, 5, 6, 8, 9, 10, 48];
    let mut all = vec![0.0; 50];
    let mut some = vec![0.0; chosen.len()];
    matmul(Isa::detect(), &x, 1, &w, &mut all);
    matmul(Isa::detect(), &x, 1, &w.select(&chosen), &mut some);
    for (o, y) in chosen.iter().zip(some) {
        assert_eq!(bits(y), bits(all[*o as usize]));
    }
}

#[test]
fn a_matrix_beyond_all_memory_cannot_be_had() {
    assert!(Packed::try_with_shape(1 << 40, 1 << 20).is_none());
    assert!(Packed::try_with_shape(usize::MAX, 2).is_none());
    let small = Packed::try_with_shape(20, 3).expect("a small one");
    assert_eq!(
        (small.outputs(), small.inputs(), small.bytes()),
        (20, 3, Packed::bytes_of(steer_kernels::Format::F32, 20, 3))
    );
}
