//! The formats of weights, and rows of numbers in them.

use half::{bf16, f16};

/// What the matrices of a checkpoint are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    F32,
    Bf16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_k")]
    Q4K,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
            Format::Q8_0 => "q8_0",
            Format::Q4K => "q4_k",
        }
    }

    /// What a GGUF file says of itself.
    pub fn file_type(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::Bf16 => 32,
            Format::Q8_0 => 7,
            Format::Q4K => 14,
        }
    }

    /// What a matrix with so many inputs is in. Rows that are no whole number of blocks take what llama.cpp takes then.
    pub fn of_matrix(self, inputs: usize) -> Kind {
        match self {
            Format::F32 => Kind::F32,
            Format::Bf16 => Kind::Bf16,
            Format::Q8_0 if inputs.is_multiple_of(32) => Kind::Q8_0,
            Format::Q4K if inputs.is_multiple_of(256) => Kind::Q4K,
            Format::Q4K if inputs.is_multiple_of(32) => Kind::Q5_0,
            Format::Q8_0 | Format::Q4K => Kind::F32,
        }
    }
}

/// How the elements of one tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    Bf16,
    Q8_0,
    Q5_0,
    Q4K,
}

impl Kind {
    /// ggml's code, and the elements and bytes of a block.
    pub fn layout(self) -> (u32, usize, usize) {
        match self {
            Kind::F32 => (0, 1, 4),
            Kind::Bf16 => (30, 1, 2),
            Kind::Q8_0 => (8, 32, 34),
            Kind::Q5_0 => (6, 32, 22),
            Kind::Q4K => (12, 256, 144),
        }
    }

    pub fn bytes(self, elements: usize) -> usize {
        let (_, block, bytes) = self.layout();
        elements / block * bytes
    }

    /// Appends a row, a whole number of blocks.
    pub fn store(self, row: &[f32], out: &mut Vec<u8>) {
        let (_, block, _) = self.layout();
        match self {
            Kind::F32 => row.iter().for_each(|x| out.extend(x.to_le_bytes())),
            Kind::Bf16 => row.iter().for_each(|x| out.extend(bf16::from_f32(*x).to_le_bytes())),
            Kind::Q8_0 => row.chunks_exact(block).for_each(|x| q8_0(x, out)),
            Kind::Q5_0 => row.chunks_exact(block).for_each(|x| q5_0(x, out)),
            Kind::Q4K => row.chunks_exact(block).for_each(|x| q4_k(x, out)),
        }
    }
}

/// A scale as it is stored, and how often it goes into a number.
fn scale(x: f32) -> (f16, f32) {
    let stored = f16::from_f32(x);
    (stored, if stored.to_f32() == 0.0 { 0.0 } else { 1.0 / stored.to_f32() })
}

/// 32 numbers of 8 bits in units of a scale.
fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let most = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let (d, times) = scale(most / 127.0);
    out.extend(d.to_le_bytes());
    out.extend(x.iter().map(|x| ((x * times).round().clamp(-127.0, 127.0) as i8).cast_unsigned()));
}

/// 32 numbers of 5 bits, 16 of them 0: the largest by size is 0 or near 31.
fn q5_0(x: &[f32], out: &mut Vec<u8>) {
    let most = x.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    let (d, times) = scale(most / -16.0);
    let quant = |x: f32| ((x * times).round() + 16.0).clamp(0.0, 31.0) as u32;
    let high = (0..32).fold(0u32, |bits, i| bits | quant(x[i]) >> 4 << i);
    out.extend(d.to_le_bytes());
    out.extend(high.to_le_bytes());
    out.extend((0..16).map(|i| (quant(x[i]) & 15 | (quant(x[i + 16]) & 15) << 4) as u8));
}

/// Eight parts of 32 numbers of 4 bits, each part with a scale and a minimum of 6 bits.
fn q4_k(x: &[f32], out: &mut Vec<u8>) {
    let mut steps = [0.0f32; 8];
    let mut below = [0.0f32; 8];
    for (i, part) in x.chunks_exact(32).enumerate() {
        let (least, most) = part.iter().fold((0.0f32, 0.0f32), |(a, b), x| (a.min(*x), b.max(*x)));
        (steps[i], below[i]) = ((most - least) / 15.0, -least);
    }
    let most = |of: &[f32]| of.iter().fold(0.0f32, |m, x| m.max(*x));
    let ((d, times), (m, times_m)) = (scale(most(&steps) / 63.0), scale(most(&below) / 63.0));
    let six = |x: f32, times: f32| (x * times).round().clamp(0.0, 63.0) as u8;
    let scales = steps.map(|s| six(s, times));
    let mins = below.map(|b| six(b, times_m));
    out.extend(d.to_le_bytes());
    out.extend(m.to_le_bytes());
    // Of the last four parts, two bits stand above those of the first four.
    out.extend((0..4).map(|i| scales[i] | scales[i + 4] >> 4 << 6));
    out.extend((0..4).map(|i| mins[i] | mins[i + 4] >> 4 << 6));
    out.extend((4..8).map(|i| scales[i] & 15 | mins[i] << 4));
    let quant = |at: usize| {
        let i = at / 32;
        let (step, min) = (d.to_f32() * f32::from(scales[i]), m.to_f32() * f32::from(mins[i]));
        if step == 0.0 { 0 } else { ((x[at] + min) / step).round().clamp(0.0, 15.0) as u8 }
    };
    // Two parts share their bytes.
    for pair in (0..256).step_by(64) {
        out.extend((pair..pair + 32).map(|at| quant(at) | quant(at + 32) << 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use steer::tensors::gguf::Blocks;

    /// What steer reads is what was meant, to a part of a step.
    #[test]
    fn blocks_hold_what_was_stored() {
        let numbers: Vec<f32> = (0..1024).map(|i| 0.02 * Random::named("blocks").at(i)).collect();
        for (kind, most) in [(Kind::Q8_0, 0.006), (Kind::Q5_0, 0.09), (Kind::Q4K, 0.12)] {
            let mut bytes = Vec::new();
            kind.store(&numbers, &mut bytes);
            assert_eq!(bytes.len(), kind.bytes(numbers.len()), "{kind:?}");
            let read = Blocks::from_code(kind.layout().0).unwrap().widen(&bytes).unwrap();
            let error: f32 = read.iter().zip(&numbers).map(|(a, b)| (a - b).powi(2)).sum();
            let all: f32 = numbers.iter().map(|x| x * x).sum();
            let share = (error / all).sqrt();
            assert!(share < most && share > 0.0, "{kind:?}: {share}");
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for kind in [Kind::F32, Kind::Bf16, Kind::Q8_0, Kind::Q5_0, Kind::Q4K] {
            let mut bytes = Vec::new();
            kind.store(&[0.0; 256], &mut bytes);
            if let Some(blocks) = Blocks::from_code(kind.layout().0) {
                assert!(blocks.widen(&bytes).unwrap().iter().all(|x| *x == 0.0), "{kind:?}");
            }
        }
    }
}
