//! What products read of a row: its numbers as they are, or rounded.

use crate::formats::Format;
use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Wide;

/// Numbers of a row that share a scale.
pub(crate) const BLOCK: usize = 32;

/// What products with weights read of a row. Rounding depends on the row's own numbers alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// As it is: a product has the bits of the product with its dequantized matrix, however weights are stored.
    #[default]
    F32,
    /// To the nearest bf16, ties to even.
    Bf16,
    /// By matrices of whole numbers ([`Format::is_levels`]): each 32 neighbours become whole numbers from -127 to 127, of
    /// which the largest stands for the largest size, and their scale. These are multiplied and summed as whole numbers,
    /// exactly, and the sums of each part of a matrix that has one scale are scaled. Other matrices read it as it is.
    Q8,
}

impl Activations {
    pub const ALL: [Activations; 3] = [Activations::F32, Activations::Bf16, Activations::Q8];

    /// `f32`, `bf16` or `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            Activations::F32 => "f32",
            Activations::Bf16 => "bf16",
            Activations::Q8 => "q8_0",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Activations> {
        Activations::ALL.into_iter().find(|a| a.name() == name)
    }

    /// What a product with a matrix of a format reads in place of a row.
    pub fn rounded(self, format: Format, row: &mut [f32]) {
        match self {
            Activations::F32 => {}
            Activations::Bf16 => row.iter_mut().for_each(|x| *x = brain(*x)),
            Activations::Q8 if !format.is_levels() => {}
            Activations::Q8 => {
                for numbers in row.chunks_mut(BLOCK) {
                    let mut whole = [0.0; BLOCK];
                    whole[..numbers.len()].copy_from_slice(numbers);
                    let mut block = Block::default();
                    // SAFETY: numbers of one block.
                    unsafe { quantize_block::<crate::lanes::portable::P16>(whole.as_ptr(), &mut block) };
                    numbers.iter_mut().zip(block.numbers).for_each(|(x, q)| *x = f32::from(q) * block.scale);
                }
            }
        }
    }
}

/// To the nearest bf16, ties to even.
#[inline]
pub(crate) fn brain(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// Neighbours of a row as whole numbers.
#[derive(Clone, Copy, Default)]
#[repr(C, align(16))]
pub(crate) struct Block {
    pub numbers: [i8; BLOCK],
    /// What 1 stands for.
    pub scale: f32,
    /// What the sum of all numbers stands for.
    pub total: f32,
    /// The sums of both halves.
    pub sums: [i32; 2],
}

/// # Safety
/// `row` is readable for a block.
#[inline(always)]
unsafe fn quantize_block<V: Wide>(row: *const f32, block: &mut Block) {
    unsafe {
        let halves = [V::load(row), V::load(row.add(16))];
        let most = halves[1].abs().above(halves[0].abs()).fold(|a, b| if a > b { a } else { b });
        // Zero, unless one is not finite.
        let zero = halves[0].fma(V::splat(0.0), halves[1] * V::splat(0.0)).sum();
        if zero.is_nan() {
            // None of their products is a number.
            *block = Block { scale: f32::NAN, total: f32::NAN, ..Block::default() };
            return;
        }
        let by = if most > 0.0 { 127.0 / most } else { 0.0 };
        // Numbers so small that what they are multiplied with is not finite are lost.
        let by = if by.is_finite() { by } else { 0.0 };
        block.scale = if by == 0.0 { 0.0 } else { most / 127.0 };
        for (h, half) in halves.into_iter().enumerate() {
            let mut numbers = [0.0; 16];
            (half * V::splat(by)).round().store(numbers.as_mut_ptr());
            // At most 127 in size.
            let whole: [i32; 16] = std::array::from_fn(|i| numbers[i].to_int_unchecked());
            let bytes: [i8; 16] = std::array::from_fn(|i| whole[i] as i8);
            block.numbers[16 * h..][..16].copy_from_slice(&bytes);
            block.sums[h] = whole.iter().sum();
        }
        block.total = block.scale * (block.sums[0] + block.sums[1]) as f32;
    }
}

/// So many numbers of a row, whole blocks of them, as blocks.
pub(crate) type QuantizeFn = unsafe fn(row: *const f32, numbers: usize, blocks: &mut [Block]);
type RoundFn = unsafe fn(row: &mut [f32]);

macro_rules! quantize {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{BLOCK, Block, QuantizeFn, RoundFn};
            type V = $lanes;

            pub(super) const QUANTIZE: QuantizeFn = quantize;
            pub(super) const ROUND: RoundFn = round;

            #[$attribute]
            unsafe fn quantize(row: *const f32, _numbers: usize, blocks: &mut [Block]) {
                for (i, block) in blocks.iter_mut().enumerate() {
                    unsafe { super::quantize_block::<V>(row.add(i * BLOCK), block) };
                }
            }
            #[$attribute]
            unsafe fn round(row: &mut [f32]) {
                row.iter_mut().for_each(|x| *x = super::brain(*x));
            }
        }
    };
}

for_each_isa!(quantize);

pub(crate) fn quantize(isa: Isa) -> QuantizeFn {
    *by_isa!(isa, QUANTIZE)
}

/// Numbers to the nearest bf16.
pub(crate) fn round(isa: Isa, row: &mut [f32]) {
    let round: RoundFn = *by_isa!(isa, ROUND);
    // SAFETY: whoever multiplies for this instruction set has it.
    unsafe { round(row) }
}

#[cfg(test)]
mod tests {
    use super::{Activations, Block, quantize};
    use crate::{Format, Isa};

    fn blocks(isa: Isa, row: &[f32]) -> Vec<Block> {
        let mut blocks = vec![Block::default(); row.len() / 32];
        unsafe { quantize(isa)(row.as_ptr(), row.len(), &mut blocks) };
        blocks
    }

    #[test]
    fn whole_numbers_are_within_half_a_step_on_every_instruction_set() {
        let mut row: Vec<f32> = (0..256).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1.37e-3).collect();
        row[32..64].fill(0.0);
        row[64..96].iter_mut().for_each(|x| *x *= 1e-42);
        row[96..128].iter_mut().for_each(|x| *x *= 1e38);
        row[130] = -1e30;
        let expected = blocks(Isa::Portable, &row);
        for (numbers, block) in row.chunks(32).zip(&expected) {
            let most = numbers.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let of = |range: std::ops::Range<usize>| block.numbers[range].iter().map(|q| i32::from(*q)).sum::<i32>();
            assert_eq!(block.sums, [of(0..16), of(16..32)]);
            for (x, q) in numbers.iter().zip(block.numbers) {
                assert!((x - f32::from(q) * block.scale).abs() <= (most / 253.9).max(1e-36), "{x} as {q} of {most}");
            }
            if most > 1e-30 {
                assert_eq!(block.numbers.iter().map(|q| q.unsigned_abs()).max(), Some(127));
            }
        }
        let mut read = row.clone();
        Activations::Q8.rounded(Format::Q4K, &mut read);
        let stands: Vec<f32> = expected.iter().flat_map(|b| b.numbers.map(|q| f32::from(q) * b.scale)).collect();
        assert_eq!(read, stands);
        for isa in Isa::supported() {
            for (a, b) in blocks(isa, &row).iter().zip(&expected) {
                assert_eq!((a.numbers, a.sums), (b.numbers, b.sums), "{isa:?}");
                assert_eq!((a.scale.to_bits(), a.total.to_bits()), (b.scale.to_bits(), b.total.to_bits()), "{isa:?}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_makes_its_block_no_number() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 15, 16, 31] {
                let mut row = [1.0; 64];
                row[at] = bad;
                for isa in Isa::supported() {
                    let blocks = blocks(isa, &row);
                    assert!(blocks[0].scale.is_nan() && blocks[0].total.is_nan() && blocks[1].scale == 1.0 / 127.0);
                }
            }
        }
    }

    #[test]
    fn bf16_rounds_to_the_nearest_even() {
        let mut row = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -1.001, f32::MAX, f32::NAN, 0.0];
        Activations::Bf16.rounded(Format::F32, &mut row);
        assert_eq!(row[..5], [1.0, 1.0, 1.0 + 4.0 / 256.0, -1.0, f32::INFINITY]);
        assert!(row[5].is_nan() && row[6] == 0.0);
    }
}
