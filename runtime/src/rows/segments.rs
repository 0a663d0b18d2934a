//! Instructions that follow one another and work on each row by itself. Where there are many rows they are executed
//! together, some rows at a time, so that what one gives is still near when the next reads it, and threads meet
//! once and not after each.

use super::exec::{Frame, ROWS};
use super::exec_instr::{MANY, Shared, matrix, pointers, room, with_scratch};
use super::matrices::Matrices;
use super::{RowsEngine, broken, team};
use crate::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use steer_compiler::program::{BufId, Instr, KernelArg, KernelId, Stretch};
use steer_kernels::{Area, gemm};

/// Rows that a thread takes through all instructions, as measured: two passes of the product kernels.
const BLOCK: usize = 280;

/// The instructions of a stretch in order, those together that work row by row.
pub fn segments(stretch: &Stretch) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut open = false;
    for (i, instr) in stretch.instrs.iter().enumerate() {
        let by_row = matches!(instr, Instr::Kernel(_) | Instr::Linear { active: None, .. });
        match out.last_mut() {
            Some(last) if open && by_row => last.end = i + 1,
            _ => out.push(i..i + 1),
        }
        open = by_row;
    }
    out
}

/// Where the rows of a value are.
#[derive(Clone, Copy)]
enum Rows {
    /// All rows of the frame.
    All(Shared),
    /// As many rows of this length as a block has, for each thread.
    Block(Shared, usize),
}

impl Rows {
    /// Where the frame's first row is or would be, for a thread whose block begins with this row.
    fn first(self, thread: usize, row: usize) -> *mut f32 {
        match self {
            Rows::All(at) => at.get(),
            Rows::Block(at, len) => at.get().wrapping_add(thread * BLOCK * len).wrapping_sub(row * len),
        }
    }
}

/// What is done to a block of rows.
enum Task {
    Kernel { kernel: KernelId, args: Vec<Rows>, scratch: usize },
    Product { x: Rows, y: Rows, weights: Arc<Matrices>, extra: usize, x_has_batch: bool },
}

/// Executes a segment block by block; false where it is better executed one instruction after another. The threads add
/// to `times` the nanoseconds that each instruction takes them, where there are any.
pub fn run(
    engine: &RowsEngine,
    frame: &mut Frame,
    (s, segment): (usize, Range<usize>),
    stretch: &Stretch,
    times: &[AtomicU64],
) -> Result<bool, Error> {
    let (n, threads) = (frame.count(), rayon::current_num_threads());
    if segment.len() < 2 || n < threads * MANY {
        return Ok(false);
    }
    // What nothing else reads needs no more than a block has.
    let locals = engine.lives.locals(s, segment.start);
    let mut blocks: Vec<Area> = Vec::with_capacity(locals.len());
    for b in locals {
        blocks.push(frame.pool.take(threads * BLOCK, engine.program.buffers[b.0 as usize].len, ROWS)?);
    }
    let local = |b: BufId| {
        let at = locals.iter().position(|l| *l == b)?;
        Some(Rows::Block(Shared(blocks[at].as_ptr().cast_mut()), engine.program.buffers[b.0 as usize].len))
    };
    let mut tasks = Vec::with_capacity(segment.len());
    for i in segment {
        tasks.push(match &stretch.instrs[i] {
            Instr::Kernel(call) => {
                let pointers = pointers(engine, frame, (s, i), call, locals)?;
                let rows = |(arg, at): (&KernelArg, *mut f32)| match arg {
                    KernelArg::Buffer(b) => local(*b).unwrap_or(Rows::All(Shared(at))),
                    _ => Rows::All(Shared(at)),
                };
                Task::Kernel {
                    kernel: call.kernel,
                    args: call.args.iter().zip(pointers).map(rows).collect(),
                    scratch: engine.kernels.scratch_len(call.kernel, 1),
                }
            }
            Instr::Linear { x, y, extra, x_has_batch, .. } => {
                let out = match local(*y) {
                    Some(local) => local,
                    None => Rows::All(Shared(room(engine, frame, *y)?)),
                };
                let all = Rows::All(Shared(frame.buffers[x.0 as usize].as_mut_ptr()));
                let weights = matrix(engine, (s, i))?;
                (0..weights.len()).try_for_each(|b| weights.get(b).map(|_| ()))?;
                Task::Product { x: local(*x).unwrap_or(all), y: out, weights, extra: *extra, x_has_batch: *x_has_batch }
            }
            _ => return Err(broken("an instruction among those that work row by row")),
        });
    }
    let block = BLOCK.min(n.div_ceil(threads));
    team::each(n.div_ceil(block), |b| {
        let thread = team::index();
        let rows = b * block..((b + 1) * block).min(n);
        for (i, task) in tasks.iter().enumerate() {
            let clock = times.get(i).map(|time| (time, Instant::now()));
            task.run(engine, thread, rows.clone());
            if let Some((time, clock)) = clock {
                time.fetch_add(clock.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
        }
    });
    blocks.into_iter().for_each(|b| frame.pool.give(b));
    Ok(true)
}

impl Task {
    /// Nobody else has these rows meanwhile.
    fn run(&self, engine: &RowsEngine, thread: usize, rows: Range<usize>) {
        match self {
            Task::Kernel { kernel, args, scratch } => with_scratch(*scratch, |scratch| {
                let args: Vec<*mut f32> = args.iter().map(|p| p.first(thread, rows.start)).collect();
                // SAFETY: one pointer a parameter, valid for these rows of the frame; each call has rows of its own.
                unsafe { engine.kernels.call(*kernel, &args, rows, 1, scratch) };
            }),
            Task::Product { x, y, weights, extra, x_has_batch } => {
                let (inner, outer) = (weights.inputs(), weights.outputs());
                let x_stride = if *x_has_batch { weights.len() * inner } else { inner };
                let y_stride = weights.len() * outer;
                let (first, count) = (rows.start * extra, rows.len() * extra);
                let (x, y) = (x.first(thread, rows.start), y.first(thread, rows.start));
                // None is read here: these products need all of them.
                for (b, w) in (0..weights.len()).filter_map(|b| Some((b, weights.get(b).ok()?))) {
                    let offset = if *x_has_batch { b * inner } else { 0 };
                    // SAFETY: `x` and `y` hold these rows, which nobody else reads or writes.
                    unsafe {
                        let from = x.wrapping_add(first * x_stride + offset);
                        let from = std::slice::from_raw_parts(from, (count - 1) * x_stride + inner);
                        let to = y.wrapping_add(first * y_stride + b * outer);
                        gemm(engine.arithmetic(), from, x_stride, count, w, 0..w.panels(), to, y_stride);
                    }
                }
            }
        }
    }
}
