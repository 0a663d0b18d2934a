//! What is said and written of a run in the end.

use crate::experiment::{Done, PhaseOptions, Session, Shard};
use crate::limits::Limits;
use crate::progress::{Bar, Unit};
use crate::report::{self, Align, FileName, InputFile, Page, Report, Silent, Steps, Table, Value, Warning};
use std::path::Path;
use std::time::Instant;
use steer_compiler::elaborate::{ParamValue, StatementKind};
use steer_figures::Section;
use steer_lang::{Diagnostic, Diagnostics, Sources, codes};

/// A script that was run, and where to say what of it.
pub struct Outcome<'a> {
    pub file: &'a Path,
    pub session: &'a Session,
    pub sources: &'a Sources,
    pub options: &'a PhaseOptions,
    pub json: Option<&'a Path>,
    pub time: bool,
    /// Seconds that checking took, and when everything began.
    pub checked: f64,
    pub clock: Instant,
}

/// Says what there is to say of a session that was run as one script, and writes its pages. `clock`: the seconds that checking
/// took, and when everything began.
pub fn tell(
    session: &Session,
    sources: &Sources,
    options: &PhaseOptions,
    (checked, clock): (f64, Instant),
    done: Done,
) -> Result<(), Diagnostics> {
    let file = Path::new("session.steer");
    Outcome { file, session, sources, options, json: None, time: false, checked, clock }.tell(done)
}

impl Outcome<'_> {
    /// Prints receipts and counts, writes the reports, and says where ctrl-C stopped it.
    pub fn tell(&self, done: Done) -> Result<(), Diagnostics> {
        let warnings: Diagnostics = self.session.warnings.iter().chain(&done.warnings).cloned().collect();
        if !done.receipts.is_empty() {
            self.say(&report::receipts_table(&done.receipts))?;
        }
        self.say(&readings(self.session))?;
        self.say(&report::work_line(&done.results.work.rows))?;
        let stopped = done.results.stopped.then(|| stopped(&done));
        let spent = done.spent.clone();
        let statements = done.statements.clone();
        let mut result = self.report(done)?;
        result.warnings = warnings.iter().map(|w| Warning::of(w, self.sources)).collect();
        if self.time {
            self.say(&times(&result))?;
        }
        let reports = self.session.script.statements.iter().filter_map(|s| match &s.kind {
            StatementKind::Report { to } => Some((to, s.span)),
            _ => None,
        });
        for (to, span) in reports {
            let shown = |w: &Diagnostic| report::render(std::slice::from_ref(w), self.sources, false);
            let warnings = warnings.iter().map(shown).collect();
            let page = report::page(&result, &self.session.text, warnings, self.sections(&statements, &result));
            let path = self.session.path(to);
            if stopped.is_some() {
                self.say(&format!("nothing reported to {}: stopped before the end\n", path.display()))?;
                continue;
            }
            report::save_page(&path, &page).map_err(|e| vec![e.0.at(span, "written here")])?;
            self.say(&format!("reported to {}\n", path.display()))?;
        }
        if let Some(path) = self.json {
            let bar = Bar::new("hashing the model's files", Unit::Unknown);
            result.model.files = self.session.checkpoint.hashes().map_err(|e| vec![*e.0])?;
            drop(bar);
            let written = if is_stdout(path) { report::print(&result.to_json()) } else { result.write(path) };
            written.map_err(|e| vec![*e.0])?;
        }
        if let Some(path) = spent {
            // Left over, they take a little room and nothing else.
            let _ = std::fs::remove_file(path.with_extension("kept.old"));
            let _ = std::fs::remove_file(path);
        }
        stopped.map_or(Ok(()), |d| Err(vec![d]))
    }

    /// Says how far a shard has come.
    pub fn shard(&self, shard: Shard, done: Done) -> Result<(), Diagnostics> {
        let own = shard.units(done.units);
        let there = own.iter().filter(|u| done.results.finished.contains(u)).count();
        let kept = done.kept.as_ref().map_or(String::new(), |p| p.display().to_string());
        self.say(&format!(
            "shard {} of {}: {there} of its {} cells and texts are in {kept}; `steer merge {} FILES{}` joins the shards\n",
            shard.number,
            shard.of,
            own.len(),
            self.file.display(),
            self.options.flags()
        ))?;
        self.say(&report::work_line(&done.results.work.rows))?;
        if done.results.stopped { Err(vec![stopped(&done)]) } else { Ok(()) }
    }

    fn say(&self, text: &str) -> Result<(), Diagnostics> {
        match text.is_empty() || self.json.is_some_and(is_stdout) {
            true => Ok(()),
            false => report::print(text).map_err(|e| vec![*e.0]),
        }
    }

    /// The report, but for the hashes of the model's files.
    fn report(&self, done: Done) -> Result<Report, Diagnostics> {
        let mut result = Report::new(self.file, &self.session.text);
        result.model.name = self.session.model_name.clone();
        result.model.architecture = self.session.script.model.arch_name.clone();
        result.model.model_file = self.session.arch_file.clone();
        for input in &self.session.inputs {
            let sha256 = input.sha256().map_err(|e| vec![*e.0])?;
            let file = FileName { file: input.path.display().to_string(), sha256 };
            result.inputs.push(InputFile { kind: input.kind, file });
        }
        result.backend = self.options.backend.clone();
        result.instruction_set = self.options.rounding.instruction_set().into();
        result.cache = self.options.rounding.cache.name().into();
        result.activations = self.options.rounding.activations.name().into();
        result.seed = self.options.seed.or_else(|| self.session.script.seed()).unwrap_or(0);
        for (name, value) in &self.session.script.params {
            let value = match value {
                ParamValue::Number(n) => Value::Number(*n),
                ParamValue::Bool(b) => Value::Bool(*b),
                ParamValue::Text(t) => Value::Text(t.clone()),
            };
            result.parameters.insert(name.clone(), value);
        }
        result.readings = self.session.script.readings.iter().map(|r| format!("{}: {}", r.of, r.means)).collect();
        result.receipts = done.receipts;
        result.outputs = done.outputs;
        result.stopped = done.results.stopped;
        let work = &done.results.work;
        result.timings.work = work.rows.into();
        result.timings.seconds = done.seconds;
        result.timings.seconds.insert("check".into(), self.checked);
        result.timings.seconds.insert("total".into(), self.clock.elapsed().as_secs_f64());
        for (name, rows, seconds) in
            [("prompts", work.prompt_rows, work.prompt_seconds), ("generate", work.new_rows, work.new_seconds)]
        {
            if rows > 0 && seconds > 0.0 {
                result.timings.tokens_per_second.insert(name.into(), rows as f64 / seconds);
            }
        }
        if done.results.spent.iter().any(|s| s.passes > 0) {
            result.timings.machine = Limits::measure();
        }
        let seconds = [("prompts", work.prompt_seconds), ("generate", work.new_seconds)];
        for ((name, seconds), spent) in seconds.into_iter().zip(&done.results.spent).filter(|(_, s)| s.passes > 0) {
            let steps = Steps::of(spent, seconds, result.timings.machine.as_ref());
            result.timings.steps.insert(name.into(), steps);
        }
        Ok(result)
    }

    /// What each statement gave, with its place in the script; those of imported files stand without one.
    fn sections(&self, statements: &[usize], result: &Report) -> Vec<Section> {
        let mut out = Vec::new();
        for (number, s) in self.session.script.statements.iter().enumerate() {
            let mine = statements.iter().zip(&result.outputs).filter(|(of, _)| **of == number);
            let outputs: Vec<_> = mine.map(|(_, o)| o.clone()).collect();
            if outputs.is_empty() {
                continue;
            }
            let range = s.span.start as usize..s.span.end as usize;
            let own = (s.span.file == self.session.file).then_some(range);
            let title = self.sources.text(s.span).lines().next().unwrap_or_default().trim_end_matches('{').trim();
            out.push(report::section(title, own, &outputs));
        }
        out
    }
}

/// How names and files that come from elsewhere were understood, a line each.
pub fn readings(session: &Session) -> String {
    session.script.readings.iter().map(|r| format!("{}: {}\n", r.of, r.means)).collect()
}

/// That ctrl-C ended a run, and how to go on with it.
fn stopped(done: &Done) -> Diagnostic {
    let d = Diagnostic::error(codes::STOPPED, "stopped; what was finished is printed above");
    match &done.kept {
        Some(_) if done.results.finished.is_empty() => d.help("no piece of the experiment was finished yet"),
        Some(path) => d.help(format!("finished cells are kept in `{}`: --resume goes on", path.display())),
        None => d,
    }
}

/// Whether a report goes to standard output, where then nothing else goes.
fn is_stdout(path: &Path) -> bool {
    path == "-"
}

/// What shows the statements of a run whose report goes to `json`.
pub fn page(json: Option<&Path>) -> Box<dyn Page> {
    if json.is_some_and(is_stdout) { Box::new(Silent) } else { Box::new(report::Stdout::new()) }
}

/// Refuses a report that cannot be written.
pub fn check_target(session: &Session, json: Option<&Path>) -> Result<(), Diagnostics> {
    match json.filter(|path| !is_stdout(path)) {
        Some(path) => session.may_write(path).map_err(|e| vec![*e.0]),
        None => Ok(()),
    }
}

/// The stages and rates of a run as a table.
fn times(result: &Report) -> String {
    let mut table = Table::new(&[("stage", Align::Left), ("seconds", Align::Right), ("tokens/s", Align::Right)]);
    for (stage, seconds) in &result.timings.seconds {
        let rate = result.timings.tokens_per_second.get(stage).map_or(String::new(), |r| report::number(*r));
        table.row([stage.clone(), format!("{seconds:.3}"), rate]);
    }
    let mut out = table.render();
    // Prompts come first.
    for (stage, steps) in result.timings.steps.iter().rev() {
        out += &steps.table(stage);
    }
    if !result.timings.steps.is_empty() {
        out += &report::limits_line(result.timings.machine.as_ref());
    }
    out
}
