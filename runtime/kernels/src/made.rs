//! Products of rows that are made for them first: whole numbers, or pairs of bf16.

use crate::activations::{self, Activations, BLOCK, Block};
use crate::formats::{Pair, Products};
use crate::gemm::{Arithmetic, even, groups};
use crate::isa::Isa;
use crate::pack::{PANEL, Packed};
use std::cell::RefCell;
use std::ops::Range;
use std::thread::LocalKey;

/// `c[r][..cols] (+)=` the products of some blocks of rows with some parts of panels.
pub(crate) struct MadeTile<X> {
    /// Row 0, the first of its blocks.
    pub x: *const X,
    /// From row to row, in blocks.
    pub x_row: usize,
    /// Panel 0.
    pub w: *const u8,
    /// From panel to panel, in bytes.
    pub w_panel: usize,
    /// Blocks of inputs.
    pub blocks: Range<usize>,
    /// All inputs; the last block may have fewer.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub inputs: usize,
    /// Row 0, column 0.
    pub c: *mut f32,
    pub c_row: usize,
    /// Columns to write, at most 16 a panel.
    pub cols: usize,
    /// Whether the chains begin here, or go on from what `c` holds.
    pub begin: bool,
    /// Whether these weights were not read just before.
    pub first: bool,
}

pub(crate) type MadeFn<X> = unsafe fn(&MadeTile<X>);

/// Some neighbouring numbers of a row as products read them.
pub(crate) trait Made: Copy + Default + 'static {
    /// How many.
    const NUMBERS: usize;
    /// Blocks and rows of one pass: with 300 KB they stay in a second cache. Not tuned; pairs never ran on a processor that
    /// has them.
    const PASS: (usize, usize);

    /// `f[n][r - 1]` does `r` rows, the index of a list is the power of two of its panels.
    fn tiles(products: &Products) -> &'static [&'static [MadeFn<Self>]];
    /// What makes them of so many numbers.
    fn make(isa: Isa) -> unsafe fn(row: *const f32, numbers: usize, made: &mut [Self]);
    /// Room for a thread's.
    fn room() -> &'static LocalKey<RefCell<Vec<Self>>>;
}

thread_local! {
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    static PAIRS: RefCell<Vec<Pair>> = const { RefCell::new(Vec::new()) };
}

impl Made for Block {
    const NUMBERS: usize = BLOCK;
    const PASS: (usize, usize) = (64, 96);

    fn tiles(products: &Products) -> &'static [&'static [MadeFn<Block>]] {
        products.dots
    }
    fn make(isa: Isa) -> unsafe fn(*const f32, usize, &mut [Block]) {
        activations::quantize(isa)
    }
    fn room() -> &'static LocalKey<RefCell<Vec<Block>>> {
        &BLOCKS
    }
}

impl Made for Pair {
    const NUMBERS: usize = 2;
    const PASS: (usize, usize) = (512, 140);

    fn tiles(products: &Products) -> &'static [&'static [MadeFn<Pair>]] {
        products.pairs
    }
    fn make(_: Isa) -> unsafe fn(*const f32, usize, &mut [Pair]) {
        Pair::make
    }
    fn room() -> &'static LocalKey<RefCell<Vec<Pair>>> {
        &PAIRS
    }
}

/// Where the products of rows with some panels go; see [`crate::gemm()`].
pub(crate) struct Outputs<'a> {
    pub w: &'a Packed,
    pub panels: Range<usize>,
    pub y: *mut f32,
    pub y_stride: usize,
}

impl Outputs<'_> {
    /// Some rows and some blocks of inputs are made at a time; the chains go on through `y`.
    ///
    /// # Safety
    /// As [`crate::gemm()`] says, whose asserts hold. The format has tiles over such rows on this processor.
    pub unsafe fn make<X: Made>(&self, isa: Isa, x: *const f32, x_stride: usize, rows: usize) {
        unsafe { self.make_by(X::tiles(&self.w.format().layout().products(isa)), isa, x, x_stride, rows) };
    }

    /// [`Outputs::make`] by these tiles.
    ///
    /// # Safety
    /// As above.
    unsafe fn make_by<X: Made>(&self, lists: &[&[MadeFn<X>]], isa: Isa, x: *const f32, x_stride: usize, rows: usize) {
        let (deep, high) = X::PASS;
        let (inputs, most) = (self.w.inputs(), lists[0].len());
        let blocks = inputs.div_ceil(X::NUMBERS);
        let block_rows = rows.div_ceil(rows.div_ceil(high / most * most)).next_multiple_of(most).min(rows);
        let deep = if rows <= most { blocks } else { blocks.min(deep) };
        let make = X::make(isa);
        X::room().with_borrow_mut(|made| {
            if made.len() < block_rows * deep {
                made.resize(block_rows * deep, X::default());
            }
            for row in (0..rows).step_by(block_rows) {
                let count = block_rows.min(rows - row);
                for from in (0..blocks).step_by(deep) {
                    let depth = deep.min(blocks - from);
                    let numbers = (depth * X::NUMBERS).min(inputs - from * X::NUMBERS);
                    for (r, to) in made.chunks_exact_mut(depth).take(count).enumerate() {
                        unsafe { make(x.add((row + r) * x_stride + from * X::NUMBERS), numbers, to) };
                    }
                    unsafe { self.add(lists, made.as_ptr(), row..row + count, from..from + depth) };
                }
            }
        });
    }

    /// Some rows, of which some blocks follow one another from row to row.
    ///
    /// # Safety
    /// As above.
    unsafe fn add<X: Made>(&self, lists: &[&[MadeFn<X>]], x: *const X, rows: Range<usize>, blocks: Range<usize>) {
        // Of one strip the weights are read as often as of several, so that more panels share its numbers.
        let most = rows.len().min(lists[0].len());
        let widest = (0..lists.len()).rev().find(|&n| lists[n].len() >= most).unwrap_or(0);
        for (p, n, cols) in groups(self.panels.clone(), self.w.outputs(), widest) {
            for (first, len) in even(rows.len(), lists[0].len()) {
                unsafe {
                    lists[n][len - 1](&MadeTile {
                        x: x.add(first * blocks.len()),
                        x_row: blocks.len(),
                        w: self.w.at(p, 0),
                        w_panel: self.w.panel_bytes(),
                        blocks: blocks.clone(),
                        inputs: self.w.inputs(),
                        c: self.y.add((rows.start + first) * self.y_stride + p * PANEL),
                        c_row: self.y_stride,
                        cols,
                        begin: blocks.start == 0,
                        first: first == 0,
                    });
                }
            }
        }
    }
}

/// A few rows as whole numbers ([`Activations::Q8`]), which several products read.
#[derive(Default)]
pub struct WholeRows {
    blocks: Vec<Block>,
    /// Blocks of a row.
    deep: usize,
}

impl WholeRows {
    /// How many rows at most products with a matrix read in this way: none, where they read numbers.
    pub fn most(how: Arithmetic, w: &Packed) -> usize {
        let dots = w.format().layout().products(how.isa).dots;
        if how.activations == Activations::Q8 { dots.first().map_or(0, |tiles| tiles.len()) } else { 0 }
    }

    /// Rows of so many numbers, whole blocks of them, of which row `r` begins at `r * stride`.
    ///
    /// # Panics
    /// When `x` is too short or this processor lacks `isa`.
    pub fn of(isa: Isa, x: &[f32], stride: usize, rows: usize, numbers: usize) -> WholeRows {
        assert!(numbers.is_multiple_of(BLOCK), "{numbers} numbers in blocks");
        let deep = numbers / BLOCK;
        let mut blocks = vec![Block::default(); rows * deep];
        let quantize = activations::quantize(isa);
        for (r, to) in blocks.chunks_exact_mut(deep.max(1)).enumerate() {
            // SAFETY: a row of whole blocks.
            unsafe { quantize(x[r * stride..][..numbers].as_ptr(), numbers, to) };
        }
        WholeRows { blocks, deep }
    }
}

/// [`crate::gemm()`] of rows that are whole numbers already, with the same bits.
///
/// # Safety
/// As [`crate::gemm()`] says.
///
/// # Panics
/// When there are more rows than [`WholeRows::most`], they have other than the matrix's inputs, a panel does not exist or
/// this processor lacks `isa`.
pub unsafe fn gemm_whole(isa: Isa, x: &WholeRows, w: &Packed, panels: Range<usize>, y: *mut f32, y_stride: usize) {
    let rows = x.blocks.len() / x.deep.max(1);
    let how = Arithmetic { isa, activations: Activations::Q8 };
    assert!(rows <= WholeRows::most(how, w) && x.deep * BLOCK == w.inputs(), "{rows} rows of {} blocks", x.deep);
    assert!(panels.end <= w.panels(), "panels {panels:?} of {}", w.panels());
    let lists = w.format().layout().products(isa).dots;
    // SAFETY: the asserts above, and the caller.
    unsafe { Outputs { w, panels, y, y_stride }.add(lists, x.blocks.as_ptr(), 0..rows, 0..x.deep) }
}

#[cfg(test)]
mod tests {
    use super::{MadeFn, MadeTile, Outputs};
    use crate::formats::{Format, Pair};
    use crate::{Activations, Isa, Packed, matmul};

    /// Tiles over pairs as a processor with products of bf16 has them, by number after number.
    unsafe fn tile<const R: usize, const N: usize>(t: &MadeTile<Pair>) {
        for (r, n, lane) in
            (0..R * N * 16).map(|i| (i / (N * 16), i / 16 % N, i % 16)).filter(|i| 16 * i.1 + i.2 < t.cols)
        {
            // SAFETY: as the caller says.
            unsafe {
                let c = t.c.add(r * t.c_row + 16 * n + lane);
                let mut sum = if t.begin { 0.0 } else { *c };
                for pair in t.blocks.clone() {
                    let x = (*t.x.add(r * t.x_row + pair - t.blocks.start)).numbers();
                    for (k, x) in (2 * pair..t.inputs).zip(x) {
                        let w = t.w.add(n * t.w_panel + 32 * k + 2 * lane).cast::<u16>().read();
                        sum = x.mul_add(f32::from_bits(u32::from(w) << 16), sum);
                    }
                }
                *c = sum;
            }
        }
    }

    const TILES: &[&[MadeFn<Pair>]] = &[
        &[tile::<1, 1>, tile::<2, 1>, tile::<3, 1>, tile::<4, 1>],
        &[tile::<1, 2>, tile::<2, 2>, tile::<3, 2>, tile::<4, 2>],
        &[tile::<1, 4>, tile::<2, 4>],
    ];

    #[test]
    fn pairs_have_the_bits_of_numbers_that_were_rounded() {
        let number = |i: usize| ((i * 7919 % 1013) as f32 - 500.0) / 333.0;
        for (outputs, inputs, rows) in [(40, 64, 3), (117, 33, 1), (117, 1, 2), (70, 2101, 7), (16, 1100, 150)] {
            let bytes: Vec<u8> =
                (0..outputs * inputs).flat_map(|i| ((number(3 * i).to_bits() >> 16) as u16).to_le_bytes()).collect();
            let w = Packed::from_blocks(Format::Bf16, outputs, inputs, &bytes);
            let mut x: Vec<f32> = (0..rows * inputs).map(number).collect();
            let mut y = vec![f32::NAN; rows * outputs];
            let all = Outputs { w: &w, panels: 0..w.panels(), y: y.as_mut_ptr(), y_stride: outputs };
            // SAFETY: `y` holds every output.
            unsafe { all.make_by(TILES, Isa::Portable, x.as_ptr(), inputs, rows) };
            Activations::Bf16.rounded(Format::Bf16, &mut x);
            let mut expected = vec![0.0; rows * outputs];
            matmul(Isa::Portable, &x, rows, &w, &mut expected);
            assert_eq!(y, expected, "{outputs} x {inputs}, {rows} rows");
        }
    }
}
