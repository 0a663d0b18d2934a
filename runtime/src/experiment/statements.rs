//! What the statements of a script ask of its runs: all of them are compiled as one phase.

use super::live::{Ask, Grow};
use super::measure::{Sources, positions};
use super::phase::{PhaseOptions, Prepared, prepare};
use super::sample;
use super::score::Score;
use super::session::{Session, one};
use crate::engine::RowCount;
use crate::error::Error;
use std::collections::HashMap;
use std::rc::Rc;
use steer_compiler::elaborate::{Cell, MetricExpr, OutputSpec, Read, RunSpec, Statement, StatementKind, partner};
use steer_lang::{Diagnostics, codes};

/// Where the runs of one statement are among those of the phase.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The runs of `generate`, baseline and steered in turn where there are edits, and of `capture`.
    pub runs: Vec<usize>,
    /// The outputs of `capture`.
    pub outputs: Vec<usize>,
}

/// What is finished by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A cell of a table.
    Cell { statement: usize, cell: usize },
    /// One run of a `capture`.
    Capture,
    /// A text of a `generate`, with its baseline.
    Text,
}

/// The smallest part of an experiment, and what it asks of which runs.
#[derive(Clone, Debug)]
pub struct Unit {
    pub what: What,
    /// Run, output and positions.
    pub reads: Vec<(usize, usize, Vec<usize>)>,
    pub grows: Vec<(usize, Grow)>,
}

/// The phase of a script's statements, and what each of them asks.
pub struct Experiment {
    pub prepared: Prepared,
    pub units: Vec<Unit>,
    /// By statement.
    pub places: Vec<Place>,
    pub sources: Rc<Sources>,
    /// The runs that do not grow, by what they are.
    pub known: HashMap<RunSpec, usize>,
}

/// Runs and outputs as they are found.
struct Asking {
    runs: Vec<RunSpec>,
    known: HashMap<RunSpec, usize>,
    outputs: Vec<OutputSpec>,
    sources: Rc<Sources>,
    units: Vec<Unit>,
}

/// Compiles all statements of a script as one phase.
pub fn prepare_all(session: &Session, options: &PhaseOptions) -> Result<Experiment, Diagnostics> {
    let statements = &session.script.statements;
    let grows = statements.iter().any(|s| matches!(s.kind, StatementKind::Generate { .. }));
    let mut outputs = Vec::new();
    let sources = Rc::new(Sources::of(metrics_of(statements), grows, &mut outputs));
    let mut a = Asking { runs: Vec::new(), known: HashMap::new(), outputs, sources, units: Vec::new() };
    let mut places = vec![Place::default(); statements.len()];
    for (number, (s, place)) in statements.iter().zip(&mut places).enumerate() {
        match &s.kind {
            StatementKind::Table(t) => {
                for (i, cell) in t.cells.iter().enumerate() {
                    let reads = a.cell(cell);
                    let what = What::Cell { statement: number, cell: i };
                    a.units.push(Unit { what, reads, grows: Vec::new() });
                }
            }
            StatementKind::Capture { sites, before, on, runs, .. } => {
                place.outputs = sites.iter().map(|site| a.output(site, *before)).collect();
                for run in runs {
                    let at = a.run(run);
                    place.runs.push(at);
                    let rows = positions(&on.rows(&run.sequence()));
                    let reads = place.outputs.iter().map(|o| (at, *o, rows.clone())).collect();
                    a.units.push(Unit { what: What::Capture, reads, grows: Vec::new() });
                }
            }
            _ => {}
        }
    }
    // Runs that grow stand behind those that do not, each by itself; equal rows are shared all the same.
    for (s, place) in statements.iter().zip(&mut places) {
        let StatementKind::Generate { runs, options, scores } = &s.kind else { continue };
        let Some(logits) = a.sources.whole() else { return Err(one(broken("no logits"))) };
        let mut times: HashMap<&[u32], u64> = HashMap::new();
        let samples = runs.iter().enumerate().flat_map(|run| std::iter::repeat_n(run, options.samples));
        for (i, spec) in samples {
            let time = times.entry(&spec.encoded.tokens).or_default();
            let key = [sample::named(&spec.encoded.tokens), *time];
            *time += 1;
            let baseline = RunSpec { uses: Vec::new(), label: "baseline".into(), ..spec.clone() };
            let both = if spec.uses.is_empty() { vec![spec.clone()] } else { vec![baseline, spec.clone()] };
            let (mut reads, mut grows) = (Vec::new(), Vec::new());
            for run in both {
                let at = a.runs.len();
                place.runs.push(at);
                let score = scores.get(i).map(|m| Score::new(m, &a.sources));
                // Which rows count is known when the text is.
                let asked = score.iter().flat_map(|s| &s.outputs);
                reads.extend(asked.map(|o| (at, *o, (0..run.encoded.tokens.len()).collect())));
                grows.push((at, Grow { options: options.clone(), key, logits, score }));
                a.runs.push(run);
            }
            a.units.push(Unit { what: What::Text, reads, grows });
        }
    }
    let prepared = prepare((&session.script, &session.checkpoint), &a.runs, &a.outputs, options)?;
    Ok(Experiment { prepared, units: a.units, places, sources: a.sources, known: a.known })
}

impl Asking {
    /// The place of a run that does not grow.
    fn run(&mut self, run: &RunSpec) -> usize {
        if let Some(at) = self.known.get(run) {
            return *at;
        }
        self.runs.push(run.clone());
        self.known.insert(run.clone(), self.runs.len() - 1);
        self.runs.len() - 1
    }

    fn output(&mut self, site: &str, before: bool) -> usize {
        let spec = OutputSpec::Site { name: site.to_owned(), before };
        self.outputs.iter().position(|x| *x == spec).unwrap_or_else(|| {
            self.outputs.push(spec);
            self.outputs.len() - 1
        })
    }

    /// What a cell of a table reads.
    fn cell(&mut self, cell: &Cell) -> Vec<(usize, usize, Vec<usize>)> {
        let mut reads = Vec::new();
        for Read { run, metrics } in cell.reads.iter().chain(&cell.zero).chain(&cell.one) {
            let at = self.run(run);
            for m in metrics.iter() {
                let rows = positions(&m.at.rows(&run.sequence()));
                reads.extend(self.sources.outputs(&m.value).into_iter().map(|o| (at, o, rows.clone())));
                let len = run.encoded.tokens.len();
                for (other, by_end) in m.value.others() {
                    let have = other.encoded.tokens.len();
                    let rows = rows.iter().filter_map(|p| partner(*p, len, have, by_end)).collect();
                    let at = self.run(other);
                    reads.extend(self.sources.whole().map(|o| (at, o, rows)));
                }
            }
        }
        reads
    }
}

impl Experiment {
    /// What some units together ask of these runs, which are in order.
    pub fn asks(&self, units: &[usize], runs: &[usize]) -> Vec<Ask> {
        let outputs = self.prepared.plan.outputs.len();
        let mut asks = vec![Ask { reads: vec![Vec::new(); outputs], grow: None }; runs.len()];
        let at = |run: &usize| runs.binary_search(run).ok();
        for unit in units.iter().map(|u| &self.units[*u]) {
            for (run, output, rows) in &unit.reads {
                if let Some(at) = at(run) {
                    asks[at].reads[*output].extend(rows);
                }
            }
            for (run, grow) in &unit.grows {
                if let Some(at) = at(run) {
                    asks[at].grow = Some(grow.clone());
                }
            }
        }
        for rows in asks.iter_mut().flat_map(|a| &mut a.reads) {
            rows.sort_unstable();
            rows.dedup();
        }
        asks
    }

    /// All of its units.
    pub fn whole(&self) -> Vec<usize> {
        (0..self.units.len()).collect()
    }

    /// The rows of each stretch that the rows engine would compute of all prompts, and what these come to.
    pub fn count_rows(&self) -> (Vec<u64>, RowCount) {
        let runs: Vec<usize> = (0..self.prepared.runs.len()).collect();
        let asks = self.asks(&self.whole(), &runs);
        let work = super::live::first_work(&self.prepared, &asks);
        crate::rows::count(&self.prepared.program, &self.prepared.engine_runs, &work)
    }
}

fn metrics_of(statements: &[Statement]) -> impl Iterator<Item = &MetricExpr> {
    fn of(s: &Statement) -> Vec<&MetricExpr> {
        match &s.kind {
            StatementKind::Table(t) => {
                let reads = t.cells.iter().flat_map(|c| c.reads.iter().chain(&c.zero).chain(&c.one));
                reads.flat_map(|r| r.metrics.iter()).map(|m| &m.value).collect()
            }
            StatementKind::Generate { scores, .. } => scores.iter().map(|m| &m.value).collect(),
            _ => Vec::new(),
        }
    }
    statements.iter().flat_map(of)
}

pub fn broken(what: &str) -> Error {
    Error::new(codes::BACKEND, format!("the experiment lost its way: {what}")).help("this is a bug in steer")
}
