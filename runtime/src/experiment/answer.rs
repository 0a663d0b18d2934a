//! What each statement gave, and as text.

use super::derive::{arithmetic, first_entries};
use super::measure::positions;
use super::phase::TensorValues;
use super::results::Results;
use super::session::{Session, one};
use super::statements::{Experiment, Place, broken};
use super::table;
use super::targets::plot_of;
use crate::error::Error;
use crate::memory;
use crate::progress::{Bar, Unit};
use crate::report::{self, Output, Value};
use crate::tensors::{Named, Parts};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use steer_compiler::elaborate::{PrintItem, RowSet, RunSpec, SavedTensors, Statement, StatementKind, TableSpec};
use steer_figures::{Color, Frame, Kind, Plot};
use steer_lang::{Diagnostic, Diagnostics};

/// The tables of the sweeps so far, by name.
pub type Tables = BTreeMap<String, Frame>;

/// What a statement other than `generate` gave, and as text.
pub fn answer(
    session: &Session,
    experiment: &Experiment,
    (number, s): (usize, &Statement),
    results: &Results,
    values: &TensorValues,
    tables: &mut Tables,
) -> Result<(Vec<Output>, String), Diagnostics> {
    let place = &experiment.places[number];
    match &s.kind {
        StatementKind::Generate { .. } => Err(one(broken("texts are shown as they come"))),
        StatementKind::Table(t) => Ok(table_of(session, t, &results.cells[number], tables)),
        StatementKind::Plot { table, kind, to, options } => {
            let plot = plot_of(kind.as_deref(), options).map_err(one)?;
            let figure = plot.of(named(tables, table)?).map_err(|f| at(*Error::from(f).0, s))?;
            let text = match to {
                None => figure.text(&report::screen()),
                Some(to) if !results.measured => unwritten("plotted", &session.path(to)),
                Some(to) => {
                    let path = session.path(to);
                    report::save_plot(&path, &figure).map_err(|e| at(*e.0, s))?;
                    format!("plotted {table} to {}\n", path.display())
                }
            };
            Ok((
                vec![Output::Plot {
                    table: table.clone(),
                    file: to.clone(),
                    plot: Box::new(plot),
                    figure: Box::new(figure),
                }],
                text,
            ))
        }
        StatementKind::Save { to, .. } if !results.measured => Ok((Vec::new(), unwritten("saved", &session.path(to)))),
        StatementKind::Save { table, to } => {
            let path = session.path(to);
            report::save_table(&path, named(tables, table)?, None).map_err(|e| at(*e.0, s))?;
            let text = format!("saved {table} to {}\n", path.display());
            Ok((vec![Output::Save { table: table.clone(), file: to.clone() }], text))
        }
        StatementKind::SaveTensors(saved) => save_tensors(session, saved, values).map_err(|e| at(*e.0, s)),
        // It is written when everything else is there.
        StatementKind::Report { .. } => Ok((Vec::new(), String::new())),
        StatementKind::Capture { sites, on, runs, to, .. } => {
            capture(session, experiment, (sites, on), runs, to, place, results)
        }
        StatementKind::Print(items) => {
            let mut text = Vec::new();
            let mut out = Vec::new();
            for item in items {
                match item {
                    PrintItem::Text(t) => {
                        text.push(t.clone());
                        out.push(Value::Text(t.clone()));
                    }
                    PrintItem::Ranked { ranking, n, layers, shape } => {
                        let shown = first_entries(ranking, *n, layers.as_deref(), shape, values).map_err(one)?;
                        text.push(shown.clone());
                        out.push(Value::Text(shown));
                    }
                    PrintItem::Value { label, plan } => {
                        let data = arithmetic(plan, values.clone()).map_err(one)?;
                        let (shown, value) = shown_value(label, plan, &data);
                        text.push(shown);
                        out.push(value);
                    }
                }
            }
            Ok((vec![Output::Print { values: out }], text.join(" ") + "\n"))
        }
    }
}

/// What is said of a file that an interrupted run leaves as it was.
fn unwritten(verb: &str, path: &Path) -> String {
    format!("nothing {verb} to {}: stopped before the end\n", path.display())
}

fn named<'t>(tables: &'t Tables, name: &str) -> Result<&'t Frame, Diagnostics> {
    tables.get(name).ok_or_else(|| one(broken("a table is missing")))
}

/// Where a statement's own error has no place yet, the statement is it.
fn at(d: Diagnostic, s: &Statement) -> Diagnostics {
    vec![if d.labels.is_empty() { d.at(s.span, "asked for here") } else { d }]
}

/// The numbers of a table; a sweep's table is kept for what comes after it, and printed where nothing does.
fn table_of(
    session: &Session,
    spec: &TableSpec,
    cells: &[Option<table::Numbers>],
    tables: &mut Tables,
) -> (Vec<Output>, String) {
    let frame = table::frame(spec, cells);
    let text = match &spec.name {
        None => table::rows(&frame, report::width::terminal(100)),
        Some(name) => {
            tables.insert(name.clone(), frame.clone());
            let shown = session.script.statements.iter().any(|s| match &s.kind {
                StatementKind::Plot { table, .. } | StatementKind::Save { table, .. } => table == name,
                _ => false,
            });
            match shown {
                true => String::new(),
                false => map(&frame)
                    .unwrap_or_else(|| format!("{name}\n{}", table::rows(&frame, report::width::terminal(100)))),
            }
        }
    };
    (vec![Output::Table(frame)], text)
}

/// A table of several axes as a heat map, where there are colours.
fn map(frame: &Frame) -> Option<String> {
    let screen = report::screen();
    if frame.axes.len() < 2 || frame.columns.len() != 1 || screen.color == Color::None {
        return None;
    }
    let plot = Plot { kind: Some(Kind::Heat), ..Plot::default() };
    Some(plot.of(frame).ok()?.text(&screen))
}

fn shown_value(label: &str, plan: &steer_compiler::plan::Plan, data: &[f32]) -> (String, Value) {
    let Some(output) = plan.outputs.first() else { return (String::new(), Value::List(Vec::new())) };
    let ty = plan.ty(output.node);
    if ty.axes.is_empty() {
        let x = f64::from(data.first().copied().unwrap_or(f32::NAN));
        return (report::number(x), Value::Number(x));
    }
    let norm = data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let head: Vec<String> = data.iter().take(4).map(|x| report::number(f64::from(*x))).collect();
    let more = if data.len() > 4 { ", ..." } else { "" };
    let axes = ty
        .axes
        .iter()
        .map(|a| (a.name.to_string(), if let steer_compiler::plan::Size::Fixed(n) = a.size { n } else { 0 }));
    let value = Value::Tensor { axes: axes.collect(), data: data.to_vec() };
    (format!("{label} {ty} norm {} [{}{more}]", report::number(norm), head.join(", ")), value)
}

/// Writes declared tensors; the file's name says how.
fn save_tensors(
    session: &Session,
    saved: &SavedTensors,
    values: &TensorValues,
) -> Result<(Vec<Output>, String), Error> {
    let path = session.path(&saved.to);
    let mut named = Vec::new();
    for name in &saved.tensors {
        let data = values.0.get(name).ok_or_else(|| broken("a saved tensor is missing"))?;
        named.push(Named { name, shape: &saved.shape, data });
    }
    let model = session.checkpoint.config().value.get("model_type").and_then(|v| v.as_str());
    let model = model.unwrap_or(&session.script.model.arch_name);
    report::save_tensors(&path, &named, saved.blocks.as_deref(), model)?;
    let left_out = match saved.blocks.as_deref().unwrap_or_default().contains(&0) {
        true => ", without the one for block 0: control vectors begin at block 1",
        false => "",
    };
    let output = Output::SaveTensors { tensors: saved.name.clone(), file: saved.to.clone() };
    Ok((vec![output], format!("saved {} to {}{left_out}\n", saved.name, path.display())))
}

/// As many tensors of a capture are named.
const SHAPES: usize = 3;

fn capture<'r>(
    session: &Session,
    experiment: &Experiment,
    (sites, on): (&[String], &RowSet),
    runs: &[RunSpec],
    to: &str,
    place: &Place,
    results: &'r Results,
) -> Result<(Vec<Output>, String), Diagnostics> {
    let path = session.path(to);
    let mut stored: Vec<Stored> = Vec::new();
    for (run, spec) in place.runs.iter().zip(runs) {
        let rows = positions(&on.rows(&spec.sequence()));
        for (site, output) in sites.iter().zip(&place.outputs) {
            let plan = &experiment.prepared.plan;
            let node = plan.outputs[*output].node;
            let ty = plan.ty(node);
            // Which rows the keys of a row are.
            let sight = plan.sight_inside(node).unwrap_or_default();
            let keys = |p: usize| sight.of(p, spec.encoded.tokens.len());
            let widest = rows.iter().map(|p| keys(*p).end).max().unwrap_or(0);
            let found = rows.iter().filter_map(|p| Some((*p, results.captured.get(&(*run, *output, *p))?)));
            let row = |(p, v): (usize, &'r Arc<[f32]>)| match ty.has_keys() {
                true => padded(v, keys(p).start, widest, ty.len_with(1)),
                false => Ok(Cow::Borrowed(&**v)),
            };
            let data = found.map(row).collect::<Result<Vec<_>, _>>().map_err(one)?;
            let mut shape = vec![data.len()];
            shape.extend(ty.axes.iter().map(|a| match a.size {
                steer_compiler::plan::Size::Fixed(n) => n,
                steer_compiler::plan::Size::Keys => widest,
            }));
            let name = if runs.len() == 1 { site.clone() } else { format!("{}.{site}", spec.label) };
            stored.push((name, shape, data));
        }
    }
    let shapes = stored.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
    if !results.measured {
        return Ok((Vec::new(), unwritten("captured", &path)));
    }
    let mut named: Vec<Parts> = Vec::new();
    for (name, shape, data) in &stored {
        named.push(Parts { name, shape, data: data.iter().map(|d| &**d).collect() });
    }
    let bar = Bar::new(&format!("writing {to}"), Unit::Unknown);
    crate::tensors::write_parts(&path, &named, &report::producer()).map_err(one)?;
    drop(bar);
    let shown = named.iter().take(SHAPES).map(|n| format!("{} {:?}", n.name, n.shape)).collect::<Vec<_>>().join(", ");
    let more = if named.len() > SHAPES { format!(" and {} more", named.len() - SHAPES) } else { String::new() };
    let text = format!("captured {shown}{more} to {}\n", path.display());
    Ok((vec![Output::Capture { file: to.to_owned(), tensors: shapes }], text))
}

/// A captured tensor: name, shape, rows.
type Stored<'r> = (String, Vec<usize>, Vec<Cow<'r, [f32]>>);

/// A row with a column for each position: zeros where it has no key. The first of its keys is at `start`.
fn padded(row: &[f32], start: usize, widest: usize, heads: usize) -> Result<Cow<'_, [f32]>, Error> {
    let keys = row.len() / heads.max(1);
    if keys == widest {
        return Ok(Cow::Borrowed(row));
    }
    let mut data = memory::room(heads * widest, "what is captured")?;
    for (head, part) in row.chunks_exact(keys.max(1)).enumerate() {
        data.resize(head * widest + start, 0.0);
        data.extend_from_slice(part);
        data.resize((head + 1) * widest, 0.0);
    }
    Ok(Cow::Owned(data))
}
