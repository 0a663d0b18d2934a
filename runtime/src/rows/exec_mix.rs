//! Instructions that read earlier rows and have no body: attention, convolution.

use super::cache::{Place, kept};
use super::exec::{Frame, slots, store};
use super::exec_body::Hooked;
use super::exec_instr::{Shared, room, split};
use super::share::NewRow;
use super::{RowsEngine, broken, team};
use crate::error::Error;
use crate::memory;
use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use steer_compiler::plan::Sight;
use steer_compiler::program::Instr;
use steer_kernels::attention::{Heads, KeyValues, Queries, Row, Scratch, Softmax, attend_block};
use steer_kernels::scan::convolve;

/// Rows of one sequence that a thread takes at a time, at least,
const ROWS: usize = 32;
/// and so many queries of a group: what is done for each key is spread over them.
const QUERIES: usize = 128;
/// Products below which a row's attention stays on one thread.
const ALONE: usize = 1 << 13;

/// Channels of all rows below which a convolution stays on one thread.
const CHANNELS: usize = 1 << 10;

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// Keys and values that threads read.
#[derive(Clone, Copy)]
pub struct Cached(KeyValues);

// SAFETY: they are only read.
unsafe impl Send for Cached {}
// SAFETY: as above.
unsafe impl Sync for Cached {}

impl Cached {
    pub fn get(&self) -> &KeyValues {
        &self.0
    }
}

fn cached(engine: &RowsEngine, place: Place) -> Result<KeyValues, Error> {
    let kept = engine.caches.stored.get(&place);
    let kept = kept.and_then(|kept| Some((&kept.keys, kept.values.as_ref()?)));
    let (keys, values) = kept.ok_or_else(|| broken("no cache"))?;
    Ok(KeyValues {
        keys: keys.as_ptr(),
        key_stride: keys.stride(),
        key_head: keys.head(),
        values: values.as_ptr(),
        value_stride: values.stride(),
        value_head: values.head(),
        format: keys.format(),
    })
}

pub fn attention(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Attention { q, z, heads, kv_heads, d_head, scale, window, whole, softmax, body, .. } = instr else {
        return Err(broken("no attention"));
    };
    let home = engine.homes.of(place);
    if let Some(keeps) = kept(place, instr).filter(|_| home == place.0) {
        store(engine, frame, keeps)?;
    }
    if frame.count() == 0 {
        frame.buffers[z.0 as usize].show(0);
        return Ok(());
    }
    let shape = Heads { heads: *heads, kv_heads: *kv_heads, d_head: *d_head };
    let out = Shared(room(engine, frame, *z)?);
    let queries = Shared(frame.buffers[q.0 as usize].as_mut_ptr());
    let cache = Cached(cached(engine, place)?);
    let (step, sight) = (frame.step, Sight { window: *window, whole: *whole });
    let seen = |row: &NewRow| sight.of(row.position, step.length(row));
    // The rows that a body did.
    let mut done = vec![false; frame.count()];
    if let Some(body) = body {
        let call = Hooked { shape, scale: *scale, body, home, cache, queries, out, seen: &seen };
        done = call.run(engine, frame, place, softmax.is_none())?;
    }
    let sinks = engine.constants.of(place).sinks.clone();
    let wanted = softmax.as_ref().is_some_and(|s| s.sinks.is_some());
    if wanted != sinks.as_ref().is_some_and(|s| s.len() == *heads) {
        return Err(broken("no sinks"));
    }
    let softmax = Softmax { scale: *scale, sinks: sinks.as_deref().map_or(&[], |s| s) };
    let width = heads * d_head;
    // Neighbouring rows of one run share a list of keys.
    let together = ROWS.max(QUERIES / shape.group());
    let mut groups: Vec<Range<usize>> = Vec::new();
    for j in (0..frame.count()).filter(|j| !done[*j]) {
        let row = *frame.row(j);
        match groups.last_mut() {
            Some(g)
                if g.end == j && g.len() < together && {
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
    let work: usize = groups.iter().cloned().flatten().map(|j| seen(frame.row(j)).end).sum::<usize>() * width;
    let threads = if work < ALONE { 1 } else { rayon::current_num_threads() };
    let parts = threads.min(*kv_heads).max(1);
    let per = kv_heads.div_ceil(parts);
    let rows = |rows: &Range<usize>| {
        let last = frame.row(rows.end - 1);
        let list = slots(engine, home, last, seen(last).end);
        // SAFETY: these rows of the queries and results.
        let queries = unsafe {
            Queries {
                q: queries.get().add(rows.start * width),
                q_stride: width,
                out: out.get().add(rows.start * width),
                out_stride: width,
            }
        };
        (queries, list)
    };
    if groups.len() * kv_heads.div_ceil(per) < threads && groups.iter().all(|g| g.len() == 1) {
        for group in &groups {
            let (queries, list) = rows(group);
            let list = &list[seen(frame.row(group.start))];
            let row = Row::new(engine.isa, &shape, cache.get(), list);
            shared(&row, softmax, &shape, list.len(), queries, threads)?;
        }
        return Ok(());
    }
    let tasks: Vec<(Range<usize>, Range<usize>)> = groups
        .into_iter()
        .flat_map(|g| (0..kv_heads.div_ceil(per)).map(move |p| (g.clone(), p * per..((p + 1) * per).min(*kv_heads))))
        .collect();
    let one = |(group, kv): &(Range<usize>, Range<usize>)| {
        let (queries, list) = rows(group);
        let ranges: Vec<Range<usize>> = group.clone().map(|j| seen(frame.row(j))).collect();
        // SAFETY: every slot was stored; heads `kv` are this task's own.
        SCRATCH.with_borrow_mut(|scratch| unsafe {
            attend_block(engine.isa, &shape, softmax, &queries, &ranges, cache.get(), list, kv.clone(), scratch);
        });
    };
    match threads {
        1 => tasks.iter().for_each(one),
        _ => team::each(tasks.len(), |i| one(&tasks[i])),
    }
    Ok(())
}

/// One row by all threads, which share its keys, then its query heads, then the coordinates of its results.
fn shared(
    row: &Row,
    softmax: Softmax,
    shape: &Heads,
    keys: usize,
    queries: Queries,
    threads: usize,
) -> Result<(), Error> {
    let Heads { heads, kv_heads, d_head } = *shape;
    let of_head = shape.group() * row.stride();
    let mut scores = memory::zeros(kv_heads * of_head, "the scores of a row")?;
    let (q, out, scores) = (Shared(queries.q.cast_mut()), Shared(queries.out), Shared(scores.as_mut_ptr()));
    let row = Steps(row);
    // Parts that begin at a multiple of 16.
    let parts = |n: usize| {
        let each = n.div_ceil((2 * threads).div_ceil(kv_heads)).next_multiple_of(16);
        let of_head = move |head| (0..n).step_by(each).map(move |i| (head, i..(i + each).min(n)));
        (0..kv_heads).flat_map(of_head).collect::<Vec<(usize, Range<usize>)>>()
    };
    let by_keys = parts(keys);
    team::each(by_keys.len(), |i| {
        let (head, keys) = &by_keys[i];
        // SAFETY: the scores of this head with these keys are this task's own.
        unsafe { row.get().scores(q.get(), *head..head + 1, keys.clone(), scores.get().add(head * of_head)) }
    });
    team::each(heads, |h| {
        // SAFETY: the scores of this query head are this task's own.
        unsafe { row.get().pattern(&softmax, h, scores.get().add(h * row.get().stride())) }
    });
    let by_columns = parts(d_head);
    team::each(by_columns.len(), |i| {
        let (head, columns) = &by_columns[i];
        let pattern = scores.get().wrapping_add(head * of_head);
        // SAFETY: these coordinates of the results of this head's queries are this task's own.
        unsafe { row.get().results(*head..head + 1, columns.clone(), pattern, out.get()) }
    });
    Ok(())
}

/// The steps of a row, which threads share.
struct Steps<'r>(&'r Row<'r>);

// SAFETY: what it points to is only read.
unsafe impl Sync for Steps<'_> {}

impl Steps<'_> {
    fn get(&self) -> &Row<'_> {
        self.0
    }
}

pub fn conv1d(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Conv1d { y, channels, taps, .. } = instr else { return Err(broken("no convolution")) };
    let home = engine.homes.of(place);
    if let Some(keeps) = kept(place, instr).filter(|_| home == place.0) {
        store(engine, frame, keeps)?;
    }
    let filters = engine.constants.of(place).args.first().cloned().flatten();
    let w = filters.ok_or_else(|| broken("filters were not loaded"))?;
    let out = Shared(room(engine, frame, *y)?);
    let (all, frame) = (engine, &*frame);
    let engine = &*all;
    let Some(kept) = engine.caches.stored.get(&place) else { return Err(broken("no cache")) };
    let stored = Shared(kept.keys.as_ptr().cast_mut());
    let lost = AtomicBool::new(false);
    let n = frame.count();
    let threads = if n * channels < CHANNELS { 1 } else { rayon::current_num_threads() };
    // Threads share the rows, or the channels of a few.
    let parts = threads.div_ceil(n.max(1));
    let each = channels.div_ceil(parts).next_multiple_of(16);
    let ranges: Vec<Range<usize>> = (0..*channels).step_by(each).map(|c| c..(c + each).min(*channels)).collect();
    split(n * ranges.len(), threads > 1, |some| {
        let mut reads = Vec::with_capacity(*taps);
        for part in some {
            let (j, part) = (part / ranges.len(), ranges[part % ranges.len()].clone());
            let list = slots(engine, home, frame.row(j), frame.row(j).position + 1);
            let there = list.len().min(*taps);
            reads.clear();
            for (t, slot) in (taps - there..*taps).zip(&list[list.len() - there..]) {
                let Some(at) = kept.place(*slot) else {
                    lost.store(true, Ordering::Relaxed);
                    return;
                };
                reads.push((w[t * channels..].as_ptr(), stored.get().wrapping_add(at * channels).cast_const()));
            }
            // SAFETY: these channels of row `j` of `y` are this call's own; filters and stored rows have as many.
            unsafe { convolve(engine.isa, out.get().add(j * channels), &reads, part) };
        }
    });
    if lost.into_inner() {
        return Err(broken("an input of a convolution is missing"));
    }
    // What the next row of each run reads.
    let behind = taps.saturating_sub(1);
    let runs = &all.runs;
    let last = || runs.iter().flat_map(|run| run.slots[home].iter().rev().take(behind).copied());
    if let Some(kept) = all.caches.stored.get_mut(&place) {
        kept.keep_only(runs.len() * behind, last);
    }
    Ok(())
}
