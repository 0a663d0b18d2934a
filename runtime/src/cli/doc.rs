//! `steer doc [NAME]`

use super::Failure;
use crate::manual::Manual;
use crate::{files, report};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Clone, Debug)]
pub struct DocArgs {
    /// What to look up: a keyword, a function, a site, an option, a subcommand, a code, a heading; without it an overview
    #[arg(num_args = 0.., allow_hyphen_values = true)]
    pub name: Vec<String>,
    /// Write the whole manual as one page of HTML
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    pub html: Option<PathBuf>,
}

/// Shows a part of the manual, or writes all of it.
pub fn run(args: &DocArgs) -> Result<(), Failure> {
    let manual = Manual::new();
    if let Some(path) = &args.html {
        files::write_atomic(path, |out| out.write_all(manual.html().as_bytes()))?;
        return Ok(report::print(&format!("the manual is written to {}\n", path.display()))?);
    }
    let screen = report::screen();
    let text = match args.name.is_empty() {
        true => manual.overview(screen.columns, screen.color) + HOW,
        false => manual.find(&args.name.join(" "))?.text(screen.columns, screen.color),
    };
    Ok(report::print(&text)?)
}

const HOW: &str = "
`steer doc NAME` shows one of these, or another word that a script can have: `on`, `memory`, `attention patterns`
`steer doc --html manual.html` writes all of it as one page
";
