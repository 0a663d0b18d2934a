//! A whole experiment: derived tensors, then its pieces one after another.

use super::derive::tensors;
use super::live::{Follow, Gathered, run as run_live};
use super::needs;
use super::phase::{PhaseOptions, TensorValues, engine};
use super::pieces::{Part, pieces};
use super::receipts::{never_fired, receipts};
use super::results::Results;
use super::session::{Session, one};
use super::show::Show;
use super::statements::{Experiment, What, prepare_all};
use super::targets;
use crate::error::Error;
use crate::report::{self, Output, Page, Receipt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use steer_compiler::elaborate::{PrintItem, StatementKind};
use steer_lang::{Diagnostic, Diagnostics, codes};

/// What a run of a script gave.
pub struct Done {
    pub outputs: Vec<Output>,
    /// By output: the statement that it is of.
    pub statements: Vec<usize>,
    pub receipts: Vec<Receipt>,
    pub results: Results,
    pub warnings: Diagnostics,
    pub seconds: BTreeMap<String, f64>,
}

/// Runs all statements. `print` is given the text of each in the script's order, as it is there.
pub fn run(
    session: &Session,
    options: &PhaseOptions,
    print: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Done, Diagnostics> {
    run_on(session, options, &mut report::Plain(print))
}

/// The same for a page that may show texts as they come.
pub fn run_on(session: &Session, options: &PhaseOptions, page: &mut dyn Page) -> Result<Done, Diagnostics> {
    let clock = Instant::now();
    let mut seconds = BTreeMap::new();
    let experiment = prepare_all(session, options)?;
    seconds.insert("compile".into(), clock.elapsed().as_secs_f64());
    if !session.checkpoint.has_weights() {
        return Err(vec![
            Diagnostic::error(codes::NO_MODEL, format!("{} has no weights", session.model_name))
                .help("it can be checked but not run; put its safetensors files beside config.json"),
        ]);
    }
    targets::writable(session)?;
    let clock = Instant::now();
    let pieces = pieces(&experiment, options, needs::budget(options))?;
    for units in &pieces {
        let part = Part::new(&experiment, units);
        needs::check(&part.needs(&experiment, options).map_err(one)?, options)?;
    }
    seconds.insert("plan".into(), clock.elapsed().as_secs_f64());
    let mut wanted: BTreeSet<String> = experiment.prepared.plan.tensors.iter().map(|t| t.name.clone()).collect();
    for s in &session.script.statements {
        if let StatementKind::Print(items) = &s.kind {
            for item in items {
                if let PrintItem::Value { plan, .. } = item {
                    wanted.extend(plan.tensors.iter().map(|t| t.name.clone()));
                }
            }
        }
    }
    let clock = Instant::now();
    let values = tensors(session, &wanted, options)?;
    seconds.insert("derive".into(), clock.elapsed().as_secs_f64());
    let mut show = Show::new(session, &experiment, &values, page);
    let results = match execute(session, &experiment, &pieces, &values, options, &mut show, &mut seconds) {
        Ok(results) => results,
        Err(e) => {
            show.abandon();
            return Err(e);
        }
    };
    seconds.insert("prompts".into(), results.prompt_seconds);
    seconds.insert("generate".into(), results.new_seconds);
    let (statements, outputs) = show.outputs().into_iter().unzip();
    let receipts = receipts(session, &experiment.prepared, &results);
    let mut warnings = experiment.prepared.warnings.clone();
    warnings.extend(never_fired(session, &experiment, &results));
    Ok(Done { outputs, statements, receipts, results, warnings, seconds })
}

/// Loads the model and runs the pieces, showing what there is on the way.
fn execute(
    session: &Session,
    experiment: &Experiment,
    pieces: &[Vec<usize>],
    values: &TensorValues,
    options: &PhaseOptions,
    show: &mut Show,
    seconds: &mut BTreeMap<String, f64>,
) -> Result<Results, Diagnostics> {
    let statements = &session.script.statements;
    let mut results = Results::new(experiment, statements);
    if !pieces.is_empty() {
        show.advance(&results, false)?;
        let clock = Instant::now();
        let mut engine = engine(session, &experiment.prepared, values, options).map_err(one)?;
        seconds.insert("load".into(), clock.elapsed().as_secs_f64());
        // The last piece that tables and captures read.
        let text = |u: &usize| experiment.units[*u].what == What::Text;
        let last = pieces.iter().rposition(|units| !units.iter().all(text));
        results.measured = last.is_none();
        for (number, units) in pieces.iter().enumerate() {
            let part = Part::new(experiment, units);
            engine.begin(part.prepared.engine_runs.clone()).map_err(one)?;
            results.prompts_done = false;
            let label = match pieces.len() {
                1 => "prompts".to_owned(),
                n => format!("piece {} of {n}", number + 1),
            };
            let tokens = !show.streams();
            let mut step = |gathered: &Gathered| {
                if !results.prompts_done {
                    results.take_values(experiment, statements, &part, gathered)?;
                    results.measured |= last == Some(number);
                }
                results.take_texts(&part, gathered);
                show.advance(&results, false)
            };
            let mut follow = Follow { label: &label, tokens, step: &mut step };
            let gathered = run_live(session, &part.prepared, engine.as_mut(), &part.asks, options, &mut follow)?;
            results.take_texts(&part, &gathered);
            results.take_counts(&part, &gathered);
            if results.stopped {
                break;
            }
        }
    }
    show.advance(&results, true)?;
    Ok(results)
}
