//! A prompt at which the model stays loaded: definitions and statements are checked and run as they are typed, and what a
//! definition does not change is neither compiled nor computed again.

mod commands;
mod diff;
mod editor;
mod input;
mod look;
mod notebook;
mod picture;
mod script;

pub use editor::Terminal;
pub use input::inputs;

use crate::assist::ModelFacts;
use crate::checkpoint::Checkpoint;
use crate::cli::sites::SiteRow;
use crate::cli::{Failure, show};
use crate::engine::RowCount;
use crate::error::Error;
use crate::experiment::{self, Keeping, Part, PhaseOptions, Session, SessionOptions};
use crate::report::{self, Receipt, Stdout};
use crate::{files, interrupt};
use input::{Input, Wrong};
use notebook::{Cell, CellKind, Notebook};
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use steer_lang::{Diagnostic, Diagnostics, Severity, Sources, codes};

/// A session at the prompt.
pub struct Repl {
    /// Where relative paths begin.
    folder: PathBuf,
    options: SessionOptions,
    phase: PhaseOptions,
    notebook: Notebook,
    /// What there was before each input that changed something.
    past: Vec<State>,
    inputs: usize,
    /// The model that the last input was of: of another one nothing is known.
    model: Option<Arc<Checkpoint>>,
    last: Option<Last>,
    sites: Vec<SiteRow>,
    /// What completion knows of the model.
    facts: ModelFacts,
    /// Warnings that were said: they are not repeated.
    warned: HashSet<String>,
}

/// What an input can change.
#[derive(Clone)]
struct State {
    notebook: Notebook,
    set: Vec<(String, String)>,
}

/// What the last statements took and did.
#[derive(Default)]
struct Last {
    receipts: Vec<Receipt>,
    seconds: BTreeMap<String, f64>,
    work: RowCount,
    new_rows: usize,
    prompt_rows: usize,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    On,
    Ended,
}

impl Repl {
    pub fn new(folder: PathBuf, mut options: SessionOptions, mut phase: PhaseOptions) -> Self {
        (options.keep, options.weights) = (true, true);
        phase.warm = Some(Rc::default());
        Repl {
            folder,
            options,
            phase,
            notebook: Notebook::default(),
            past: Vec::new(),
            inputs: 0,
            model: None,
            last: None,
            sites: Vec::new(),
            facts: ModelFacts::default(),
            warned: HashSet::new(),
        }
    }

    /// Opens the model, so that it is there when it is needed, and says what it is. Without one there is nothing to say.
    pub fn begin(&mut self) -> Result<String, Failure> {
        if self.options.model.is_none() && self.notebook.needed(&[]).is_empty() {
            return Ok("no model yet: `model \"tiny-llama\"` names one".into());
        }
        let mut sources = Sources::default();
        let session = self.check(&[], &mut sources).map_err(|diagnostics| Failure { diagnostics, sources })?;
        let script = &session.script;
        Ok(format!("{}, {}, {} blocks", session.model_name, script.model.arch_name, script.layers))
    }

    /// Evaluates an input. Errors are shown, and leave the session as it was before it.
    pub fn enter(&mut self, text: &str) -> (Flow, bool) {
        let clock = Instant::now();
        self.inputs += 1;
        let origin = PathBuf::from(format!("<{}>", self.inputs));
        let before = State { notebook: self.notebook.clone(), set: self.options.set.clone() };
        let result = catch_unwind(AssertUnwindSafe(|| self.evaluate(&origin, text)));
        let stopped = interrupt::take();
        let flow = match result {
            Ok(Ok(flow)) => {
                let changed = !before.notebook.defines_as(&self.notebook) || before.set != self.options.set;
                // `:undo` takes from the past and adds nothing to it.
                if changed && !text.trim_start().starts_with(":undo") {
                    self.past.push(before);
                }
                if let Some(last) = &mut self.last
                    && !last.seconds.contains_key("total")
                {
                    last.seconds.insert("total".into(), clock.elapsed().as_secs_f64());
                }
                return (flow, true);
            }
            Ok(Err(failure)) => {
                show(&failure.diagnostics, &failure.sources, report::errors_in_color());
                Flow::On
            }
            // The hook has said what it is; the session goes on.
            Err(_) => Flow::On,
        };
        if !stopped {
            (self.notebook, self.options.set) = (before.notebook, before.set);
        }
        (flow, false)
    }

    fn evaluate(&mut self, origin: &Path, text: &str) -> Result<Flow, Failure> {
        let wrong = |(diagnostics, sources): Wrong| Failure { diagnostics, sources };
        match input::read(origin, text).map_err(wrong)? {
            Input::Nothing => {}
            Input::Command(word, rest) => return self.command(&word, &rest),
            Input::Items(cells) => self.run(cells)?,
            Input::Look(look) => self.look(origin, &look)?,
            Input::Diff(run) => self.diff(origin, &run)?,
            Input::Value(text) => self.value(origin, &text)?,
        }
        Ok(Flow::On)
    }

    /// What completion knows: all definitions, the model, and where paths begin.
    fn known(&self) -> editor::Known {
        editor::Known { definitions: self.notebook.text(), model: self.facts.clone(), folder: self.folder.clone() }
    }

    /// Evaluates the text of a file.
    pub fn load(&mut self, path: &Path) -> Result<(), Failure> {
        let text = files::read_text(path)?;
        let cells = notebook::cells(path, &text).map_err(|(diagnostics, sources)| Failure { diagnostics, sources })?;
        self.run(cells)
    }

    /// Checks some items with what they need of the session.
    fn check(&mut self, new: &[Cell], sources: &mut Sources) -> Result<Session, Diagnostics> {
        let book = self.notebook.with(new);
        let texts: Vec<&str> = new.iter().map(|c| c.text.as_str()).collect();
        let is_new = |c: &Cell| new.contains(c);
        let mut parts: Vec<Part> = book.needed(&texts).into_iter().filter(|c| !is_new(c)).map(Cell::part).collect();
        parts.extend(new.iter().map(Cell::part));
        // What is set of a parameter that is not needed would be an error.
        let set = |(name, _): &&(String, String)| parts.iter().any(|p| p.text.contains(name.as_str()));
        let options =
            SessionOptions { set: self.options.set.iter().filter(set).cloned().collect(), ..self.options.clone() };
        let session = Session::open_parts(&self.folder, &parts, &options, sources)?;
        if self.model.as_ref().is_none_or(|model| !Arc::ptr_eq(model, &session.checkpoint)) {
            self.model = Some(Arc::clone(&session.checkpoint));
            self.phase.warm = Some(Rc::default());
            self.sites = crate::cli::sites::rows_of_plan(&session.script.plan);
            self.facts = ModelFacts::of_session(&session);
        }
        Ok(session)
    }

    /// Takes definitions, and runs statements as one experiment.
    fn run(&mut self, cells: Vec<Cell>) -> Result<(), Failure> {
        let mut sources = Sources::default();
        match self.run_in(&cells, &mut sources) {
            Ok(()) => {
                self.notebook = self.notebook.with(&cells);
                Ok(())
            }
            Err(diagnostics) => {
                if diagnostics.iter().any(|d| d.code == codes::STOPPED) {
                    self.notebook = self.notebook.with(&cells);
                }
                Err(Failure { diagnostics, sources })
            }
        }
    }

    fn run_in(&mut self, cells: &[Cell], sources: &mut Sources) -> Result<(), Diagnostics> {
        let clock = Instant::now();
        if cells.iter().any(|c| c.written().starts_with("report ")) {
            return self.report(cells, sources);
        }
        let session = self.check(cells, sources)?;
        let checked = clock.elapsed().as_secs_f64();
        self.warn(&session.warnings, sources);
        if cells.iter().all(|c| c.kind != CellKind::Statement) {
            return Ok(());
        }
        let done = experiment::run_on(&session, &self.phase, &Keeping::default(), &mut Stdout::new())?;
        self.warn(&done.warnings, sources);
        let stopped = done.results.stopped;
        let work = &done.results.work;
        let mut last = Last {
            receipts: done.receipts,
            seconds: done.seconds,
            work: work.rows,
            new_rows: work.new_rows,
            prompt_rows: work.prompt_rows,
        };
        last.seconds.insert("check".into(), checked);
        self.last = Some(last);
        match stopped {
            true => Err(vec![Diagnostic::error(codes::STOPPED, "stopped; what was finished is printed above")]),
            false => Ok(()),
        }
    }

    /// Says warnings that were not said yet.
    fn warn(&mut self, warnings: &[Diagnostic], sources: &Sources) {
        let color = report::errors_in_color();
        let new = |d: &&Diagnostic| {
            let text = match d.labels.first() {
                Some(label) => format!("{} {}", d.message, sources.text(label.span)),
                None => d.message.clone(),
            };
            // What is defined now is used later.
            let unused = d.code == codes::UNREAD_EDIT && d.message.starts_with("no run uses");
            d.severity != Severity::Error && !unused && self.warned.insert(text)
        };
        let new: Vec<Diagnostic> = warnings.iter().filter(new).cloned().collect();
        show(&new, sources, color);
    }

    /// Values of sites in a run, and the session that they are of.
    fn seen(&mut self, origin: &Path, text: &str) -> Result<(Session, Vec<experiment::Seen>), Failure> {
        let mut sources = Sources::default();
        let (cells, wrong) = match notebook::cells(origin, text) {
            Ok(cells) => (cells, None),
            Err(wrong) => (Vec::new(), Some(wrong)),
        };
        if let Some((diagnostics, sources)) = wrong {
            return Err(Failure { diagnostics, sources });
        }
        let found = self.check(&cells, &mut sources).and_then(|session| {
            let seen = experiment::seen(&session, &self.phase)?;
            Ok((session, seen))
        });
        let (session, seen) = found.map_err(|diagnostics| Failure { diagnostics, sources: sources.clone() })?;
        self.warn(&session.warnings, &sources);
        Ok((session, seen))
    }
}

/// An error of a command.
fn refused(message: impl Into<String>, help: &str) -> Failure {
    Error::new(codes::COMMAND, message.into()).help(help).into()
}
