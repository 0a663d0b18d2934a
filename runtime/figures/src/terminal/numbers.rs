//! Tables of numbers, where there are no colours.

use super::Terminal;
use crate::figure::{Group, note};
use crate::side::{clip, clip_all};
use crate::text::{Align, Table, error, number, width};

/// No more numbers than a person can look through; of more, neighbours are one.
const ROWS: usize = 200;
const COLUMNS: usize = 100;

/// The widest heading of a column.
const LABEL: usize = 14;

pub(super) fn draw(out: &mut String, group: &Group, view: &Terminal, notes: &mut Vec<String>) {
    let (group, text) = group.fitted(ROWS, COLUMNS);
    if let Some(text) = text {
        note(notes, text);
    }
    let group = group.as_ref();
    if !group.rows.name.is_empty() {
        out.push_str(&format!("{}\n", clip(&group.metric, view.columns)));
    }
    for (i, panel) in group.panels.iter().enumerate() {
        if !panel.title.is_empty() {
            out.push_str(&format!("{}{}\n", if i > 0 { "\n" } else { "" }, clip(&panel.title, view.columns)));
        }
        let cell = |row: usize, column: usize| match (panel.grid.value(row, column), panel.grid.error(row, column)) {
            (v, _) if v.is_nan() => "-".to_string(),
            (v, Some(e)) => format!("{} ±{}", number(v), error(e)),
            (v, None) => number(v),
        };
        let corner = match (group.rows.name.as_str(), group.x.name.as_str()) {
            ("", x) => x.to_string(),
            (rows, "") => rows.to_string(),
            (rows, x) => format!("{rows} \\ {x}"),
        };
        let corner = if group.rows.name.is_empty() { group.metric.clone() } else { corner };
        let names = clip_all(&group.rows.labels, 24);
        let heads = clip_all(&group.x.labels, LABEL);
        let names = if group.rows.name.is_empty() { vec![group.x.name.clone()] } else { names };
        let first = names.iter().map(|n| width::of(n)).max().unwrap_or(0).max(width::of(&corner)) + 2;
        let mut from = 0;
        while from < group.x.len() {
            let mut used = first;
            let mut to = from;
            while to < group.x.len() {
                let cells = (0..panel.grid.rows()).map(|row| width::of(&cell(row, to))).max().unwrap_or(0);
                used += cells.max(width::of(&heads[to])) + 2;
                if used > view.columns + 2 && to > from {
                    break;
                }
                to += 1;
            }
            let mut columns = vec![(corner.as_str(), Align::Left)];
            columns.extend(heads[from..to].iter().map(|h| (h.as_str(), Align::Right)));
            let mut table = Table::new(&columns);
            for (row, name) in names.iter().enumerate() {
                table.row(std::iter::once(name.clone()).chain((from..to).map(|c| cell(row, c))));
            }
            if from > 0 {
                out.push('\n');
            }
            out.push_str(&table.render());
            from = to;
        }
    }
}
