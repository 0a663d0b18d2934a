//! What an experiment has given so far, whatever pieces it is executed in.

use super::live::Gathered;
use super::pieces::Part;
use super::statements::{Experiment, What};
use super::table::{Given, Numbers};
use crate::engine::RowCount;
use crate::report::Sums;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use steer_compiler::elaborate::{RunSpec, Statement, StatementKind};
use steer_compiler::plan::EditId;
use steer_lang::Diagnostics;

/// Results by the runs of the whole experiment.
#[derive(Default)]
pub struct Results {
    /// By statement, by cell of its table.
    pub cells: Vec<Vec<Option<Numbers>>>,
    /// What `capture` reads, by run, output and position.
    pub captured: HashMap<(usize, usize, usize), Arc<[f32]>>,
    /// By run: the new tokens, their text, and whether no more comes.
    pub generated: Vec<Vec<u32>>,
    pub texts: Vec<String>,
    pub ended: Vec<bool>,
    /// By edit and run.
    pub sums: BTreeMap<(EditId, usize), Sums>,
    /// By run and edit: the rows that it selects, computed or not.
    pub selected: HashMap<(usize, EditId), u64>,
    /// Runs whose receipts are in; one may be in several pieces.
    counted: BTreeSet<usize>,
    /// Whether the prompts of the present piece are done.
    pub prompts_done: bool,
    /// Whether all tables and captures are there.
    pub measured: bool,
    pub stopped: bool,
    pub rows: RowCount,
    pub prompt_rows: usize,
    pub new_rows: usize,
    pub prompt_seconds: f64,
    pub new_seconds: f64,
}

impl Results {
    pub fn new(experiment: &Experiment, statements: &[Statement]) -> Self {
        let runs = experiment.prepared.runs.len();
        let cells = statements.iter().map(|s| match &s.kind {
            StatementKind::Table(t) => vec![None; t.cells.len()],
            _ => Vec::new(),
        });
        Results {
            cells: cells.collect(),
            generated: vec![Vec::new(); runs],
            texts: vec![String::new(); runs],
            ended: vec![false; runs],
            ..Results::default()
        }
    }

    /// Takes over what the units of a piece read, once its prompts are done.
    pub fn take_values(
        &mut self,
        experiment: &Experiment,
        statements: &[Statement],
        part: &Part,
        gathered: &Gathered,
    ) -> Result<(), Diagnostics> {
        let run = |r: &RunSpec| experiment.known.get(r).and_then(|at| part.local(*at));
        let given = Given { values: &gathered.values, sources: &experiment.sources, run: &run };
        for unit in part.units.iter().map(|u| &experiment.units[*u]) {
            match unit.what {
                What::Cell { statement, cell } => {
                    let s = &statements[statement];
                    if let StatementKind::Table(t) = &s.kind {
                        self.cells[statement][cell] = Some(given.cell(&t.cells[cell], s.span)?);
                    }
                }
                What::Capture => {
                    for (run, output, rows) in &unit.reads {
                        let Some(local) = part.local(*run) else { continue };
                        for p in rows {
                            if let Some(v) = gathered.values.get(&(local, *output, *p)) {
                                self.captured.insert((*run, *output, *p), Arc::clone(v));
                            }
                        }
                    }
                }
                What::Text => {}
            }
        }
        self.prompts_done = true;
        Ok(())
    }

    /// Takes over how far texts have grown.
    pub fn take_texts(&mut self, part: &Part, gathered: &Gathered) {
        for (local, &run) in part.runs.iter().enumerate() {
            if self.generated[run].len() != gathered.generated[local].len() {
                self.generated[run].clone_from(&gathered.generated[local]);
            }
            if self.texts[run].len() != gathered.texts[local].len() {
                self.texts[run].clone_from(&gathered.texts[local]);
            }
            self.ended[run] = gathered.ended[local];
        }
    }

    /// Takes over receipts and counts at the end of a piece.
    pub fn take_counts(&mut self, part: &Part, gathered: &Gathered) {
        let fresh: Vec<bool> = part.runs.iter().map(|r| self.counted.insert(*r)).collect();
        let mut receipts: Vec<_> = gathered.receipts.iter().filter(|r| fresh[r.run]).collect();
        receipts.sort_by_key(|r| (r.edit, r.run, r.position));
        for r in receipts {
            self.sums.entry((r.edit, part.runs[r.run])).or_default().add(r);
        }
        for ((run, edit), n) in gathered.selected.iter().filter(|((run, _), _)| fresh[*run]) {
            self.selected.insert((part.runs[*run], *edit), *n);
        }
        self.stopped |= gathered.stopped;
        self.rows.computed += gathered.rows.computed;
        self.rows.naive += gathered.rows.naive;
        self.prompt_rows += gathered.prompt_rows;
        self.new_rows += gathered.new_rows;
        self.prompt_seconds += gathered.prompt_seconds;
        self.new_seconds += gathered.new_seconds;
    }
}
