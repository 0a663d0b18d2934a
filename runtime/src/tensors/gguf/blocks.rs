//! Quantized elements: blocks of small whole numbers with their scales, as ggml lays them out.
//!
//! Elements are computed in f32 in ggml's own order of operations, so that they are its bits.

use super::element_type;
use crate::error::Error;
use crate::memory;
use half::f16;
use rayon::prelude::*;

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
}

/// Blocks that one task converts.
const CHUNK: usize = 1 << 12;

impl Blocks {
    /// The format with ggml's code.
    pub fn from_code(code: u32) -> Option<Self> {
        ALL.iter().find(|(c, _)| *c == code).map(|(_, b)| *b)
    }

    fn code(self) -> u32 {
        // Every variant is in the list.
        ALL.iter().find(|(_, b)| *b == self).map_or(0, |(c, _)| *c)
    }

    /// How ggml calls it.
    pub fn name(self) -> &'static str {
        element_type(self.code()).map_or("", |t| t.name)
    }

    /// Elements and bytes of one block.
    pub fn size(self) -> (usize, usize) {
        element_type(self.code()).map_or((1, 1), |t| (t.block, t.bytes))
    }

    /// The elements of whole blocks as f32.
    pub fn widen(self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let (block, size) = self.size();
        let mut out = memory::zeros(bytes.len() / size * block, "one tensor")?;
        let convert = self.convert();
        out.par_chunks_mut(CHUNK * block).zip(bytes.par_chunks(CHUNK * size)).for_each(|(out, bytes)| {
            out.chunks_exact_mut(block).zip(bytes.chunks_exact(size)).for_each(|(out, b)| convert(b, out));
        });
        Ok(out)
    }

    /// What turns the bytes of one block into its elements.
    fn convert(self) -> fn(&[u8], &mut [f32]) {
        match self {
            Blocks::Q4_0 => |b, out| nibbles(&b[2..], out, |q| half(b, 0) * (f32::from(q) - 8.0)),
            Blocks::Q4_1 => |b, out| nibbles(&b[4..], out, |q| f32::from(q) * half(b, 0) + half(b, 2)),
            Blocks::Iq4Nl => |b, out| nibbles(&b[2..], out, |q| half(b, 0) * f32::from(IQ4_NL[usize::from(q)])),
            Blocks::Q5_0 => |b, out| fives(&b[6..], &b[2..6], out, |q| half(b, 0) * (f32::from(q) - 16.0)),
            Blocks::Q5_1 => |b, out| fives(&b[8..], &b[4..8], out, |q| f32::from(q) * half(b, 0) + half(b, 2)),
            Blocks::Q8_0 => |b, out| {
                let d = half(b, 0);
                out.iter_mut().zip(&b[2..]).for_each(|(y, q)| *y = f32::from(q.cast_signed()) * d);
            },
            Blocks::Q2K => q2_k,
            Blocks::Q3K => q3_k,
            Blocks::Q4K => q4_k,
            Blocks::Q5K => q5_k,
            Blocks::Q6K => q6_k,
        }
    }
}

/// ggml's codes.
const ALL: &[(u32, Blocks)] = &[
    (2, Blocks::Q4_0),
    (3, Blocks::Q4_1),
    (6, Blocks::Q5_0),
    (7, Blocks::Q5_1),
    (8, Blocks::Q8_0),
    (10, Blocks::Q2K),
    (11, Blocks::Q3K),
    (12, Blocks::Q4K),
    (13, Blocks::Q5K),
    (14, Blocks::Q6K),
    (20, Blocks::Iq4Nl),
];

/// The levels of IQ4_NL.
const IQ4_NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The f16 at a byte of a block.
fn half(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// Sixteen bytes: their low halves, then their high halves.
fn nibbles(q: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    for (j, q) in q.iter().enumerate() {
        out[j] = value(q & 15);
        out[j + 16] = value(q >> 4);
    }
}

/// The same with a fifth bit of each element.
fn fives(q: &[u8], high: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let bit = |i: usize| (high[i / 8] >> (i % 8) & 1) << 4;
    for (j, q) in q.iter().enumerate() {
        out[j] = value(q & 15 | bit(j));
        out[j + 16] = value(q >> 4 | bit(j + 16));
    }
}

/// Sixteen parts of 16 elements of two bits, each with a scale and a minimum of four bits.
fn q2_k(b: &[u8], out: &mut [f32]) {
    let (scales, q) = (&b[..16], &b[16..80]);
    let (d, least) = (half(b, 80), half(b, 82));
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, min) = (d * f32::from(scales[i] & 15), least * f32::from(scales[i] >> 4));
        let (from, shift) = pairs(i);
        out.iter_mut().zip(&q[from..]).for_each(|(y, q)| *y = scale * f32::from(q >> shift & 3) - min);
    }
}

/// Sixteen parts of 16 elements of three bits, each with a scale of six.
fn q3_k(b: &[u8], out: &mut [f32]) {
    let (high, q, scales, d) = (&b[..32], &b[32..96], &b[96..108], half(b, 108));
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let low = if i < 8 { scales[i] & 15 } else { scales[i - 8] >> 4 };
        let scale = low | (scales[8 + i % 4] >> (2 * (i / 4)) & 3) << 4;
        let scale = d * f32::from(scale.cast_signed() - 32);
        let (from, shift) = pairs(i);
        let mask = 1u8 << (i / 8 * 4 + i % 8 / 2);
        let high = &high[i % 2 * 16..];
        for ((y, q), h) in out.iter_mut().zip(&q[from..]).zip(high) {
            let level = (q >> shift & 3).cast_signed() - if h & mask == 0 { 4 } else { 0 };
            *y = scale * f32::from(level);
        }
    }
}

/// Where the pairs of bits of the i-th 16 elements begin: 32 bytes hold 128 elements.
fn pairs(i: usize) -> (usize, usize) {
    (i / 8 * 32 + i % 2 * 16, i % 8 / 2 * 2)
}

/// Eight parts of 32 elements of four bits, each with a scale and a minimum of six.
fn q4_k(b: &[u8], out: &mut [f32]) {
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(b, i);
        let (q, shift) = (&b[16 + i / 2 * 32..], i % 2 * 4);
        out.iter_mut().zip(q).for_each(|(y, q)| *y = scale * f32::from(q >> shift & 15) - min);
    }
}

/// The same with a fifth bit of each element.
fn q5_k(b: &[u8], out: &mut [f32]) {
    let high = &b[16..48];
    for (i, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(b, i);
        let (q, shift) = (&b[48 + i / 2 * 32..], i % 2 * 4);
        for ((y, q), h) in out.iter_mut().zip(q).zip(high) {
            *y = scale * f32::from(q >> shift & 15 | (h >> i & 1) << 4) - min;
        }
    }
}

/// Of Q4_K and Q5_K: two f16, then eight scales and eight minima of six bits in twelve bytes.
fn scale_and_min(b: &[u8], i: usize) -> (f32, f32) {
    let s = &b[4..16];
    let (scale, min) = match i {
        0..4 => (s[i] & 63, s[i + 4] & 63),
        _ => (s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4),
    };
    (half(b, 0) * f32::from(scale), half(b, 2) * f32::from(min))
}

/// Sixteen parts of 16 elements of six bits, each with a scale of eight.
fn q6_k(b: &[u8], out: &mut [f32]) {
    let (low, high, scales, d) = (&b[..128], &b[128..192], &b[192..208], half(b, 208));
    for (i, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(scales[i].cast_signed());
        // 128 elements are in 64 bytes of low halves and 32 bytes of pairs.
        let (part, j) = (i / 8, i % 8);
        let low = &low[part * 64 + j % 4 * 16..];
        let high = &high[part * 32 + j % 2 * 16..];
        for ((y, l), h) in out.iter_mut().zip(low).zip(high) {
            let q = l >> (j / 4 * 4) & 15 | (h >> (j / 2 * 2) & 3) << 4;
            *y = scale * f32::from(q.cast_signed() - 32);
        }
    }
}
