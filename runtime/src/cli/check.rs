//! `steer check FILE`

use super::{Failure, ModelArgs, Setting};
use crate::experiment::{self, PhaseOptions, Session};
use crate::progress::{Bar, Unit};
use crate::report;
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;
use steer_lang::{Diagnostics, Sources};

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The script
    pub file: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
}

/// Checks a script against its model's configuration, tokenizer and weight headers, and compiles it.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    super::start_threads(None)?;
    let mut sources = Sources::default();
    match check(args, &mut sources) {
        Ok(()) => Ok(()),
        Err(diagnostics) => Err(Failure { diagnostics, sources }),
    }
}

fn check(args: &CheckArgs, sources: &mut Sources) -> Result<(), Diagnostics> {
    let clock = Instant::now();
    let bar = Bar::new("checking", Unit::Unknown);
    let session = Session::open(&args.file, &super::session_options(&args.model, &args.set), sources)?;
    let experiment = experiment::prepare_all(&session, &PhaseOptions::default())?;
    drop(bar);
    let mut warnings = session.warnings.clone();
    warnings.extend(experiment.prepared.warnings.iter().cloned());
    super::show(&warnings, sources, report::errors_in_color());
    let note = match (session.tokens.is_some(), session.checkpoint.has_weights()) {
        (true, true) => "",
        (false, _) => " (no tokenizer: tokens and texts were not checked)",
        (true, false) => " (no weights: only the configuration was checked)",
    };
    let text = format!(
        "{}: ok on {} ({} of {}, {} layers), {} statements, in {:.0} ms{note}\n",
        args.file.display(),
        session.model_name,
        session.script.model.arch_name,
        session.arch_file,
        session.script.layers,
        session.script.statements.len(),
        clock.elapsed().as_secs_f64() * 1e3,
    );
    let text = text + &super::outcome::readings(&session);
    report::print(&text).map_err(|e| vec![*e.0])
}
