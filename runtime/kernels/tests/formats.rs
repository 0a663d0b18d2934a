//! Stored weights: products have the bits of the dequantized matrix's.

mod common;

use common::stored::file;
use common::{Numbers, bits, same};
use steer_kernels::{Format, Isa, PANEL, Packed, fill_blocks, fill_elements, matmul};

/// The same weights as f32.
fn dequantized(w: &Packed) -> Packed {
    let mut row = vec![0.0; w.inputs()];
    let rows: Vec<Vec<f32>> = (0..w.outputs())
        .map(|o| {
            w.copy_row(o, &mut row);
            row.clone()
        })
        .collect();
    Packed::from_fn(w.outputs(), w.inputs(), |o, k| rows[o][k])
}

#[test]
fn products_have_the_bits_of_the_dequantized_matrix() {
    let mut numbers = Numbers::new(5);
    for format in Format::ALL {
        let block = format.block().0;
        let shapes: &[(usize, usize)] = match block {
            1 => &[(1, 1), (5, 3), (16, 17), (33, 64), (70, 129), (100, 1100)],
            _ => &[(1, 1), (5, 2), (16, 3), (33, 1), (70, 4), (112, 7)],
        };
        for &(outputs, inputs) in shapes {
            let inputs = inputs * block;
            let w = Packed::from_blocks(format, outputs, inputs, &file(format, outputs, inputs, 7));
            let plain = dequantized(&w);
            for (o, k) in [(0, 0), (outputs - 1, inputs - 1), (outputs / 2, inputs / 3)] {
                assert_eq!(bits(w.get(o, k)), bits(plain.get(o, k)), "{format:?} ({o}, {k})");
            }
            for rows in (1..=20).chain([150]) {
                if rows * outputs * inputs > 20_000_000 {
                    continue;
                }
                let x = numbers.row(rows * inputs);
                let mut expected = vec![f32::NAN; rows * outputs];
                matmul(Isa::Portable, &x, rows, &plain, &mut expected);
                for isa in Isa::supported() {
                    let mut y = vec![f32::NAN; rows * outputs];
                    matmul(isa, &x, rows, &w, &mut y);
                    same(&y, &expected, || format!("{format:?} {isa:?} {rows} rows, {outputs} x {inputs}"));
                }
            }
        }
    }
}

#[test]
fn selected_outputs_keep_their_weights() {
    for format in Format::ALL {
        let inputs = 2 * format.block().0;
        let w = Packed::from_blocks(format, 50, inputs, &file(format, 50, inputs, 3));
        let chosen: Vec<u32> = vec![49, 0, 7, 7, 31, 16, 15, 1, 2, 3, 4, 5, 6, 8, 9, 10, 48];
        let some = w.select(&chosen);
        assert_eq!((some.format(), some.outputs(), some.bytes()), (format, 17, Packed::bytes_of(format, 17, inputs)));
        for (i, o) in chosen.iter().enumerate() {
            (0..inputs).for_each(|k| assert_eq!(bits(some.get(i, k)), bits(w.get(*o as usize, k)), "{format:?}"));
        }
        assert_eq!(w.clone().as_slice().len(), w.as_slice().len());
    }
}

#[test]
fn memory_is_what_the_file_takes() {
    for format in Format::ALL {
        let (block, bytes) = format.block();
        let in_file = 64 * 2048 / block * bytes;
        let packed = Packed::bytes_of(format, 64, 2048);
        assert!(packed >= in_file && packed * 100 <= in_file * 105, "{format:?}: {packed} for {in_file}");
    }
}

#[test]
fn what_is_not_finite_is_seen() {
    for format in Format::ALL {
        let (block, bytes) = format.block();
        let mut data = file(format, 3, block, 9);
        let mut panel = vec![0; Packed::bytes_of(format, 3, block)];
        let fill = |data: &[u8], panel: &mut [u8]| match block {
            1 => fill_elements(format, panel, data, &[0, 1, 2], &[0]),
            _ => fill_blocks(format, panel, &data.chunks(bytes).collect::<Vec<_>>()),
        };
        assert!(fill(&data, &mut panel), "{format:?}");
        // The upper byte of an exponent of the last output.
        let (at, top) = match format {
            Format::F32 => (3, [0x80, 0x7f]),
            Format::Bf16 => (1, [0x80, 0x7f]),
            Format::Q6K => (209, [0, 0x7c]),
            _ => (1, [0, 0x7c]),
        };
        data[2 * bytes + at - 1..=2 * bytes + at].copy_from_slice(&top);
        assert!(!fill(&data, &mut panel), "{format:?}");
    }
}

#[test]
fn elements_pack_from_every_layout() {
    let (outputs, inputs) = (37, 21);
    for format in [Format::F16, Format::Bf16] {
        let file = file(format, outputs, inputs, 11);
        let w = Packed::from_blocks(format, outputs, inputs, &file);
        // As GPT-2 stores it.
        let turned: Vec<u8> = (0..inputs * outputs)
            .flat_map(|i| file[(i % outputs * inputs + i / outputs) * 2..][..2].to_vec())
            .collect();
        let mut t = Packed::try_with_format(format, outputs, inputs).expect("memory");
        let bytes = t.panel_bytes();
        let (outs, ins): (Vec<usize>, Vec<usize>) =
            ((0..outputs).collect(), (0..inputs).map(|k| k * outputs).collect());
        for (panel, outs) in t.bytes_mut().chunks_exact_mut(bytes).zip(outs.chunks(PANEL)) {
            assert!(fill_elements(format, panel, &turned, outs, &ins));
        }
        let numbers = |w: &Packed| -> Vec<u32> { w.as_slice().iter().map(|x| x.to_bits()).collect() };
        assert_eq!(numbers(&t), numbers(&w));
    }
}
