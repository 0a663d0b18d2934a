//! The command line: one file a subcommand.
//!
//! Exit codes: 0 done, 1 diagnostics, 2 usage, 70 a bug in steer, 130 stopped by ctrl-C.

mod build;
mod check;
mod doc;
mod emit;
mod explain;
mod fmt;
mod lsp;
mod merge;
mod new;
mod options;
mod outcome;
mod repl;
mod run;
pub mod sites;
pub mod tokens;

pub use check::CheckArgs;
pub use options::{
    Backend, Emit, ExecutionArgs, ModelArgs, ResourceArgs, Setting, ValueArgs, Weights, cache, script_folder,
};
pub use outcome::tell;
pub use run::RunArgs;

use crate::error::Error;
use crate::experiment::SessionOptions;
use crate::hub::Hub;
use crate::{guard, interrupt, report};
use clap::{Parser, Subcommand};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use steer_lang::{Diagnostic, Diagnostics, Severity, Sources, codes};

/// The version, and what compiles kernels where nobody chooses.
const VERSION: &str = if cfg!(feature = "llvm") {
    concat!(env!("CARGO_PKG_VERSION"), " (kernels by LLVM)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (kernels by Cranelift)")
};

/// The exit code after a bug in steer.
const BUG: u8 = 70;

#[derive(Parser)]
#[command(name = "steer", version = VERSION, about = "Checks, compiles and runs scripts that intervene in models")]
#[command(disable_help_subcommand = true, color = clap::ColorChoice::Never)]
struct Cli {
    /// Print without colours (also with NO_COLOR set)
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a script, run it, and report
    Run(RunArgs),
    /// Join the shards of a run, and report
    Merge(merge::MergeArgs),
    /// Build the hooks of a script for other programs: an object file, a header, a shared library
    Build(build::BuildArgs),
    /// Check a script against a model without reading its weights
    Check(CheckArgs),
    /// Format scripts in place
    Fmt(fmt::FmtArgs),
    /// Explain a diagnostic's code, or what became of each edit of a script
    Explain(explain::ExplainArgs),
    /// List the sites of a model: what hooks, captures and metrics can name
    Sites(sites::SitesArgs),
    /// Show the tokens of a text: what positions count
    Tokens(tokens::TokensArgs),
    /// Write a script to begin with
    New(new::NewArgs),
    /// Show the manual: an overview, or what it says of a name
    Doc(doc::DocArgs),
    /// A prompt at which the model stays loaded
    Repl(repl::ReplArgs),
    /// Serve an editor: the Language Server Protocol on standard input and output
    Lsp(lsp::LspArgs),
}

/// The command line with its subcommands, for the manual.
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// What the options of a subcommand say of the model and the parameters.
fn session_options(model: &ModelArgs, set: &[Setting]) -> SessionOptions {
    SessionOptions {
        model: model.model.clone(),
        arch: model.arch.clone(),
        set: set.iter().map(|s| (s.name.clone(), s.value.clone())).collect(),
        hub: Hub::from_env(),
        weights: false,
        unsaved: Default::default(),
        keep: false,
    }
}

/// Starts the threads of the process, before any work begins: one for each core where nobody says how many.
fn start_threads(threads: Option<u16>) -> Result<(), Error> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, Ordering::Relaxed) && threads.is_none() {
        return Ok(());
    }
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0).into());
    builder.build_global().map_err(|e| {
        let count = threads.map_or("one for each core".to_string(), |n| n.to_string());
        Error::new(codes::COMMAND, format!("cannot start the threads that do the work, {count}: {e}"))
            .help("give fewer with --threads, or lift the limit on memory or processes")
    })
}

/// Why a subcommand stopped: what to say, and the texts that it points into.
#[derive(Debug, Default)]
pub struct Failure {
    pub diagnostics: Diagnostics,
    pub sources: Sources,
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Failure { diagnostics: vec![*e.0], sources: Sources::default() }
    }
}

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Self {
        Failure { diagnostics: vec![d], sources: Sources::default() }
    }
}

/// Parses the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    guard::set_panic_hook(report_bug);
    interrupt::install();
    match catch_unwind(AssertUnwindSafe(parse_and_run)) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::from(BUG),
    }
}

fn parse_and_run() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            return match report::print(&e.render().to_string()) {
                Ok(()) => 0,
                Err(e) => {
                    show(&[*e.0], &Sources::default(), report::errors_in_color());
                    1
                }
            };
        }
        Err(e) => {
            say(&e.render().to_string());
            return 2;
        }
    };
    if cli.no_color {
        report::without_color();
    }
    let result = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Build(args) => build::run(args),
        Command::Check(args) => check::run(args),
        Command::Fmt(args) => fmt::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Sites(args) => sites::run(args),
        Command::Tokens(args) => tokens::run(args),
        Command::Repl(args) => repl::run(args),
        Command::New(args) => new::run(args),
        Command::Doc(args) => doc::run(args),
        Command::Lsp(args) => lsp::run(args),
    };
    match result {
        Ok(()) => 0,
        Err(failure) => {
            show(&failure.diagnostics, &failure.sources, report::errors_in_color());
            match failure.diagnostics.iter().any(|d| d.code == codes::STOPPED) {
                true => interrupt::EXIT as u8,
                false => 1,
            }
        }
    }
}

/// Prints diagnostics on standard error, warnings included, with a count where there are several errors.
pub fn show(diagnostics: &[Diagnostic], sources: &Sources, color: bool) {
    if diagnostics.is_empty() {
        return;
    }
    say(&report::render(diagnostics, sources, color));
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    if errors > 1 {
        say(&format!("{errors} errors\n"));
    }
}

/// Writes to standard error, which may be closed: then there is nobody to tell.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn report_bug(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
    let text = info.payload().downcast_ref::<&str>().map(|s| s.to_string());
    let text = text.or_else(|| info.payload().downcast_ref::<String>().cloned()).unwrap_or_default();
    say(&format!(
        "this is a bug in steer {}{place}: {text}\n\
         Please report it as an issue of the project, with this message, the command, the script and the model's config.json.\n",
        env!("CARGO_PKG_VERSION")
    ));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
        say(&format!("{}\n", std::backtrace::Backtrace::force_capture()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    fn parse(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("steer").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|e| e.render().to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_a_run() {
        let cli = parse("run a.steer --model m --set alpha=4 --set name=x=y --backend interp --seed 7 --stop-after fuse --disable-rule a --disable-rule b --emit kir --no-color --time --chunk 16 --threads 2 --json r.json --arch x.steer").unwrap();
        let Command::Run(a) = cli.command else { panic!("not a run") };
        assert!(cli.no_color && a.time);
        assert_eq!(a.set[1], Setting { name: "name".into(), value: "x=y".into() });
        assert_eq!((a.values.execution.backend, a.emit, a.values.seed), (Backend::Interp, Some(Emit::Kir), Some(7)));
        assert_eq!(a.disable_rule, ["a", "b"]);
    }

    /// The subcommands that a row of the reference names in parentheses: "(`run`, `merge`)".
    fn named<'r>(row: &'r str, all: &[&str]) -> BTreeSet<&'r str> {
        let groups = row.split('(').skip(1).filter_map(|g| g.split_once(')'));
        let words = |(group, _): (&'r str, &'r str)| group.split(", ").map(|w| w.trim_matches('`')).collect::<Vec<_>>();
        groups.map(words).filter(|words| words.iter().all(|w| all.contains(w))).flatten().collect()
    }

    #[test]
    fn the_reference_says_which_subcommands_take_an_option() {
        let reference = include_str!("../../../docs/LANGUAGE.md");
        let section = reference.split("\n## The command line\n").nth(1).expect("the reference has the section");
        let table = section.split("\n### ").next().unwrap_or_default();
        let command = Cli::command();
        let all: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut checked = 0;
        for row in table.lines().filter(|l| l.starts_with("| `--") && !l.contains("--no-color")) {
            let options = row.split(" | ").next().unwrap_or_default();
            for option in options.split('`').filter_map(|o| o.strip_prefix("--")) {
                let (name, value) = option.split_once(' ').map_or((option, false), |(name, _)| (name, true));
                let takes = |c: &&clap::Command| {
                    let arg = c.get_arguments().find(|a| a.get_long() == Some(name));
                    arg.is_some_and(|a| a.get_action().takes_values() == value)
                };
                let wanted: BTreeSet<&str> =
                    command.get_subcommands().filter(takes).map(clap::Command::get_name).collect();
                assert_eq!(named(row, &all), wanted, "--{name}");
                checked += 1;
            }
        }
        assert!(checked > 15, "{checked}");
    }

    #[test]
    fn usage_errors_are_plain() {
        for (line, what) in [
            ("run", "required"),
            ("run a.steer --set alpha", "name=value"),
            ("run a.steer --set =3", "name=value"),
            ("run a.steer --threads 0", "0 is not in"),
            ("run a.steer --backend gpu", "possible values: llvm, cranelift, interp, candle"),
            ("rnu a.steer", "unrecognized subcommand"),
        ] {
            let e = parse(line).err().unwrap();
            assert!(e.contains(what) && !e.contains('\u{1b}'), "{line}: {e}");
        }
    }
}
