//! Rows of whole numbers: products with levels against the sums that they stand for, in double precision.

mod common;

use common::stored::file;
use common::{Numbers, same};
use steer_kernels::{Activations, Arithmetic, Format, Isa, PANEL, Packed, WholeRows, gemm, gemm_whole, matmul};

fn whole(isa: Isa) -> Arithmetic {
    Arithmetic { isa, activations: Activations::Q8 }
}

#[test]
fn products_are_those_of_rounded_rows_with_the_dequantized_matrix() {
    let mut numbers = Numbers::new(11);
    for format in Format::ALL.into_iter().filter(|f| f.is_levels()) {
        for (outputs, blocks) in [(1, 1), (5, 2), (16, 3), (33, 1), (70, 4), (112, 9)] {
            let inputs = blocks * format.block().0;
            let w = Packed::from_blocks(format, outputs, inputs, &file(format, outputs, inputs, 7));
            let mut weights = vec![0.0; inputs];
            for rows in (1..=10).chain([150]) {
                if rows * outputs * inputs > 4_000_000 {
                    continue;
                }
                let mut x = numbers.row(rows * inputs);
                // Blocks of very different sizes, and of the largest numbers of both signs.
                x.chunks_mut(32)
                    .enumerate()
                    .for_each(|(i, b)| b.iter_mut().for_each(|x| *x *= [1.0, 300.0, 1e-4][i % 3]));
                x[..32].iter_mut().for_each(|x| *x = x.signum());
                let mut expected = vec![f32::NAN; rows * outputs];
                matmul(whole(Isa::Portable), &x, rows, &w, &mut expected);
                for isa in Isa::supported() {
                    let mut y = vec![f32::NAN; rows * outputs];
                    matmul(whole(isa), &x, rows, &w, &mut y);
                    same(&y, &expected, || format!("{format:?} {isa:?} {rows} rows, {outputs} x {inputs}"));
                }
                for (x, y) in x.chunks_mut(inputs).zip(expected.chunks(outputs)) {
                    Activations::Q8.rounded(format, x);
                    for (o, y) in y.iter().enumerate() {
                        w.copy_row(o, &mut weights);
                        let products = x.iter().zip(&weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
                        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()));
                        // Each part rounds a scale, a product with it and a sum, twice where there is a minimum; a minimum is
                        // taken away from sums of levels that may be much larger than what is left.
                        let steps = 4.0 * (inputs / 16) as f64 + 8.0;
                        let off = (f64::from(*y) - sum).abs();
                        assert!(off <= size * steps * 6e-8, "{format:?} output {o}: {y} and not {sum} of {size}");
                    }
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_rows_panels_or_strides() {
    let mut numbers = Numbers::new(12);
    for format in Format::ALL.into_iter().filter(|f| f.is_levels()) {
        let (outputs, inputs, rows) = (5 * PANEL + 3, 10 * 256, 130);
        let w = Packed::from_blocks(format, outputs, inputs, &file(format, outputs, inputs, 5));
        let x = numbers.row(rows * (inputs + 7));
        for isa in Isa::supported().filter(|isa| *isa != Isa::Portable) {
            let of = |rows: std::ops::Range<usize>, panels: std::ops::Range<usize>| {
                let mut y = vec![f32::NAN; rows.len() * outputs];
                let x = &x[rows.start * (inputs + 7)..];
                // SAFETY: `y` holds every output.
                unsafe { gemm(whole(isa), x, inputs + 7, rows.len(), &w, panels, y.as_mut_ptr(), outputs) };
                y
            };
            let all = of(0..rows, 0..6);
            for cut in [1, 2, 3, 97] {
                let rows: Vec<f32> = (0..rows).step_by(cut).flat_map(|r| of(r..(r + cut).min(rows), 0..6)).collect();
                same(&rows, &all, || format!("{format:?} {isa:?} {cut} rows at a time"));
            }
            for count in 1..=WholeRows::most(whole(isa), &w) {
                let once = WholeRows::of(isa, &x, inputs + 7, count, inputs);
                let mut y = vec![f32::NAN; count * outputs];
                // SAFETY: `y` holds every output.
                unsafe {
                    gemm_whole(isa, &once, &w, 0..2, y.as_mut_ptr(), outputs);
                    gemm_whole(isa, &once, &w, 2..6, y.as_mut_ptr(), outputs);
                }
                same(&y, &all[..count * outputs], || format!("{format:?} {isa:?} {count} rows made whole once"));
            }
            let (left, right) = (of(0..rows, 0..3), of(0..rows, 3..6));
            let joined = left.iter().zip(&right).map(|(a, b)| if a.is_nan() { *b } else { *a }).collect::<Vec<_>>();
            same(&joined, &all, || format!("{format:?} {isa:?} panels apart"));
        }
    }
}

#[test]
fn rows_that_are_not_finite_have_no_products() {
    for format in Format::ALL.into_iter().filter(|f| f.is_levels()) {
        let inputs = 256;
        let w = Packed::from_blocks(format, 20, inputs, &file(format, 20, inputs, 5));
        let mut x = vec![1.0; 2 * inputs];
        x[inputs + 100] = f32::INFINITY;
        for isa in Isa::supported() {
            let mut y = vec![0.0; 40];
            matmul(whole(isa), &x, 2, &w, &mut y);
            assert!(y[..20].iter().all(|y| y.is_finite()) && y[20..].iter().all(|y| y.is_nan()), "{format:?} {isa:?}");
        }
    }
}

#[test]
fn bf16_rows_are_rounded_and_other_matrices_read_rows_as_they_are() {
    let mut numbers = Numbers::new(13);
    let required = std::env::var_os("STEER_REQUIRE_BF16").is_some_and(|v| !v.is_empty());
    let native = Isa::supported().any(|isa| Arithmetic { isa, activations: Activations::Bf16 }.name() != isa.name());
    assert!(native || !required, "this processor has no products of bf16");
    let shapes: [(usize, usize, usize); 2] = [(117, 512, 20), (70, 2101, 150)];
    for (format, (outputs, inputs, most)) in Format::ALL.into_iter().flat_map(|f| shapes.map(|s| (f, s))) {
        if !inputs.is_multiple_of(format.block().0) {
            continue;
        }
        let w = Packed::from_blocks(format, outputs, inputs, &file(format, outputs, inputs, 5));
        for rows in (1..=14).chain([most]) {
            let x = numbers.row(rows * inputs);
            for isa in Isa::supported() {
                for activations in [Activations::Bf16, Activations::Q8] {
                    if activations == Activations::Q8 && format.is_levels() {
                        continue;
                    }
                    let (mut y, mut expected) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
                    let mut rounded = x.clone();
                    activations.rounded(format, &mut rounded);
                    assert_eq!(rounded == x, activations == Activations::Q8);
                    matmul(isa, &rounded, rows, &w, &mut expected);
                    matmul(Arithmetic { isa, activations }, &x, rows, &w, &mut y);
                    same(&y, &expected, || format!("{format:?} {isa:?} {activations:?} {rows} rows"));
                }
            }
        }
    }
}
