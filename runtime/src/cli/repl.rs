//! `steer repl [FILE]`

use super::{Failure, ModelArgs, ResourceArgs, Setting, ValueArgs, script_folder};
use crate::error::Error;
use crate::repl::{Flow, Repl, Terminal};
use crate::report;
use clap::Args;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use steer_lang::codes;

#[derive(Args, Clone, Debug)]
pub struct ReplArgs {
    /// A script to begin with: its definitions are there, its statements are run
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    /// A parameter of the script; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<Setting>,
    #[command(flatten)]
    pub values: ValueArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
}

/// A prompt on a terminal; otherwise what stands on standard input is evaluated, up to the first error.
pub fn run(args: &ReplArgs) -> Result<(), Failure> {
    super::start_threads(args.resources.threads)?;
    let phase = args.resources.bound(args.values.options()?);
    let folder = args.file.as_deref().map_or_else(|| Path::new("."), script_folder);
    let mut repl = Repl::new(folder.to_path_buf(), super::session_options(&args.model, &args.set), phase);
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let begun = match &args.file {
        Some(file) => repl.load(file).map(|()| String::new()),
        None if terminal => repl.begin().map(|model| model + "\n"),
        None => Ok(String::new()),
    };
    match begun.and_then(|text| repl.check_set().map(|()| text)) {
        Ok(text) => report::print(&text)?,
        // At a prompt it can be mended.
        Err(failure) if terminal => {
            crate::interrupt::take();
            super::show(&failure.diagnostics, &failure.sources, report::errors_in_color());
        }
        Err(failure) => return Err(failure),
    }
    if terminal {
        report::print("`:help` lists the commands; ctrl-D ends the session\n")?;
        let history = super::options::cache().map(|folder| folder.join("history"));
        return Ok(Terminal::new(history)?.run(&mut repl)?);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|e| crate::files::failed("read from", Path::new("standard input"), &e))?;
    for text in crate::repl::inputs(&text) {
        match repl.enter(&text) {
            (Flow::Ended, _) => return Ok(()),
            (Flow::On, true) => {}
            (Flow::On, false) => {
                let e = Error::new(codes::COMMAND, "nothing is evaluated behind the first error");
                return Err(e.help("inputs before it were evaluated").into());
            }
        }
    }
    Ok(())
}
