//! Weights that are saved in few bits, with scales in a tensor beside them: 8-bit floats with a scale for each block of
//! rows and columns, for each row or for all, and 4-bit floats with an exponent for each 32.

use super::Checkpoint;
use super::names::names;
use crate::error::Error;
use crate::memory;
use crate::tensors::{Dtype, widen};
use rayon::prelude::*;
use std::ops::Range;
use steer_lang::codes;

/// How a tensor is saved, and where its scales are.
#[derive(Debug, PartialEq)]
pub(super) enum Packing {
    /// Every element times the scale of its block of so many rows and columns.
    Scaled { scales: String, block: [usize; 2] },
    /// Pairs of 4-bit floats in the last dimension, of which a group of so many bytes has one exponent.
    Nibbles { scales: String },
}

/// The 4-bit floats of the OCP Microscaling formats (E2M1), by their bits.
const NIBBLES: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// What the scales of 8-bit floats are called, behind the weight's name.
const SCALES: [&str; 2] = ["_scale_inv", "_scale"];

/// Methods of `quantization_config` of which every tensor is read.
const READ_METHODS: [&str; 3] = ["fp8", "fbgemm_fp8", "mxfp4"];

/// Rows and columns of a block of 8-bit floats, unless the configuration says otherwise.
const BLOCK: [usize; 2] = [128, 128];

impl Packing {
    /// The tensor that holds the scales.
    pub fn scales(&self) -> &str {
        let (Packing::Scaled { scales, .. } | Packing::Nibbles { scales }) = self;
        scales
    }
}

impl Checkpoint {
    /// How a tensor of the files is packed, if it is.
    pub(super) fn packing(&self, found: &str) -> Option<Packing> {
        let (_, place) = self.place(found)?;
        if place.dtype == Dtype::F8E4M3 {
            let scales = SCALES.iter().map(|end| format!("{found}{end}")).find(|n| self.tensors.contains_key(n))?;
            let (_, beside) = self.place(&scales)?;
            let columns = place.shape.last().copied().unwrap_or(1).max(1);
            let rows = &place.shape[..place.shape.len().saturating_sub(1)];
            let by_row = beside.shape.split_last().is_some_and(|(last, rest)| *last == 1 && rest == rows);
            let block = if by_row && place.shape.len() > 1 { [1, columns] } else { self.block() };
            return Some(Packing::Scaled { scales, block });
        }
        let scales = format!("{}_scales", found.strip_suffix("_blocks")?);
        let bytes = |name: &str| self.place(name).is_some_and(|(_, p)| p.dtype == Dtype::U8);
        (bytes(found) && bytes(&scales)).then_some(Packing::Nibbles { scales })
    }

    /// Why a tensor that is not packed is no weight by its element type.
    pub(super) fn unread(&self, found: &str) -> Option<Error> {
        let (shard, place) = self.place(found)?;
        if place.dtype.is_weight() {
            return None;
        }
        if place.dtype != Dtype::F8E4M3 {
            let what = format!("{} in `{}` {}", self.called(found), shard.path.display(), place.dtype.refused());
            return Some(Error::new(codes::WEIGHT_SHAPE, what).help(Dtype::READ));
        }
        let [first, second] = SCALES.map(|end| format!("`{found}{end}`"));
        let (what, path) = (self.called(found), self.path().display());
        let message = format!("{what} has 8-bit floats without scales: `{path}` has neither {first} nor {second}");
        let help = "download the files again, or use the model in bfloat16; 8-bit floats that never had scales keep \
                    their values there";
        Some(Error::new(codes::MISSING_WEIGHT, message).help(help))
    }

    /// That the weights are quantized in a way that is not read, where the tensor `name` is not as it should be for that.
    pub(super) fn quantized_otherwise(&self, name: &str) -> Option<Error> {
        let method = self.config.value["quantization_config"]["quant_method"].as_str();
        if method.is_some_and(|m| READ_METHODS.contains(&m)) {
            return None;
        }
        let known = &names().quantized;
        let example = match self.resolve(name).map(|found| (found, self.place(found))) {
            Some((found, Some((_, place)))) => {
                let whole = place.dtype.is_weight() || place.dtype == Dtype::F8E4M3;
                let beside = known.iter().any(|end| self.tensors.contains_key(&format!("{found}{end}")));
                Some(found).filter(|_| !whole && (method.is_some() || beside))
            }
            _ => {
                let stem = name.strip_suffix("weight").unwrap_or(name);
                let known = known.iter().find_map(|end| self.resolve(&format!("{stem}{end}")));
                known.or_else(|| self.beginning(stem).filter(|_| method.is_some() && stem != name))
            }
        }?;
        let by = method.map_or("in a way that config.json does not name".into(), |m| format!("by the method `{m}`"));
        let message = format!(
            "the weights of `{}` are quantized {by}, which is not read: they have `{example}` in place of `{name}`",
            self.path().display()
        );
        Some(Error::new(codes::WEIGHT_SHAPE, message).help(Dtype::READ))
    }

    /// The first tensor whose name begins so, with or without a leading component.
    fn beginning(&self, stem: &str) -> Option<&str> {
        let longer = self.prefix.map(|prefix| format!("{prefix}{stem}"));
        let shorter = names().prefixes.iter().find_map(|p| stem.strip_prefix(p.as_str()));
        let first = |stem: &str| {
            let (name, _) = self.tensors.range(stem.to_owned()..).next()?;
            name.starts_with(stem).then_some(name.as_str())
        };
        first(stem).or_else(|| first(&longer?)).or_else(|| first(shorter?))
    }

    /// The block that the configuration names.
    fn block(&self) -> [usize; 2] {
        let said = &self.config.value["quantization_config"]["weight_block_size"];
        let [Some(rows), Some(columns)] = [0, 1].map(|i| said[i].as_u64().filter(|n| *n > 0)) else { return BLOCK };
        [rows, columns].map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// The shape of a tensor once it is unpacked; what is wrong where its scales do not fit.
    pub(super) fn unpacked_shape(&self, found: &str, packing: &Packing) -> Result<Vec<usize>, String> {
        let scales = packing.scales();
        let (Some((_, place)), Some((_, beside))) = (self.place(found), self.place(scales)) else {
            return Err(format!("`{found}` has no scales"));
        };
        let (shape, have) = (&place.shape, &beside.shape);
        match packing {
            Packing::Scaled { block, .. } => {
                let split = shape.len().saturating_sub(2);
                let mut want = shape[..split].to_vec();
                // A vector is one row, as far as blocks go.
                let blocks = &block[2 - (shape.len() - split)..];
                want.extend(shape[split..].iter().zip(blocks).map(|(n, by)| n.div_ceil(*by)));
                let whole = have.iter().product::<usize>() == 1;
                match (*have == want || whole, beside.dtype.is_weight() || beside.dtype == Dtype::F8E8M0) {
                    (true, true) => Ok(shape.clone()),
                    (true, false) => Err(format!("`{scales}` {}", beside.dtype.refused())),
                    (false, _) => Err(format!(
                        "`{scales}` is {have:?}, and `{found}`, which is {shape:?}, has {want:?} blocks of {block:?}"
                    )),
                }
            }
            Packing::Nibbles { .. } => match shape.split_last() {
                Some((bytes, rest)) if rest == have.as_slice() && !rest.is_empty() => {
                    let (groups, rest) = rest.split_last().unwrap_or((&1, &[]));
                    let last = bytes.checked_mul(2).and_then(|n| n.checked_mul(*groups));
                    let last = last.ok_or_else(|| format!("`{found}` has the impossible shape {shape:?}"))?;
                    Ok([rest, &[last]].concat())
                }
                _ => {
                    Err(format!("`{scales}` is {have:?}, and `{found}` is {shape:?}: there is no scale for each group"))
                }
            },
        }
    }

    /// Some elements of a packed tensor, in the order of [`Checkpoint::unpacked_shape`]; `None`: all. Of what is packed, the
    /// matrices or groups that they are in are read.
    pub(super) fn unpack(
        &self,
        found: &str,
        packing: &Packing,
        range: Option<Range<usize>>,
    ) -> Result<Vec<f32>, Error> {
        let shape =
            self.unpacked_shape(found, packing).map_err(|what| Error::new(codes::WEIGHT_SHAPE, what).help(HELP))?;
        let scales = packing.scales();
        let (Some((shard, place)), Some((other, beside))) = (self.place(found), self.place(scales)) else {
            return Err(self.missing(scales));
        };
        let (bytes, beside_bytes) = (&shard.bytes()[place.bytes.clone()], &other.bytes()[beside.bytes.clone()]);
        let count: usize = shape.iter().product();
        let unit = match packing {
            Packing::Scaled { .. } => shape[shape.len().saturating_sub(2)..].iter().product::<usize>(),
            Packing::Nibbles { .. } => place.shape.last().map_or(1, |bytes| 2 * bytes),
        }
        .max(1);
        let range = range.unwrap_or(0..count);
        let units = range.start / unit..range.end.div_ceil(unit).min(count / unit);
        // What belongs to these units, of so many bytes in all.
        let part = |bytes: &'_ [u8]| {
            let each = bytes.len() / (count / unit).max(1);
            units.start * each..units.end * each
        };
        let mut out = match packing {
            Packing::Scaled { block, .. } => {
                let none = || Error::new(codes::WEIGHT_SHAPE, format!("`{scales}` cannot be read")).help(HELP);
                let one = beside.shape.iter().product::<usize>() == 1;
                let beside_part = if one { 0..beside_bytes.len() } else { part(beside_bytes) };
                let by = widen(beside.dtype, &beside_bytes[beside_part])?.ok_or_else(none)?;
                let mut out = widen(place.dtype, &bytes[part(bytes)])?.ok_or_else(none)?;
                scale_blocks(&mut out, &place.shape, &by, *block);
                out
            }
            Packing::Nibbles { .. } => {
                let (bytes, exponents) = (&bytes[part(bytes)], &beside_bytes[part(beside_bytes)]);
                let mut out = memory::zeros(bytes.len().saturating_mul(2), "one tensor")?;
                out.par_chunks_mut(unit).zip(bytes.par_chunks((unit / 2).max(1)).zip(exponents)).for_each(
                    |(out, (bytes, exponent))| {
                        // In two steps, so that no step overflows where the product does not.
                        let (a, b) = halves(i32::from(*exponent) - 127);
                        for (out, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                            *out = [byte & 15, byte >> 4].map(|x| NIBBLES[usize::from(x)] * a * b);
                        }
                    },
                );
                out
            }
        };
        let first = units.start * unit;
        out.truncate(range.end - first);
        out.drain(..range.start - first);
        Ok(out)
    }
}

const HELP: &str = "the weights and their scales belong together: download both again, or use the model in bfloat16";

/// Two powers of two whose product is that of `exponent`, for -254 to 254.
fn halves(exponent: i32) -> (f32, f32) {
    let power = |n: i32| f32::from_bits(((n + 127).clamp(1, 254) as u32) << 23);
    let first = exponent / 2;
    (power(first), power(exponent - first))
}

/// Multiplies every element with the scale of its block; one scale is of all.
fn scale_blocks(data: &mut [f32], shape: &[usize], scales: &[f32], block: [usize; 2]) {
    if let [all] = scales {
        return data.par_iter_mut().for_each(|x| *x *= all);
    }
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let rows = if shape.len() < 2 { 1 } else { shape[shape.len() - 2].max(1) };
    let (down, across) = (rows.div_ceil(block[0]), columns.div_ceil(block[1]));
    data.par_chunks_mut(columns).enumerate().for_each(|(i, row)| {
        let (matrix, row_of) = (i / rows, i % rows);
        let at = (matrix * down + row_of / block[0]) * across;
        for (part, scale) in row.chunks_mut(block[1]).zip(&scales[at..at + across]) {
            part.iter_mut().for_each(|x| *x *= scale);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_at_the_edges_are_smaller() {
        let mut data = vec![1.0; 2 * 3 * 5];
        let scales: Vec<f32> = (1..=2 * 2 * 3).map(|n| n as f32).collect();
        scale_blocks(&mut data, &[2, 3, 5], &scales, [2, 2]);
        let want = |m: usize, r: usize, c: usize| (m * 6 + r / 2 * 3 + c / 2 + 1) as f32;
        for (i, x) in data.iter().enumerate() {
            assert_eq!(*x, want(i / 15, i / 5 % 3, i % 5), "element {i}");
        }
    }

    #[test]
    fn every_exponent_gives_its_power() {
        for e in -127..=127 {
            let (a, b) = halves(e);
            assert_eq!(f64::from(a) * f64::from(b), 2f64.powi(e), "2^{e}");
        }
    }
}
