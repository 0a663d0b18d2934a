//! Lines and points over two axes.

use super::axes::{Below, Heights, minus, name_below, name_beside};
use super::canvas::{Anchor, Canvas, MEDIUM, Paint, widest};
use super::{arranged, cut, font, hover, legend};
use crate::color;
use crate::figure::{Group, Panel, note};
use crate::plot::Kind;
use crate::scale::{Scale, tick_texts};

/// How many places to the right have lines through them.
const COLUMNS: usize = 4000;

/// Beyond so many points of a line they have no signs, and errors are a band.
const SIGNS: usize = 40;

/// Beyond so many points of a drawing they do not say what they are.
const HINTS: usize = 4000;

/// Where a plot is on the drawing.
#[derive(Clone, Copy)]
struct Area {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

/// The marks of what goes to the right.
struct Across {
    labels: Vec<String>,
    /// From the left edge of a plot.
    places: Vec<f64>,
    numeric: bool,
    /// Where each column's points are.
    columns: Vec<f64>,
}

pub(super) fn draw(group: &Group, kind: Kind, notes: &mut Vec<String>) -> Canvas {
    let group = &if kind == Kind::Line { cut(group, COLUMNS, notes) } else { group.clone() };
    let beside = arranged(group.panels.len(), 3);
    let (w, h) = match beside {
        1 => (560.0, 320.0),
        2 => (400.0, 240.0),
        _ => (270.0, 170.0),
    };
    let heights = Heights::of(&group.scale, h);
    let across = Across::of(group, w);
    let gap = across.places.windows(2).map(|p| p[1] - p[0]).fold(w, f64::min);
    let below = Below::of(&across.labels, gap, across.numeric);
    let left = (heights.width + MEDIUM + 10.0).max(below.overhang(&across.labels, &across.places));
    let titled = group.panels.iter().any(|p| !p.title.is_empty());
    let top = if titled { MEDIUM + 12.0 } else { 6.0 };
    let (gap_x, gap_y) = (20.0, 16.0);
    let mut canvas = Canvas::default();
    for (i, panel) in group.panels.iter().enumerate() {
        let area = Area {
            x: left + (i % beside) as f64 * (w + gap_x),
            y: top + (i / beside) as f64 * (h + top + gap_y),
            w,
            h,
        };
        if !panel.title.is_empty() {
            let title = font::clip(&panel.title, MEDIUM, w);
            canvas.text(area.x, area.y - 7.0, &title, MEDIUM, Anchor::Start, Paint::Ink);
        }
        heights.draw(&mut canvas, &group.scale, (area.x, area.y), (w, h), i % beside == 0);
        canvas.line(vec![(area.x, area.y + h), (area.x + w, area.y + h)], Paint::Rule, 1.0);
        if i % beside == 0 {
            let at = area.x - heights.width - MEDIUM - 8.0;
            name_beside(&mut canvas, &group.metric, at, area.y + h / 2.0, h);
        }
        if i + beside >= group.panels.len() {
            below.draw(&mut canvas, &across.labels, &across.places, area.x, area.y + h + 2.0);
            name_below(&mut canvas, &group.x.name, area.x + w / 2.0, area.y + h + 2.0 + below.height, w);
        }
        match kind {
            Kind::Scatter => points(&mut canvas, group, panel, area),
            _ => lines(&mut canvas, group, panel, area, &across.columns),
        }
    }
    if group.panels.is_empty() {
        note(notes, format!("There is nothing to show of {}.", group.metric));
    }
    let count = group.panels.len().max(1);
    let columns = beside.min(count) as f64;
    let right = left + columns * w + (columns - 1.0) * gap_x;
    let key = legend::series(group, true);
    canvas.width = right + if key.width > 0.0 { 22.0 + key.width } else { widest(&across.labels, 5.0).min(20.0) };
    let rows = count.div_ceil(beside) as f64;
    canvas.height = (rows * (h + top) + (rows - 1.0) * gap_y + 2.0 + below.height + MEDIUM + 10.0).max(key.height);
    canvas.place(right + 22.0, top, key);
    canvas
}

impl Across {
    fn of(group: &Group, w: f64) -> Across {
        let scaled = |scale: &Scale| {
            let ticks = scale.ticks((w / 70.0) as usize);
            let places = ticks.iter().map(|t| w * scale.along(*t)).collect();
            (minus(&tick_texts(&ticks)), places)
        };
        if let Some(across) = &group.across {
            let (labels, places) = scaled(across);
            return Across { labels, places, numeric: true, columns: Vec::new() };
        }
        let inset = 10.0;
        if let Some(numbers) = group.x.scale() {
            let range = Scale { lo: numbers[0], hi: numbers[numbers.len() - 1], diverging: false };
            let place = |v: f64| inset + (w - 2.0 * inset) * range.along(v);
            let columns: Vec<f64> = numbers.iter().map(|v| place(*v)).collect();
            let gap = columns.windows(2).map(|p| p[1] - p[0]).fold(w, f64::min);
            if widest(&group.x.labels, super::canvas::SMALL) + 6.0 <= gap {
                let (labels, places) = (minus(&group.x.labels), columns.clone());
                return Across { labels, places, numeric: true, columns };
            }
            let ticks = range.ticks((w / 70.0) as usize);
            let places = ticks.iter().map(|t| place(*t)).collect();
            return Across { labels: minus(&tick_texts(&ticks)), places, numeric: true, columns };
        }
        let n = group.x.len().max(1) as f64;
        let columns: Vec<f64> = (0..group.x.len()).map(|i| w * (i as f64 + 0.5) / n).collect();
        let labels = group.x.labels.clone();
        Across { labels, places: columns.clone(), numeric: group.x.numeric, columns }
    }
}

/// The part of a line between two heights, where there is one.
fn within(a: (f64, f64), b: (f64, f64), top: f64, bottom: f64) -> Option<((f64, f64), (f64, f64))> {
    let (low, high) = (a.1.min(b.1), a.1.max(b.1));
    if high < top || low > bottom {
        return None;
    }
    let at = |p: (f64, f64)| {
        let y = p.1.clamp(top, bottom);
        let share = if a.1 == b.1 { 0.0 } else { (y - a.1) / (b.1 - a.1) };
        (if y == p.1 { p.0 } else { a.0 + (b.0 - a.0) * share }, y)
    };
    Some((at(a), at(b)))
}

fn lines(canvas: &mut Canvas, group: &Group, panel: &Panel, area: Area, columns: &[f64]) {
    let count = group.rows.len();
    let (top, bottom) = (area.y, area.y + area.h);
    let up = |v: f64| bottom - area.h * group.scale.along(v).clamp(-1e3, 1e3);
    let signs = columns.len() <= SIGNS;
    let hints = columns.len() * count <= HINTS;
    let names = hover(group, panel);
    for row in 0..count {
        let ink = Paint::Data(color::series(row, count));
        let points: Vec<Option<(f64, f64)>> = (0..columns.len())
            .map(|i| {
                let value = panel.grid.value(row, i);
                (!value.is_nan()).then(|| (area.x + columns[i], up(value)))
            })
            .collect();
        if !signs {
            band(canvas, panel, row, &points, (top, bottom), &up, ink);
        }
        for part in segments(&points, top, bottom) {
            canvas.line(part, ink, 1.8);
        }
        for (i, point) in points.iter().enumerate() {
            let Some((x, y)) = point.filter(|p| (top..=bottom).contains(&p.1)) else { continue };
            if let (Some(e), true) = (panel.grid.error(row, i), signs) {
                let value = panel.grid.value(row, i);
                whisker(canvas, x, (up(value - e).clamp(top, bottom), up(value + e).clamp(top, bottom)), ink);
            }
            if hints || signs {
                let mark = canvas.push(legend::sign(row, x, y, if signs { 3.0 } else { 4.0 }), Some(ink), None);
                mark.opacity = if signs { 1.0 } else { 0.0 };
                mark.hint = hints.then(|| names.text(row * columns.len() + i));
            }
        }
    }
}

/// Points in a row as lines, apart where a value is missing or out of the plot.
fn segments(points: &[Option<(f64, f64)>], top: f64, bottom: f64) -> Vec<Vec<(f64, f64)>> {
    let mut out: Vec<Vec<(f64, f64)>> = Vec::new();
    for pair in points.windows(2) {
        let [Some(a), Some(b)] = pair else { continue };
        let Some((a, b)) = within(*a, *b, top, bottom) else { continue };
        match out.last_mut() {
            Some(part) if part.last() == Some(&a) => part.push(b),
            _ => out.push(vec![a, b]),
        }
    }
    out
}

/// Errors of many points: an area around the line.
fn band(
    canvas: &mut Canvas,
    panel: &Panel,
    row: usize,
    points: &[Option<(f64, f64)>],
    (top, bottom): (f64, f64),
    up: &dyn Fn(f64) -> f64,
    ink: Paint,
) {
    let (mut above, mut below) = (Vec::new(), Vec::new());
    for (i, point) in points.iter().enumerate() {
        if let (Some((x, _)), Some(e)) = (point, panel.grid.error(row, i)) {
            let value = panel.grid.value(row, i);
            above.push((*x, up(value + e).clamp(top, bottom)));
            below.push((*x, up(value - e).clamp(top, bottom)));
        }
    }
    if above.len() > 1 {
        above.extend(below.into_iter().rev());
        canvas.push(super::canvas::Shape::Path(above), Some(ink), None).opacity = 0.18;
    }
}

/// The error of one value.
pub(super) fn whisker(canvas: &mut Canvas, x: f64, (low, high): (f64, f64), ink: Paint) {
    canvas.line(vec![(x, low), (x, high)], ink, 1.1);
    for y in [low, high] {
        canvas.line(vec![(x - 3.0, y), (x + 3.0, y)], ink, 1.1);
    }
}

fn points(canvas: &mut Canvas, group: &Group, panel: &Panel, area: Area) {
    let (Some((right, errors)), Some(across)) = (&panel.grid.across, &group.across) else { return };
    let count = group.rows.len();
    let many = right.len() > 400;
    let bottom = area.y + area.h;
    let place = |x: f64, y: f64| {
        let (x, y) = (area.x + area.w * across.along(x), bottom - area.h * group.scale.along(y));
        let inside = (area.x..=area.x + area.w).contains(&x) && (area.y..=bottom).contains(&y);
        inside.then_some((x, y))
    };
    for (i, (a, b)) in right.iter().zip(&panel.grid.values).enumerate() {
        let Some((x, y)) = place(*a, *b) else { continue };
        let (row, column) = (i / panel.grid.columns.max(1), i % panel.grid.columns.max(1));
        let ink = Paint::Data(color::series(row, count));
        if let (Some(e), false) = (panel.grid.error(row, column), many) {
            let ends = [b - e, b + e].map(|v| (bottom - area.h * group.scale.along(v)).clamp(area.y, bottom));
            canvas.line(vec![(x, ends[0]), (x, ends[1])], ink, 0.9).opacity = 0.6;
        }
        let sideways = errors.as_ref().map(|e| e[i]).filter(|e| e.is_finite() && *e > 0.0);
        if let (Some(e), false) = (sideways, many) {
            let ends = [a - e, a + e].map(|v| (area.x + area.w * across.along(v)).clamp(area.x, area.x + area.w));
            canvas.line(vec![(ends[0], y), (ends[1], y)], ink, 0.9).opacity = 0.6;
        }
        let mark = canvas.push(legend::sign(row, x, y, if many { 2.2 } else { 3.4 }), Some(ink), None);
        mark.opacity = if many { 0.55 } else { 0.8 };
        if right.len() <= HINTS {
            let names = [group.rows.entry(row), group.x.labels.get(column).cloned().unwrap_or_default()];
            let named = if group.rows.name.is_empty() { &names[1..] } else { &names[..] };
            let named: Vec<&str> = named.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
            let number = crate::text::number;
            let (x, y) = (&group.x.name, &group.metric);
            mark.hint = Some(format!("{}\n{x} {}, {y} {}", named.join(", "), number(*a), number(*b)));
        }
    }
}
