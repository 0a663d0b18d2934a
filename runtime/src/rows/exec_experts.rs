//! Sums over experts: rows are grouped by the experts that they chose, each expert takes its rows through its products
//! at once, and only what was chosen is stored or read.

use super::cache::Place;
use super::constants::Args;
use super::exec::{Chosen, Frame, ROWS};
use super::exec_instr::{ALONE_FLOATS, Shared, pointers_with, product, room, split, with_scratch};
use super::matrices::Matrices;
use super::{RowsEngine, broken, team};
use crate::error::Error;
use std::ops::Range;
use std::sync::Arc;
use steer_compiler::program::{Experts, KernelArg, OfExpert};
use steer_kernels::sum::{Leaf, sum_of};
use steer_kernels::{Area, gemm};

/// The rows of one expert among all pairs of a row and an expert that it chose.
struct Group {
    expert: usize,
    rows: Vec<u32>,
    /// Its first pair.
    first: usize,
}

/// Where the values of pairs are.
struct Pairs {
    x: Shared,
    first: Vec<Shared>,
    made: Shared,
    second: Shared,
    /// What is summed: the products of `second`, or what is made of them.
    out: Shared,
}

/// A kernel for pairs, with its arguments.
struct Kernel<'a> {
    of: &'a OfExpert,
    base: Vec<Shared>,
    /// By expert, so many numbers each.
    constants: Vec<(&'a [f32], usize)>,
}

impl<'a> Kernel<'a> {
    fn new(
        engine: &RowsEngine,
        frame: &mut Frame,
        of: &'a OfExpert,
        (args, constants): &'a (Args, Vec<Arc<Vec<f32>>>),
        experts: usize,
    ) -> Result<Self, Error> {
        let base = pointers_with(engine, frame, args, &of.call, &[])?.into_iter().map(Shared).collect();
        let constants = constants.iter().map(|c| (c.as_slice(), c.len() / experts.max(1))).collect();
        Ok(Kernel { of, base, constants })
    }

    /// For pairs of one expert: `from` are products and `to` the results, each with its width.
    fn run(
        &self,
        engine: &RowsEngine,
        expert: usize,
        from: &[(Shared, usize)],
        to: (Shared, usize),
        pairs: Range<usize>,
    ) {
        let call = &self.of.call;
        let scratch = engine.kernels.scratch_len(call.kernel, 1);
        let own = |i: usize, pair: usize| match from.get(i) {
            Some((at, width)) => Some(at.get().wrapping_add(pair * width)),
            None => {
                let (numbers, width) = self.constants.get(i - from.len())?;
                Some(numbers.get(expert * width..)?.as_ptr().cast_mut())
            }
        };
        with_scratch(scratch, |scratch| {
            let mut args: Vec<*mut f32> = self.base.iter().map(|p| p.get()).collect();
            for pair in pairs {
                for (at, arg) in args.iter_mut().zip(&call.args) {
                    match arg {
                        KernelArg::Body(i) => *at = own(*i as usize, pair).unwrap_or(*at),
                        KernelArg::Result(_) => *at = to.0.get().wrapping_add(pair * to.1),
                        _ => {}
                    }
                }
                // SAFETY: one pointer a parameter; the pair is this call's own.
                unsafe { engine.kernels.call(call.kernel, &args, 0..1, 1, scratch) };
            }
        });
    }
}

/// The pairs that rows take memory for, for each of them: more than models choose. Rows that chose more, as edits may
/// make them, are worked on in several turns.
pub fn pairs_of_row(experts: usize) -> usize {
    experts.div_ceil(4).max(2).min(experts)
}

pub fn experts(engine: &RowsEngine, frame: &mut Frame, place: Place, experts: &Experts) -> Result<(), Error> {
    let y = Shared(room(engine, frame, experts.y)?);
    let fixed = engine.constants.of(place);
    let (Some(second), first) = (fixed.experts.last(), &fixed.experts[..experts.first.len()]) else {
        return Err(broken("the matrices of experts were not loaded"));
    };
    let (n, count) = (frame.count(), second.len());
    let kernels = experts.kernels().zip(&fixed.of_expert);
    let kernels =
        kernels.map(|(of, fixed)| Kernel::new(engine, frame, of, fixed, count)).collect::<Result<Vec<_>, _>>()?;
    let gates = &frame.buffers[experts.gates.0 as usize];
    // By row: the experts that it chose, with their gates.
    let of = |row: &[f32]| row.iter().copied().enumerate().filter(|(_, gate)| *gate != 0.0).collect();
    let chosen: Vec<Vec<(usize, f32)>> = gates.chunks_exact(count).map(of).collect();
    let most = n * pairs_of_row(count);
    let mut start = 0;
    let mut all = 0;
    while start < n {
        let (mut end, mut pairs) = (start, 0);
        while end < n && (pairs == 0 || pairs + chosen[end].len() <= most) {
            pairs += chosen[end].len();
            end += 1;
        }
        let rows = Turn { start, chosen: &chosen[start..end], pairs };
        turn(engine, frame, experts, (first, second), &kernels, rows, y)?;
        (start, all) = (end, all + pairs);
    }
    let inner: usize = first.iter().map(|w| w.inputs() * w.outputs()).sum();
    let mut some: Vec<bool> = vec![false; count];
    chosen.iter().flatten().for_each(|(expert, _)| some[*expert] = true);
    frame.chosen = Some(Chosen {
        operations: 2 * (all * (inner + second.inputs() * second.outputs())) as u64,
        matrices: some.iter().filter(|s| **s).count() as u64,
    });
    Ok(())
}

/// Rows that are worked on together.
struct Turn<'a> {
    start: usize,
    chosen: &'a [Vec<(usize, f32)>],
    pairs: usize,
}

fn turn(
    engine: &RowsEngine,
    frame: &mut Frame,
    experts: &Experts,
    (first, second): (&[Arc<Matrices>], &Matrices),
    kernels: &[Kernel],
    turn: Turn,
    y: Shared,
) -> Result<(), Error> {
    let mut rows_of: Vec<Vec<u32>> = vec![Vec::new(); second.len()];
    for (r, chosen) in turn.chosen.iter().enumerate() {
        chosen.iter().for_each(|(expert, _)| rows_of[*expert].push((turn.start + r) as u32));
    }
    // By row: its results, in the order of the experts.
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); turn.chosen.len()];
    let mut groups: Vec<Group> = Vec::new();
    let mut pairs = 0;
    for (expert, rows) in rows_of.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        for (i, r) in rows.iter().enumerate() {
            places[*r as usize - turn.start].push(pairs + i);
        }
        let group = Group { expert, first: pairs, rows };
        pairs += group.rows.len();
        groups.push(group);
    }
    let (d, made, out) = (first.first().map_or(0, |w| w.inputs()), second.inputs(), second.outputs());
    let [between, after @ ..] = kernels else { return Err(broken("experts without a kernel")) };
    let after = after.first();
    let mut widths: Vec<usize> = [d, made, out].into_iter().chain(first.iter().map(|w| w.outputs())).collect();
    widths.extend(after.map(|_| out));
    let mut areas: Vec<Area> = Vec::with_capacity(widths.len());
    // In sizes that come again, whatever rows choose.
    let room = turn.pairs.next_multiple_of(turn.chosen.len().max(1));
    for width in widths {
        areas.push(frame.pool.take(room, width, ROWS)?);
    }
    let at: Vec<Shared> = areas.iter_mut().map(|a| Shared(a.as_mut_ptr())).collect();
    let layer = Layer {
        engine,
        matrices: (first, second),
        between,
        after,
        pairs: Pairs {
            x: at[0],
            made: at[1],
            second: at[2],
            first: at[3..3 + first.len()].to_vec(),
            out: if after.is_some() { at[3 + first.len()] } else { at[2] },
        },
        x: Shared(frame.buffers[experts.x.0 as usize].as_mut_ptr()),
    };
    layer.run(&groups)?;
    // The sum over all experts, of which those not chosen add zeros.
    let results = layer.pairs.out;
    split(turn.chosen.len(), pairs * out >= ALONE_FLOATS, |rows| {
        let mut leaves: Vec<Leaf> = Vec::new();
        for r in rows {
            let leaf = |(chosen, pair): (&(usize, f32), &usize)| {
                let (at, by) = *chosen;
                Leaf { at, by, row: results.get().wrapping_add(pair * out) }
            };
            leaves.clear();
            leaves.extend(turn.chosen[r].iter().zip(&places[r]).map(leaf));
            // SAFETY: row `start + r` of `y` is this call's own; each pair has `out` results.
            unsafe { sum_of(engine.isa, y.get().add((turn.start + r) * out), &mut leaves, out) };
        }
    });
    areas.into_iter().for_each(|a| frame.pool.give(a));
    Ok(())
}

struct Layer<'a> {
    engine: &'a RowsEngine,
    matrices: (&'a [Arc<Matrices>], &'a Matrices),
    between: &'a Kernel<'a>,
    after: Option<&'a Kernel<'a>>,
    pairs: Pairs,
    x: Shared,
}

impl Layer<'_> {
    /// An expert to a thread where there are enough of them; else the threads share the products of each.
    fn run(&self, groups: &[Group]) -> Result<(), Error> {
        // They are read here, with all threads that reading takes: a part must not wait for others.
        let (first, second) = self.matrices;
        for w in first.iter().map(|w| &**w).chain([second]) {
            groups.iter().try_for_each(|g| w.get(g.expert).map(|_| ()))?;
        }
        let threads = rayon::current_num_threads();
        if threads > 1 && groups.len() >= 2 * threads {
            // The longest first, so that no thread is left with one at the end.
            let mut order: Vec<&Group> = groups.iter().collect();
            order.sort_by_key(|g| std::cmp::Reverse(g.rows.len()));
            return team::try_each(order.len(), |i| self.expert(order[i], false));
        }
        groups.iter().try_for_each(|g| self.expert(g, true))
    }

    fn expert(&self, group: &Group, shared: bool) -> Result<(), Error> {
        let (first, second) = self.matrices;
        let (n, from) = (group.rows.len(), group.first);
        let part = |at: Shared, width: usize| at.get().wrapping_add(from * width);
        let d = first.first().map_or(0, |w| w.inputs());
        let x = part(self.pairs.x, d);
        for (i, row) in group.rows.iter().enumerate() {
            // SAFETY: a row of the frame, and a pair of this group.
            unsafe { std::ptr::copy_nonoverlapping(self.x.get().add(*row as usize * d), x.add(i * d), d) };
        }
        let multiply = |x: *const f32, width: usize, w: &Matrices, y: *mut f32| -> Result<(), Error> {
            let (w, to) = (w.get(group.expert)?, w.outputs());
            // SAFETY: the rows of this group, which nobody else writes to.
            let x = unsafe { std::slice::from_raw_parts(x, n * width) };
            match shared {
                true => product(self.engine, x, width, n, w, y, to),
                // SAFETY: as above.
                false => unsafe { gemm(self.engine.arithmetic(), x, width, n, w, 0..w.panels(), y, to) },
            }
            Ok(())
        };
        for (w, y) in first.iter().zip(&self.pairs.first) {
            multiply(x, d, w, part(*y, w.outputs()))?;
        }
        let products: Vec<(Shared, usize)> =
            self.pairs.first.iter().zip(first).map(|(at, w)| (*at, w.outputs())).collect();
        let apply = |kernel: &Kernel, products: &[(Shared, usize)], to: (Shared, usize)| {
            split(n, shared && n * to.1 >= ALONE_FLOATS, |rows| {
                kernel.run(self.engine, group.expert, products, to, from + rows.start..from + rows.end);
            });
        };
        let (inner, out) = (second.inputs(), second.outputs());
        apply(self.between, &products, (self.pairs.made, inner));
        multiply(part(self.pairs.made, inner), inner, second, part(self.pairs.second, out))?;
        if let Some(after) = self.after {
            apply(after, &[(self.pairs.second, out)], (self.pairs.out, out));
        }
        Ok(())
    }
}
