//! `steer run FILE`

use super::outcome::{self, Outcome};
use super::{Emit, Failure, ModelArgs, ResourceArgs, Setting, ValueArgs};
use crate::error::Error;
use crate::experiment::{self, Keeping, KeepingPlace, PhaseOptions, Session, SessionOptions, Shard, shard_file};
use crate::progress::{Bar, Unit};
use crate::report::{self, Warned};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;
use steer_compiler::plan::rules;
use steer_lang::{Diagnostic, Diagnostics, Sources};

#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The script
    pub file: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
    #[command(flatten)]
    pub values: ValueArgs,
    /// Write the report as JSON, too; `-`: to standard output, and nothing else
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Print how long each stage took, and what the passes through the model were spent on
    #[arg(long)]
    pub time: bool,
    /// Go on with an experiment that was interrupted
    #[arg(long)]
    pub resume: bool,
    /// Compute only this part of the experiment, such as 2/8; `steer merge` joins the parts
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Where finished cells are kept (default: the cache folder until the end; of a shard SCRIPT.I-of-N.kept)
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
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
    super::start_threads(args.resources.threads)?;
    let mut sources = Sources::default();
    match run_in(args, &mut sources) {
        Ok(()) => Ok(()),
        Err(diagnostics) => Err(Failure { diagnostics, sources }),
    }
}

fn run_in(args: &RunArgs, sources: &mut Sources) -> Result<(), Diagnostics> {
    let clock = Instant::now();
    let options = args.options().map_err(|e| vec![*e.0])?;
    if args.emit == Some(Emit::Ast) {
        return super::emit::ast(&args.file, sources);
    }
    let bar = Bar::new("checking", Unit::Unknown);
    let session = Session::open(&args.file, &args.session(), sources)?;
    drop(bar);
    if let Some(stage) = args.emit {
        return super::emit::stage(&session, &options, stage);
    }
    let checked = clock.elapsed().as_secs_f64();
    outcome::check_target(&session, args.json.as_deref())?;
    let mut warn = |warnings: &[Diagnostic]| super::show(warnings, sources, report::errors_in_color());
    warn(&session.warnings);
    let mut page = Warned { page: outcome::page(args.json.as_deref()), warn: &mut warn };
    let done = experiment::run_on(&session, &options, &args.keeping(), &mut page)?;
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
    match args.shard {
        Some(shard) => told.shard(shard, done),
        None => told.tell(done),
    }
}

impl RunArgs {
    fn keeping(&self) -> Keeping {
        let place = match (&self.keep, self.shard) {
            (Some(file), _) => KeepingPlace::File(file.clone()),
            (None, Some(shard)) => KeepingPlace::File(shard_file(&self.file, shard)),
            (None, None) => super::options::cache().map_or(KeepingPlace::Nowhere, KeepingPlace::Folder),
        };
        Keeping { place, resume: self.resume, shard: self.shard }
    }

    fn session(&self) -> SessionOptions {
        SessionOptions { weights: self.emit.is_none(), ..super::session_options(&self.model, &self.set) }
    }

    fn options(&self) -> Result<PhaseOptions, Error> {
        Ok(PhaseOptions {
            rules: rules::Options { disable: self.disable_rule.clone(), stop_after: self.stop_after.clone() },
            measure: self.time,
            ..self.resources.bound(self.values.options()?)
        })
    }
}
