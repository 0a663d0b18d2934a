//! Lines and points over two axes.

use super::braille::Dots;
use super::labels::place;
use super::{Terminal, line};
use crate::color;
use crate::figure::{Group, Panel};
use crate::plot::Kind;
use crate::scale::{Scale, tick_texts};
use crate::side::clip;
use crate::text::width;

/// How many lines of text a chart is high.
const LINES: usize = 16;

/// Beyond so many points they are dots, not signs.
const SIGNS: usize = 240;

/// The signs of series; they tell them apart without colours.
const SIGN: [char; 8] = ['●', '▲', '■', '◆', '○', '△', '□', '◇'];

pub(super) fn draw(out: &mut String, group: &Group, kind: Kind, view: &Terminal) {
    let ticks = group.scale.ticks(4);
    let texts = tick_texts(&ticks);
    let left = texts.iter().map(|t| width::of(t)).max().unwrap_or(0) + 1;
    let columns = view.columns.saturating_sub(left + 2).clamp(10, 120);
    for panel in &group.panels {
        let heads: Vec<&str> =
            [panel.title.as_str(), group.metric.as_str()].into_iter().filter(|t| !t.is_empty()).collect();
        line(out, &clip(&heads.join(": "), view.columns));
        let mut dots = Dots::new(columns, LINES);
        match kind {
            Kind::Scatter => scatter(&mut dots, group, panel),
            _ => lines(&mut dots, group, panel),
        }
        for row in 0..dots.lines {
            let here = |t: &f64| dots.at(0.0, group.scale.along(*t)).is_some_and(|(_, y)| y / 4 == row as i64);
            let tick = ticks.iter().position(here);
            let text = tick.map_or("", |t| texts[t].as_str());
            let pad = " ".repeat(left.saturating_sub(width::of(text) + 1));
            let mark = if tick.is_some() { "┤" } else { "│" };
            let rule = view.color.faint(mark);
            line(out, &format!("{pad}{text} {rule}{}", dots.render(row, view.color)));
        }
        line(out, &format!("{}{}", " ".repeat(left), view.color.faint(&format!("└{}", "─".repeat(columns)))));
        for text in below(group, columns) {
            line(out, &format!("{}{text}", " ".repeat(left + 1)));
        }
        let name = clip(&group.x.name, columns);
        let middle = (columns.saturating_sub(width::of(&name))) / 2;
        line(out, &format!("{}{}", " ".repeat(left + 1 + middle), view.color.faint(&name)));
    }
    legend(out, group, left, view);
}

/// How far to the right an entry stands.
fn share(group: &Group, i: usize) -> f64 {
    match group.x.scale() {
        Some(n) => (n[i] - n[0]) / (n[n.len() - 1] - n[0]),
        None => (i as f64 + 0.5) / group.x.len().max(1) as f64,
    }
}

fn lines(dots: &mut Dots, group: &Group, panel: &Panel) {
    let count = group.rows.len();
    // Signs where they leave room for the line between them.
    let signs = group.x.len() * 3 <= dots.columns;
    for row in 0..count {
        let ink = color::series(row, count);
        let mut last: Option<(i64, i64)> = None;
        let mut places = Vec::new();
        for column in 0..group.x.len() {
            let value = panel.grid.value(row, column);
            let here = dots.at(share(group, column), group.scale.along(value));
            if let (Some(from), Some(to)) = (last, here) {
                dots.line(from, to, ink);
            }
            if let (Some(e), Some((x, _))) = (panel.grid.error(row, column), here) {
                let ends = [value - e, value + e].map(|v| dots.at(0.0, group.scale.along(v)).map(|p| p.1));
                if let [Some(low), Some(high)] = ends {
                    dots.line((x, low), (x, high), ink);
                }
            }
            places.extend(here);
            last = here;
        }
        let alone = places.len() == 1;
        for (x, y) in places.iter().filter(|_| signs || alone).chain(places.last().filter(|_| !signs)) {
            dots.sign(*x, *y, SIGN[row % SIGN.len()], ink);
        }
    }
}

fn scatter(dots: &mut Dots, group: &Group, panel: &Panel) {
    let (Some((right, _)), Some(across)) = (&panel.grid.across, &group.across) else { return };
    let count = group.rows.len();
    for (i, (x, y)) in right.iter().zip(&panel.grid.values).enumerate() {
        let row = i / panel.grid.columns.max(1);
        let ink = color::series(row, count);
        let Some((x, y)) = dots.at(across.along(*x), group.scale.along(*y)) else { continue };
        match right.len() <= SIGNS {
            true => dots.sign(x, y, SIGN[row % SIGN.len()], ink),
            false => dots.dot(x, y, ink),
        }
    }
}

/// The labels of what goes to the right.
fn below(group: &Group, columns: usize) -> Vec<String> {
    let half = |share: f64| (share * (2 * columns - 1) as f64).round().max(0.0) as usize;
    let scaled = |scale: &Scale| {
        let ticks = scale.ticks(columns / 10);
        let halves: Vec<usize> = ticks.iter().map(|t| half(scale.along(*t))).collect();
        place(&tick_texts(&ticks), &halves, columns, true)
    };
    if let Some(across) = &group.across {
        return scaled(across);
    }
    if let Some(n) = group.x.scale() {
        let halves: Vec<usize> = (0..n.len()).map(|i| half(share(group, i))).collect();
        let own = place(&group.x.labels, &halves, columns, false);
        return match own.len() {
            1 => own,
            _ => scaled(&Scale { lo: n[0], hi: n[n.len() - 1], diverging: false }),
        };
    }
    let halves: Vec<usize> = (0..group.x.len()).map(|i| half(share(group, i))).collect();
    place(&group.x.labels, &halves, columns, false)
}

fn legend(out: &mut String, group: &Group, left: usize, view: &Terminal) {
    const ENTRIES: usize = 16;
    let count = group.rows.len();
    if count < 2 {
        return;
    }
    let mut text = format!("{}{}", " ".repeat(left + 1), view.color.faint(&clip(&group.rows.name, 24)));
    let mut used = left + 1 + width::of(&clip(&group.rows.name, 24));
    for row in 0..count.min(ENTRIES) {
        let label = clip(&group.rows.labels[row], 24);
        let w = width::of(&label) + 4;
        if used + w > view.columns {
            line(out, &text);
            text = " ".repeat(left + 1);
            used = left + 1;
        }
        let sign = SIGN[row % SIGN.len()].to_string();
        text.push_str(&format!("  {} {label}", view.color.paint(&sign, Some(color::series(row, count)), None)));
        used += w;
    }
    if count > ENTRIES {
        text.push_str(&format!("  and {} more", count - ENTRIES));
    }
    line(out, &text);
}
