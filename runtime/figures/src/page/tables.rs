//! Tables as HTML.

use crate::draw::escape;
use crate::frame::Frame;
use crate::side::Side;
use crate::text::{Align, Table, error, number};
use std::fmt::Write;

/// Tables with more cells are folded.
const OPEN: usize = 120;

/// Tables with more rows, or more columns, end there.
const ROWS: usize = 1000;
const COLUMNS: usize = 64;

pub(super) fn table(out: &mut String, table: &Table) {
    out.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    let class = |align: &Align| if *align == Align::Right { " class=\"n\"" } else { "" };
    for (name, align) in table.heads() {
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(align), escape(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in table.cells().iter().take(ROWS) {
        out.push_str("<tr>");
        for (cell, (_, align)) in row.iter().zip(table.heads()) {
            let _ = write!(out, "<td{}>{}</td>", class(align), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    left_out(out, table.cells().len(), ROWS, "rows");
}

fn left_out(out: &mut String, count: usize, most: usize, what: &str) {
    if count > most {
        let _ = writeln!(out, "<p class=\"small\">The first {most} of {count} {what} are shown.</p>");
    }
}

/// A table with axes: the last axis to the right where there is one metric, else the metrics.
pub(super) fn frame(out: &mut String, frame: &Frame) {
    if let Err(fault) = frame.check() {
        let _ = writeln!(out, "<p class=\"small\">{}</p>", escape(&fault.message));
        return;
    }
    let shown = frame.cells() * frame.columns.len();
    let fold = shown > OPEN;
    if fold {
        let _ = writeln!(out, "<details><summary>{} values of <code>{}</code></summary>", shown, escape(&frame.name));
    }
    let sides: Vec<Side> = frame.axes.iter().map(Side::of).collect();
    match (frame.columns.as_slice(), sides.split_last()) {
        ([one], Some((right, down))) if !down.is_empty() && right.len() <= COLUMNS => {
            crossed(out, down, right, &one.name, &|cell| value(one.values[cell], one.errors.as_ref().map(|e| e[cell])));
        }
        (columns, _) => {
            let metrics = Side::named("", columns.iter().map(|c| crate::side::shown(&c.name)).collect());
            crossed(out, &sides, &metrics, "", &|cell| {
                let (row, c) = (cell / columns.len().max(1), &columns[cell % columns.len().max(1)]);
                value(c.values[row], c.errors.as_ref().map(|e| e[row]))
            });
        }
    }
    out.push_str(if fold { "</details>\n" } else { "" });
}

fn value(x: f64, spread: Option<f64>) -> String {
    match spread {
        _ if x.is_nan() => "–".into(),
        Some(e) if e > 0.0 => format!("{} <small>± {}</small>", number(x).replace('-', "−"), error(e)),
        _ => number(x).replace('-', "−"),
    }
}

/// Rows for all combinations of some axes, and a column for each entry of another.
fn crossed(out: &mut String, down: &[Side], right: &Side, metric: &str, cell: &dyn Fn(usize) -> String) {
    out.push_str("<div class=\"wide\"><table>\n<thead>\n");
    if !right.name.is_empty() {
        let title = if metric.is_empty() { String::new() } else { format!("{} by ", escape(metric)) };
        let (span, n) = (down.len(), right.len());
        let _ = writeln!(
            out,
            "<tr><td colspan=\"{span}\"></td><th colspan=\"{n}\">{title}{}</th></tr>",
            escape(&right.name)
        );
    }
    out.push_str("<tr>");
    for side in down {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(&side.name));
    }
    for label in &right.labels {
        let label = if right.numeric { label.replace('-', "−") } else { label.clone() };
        let _ = write!(out, "<th scope=\"col\" class=\"n\">{}</th>", escape(&label));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    let rows: usize = down.iter().map(Side::len).product();
    for row in 0..rows.min(ROWS) {
        out.push_str("<tr>");
        let mut rest = rows;
        for side in down {
            rest /= side.len().max(1);
            let label = &side.labels[row / rest.max(1) % side.len().max(1)];
            let _ = write!(out, "<th scope=\"row\">{}</th>", escape(label));
        }
        for column in 0..right.len() {
            let _ = write!(out, "<td class=\"n\">{}</td>", cell(row * right.len() + column));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    left_out(out, rows, ROWS, "rows");
}
