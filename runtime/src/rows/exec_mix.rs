//! Instructions that read earlier rows: attention, convolution, scan.

use super::cache::{Place, kept};
use super::exec::{Frame, slots, store};
use super::exec_instr::{Shared, pointers, room, split, with_scratch};
use super::{RowsEngine, broken};
use crate::error::Error;
use crate::memory;
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use steer_compiler::program::{Body, Instr, KernelArg};
use steer_kernels::attention::{Heads, KeyValues, Queries, Scratch, attend_block, mix, scores};

/// Rows of one sequence that a thread takes at a time.
const ROWS: usize = 32;

pub fn attention(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Attention { q, z, heads, kv_heads, d_head, scale, window, body, .. } = instr else {
        return Err(broken("no attention"));
    };
    let home = engine.homes.of(place);
    if let Some(keeps) = kept(place, instr).filter(|_| home == place.0) {
        store(engine, frame, keeps)?;
    }
    if frame.count() == 0 {
        frame.buffers[z.0 as usize].clear();
        return Ok(());
    }
    let shape = Heads { heads: *heads, kv_heads: *kv_heads, d_head: *d_head };
    let out = Shared(room(engine, frame, *z)?);
    let queries = Shared(frame.buffers[q.0 as usize].as_mut_ptr());
    let stride = kv_heads * d_head;
    let Some(stored) = engine.caches.stored.get(&place) else { return Err(broken("no cache")) };
    let cache = (Shared(stored.keys.as_ptr().cast_mut()), Shared(stored.values.as_ptr().cast_mut()));
    let seen = |position: usize| window.map_or(0, |w| (position + 1).saturating_sub(w))..position + 1;
    if let Some(body) = body {
        let call = Hooked { shape, scale: *scale, body, home, cache, stride, queries, out };
        return call.run(engine, frame, place, &seen);
    }
    let width = heads * d_head;
    // Neighbouring rows of one run share a list of keys.
    let mut groups: Vec<Range<usize>> = Vec::new();
    for j in 0..frame.count() {
        let row = *frame.row(j);
        match groups.last_mut() {
            Some(g)
                if g.len() < ROWS && {
                    let last = frame.row(g.end - 1);
                    last.run == row.run && last.position + 1 == row.position
                } =>
            {
                g.end = j + 1;
            }
            _ => groups.push(j..j + 1),
        }
    }
    let engine = &*engine;
    let frame = &*frame;
    let work: usize = (0..frame.count()).map(|j| frame.row(j).position + 1).sum::<usize>() * width;
    let parts = if work < 1 << 16 { 1 } else { rayon::current_num_threads().min(*kv_heads).max(1) };
    let tasks: Vec<(Range<usize>, Range<usize>)> = groups
        .into_iter()
        .flat_map(|g| {
            let per = kv_heads.div_ceil(parts);
            (0..kv_heads.div_ceil(per)).map(move |p| (g.clone(), p * per..((p + 1) * per).min(*kv_heads)))
        })
        .collect();
    let one = |scratch: &mut Scratch, (rows, kv): &(Range<usize>, Range<usize>)| {
        let last = frame.row(rows.end - 1);
        let list = slots(engine, home, last);
        let ranges: Vec<Range<usize>> = rows.clone().map(|j| seen(frame.row(j).position)).collect();
        let cache = KeyValues { keys: cache.0.get(), key_stride: stride, values: cache.1.get(), value_stride: stride };
        // SAFETY: rows `rows` of the queries and results; every slot was stored; heads `kv` are this task's own.
        unsafe {
            let queries = Queries {
                q: queries.get().add(rows.start * width),
                q_stride: width,
                out: out.get().add(rows.start * width),
                out_stride: width,
            };
            attend_block(engine.isa, &shape, *scale, &queries, &ranges, &cache, list, kv.clone(), scratch);
        }
    };
    if parts == 1 && work < 1 << 16 {
        let mut scratch = Scratch::default();
        tasks.iter().for_each(|t| one(&mut scratch, t));
    } else {
        tasks.par_iter().for_each_init(Scratch::default, one);
    }
    Ok(())
}

/// An attention with edits or outputs inside: scores, body and sum one row after another.
struct Hooked<'a> {
    shape: Heads,
    scale: f32,
    body: &'a Body,
    /// The stretch whose rows the cache holds.
    home: usize,
    cache: (Shared, Shared),
    stride: usize,
    queries: Shared,
    out: Shared,
}

impl Hooked<'_> {
    fn run(
        &self,
        engine: &RowsEngine,
        frame: &mut Frame,
        place: Place,
        seen: &(dyn Fn(usize) -> Range<usize> + Sync),
    ) -> Result<(), Error> {
        let base: Vec<Shared> = pointers(engine, frame, place, &self.body.call)?.into_iter().map(Shared).collect();
        let n = frame.count();
        let read_only = &*frame;
        let inside: Vec<Vec<(u32, Vec<f32>)>> =
            (0..n).into_par_iter().map(|j| self.row(engine, read_only, &base, j, seen)).collect();
        for (j, results) in inside.into_iter().enumerate() {
            for (r, values) in results {
                frame.inside.entry((place.1, r)).or_insert_with(|| vec![Vec::new(); n])[j] = values;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        engine: &RowsEngine,
        frame: &Frame,
        base: &[Shared],
        j: usize,
        seen: &(dyn Fn(usize) -> Range<usize> + Sync),
    ) -> Vec<(u32, Vec<f32>)> {
        let Heads { heads, d_head, .. } = self.shape;
        let row = *frame.row(j);
        let range = seen(row.position);
        let list = &slots(engine, self.home, &row)[range.clone()];
        let keys = list.len();
        let mut given = vec![0.0; heads * keys];
        let mut pattern = vec![0.0; heads * keys];
        let q = j * heads * d_head;
        for (h, s) in given.chunks_exact_mut(keys).enumerate() {
            let kv = h / self.shape.group() * d_head;
            // SAFETY: head `h` of row `j`'s query; every slot was stored.
            unsafe {
                let (q, k) = (self.queries.get().add(q + h * d_head), self.cache.0.get().add(kv));
                scores(engine.isa, q, k, self.stride, list, d_head, self.scale, s);
            }
        }
        let mut first = range.start as f32;
        let mut results = body_outputs(engine, self.body, keys);
        let args: Vec<*mut f32> = self
            .body
            .call
            .args
            .iter()
            .zip(base)
            .map(|(arg, base)| match arg {
                KernelArg::Body(_) => given.as_mut_ptr(),
                KernelArg::Result(0) => pattern.as_mut_ptr(),
                KernelArg::Result(r) => result_pointer(&mut results, *r),
                KernelArg::FirstKey => &raw mut first,
                _ => base.get(),
            })
            .collect();
        let scratch = engine.kernels.scratch_len(self.body.call.kernel, keys);
        // SAFETY: one pointer a parameter; this call has row `j` and its own scores and results.
        with_scratch(scratch, |s| unsafe { engine.kernels.call(self.body.call.kernel, &args, j..j + 1, keys, s) });
        for (h, p) in pattern.chunks_exact(keys).enumerate() {
            let kv = h / self.shape.group() * d_head;
            // SAFETY: head `h` of row `j`'s result; every slot was stored.
            unsafe {
                let out = std::slice::from_raw_parts_mut(self.out.get().add(q + h * d_head), d_head);
                mix(engine.isa, p, self.cache.1.get().add(kv), self.stride, list, out);
            }
        }
        results
    }
}

/// Memory for the outputs inside of a body.
fn body_outputs(engine: &RowsEngine, body: &Body, keys: usize) -> Vec<(u32, Vec<f32>)> {
    body.outputs.iter().map(|(r, node)| (*r, vec![0.0; engine.plan.ty(*node).len_with(keys)])).collect()
}

fn result_pointer(results: &mut [(u32, Vec<f32>)], r: u32) -> *mut f32 {
    results.iter_mut().find(|(i, _)| *i == r).map_or(std::ptr::null_mut(), |(_, v)| v.as_mut_ptr())
}

pub fn conv1d(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Conv1d { y, channels, taps, .. } = instr else { return Err(broken("no convolution")) };
    let home = engine.homes.of(place);
    if let Some(keeps) = kept(place, instr).filter(|_| home == place.0) {
        store(engine, frame, keeps)?;
    }
    let filters = engine.constants.of(place).args.first().cloned().flatten();
    let w = filters.ok_or_else(|| broken("filters were not loaded"))?;
    // By tap, so that a row of weights is contiguous.
    let by_tap: Vec<f32> =
        (0..*taps).flat_map(|t| (0..*channels).map(move |c| (c, t))).map(|(c, t)| w[c * taps + t]).collect();
    let out = Shared(room(engine, frame, *y)?);
    let (engine, frame) = (&*engine, &*frame);
    let Some(stored) = engine.caches.stored.get(&place) else { return Err(broken("no cache")) };
    split(frame.count(), frame.count() * channels >= 1 << 14, |rows| {
        for j in rows {
            let list = slots(engine, home, frame.row(j));
            // SAFETY: row `j` of `y` is this call's own.
            let sum = unsafe { std::slice::from_raw_parts_mut(out.get().add(j * channels), *channels) };
            sum.fill(0.0);
            for (t, weights) in by_tap.chunks_exact(*channels).enumerate() {
                let back = taps - 1 - t;
                if back >= list.len() {
                    continue;
                }
                let at = list[list.len() - 1 - back] as usize * channels;
                for ((s, w), x) in sum.iter_mut().zip(weights).zip(&stored.keys[at..at + channels]) {
                    *s += w * x;
                }
            }
        }
    });
    Ok(())
}

pub fn scan(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Scan { body, state, y, .. } = instr else { return Err(broken("no scan")) };
    let out = room(engine, frame, *y)?;
    let width = engine.program.buffers[y.0 as usize].len;
    let base = pointers(engine, frame, place, &body.call)?;
    let mut kept = engine.caches.states.remove(&place).unwrap_or_default();
    let first_slot = engine.caches.slots[place.0] - frame.count() as u32;
    // How many rows of this step start from each state, and which states outlive the step.
    let mut users: HashMap<u32, usize> = HashMap::new();
    let parent = |j: usize| {
        let list = slots(engine, place.0, frame.row(j));
        (list.len() > 1).then(|| list[list.len() - 2])
    };
    for p in (0..frame.count()).filter_map(parent) {
        *users.entry(p).or_default() += 1;
    }
    let ends: std::collections::HashSet<u32> =
        engine.runs.iter().filter_map(|r| r.slots[place.0].last().copied()).collect();
    let scratch = engine.kernels.scratch_len(body.call.kernel, 1);
    let mut inside: HashMap<u32, Vec<Vec<f32>>> = HashMap::new();
    // Parents stand before their children, since a run's rows are in order.
    for j in 0..frame.count() {
        let from = parent(j);
        let mut fresh = kept.free.pop().unwrap_or_default();
        memory::resize(&mut fresh, *state, "states")?;
        let mut zero = Vec::new();
        let before = match from {
            Some(p) => kept.at.get(&p).ok_or_else(|| broken("a state is missing"))?.as_ptr().cast_mut(),
            None => {
                zero.resize(*state, 0.0);
                zero.as_mut_ptr()
            }
        };
        let mut results = body_outputs(engine, body, 1);
        // SAFETY: row `j` of `y`.
        let result = unsafe { out.add(j * width) };
        let args: Vec<*mut f32> = body
            .call
            .args
            .iter()
            .zip(&base)
            .map(|(arg, base)| match arg {
                KernelArg::Body(_) => before,
                KernelArg::Result(0) => fresh.as_mut_ptr(),
                KernelArg::Result(1) => result,
                KernelArg::Result(r) => result_pointer(&mut results, *r),
                _ => *base,
            })
            .collect();
        // SAFETY: one pointer a parameter; states and results of this row alone.
        with_scratch(scratch, |s| unsafe { engine.kernels.call(body.call.kernel, &args, j..j + 1, 1, s) });
        for (r, values) in results {
            inside.entry(r).or_insert_with(|| vec![Vec::new(); frame.count()])[j] = values;
        }
        kept.at.insert(first_slot + j as u32, fresh);
        if let Some(p) = from
            && let Some(left) = users.get_mut(&p)
        {
            *left -= 1;
            if *left == 0 && !ends.contains(&p) {
                kept.free.extend(kept.at.remove(&p));
            }
        }
    }
    kept.at.retain(|slot, _| ends.contains(slot));
    engine.caches.states.insert(place, kept);
    for (r, rows) in inside {
        frame.inside.insert((place.1, r), rows);
    }
    Ok(())
}
