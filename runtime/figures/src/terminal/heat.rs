//! Heat maps as coloured cells, with numbers in them where they fit.

use super::labels::place;
use super::{Terminal, line};
use crate::color::{ABSENT, Color};
use crate::figure::{Grid, Group, note};
use crate::scale::{Digits, Scale, short};
use crate::side::clip;
use crate::text::width;

/// Beyond so many rows two of them share a line; beyond twice as many lines neighbours are one.
const ROWS: usize = 48;
const LINES: usize = 64;

/// The widest label of a row.
const LABEL: usize = 18;

pub(super) fn draw(out: &mut String, group: &Group, view: &Terminal, notes: &mut Vec<String>) {
    let labels = group.rows.labels.iter().map(|l| width::of(l)).max().unwrap_or(0).min(LABEL);
    let left = if group.rows.name.is_empty() { 0 } else { labels.max(width::of(&group.rows.name).min(LABEL)) + 1 };
    let room = view.columns - left;
    let (group, text) = group.fitted(2 * LINES, room);
    if let Some(text) = text {
        note(notes, text);
    }
    let group = group.as_ref();
    let half = group.rows.len() > ROWS;
    let values = group.values();
    let digits = Digits::of(&values);
    let longest = values.iter().map(|v| width::of(&digits.text(*v))).max().unwrap_or(1);
    let count = group.x.len().max(1);
    let numbered = !half && (longest + 1) * count <= room && group.x.each == 1;
    let label = group.x.labels.iter().map(|l| width::of(l)).max().unwrap_or(1);
    let cell = match numbered {
        true => (label + 1).clamp(longest + 1, longest + 4).min(room / count),
        false => (room / count).clamp(1, 6),
    };
    for panel in &group.panels {
        if !panel.title.is_empty() {
            line(out, &clip(&panel.title, view.columns));
        }
        let halves: Vec<usize> = (0..group.x.len()).map(|i| cell * (2 * i + 1) - 1).collect();
        if !group.x.name.is_empty() {
            line(out, &format!("{}{}", " ".repeat(left), view.color.faint(&clip(&group.x.name, room))));
        }
        let heads = place(&group.x.labels, &halves, room, group.x.scale().is_some());
        for (i, head) in heads.iter().enumerate() {
            // The name of what goes down stands above its labels.
            let name = if i + 1 == heads.len() { clip(&group.rows.name, LABEL) } else { String::new() };
            let pad = left.saturating_sub(width::of(&name));
            line(out, &format!("{}{}{head}", view.color.faint(&name), " ".repeat(pad)));
        }
        let step = if half { 2 } else { 1 };
        for row in (0..group.rows.len()).step_by(step) {
            let name = clip(&group.rows.labels[row], LABEL);
            let pad = " ".repeat(left.saturating_sub(width::of(&name) + 1));
            if left > 0 {
                out.push_str(&format!("{pad}{name} "));
            }
            match half {
                true => two_rows(out, &panel.grid, row, cell, &group.scale, view.color),
                false => one_row(out, &panel.grid, row, cell, numbered.then_some(digits), &group.scale, view.color),
            }
            out.push('\n');
        }
    }
    bar(out, group, left, view);
}

fn one_row(
    out: &mut String,
    grid: &Grid,
    row: usize,
    cell: usize,
    digits: Option<Digits>,
    scale: &Scale,
    color: Color,
) {
    for column in 0..grid.columns {
        let value = grid.value(row, column);
        let ground = scale.color(value);
        let text = digits.map_or(String::new(), |d| d.text(value));
        // Numbers end one column before the cell does, where that leaves room for them.
        let after = usize::from(digits.is_some() && cell > width::of(&text) + 1);
        let before = cell.saturating_sub(width::of(&text) + after);
        let text = format!("{}{text}{}", " ".repeat(before), " ".repeat(after));
        out.push_str(&color.paint(&text, digits.map(|_| ground.ink()), Some(ground)));
    }
}

/// The upper half of a character is one row, the ground behind it the next.
fn two_rows(out: &mut String, grid: &Grid, row: usize, cell: usize, scale: &Scale, color: Color) {
    for column in 0..grid.columns {
        let ground = (row + 1 < grid.rows()).then(|| scale.color(grid.value(row + 1, column)));
        out.push_str(&color.paint(&"▀".repeat(cell), Some(scale.color(grid.value(row, column))), ground));
    }
}

/// What the colours mean.
fn bar(out: &mut String, group: &Group, left: usize, view: &Terminal) {
    let scale = &group.scale;
    let (lo, hi) = (short(scale.lo), short(scale.hi));
    let room = view.columns.saturating_sub(left + width::of(&lo) + width::of(&hi) + 2);
    let cells = room.clamp(2, 24);
    out.push_str(&format!("{}{lo} ", " ".repeat(left)));
    for i in 0..cells {
        let value = scale.lo + (scale.hi - scale.lo) * (i as f64 + 0.5) / cells as f64;
        out.push_str(&view.color.paint(" ", None, Some(scale.color(value))));
    }
    out.push_str(&format!(" {hi}"));
    let room = room.saturating_sub(cells + 2);
    let metric = clip(&group.metric, room);
    if !metric.is_empty() {
        out.push_str(&format!("  {}", view.color.strong(&metric)));
    }
    let missing = group.panels.iter().any(|p| p.grid.values.iter().any(|v| v.is_nan()));
    if missing && room >= width::of(&metric) + 18 {
        let absent = view.color.paint("  ", None, Some(ABSENT));
        out.push_str(&format!("   {absent} {}", view.color.faint("not computed")));
    }
    out.push('\n');
}
