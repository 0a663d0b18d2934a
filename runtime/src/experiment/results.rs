//! What an experiment has given so far, whatever pieces it is executed in.

use super::live::Gathered;
use super::pieces::Part;
use super::spent::Passes;
use super::statements::{Experiment, What};
use super::table::{Given, Numbers};
use crate::engine::{Did, RowCount};
use crate::report::Sums;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// By run: what its complete text is scored with.
    pub scores: Vec<Option<f64>>,
    /// By edit and run: what the edit did, by position. A run may be in several pieces, in each of which other
    /// rows of it are computed.
    did: BTreeMap<(EditId, usize), BTreeMap<usize, Did>>,
    /// By run and edit: the rows that it selects, computed or not.
    pub selected: HashMap<(usize, EditId), u64>,
    /// Units that are finished.
    pub finished: HashSet<usize>,
    /// Whether the prompts of the present piece are done.
    pub prompts_done: bool,
    /// Whether all tables and captures are there.
    pub measured: bool,
    pub stopped: bool,
    pub work: Work,
    /// What the passes over prompts and over new tokens were spent on, where that is measured.
    pub spent: [Passes; 2],
}

/// What an edit did to rows, by position, in order.
pub type Rows = Vec<(usize, Did)>;

/// Run, output, position and value.
pub type Captured = (usize, usize, usize, Arc<[f32]>);

/// What was computed for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    pub rows: RowCount,
    pub prompt_rows: usize,
    pub new_rows: usize,
    pub prompt_seconds: f64,
    pub new_seconds: f64,
}

/// What a piece gave, by the numbers of the whole experiment: all that has to be kept of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub units: Vec<usize>,
    /// Statement, cell, and its numbers.
    pub cells: Vec<(usize, usize, Numbers)>,
    #[serde(with = "captured")]
    pub captured: Vec<Captured>,
    /// Run, its new tokens, their text, and its score.
    pub texts: Vec<(usize, Vec<u32>, String, Option<f64>)>,
    /// Edit and run.
    pub did: Vec<(u32, usize, Rows)>,
    pub selected: Vec<(usize, u32, u64)>,
    pub work: Work,
}

/// Values that are shared in memory, and written as if they were not.
mod captured {
    use super::Captured;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[Captured], to: S) -> Result<S::Ok, S::Error> {
        let plain: Vec<(usize, usize, usize, &[f32])> = values.iter().map(|(r, o, p, v)| (*r, *o, *p, &**v)).collect();
        plain.serialize(to)
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<Captured>, D::Error> {
        let plain = Vec::<(usize, usize, usize, Vec<f32>)>::deserialize(from)?;
        Ok(plain.into_iter().map(|(r, o, p, v)| (r, o, p, v.into())).collect())
    }
}

impl Results {
    pub fn new(experiment: &Experiment, statements: &[Statement]) -> Self {
        let runs = experiment.prepared.runs.len();
        let cells = statements.iter().map(|s| match &s.kind {
            StatementKind::Table(t) => vec![None; t.cells.len()],
            _ => Vec::new(),
        });
        let mut results = Results {
            cells: cells.collect(),
            generated: vec![Vec::new(); runs],
            texts: vec![String::new(); runs],
            ended: vec![false; runs],
            scores: vec![None; runs],
            ..Results::default()
        };
        results.look(experiment);
        results
    }

    /// Whether all tables and captures are there by now.
    fn look(&mut self, experiment: &Experiment) {
        let text = |u: &usize| experiment.units[*u].what == What::Text;
        self.measured = (0..experiment.units.len()).all(|u| text(&u) || self.finished.contains(&u));
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
        for &number in &part.units {
            let unit = &experiment.units[number];
            match unit.what {
                What::Cell { statement, cell } => {
                    let s = &statements[statement];
                    if let StatementKind::Table(t) = &s.kind {
                        let numbers = match t.top {
                            true => given.top(&t.cells[cell], t.axes[0].labels.len(), s.span)?,
                            false => given.cell(&t.cells[cell], s.span)?,
                        };
                        self.cells[statement][cell] = Some(numbers);
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
                What::Text => continue,
            }
            self.finished.insert(number);
        }
        self.prompts_done = true;
        self.look(experiment);
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
            self.scores[run] = gathered.scores[local];
        }
    }

    /// Takes over receipts and counts at the end of a piece.
    pub fn take_counts(&mut self, part: &Part, gathered: &Gathered) {
        for r in &gathered.receipts {
            let rows = self.did.entry((r.edit, part.runs[r.run])).or_default();
            more(rows, r.position, r.did);
        }
        for ((run, edit), n) in &gathered.selected {
            self.selected.insert((part.runs[*run], *edit), *n);
        }
        self.stopped |= gathered.stopped;
        if !gathered.stopped {
            self.finished.extend(&part.units);
        }
        self.work.add(&Work::of(gathered));
        self.spent.iter_mut().zip(&gathered.spent).for_each(|(all, new)| all.add(new));
    }

    /// What is kept of a piece that has ended.
    pub fn of_piece(&self, experiment: &Experiment, part: &Part, gathered: &Gathered) -> Finished {
        let mut out = Finished { units: part.units.clone(), work: Work::of(gathered), ..Finished::default() };
        for unit in part.units.iter().map(|u| &experiment.units[*u]) {
            match unit.what {
                What::Cell { statement, cell } => {
                    out.cells.extend(self.cells[statement][cell].clone().map(|n| (statement, cell, n)));
                }
                What::Capture => {
                    for (run, output, rows) in &unit.reads {
                        let values = rows.iter().filter_map(|p| Some((*p, self.captured.get(&(*run, *output, *p))?)));
                        out.captured.extend(values.map(|(p, v)| (*run, *output, p, Arc::clone(v))));
                    }
                }
                What::Text => {
                    let runs = unit.grows.iter().map(|g| g.0);
                    out.texts
                        .extend(runs.map(|r| (r, self.generated[r].clone(), self.texts[r].clone(), self.scores[r])));
                }
            }
        }
        let mut receipts: BTreeMap<(u32, usize), Rows> = BTreeMap::new();
        for r in &gathered.receipts {
            let rows = receipts.entry((r.edit.0, part.runs[r.run])).or_default();
            rows.push((r.position, r.did));
        }
        out.did = receipts.into_iter().map(|((edit, run), rows)| (edit, run, rows)).collect();
        out.selected = gathered.selected.iter().map(|((run, e), n)| (part.runs[*run], e.0, *n)).collect();
        out.selected.sort_unstable();
        out
    }

    /// Takes over what was kept of a piece; false where it does not belong to this experiment.
    pub fn take_kept(&mut self, experiment: &Experiment, kept: Finished) -> bool {
        let (units, runs) = (experiment.units.len(), experiment.prepared.runs.len());
        let edits = experiment.prepared.plan.edits.len();
        let fits = kept.units.iter().all(|u| *u < units)
            && kept.cells.iter().all(|(s, c, _)| self.cells.get(*s).is_some_and(|t| *c < t.len()))
            && kept.texts.iter().all(|t| t.0 < runs)
            && kept.captured.iter().all(|c| c.0 < runs)
            && kept.did.iter().all(|d| (d.0 as usize) < edits && d.1 < runs)
            && kept.selected.iter().all(|s| s.0 < runs && (s.1 as usize) < edits);
        if !fits {
            return false;
        }
        for (statement, cell, numbers) in kept.cells {
            self.cells[statement][cell] = Some(numbers);
        }
        for (run, output, position, values) in kept.captured {
            self.captured.insert((run, output, position), values);
        }
        for (run, tokens, text, score) in kept.texts {
            (self.generated[run], self.texts[run], self.ended[run]) = (tokens, text, true);
            self.scores[run] = score;
        }
        for (edit, run, rows) in kept.did {
            let own = self.did.entry((EditId(edit), run)).or_default();
            rows.into_iter().for_each(|(position, did)| more(own, position, did));
        }
        self.selected.extend(kept.selected.into_iter().map(|(run, edit, n)| ((run, EditId(edit)), n)));
        self.finished.extend(kept.units);
        self.work.add(&kept.work);
        self.look(experiment);
        true
    }

    /// What edits did, by edit and run.
    pub fn sums(&self) -> BTreeMap<(EditId, usize), Sums> {
        let sum = |rows: &BTreeMap<usize, Did>| {
            let mut sums = Sums::default();
            rows.values().for_each(|did| sums.add(did));
            sums
        };
        self.did.iter().map(|(of, rows)| (*of, sum(rows))).collect()
    }
}

/// Adds what an edit did to a row. In one piece less of it may have been computed than in another: nothing of a
/// number that was not is 0.
fn more(rows: &mut BTreeMap<usize, Did>, position: usize, did: Did) {
    let own = rows.entry(position).or_insert(did);
    own.iter_mut().zip(did).for_each(|(a, b)| *a = if b.is_nan() { b } else { a.max(b) });
}

impl Work {
    fn of(gathered: &Gathered) -> Self {
        Work {
            rows: gathered.rows,
            prompt_rows: gathered.prompt_rows,
            new_rows: gathered.new_rows,
            prompt_seconds: gathered.prompt_seconds,
            new_seconds: gathered.new_seconds,
        }
    }

    fn add(&mut self, more: &Work) {
        self.rows += more.rows;
        self.prompt_rows += more.prompt_rows;
        self.new_rows += more.new_rows;
        self.prompt_seconds += more.prompt_seconds;
        self.new_seconds += more.new_seconds;
    }
}
