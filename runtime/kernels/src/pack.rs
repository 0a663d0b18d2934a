//! Weight matrices packed for the product kernels.

use crate::area::Area;
use std::ops::Range;

/// Output columns of one panel.
pub const PANEL: usize = 16;

/// Fills a panel of a matrix whose weight from input `k` to output `o` is `data[outs[o] + ins[k]]`; `outs` are the
/// panel's own, at most 16, and what they leave stays as it is.
///
/// # Panics
/// When the panel's length is not `ins.len() * 16`, or the data is too short.
pub fn fill_panel(panel: &mut [f32], data: &[f32], outs: &[usize], ins: &[usize]) {
    assert_eq!(panel.len(), ins.len() * PANEL, "a panel of {} inputs", ins.len());
    let follow = |offsets: &[usize]| offsets.windows(2).all(|w| w[1] == w[0] + 1);
    let Some(&first) = outs.first() else { return };
    if outs.len() == PANEL && follow(outs) {
        for (row, k) in panel.chunks_exact_mut(PANEL).zip(ins) {
            row.copy_from_slice(&data[first + k..][..PANEL]);
        }
        return;
    }
    // Sixteen inputs of sixteen outputs at a time, so that either side stays in the cache.
    for (rows, ins) in panel.chunks_mut(16 * PANEL).zip(ins.chunks(16)) {
        let side_by_side = follow(ins);
        for (lane, o) in outs.iter().enumerate() {
            let rows = rows.chunks_exact_mut(PANEL);
            match side_by_side {
                true => rows.zip(&data[o + ins[0]..][..ins.len()]).for_each(|(row, x)| row[lane] = *x),
                false => rows.zip(ins).for_each(|(row, k)| row[lane] = data[o + k]),
            }
        }
    }
}

/// A weight matrix from `inputs` to `outputs`, in panels of 16 outputs.
///
/// Panel `p` holds, for each input `k` in ascending order, the 16 weights from `k` to outputs
/// `16 p` up to `16 p + 16`. The last panel is padded with zeros. The panels lie one after
/// another, the first at a multiple of 64 bytes.
pub struct Packed {
    outputs: usize,
    inputs: usize,
    data: Area,
}

impl Packed {
    /// Numbers that a matrix of this shape takes, with the padding.
    fn len_of(outputs: usize, inputs: usize) -> Option<usize> {
        outputs.div_ceil(PANEL).checked_mul(PANEL)?.checked_mul(inputs)
    }

    /// The memory that a matrix of this shape takes.
    pub fn bytes_of(outputs: usize, inputs: usize) -> usize {
        Packed::len_of(outputs, inputs).unwrap_or(usize::MAX).saturating_mul(size_of::<f32>())
    }

    /// Like [`Packed::with_shape`], and `None` where there is no memory for it.
    ///
    /// # Panics
    /// When there are no inputs.
    pub fn try_with_shape(outputs: usize, inputs: usize) -> Option<Packed> {
        assert!(inputs > 0, "a matrix without inputs");
        let data = Area::zeros(Packed::len_of(outputs, inputs)?)?;
        Some(Packed { outputs, inputs, data })
    }

    /// Zeros, to be filled panel by panel.
    ///
    /// # Panics
    /// When there are no inputs, or no memory.
    pub fn with_shape(outputs: usize, inputs: usize) -> Packed {
        Packed::try_with_shape(outputs, inputs).expect("memory for a matrix")
    }

    /// The matrix of `weight(o, k)`.
    pub fn from_fn(outputs: usize, inputs: usize, weight: impl Fn(usize, usize) -> f32) -> Packed {
        let mut packed = Packed::with_shape(outputs, inputs);
        for (p, panel) in packed.panels_mut().enumerate() {
            for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                for (o, x) in (p * PANEL..outputs).zip(row) {
                    *x = weight(o, k);
                }
            }
        }
        packed
    }

    /// Output columns.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Input rows, the length of every sum.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many panels there are.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// The outputs of panels `p`, without the padding.
    pub fn columns(&self, panels: Range<usize>) -> Range<usize> {
        (panels.start * PANEL).min(self.outputs)..(panels.end * PANEL).min(self.outputs)
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.data[..])
    }

    /// Every panel, one after another.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// Every panel to be filled, `inputs * 16` numbers each; the padding must stay zero.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.data
    }

    fn panels_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        let inputs = self.inputs;
        self.as_mut_slice().chunks_exact_mut(PANEL * inputs)
    }

    /// The weight from input `k` to output `o`.
    pub fn get(&self, o: usize, k: usize) -> f32 {
        assert!(o < self.outputs && k < self.inputs, "({o}, {k}) of a smaller matrix");
        self.as_slice()[(o / PANEL * self.inputs + k) * PANEL + o % PANEL]
    }

    /// All weights to output `o`: a row of the matrix as linear layers store it.
    ///
    /// # Panics
    /// When there is no such output or `row` is not as long as the inputs.
    pub fn copy_row(&self, o: usize, row: &mut [f32]) {
        assert!(o < self.outputs && row.len() == self.inputs, "row {o} of a smaller matrix");
        let panel = &self.as_slice()[o / PANEL * PANEL * self.inputs..];
        for (x, weights) in row.iter_mut().zip(panel.chunks_exact(PANEL)) {
            *x = weights[o % PANEL];
        }
    }

    /// The matrix of some of the outputs, in that order; its products have the bits those outputs
    /// have here.
    ///
    /// # Panics
    /// When one of them is no output.
    pub fn select(&self, outputs: &[u32]) -> Packed {
        let mut packed = Packed::with_shape(outputs.len(), self.inputs);
        for (panel, chosen) in packed.panels_mut().zip(outputs.chunks(PANEL)) {
            for (lane, &o) in chosen.iter().enumerate() {
                let o = o as usize;
                assert!(o < self.outputs, "output {o} of {}", self.outputs);
                let from = &self.as_slice()[o / PANEL * PANEL * self.inputs..];
                for (to, weights) in panel.chunks_exact_mut(PANEL).zip(from.chunks_exact(PANEL)) {
                    to[lane] = weights[o % PANEL];
                }
            }
        }
        packed
    }
}

impl Clone for Packed {
    fn clone(&self) -> Packed {
        let mut packed = Packed::with_shape(self.outputs, self.inputs);
        packed.data.copy_from_slice(&self.data);
        packed
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed [{}, {}]", self.outputs, self.inputs)
    }
}
