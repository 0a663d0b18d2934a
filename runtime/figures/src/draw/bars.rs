//! Bars that stand on zero.

use super::axes::{Below, Heights, name_below, name_beside};
use super::canvas::{Anchor, Canvas, MEDIUM, Paint};
use super::{arranged, chart, cut, font, hover, legend};
use crate::color;
use crate::figure::{Group, Panel};

/// How many bars a panel has at most.
const BARS: usize = 600;

pub(super) fn draw(group: &Group, notes: &mut Vec<String>) -> Canvas {
    let count = group.rows.len().max(1);
    let group = &cut(group, (BARS / count).max(1), notes);
    let beside = arranged(group.panels.len(), 2);
    let places = group.x.len().max(1) as f64;
    let h = if beside > 1 { 200.0 } else { 280.0 };
    // Bars of a width that is good to look at, within what a page takes.
    let most = 860.0 / beside as f64;
    let each = (most / places).min(count as f64 * 22.0 + 26.0).max(2.0);
    let w = each * places;
    let heights = Heights::of(&group.scale, h);
    let centers: Vec<f64> = (0..group.x.len()).map(|i| (i as f64 + 0.5) * each).collect();
    let below = Below::of(&group.x.labels, each, group.x.numeric);
    let left = (heights.width + MEDIUM + 10.0).max(below.overhang(&group.x.labels, &centers));
    let top = if group.panels.iter().any(|p| !p.title.is_empty()) { MEDIUM + 12.0 } else { 6.0 };
    let (gap_x, gap_y) = (20.0, 16.0);
    let mut canvas = Canvas::default();
    for (i, panel) in group.panels.iter().enumerate() {
        let x = left + (i % beside) as f64 * (w + gap_x);
        let y = top + (i / beside) as f64 * (h + top + gap_y);
        if !panel.title.is_empty() {
            let title = font::clip(&panel.title, MEDIUM, w.max(80.0));
            canvas.text(x, y - 7.0, &title, MEDIUM, Anchor::Start, Paint::Ink);
        }
        heights.draw(&mut canvas, &group.scale, (x, y), (w, h), i % beside == 0);
        if i % beside == 0 {
            name_beside(&mut canvas, &group.metric, x - heights.width - MEDIUM - 8.0, y + h / 2.0, h);
        }
        bars(&mut canvas, group, panel, (x, y, h), each);
        if i + beside >= group.panels.len() {
            below.draw(&mut canvas, &group.x.labels, &centers, x, y + h + 2.0);
            name_below(&mut canvas, &group.x.name, x + w / 2.0, y + h + 2.0 + below.height, w);
        }
    }
    let panels = group.panels.len().max(1);
    let columns = beside.min(panels) as f64;
    let right = left + columns * w + (columns - 1.0) * gap_x;
    let key = legend::series(group, false);
    canvas.width = right + if key.width > 0.0 { 22.0 + key.width } else { 8.0 };
    let rows = panels.div_ceil(beside) as f64;
    let name = if group.x.name.is_empty() { 0.0 } else { MEDIUM + 10.0 };
    canvas.height = (rows * (h + top) + (rows - 1.0) * gap_y + 2.0 + below.height + name).max(key.height);
    canvas.place(right + 22.0, top, key);
    canvas
}

fn bars(canvas: &mut Canvas, group: &Group, panel: &Panel, (x, y, h): (f64, f64, f64), each: f64) {
    let count = group.rows.len().max(1);
    let names = hover(group, panel);
    let air = (each * 0.24).min(18.0);
    let w = (each - air) / count as f64;
    let up = |v: f64| y + h * (1.0 - group.scale.along(v).clamp(0.0, 1.0));
    for column in 0..group.x.len() {
        for row in 0..count {
            let value = panel.grid.value(row, column);
            if value.is_nan() {
                continue;
            }
            let ink = Paint::Data(color::series(row, count));
            let (from, to) = (up(0.0), up(value));
            let left = x + column as f64 * each + air / 2.0 + row as f64 * w;
            let gap = if w > 6.0 { 1.0 } else { 0.0 };
            let bar = canvas.rect(left + gap / 2.0, from.min(to), (w - gap).max(0.5), (from - to).abs().max(0.6), ink);
            bar.hint = Some(names.text(row * group.x.len() + column));
            if let Some(e) = panel.grid.error(row, column) {
                chart::whisker(canvas, left + w / 2.0, (up(value - e), up(value + e)), Paint::Ink);
            }
        }
    }
}
