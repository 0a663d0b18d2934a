//! `steer merge FILE PARTS`

use super::outcome::{self, Outcome};
use super::{Failure, ModelArgs, Setting, ValueArgs};
use crate::experiment::{self, Session};
use crate::progress::{Bar, Unit};
use crate::report::{self, Warned};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;
use steer_lang::{Diagnostic, Diagnostics, Sources};

#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    /// The script
    pub file: PathBuf,
    /// What its shards have computed
    #[arg(required = true)]
    pub parts: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script, as the shards had it; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
    #[command(flatten)]
    pub values: ValueArgs,
    /// Write the report as JSON, too; `-`: to standard output, and nothing else
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print how long each stage took
    #[arg(long)]
    pub time: bool,
}

/// Shows and writes what a run of the whole script would.
pub fn run(args: &MergeArgs) -> Result<(), Failure> {
    super::start_threads(None)?;
    let mut sources = Sources::default();
    match merge(args, &mut sources) {
        Ok(()) => Ok(()),
        Err(diagnostics) => Err(Failure { diagnostics, sources }),
    }
}

fn merge(args: &MergeArgs, sources: &mut Sources) -> Result<(), Diagnostics> {
    let clock = Instant::now();
    let options = args.values.options().map_err(|e| vec![*e.0])?;
    let bar = Bar::new("checking", Unit::Unknown);
    let mut open = super::session_options(&args.model, &args.set);
    let mut session = Session::open(&args.file, &open, sources)?;
    if experiment::merging_computes(&session) && !session.checkpoint.has_weights() {
        (open.weights, *sources) = (true, Sources::default());
        session = Session::open(&args.file, &open, sources)?;
    }
    drop(bar);
    let checked = clock.elapsed().as_secs_f64();
    outcome::check_target(&session, args.json.as_deref())?;
    let mut warn = |warnings: &[Diagnostic]| super::show(warnings, sources, report::errors_in_color());
    warn(&session.warnings);
    let mut page = Warned { page: outcome::page(args.json.as_deref()), warn: &mut warn };
    let done = experiment::merge_on(&session, &options, &args.parts, &mut page)?;
    let told = Outcome {
        file: &args.file,
        session: &session,
        sources,
        options: &options,
        json: args.json.as_deref(),
        time: args.time,
        checked,
        clock,
    };
    told.tell(done)
}
