//! Products of few rows. Those that follow one another and do not read each other's results are executed at once: the
//! threads share all of their weights, and meet once and not after each.

use super::exec::Frame;
use super::exec_instr::{ALONE, MANY, Shared, room};
use super::{RowsEngine, broken, team};
use crate::error::Error;
use std::ops::Range;
use steer_compiler::program::{BufId, Instr};
use steer_kernels::{PANEL, Packed, WholeRows, gemm, gemm_whole};

/// One product: of all rows with one matrix.
struct Job<'a> {
    w: &'a Packed,
    x: &'a [f32],
    x_stride: usize,
    rows: usize,
    /// Which of the rows of whole numbers it reads in place of `x`.
    whole: Option<usize>,
    y: Shared,
    y_stride: usize,
}

impl Job<'_> {
    fn run(&self, engine: &RowsEngine, wholes: &[WholeRows], panels: Range<usize>) {
        let (w, y, y_stride) = (self.w, self.y.get(), self.y_stride);
        // SAFETY: `y` holds all rows; each call writes the columns of its own panels.
        unsafe {
            match self.whole {
                Some(i) => gemm_whole(engine.isa, &wholes[i], w, panels, y, y_stride),
                None => gemm(engine.arithmetic(), self.x, self.x_stride, self.rows, w, panels, y, y_stride),
            }
        };
    }
}

/// How many instructions from the first on are products that do not read each other's results.
pub fn independent(instrs: &[Instr]) -> usize {
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

/// How threads share products: each takes a large part first, and those that are done with theirs small ones.
pub struct Cut {
    total: usize,
    threads: usize,
}

impl Cut {
    pub fn of<'w>(matrices: impl Iterator<Item = &'w Packed>, rows: usize) -> Cut {
        let total: usize = matrices.map(Cut::cost).sum();
        let threads = if total * PANEL * rows < ALONE { 1 } else { rayon::current_num_threads() };
        Cut { total, threads }
    }

    /// The weights of a matrix that are read, but for the sixteen of each panel and input.
    fn cost(w: &Packed) -> usize {
        w.panels() * w.inputs()
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    fn count(&self) -> usize {
        if self.threads == 1 { 1 } else { 3 * self.threads }
    }

    /// The panels of each matrix that a part has: those that begin in its share of the cost.
    pub fn part<'w>(&self, i: usize, matrices: impl Iterator<Item = &'w Packed>) -> impl Iterator<Item = Range<usize>> {
        let mut rest = self.share(i);
        matrices.map(move |w| {
            let at = |cost: usize| cost.div_ceil(w.inputs()).min(w.panels());
            let (panels, cost) = (at(rest.start)..at(rest.end), Cut::cost(w));
            rest = rest.start.saturating_sub(cost)..rest.end.saturating_sub(cost);
            panels
        })
    }

    /// The cost of the matrices one after another that a part has.
    fn share(&self, i: usize) -> Range<usize> {
        let (total, n) = (self.total, self.threads);
        // Three quarters in large parts.
        let at = |part: usize| match n {
            1 => total * part,
            _ if part <= n => total * 6 * part / (8 * n),
            _ => total * (5 * n + part) / (8 * n),
        };
        at(i)..at(i + 1)
    }
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
    // Rows become whole numbers once for all products that read them.
    let (mut whole_of, mut wholes) = (Vec::new(), Vec::new());
    for (i, (instr, out)) in instrs[..count].iter().zip(outs).enumerate() {
        let Instr::Linear { x, extra, x_has_batch, .. } = instr else { continue };
        let fixed = engine.constants.of((s, first + i)).matrix.as_deref();
        let all = fixed.ok_or_else(|| broken("a matrix was not loaded"))?;
        let (inner, outer) = (all.inputs(), all.outputs());
        let (x_batch, x_stride) = if *x_has_batch { (inner, all.len() * inner) } else { (0, inner) };
        for b in 0..all.len() {
            let (w, rows) = (all.get(b)?, n * extra);
            let x = &frame.buffers[x.0 as usize][b * x_batch..];
            let whole = (rows <= WholeRows::most(engine.arithmetic(), w)).then(|| {
                let read = (x.as_ptr(), x_stride, rows, inner);
                let known = whole_of.iter().position(|r| *r == read);
                known.unwrap_or_else(|| {
                    whole_of.push(read);
                    wholes.push(WholeRows::of(engine.isa, x, x_stride, rows, inner));
                    wholes.len() - 1
                })
            });
            let y = Shared(out.get().wrapping_add(b * outer));
            jobs.push(Job { w, x, x_stride, rows, whole, y, y_stride: all.len() * outer });
        }
    }
    let cut = Cut::of(jobs.iter().map(|j| j.w), most.unwrap_or(0));
    engine.ahead.tell(engine, (s, first + count));
    let part = |i: usize| {
        for (job, panels) in jobs.iter().zip(cut.part(i, jobs.iter().map(|job| job.w))) {
            job.run(engine, &wholes, panels);
        }
    };
    team::each(cut.count(), part);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::Cut;
    use steer_kernels::Packed;

    #[test]
    fn parts_have_every_panel_once() {
        for threads in [1, 2, 3, 7, 64] {
            for sizes in [&[(50257, 8)][..], &[(896, 896), (128, 896), (128, 896)], &[(16, 3), (80, 5), (1, 1)]] {
                let all: Vec<Packed> = sizes.iter().map(|(out, inner)| Packed::with_shape(*out, *inner)).collect();
                let cut = Cut { total: all.iter().map(Cut::cost).sum(), threads };
                let mut seen: Vec<Vec<u32>> = all.iter().map(|w| vec![0; w.panels()]).collect();
                for i in 0..cut.count() {
                    for (panels, seen) in cut.part(i, all.iter()).zip(&mut seen) {
                        seen[panels].iter_mut().for_each(|n| *n += 1);
                    }
                }
                assert!(seen.iter().flatten().all(|n| *n == 1), "{threads} threads, {sizes:?}: {seen:?}");
            }
        }
    }
}
