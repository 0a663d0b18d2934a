//! A whole experiment: derived tensors, then its pieces one after another.

use super::derive::tensors;
use super::keep::{self, Keeping, Kept};
use super::live::{self, Follow, Gathered, run as run_live};
use super::needs;
use super::phase::{PhaseOptions, TensorValues};
use super::pieces::{Part, Piece, pieces};
use super::ready::Ready;
use super::receipts::{emptied, never_fired, receipts};
use super::results::Results;
use super::session::{Session, one};
use super::show::Show;
use super::statements::{Experiment, prepare_all};
use super::targets;
use crate::engine::Engine;
use crate::error::Error;
use crate::progress::{Bar, Unit};
use crate::report::{self, Output, Page, Receipt};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
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
    /// How many cells and texts the experiment has.
    pub units: usize,
    /// Where finished pieces are kept, or were until the end.
    pub kept: Option<PathBuf>,
    /// That file, where it is of no use once all reports are written.
    pub spent: Option<PathBuf>,
    /// All of the run, but for the session's; the page was given them as they were known.
    pub warnings: Diagnostics,
    pub seconds: BTreeMap<String, f64>,
}

/// Runs all statements. `print` is given the text of each in the script's order, as it is there.
pub fn run(
    session: &Session,
    options: &PhaseOptions,
    print: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Done, Diagnostics> {
    run_on(session, options, &Keeping::default(), &mut report::Plain(print))
}

/// The same for a page that may show texts as they come, with finished pieces kept. Of a shard nothing is shown:
/// its pieces are kept, and `merge` shows them.
pub fn run_on(
    session: &Session,
    options: &PhaseOptions,
    keeping: &Keeping,
    page: &mut dyn Page,
) -> Result<Done, Diagnostics> {
    execute(session, options, keeping, page).map_err(|found| found.into_iter().map(|d| overflow(d, options)).collect())
}

/// Says of a value that is not finite whether the cache's format may be the cause.
pub fn overflow(mut d: Diagnostic, options: &PhaseOptions) -> Diagnostic {
    if let Some(largest) = options.rounding.largest_stored().filter(|_| d.code == codes::NOT_FINITE) {
        let cache = options.rounding.cache.name();
        let may = format!("`--cache {cache}` stores keys and values beyond {largest} as infinite: try `--cache f32`");
        d.help = Some(d.help.map_or(may.clone(), |other| format!("{may}; else {other}")));
    }
    d
}

fn execute(
    session: &Session,
    options: &PhaseOptions,
    keeping: &Keeping,
    page: &mut dyn Page,
) -> Result<Done, Diagnostics> {
    let mut clock = Clock::default();
    let experiment = clock.time("compile", || prepare_all(session, options))?;
    page.warn(&experiment.prepared.warnings);
    if !session.checkpoint.has_weights() {
        return Err(vec![
            Diagnostic::error(codes::NO_MODEL, format!("{} has no weights", session.model_name))
                .help("it can be checked but not run; put its safetensors files beside config.json"),
        ]);
    }
    let units = match keeping.shard {
        None => experiment.whole(),
        Some(shard) => shard.units(experiment.units.len()),
    };
    if keeping.shard.is_none() {
        targets::writable(session)?;
    }
    let budget = needs::budget(options);
    let mut pieces = clock.time("plan", || -> Result<_, Diagnostics> {
        let pieces = pieces(&experiment, &units, options, budget)?;
        for piece in &pieces {
            needs::check(&piece.needs, &experiment.prepared, options)?;
        }
        Ok(pieces)
    })?;
    let mut wanted: BTreeSet<String> = experiment.prepared.plan.tensors.iter().map(|t| t.name.clone()).collect();
    wanted.extend(printed(session));
    let values = clock.time("derive", || tensors(session, &wanted, options))?;
    let mut results = Results::new(&experiment, &session.script.statements);
    // What is there at once in the end need not be kept on the way.
    let keeps = keeping.shard.is_some() || keeping.resume || pieces.len() > 1;
    let mut kept = None;
    if keeps && !matches!(keeping.place, keep::Place::Nowhere) {
        let header = keep::Header::of(session, &experiment, &values, options).map_err(one)?;
        kept = Kept::open(keeping, header, &experiment, &mut results)?;
        let left: Vec<usize> = units.iter().filter(|u| !results.finished.contains(u)).copied().collect();
        if left.len() < units.len() {
            pieces = self::pieces(&experiment, &left, options, budget)?;
        }
    }
    let mut warnings = experiment.prepared.warnings.clone();
    if let Some(kept) = &kept {
        page.warn(&kept.warnings);
        warnings.extend(kept.warnings.iter().cloned());
    }
    let mut silent = report::Silent;
    let shown: &mut dyn Page = if keeping.shard.is_some() { &mut silent } else { &mut *page };
    let mut show = Show::new(session, &experiment, &values, shown);
    let execution = Execution { session, experiment: &experiment, values: &values, options };
    let shows = keeping.shard.is_none();
    let run = execution.run(&pieces, &mut results, &mut kept, shows.then_some(&mut show), &mut clock);
    let complete = run.is_ok() && !results.stopped;
    let wanted = kept.as_mut().filter(|k| !complete || k.lasts());
    let written = wanted.map_or(Ok(()), Kept::end).map_err(one);
    if let Err(mut e) = run.and(written) {
        show.abandon();
        if let (Some(left), Some(first)) = (kept.as_ref().and_then(Kept::left), e.first_mut()) {
            let go_on = format!("finished cells are kept in `{}`: --resume goes on", left.display());
            first.help = Some(first.help.take().map_or(go_on.clone(), |help| format!("{help}; {go_on}")));
        }
        return Err(e);
    }
    let outputs = show.outputs();
    let mut done = Done::of(session, &experiment, results, outputs, clock);
    done.warn(warnings, page);
    done.kept = kept.as_ref().map(|k| k.path().to_path_buf());
    done.spent = kept.filter(|_| !done.results.stopped).and_then(Kept::spent);
    Ok(done)
}

/// Shows what the files of an experiment's shards hold. Only what `print` needs is computed.
pub fn merge_on(
    session: &Session,
    options: &PhaseOptions,
    files: &[PathBuf],
    page: &mut dyn Page,
) -> Result<Done, Diagnostics> {
    let mut clock = Clock::default();
    let experiment = clock.time("compile", || prepare_all(session, options))?;
    page.warn(&experiment.prepared.warnings);
    targets::writable(session)?;
    let values = clock.time("derive", || tensors(session, &printed(session), options))?;
    let mut results = Results::new(&experiment, &session.script.statements);
    let header = keep::Header::of(session, &experiment, &values, options).map_err(one)?;
    let mut warnings = experiment.prepared.warnings.clone();
    let joined = keep::join(files, header, &experiment, &mut results)?;
    page.warn(&joined);
    warnings.extend(joined);
    let mut show = Show::new(session, &experiment, &values, page);
    show.advance(&results, true)?;
    let outputs = show.outputs();
    let mut done = Done::of(session, &experiment, results, outputs, clock);
    done.warn(warnings, page);
    Ok(done)
}

/// Whether joining the shards of a script computes something, for which it needs the weights.
pub fn merging_computes(session: &Session) -> bool {
    !printed(session).is_empty()
}

/// The tensors that `print` shows and `save` writes.
pub fn printed(session: &Session) -> BTreeSet<String> {
    let saved = session.script.statements.iter().filter_map(|s| match &s.kind {
        StatementKind::SaveTensors(saved) => Some(saved.tensors.iter().cloned()),
        _ => None,
    });
    let items = session.script.statements.iter().flat_map(|s| match &s.kind {
        StatementKind::Print(items) => &items[..],
        _ => &[],
    });
    let shown = items.flat_map(|i| match i {
        PrintItem::Value { plan, .. } => plan.tensors.iter().map(|t| t.name.clone()).collect(),
        PrintItem::Ranked { ranking, layers, .. } => match layers {
            Some(layers) => layers.iter().map(|l| ranking.source(Some(*l))).collect(),
            None => vec![ranking.source(None)],
        },
        PrintItem::Text(_) => Vec::new(),
    });
    shown.chain(saved.flatten()).collect()
}

/// Seconds by stage.
#[derive(Default)]
struct Clock(BTreeMap<String, f64>);

impl Clock {
    fn time<T>(&mut self, stage: &str, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = work();
        self.0.insert(stage.into(), start.elapsed().as_secs_f64());
        out
    }
}

impl Done {
    /// Says the warnings that only the results give, and puts those before them that were `known` and said before.
    fn warn(&mut self, known: Diagnostics, page: &mut dyn Page) {
        page.warn(&self.warnings);
        self.warnings.splice(0..0, known);
    }

    fn of(
        session: &Session,
        experiment: &Experiment,
        results: Results,
        outputs: Vec<(usize, Output)>,
        mut clock: Clock,
    ) -> Self {
        clock.0.insert("prompts".into(), results.work.prompt_seconds);
        clock.0.insert("generate".into(), results.work.new_seconds);
        let (statements, outputs) = outputs.into_iter().unzip();
        let receipts = receipts(session, &experiment.prepared, &results);
        let mut warnings = Diagnostics::new();
        if results.finished.len() == experiment.units.len() {
            warnings.extend(never_fired(experiment, &results));
        }
        warnings.extend(emptied(session, &receipts));
        let units = experiment.units.len();
        Done { outputs, statements, receipts, results, units, kept: None, spent: None, warnings, seconds: clock.0 }
    }
}

/// How far the pieces are, on one bar.
struct Progress<'p> {
    pieces: &'p [Piece],
    /// Of several pieces.
    bar: Option<Arc<Bar>>,
}

impl<'p> Progress<'p> {
    /// Nothing is to be seen where texts of several pieces are, as they come.
    fn new(pieces: &'p [Piece], streams: bool) -> Self {
        let cost = pieces.iter().map(|p| p.needs.operations).fold(0, u64::saturating_add);
        let bar = match pieces.len() {
            0 | 1 => None,
            _ if streams => Some(Bar::hidden()),
            n => Some(Bar::new(&format!("piece 1 of {n}"), Unit::Share(cost))),
        };
        Progress { pieces, bar: bar.map(Arc::new) }
    }

    /// Called with the share of the prompts of a piece that is done. The bar of a single piece ends with them.
    fn of(&self, number: usize) -> live::Progress {
        let mine = self.pieces[number].needs.operations;
        let before: u64 = self.pieces[..number].iter().map(|p| p.needs.operations).sum();
        let bar = match &self.bar {
            None => Arc::new(Bar::new("prompts", Unit::Share(mine))),
            Some(bar) => {
                bar.label(format!("piece {} of {}", number + 1, self.pieces.len()));
                Arc::clone(bar)
            }
        };
        Arc::new(move |share| bar.set(before + (share * mine as f64) as u64))
    }
}

struct Execution<'a> {
    session: &'a Session,
    experiment: &'a Experiment,
    values: &'a TensorValues,
    options: &'a PhaseOptions,
}

impl Execution<'_> {
    /// Loads the model and runs the pieces, showing what there is on the way.
    fn run(
        &self,
        pieces: &[Piece],
        results: &mut Results,
        kept: &mut Option<Kept>,
        mut show: Option<&mut Show>,
        clock: &mut Clock,
    ) -> Result<(), Diagnostics> {
        let (session, experiment) = (self.session, self.experiment);
        let streams = show.as_ref().is_some_and(|s| s.streams());
        let mut advance = |results: &Results, end: bool| match &mut show {
            Some(show) => show.advance(results, end),
            None => Ok(()),
        };
        if !pieces.is_empty() {
            advance(results, false)?;
            let prepared = &experiment.prepared;
            let mut engine = Ready::new(session, prepared, self.values, self.options);
            // Where values may be known, whether there is anything to compute is seen later.
            if self.options.warm.is_none() {
                engine.ready().map_err(one)?;
            }
            let all = Progress::new(pieces, streams);
            for (number, piece) in pieces.iter().enumerate() {
                let part = Part::new(experiment, &piece.units);
                engine.begin(part.prepared.engine_runs.clone()).map_err(one)?;
                results.prompts_done = false;
                let mut step = |gathered: &Gathered| {
                    if !results.prompts_done {
                        results.take_values(experiment, &session.script.statements, &part, gathered)?;
                    }
                    results.take_texts(&part, gathered);
                    advance(results, false)
                };
                let mut follow =
                    Follow { prompts: all.of(number), tokens: !streams && pieces.len() == 1, step: &mut step };
                let gathered = run_live(session, &part.prepared, &mut engine, &part.asks, self.options, &mut follow)?;
                results.take_texts(&part, &gathered);
                results.take_counts(&part, &gathered);
                if results.stopped {
                    break;
                }
                if let Some(kept) = kept {
                    kept.append(results.of_piece(experiment, &part, &gathered)).map_err(one)?;
                }
            }
            clock.0.insert("load".into(), engine.seconds);
            if self.options.warm.is_some() {
                // It was loaded when the first prompt needed it.
                results.work.prompt_seconds = (results.work.prompt_seconds - engine.seconds).max(0.0);
            }
            engine.keep();
        }
        advance(results, true)
    }
}
