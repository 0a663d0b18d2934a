//! The distinct rows of passes, counted without executing anything.

use super::cache::Homes;
use super::exec::{counted, operations};
use super::given::Given;
use super::lives::Lives;
use super::operations::{Cost, costs, total};
use super::runs::{Pasts, RunState, Users};
use super::share::{Layout, NONE, NewRow, Step, number};
use super::{layout, memory};
use crate::engine::{Extend, RowCount, Run};
use crate::error::Error;
use std::collections::HashSet;
use steer_compiler::plan::{Plan, Sight};
use steer_compiler::program::{Instr, OutputPlace, Program};

/// Runs as the engine keeps them, without their values.
pub struct Counter<'p> {
    program: &'p Program,
    layout: Layout,
    runs: Vec<RunState>,
    users: Users,
    pasts: Pasts,
    costs: Vec<Vec<Cost>>,
}

/// What one pass comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pass {
    /// By stretch: its distinct rows.
    pub rows: Vec<usize>,
    /// The rows that were handed over.
    pub handed: usize,
    pub operations: u64,
    /// The bytes of what is read, shared values once.
    pub read: u64,
    /// The bytes of values inside of attentions and scans that are outputs, of all rows of a stretch, or that
    /// patches take.
    pub inside: u64,
}

impl<'p> Counter<'p> {
    pub fn new(program: &'p Program, runs: &[Run]) -> Result<Self, Error> {
        let layout = layout(program, &Lives::of(program, &Homes::new(program)));
        let users = Users::new(program, runs)?;
        let pasts = Pasts::new(program, runs.len());
        // No caches are asked for.
        let runs = runs.iter().map(|r| RunState::new(r.clone(), 0)).collect();
        Ok(Counter { program, layout, runs, users, pasts, costs: costs(program) })
    }

    /// The operations of one row at the position 0.
    pub fn row(&self) -> u64 {
        self.costs.iter().map(|c| total(c, std::iter::once((0, 1)))).sum()
    }

    fn step<'a>(&mut self, work: &'a [Extend]) -> Result<Step<'a>, Error> {
        let step = number(self.program, &self.layout, &self.runs, &self.users, &mut self.pasts, work, true)?;
        for row in &step.rows {
            self.runs[row.run].len = self.runs[row.run].len.max(row.position + 1);
        }
        Ok(step)
    }

    /// Appends these rows to the runs.
    pub fn pass(&mut self, plan: &Plan, work: &[Extend]) -> Result<Pass, Error> {
        let step = self.step(work)?;
        let rows = step.stretches.iter().map(|s| s.first.len()).collect();
        let mut inside = 0;
        for (s, rows) in step.stretches.iter().enumerate() {
            let place = |i: &u32| (step.rows[*i as usize].position, step.length(&step.rows[*i as usize]));
            inside += rows.first.iter().map(|i| memory::inside(plan, self.program, s, place(i))).sum::<u64>();
            for instr in &self.program.stretches[s].instrs {
                inside += match instr {
                    Instr::Attention { body: Some(body), window, whole, .. } => {
                        let sight = Sight { window: *window, whole: *whole };
                        let keys = |row: &NewRow| sight.of(row.position, step.length(row)).len();
                        Given::new(plan, body, &self.users, &step, rows, &keys)?.bytes()
                    }
                    Instr::Scan { body: Some(body), .. } => {
                        Given::new(plan, body, &self.users, &step, rows, &|_| 1)?.bytes()
                    }
                    _ => 0,
                };
            }
        }
        let operations = operations(&self.costs, &step);
        Ok(Pass { rows, handed: step.rows.len(), operations, read: read(plan, self.program, &step), inside })
    }
}

/// The bytes of what a step gives back.
fn read(plan: &Plan, program: &Program, step: &Step) -> u64 {
    let mut bytes = 0;
    for (o, place) in program.outputs.iter().enumerate() {
        let stretch = match place {
            OutputPlace::Buffer { stretch, .. } | OutputPlace::Body { stretch, .. } => *stretch,
        };
        let wanted: Vec<HashSet<usize>> =
            step.work.iter().map(|w| w.reads.get(o).map(|r| r.iter().copied().collect()).unwrap_or_default()).collect();
        let mut taken = HashSet::new();
        for (i, row) in step.rows.iter().enumerate() {
            let at = step.stretches[stretch].map[i];
            if at != NONE && wanted[row.work].contains(&row.position) && taken.insert(at) {
                // As if no window left keys out.
                let whole = matches!(place, OutputPlace::Body { instr, .. } if sees_all(program, stretch, *instr));
                let keys = Sight { window: None, whole }.of(row.position, step.length(row)).len();
                bytes += plan.ty(plan.outputs[o].node).len_with(keys) as u64 * 4;
            }
        }
    }
    bytes
}

/// Whether an instruction is an attention over whole sequences.
pub fn sees_all(program: &Program, stretch: usize, instr: usize) -> bool {
    matches!(program.stretches[stretch].instrs.get(instr), Some(Instr::Attention { whole: true, .. }))
}

/// The distinct rows of one pass over these runs by stretch, and what they come to against a pass for each run;
/// nothing where the runs do not fit together. Of experts all are counted.
pub fn count(program: &Program, runs: &[Run], work: &[Extend]) -> (Vec<u64>, RowCount) {
    let step = Counter::new(program, runs).and_then(|mut counter| {
        let step = counter.step(work)?;
        let each = step.stretches.iter().map(|rows| rows.first.len() as u64).collect();
        let count = counted(&counter.costs, &step);
        Ok((each, RowCount { operations: operations(&counter.costs, &step), ..count }))
    });
    step.unwrap_or_default()
}
