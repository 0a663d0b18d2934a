//! Products of rows with packed weights.

use crate::activations::{self, Activations, Block};
use crate::formats::{Format, Pair, Products};
use crate::isa::Isa;
use crate::made::Outputs;
use crate::pack::{PANEL, Packed};
use crate::tile::{Tile, Tiles, tiles};
use std::cell::RefCell;
use std::ops::Range;

/// How far ahead of one row's products weights are asked for, in numbers.
const AHEAD: usize = 2048;

thread_local! {
    /// Rows packed for the tiles, then weights that were decoded for them.
    static STRIPS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    pub isa: Isa,
    /// What is read of a row.
    pub activations: Activations,
}

impl Arithmetic {
    /// The instruction set, with what else of the processor products of rounded rows use: where bits may differ by it.
    pub fn name(self) -> &'static str {
        let pairs = Format::Bf16.layout().products(self.isa).pairs;
        if self.activations == Activations::Bf16 && !pairs.is_empty() { "avx512-bf16" } else { self.isa.name() }
    }
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
/// numbers, the bits are the same however they are stored, but for subnormal ones in products of bf16 by the processor.
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
    let outputs = Outputs { w, panels: panels.clone(), y, y_stride };
    let call = Call { isa, tiles, products, rounds, x: x.as_ptr(), x_stride, w, panels, y, y_stride };
    // SAFETY: the asserts above, and the caller.
    unsafe {
        if activations == Activations::Q8 && !products.dots.is_empty() {
            outputs.make::<Block>(isa, x.as_ptr(), x_stride, rows);
        } else if rounds && !products.pairs.is_empty() {
            outputs.make::<Pair>(isa, x.as_ptr(), x_stride, rows);
        } else if rows <= products.few[0].len() && !rounds {
            call.few(rows);
        } else if rows <= products.few[0].len() {
            call.few_rounded(rows);
        } else {
            call.many(rows);
        }
    }
}

/// How many of many rows products with a matrix take at once: threads share rows best by multiples of it.
///
/// # Panics
/// When this processor lacks the instruction set.
pub fn rows_at_once(how: Arithmetic, w: &Packed) -> usize {
    let products = w.format().layout().products(how.isa);
    let most = match how.activations {
        Activations::Q8 => products.dots.first().map(|tiles| tiles.len()),
        Activations::Bf16 => products.pairs.first().map(|tiles| tiles.len()),
        Activations::F32 => None,
    };
    most.unwrap_or(tiles(how.isa).packed[0].len())
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
    fn at(&self, panel: usize, input: usize) -> *const f32 {
        self.w.at(panel, input).cast()
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

    /// Rows packed in strips that a tile can hold, a block of inputs at a time; the chains go on
    /// through `y` from block to block. Weights that are not f32 are decoded for all strips.
    unsafe fn many(&self, rows: usize) {
        let inputs = self.w.inputs();
        let lists = self.tiles.packed;
        let most = lists[0].len();
        let (deep, high) = self.tiles.block;
        let in_place = self.w.format().layout().in_place;
        let panel = self.w.panel_bytes() / size_of::<f32>();
        let block_rows = rows.div_ceil(rows.div_ceil(high / most * most)).next_multiple_of(most).min(rows);
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
                    // The lines of the panels that come next, of which each strip asks for some.
                    let lines = (self.at(0, k + depth) as usize - self.at(0, k) as usize) / 64;
                    let strip_count = count.div_ceil(most);
                    let some = |i: usize| lines * i / strip_count..lines * (i + 1) / strip_count;
                    let cuts: Vec<_> = even(count, most).enumerate().map(|(i, strip)| (strip, some(i))).collect();
                    for (p, n, cols) in groups(self.panels.clone(), self.w.outputs(), lists.len() - 1) {
                        let upcoming = self.at(p + (1 << n), k);
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
                        for ((first, len), early) in cuts.iter().cloned() {
                            let next = upcoming.wrapping_add(early.start * PANEL);
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
                                    next,
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
    // It is asked for at every panel, where divisions would be felt.
    let strips = if count <= most { 1 } else { count.div_ceil(most) };
    let (each, more) = if strips == 1 { (count, 0) } else { (count / strips, count % strips) };
    (0..strips).map(move |i| (i * each + i.min(more), each + usize::from(i < more)))
}
