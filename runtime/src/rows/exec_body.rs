//! The bodies of instructions, and attention whose scores or pattern something edits or reads.

use super::cache::Place;
use super::exec::{Frame, slots};
use super::exec_instr::{Shared, pointers, with_scratch};
use super::exec_mix::Cached;
use super::given::Given;
use super::share::NewRow;
use super::{RowsEngine, team};
use crate::error::Error;
use std::ops::Range;
use std::sync::OnceLock;
use steer_compiler::program::{Body, KernelArg};
use steer_kernels::Binary;
use steer_kernels::attention::{Heads, Row};
use steer_kernels::rows::binary_vs;

/// The results of a body for one row, but those that are its owner's.
pub type Results = Vec<(u32, Vec<f32>)>;

/// Calls the body for one row. `own` says where the owner's values of that row are.
pub fn call(
    engine: &RowsEngine,
    body: &Body,
    given: &Given,
    base: &[Shared],
    (j, keys): (usize, usize),
    own: &mut dyn FnMut(&KernelArg) -> Option<*mut f32>,
) -> Results {
    let len = |node| engine.plan.ty(node).len_with(keys);
    let mut kept: Results = body.outputs.iter().map(|(r, node)| (*r, vec![0.0; len(*node)])).collect();
    // What no row takes is computed all the same, and dropped.
    let mut dropped = Vec::new();
    let mut spare = 0;
    for patch in &body.patches {
        if kept.iter().any(|(r, _)| *r == patch.result) || dropped.iter().any(|(r, _)| *r == patch.result) {
            continue;
        }
        if given.is_asked(patch.result, j) {
            kept.push((patch.result, vec![0.0; len(patch.node)]));
        } else {
            dropped.push((patch.result, spare));
            spare += len(patch.node);
        }
    }
    let scratch = engine.kernels.scratch_len(body.call.kernel, keys);
    with_scratch(scratch + spare, |s| {
        let (scratch, spare) = s.split_at_mut(scratch);
        let mut pointer = |(arg, base): (&KernelArg, &Shared)| {
            if let Some(own) = own(arg) {
                return own;
            }
            match arg {
                KernelArg::Result(r) => match kept.iter_mut().find(|(i, _)| i == r) {
                    Some((_, values)) => values.as_mut_ptr(),
                    None => {
                        let at = dropped.iter().find(|(i, _)| i == r).map_or(0, |d| d.1);
                        spare[at..].as_mut_ptr()
                    }
                },
                KernelArg::Donor(edit) => given.taken(*edit, j).as_ptr().cast_mut(),
                _ => base.get(),
            }
        };
        let args: Vec<*mut f32> = body.call.args.iter().zip(base).map(&mut pointer).collect();
        // SAFETY: one pointer a parameter; this call has row `j` and its own results and scratch.
        unsafe { engine.kernels.call(body.call.kernel, &args, j..j + 1, keys, scratch) };
    });
    kept
}

/// Keeps what outputs read of a row, and what other rows take of it.
pub fn keep(frame: &mut Frame, place: Place, body: &Body, given: &mut Given, j: usize, results: Results) {
    let n = frame.count();
    for (r, values) in results {
        given.keep(r, j, &values);
        if body.outputs.iter().any(|(o, _)| *o == r) {
            frame.inside.entry((place.1, r)).or_insert_with(|| vec![Vec::new(); n])[j] = values;
        }
    }
}

/// Whether a body does anything on a row.
pub fn acts(frame: &Frame, body: &Body, given: Option<&Given>, j: usize) -> bool {
    let guarded = body.call.args.iter().any(|arg| match arg {
        KernelArg::Guard(edit) => frame.asked(*edit).is_some_and(|asked| asked.guard[j] != 0.0),
        _ => false,
    });
    let asked = |result: u32| given.is_some_and(|g| g.is_asked(result, j));
    guarded || !body.outputs.is_empty() || body.patches.iter().any(|p| asked(p.result))
}

/// An attention with edits or outputs inside: scores, body and sum one row after another.
pub struct Hooked<'a> {
    pub shape: Heads,
    pub scale: f32,
    pub body: &'a Body,
    /// The stretch whose rows the cache holds.
    pub home: usize,
    pub cache: Cached,
    pub queries: Shared,
    pub out: Shared,
    /// The positions of the keys of a row.
    pub seen: &'a (dyn Fn(&NewRow) -> Range<usize> + Sync),
}

impl Hooked<'_> {
    /// The rows on which the body does something, or all; which they were.
    pub fn run(&self, engine: &RowsEngine, frame: &mut Frame, place: Place, all: bool) -> Result<Vec<bool>, Error> {
        let base: Vec<Shared> = pointers(engine, frame, place, &self.body.call, &[])?.into_iter().map(Shared).collect();
        let keys = |row: &NewRow| (self.seen)(row).len();
        let mut given = Given::new(&engine.plan, self.body, &engine.users, frame.step, frame.rows, &keys)?;
        let acting: Vec<bool> = (0..frame.count()).map(|j| all || acts(frame, self.body, Some(&given), j)).collect();
        for rows in given.turns(frame.count()) {
            let (now, before) = (&*frame, &given);
            let rows: Vec<usize> = rows.into_iter().filter(|j| acting[*j]).collect();
            let results: Vec<OnceLock<Results>> = rows.iter().map(|_| OnceLock::new()).collect();
            team::each(rows.len(), |i| _ = results[i].set(self.row(engine, now, &base, before, rows[i])));
            for (j, results) in rows.into_iter().zip(results.into_iter().filter_map(OnceLock::into_inner)) {
                keep(frame, place, self.body, &mut given, j, results);
            }
        }
        Ok(acting)
    }

    fn row(&self, engine: &RowsEngine, frame: &Frame, base: &[Shared], given: &Given, j: usize) -> Results {
        let Heads { heads, kv_heads, d_head } = self.shape;
        let row = *frame.row(j);
        let range = (self.seen)(&row);
        let list = &slots(engine, self.home, &row, range.end)[range.clone()];
        let keys = list.len();
        let whole = Row::new(engine.isa, &self.shape, self.cache.get(), list);
        // The keys of a group are read once for all of its queries; the body has scores and pattern side by side.
        let stride = whole.stride();
        let mut products = vec![0.0; heads * stride];
        let at = j * heads * d_head;
        // SAFETY: row `j`'s query; every slot was stored.
        unsafe { whole.scores(self.queries.get().add(at), 0..kv_heads, 0..keys, products.as_mut_ptr()) };
        (0..heads).for_each(|h| products.copy_within(h * stride..h * stride + keys, h * keys));
        let scale = binary_vs(engine.isa, Binary::Mul);
        // SAFETY: numbers of one vector, in place.
        unsafe { scale(products.as_mut_ptr(), products.as_ptr(), self.scale, heads * keys) };
        let mut pattern = vec![0.0; heads * stride];
        let mut first = range.start as f32;
        let mut own = |arg: &KernelArg| match arg {
            KernelArg::Body(_) => Some(products.as_mut_ptr()),
            KernelArg::Result(0) => Some(pattern.as_mut_ptr()),
            KernelArg::FirstKey => Some(&raw mut first),
            _ => None,
        };
        let results = call(engine, self.body, given, base, (j, keys), &mut own);
        (0..heads).rev().for_each(|h| pattern.copy_within(h * keys..(h + 1) * keys, h * stride));
        // SAFETY: row `j`'s result; every slot was stored.
        unsafe { whole.results(0..kv_heads, 0..d_head, pattern.as_ptr(), self.out.get().add(at)) };
        results
    }
}
