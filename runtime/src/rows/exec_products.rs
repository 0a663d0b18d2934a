//! Products of few rows. Those that follow one another and do not read each other's results are executed at once: the
//! threads share all of their weights, and meet once and not after each.

use super::exec::Frame;
use super::exec_instr::{ALONE, MANY, Shared, room};
use super::{RowsEngine, broken, team};
use crate::error::Error;
use std::ops::Range;
use steer_compiler::program::{BufId, Instr};
use steer_kernels::{PANEL, Packed, gemm};

/// One product: of all rows with one matrix.
struct Job<'a> {
    w: &'a Packed,
    x: &'a [f32],
    x_stride: usize,
    rows: usize,
    y: Shared,
    y_stride: usize,
}

impl Job<'_> {
    /// Weights that are read, but for the sixteen of each panel and input.
    fn cost(&self) -> usize {
        self.w.panels() * self.w.inputs()
    }

    /// The panels that begin in a part of the cost.
    fn panels(&self, part: Range<usize>) -> Range<usize> {
        let at = |cost: usize| cost.div_ceil(self.w.inputs()).min(self.w.panels());
        at(part.start)..at(part.end)
    }

    fn run(&self, engine: &RowsEngine, panels: Range<usize>) {
        // SAFETY: `y` holds all rows; each call writes the columns of its own panels.
        unsafe {
            gemm(engine.arithmetic(), self.x, self.x_stride, self.rows, self.w, panels, self.y.get(), self.y_stride)
        };
    }
}

/// How many instructions from the first on are products that do not read each other's results.
fn independent(instrs: &[Instr]) -> usize {
    let mut written: Vec<BufId> = Vec::new();
    let apart = |instr: &&Instr| match instr {
        Instr::Linear { x, y, active: None, .. } if !written.contains(x) => {
            written.push(*y);
            true
        }
        _ => false,
    };
    instrs.iter().take_while(apart).count()
}

/// Products are cut into so many parts.
fn count_parts(work: usize, threads: usize) -> usize {
    if work < ALONE || threads == 1 { 1 } else { 2 * threads }
}

/// Has the threads that wait ask for the weights of the next products from a place on; where those are, unless it is
/// `last`.
pub fn ahead(engine: &RowsEngine, frame: &Frame, (s, i): (usize, usize), instrs: &[Instr], last: usize) -> usize {
    let is_product = |instr: &Instr| matches!(instr, Instr::Linear { active: None, .. });
    let Some(first) = (i..instrs.len()).find(|i| is_product(&instrs[*i])).filter(|first| *first != last) else {
        return last;
    };
    let threads = rayon::current_num_threads();
    let all =
        (first..first + independent(&instrs[first..])).filter_map(|i| engine.constants.of((s, i)).matrix.as_deref());
    let all: Vec<&Packed> = all.flat_map(|m| (0..m.len()).filter_map(|b| m.get(b).ok())).collect();
    let cost = |w: &&Packed| w.panels() * w.inputs();
    let total: usize = all.iter().map(cost).sum();
    let parts = count_parts(total * PANEL * frame.count(), threads);
    team::ahead((0..threads.min(parts)).filter_map(|part| {
        let mut rest = total * part / parts;
        let w = all.iter().find(|w| {
            let here = rest < cost(w);
            rest -= if here { 0 } else { cost(w) };
            here
        })?;
        Some(w.as_slice().as_ptr().cast::<u8>().wrapping_add(rest / w.inputs() * w.panel_bytes()))
    }));
    first
}

/// Executes the products that come first among the instructions from a place on; how many they were, 0 where they are
/// better executed one by one.
pub fn run(
    engine: &RowsEngine,
    frame: &mut Frame,
    (s, first): (usize, usize),
    instrs: &[Instr],
) -> Result<usize, Error> {
    let (n, count) = (frame.count(), independent(instrs));
    let threads = rayon::current_num_threads();
    let most = instrs[..count].iter().map(|i| if let Instr::Linear { extra, .. } = i { n * extra } else { 0 }).max();
    if n == 0 || most.is_none_or(|rows| rows >= threads * MANY) {
        return Ok(0);
    }
    let mut outs = Vec::with_capacity(count);
    for instr in &instrs[..count] {
        let Instr::Linear { y, .. } = instr else { return Err(broken("an instruction among products")) };
        outs.push(Shared(room(engine, frame, *y)?));
    }
    let mut jobs: Vec<Job> = Vec::with_capacity(count);
    for (i, (instr, out)) in instrs[..count].iter().zip(outs).enumerate() {
        let Instr::Linear { x, extra, x_has_batch, .. } = instr else { continue };
        let fixed = engine.constants.of((s, first + i)).matrix.as_deref();
        let all = fixed.ok_or_else(|| broken("a matrix was not loaded"))?;
        let (inner, outer) = (all.inputs(), all.outputs());
        let (x_batch, x_stride) = if *x_has_batch { (inner, all.len() * inner) } else { (0, inner) };
        for b in 0..all.len() {
            jobs.push(Job {
                w: all.get(b)?,
                x: &frame.buffers[x.0 as usize][b * x_batch..],
                x_stride,
                rows: n * extra,
                y: Shared(out.get().wrapping_add(b * outer)),
                y_stride: all.len() * outer,
            });
        }
    }
    let total: usize = jobs.iter().map(Job::cost).sum();
    let work: usize = jobs.iter().map(|j| j.cost() * PANEL * j.rows).sum();
    let parts = count_parts(work, threads);
    let part = |i: usize| {
        let mut rest = total * i / parts..total * (i + 1) / parts;
        for job in &jobs {
            job.run(engine, job.panels(rest.clone()));
            let cost = job.cost();
            rest = rest.start.saturating_sub(cost)..rest.end.saturating_sub(cost);
        }
    };
    team::each(parts, part);
    Ok(count)
}
