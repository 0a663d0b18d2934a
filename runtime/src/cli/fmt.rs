//! `steer fmt [--check] FILES...`

use super::Failure;
use crate::error::Error;
use crate::{files, report};
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use steer_lang::{Diagnostic, Diagnostics, Sources, codes};

#[derive(Args, Clone, Debug)]
pub struct FmtArgs {
    /// Only say which files are not formatted, and fail if there are any
    #[arg(long)]
    pub check: bool,
    /// The scripts; `-` reads standard input and writes standard output
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

/// Formats every file that can be; a file with an error stays as it is and does not stop the others.
pub fn run(args: &FmtArgs) -> Result<(), Failure> {
    let mut failure = Failure::default();
    for path in &args.files {
        if let Err(found) = one(path, args.check, &mut failure.sources) {
            failure.diagnostics.extend(found);
        }
    }
    if failure.diagnostics.is_empty() { Ok(()) } else { Err(failure) }
}

fn one(path: &Path, check: bool, sources: &mut Sources) -> Result<(), Diagnostics> {
    let only = |e: Error| vec![*e.0];
    let standard = path == Path::new("-");
    let text = if standard { standard_input().map_err(only)? } else { files::read_text(path).map_err(only)? };
    let name = if standard { "standard input".to_string() } else { path.display().to_string() };
    // The formatter knows one file only, the first; here there may be several.
    let file = sources.add(name.as_str(), text.as_str());
    let formatted = steer_lang::format(&text).map_err(|mut found| {
        found.iter_mut().flat_map(|d| &mut d.labels).for_each(|l| l.span.file = file);
        found
    })?;
    match (check, standard) {
        (true, _) if formatted != text => {
            let help = format!("`steer fmt {}` formats it", path.display());
            Err(vec![Diagnostic::error(codes::COMMAND, format!("`{name}` is not formatted")).help(help)])
        }
        (true, _) => Ok(()),
        (false, true) => report::print(&formatted).map_err(only),
        (false, false) if formatted == text => Ok(()),
        (false, false) => files::write_atomic(path, |out| out.write_all(formatted.as_bytes())).map_err(only),
    }
}

fn standard_input() -> Result<String, Error> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) => Err(files::failed("read", Path::new("standard input"), &e)),
    }
}
