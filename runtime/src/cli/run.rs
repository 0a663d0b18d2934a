//! `steer run FILE`

use super::{Backend, Emit, Failure, ModelArgs, Setting};
use crate::experiment::{self, PhaseOptions, Session, SessionOptions};
use crate::files;
use crate::progress::{Bar, Unit};
use crate::report::{self, Align, Report, Table, Value};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;
use steer_compiler::elaborate::{ParamValue, StatementKind};
use steer_compiler::plan::rules;
use steer_figures::Section;
use steer_kernels::Isa;
use steer_lang::{Diagnostic, Diagnostics, Sources, codes};

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The script
    pub file: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
    /// What executes the model
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,
    /// Write the report as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Threads to use (default: one for each core)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// The seed of everything random (default: the script's, else 0)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Print how long each stage took
    #[arg(long)]
    pub time: bool,
    /// Rows that one pass of a prompt takes at most
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunk: Option<u32>,
    /// The memory that the run may take, such as 2GiB (default: what there is)
    #[arg(long, value_name = "BYTES", value_parser = super::options::bytes)]
    pub memory: Option<u64>,
    /// Print a stage of the compiler instead of running
    #[arg(long, value_enum, value_name = "STAGE")]
    pub emit: Option<Emit>,
    /// Apply the rules of the compiler only up to this one
    #[arg(long, value_name = "RULE")]
    pub stop_after: Option<String>,
    /// Leave out a rule of the compiler; may be repeated
    #[arg(long, value_name = "RULE")]
    pub disable_rule: Vec<String>,
}

/// Checks, compiles and runs a script.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    super::start_threads(args.threads)?;
    let mut sources = Sources::default();
    match run_in(args, &mut sources) {
        Ok(()) => Ok(()),
        Err(diagnostics) => Err(Failure { diagnostics, sources }),
    }
}

fn run_in(args: &RunArgs, sources: &mut Sources) -> Result<(), Diagnostics> {
    let clock = Instant::now();
    if args.emit == Some(Emit::Ast) {
        return super::emit::ast(&args.file, sources);
    }
    let bar = Bar::new("checking", Unit::Unknown);
    let session = Session::open(&args.file, &args.session(), sources)?;
    drop(bar);
    let options = args.options();
    if let Some(stage) = args.emit {
        return super::emit::stage(&session, &options, stage);
    }
    let checked = clock.elapsed().as_secs_f64();
    if let Some(path) = &args.json {
        files::check_target(path).map_err(|e| vec![*e.0])?;
    }
    let done = experiment::run_on(&session, &options, &mut report::Stdout::new());
    let done = done.map_err(|mut d| {
        d.splice(0..0, session.warnings.iter().cloned());
        d
    })?;
    let mut warnings = session.warnings.clone();
    warnings.extend(done.warnings.iter().cloned());
    super::show(&warnings, sources, report::errors_in_color());
    if !done.receipts.is_empty() {
        say(&report::receipts_table(&done.receipts))?;
    }
    if done.results.rows.naive > done.results.rows.computed {
        let rows = done.results.rows;
        say(&format!("{} of {} rows computed: equal rows once, unread rows never\n", rows.computed, rows.naive))?;
    }
    let mut result = Report::new(&args.file, &session.text);
    result.model.name = session.model_name.clone();
    result.model.architecture = session.script.model.arch_name.clone();
    result.backend = options.backend.clone();
    result.instruction_set = Isa::detect().name().into();
    result.seed = options.seed.or_else(|| session.script.seed()).unwrap_or(0);
    for (name, value) in &session.script.params {
        let value = match value {
            ParamValue::Number(n) => Value::Number(*n),
            ParamValue::Bool(b) => Value::Bool(*b),
            ParamValue::Text(t) => Value::Text(t.clone()),
        };
        result.parameters.insert(name.clone(), value);
    }
    result.receipts = done.receipts;
    result.outputs = done.outputs;
    result.stopped = done.results.stopped;
    result.timings.seconds = done.seconds;
    result.timings.seconds.insert("check".into(), checked);
    result.timings.seconds.insert("total".into(), clock.elapsed().as_secs_f64());
    for (name, rows, seconds) in [
        ("prompts", done.results.prompt_rows, done.results.prompt_seconds),
        ("generate", done.results.new_rows, done.results.new_seconds),
    ] {
        if rows > 0 && seconds > 0.0 {
            result.timings.tokens_per_second.insert(name.into(), rows as f64 / seconds);
        }
    }
    if args.time {
        say(&times(&result))?;
    }
    let reports = session.script.statements.iter().filter_map(|s| match &s.kind {
        StatementKind::Report { to } => Some((to, s.span)),
        _ => None,
    });
    for (to, span) in reports {
        let shown = |w: &Diagnostic| report::render(std::slice::from_ref(w), sources, false);
        let warnings = warnings.iter().map(shown).collect();
        let page =
            report::page(&result, &session.text, warnings, sections(&session, sources, &done.statements, &result));
        let path = session.path(to);
        report::save_page(&path, &page).map_err(|e| vec![e.0.at(span, "written here")])?;
        say(&format!("reported to {}\n", path.display()))?;
    }
    if let Some(path) = &args.json {
        let bar = Bar::new("hashing the model's files", Unit::Unknown);
        result.model.files = session.checkpoint.hashes().map_err(|e| vec![*e.0])?;
        drop(bar);
        result.write(path).map_err(|e| vec![*e.0])?;
    }
    if done.results.stopped {
        return Err(vec![Diagnostic::error(codes::STOPPED, "stopped; what was finished is printed above")]);
    }
    Ok(())
}

fn say(text: &str) -> Result<(), Diagnostics> {
    report::print(text).map_err(|e| vec![*e.0])
}

/// What each statement gave, with its place in the script; those of imported files stand without one.
fn sections(session: &Session, sources: &Sources, statements: &[usize], result: &Report) -> Vec<Section> {
    let mut out = Vec::new();
    for (number, s) in session.script.statements.iter().enumerate() {
        let mine = statements.iter().zip(&result.outputs).filter(|(of, _)| **of == number);
        let outputs: Vec<_> = mine.map(|(_, o)| o.clone()).collect();
        if outputs.is_empty() {
            continue;
        }
        let range = s.span.start as usize..s.span.end as usize;
        let own = (s.span.file == session.file).then_some(range);
        let title = sources.text(s.span).lines().next().unwrap_or_default().trim_end_matches('{').trim();
        out.push(report::section(title, own, &outputs));
    }
    out
}

/// The stages and rates of a run as a table.
fn times(result: &Report) -> String {
    let mut table = Table::new(&[("stage", Align::Left), ("seconds", Align::Right), ("tokens/s", Align::Right)]);
    for (stage, seconds) in &result.timings.seconds {
        let rate = result.timings.tokens_per_second.get(stage).map_or(String::new(), |r| report::number(*r));
        table.row([stage.clone(), format!("{seconds:.3}"), rate]);
    }
    table.render()
}

impl RunArgs {
    fn session(&self) -> SessionOptions {
        super::session_options(&self.model, &self.set)
    }

    fn options(&self) -> PhaseOptions {
        PhaseOptions {
            backend: self.backend.name().into(),
            rules: rules::Options { disable: self.disable_rule.clone(), stop_after: self.stop_after.clone() },
            chunk: self.chunk.map_or(PhaseOptions::default().chunk, |c| c as usize),
            seed: self.seed,
            memory: self.memory,
            ..PhaseOptions::default()
        }
    }
}
