//! Heat maps.

use super::axes::{Below, Beside, name_below, name_beside};
use super::canvas::{Anchor, Canvas, MEDIUM, Paint, Shape, Tiles};
use super::{arranged, font, hover, legend};
use crate::figure::{Group, Panel, note};
use crate::scale::Digits;

/// No more cells than a screen shows; of more, neighbours are one.
const ROWS: usize = 240;
const COLUMNS: usize = 400;

/// The size of numbers in cells.
const NUMBER: f64 = 9.5;

pub(super) fn draw(group: &Group, notes: &mut Vec<String>) -> Canvas {
    let beside = arranged(group.panels.len(), 3);
    let (group, text) = group.fitted(ROWS, COLUMNS / if beside > 1 { 2 } else { 1 });
    if let Some(text) = text {
        note(notes, text);
    }
    let group = group.as_ref();
    let (columns, rows) = (group.x.len().max(1), group.rows.len().max(1));
    let (wide, high) = if beside > 1 { (900.0 / beside as f64, 300.0) } else { (720.0, 480.0) };
    let cell = (
        f64::floor(wide / columns as f64).clamp(1.0, 46.0),
        f64::floor(high / rows as f64).clamp(1.0, if rows == 1 { 30.0 } else { 24.0 }),
    );
    let (w, h) = (cell.0 * columns as f64, cell.1 * rows as f64);
    let places: Vec<f64> = (0..columns).map(|i| (i as f64 + 0.5) * cell.0).collect();
    let below = Below::of(&group.x.labels, cell.0, group.x.numeric);
    let side = Beside::of(&group.rows.labels, cell.1);
    let named = !group.rows.name.is_empty();
    let name = if named { MEDIUM + 8.0 } else { 0.0 };
    let left = (if named { side.width } else { 0.0 } + name).max(below.overhang(&group.x.labels, &places));
    let top = if group.panels.iter().any(|p| !p.title.is_empty()) { MEDIUM + 10.0 } else { 0.0 };
    let (gap_x, gap_y) = (18.0, 14.0);
    let mut canvas = Canvas::default();
    let digits = Digits::of(&group.values());
    let lines = group.panels.len().div_ceil(beside);
    for (i, panel) in group.panels.iter().enumerate() {
        let x = left + (i % beside) as f64 * (w + gap_x);
        let y = top + (i / beside) as f64 * (h + top + gap_y);
        if !panel.title.is_empty() {
            let title = font::clip(&panel.title, MEDIUM, w.max(80.0));
            canvas.text(x, y - 6.0, &title, MEDIUM, Anchor::Start, Paint::Ink);
        }
        cells(&mut canvas, group, panel, (x, y), cell, digits);
        if i % beside == 0 && named {
            side.draw(&mut canvas, &group.rows.labels, x, y);
            name_beside(&mut canvas, &group.rows.name, x - side.width - name + 2.0, y + h / 2.0, h);
        }
        if i + beside >= group.panels.len() {
            below.draw(&mut canvas, &group.x.labels, &places, x, y + h);
            name_below(&mut canvas, &group.x.name, x + w / 2.0, y + h + below.height, w);
        }
    }
    let across = beside.min(group.panels.len().max(1)) as f64;
    let right = left + across * w + (across - 1.0) * gap_x;
    let bottom = top + lines as f64 * (h + top + gap_y) - top - gap_y;
    let key = legend::colors(group, (bottom - top).clamp(70.0, 260.0));
    canvas.width = right + 22.0 + key.width;
    canvas.height = (bottom + below.height + if group.x.name.is_empty() { 0.0 } else { MEDIUM + 10.0 }).max(key.height);
    canvas.place(right + 22.0, top, key);
    canvas
}

fn cells(canvas: &mut Canvas, group: &Group, panel: &Panel, at: (f64, f64), cell: (f64, f64), digits: Digits) {
    let colors: Vec<_> = panel.grid.values.iter().map(|v| group.scale.color(*v)).collect();
    let texts: Vec<String> = match colors.len() <= 800 && cell.1 >= NUMBER + 4.0 && cell.0 > 20.0 {
        true => panel.grid.values.iter().map(|v| digits.text(*v).replace('-', "−")).collect(),
        false => Vec::new(),
    };
    let fits = texts.iter().all(|t| font::width(t, NUMBER) <= cell.0 - 5.0);
    let inks: Vec<_> = colors.iter().map(|c| c.ink()).collect();
    canvas.push(
        Shape::Tiles(Tiles {
            x: at.0,
            y: at.1,
            w: cell.0,
            h: cell.1,
            columns: panel.grid.columns,
            colors,
            hover: Some(hover(group, panel)),
        }),
        None,
        None,
    );
    for (i, text) in texts.iter().enumerate().filter(|_| fits) {
        let (row, column) = (i / panel.grid.columns, i % panel.grid.columns);
        let (x, y) = (at.0 + (column as f64 + 0.5) * cell.0, at.1 + (row as f64 + 0.5) * cell.1 + NUMBER * 0.36);
        canvas.text(x, y, text, NUMBER, Anchor::Middle, Paint::Data(inks[i]));
    }
}
