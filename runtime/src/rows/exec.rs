//! One step: all new rows of all runs through the program.

use super::cache::Keeps;
use super::edits::{Asked, Taken, edit_inputs, receipts};
use super::exec_instr::{ALONE_FLOATS, Shared, split};
use super::meter::Metered;
use super::operations::{Cost, total};
use super::pool::Pool;
use super::share::{NONE, NewRow, RowsOf, Step, number};
use super::{RowsEngine, broken};
use crate::engine::{Extend, RowCount, RowValue, StepResult};
use crate::error::Error;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;
use steer_compiler::plan::EditId;
use steer_compiler::program::{BufId, OutputPlace, Program};
use steer_kernels::Area;

/// What the values of a pass are called where there is no room for them.
pub const ROWS: &str = "the values of the rows of one pass";

/// Values that are remembered to be used again in the next pass: a few, since they may be all that still holds them.
const HANDED: usize = 4;

/// The state of a stretch in execution.
pub struct Frame<'s> {
    pub step: &'s Step<'s>,
    pub rows: &'s RowsOf,
    pub stretch: usize,
    /// `[rows, len]` of each buffer.
    pub buffers: &'s mut Vec<Area>,
    pub tokens: Vec<f32>,
    pub positions: Vec<f32>,
    /// The edits that this stretch asks about.
    pub asked: Vec<Asked>,
    /// What patches took, of every patch that has begun.
    pub donors: &'s mut HashMap<EditId, Area>,
    /// Outputs inside of bodies, by instruction, result and row.
    pub inside: HashMap<(usize, u32), Vec<Vec<f32>>>,
    pub pool: &'s mut Pool,
    /// What the last product took, where it took some experts only.
    pub chosen: Option<Chosen>,
}

/// What a product of some experts took.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    pub operations: u64,
    /// The experts that some row chose.
    pub matrices: u64,
}

impl Frame<'_> {
    pub fn count(&self) -> usize {
        self.rows.first.len()
    }

    pub fn row(&self, j: usize) -> &NewRow {
        &self.step.rows[self.rows.first[j] as usize]
    }

    pub fn asked(&self, edit: EditId) -> Option<&Asked> {
        self.asked.iter().find(|asked| asked.edit == edit)
    }

    pub fn asked_mut(&mut self, edit: EditId) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.edit == edit)
    }

    /// Gives back the memory of buffers that nothing reads any more.
    fn drop_buffers(&mut self, buffers: &[BufId]) {
        for b in buffers {
            self.pool.give(std::mem::take(&mut self.buffers[b.0 as usize]));
        }
    }
}

/// What part of a pass is done, in operations; of experts as if all were chosen.
struct Part {
    done: u64,
    all: u64,
}

impl Part {
    fn of(engine: &RowsEngine, step: &Step) -> Self {
        Part { done: 0, all: operations(&engine.costs, step) }
    }

    fn done(&mut self, engine: &RowsEngine, cost: u64) {
        self.done += cost;
        if let Some(watcher) = &engine.watcher {
            watcher((self.done as f64 / self.all.max(1) as f64).min(1.0));
        }
    }
}

/// Where a row stands, and in a sequence of how many rows.
fn place(step: &Step, row: &NewRow) -> (usize, usize) {
    (row.position, step.length(row))
}

/// The operations of a step, stretch by stretch on its distinct rows.
pub fn operations(costs: &[Vec<Cost>], step: &Step) -> u64 {
    let of = |(rows, costs): (&Arc<RowsOf>, &Vec<Cost>)| {
        total(costs, rows.first.iter().map(|i| place(step, &step.rows[*i as usize])))
    };
    step.stretches.iter().zip(costs).map(of).sum()
}

pub fn step(engine: &mut RowsEngine, work: &[Extend]) -> Result<StepResult, Error> {
    let mut metered = engine.meter.clone().map(Metered::new);
    let (program, lives) = (Arc::clone(&engine.program), Arc::clone(&engine.lives));
    let step = number(&program, &engine.layout, &engine.runs, &engine.users, &mut engine.pasts, work, engine.share)?;
    let mut result = StepResult { rows: counted(&engine.costs, &step), ..StepResult::default() };
    let mut buffers: Vec<Area> = program.buffers.iter().map(|_| Area::default()).collect();
    let mut donors: HashMap<EditId, Area> = HashMap::new();
    let (mut tokens, mut positions, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken = Taken::default();
    let mut spare = std::mem::take(&mut engine.handed);
    let mut part = Part::of(engine, &step);
    let most = step.stretches.iter().map(|s| s.first.len()).max().unwrap_or(0);
    let mut pool = Pool::of(most, std::mem::take(&mut engine.pool));
    for (s, stretch) in program.stretches.iter().enumerate() {
        crate::interrupt::check()?;
        let rows = &*step.stretches[s];
        if s > 0 {
            enter(engine, &step, s, &mut buffers, &mut donors, &mut pool)?;
        }
        if engine.homes.has_slots(s) {
            let base = engine.caches.slots[s];
            for &w in &step.order {
                let new = rows.map[step.rows_of(w)].iter().map(|row| base + row);
                engine.runs[work[w].run].slots[s].extend(new);
            }
            engine.caches.slots[s] += rows.first.len() as u32;
        }
        if s == 0 || !Arc::ptr_eq(&step.stretches[s - 1], &step.stretches[s]) {
            tokens = rows.first.iter().map(|&i| step.rows[i as usize].token as f32).collect();
            positions = rows.first.iter().map(|&i| step.rows[i as usize].position as f32).collect();
        }
        let mut frame = Frame {
            step: &step,
            rows,
            stretch: s,
            buffers: &mut buffers,
            tokens: std::mem::take(&mut tokens),
            positions: std::mem::take(&mut positions),
            asked: std::mem::take(&mut asked),
            donors: &mut donors,
            inside: HashMap::new(),
            pool: &mut pool,
            chosen: None,
        };
        edit_inputs(engine, &mut frame);
        if s == 0 {
            engine.ahead.tell(engine, (s, 0));
        }
        for segment in lives.segments(s).iter().cloned() {
            let clock = metered.as_ref().map(|_| Instant::now());
            let times: Vec<AtomicU64> = clock.iter().flat_map(|_| segment.clone()).map(|_| AtomicU64::new(0)).collect();
            let together = super::segments::run(engine, &mut frame, (s, segment.clone()), stretch, &times)?;
            if let (true, Some(metered), Some(clock)) = (together, &mut metered, clock) {
                metered.together(s, segment.start, clock.elapsed(), &times);
            }
            // The first instruction that is still to be executed.
            let mut next = if together { segment.end } else { segment.start };
            for i in segment {
                if next <= i {
                    let clock = metered.as_ref().map(|_| Instant::now());
                    next = i + super::exec_products::run(engine, &mut frame, (s, i), &stretch.instrs[i..])?;
                    if let (true, Some(metered), Some(clock)) = (next > i, &mut metered, clock) {
                        metered.products(s, i, &stretch.instrs[i..next], clock.elapsed());
                    }
                }
                if next <= i {
                    let clock = metered.as_ref().map(|_| Instant::now());
                    super::exec_instr::run(engine, &mut frame, (s, i), &stretch.instrs[i])?;
                    next = i + 1;
                    if let (Some(metered), Some(clock)) = (&mut metered, clock) {
                        metered.time((s, i), clock.elapsed());
                    }
                }
                frame.drop_buffers(lives.end(s, i));
                let cost = engine.costs[s][i];
                let cost = total(&[cost], frame.rows.first.iter().map(|r| place(&step, &step.rows[*r as usize])));
                part.done(engine, cost);
                let chosen = frame.chosen.take();
                let operations = chosen.map_or(cost, |c| c.operations);
                result.rows.operations += operations;
                if let Some(metered) = &mut metered {
                    metered.count(engine, &frame, (s, i), operations, chosen);
                }
            }
        }
        for keeps in engine.homes.later(s).to_vec() {
            store(engine, &frame, keeps)?;
        }
        receipts(engine, &frame, &mut taken, &mut result);
        for (o, place) in program.outputs.iter().enumerate() {
            read(&program, &frame, o, place, &mut spare, &mut result)?;
        }
        frame.drop_buffers(lives.end_of(s));
        frame.asked.clear();
        Frame { tokens, positions, asked, .. } = frame;
    }
    buffers.into_iter().for_each(|b| pool.give(b));
    engine.pool = pool;
    engine.handed = result.values.iter().take(HANDED).map(|v| Arc::clone(&v.data)).collect();
    for row in &step.rows {
        engine.runs[row.run].len = engine.runs[row.run].len.max(row.position + 1);
    }
    result.spent = metered.map_or(Vec::new(), Metered::end);
    Ok(result)
}

/// Distinct rows of each stretch, against all rows in each of them. The operations are still to come.
pub fn counted(costs: &[Vec<Cost>], step: &Step) -> RowCount {
    let naive = |costs: &Vec<Cost>| total(costs, step.rows.iter().map(|r| place(step, r)));
    RowCount {
        computed: step.stretches.iter().map(|s| s.first.len() as u64).sum(),
        naive: (step.rows.len() * step.stretches.len()) as u64,
        operations: 0,
        naive_operations: costs.iter().map(naive).sum(),
    }
}

/// Brings the living buffers to the rows of a new stretch, and gathers what patches take.
fn enter(
    engine: &RowsEngine,
    step: &Step,
    s: usize,
    buffers: &mut [Area],
    donors: &mut HashMap<EditId, Area>,
    pool: &mut Pool,
) -> Result<(), Error> {
    let program = &engine.program;
    let (from, to) = (&step.stretches[s - 1], &step.stretches[s]);
    let same = Arc::ptr_eq(from, to) || (from.first.len() == to.first.len() && from.map == to.map);
    let patches = &program.stretches[s].patches;
    if same && patches.is_empty() {
        return Ok(());
    }
    // Kernels behind the stretch in which a patch begins may still ask what it took.
    if !same {
        for values in donors.values_mut().filter(|v| !v.is_empty()) {
            let len = values.len() / from.first.len();
            let rows = to.first.iter().map(|i| from.map[*i as usize]);
            let new = moved(values, len, rows, pool)?;
            pool.give(std::mem::replace(values, new));
        }
    }
    let mut redirected: Vec<BufId> = Vec::new();
    for patch in patches {
        let len = program.buffers[patch.base.0 as usize].len;
        // By row of the new stretch: the row that it takes its value from.
        let mut sources: Vec<u32> = Vec::new();
        if patch.whole {
            sources.extend(to.first.iter().map(|i| from.map[*i as usize]));
            redirected.push(patch.base);
        } else {
            sources.resize(to.first.len(), NONE);
        }
        for u in engine.users.of(patch.edit) {
            for row in step.active(*u).filter(|row| to.map[*row as usize] != NONE) {
                let donor = from.map[step.donor(*u, row)? as usize];
                if donor == NONE {
                    return Err(broken("a row that gives to another was not computed"));
                }
                sources[to.map[row as usize] as usize] = donor;
            }
        }
        let base = &mut buffers[patch.base.0 as usize];
        let values = moved(base, len, sources.into_iter(), pool)?;
        if patch.whole {
            pool.give(std::mem::replace(base, values));
        } else {
            donors.insert(patch.edit, values);
        }
    }
    for &b in engine.lives.at(s).iter().filter(|b| !same && !redirected.contains(b)) {
        let len = program.buffers[b.0 as usize].len;
        let rows = to.first.iter().map(|i| from.map[*i as usize]);
        let new = moved(&buffers[b.0 as usize], len, rows, pool)?;
        pool.give(std::mem::replace(&mut buffers[b.0 as usize], new));
    }
    Ok(())
}

/// These rows of a buffer one after another, zeros for those that were not computed.
fn moved(old: &[f32], len: usize, rows: impl ExactSizeIterator<Item = u32>, pool: &mut Pool) -> Result<Area, Error> {
    let mut new = pool.take(rows.len(), len, ROWS)?;
    let (rows, worth, to): (Vec<u32>, _, _) = (rows.collect(), new.len() >= ALONE_FLOATS, Shared(new.as_mut_ptr()));
    split(rows.len(), worth, |some| {
        for (i, row) in some.clone().zip(&rows[some]) {
            // SAFETY: row `i` of the new rows is this call's own.
            let to = unsafe { std::slice::from_raw_parts_mut(to.get().add(i * len), len) };
            match *row {
                NONE => to.fill(0.0),
                row => to.copy_from_slice(&old[row as usize * len..(row as usize + 1) * len]),
            }
        }
    });
    Ok(new)
}

/// Appends the rows of a stretch to a cache.
pub fn store(engine: &mut RowsEngine, frame: &Frame, keeps: Keeps) -> Result<(), Error> {
    if let Some(kept) = engine.caches.stored.get_mut(&keeps.place) {
        let values = keeps.values.map(|v| &frame.buffers[v.0 as usize][..]);
        kept.append(&frame.buffers[keeps.keys.0 as usize], values, engine.caches.slots[frame.stretch])?;
    }
    Ok(())
}

/// The slots of the first `rows` rows of a row's sequence in the caches of a stretch.
pub fn slots<'r>(engine: &'r RowsEngine, home: usize, row: &NewRow, rows: usize) -> &'r [u32] {
    &engine.runs[row.run].slots[home][..rows]
}

fn read(
    program: &Program,
    frame: &Frame,
    output: usize,
    place: &OutputPlace,
    spare: &mut Vec<Arc<[f32]>>,
    result: &mut StepResult,
) -> Result<(), Error> {
    let (OutputPlace::Buffer { stretch, .. } | OutputPlace::Body { stretch, .. }) = place;
    if *stretch != frame.stretch {
        return Ok(());
    }
    // Rows that share a value share its memory.
    let mut taken: HashMap<u32, Arc<[f32]>> = HashMap::new();
    for &w in &frame.step.order {
        let work = &frame.step.work[w];
        for &position in work.reads.get(output).into_iter().flatten() {
            let Some(i) = frame.step.row_at(work.run, position) else { continue };
            let j = frame.rows.map[i as usize];
            if j == NONE {
                return Err(broken("a row that is read was not computed"));
            }
            let data = match taken.get(&j) {
                Some(d) => Arc::clone(d),
                None => {
                    let d = handed(value(program, frame, place, j as usize)?, spare);
                    taken.insert(j, Arc::clone(&d));
                    d
                }
            };
            result.values.push(RowValue { run: work.run, output, position, data });
        }
    }
    Ok(())
}

/// A value in memory of its own: some that was handed out before, where nobody has it any more. Fresh memory costs the
/// system more than the copy.
fn handed(value: &[f32], spare: &mut Vec<Arc<[f32]>>) -> Arc<[f32]> {
    while let Some(mut old) = spare.pop() {
        if let Some(to) = Arc::get_mut(&mut old).filter(|to| to.len() == value.len()) {
            to.copy_from_slice(value);
            return old;
        }
    }
    value.into()
}

/// An output of one distinct row.
fn value<'f>(program: &Program, frame: &'f Frame, place: &OutputPlace, j: usize) -> Result<&'f [f32], Error> {
    Ok(match place {
        OutputPlace::Buffer { buffer, .. } => {
            let len = program.buffers[buffer.0 as usize].len;
            &frame.buffers[buffer.0 as usize][j * len..(j + 1) * len]
        }
        OutputPlace::Body { instr, result, .. } => match frame.inside.get(&(*instr, *result)) {
            Some(rows) => rows[j].as_slice(),
            None => return Err(broken("an output inside of a body is missing")),
        },
    })
}
