//! Products of rows with packed weights.

use crate::activations::{self, Activations, BLOCK, Block};
use crate::formats::{DotTile, Products};
use crate::isa::Isa;
use crate::pack::{PANEL, Packed};
use crate::tile::{Tile, Tiles, tiles};
use std::cell::RefCell;
use std::ops::Range;

/// How far ahead of one row's products weights are asked for, in numbers.
const AHEAD: usize = 1024;

thread_local! {
    /// Rows packed for the tiles, then weights that were decoded for them.
    static STRIPS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    /// Rows as whole numbers.
    static BLOCKS: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Blocks of inputs and rows of one pass of rows of whole numbers: with 300 KB they stay in a second cache. Not tuned.
const PASS: (usize, usize) = (64, 96);

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    pub isa: Isa,
    /// What is read of a row.
    pub activations: Activations,
}

/// Rows as they are.
impl From<Isa> for Arithmetic {
    fn from(isa: Isa) -> Arithmetic {
        Arithmetic { isa, activations: Activations::F32 }
    }
}

/// `y[r][c] = sum over k of x[r][k] * w[k][c]` for the columns of `panels`, where row `r` of `x`
/// begins at `r * x_stride` and row `r` of `y` at `r * y_stride`; column `c` keeps its place
/// whatever the panels, so that threads can share a product by panels and by rows.
///
/// Each output is one chain of fused multiply-adds over ascending `k` that begins at zero; where rows and weights are
/// whole numbers ([`Activations::Q8`]), over ascending parts, of their sums. Its bits depend on its row, its column, the
/// number of inputs and the activations alone; the weights are those that [`Packed::get`] gives, and, where rows are
/// numbers, the bits are the same however they are stored.
///
/// # Safety
/// `y` is writable at every output of these rows and panels, and nothing else uses these places
/// meanwhile.
///
/// # Panics
/// When `x` is too short, a panel does not exist or this processor lacks `isa`.
#[allow(clippy::too_many_arguments)]
pub unsafe fn gemm(
    how: impl Into<Arithmetic>,
    x: &[f32],
    x_stride: usize,
    rows: usize,
    w: &Packed,
    panels: Range<usize>,
    y: *mut f32,
    y_stride: usize,
) {
    let Arithmetic { isa, activations } = how.into();
    let tiles = tiles(isa);
    if rows == 0 || panels.is_empty() {
        return;
    }
    assert!((rows - 1) * x_stride + w.inputs() <= x.len(), "{rows} rows of {} numbers", x.len());
    assert!(panels.end <= w.panels(), "panels {panels:?} of {}", w.panels());
    let products = w.format().layout().products(isa);
    let rounds = activations == Activations::Bf16;
    let call = Call { isa, tiles, products, rounds, x: x.as_ptr(), x_stride, w, panels, y, y_stride };
    // SAFETY: the asserts above, and the caller.
    unsafe {
        if activations == Activations::Q8 && !products.dots.is_empty() {
            call.whole(rows);
        } else if rows <= products.few[0].len() && !rounds {
            call.few(rows);
        } else if rows <= products.few[0].len() {
            call.few_rounded(rows);
        } else {
            call.many(rows);
        }
    }
}

/// [`gemm`] over every panel, into rows of `w.outputs()` side by side.
///
/// # Panics
/// When `x` or `y` has another length or this processor lacks `isa`.
pub fn matmul(how: impl Into<Arithmetic>, x: &[f32], rows: usize, w: &Packed, y: &mut [f32]) {
    assert_eq!(x.len(), rows * w.inputs(), "rows of {} inputs", w.inputs());
    assert_eq!(y.len(), rows * w.outputs(), "rows of {} outputs", w.outputs());
    // SAFETY: `y` holds every output.
    unsafe { gemm(how, x, w.inputs(), rows, w, 0..w.panels(), y.as_mut_ptr(), w.outputs()) }
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
            unsafe { quantize(x[r * stride..][..numbers].as_ptr(), to) };
        }
        WholeRows { blocks, deep }
    }
}

/// [`gemm`] of rows that are whole numbers already, with the same bits.
///
/// # Safety
/// As [`gemm`] says.
///
/// # Panics
/// When there are more rows than [`WholeRows::most`], they have other than the matrix's inputs, a panel does not exist or
/// this processor lacks `isa`.
pub unsafe fn gemm_whole(isa: Isa, x: &WholeRows, w: &Packed, panels: Range<usize>, y: *mut f32, y_stride: usize) {
    let rows = x.blocks.len() / x.deep.max(1);
    let how = Arithmetic { isa, activations: Activations::Q8 };
    assert!(rows <= WholeRows::most(how, w) && x.deep * BLOCK == w.inputs(), "{rows} rows of {} blocks", x.deep);
    assert!(panels.end <= w.panels(), "panels {panels:?} of {}", w.panels());
    let products = w.format().layout().products(isa);
    let from = std::ptr::null();
    let call = Call { isa, tiles: tiles(isa), products, rounds: false, x: from, x_stride: 0, w, panels, y, y_stride };
    // SAFETY: the asserts above, and the caller.
    unsafe { call.dots(x.blocks.as_ptr(), 0..rows, 0..x.deep) }
}

struct Call<'a> {
    isa: Isa,
    tiles: &'static Tiles,
    products: Products,
    /// Whether rows are read as bf16.
    rounds: bool,
    x: *const f32,
    x_stride: usize,
    w: &'a Packed,
    panels: Range<usize>,
    y: *mut f32,
    y_stride: usize,
}

impl Call<'_> {
    /// Where an input of a panel begins; from panel to panel, in numbers.
    fn at(&self, panel: usize, input: usize) -> *const f32 {
        let (block, bytes) = (self.w.format().block().0, self.w.format().layout().block_bytes());
        let bytes = panel * self.w.panel_bytes() + input / block * bytes;
        self.w.as_slice().as_ptr().cast::<u8>().wrapping_add(bytes).cast()
    }

    /// Rows read where they lie, the weights once.
    unsafe fn few(&self, rows: usize) {
        let inputs = self.w.inputs();
        let lists = self.products.few;
        let panel = self.w.panel_bytes() / size_of::<f32>();
        let widest = (0..lists.len()).rev().find(|&n| lists[n].len() >= rows).unwrap_or(0);
        for (p, n, cols) in groups(self.panels.clone(), self.w.outputs(), widest) {
            unsafe {
                lists[n][rows - 1](&Tile {
                    a: self.x,
                    a_row: self.x_stride,
                    b: self.at(p, 0),
                    b_panel: panel,
                    inputs,
                    c: self.y.add(p * PANEL),
                    c_row: self.y_stride,
                    cols,
                    begin: true,
                    next: self.at(p, 0).wrapping_add(AHEAD),
                    early: inputs,
                });
            }
        }
    }

    /// The same of rows that are rounded first.
    unsafe fn few_rounded(&self, rows: usize) {
        let inputs = self.w.inputs();
        STRIPS.with_borrow_mut(|strips| {
            if strips.len() < rows * inputs {
                strips.resize(rows * inputs, 0.0);
            }
            let rounded = &mut strips[..rows * inputs];
            for (r, to) in rounded.chunks_exact_mut(inputs).enumerate() {
                // SAFETY: a row.
                to.copy_from_slice(unsafe { std::slice::from_raw_parts(self.x.add(r * self.x_stride), inputs) });
            }
            activations::round(self.isa, rounded);
            let call = Call { x: rounded.as_ptr(), x_stride: inputs, panels: self.panels.clone(), ..*self };
            // SAFETY: as the caller says; these tiles use no strips.
            unsafe { call.few(rows) };
        });
    }

    /// Rows become whole numbers, some rows and some blocks of inputs at a time; the chains go on through `y`.
    unsafe fn whole(&self, rows: usize) {
        let lists = self.products.dots;
        let (deep, high) = PASS;
        let (most, blocks) = (lists[0].len(), self.w.inputs() / BLOCK);
        let block_rows = rows.div_ceil(rows.div_ceil(high));
        let deep = if rows <= most { blocks } else { blocks.min(deep) };
        let quantize = activations::quantize(self.isa);
        BLOCKS.with_borrow_mut(|quantized| {
            if quantized.len() < block_rows * deep {
                quantized.resize(block_rows * deep, Block::default());
            }
            for row in (0..rows).step_by(block_rows) {
                let count = block_rows.min(rows - row);
                for from in (0..blocks).step_by(deep) {
                    let depth = deep.min(blocks - from);
                    for (r, to) in quantized.chunks_exact_mut(depth).take(count).enumerate() {
                        unsafe { quantize(self.x.add((row + r) * self.x_stride + from * BLOCK), to) };
                    }
                    unsafe { self.dots(quantized.as_ptr(), row..row + count, from..from + depth) };
                }
            }
        });
    }

    /// Some rows, of which some blocks follow one another from row to row.
    unsafe fn dots(&self, x: *const Block, rows: Range<usize>, blocks: Range<usize>) {
        let lists = self.products.dots;
        // Of one strip the weights are read as often as of several, so that more panels share its numbers.
        let widest = (0..lists.len()).rev().find(|&n| lists[n].len() >= rows.len()).unwrap_or(0);
        for (p, n, cols) in groups(self.panels.clone(), self.w.outputs(), widest) {
            for (first, len) in even(rows.len(), lists[0].len()) {
                unsafe {
                    lists[n][len - 1](&DotTile {
                        x: x.add(first * blocks.len()),
                        x_row: blocks.len(),
                        w: self.at(p, 0).cast(),
                        w_panel: self.w.panel_bytes(),
                        blocks: blocks.clone(),
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

    /// Rows packed in strips that a tile can hold, a block of inputs at a time; the chains go on
    /// through `y` from block to block. Weights that are not f32 are decoded for all strips.
    unsafe fn many(&self, rows: usize) {
        let inputs = self.w.inputs();
        let lists = self.tiles.packed;
        let most = lists[0].len();
        let (deep, high) = self.tiles.block;
        let in_place = self.w.format().layout().in_place;
        let panel = self.w.panel_bytes() / size_of::<f32>();
        let block_rows = rows.div_ceil(rows.div_ceil(high));
        let block_inputs = if rows <= most && in_place { inputs } else { inputs.min(deep) };
        STRIPS.with_borrow_mut(|strips| {
            // The tiles store up to 16 numbers beyond a strip; weights begin at a line of the cache.
            let of_rows = block_rows * block_inputs + 16;
            let of_weights = if in_place { 0 } else { ((PANEL * block_inputs) << (lists.len() - 1)) + 16 };
            if strips.len() < of_rows + of_weights {
                strips.resize(of_rows + of_weights, 0.0);
            }
            let strips = strips.as_mut_ptr();
            let decoded = strips.wrapping_add(of_rows);
            let decoded = decoded.wrapping_add(decoded.align_offset(64));
            for row in (0..rows).step_by(block_rows) {
                let count = block_rows.min(rows - row);
                for k in (0..inputs).step_by(block_inputs) {
                    let depth = block_inputs.min(inputs - k);
                    for (first, len) in even(count, most) {
                        let mut from = [self.x; 16];
                        for (i, p) in from.iter_mut().enumerate().take(len) {
                            *p = unsafe { self.x.add((row + first + i) * self.x_stride + k) };
                        }
                        unsafe { (self.tiles.transpose)(&from[..len], &[], depth, strips.add(first * depth)) };
                    }
                    if self.rounds {
                        // SAFETY: the strips of these rows.
                        activations::round(self.isa, unsafe { std::slice::from_raw_parts_mut(strips, count * depth) });
                    }
                    for (p, n, cols) in groups(self.panels.clone(), self.w.outputs(), lists.len() - 1) {
                        let (b, b_panel) = match in_place {
                            true => (self.at(p, k), panel),
                            false => {
                                for i in 0..1 << n {
                                    let (from, to) =
                                        (self.at(p + i, 0).cast(), decoded.wrapping_add(i * depth * PANEL));
                                    unsafe { (self.products.decode)(from, k, k + depth, to) };
                                }
                                (decoded.cast_const(), depth * PANEL)
                            }
                        };
                        // The lines of the panels that come next.
                        let lines = (self.at(0, k + depth) as usize - self.at(0, k) as usize) / 64;
                        let strip_count = count.div_ceil(most);
                        for (i, (first, len)) in even(count, most).enumerate() {
                            let early = lines * i / strip_count..lines * (i + 1) / strip_count;
                            let next = self.at(p + (1 << n), k).wrapping_add(early.start * PANEL);
                            if !in_place {
                                (0..1 << n).for_each(|i| (self.tiles.ask)(next.wrapping_add(i * panel), early.len()));
                            }
                            unsafe {
                                lists[n][len - 1](&Tile {
                                    a: strips.add(first * depth),
                                    a_row: 1,
                                    b,
                                    b_panel,
                                    inputs: depth,
                                    c: self.y.add((row + first) * self.y_stride + p * PANEL),
                                    c_row: self.y_stride,
                                    cols,
                                    begin: k == 0,
                                    next: self.at(p + (1 << n), k).wrapping_add(early.start * PANEL),
                                    early: early.len(),
                                });
                            }
                        }
                    }
                }
            }
        });
    }
}

/// Panels in groups of `2^widest` or fewer at the end, as (first panel, power of two, columns);
/// a panel with padding is alone.
pub(crate) fn groups(
    panels: Range<usize>,
    outputs: usize,
    widest: usize,
) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut p = panels.start;
    std::iter::from_fn(move || {
        let first = p;
        if first >= panels.end {
            return None;
        }
        let fits = |n: &usize| first + (1 << n) <= panels.end && (first + (1 << n)) * PANEL <= outputs;
        let n = (1..=widest).rev().find(fits).unwrap_or(0);
        p += 1 << n;
        Some((first, n, (outputs - first * PANEL).min(PANEL << n)))
    })
}

/// `count` rows in strips of about equal length, at most `most`, as (first row, rows).
pub(crate) fn even(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    // A product of few rows asks for its one strip at every panel, where divisions would be felt.
    let strips = if count <= most { 1 } else { count.div_ceil(most) };
    let cut = move |i: usize| if strips == 1 { count * i } else { count * i / strips };
    (0..strips).map(move |i| (cut(i), cut(i + 1) - cut(i)))
}
