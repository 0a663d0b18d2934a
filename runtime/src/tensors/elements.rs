//! Element types of tensor files, and their widening to f32.

use super::gguf::Blocks;
use crate::error::Error;
use crate::memory;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use steer_kernels::Format;
use steer_lang::codes;

/// An element type by the name that safetensors gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    BF16,
    F64,
    I64,
    I32,
    U8,
    /// Floats of 8 bits, 4 of them for the exponent, which have no infinities.
    F8E4M3,
    /// Powers of two of 8 bits: scales.
    F8E8M0,
    /// Quantized elements of a GGUF file.
    Blocks(Blocks),
    /// A type that exists but that steer cannot compute with yet, and its bits.
    Other(&'static str, usize),
}

/// Types that safetensors has beside those of [`Dtype`], with their bits.
const OTHERS: &[(&str, usize)] = &[
    ("BOOL", 8),
    ("I8", 8),
    ("U16", 16),
    ("I16", 16),
    ("U32", 32),
    ("U64", 64),
    ("C64", 64),
    ("F8_E5M2", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F4", 4),
];

impl Dtype {
    /// The type that safetensors calls so.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::BF16,
            "F64" => Dtype::F64,
            "I64" => Dtype::I64,
            "I32" => Dtype::I32,
            "U8" => Dtype::U8,
            "F8_E4M3" => Dtype::F8E4M3,
            "F8_E8M0" => Dtype::F8E8M0,
            _ => OTHERS.iter().find(|(n, _)| *n == name).map(|&(n, bits)| Dtype::Other(n, bits))?,
        })
    }

    /// How safetensors calls it.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::F64 => "F64",
            Dtype::I64 => "I64",
            Dtype::I32 => "I32",
            Dtype::U8 => "U8",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::F8E8M0 => "F8_E8M0",
            Dtype::Blocks(blocks) => blocks.name(),
            Dtype::Other(name, _) => name,
        }
    }

    /// What weights may be, for whoever has others.
    pub const READ: &str = "weights are read from F32, F16, BF16, F8_E4M3 with scales, 4-bit blocks with scales, and the quantized types Q8_0, Q2_K to Q6_K, Q4_0, Q4_1, Q5_0, Q5_1 and IQ4_NL of GGUF: use the model in one of these";

    /// Why weights of this type are not read.
    pub fn refused(self) -> String {
        format!("has the element type {}, of which weights are not read", self.name())
    }

    /// Whether weights may have it as they are, without scales beside them.
    pub fn is_weight(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::Blocks(_))
    }

    /// The format in which products take it as it is.
    pub fn format(self) -> Option<Format> {
        Some(match self {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            Dtype::Blocks(Blocks::Q8_0) => Format::Q8_0,
            Dtype::Blocks(Blocks::Q4_0) => Format::Q4_0,
            Dtype::Blocks(Blocks::Q5_0) => Format::Q5_0,
            Dtype::Blocks(Blocks::Q4K) => Format::Q4K,
            Dtype::Blocks(Blocks::Q5K) => Format::Q5K,
            Dtype::Blocks(Blocks::Q6K) => Format::Q6K,
            _ => return None,
        })
    }

    /// Bits of one element; of quantized ones on the average.
    pub fn bits(self) -> usize {
        match self {
            Dtype::U8 | Dtype::F8E4M3 | Dtype::F8E8M0 => 8,
            Dtype::F16 | Dtype::BF16 => 16,
            Dtype::F32 | Dtype::I32 => 32,
            Dtype::F64 | Dtype::I64 => 64,
            Dtype::Blocks(blocks) => {
                let (elements, bytes) = blocks.size();
                (8 * bytes).div_ceil(elements)
            }
            Dtype::Other(_, bits) => bits,
        }
    }
}

/// Elements that one task converts.
const CHUNK: usize = 1 << 18;

/// The elements of `bytes` as f32; `None` for a type that cannot be read so.
pub fn widen(dtype: Dtype, bytes: &[u8]) -> Result<Option<Vec<f32>>, Error> {
    type Convert = fn(&[u8], &mut [f32]);
    let convert: Convert = match dtype {
        Dtype::F32 => |b, out| each(b, out, f32::from_le_bytes),
        Dtype::F64 => |b, out| each(b, out, |x| f64::from_le_bytes(x) as f32),
        Dtype::I32 => |b, out| each(b, out, |x| i32::from_le_bytes(x) as f32),
        Dtype::I64 => |b, out| each(b, out, |x| i64::from_le_bytes(x) as f32),
        Dtype::BF16 => |b, out| each(b, out, |x| bf16::from_le_bytes(x).to_f32()),
        Dtype::F16 => |b, out| {
            let mut halves = [f16::ZERO; 256];
            for (b, out) in b.chunks(512).zip(out.chunks_mut(256)) {
                let halves = &mut halves[..out.len()];
                b.as_chunks::<2>().0.iter().zip(&mut *halves).for_each(|(b, h)| *h = f16::from_le_bytes(*b));
                halves.convert_to_f32_slice(out);
            }
        },
        Dtype::Blocks(blocks) => return blocks.widen(bytes).map(Some),
        Dtype::F8E4M3 => |b, out| each(b, out, |[x]: [u8; 1]| e4m3(x)),
        Dtype::F8E8M0 => |b, out| each(b, out, |[x]: [u8; 1]| e8m0(x)),
        // Bytes mean something only together with what stands beside them.
        Dtype::U8 | Dtype::Other(..) => return Ok(None),
    };
    let size = dtype.bits() / 8;
    let n = bytes.len() / size;
    let mut out = memory::zeros(n, "one tensor")?;
    match n > CHUNK {
        true => out.par_chunks_mut(CHUNK).zip(bytes.par_chunks(CHUNK * size)).for_each(|(out, b)| convert(b, out)),
        false => convert(bytes, &mut out),
    }
    Ok(Some(out))
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    bytes.as_chunks::<N>().0.iter().zip(out).for_each(|(b, o)| *o = f(*b));
}

/// A sign, 4 bits of exponent and 3 of fraction; all bits of both are no number, and nothing is infinite.
fn e4m3(x: u8) -> f32 {
    let (sign, exponent, fraction) = (u32::from(x >> 7) << 31, u32::from(x >> 3 & 15), u32::from(x & 7));
    let size = match (exponent, fraction) {
        (15, 7) => f32::NAN,
        (0, _) => fraction as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | fraction << 20),
    };
    f32::from_bits(size.to_bits() | sign)
}

/// Two to the power of the byte less 127; the largest byte is no number.
fn e8m0(x: u8) -> f32 {
    match x {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(x) << 23),
    }
}

/// An error that names the first value that is infinite or not a number.
pub fn check_finite(name: &str, shape: &[usize], data: &[f32]) -> Result<(), Error> {
    let bad = |chunk: &[f32]| chunk.iter().fold(false, |bad, x| bad | ((x.to_bits() & 0x7f80_0000) == 0x7f80_0000));
    let Some(chunk) = data.par_chunks(CHUNK).position_first(bad) else { return Ok(()) };
    let start = chunk * CHUNK;
    let at = start + data[start..].iter().position(|x| !x.is_finite()).unwrap_or(0);
    let total = data.par_iter().filter(|x| !x.is_finite()).count();
    let message = format!(
        "{name} is not finite: {} at {:?}, and {} of its {} values in all",
        data[at],
        index(at, shape),
        total,
        data.len()
    );
    Err(Error::new(codes::NOT_FINITE, message)
        .help("the file was written by a run that diverged or is damaged: write or download it again"))
}

/// The index of an element by dimension.
fn index(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut out = vec![0; shape.len()];
    for (o, d) in out.iter_mut().zip(shape).rev() {
        *o = at % (*d).max(1);
        at /= (*d).max(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_readable_type_widens() {
        let halves: Vec<u8> = (0..700).flat_map(|i| f16::from_f32(i as f32).to_le_bytes()).collect();
        let wide = widen(Dtype::F16, &halves).unwrap().unwrap();
        assert!(wide.iter().enumerate().all(|(i, x)| *x == i as f32) && wide.len() == 700);
        let one = |d, b: &[u8]| widen(d, b).unwrap().unwrap();
        assert_eq!(one(Dtype::BF16, &bf16::from_f32(-2.5).to_le_bytes()), [-2.5]);
        assert_eq!(one(Dtype::F64, &1.5f64.to_le_bytes()), [1.5]);
        assert_eq!(one(Dtype::I64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(one(Dtype::I32, &9i32.to_le_bytes()), [9.0]);
        assert_eq!(widen(Dtype::parse("U8").unwrap(), &[1]).unwrap(), None);
        assert_eq!(widen(Dtype::parse("I8").unwrap(), &[1]).unwrap(), None);
        assert_eq!(
            one(Dtype::F8E4M3, &[0, 1, 0x38, 0x7e, 0xb9, 0x08]),
            [0.0, 2f32.powi(-9), 1.0, 448.0, -1.125, 2f32.powi(-6)]
        );
        assert!(one(Dtype::F8E4M3, &[0x7f, 0xff]).iter().all(|x| x.is_nan()));
        assert_eq!(one(Dtype::F8E8M0, &[0, 1, 127, 254]), [2f32.powi(-127), 2f32.powi(-126), 1.0, 2f32.powi(127)]);
        let many: Vec<u8> = (0..CHUNK + 3).flat_map(|i| (i as f32).to_le_bytes()).collect();
        assert!(one(Dtype::F32, &many).iter().enumerate().all(|(i, x)| *x == i as f32));
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named() {
        let mut data = vec![1.0; CHUNK + 10];
        assert!(check_finite("`w`", &[CHUNK + 10], &data).is_ok());
        data[CHUNK + 5] = f32::NEG_INFINITY;
        data[CHUNK + 7] = f32::NAN;
        let e = check_finite("`w`", &[(CHUNK + 10) / 2, 2], &data).unwrap_err().to_string();
        assert_eq!(e, "`w` is not finite: -inf at [131074, 1], and 2 of its 262154 values in all [E0701]");
    }
}
