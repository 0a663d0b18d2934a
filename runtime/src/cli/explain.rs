//! `steer explain CODE_OR_FILE`

use super::{ExecutionArgs, Failure, ModelArgs, ResourceArgs, Setting};
use crate::error::Error;
use crate::experiment::{self, Session};
use crate::manual::Manual;
use crate::progress::{Bar, Unit};
use crate::report;
use clap::Args;
use std::path::Path;
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostics, Sources, codes};

#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The code of a diagnostic, such as E0203, or a script
    #[arg(value_name = "CODE_OR_FILE")]
    pub what: String,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
    #[command(flatten)]
    pub execution: ExecutionArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// Prints the page of a code, or what became of each edit of a script.
pub fn run(args: &ExplainArgs) -> Result<(), Failure> {
    if codes::page(&args.what).is_some() {
        let screen = report::screen();
        return Ok(report::print(&Manual::new().find(&args.what)?.text(screen.columns, screen.color))?);
    }
    let path = Path::new(&args.what);
    if path.exists() || path.extension().is_some_and(|e| e == "steer") {
        return explain_file(path, args);
    }
    Err(unknown(&args.what).into())
}

fn explain_file(path: &Path, args: &ExplainArgs) -> Result<(), Failure> {
    super::start_threads(args.resources.threads)?;
    let mut sources = Sources::default();
    match text_of(path, args, &mut sources) {
        Ok(text) => Ok(report::print(&text)?),
        Err(diagnostics) => Err(Failure { diagnostics, sources }),
    }
}

fn text_of(path: &Path, args: &ExplainArgs, sources: &mut Sources) -> Result<String, Diagnostics> {
    let options = args.resources.bound(args.execution.options().map_err(|e| vec![*e.0])?);
    let bar = Bar::new("checking", Unit::Unknown);
    let session = Session::open(path, &super::session_options(&args.model, &args.set), sources)?;
    let experiment = experiment::prepare_all(&session, &options)?;
    drop(bar);
    let mut warnings = session.warnings.clone();
    warnings.extend(experiment.prepared.warnings.iter().cloned());
    let (memory, too_little) = experiment::memory(&experiment, &options)?;
    warnings.extend(too_little);
    super::show(&warnings, sources, report::errors_in_color());
    let rounding = experiment::rounding(&experiment, options.rounding);
    let does = format!("\n{}\n", args.execution.backend.does());
    Ok(experiment::explanation(&session, &experiment) + &rounding + &memory + &does)
}

fn unknown(what: &str) -> Error {
    let all = || codes::PAGES.iter().map(|(c, _)| c.0);
    let e = Error::new(codes::COMMAND, format!("`{what}` is neither the code of a diagnostic nor a file"));
    match nearest(&what.to_ascii_uppercase(), all()) {
        Some(near) => e.help(format!("the nearest code is {near}")),
        None => e.help(format!("codes go from {} to {}", all().next().unwrap_or(""), all().next_back().unwrap_or(""))),
    }
}
