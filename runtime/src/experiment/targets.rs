//! The files and plots that a script asks for, checked before anything runs.

use super::inputs;
use super::session::Session;
use super::table;
use crate::error::Error;
use crate::files;
use crate::report::{PlotFile, TableFile, capture_file, page_file, tensor_file};
use std::path::Path;
use steer_compiler::elaborate::{PlotOption, Statement, StatementKind, TableSpec};
use steer_figures::{Kind, Plot};
use steer_lang::{Diagnostic, Diagnostics, codes};

/// What is wrong with the plots and the ends of file names of some statements.
pub fn check(statements: &[Statement]) -> Diagnostics {
    let mut out = Diagnostics::new();
    for s in statements {
        let found = match &s.kind {
            StatementKind::Plot { table, kind, to, options } => {
                let file = to.as_ref().map_or(Ok(()), |to| PlotFile::of(Path::new(to)).map(|_| ()));
                file.and_then(|()| plot(statements, table, kind.as_deref(), options))
            }
            StatementKind::Save { table, to } => save(statements, table, to),
            StatementKind::Capture { to, .. } => capture_file(Path::new(to)),
            StatementKind::SaveTensors(saved) => tensor_file(Path::new(&saved.to)),
            StatementKind::Report { to } => page_file(Path::new(to)),
            _ => Ok(()),
        };
        if let Err(e) = found {
            out.push(e.0.at(s.span, "asked for here"));
        }
    }
    out
}

/// An error where a file that the script writes could not be written.
pub fn writable(session: &Session) -> Result<(), Diagnostics> {
    for s in &session.script.statements {
        let Some(to) = inputs::target(&s.kind) else { continue };
        files::check_target(&session.path(to)).map_err(|e| vec![e.0.at(s.span, "to be written here")])?;
    }
    Ok(())
}

fn spec<'s>(statements: &'s [Statement], name: &str) -> Option<&'s TableSpec> {
    statements.iter().find_map(|s| match &s.kind {
        StatementKind::Table(t) if t.name.as_deref() == Some(name) => Some(t),
        _ => None,
    })
}

fn plot(
    statements: &[Statement],
    table: &str,
    kind: Option<&str>,
    options: &[(String, PlotOption)],
) -> Result<(), Error> {
    let plot = plot_of(kind, options)?;
    let Some(spec) = spec(statements, table) else { return Ok(()) };
    // The table without its numbers.
    Ok(plot.check(&table::frame(spec, &vec![None; spec.cells.len()]))?)
}

fn save(statements: &[Statement], table: &str, to: &str) -> Result<(), Error> {
    let file = TableFile::of(Path::new(to))?;
    match spec(statements, table) {
        Some(t) if file == TableFile::Npy && t.columns.len() > 1 => Err(Error::new(
            codes::BAD_ARGUMENTS,
            format!("`{table}` has {} metrics, and an .npy file holds one", t.columns.len()),
        )
        .help("save it as .parquet, or measure one of them in a sweep of its own")),
        _ => Ok(()),
    }
}

/// A plot as the script asks for it.
pub fn plot_of(kind: Option<&str>, options: &[(String, PlotOption)]) -> Result<Plot, Error> {
    let mut plot = Plot { kind: kind.and_then(Kind::parse), ..Plot::default() };
    let (mut low, mut high) = (None, None);
    for (name, option) in options {
        match (name.as_str(), option) {
            ("column", PlotOption::Text(t)) => plot.columns.push(t.clone()),
            ("x", PlotOption::Text(t)) => plot.x = Some(t.clone()),
            ("y", PlotOption::Text(t)) => plot.y = Some(t.clone()),
            ("series", PlotOption::Text(t)) => plot.series = Some(t.clone()),
            ("title", PlotOption::Text(t)) => plot.title = Some(t.clone()),
            ("min", PlotOption::Number(n)) => low = Some(*n),
            ("max", PlotOption::Number(n)) => high = Some(*n),
            _ => {}
        }
    }
    if low.is_some() != high.is_some() {
        let e = Diagnostic::error(codes::BAD_ARGUMENTS, "`min` and `max` go together");
        return Err(Error(Box::new(e.help("give both, or neither: limits follow from the values"))));
    }
    plot.limits = low.zip(high);
    Ok(plot)
}
