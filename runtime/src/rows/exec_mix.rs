//! Instructions that read earlier rows and have no body: attention, convolution.

use super::cache::{Place, kept};
use super::exec::{Frame, slots, store};
use super::exec_body::Hooked;
use super::exec_instr::{Shared, room, split};
use super::share::NewRow;
use super::{RowsEngine, broken};
use crate::error::Error;
use rayon::prelude::*;
use std::ops::Range;
use steer_compiler::plan::Sight;
use steer_compiler::program::Instr;
use steer_kernels::attention::{Heads, KeyValues, Queries, Scratch, attend_block};
use steer_kernels::scan::convolve;

/// Rows of one sequence that a thread takes at a time.
const ROWS: usize = 32;

pub fn attention(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Attention { q, z, heads, kv_heads, d_head, scale, window, whole, body, .. } = instr else {
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
    let stride = kv_heads * d_head;
    let Some(stored) = engine.caches.stored.get(&place) else { return Err(broken("no cache")) };
    let cache = (Shared(stored.keys.as_ptr().cast_mut()), Shared(stored.values.as_ptr().cast_mut()));
    let (step, sight) = (frame.step, Sight { window: *window, whole: *whole });
    let seen = |row: &NewRow| sight.of(row.position, step.length(row));
    if let Some(body) = body {
        let call = Hooked { shape, scale: *scale, body, home, cache, stride, queries, out, seen: &seen };
        return call.run(engine, frame, place);
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
    let work: usize = (0..frame.count()).map(|j| seen(frame.row(j)).end).sum::<usize>() * width;
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
        let list = slots(engine, home, last, seen(last).end);
        let ranges: Vec<Range<usize>> = rows.clone().map(|j| seen(frame.row(j))).collect();
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

pub fn conv1d(engine: &mut RowsEngine, frame: &mut Frame, place: Place, instr: &Instr) -> Result<(), Error> {
    let Instr::Conv1d { y, channels, taps, .. } = instr else { return Err(broken("no convolution")) };
    let home = engine.homes.of(place);
    if let Some(keeps) = kept(place, instr).filter(|_| home == place.0) {
        store(engine, frame, keeps)?;
    }
    let filters = engine.constants.of(place).args.first().cloned().flatten();
    let w = filters.ok_or_else(|| broken("filters were not loaded"))?;
    let out = Shared(room(engine, frame, *y)?);
    let (engine, frame) = (&*engine, &*frame);
    let Some(stored) = engine.caches.stored.get(&place) else { return Err(broken("no cache")) };
    split(frame.count(), frame.count() * channels >= 1 << 14, |rows| {
        let mut reads = Vec::with_capacity(*taps);
        for j in rows {
            let list = slots(engine, home, frame.row(j), frame.row(j).position + 1);
            let there = list.len().min(*taps);
            reads.clear();
            for (t, slot) in (taps - there..*taps).zip(&list[list.len() - there..]) {
                reads.push((w[t * channels..].as_ptr(), stored.keys[*slot as usize * channels..].as_ptr()));
            }
            // SAFETY: row `j` of `y` is this call's own; filters and stored rows have as many channels.
            unsafe { convolve(engine.isa, out.get().add(j * channels), &reads, 0..*channels) };
        }
    });
    Ok(())
}
