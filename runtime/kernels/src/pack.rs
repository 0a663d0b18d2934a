//! Weight matrices packed for the product kernels.

use std::ops::Range;

/// Output columns of one panel.
pub const PANEL: usize = 16;

/// The number an IEEE 754 half holds.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let size = u32::from(bits & 0x7fff);
    let value = match size >> 10 {
        0 => (size as f32 * (1.0 / 16_777_216.0)).to_bits(),
        31 => 0x7f80_0000 | (size & 0x3ff) << 13,
        _ => (size << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | value)
}

/// The number a bfloat16 holds.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Numbers as a checkpoint stores them.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// `f32`.
    F32(&'a [f32]),
    /// IEEE 754 halves, as bits.
    F16(&'a [u16]),
    /// bfloat16, as bits.
    Bf16(&'a [u16]),
    /// `f32` as little-endian bytes at any alignment.
    F32Bytes(&'a [u8]),
    /// IEEE 754 halves as little-endian bytes at any alignment.
    F16Bytes(&'a [u8]),
    /// bfloat16 as little-endian bytes at any alignment.
    Bf16Bytes(&'a [u8]),
}

impl Elements<'_> {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(v) => v.len(),
            Elements::F16(v) | Elements::Bf16(v) => v.len(),
            Elements::F32Bytes(v) => v.len() / 4,
            Elements::F16Bytes(v) | Elements::Bf16Bytes(v) => v.len() / 2,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number `i`.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Elements::F32(v) => v[i],
            Elements::F16(v) => f16_to_f32(v[i]),
            Elements::Bf16(v) => bf16_to_f32(v[i]),
            Elements::F32Bytes(v) => f32::from_bits(word(v, i)),
            Elements::F16Bytes(v) => f16_to_f32(half(v, i)),
            Elements::Bf16Bytes(v) => bf16_to_f32(half(v, i)),
        }
    }
}

#[inline(always)]
fn half(bytes: &[u8], i: usize) -> u16 {
    let b = &bytes[2 * i..2 * i + 2];
    u16::from_le_bytes([b[0], b[1]])
}

#[inline(always)]
fn word(bytes: &[u8], i: usize) -> u32 {
    let b = &bytes[4 * i..4 * i + 4];
    u32::from_le_bytes([b[0], b[1], b[2], b[3]])
}

/// A matrix somewhere in a checkpoint: the weight from input `k` to output `o` is element
/// `offset + o * out_stride + k * in_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The numbers it lies in.
    pub elements: Elements<'a>,
    /// Where it begins.
    pub offset: usize,
    /// From one output to the next.
    pub out_stride: usize,
    /// From one input to the next.
    pub in_stride: usize,
}

impl<'a> Source<'a> {
    /// A matrix stored as `[out, in]`, as linear layers are.
    pub fn by_output(elements: Elements<'a>, inputs: usize) -> Source<'a> {
        Source { elements, offset: 0, out_stride: inputs, in_stride: 1 }
    }

    /// A matrix stored as `[in, out]`, as GPT-2's are.
    pub fn by_input(elements: Elements<'a>, outputs: usize) -> Source<'a> {
        Source { elements, offset: 0, out_stride: 1, in_stride: outputs }
    }

    /// The same from output `first` on.
    pub fn from_output(self, first: usize) -> Source<'a> {
        Source { offset: self.offset + first * self.out_stride, ..self }
    }

    /// The weight from input `k` to output `o`.
    pub fn get(&self, o: usize, k: usize) -> f32 {
        self.elements.get(self.offset + o * self.out_stride + k * self.in_stride)
    }

    /// Fills panel `p` of a matrix of this shape, so that threads can share the work: see
    /// [`Packed::panels_mut`].
    ///
    /// # Panics
    /// When the panel's length is not `inputs * 16` or the source is too short.
    pub fn fill_panel(&self, outputs: usize, inputs: usize, p: usize, panel: &mut [f32]) {
        assert_eq!(panel.len(), inputs * PANEL, "a panel of {inputs} inputs");
        let first = p * PANEL;
        let lanes = PANEL.min(outputs.saturating_sub(first));
        if lanes == 0 || inputs == 0 {
            return panel.fill(0.0);
        }
        let base = self.offset + first * self.out_stride;
        let last = base + (lanes - 1) * self.out_stride + (inputs - 1) * self.in_stride;
        assert!(last < self.elements.len(), "a source too short for [{outputs}, {inputs}]");
        let strides = (self.out_stride, self.in_stride);
        match self.elements {
            Elements::F32(v) => fill(panel, lanes, base, strides, |i| v[i]),
            Elements::F16(v) => fill(panel, lanes, base, strides, |i| f16_to_f32(v[i])),
            Elements::Bf16(v) => fill(panel, lanes, base, strides, |i| bf16_to_f32(v[i])),
            Elements::F32Bytes(v) => fill(panel, lanes, base, strides, |i| f32::from_bits(word(v, i))),
            Elements::F16Bytes(v) => fill(panel, lanes, base, strides, |i| f16_to_f32(half(v, i))),
            Elements::Bf16Bytes(v) => fill(panel, lanes, base, strides, |i| bf16_to_f32(half(v, i))),
        }
    }
}

/// Sixteen inputs of sixteen outputs at a time, so that either side stays in the cache.
#[inline(always)]
fn fill(panel: &mut [f32], lanes: usize, base: usize, (outs, ins): (usize, usize), get: impl Fn(usize) -> f32) {
    for (block, rows) in panel.chunks_mut(16 * PANEL).enumerate() {
        let base = base + block * 16 * ins;
        if ins == 1 {
            for lane in 0..lanes {
                for (k, row) in rows.chunks_exact_mut(PANEL).enumerate() {
                    row[lane] = get(base + lane * outs + k);
                }
            }
        } else {
            for (k, row) in rows.chunks_exact_mut(PANEL).enumerate() {
                for (lane, x) in row[..lanes].iter_mut().enumerate() {
                    *x = get(base + k * ins + lane * outs);
                }
            }
        }
        if lanes < PANEL {
            for row in rows.chunks_exact_mut(PANEL) {
                row[lanes..].fill(0.0);
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
    /// With room to begin at a multiple of 64 bytes.
    data: Vec<f32>,
    start: usize,
}

impl Packed {
    /// Numbers that a matrix of this shape takes, with the padding.
    fn len_of(outputs: usize, inputs: usize) -> Option<usize> {
        outputs.div_ceil(PANEL).checked_mul(PANEL)?.checked_mul(inputs)?.checked_add(16)
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
        // Asked for and given back: only a vector that aborts comes with zeros that cost nothing.
        let mut trial: Vec<f32> = Vec::new();
        trial.try_reserve_exact(Packed::len_of(outputs, inputs)?).ok()?;
        drop(trial);
        Some(Packed::with_shape(outputs, inputs))
    }

    /// Zeros, to be filled panel by panel.
    ///
    /// # Panics
    /// When there are no inputs.
    pub fn with_shape(outputs: usize, inputs: usize) -> Packed {
        assert!(inputs > 0, "a matrix without inputs");
        let data = vec![0.0; outputs.div_ceil(PANEL) * PANEL * inputs + 16];
        let start = data.as_ptr().align_offset(64).min(16);
        Packed { outputs, inputs, data, start }
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

    /// The matrix of that shape at a place in a checkpoint.
    ///
    /// # Panics
    /// When the source is too short.
    pub fn from_source(outputs: usize, inputs: usize, source: &Source<'_>) -> Packed {
        let mut packed = Packed::with_shape(outputs, inputs);
        for (p, panel) in packed.panels_mut().enumerate() {
            source.fill_panel(outputs, inputs, p, panel);
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
        &self.data[self.start..self.start + self.panels() * PANEL * self.inputs]
    }

    /// Every panel to be filled, `inputs * 16` numbers each; the padding must stay zero.
    pub fn panels_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        let len = self.panels() * PANEL * self.inputs;
        self.data[self.start..self.start + len].chunks_exact_mut(PANEL * self.inputs)
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
        let start = packed.start;
        let from = self.as_slice();
        packed.data[start..start + from.len()].copy_from_slice(from);
        packed
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed [{}, {}]", self.outputs, self.inputs)
    }
}
