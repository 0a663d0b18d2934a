//! Instructions that work on each row by itself: kernels, products, lookups.

use super::cache::Place;
use super::constants::{Args, beyond};
use super::exec::{Chosen, Frame, ROWS};
use super::matrices::Matrices;
use super::{RowsEngine, broken, team};
use crate::error::Error;
use crate::memory;
use std::cell::RefCell;
use std::ops::DerefMut;
use std::ops::Range;
use std::sync::Arc;
use steer_compiler::kernel::ParamKind;
use steer_compiler::program::{BufId, Instr, KernelArg, KernelCall, LookupIndex};
use steer_kernels::{Packed, gemm, rows_at_once};

/// Below this many multiplications a product stays on one thread.
pub const ALONE: usize = 1 << 17;
/// Below this many floats a kernel stays on one thread.
pub const ALONE_FLOATS: usize = 1 << 14;

/// From so many rows a thread on, a product is shared row by row.
pub const MANY: usize = 96;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A pointer that threads may share: each writes to rows or columns of its own.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut f32);

// SAFETY: the users hand out disjoint parts.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub fn get(self) -> *mut f32 {
        self.0
    }
}

/// Calls `f` with scratch of at least `len` floats.
pub fn with_scratch<T>(len: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
    SCRATCH.with_borrow_mut(|s| {
        if s.len() < len {
            s.resize(len, 0.0);
        }
        f(s)
    })
}

pub fn run(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    if frame.count() == 0 && !super::reads_earlier(instr) {
        for b in written(engine, instr) {
            frame.buffers[b.0 as usize].show(0);
        }
        return Ok(());
    }
    match instr {
        Instr::Kernel(call) => kernel(engine, frame, place, call),
        Instr::Linear { x, y, extra, x_has_batch, active, .. } => {
            let w = matrix(engine, place)?;
            linear(engine, frame, &w, (*x, *y), *extra, *x_has_batch, *active)
        }
        Instr::Experts(experts) => super::exec_experts::experts(engine, frame, place, experts),
        Instr::Lookup { index, y, .. } => {
            let table = matrix(engine, place)?;
            lookup(engine, frame, &table, *index, *y)
        }
        Instr::Attention { .. } => super::exec_mix::attention(engine, frame, place, instr),
        Instr::Conv1d { .. } => super::exec_mix::conv1d(engine, frame, place, instr),
        Instr::Scan { .. } => super::exec_scan::scan(engine, frame, place, instr),
    }
}

pub fn matrix(engine: &RowsEngine, place: Place) -> Result<Arc<Matrices>, Error> {
    engine.constants.of(place).matrix.clone().ok_or_else(|| broken("a matrix was not loaded"))
}

fn written(engine: &RowsEngine, instr: &Instr) -> Vec<BufId> {
    match instr {
        Instr::Kernel(call) => outputs_of(engine, call),
        Instr::Linear { y, .. } | Instr::Lookup { y, .. } => vec![*y],
        Instr::Experts(experts) => vec![experts.y],
        _ => Vec::new(),
    }
}

fn outputs_of(engine: &RowsEngine, call: &KernelCall) -> Vec<BufId> {
    let params = &engine.program.kernels[call.kernel.0 as usize].params;
    let written = call.args.iter().zip(params).filter(|(_, p)| p.out);
    written.filter_map(|(a, _)| if let KernelArg::Buffer(b) = a { Some(*b) } else { None }).collect()
}

/// Makes a buffer as long as the rows need; what it held is of no matter.
pub fn room(engine: &RowsEngine, frame: &mut Frame, b: BufId) -> Result<*mut f32, Error> {
    let (rows, width) = (frame.count(), engine.program.buffers[b.0 as usize].len);
    let buffer = &mut frame.buffers[b.0 as usize];
    if buffer.len() != rows * width {
        frame.pool.give(std::mem::take(buffer));
        *buffer = frame.pool.take(rows, width, ROWS)?;
    }
    Ok(buffer.as_mut_ptr())
}

/// The pointers of a kernel's arguments; those of a body's own stay null. Nothing is made for `locals`.
pub fn pointers(
    engine: &RowsEngine,
    frame: &mut Frame,
    place: Place,
    call: &KernelCall,
    locals: &[BufId],
) -> Result<Vec<*mut f32>, Error> {
    pointers_with(engine, frame, &engine.constants.of(place).args, call, locals)
}

/// The same with these constants.
pub fn pointers_with(
    engine: &RowsEngine,
    frame: &mut Frame,
    fixed: &Args,
    call: &KernelCall,
    locals: &[BufId],
) -> Result<Vec<*mut f32>, Error> {
    for b in outputs_of(engine, call).into_iter().filter(|b| !locals.contains(b)) {
        room(engine, frame, b)?;
    }
    let params = &engine.program.kernels[call.kernel.0 as usize].params;
    call.args
        .iter()
        .zip(fixed)
        .zip(params)
        .map(|((arg, fixed), param)| {
            if let Some(values) = fixed {
                return Ok(values.as_ptr().cast_mut());
            }
            Ok(match arg {
                KernelArg::Buffer(b) => frame.buffers[b.0 as usize].as_mut_ptr(),
                KernelArg::Const(_) => return Err(broken("a constant was not loaded")),
                KernelArg::Table(t) => t.as_ptr().cast_mut(),
                KernelArg::Numbers(n) => n.as_ptr().cast_mut(),
                KernelArg::Token => frame.tokens.as_mut_ptr(),
                KernelArg::Position => frame.positions.as_mut_ptr(),
                KernelArg::Guard(e) => of_edit(frame.asked_mut(*e).map(|asked| &mut asked.guard))?,
                KernelArg::Params(e) => of_edit(frame.asked_mut(*e).map(|asked| &mut asked.params))?,
                KernelArg::Donor(_) if param.kind == ParamKind::Body => std::ptr::null_mut(),
                KernelArg::Donor(e) => of_edit(frame.donors.get_mut(e))?,
                KernelArg::Receipt(e) => of_edit(frame.asked_mut(*e).map(|asked| &mut asked.receipts))?,
                KernelArg::Body(_) | KernelArg::Result(_) | KernelArg::FirstKey => std::ptr::null_mut(),
            })
        })
        .collect()
}

fn of_edit(v: Option<&mut impl DerefMut<Target = [f32]>>) -> Result<*mut f32, Error> {
    v.map(|v| v.as_mut_ptr()).ok_or_else(|| broken("an edit acts in a stretch that does not begin with it"))
}

fn kernel(engine: &RowsEngine, frame: &mut Frame, place: Place, call: &KernelCall) -> Result<(), Error> {
    let pointers: Vec<Shared> = pointers(engine, frame, place, call, &[])?.into_iter().map(Shared).collect();
    let n = frame.count();
    let scratch = engine.kernels.scratch_len(call.kernel, 1);
    let width: usize = outputs_of(engine, call).iter().map(|b| engine.program.buffers[b.0 as usize].len).sum();
    let run = |rows: Range<usize>| {
        with_scratch(scratch, |s| {
            let args: Vec<*mut f32> = pointers.iter().map(|p| p.get()).collect();
            // SAFETY: one pointer a parameter, valid for all rows of the frame; each call has rows of its own.
            unsafe { engine.kernels.call(call.kernel, &args, rows, 1, s) };
        });
    };
    split(n, n * width >= ALONE_FLOATS, run);
    Ok(())
}

/// Runs `f` on ranges that together are `0..n`, on all threads where it is worth it.
pub fn split(n: usize, worth: bool, f: impl Fn(Range<usize>) + Sync) {
    let threads = rayon::current_num_threads();
    if !worth || threads == 1 || n < 2 {
        return f(0..n);
    }
    let chunk = n.div_ceil(threads * 2).max(1);
    team::each(n.div_ceil(chunk), |i| f(i * chunk..((i + 1) * chunk).min(n)));
}

/// [`split`], in places that are multiples of `by`.
fn split_by(n: usize, by: usize, f: impl Fn(Range<usize>) + Sync) {
    let threads = rayon::current_num_threads();
    let parts = if threads == 1 { 1 } else { 2 * threads };
    let place = |i: usize| if i == parts { n } else { ((n * i / parts + by / 2) / by * by).min(n) };
    team::each(parts, |i| {
        if place(i) < place(i + 1) {
            f(place(i)..place(i + 1));
        }
    });
}

/// `packed` has one matrix for each batch entry.
fn linear(
    engine: &RowsEngine,
    frame: &mut Frame,
    packed: &Matrices,
    (x, y): (BufId, BufId),
    extra: usize,
    x_has_batch: bool,
    active: Option<BufId>,
) -> Result<(), Error> {
    let (batch, n) = (packed.len(), frame.count());
    let out = room(engine, frame, y)?;
    let xs = &frame.buffers[x.0 as usize][..];
    let (inner, outer) = (packed.inputs(), packed.outputs());
    let rows = n * extra;
    let x_stride = if x_has_batch { batch * inner } else { inner };
    let y_stride = batch * outer;
    if let Some(a) = active {
        let flags = &frame.buffers[a.0 as usize];
        // SAFETY: `out` holds every row of `y`.
        unsafe { std::ptr::write_bytes(out, 0, rows * y_stride) };
        let (mut operations, mut matrices) = (0, 0);
        for b in 0..batch {
            let chosen: Vec<usize> = (0..rows).filter(|&r| flags[(r / extra) * batch + b] != 0.0).collect();
            if chosen.is_empty() {
                continue;
            }
            let w = packed.get(b)?;
            let offset = if x_has_batch { b * inner } else { 0 };
            let mut gathered = memory::room(chosen.len() * inner, ROWS)?;
            for &r in &chosen {
                gathered.extend_from_slice(&xs[r * x_stride + offset..r * x_stride + offset + inner]);
            }
            let mut results = memory::zeros(chosen.len() * outer, ROWS)?;
            product(engine, &gathered, inner, chosen.len(), w, results.as_mut_ptr(), outer);
            operations += 2 * (chosen.len() * inner * outer) as u64;
            matrices += 1;
            for (&r, result) in chosen.iter().zip(results.chunks_exact(outer)) {
                // SAFETY: row `r`, entry `b` of `y`.
                unsafe { std::ptr::copy_nonoverlapping(result.as_ptr(), out.add(r * y_stride + b * outer), outer) };
            }
        }
        frame.chosen = Some(Chosen { operations, matrices });
        return Ok(());
    }
    for b in 0..batch {
        let w = packed.get(b)?;
        let offset = if x_has_batch { b * inner } else { 0 };
        // SAFETY: entry `b` of every row of `y` lies within `out`.
        product(engine, &xs[offset..], x_stride, rows, w, unsafe { out.add(b * outer) }, y_stride);
    }
    Ok(())
}

/// One product, shared by the threads row by row where there are many, so that rows are packed once, else column
/// by column, so that weights are read once. Each output is one thread's either way, summed in the same order.
pub fn product(engine: &RowsEngine, x: &[f32], x_stride: usize, rows: usize, w: &Packed, y: *mut f32, y_stride: usize) {
    let y = Shared(y);
    let worth = rows * w.inputs() * w.outputs() >= ALONE;
    if worth && rows >= rayon::current_num_threads() * MANY {
        return split_by(rows, rows_at_once(engine.arithmetic(), w), |part| {
            // SAFETY: `y` holds all rows; each call writes rows of its own.
            unsafe {
                let to = y.get().add(part.start * y_stride);
                gemm(
                    engine.arithmetic(),
                    &x[part.start * x_stride..],
                    x_stride,
                    part.len(),
                    w,
                    0..w.panels(),
                    to,
                    y_stride,
                );
            }
        });
    }
    split(w.panels(), worth, |panels| {
        // SAFETY: `y` holds all rows; each call writes the columns of its own panels.
        unsafe { gemm(engine.arithmetic(), x, x_stride, rows, w, panels, y.get(), y_stride) };
    });
}

fn lookup(engine: &RowsEngine, frame: &mut Frame, table: &Matrices, index: LookupIndex, y: BufId) -> Result<(), Error> {
    let n = frame.count();
    let out = room(engine, frame, y)?;
    let indices: &[f32] = match index {
        LookupIndex::Token => &frame.tokens,
        LookupIndex::Position => &frame.positions,
        LookupIndex::Buffer(b) => &frame.buffers[b.0 as usize],
    };
    let table = table.get(0)?;
    for (j, &i) in indices.iter().take(n).enumerate() {
        if !(i >= 0.0 && (i as usize) < table.outputs()) {
            return Err(beyond(i, table.outputs(), index == LookupIndex::Position));
        }
        // SAFETY: row `j` of `y`.
        let row = unsafe { std::slice::from_raw_parts_mut(out.add(j * table.inputs()), table.inputs()) };
        table.copy_row(i as usize, row);
    }
    Ok(())
}
