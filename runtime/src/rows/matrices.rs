//! Packed matrices of products. Those of experts are read and packed when a row first chooses them.

use super::stored;
use crate::engine::WeightSource;
use crate::error::Error;
use crate::memory;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use steer_compiler::plan::Weight;
use steer_compiler::program::{Dim, MatrixView};
use steer_kernels::{Format, PANEL, Packed, fill_panel};

/// Where the elements of a view are: the weight from input `k` to output `o` of entry `b` is at
/// `batch[b] + out[o] + inner[k]`.
#[derive(Clone)]
pub struct Parts {
    pub batch: Vec<usize>,
    pub out: Vec<usize>,
    pub inner: Vec<usize>,
}

/// A matrix to be filled.
pub fn room(format: Format, outputs: usize, inputs: usize) -> Result<Packed, Error> {
    Packed::try_with_format(format, outputs, inputs)
        .ok_or_else(|| memory::refused(Packed::bytes_of(format, outputs, inputs) / 4, "a weight matrix"))
}

impl Parts {
    pub fn of(view: &MatrixView) -> Self {
        let mut out = offsets(&view.out);
        if let Some(select) = &view.select {
            out = select.iter().map(|&i| out[i as usize]).collect();
        }
        let batch = offsets(&view.batch).into_iter().map(|b| view.offset + b).collect();
        Parts { batch, out, inner: offsets(&view.inner) }
    }

    fn pack(&self, data: &[f32]) -> Result<Packed, Error> {
        let inputs = self.inner.len().max(1);
        let mut packed = room(Format::F32, self.out.len(), inputs)?;
        let panels = packed.as_mut_slice().par_chunks_exact_mut(PANEL * inputs);
        panels.zip(self.out.par_chunks(PANEL)).for_each(|(panel, out)| fill_panel(panel, data, out, &self.inner));
        Ok(packed)
    }

    /// From the first to the last element of an entry, seen from its beginning.
    fn span(&self) -> Range<usize> {
        let of = |offsets: &[usize]| (offsets.iter().min().copied(), offsets.iter().max().copied());
        match (of(&self.out), of(&self.inner)) {
            ((Some(a), Some(b)), (Some(c), Some(d))) => a + c..b + d + 1,
            _ => 0..0,
        }
    }

    /// The same, where there are several entries that lie apart in the weight, so that each is read by itself.
    pub fn apart(&self) -> Option<Range<usize>> {
        let span = self.span();
        let apart = self.batch.len() > 1 && !span.is_empty() && span.len() <= 2 * self.out.len() * self.inner.len();
        apart.then_some(span)
    }
}

/// The matrices of a product, one for each batch entry.
pub struct Matrices {
    outputs: usize,
    inputs: usize,
    entries: Vec<OnceLock<Packed>>,
    later: Option<Later>,
}

/// Where entries come from that are not there yet.
struct Later {
    weights: Arc<dyn WeightSource>,
    weight: Weight,
    /// The elements of all entries.
    parts: Parts,
    /// And of one from its own beginning on.
    own: Parts,
    /// By entry: its elements in the weight.
    ranges: Vec<Range<usize>>,
}

impl Matrices {
    pub fn packed(parts: &Parts, data: &[f32]) -> Result<Self, Error> {
        let entries = parts.batch.iter().map(|b| Ok(OnceLock::from(parts.pack(&data[*b..])?)));
        Ok(Matrices { entries: entries.collect::<Result<_, Error>>()?, ..Self::none(parts) })
    }

    fn none(parts: &Parts) -> Self {
        let entries = parts.batch.iter().map(|_| OnceLock::new()).collect();
        Matrices { outputs: parts.out.len(), inputs: parts.inner.len().max(1), entries, later: None }
    }

    /// Matrices that are read one by one; `None` where the entries do not lie apart in the weight.
    pub fn later(parts: &Parts, weights: &Arc<dyn WeightSource>, weight: &Weight) -> Option<Self> {
        let span = parts.apart()?;
        let from_least = |offsets: &[usize]| -> Vec<usize> {
            let least = offsets.iter().min().copied().unwrap_or(0);
            offsets.iter().map(|o| o - least).collect()
        };
        let (out, inner) = (from_least(&parts.out), from_least(&parts.inner));
        let ranges = parts.batch.iter().map(|b| b + span.start..b + span.end).collect();
        let own = Parts { batch: vec![0], out, inner };
        let later = Later { weights: Arc::clone(weights), weight: weight.clone(), parts: parts.clone(), own, ranges };
        Some(Matrices { later: Some(later), ..Self::none(parts) })
    }

    /// All of them in the format of their file; `None` where some have to be read as float32.
    pub fn stored(parts: &Parts, weights: &dyn WeightSource, weight: &Weight) -> Result<Option<Self>, Error> {
        let mut entries = Vec::with_capacity(parts.batch.len());
        for b in 0..parts.batch.len() {
            match stored::pack(parts, b, weights, weight)? {
                Some(packed) => entries.push(OnceLock::from(packed)),
                None => return Ok(None),
            }
        }
        Ok(Some(Matrices { entries, ..Self::none(parts) }))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The memory of one entry that is there.
    pub fn bytes_of_each(&self) -> usize {
        self.entries.iter().find_map(|e| e.get()).map_or(0, Packed::bytes)
    }

    /// How they are in memory, or will be as far as their file says.
    pub fn format(&self) -> Format {
        let there = self.entries.iter().find_map(|e| e.get()).map(Packed::format);
        let will = || {
            let later = self.later.as_ref()?;
            stored::format_of(&later.parts, 0, later.weights.as_ref(), &later.weight)
        };
        there.or_else(will).unwrap_or_default()
    }

    pub fn is_later(&self) -> bool {
        self.later.is_some()
    }

    /// How many entries are there.
    pub fn count_read(&self) -> usize {
        self.entries.iter().filter(|e| e.get().is_some()).count()
    }

    /// An entry, which is read if it is not there yet.
    pub fn get(&self, b: usize) -> Result<&Packed, Error> {
        if let Some(packed) = self.entries[b].get() {
            return Ok(packed);
        }
        let Some(later) = &self.later else { return Err(super::broken("a matrix was not loaded")) };
        let packed = match stored::pack(&later.parts, b, later.weights.as_ref(), &later.weight)? {
            Some(packed) => packed,
            None => later.own.pack(&later.weights.read_range(&later.weight, later.ranges[b].clone())?)?,
        };
        let each = later.weights.elements(&later.weight).unwrap_or(0);
        if let Some(index) = later.ranges[b].start.checked_div(each) {
            later.weights.let_go(&later.weight, index..index + 1);
        }
        Ok(self.entries[b].get_or_init(|| packed))
    }
}

/// The offset of every entry of some dimensions, the last one fastest.
pub fn offsets(dims: &[Dim]) -> Vec<usize> {
    let mut out = vec![0];
    for &(n, stride) in dims {
        let mut next = Vec::with_capacity(out.len() * n);
        for base in &out {
            next.extend((0..n).map(|i| base + i * stride));
        }
        out = next;
    }
    out
}
