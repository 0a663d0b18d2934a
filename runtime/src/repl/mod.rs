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
pub use input::{inputs, is_complete};

use crate::assist::ModelFacts;
use crate::checkpoint::Checkpoint;
use crate::cli::sites::SiteRow;
use crate::cli::{Failure, show};
use crate::engine::RowCount;
use crate::error::Error;
use crate::experiment::{self, Done, Keeping, Part, PhaseOptions, Session, SessionOptions};
use crate::report::{self, Page, Receipt, Stdout, Warned};
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
    /// What was only looked at, for those who read the saved session.
    looked: Vec<String>,
    /// The files that the session was saved to.
    saved: Vec<PathBuf>,
}

/// What an input can change.
#[derive(Clone)]
struct State {
    notebook: Notebook,
    set: Vec<(String, String)>,
    model: Option<String>,
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
            looked: Vec::new(),
            saved: Vec::new(),
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
        let (set, model) = (self.options.set.clone(), self.options.model.clone());
        let before = State { notebook: self.notebook.clone(), set, model };
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
            (self.notebook, self.options.set, self.options.model) = (before.notebook, before.set, before.model);
        }
        (flow, false)
    }

    fn evaluate(&mut self, origin: &Path, text: &str) -> Result<Flow, Failure> {
        let wrong = |(diagnostics, sources): Wrong| Failure { diagnostics, sources };
        let input = input::read(origin, text).map_err(wrong)?;
        match input.clone() {
            Input::Nothing => {}
            Input::Command(word, rest) => return self.command(&word, &rest),
            Input::Items(cells) => self.run(cells)?,
            Input::Look(look) => self.look(origin, &look, text)?,
            Input::Diff(before, after) => self.diff(origin, &before, &after)?,
            Input::Value(text) => self.value(origin, &text)?,
        }
        if !matches!(input, Input::Nothing | Input::Items(_)) {
            self.looked.push(text.trim().to_owned());
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

    /// An error where a parameter was set from outside that the session does not have by now.
    pub fn check_set(&self) -> Result<(), Failure> {
        let imports = self.notebook.cells().iter().any(|c| c.kind == CellKind::Setting);
        let unknown = |(name, _): &&(String, String)| self.notebook.named(name).is_none() && !imports;
        match self.options.set.iter().find(unknown) {
            Some((name, _)) => {
                Err(refused(format!("--set {name}: there is no parameter `{name}`"), "give a script that declares it"))
            }
            None => Ok(()),
        }
    }

    /// Checks some items with what they need of the session.
    fn check(&mut self, new: &[Cell], sources: &mut Sources) -> Result<Session, Diagnostics> {
        let book = self.notebook.with(new);
        let (mut options, all) = (self.options.clone(), new.iter().collect::<Vec<_>>());
        if new.iter().any(|c| c.kind == CellKind::Model) {
            // What is typed last is meant.
            options.model = None;
        }
        let mut needed: Vec<&Cell> = book.needed(&all).into_iter().filter(|c| !new.contains(c)).collect();
        needed.extend(all.iter().copied());
        // Settings come first: what is declared here stands in place of nothing that is imported.
        let parts: Vec<Part> = needed.iter().map(|c| Part { quiet: !new.contains(c), ..c.part() }).collect();
        // What is set of a parameter that is not needed would be an error.
        let is_needed = |name: &str| needed.iter().any(|c| c.name.as_deref() == Some(name));
        options.set.retain(|(name, _)| book.named(name).is_none() || is_needed(name));
        // A parameter that is declared anew has the value that it is declared with.
        options.set.retain(|(name, _)| !self.declares_anew(new, name));
        let session = Session::open_parts(&self.folder, &parts, &options, sources)?;
        if self.model.as_ref().is_none_or(|model| !Arc::ptr_eq(model, &session.checkpoint)) {
            if self.model.is_some() {
                let _ = report::print(&format!("the model is {} now\n", session.model_name));
            }
            self.model = Some(Arc::clone(&session.checkpoint));
            self.phase.warm = Some(Rc::default());
        }
        self.sites = crate::cli::sites::rows_of_plan(&session.script.plan);
        self.facts = ModelFacts::of_session(&session);
        Ok(session)
    }

    fn declares_anew(&self, new: &[Cell], name: &str) -> bool {
        let is = |c: &&Cell| c.name.as_deref() == Some(name);
        let there = self.notebook.cells().iter().find(is).map(Cell::written);
        new.iter().find(is).is_some_and(|c| there != Some(c.written()))
    }

    /// Takes definitions, and runs statements as one experiment.
    fn run(&mut self, cells: Vec<Cell>) -> Result<(), Failure> {
        let mut sources = Sources::default();
        match self.run_in(&cells, &mut sources) {
            Ok(()) => {
                self.take(&cells);
                Ok(())
            }
            Err(diagnostics) => {
                if diagnostics.iter().any(|d| d.code == codes::STOPPED) {
                    // What was defined is; what was not finished was not run.
                    let defined: Vec<Cell> = cells.into_iter().filter(|c| !c.kind.is_run()).collect();
                    self.take(&defined);
                }
                Err(Failure { diagnostics, sources })
            }
        }
    }

    /// Items that have been checked and run become part of the session.
    fn take(&mut self, cells: &[Cell]) {
        let anew: Vec<String> =
            self.options.set.iter().map(|s| s.0.clone()).filter(|n| self.declares_anew(cells, n)).collect();
        self.options.set.retain(|(name, _)| !anew.contains(name));
        if cells.iter().any(|c| c.kind == CellKind::Model) {
            self.options.model = None;
        }
        self.notebook = self.notebook.ran(cells, &self.options.set);
    }

    fn run_in(&mut self, cells: &[Cell], sources: &mut Sources) -> Result<(), Diagnostics> {
        let clock = Instant::now();
        if cells.iter().any(|c| c.kind == CellKind::Report) {
            return self.report(cells, sources);
        }
        let session = self.check(cells, sources)?;
        let checked = clock.elapsed().as_secs_f64();
        self.warn(&session.warnings, sources);
        if session.script.statements.is_empty() {
            return Ok(());
        }
        let done = self.execute(&session, sources, Box::new(Stdout::new()))?;
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

    /// Runs all statements of a session, with warnings as they are known.
    fn execute(&mut self, session: &Session, sources: &Sources, page: Box<dyn Page>) -> Result<Done, Diagnostics> {
        let phase = self.phase.clone();
        let mut warn = |warnings: &[Diagnostic]| self.warn(warnings, sources);
        experiment::run_on(session, &phase, &Keeping::default(), &mut Warned { page, warn: &mut warn })
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
