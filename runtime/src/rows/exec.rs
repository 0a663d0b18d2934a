//! One step: all new rows of all runs through the program.

use super::cache::{Place, home};
use super::lives::buffers_of;
use super::share::{NONE, NewRow, RowsOf, Step, number};
use super::{RowsEngine, broken};
use crate::engine::{Extend, RowCount, RowReceipt, RowValue, StepResult};
use crate::error::Error;
use crate::memory;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use steer_compiler::plan::EditId;
use steer_compiler::program::{BufId, Dim, Instr, KernelArg, OutputPlace, Program, Stretch};

/// What the values of a pass are called where there is no room for them.
pub const ROWS: &str = "the values of the rows of one pass";

/// The state of a stretch in execution.
pub struct Frame<'s> {
    pub step: &'s Step<'s>,
    pub rows: &'s RowsOf,
    pub stretch: usize,
    /// `[rows, len]` of each buffer.
    pub buffers: &'s mut Vec<Vec<f32>>,
    pub tokens: Vec<f32>,
    pub positions: Vec<f32>,
    pub guards: HashMap<EditId, Vec<f32>>,
    pub params: HashMap<EditId, Vec<f32>>,
    /// What patches took, of every patch that has begun.
    pub donors: &'s mut HashMap<EditId, Vec<f32>>,
    pub receipts: HashMap<EditId, Vec<f32>>,
    /// Outputs inside of bodies, by instruction, result and row.
    pub inside: HashMap<(usize, u32), Vec<Vec<f32>>>,
}

impl Frame<'_> {
    pub fn count(&self) -> usize {
        self.rows.first.len()
    }

    pub fn row(&self, j: usize) -> &NewRow {
        &self.step.rows[self.rows.first[j] as usize]
    }

    /// Gives back the memory of buffers that nothing reads any more.
    fn drop_buffers(&mut self, buffers: &[BufId]) {
        for b in buffers {
            self.buffers[b.0 as usize] = Vec::new();
        }
    }
}

/// How much of a pass each instruction is, for one row: mostly its multiplications.
pub fn costs(program: &Program) -> Vec<Vec<u64>> {
    let len = |b: &BufId| program.buffers[b.0 as usize].len as u64;
    let cost = |instr: &Instr| match instr {
        Instr::Linear { w, extra, .. } => {
            let count = |dims: &[Dim]| dims.iter().map(|d| d.0 as u64).product::<u64>();
            let out = w.select.as_ref().map_or(count(&w.out), |s| s.len() as u64);
            count(&w.batch) * out * count(&w.inner) * *extra as u64
        }
        Instr::Attention { q, body, .. } => len(q) * if body.is_some() { 1024 } else { 128 },
        Instr::Scan { state, .. } => *state as u64 * 16,
        other => buffers_of(other).iter().map(len).sum::<u64>() * 4,
    };
    program.stretches.iter().map(|s| s.instrs.iter().map(cost).collect()).collect()
}

/// What part of a pass is done.
struct Part {
    done: f64,
    all: f64,
}

impl Part {
    fn of(engine: &RowsEngine, step: &Step) -> Self {
        let rows = step.stretches.iter().map(|s| s.first.len() as f64);
        let all = rows.zip(&engine.costs).map(|(n, costs)| n * costs.iter().sum::<u64>() as f64).sum();
        Part { done: 0.0, all }
    }

    fn done(&mut self, engine: &RowsEngine, (s, i): Place, rows: usize) {
        self.done += rows as f64 * engine.costs[s][i] as f64;
        if let Some(watcher) = &engine.watcher {
            watcher((self.done / self.all.max(1.0)).min(1.0));
        }
    }
}

pub fn step(engine: &mut RowsEngine, work: &[Extend]) -> Result<StepResult, Error> {
    let program = Arc::clone(&engine.program);
    let outputs = &program.outputs;
    let narrow_from = program.stretches.iter().position(|s| s.narrow).unwrap_or(usize::MAX);
    let step =
        number(&program, &engine.layout, &mut engine.runs, &engine.order, work, engine.share, needed(&program, work))?;
    let mut result = StepResult::default();
    let mut buffers: Vec<Vec<f32>> = vec![Vec::new(); program.buffers.len()];
    let mut donors: HashMap<EditId, Vec<f32>> = HashMap::new();
    let mut part = Part::of(engine, &step);
    for (s, stretch) in program.stretches.iter().enumerate() {
        let rows = &step.stretches[s];
        result.rows = RowCount {
            computed: result.rows.computed + rows.first.len() as u64,
            naive: result.rows.naive + step.rows.len() as u64,
        };
        if s > 0 {
            enter(engine, &step, s, &mut buffers, &mut donors)?;
        }
        if engine.layout.mixes[s] {
            let base = engine.caches.slots[s];
            for (i, row) in step.rows.iter().enumerate() {
                engine.runs[row.run].slots[s].push(base + rows.map[i]);
            }
            engine.caches.slots[s] += rows.first.len() as u32;
        }
        let mut frame = Frame {
            step: &step,
            rows,
            stretch: s,
            buffers: &mut buffers,
            tokens: rows.first.iter().map(|&i| step.rows[i as usize].token as f32).collect(),
            positions: rows.first.iter().map(|&i| step.rows[i as usize].position as f32).collect(),
            guards: HashMap::new(),
            params: HashMap::new(),
            donors: &mut donors,
            receipts: HashMap::new(),
            inside: HashMap::new(),
        };
        edit_inputs(engine, &mut frame, &acting(stretch));
        for (i, instr) in stretch.instrs.iter().enumerate() {
            super::exec_instr::run(engine, &mut frame, (s, i), instr)?;
            frame.drop_buffers(engine.lives.end(s, i));
            part.done(engine, (s, i), rows.first.len());
        }
        keep_for_narrow(engine, &frame, narrow_from)?;
        receipts(engine, &frame, &mut result);
        for (o, place) in outputs.iter().enumerate() {
            read(&program, &frame, work, o, place, &mut result)?;
        }
        frame.drop_buffers(engine.lives.end_of(s));
    }
    for row in &step.rows {
        engine.runs[row.run].len = engine.runs[row.run].len.max(row.position + 1);
    }
    Ok(result)
}

/// Whether anything needs a row in a stretch: in a narrow one only what is read there or later.
pub fn needed(program: &Program, work: &[Extend]) -> impl Fn(usize, &NewRow) -> bool {
    let narrow_from = program.stretches.iter().position(|s| s.narrow).unwrap_or(usize::MAX);
    let read_rows = rows_read(program, work);
    move |s, row| s < narrow_from || read_rows[row.work].get(&row.position).is_some_and(|&last| last >= s)
}

/// By piece of work, by position: the last stretch in which an output is read.
fn rows_read(program: &Program, work: &[Extend]) -> Vec<HashMap<usize, usize>> {
    work.iter()
        .map(|w| {
            let mut last: HashMap<usize, usize> = HashMap::new();
            for (place, positions) in program.outputs.iter().zip(&w.reads) {
                let s = match place {
                    OutputPlace::Buffer { stretch, .. } | OutputPlace::Body { stretch, .. } => *stretch,
                };
                for &p in positions {
                    let l = last.entry(p).or_insert(s);
                    *l = (*l).max(s);
                }
            }
            last
        })
        .collect()
}

/// Brings the living buffers to the rows of a new stretch, and gathers what patches take.
fn enter(
    engine: &RowsEngine,
    step: &Step,
    s: usize,
    buffers: &mut [Vec<f32>],
    donors: &mut HashMap<EditId, Vec<f32>>,
) -> Result<(), Error> {
    let program = &engine.program;
    let (from, to) = (&step.stretches[s - 1], &step.stretches[s]);
    let same = from.first.len() == to.first.len() && from.map == to.map;
    let moved = |old: &[f32], len: usize, source: &dyn Fn(u32) -> u32| -> Result<Vec<f32>, Error> {
        let mut new = memory::room(to.first.len() * len, ROWS)?;
        for &i in &to.first {
            let at = from.map[source(i) as usize];
            if at == NONE {
                new.resize(new.len() + len, 0.0);
            } else {
                new.extend_from_slice(&old[at as usize * len..(at as usize + 1) * len]);
            }
        }
        Ok(new)
    };
    // Kernels behind the stretch in which a patch begins may still ask what it took.
    for values in donors.values_mut().filter(|v| !same && !v.is_empty()) {
        let len = values.len() / from.first.len();
        *values = moved(values, len, &|i| i)?;
    }
    for patch in program.stretches[s].patches.iter().filter(|p| !p.whole) {
        let len = program.buffers[patch.base.0 as usize].len;
        let base = &buffers[patch.base.0 as usize];
        let mut values = memory::zeros(to.first.len() * len, ROWS)?;
        for (j, &i) in to.first.iter().enumerate() {
            let row = &step.rows[i as usize];
            if step.active(&engine.runs, row, patch.edit)
                && let Some(d) = step.donor(&engine.runs, row, patch.edit)
            {
                let at = from.map[d as usize] as usize * len;
                values[j * len..(j + 1) * len].copy_from_slice(&base[at..at + len]);
            }
        }
        donors.insert(patch.edit, values);
    }
    let whole: HashMap<BufId, EditId> =
        program.stretches[s].patches.iter().filter(|p| p.whole).map(|p| (p.base, p.edit)).collect();
    for &b in engine.lives.at(s) {
        let patch = whole.get(&b);
        if same && patch.is_none() {
            continue;
        }
        let len = program.buffers[b.0 as usize].len;
        let old = std::mem::take(&mut buffers[b.0 as usize]);
        buffers[b.0 as usize] = moved(&old, len, &|i| {
            let row = &step.rows[i as usize];
            match patch {
                Some(&edit) if step.active(&engine.runs, row, edit) => step.donor(&engine.runs, row, edit).unwrap_or(i),
                _ => i,
            }
        })?;
    }
    Ok(())
}

/// The edits that instructions of a stretch ask about: those that begin here, and earlier ones whose
/// work is spread over several kernels.
pub fn acting(stretch: &Stretch) -> Vec<EditId> {
    let mut edits = Vec::new();
    for instr in &stretch.instrs {
        let args = match instr {
            Instr::Kernel(call) => &call.args,
            Instr::Attention { body: Some(body), .. } | Instr::Scan { body, .. } => &body.call.args,
            _ => continue,
        };
        for arg in args {
            if let KernelArg::Guard(e) | KernelArg::Params(e) | KernelArg::Receipt(e) = arg
                && !edits.contains(e)
            {
                edits.push(*e);
            }
        }
    }
    edits
}

/// Guards and parameters of edits, by row.
fn edit_inputs(engine: &RowsEngine, frame: &mut Frame, edits: &[EditId]) {
    for &edit in edits {
        let slots = engine.plan.edits[edit.0 as usize].params.len();
        let n = frame.count();
        let (mut guard, mut params) = (vec![0.0; n], vec![0.0; n * slots]);
        for j in 0..n {
            let row = *frame.row(j);
            if frame.step.active(&engine.runs, &row, edit) {
                guard[j] = 1.0;
                let run = &engine.runs[row.run];
                let given = &run.run.edits[run.edit_at[&edit]].params;
                for (slot, p) in params[j * slots..(j + 1) * slots].iter_mut().zip(given) {
                    *slot = *p;
                }
            }
        }
        frame.guards.insert(edit, guard);
        frame.params.insert(edit, params);
        frame.receipts.insert(edit, vec![0.0; n * 3]);
    }
}

/// Where the last attention works only on rows that are read, all rows still leave their keys.
fn keep_for_narrow(engine: &mut RowsEngine, frame: &Frame, narrow_from: usize) -> Result<(), Error> {
    if narrow_from == usize::MAX || frame.stretch + 1 != narrow_from {
        return Ok(());
    }
    let program = Arc::clone(&engine.program);
    for (s, stretch) in program.stretches.iter().enumerate().skip(narrow_from) {
        for (i, instr) in stretch.instrs.iter().enumerate() {
            if let Instr::Attention { k, v, .. } = instr {
                store(engine, frame, (s, i), *k, Some(*v))?;
            }
        }
    }
    Ok(())
}

/// Appends the rows of a stretch to a cache.
pub fn store(engine: &mut RowsEngine, frame: &Frame, place: Place, k: BufId, v: Option<BufId>) -> Result<(), Error> {
    let append = |to: &mut Vec<f32>, rows: &[f32]| -> Result<(), Error> {
        memory::reserve(to, rows.len(), "what later tokens read of earlier ones")?;
        to.extend_from_slice(rows);
        Ok(())
    };
    if let Some(stored) = engine.caches.stored.get_mut(&place) {
        append(&mut stored.keys, &frame.buffers[k.0 as usize])?;
        if let Some(v) = v {
            append(&mut stored.values, &frame.buffers[v.0 as usize])?;
        }
    }
    Ok(())
}

/// The slots of a row's own and earlier rows, for an instruction of a stretch.
pub fn slots<'r>(engine: &'r RowsEngine, s: usize, row: &NewRow) -> &'r [u32] {
    &engine.runs[row.run].slots[home(&engine.program, s)][..=row.position]
}

/// Adds what the kernels of this stretch stored; an edit's numbers may come from several stretches.
fn receipts(engine: &RowsEngine, frame: &Frame, result: &mut StepResult) {
    for (&edit, values) in &frame.receipts {
        let begun = result.receipts.iter().any(|r| r.edit == edit);
        for (i, row) in frame.step.rows.iter().enumerate() {
            let j = frame.rows.map[i];
            if j == NONE || !frame.step.active(&engine.runs, row, edit) {
                continue;
            }
            let [changed, moved, before] = [0, 1, 2].map(|k| values[j as usize * 3 + k]);
            let mine = |r: &&mut RowReceipt| (r.run, r.edit, r.position) == (row.run, edit, row.position);
            let known = if begun { result.receipts.iter_mut().find(mine) } else { None };
            match known {
                Some(r) => {
                    r.changed += changed;
                    r.moved += moved;
                    r.before += before;
                }
                None => {
                    result.receipts.push(RowReceipt {
                        run: row.run,
                        edit,
                        position: row.position,
                        changed,
                        moved,
                        before,
                    });
                }
            }
        }
    }
}

fn read(
    program: &Program,
    frame: &Frame,
    work: &[Extend],
    output: usize,
    place: &OutputPlace,
    result: &mut StepResult,
) -> Result<(), Error> {
    let stretch = match place {
        OutputPlace::Buffer { stretch, .. } | OutputPlace::Body { stretch, .. } => *stretch,
    };
    if stretch != frame.stretch {
        return Ok(());
    }
    // Rows that share a value share its memory.
    let mut taken: HashMap<u32, Arc<[f32]>> = HashMap::new();
    let wanted: Vec<HashSet<usize>> =
        work.iter().map(|w| w.reads.get(output).map(|r| r.iter().copied().collect()).unwrap_or_default()).collect();
    for (i, row) in frame.step.rows.iter().enumerate() {
        if !wanted[row.work].contains(&row.position) {
            continue;
        }
        let j = frame.rows.map[i];
        if j == NONE {
            return Err(broken("a row that is read was not computed"));
        }
        let data = match taken.get(&j) {
            Some(d) => Arc::clone(d),
            None => {
                let d: Arc<[f32]> = match place {
                    OutputPlace::Buffer { buffer, .. } => {
                        let len = program.buffers[buffer.0 as usize].len;
                        frame.buffers[buffer.0 as usize][j as usize * len..(j as usize + 1) * len].into()
                    }
                    OutputPlace::Body { instr, result, .. } => match frame.inside.get(&(*instr, *result)) {
                        Some(rows) => rows[j as usize].as_slice().into(),
                        None => return Err(broken("an output inside of a body is missing")),
                    },
                };
                taken.insert(j, Arc::clone(&d));
                d
            }
        };
        result.values.push(RowValue { run: row.run, output, position: row.position, data });
    }
    Ok(())
}
