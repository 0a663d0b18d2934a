//! Weight matrices packed for the product kernels.

use crate::area::Area;
use crate::formats::Format;
use crate::isa::Isa;
use std::ops::Range;

/// Output columns of one panel.
pub const PANEL: usize = 16;

/// Inputs that are decoded at once where a row is wanted.
const SOME: usize = 256;

/// Inputs at whose multiples parts of every format begin.
pub(crate) const PART: usize = 32;

/// Fills a panel of a matrix whose weight from input `k` to output `o` is `data[outs[o] + ins[k]]`; `outs` are the
/// panel's own, at most 16, and what they leave stays as it is.
///
/// # Panics
/// When the panel's length is not `ins.len() * 16`, or the data is too short.
pub fn fill_panel<T: Copy>(panel: &mut [T], data: &[T], outs: &[usize], ins: &[usize]) {
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

/// [`fill_panel`] of a format whose blocks are single elements, from the bytes of a file. Whether all of them are finite.
///
/// # Panics
/// When the format has larger blocks; otherwise as [`fill_panel`].
pub fn fill_elements(format: Format, panel: &mut [u8], data: &[u8], outs: &[usize], ins: &[usize]) -> bool {
    match format.block() {
        (1, 2) => fill_panel(panel.as_chunks_mut::<2>().0, data.as_chunks::<2>().0, outs, ins),
        (1, 4) => fill_panel(panel.as_chunks_mut::<4>().0, data.as_chunks::<4>().0, outs, ins),
        (block, _) => panic!("elements of {}, which has blocks of {block}", format.name()),
    }
    (format.layout().finite)(panel)
}

/// Fills a panel from the blocks of its outputs, at most 16, as a file has them; what they leave is zero. Whether all
/// weights are finite.
///
/// # Panics
/// When an output has not as many blocks as the panel.
pub fn fill_blocks(format: Format, panel: &mut [u8], outputs: &[&[u8]]) -> bool {
    let (layout, bytes) = (format.layout(), format.block().1);
    let of_panel = layout.block_bytes();
    let mut records = vec![vec![0; of_panel / PANEL]; PANEL];
    for (i, block) in panel.chunks_exact_mut(of_panel).enumerate() {
        for (record, blocks) in records.iter_mut().zip(outputs) {
            (layout.rearrange)(&blocks[i * bytes..][..bytes], record);
        }
        layout.spread(&records, block);
    }
    outputs.iter().all(|blocks| (layout.finite)(blocks))
}

/// A weight matrix from `inputs` to `outputs`, in panels of 16 outputs, stored in a format.
///
/// Panel `p` holds, for each input `k` in ascending order, the 16 weights from `k` to outputs
/// `16 p` up to `16 p + 16`, of formats with blocks for each block of inputs. The last panel is
/// padded with zeros. The panels lie one after another, the first at a multiple of 64 bytes.
pub struct Packed {
    format: Format,
    outputs: usize,
    inputs: usize,
    /// Bytes of a panel.
    panel: usize,
    data: Area,
}

impl Packed {
    /// The memory that a matrix of this shape takes in a format, with the padding.
    pub fn bytes_of(format: Format, outputs: usize, inputs: usize) -> usize {
        let panels = outputs.div_ceil(PANEL);
        format.panel_bytes(inputs).and_then(|bytes| bytes.checked_mul(panels)).unwrap_or(usize::MAX)
    }

    /// And with what is mapped for it beyond that.
    pub fn memory_of(format: Format, outputs: usize, inputs: usize) -> usize {
        let bytes = Packed::bytes_of(format, outputs, inputs);
        Area::bytes_of(bytes.div_ceil(size_of::<f32>())).unwrap_or(usize::MAX)
    }

    /// Zeros, to be filled panel by panel; `None` where there is no memory for them.
    ///
    /// # Panics
    /// When there are no inputs, or no whole blocks of them.
    pub fn try_with_format(format: Format, outputs: usize, inputs: usize) -> Option<Packed> {
        assert!(inputs > 0, "a matrix without inputs");
        let block = format.block().0;
        assert!(inputs.is_multiple_of(block), "{inputs} inputs in blocks of {block}");
        let bytes = Packed::bytes_of(format, outputs, inputs);
        let panel = format.panel_bytes(inputs).unwrap_or(usize::MAX);
        Some(Packed { format, outputs, inputs, panel, data: Area::together(bytes.div_ceil(size_of::<f32>()))? })
    }

    /// [`Packed::try_with_format`] of f32.
    ///
    /// # Panics
    /// When there are no inputs.
    pub fn try_with_shape(outputs: usize, inputs: usize) -> Option<Packed> {
        Packed::try_with_format(Format::F32, outputs, inputs)
    }

    /// [`Packed::try_with_shape`], where there is memory.
    ///
    /// # Panics
    /// When there are no inputs, or no memory.
    pub fn with_shape(outputs: usize, inputs: usize) -> Packed {
        Packed::try_with_shape(outputs, inputs).expect("memory for a matrix")
    }

    /// The f32 matrix of `weight(o, k)`.
    pub fn from_fn(outputs: usize, inputs: usize, weight: impl Fn(usize, usize) -> f32) -> Packed {
        let mut packed = Packed::with_shape(outputs, inputs);
        for (p, panel) in packed.as_mut_slice().chunks_exact_mut(PANEL * inputs).enumerate() {
            for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
                for (o, x) in (p * PANEL..outputs).zip(row) {
                    *x = weight(o, k);
                }
            }
        }
        packed
    }

    /// The matrix of a file's blocks: those of an output follow one another.
    ///
    /// # Panics
    /// When there are not as many, or there is no memory.
    pub fn from_blocks(format: Format, outputs: usize, inputs: usize, data: &[u8]) -> Packed {
        let mut packed = Packed::try_with_format(format, outputs, inputs).expect("memory for a matrix");
        let (block, bytes) = format.block();
        let rows: Vec<&[u8]> = data.chunks_exact(inputs / block * bytes).collect();
        assert_eq!(rows.len(), outputs, "rows of a matrix");
        let of_panel = packed.panel_bytes();
        for (panel, rows) in packed.bytes_mut().chunks_exact_mut(of_panel).zip(rows.chunks(PANEL)) {
            fill_blocks(format, panel, rows);
        }
        packed
    }

    /// How its weights are stored.
    pub fn format(&self) -> Format {
        self.format
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

    /// The bytes of one panel.
    pub fn panel_bytes(&self) -> usize {
        self.panel
    }

    /// Every panel, one after another; numbers where the format is f32.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }

    /// Every panel of an f32 matrix to be filled, `inputs * 16` numbers each; the padding must stay zero.
    ///
    /// # Panics
    /// When it has another format.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        assert_eq!(self.format, Format::F32, "numbers of a stored matrix");
        &mut self.data
    }

    /// Every panel to be filled, [`Packed::panel_bytes`] each; the padding must stay zero.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = size_of_val(&self.data[..]);
        // SAFETY: the bytes of numbers, which may be any.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_mut_ptr().cast(), bytes) }
    }

    /// Where an input of a panel begins, or the block that it is of.
    pub(crate) fn at(&self, panel: usize, input: usize) -> *const u8 {
        let (block, bytes) = (self.format.block().0, self.format.layout().block_bytes());
        self.data.as_ptr().cast::<u8>().wrapping_add(panel * self.panel_bytes() + input / block * bytes)
    }

    fn panel(&self, p: usize) -> &[u8] {
        let bytes = self.panel_bytes();
        // SAFETY: as above.
        let all = unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast::<u8>(), size_of_val(&self.data[..])) };
        &all[p * bytes..][..bytes]
    }

    /// The weight from input `k` to output `o`.
    pub fn get(&self, o: usize, k: usize) -> f32 {
        assert!(o < self.outputs && k < self.inputs, "({o}, {k}) of a smaller matrix");
        if self.format.layout().in_place {
            return self.as_slice()[(o / PANEL * self.inputs + k) * PANEL + o % PANEL];
        }
        let first = k / PART * PART;
        let mut some = [0.0; PART * PANEL];
        self.decode(Isa::Portable, o / PANEL, first..(first + PART).min(self.inputs), &mut some);
        some[(k - first) * PANEL + o % PANEL]
    }

    /// Some inputs of a panel as f32; the first is a multiple of [`PART`].
    fn decode(&self, isa: Isa, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        assert!(inputs.end <= self.inputs && inputs.len() * PANEL <= to.len(), "inputs {inputs:?} of a panel");
        let decode = self.format.layout().products(isa).decode;
        // SAFETY: the panel has these inputs, which begin a part of every format, and `to` is long enough.
        unsafe { decode(self.panel(panel).as_ptr(), inputs.start, inputs.end, to.as_mut_ptr()) };
    }

    /// All weights to output `o`: a row of the matrix as linear layers store it.
    ///
    /// # Panics
    /// When there is no such output or `row` is not as long as the inputs.
    pub fn copy_row(&self, o: usize, row: &mut [f32]) {
        assert!(o < self.outputs && row.len() == self.inputs, "row {o} of a smaller matrix");
        if self.format.layout().in_place {
            let panel = &self.as_slice()[o / PANEL * PANEL * self.inputs..];
            for (x, weights) in row.iter_mut().zip(panel.chunks_exact(PANEL)) {
                *x = weights[o % PANEL];
            }
            return;
        }
        let isa = Isa::detect();
        let mut some = [0.0; SOME * PANEL];
        for (i, row) in row.chunks_mut(SOME).enumerate() {
            self.decode(isa, o / PANEL, i * SOME..i * SOME + row.len(), &mut some);
            for (x, weights) in row.iter_mut().zip(some.chunks_exact(PANEL)) {
                *x = weights[o % PANEL];
            }
        }
    }

    /// The matrix of some of the outputs, in that order and in this format; its products have the bits those outputs
    /// have here.
    ///
    /// # Panics
    /// When one of them is no output, or there is no memory.
    pub fn select(&self, outputs: &[u32]) -> Packed {
        let mut packed = Packed::try_with_format(self.format, outputs.len(), self.inputs).expect("memory for a matrix");
        let bytes = self.panel_bytes();
        for (panel, chosen) in packed.bytes_mut().chunks_exact_mut(bytes).zip(outputs.chunks(PANEL)) {
            for (lane, &o) in chosen.iter().enumerate() {
                let o = o as usize;
                assert!(o < self.outputs, "output {o} of {}", self.outputs);
                self.format.layout().move_lane((self.panel(o / PANEL), o % PANEL), (panel, lane));
            }
        }
        packed
    }
}

impl Clone for Packed {
    fn clone(&self) -> Packed {
        let mut packed = Packed::try_with_format(self.format, self.outputs, self.inputs).expect("memory for a matrix");
        packed.data.copy_from_slice(&self.data);
        packed
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed {} [{}, {}]", self.format.name(), self.outputs, self.inputs)
    }
}
