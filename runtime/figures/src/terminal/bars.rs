//! Bars to the right, a line each.

use super::{Terminal, line};
use crate::color;
use crate::figure::Group;
use crate::scale::Scale;
use crate::side::clip;
use crate::text::{error, number, width};

/// The widest label.
const LABEL: usize = 24;

/// How many bars a panel has at most.
const BARS: usize = 400;

pub(super) fn draw(out: &mut String, group: &Group, view: &Terminal) {
    let several = group.rows.len() > 1;
    let most = (view.columns / if several { 5 } else { 3 }).min(LABEL);
    let longest = |labels: &[String]| labels.iter().map(|l| width::of(l)).max().unwrap_or(0).min(most);
    let (outer, inner) = (longest(&group.x.labels), if several { longest(&group.rows.labels) + 2 } else { 0 });
    for panel in &group.panels {
        let heads: Vec<String> = [panel.title.as_str(), group.metric.as_str()]
            .iter()
            .filter(|t| !t.is_empty())
            .map(|t| t.to_string())
            .collect();
        line(out, &clip(&heads.join(": "), view.columns));
        let text = |row: usize, column: usize| match (panel.grid.value(row, column), panel.grid.error(row, column)) {
            (v, _) if v.is_nan() => "-".to_string(),
            (v, Some(e)) => format!("{} ±{}", number(v), error(e)),
            (v, None) => number(v),
        };
        let cells = || (0..group.x.len()).flat_map(|c| (0..group.rows.len()).map(move |r| (r, c))).take(BARS);
        let numbers = cells().map(|(r, c)| width::of(&text(r, c))).max().unwrap_or(0);
        let room = view.columns.saturating_sub(outer + inner + numbers + 4).clamp(4, 80);
        for (r, c) in cells() {
            let label = if r == 0 { clip(&group.x.labels[c], most) } else { String::new() };
            let mut head = format!("{label}{}", " ".repeat(outer.saturating_sub(width::of(&label))));
            if several {
                let name = clip(&group.rows.labels[r], most);
                head.push_str(&format!("  {name}{}", " ".repeat((inner - 2).saturating_sub(width::of(&name)))));
            }
            let ink = color::series(if several { r } else { 0 }, group.rows.len());
            let bar = bar(panel.grid.value(r, c), &group.scale, room);
            line(out, &format!("{head}  {}  {}", view.color.paint(&bar, Some(ink), None), text(r, c)));
        }
        if group.x.len() * group.rows.len() > BARS {
            line(out, &format!("The first {BARS} of {} bars are shown.", group.x.len() * group.rows.len()));
        }
    }
}

/// A bar from zero to a value, in eighths of a column to the right and in halves to the left.
fn bar(value: f64, scale: &Scale, room: usize) -> String {
    if value.is_nan() {
        return " ".repeat(room);
    }
    let at = |v: f64| scale.along(v.clamp(scale.lo, scale.hi)).clamp(0.0, 1.0) * room as f64;
    let zero = at(0.0).round() as usize;
    let end = at(value);
    let mut out = String::new();
    if end >= zero as f64 {
        let eighths = ((end - zero as f64) * 8.0).round() as usize;
        out.push_str(&" ".repeat(zero));
        if zero > 0 && scale.lo < 0.0 {
            out.pop();
            out.push('│');
        }
        out.push_str(&"█".repeat(eighths / 8));
        let part = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        out.extend((eighths % 8).checked_sub(1).map(|i| part[i]));
    } else {
        let halves = ((zero as f64 - end) * 2.0).round() as usize;
        let full = halves / 2;
        out.push_str(&" ".repeat(zero.saturating_sub(full + halves % 2)));
        out.extend((halves % 2 == 1).then_some('▐'));
        out.push_str(&"█".repeat(full));
    }
    let used = width::of(&out);
    out.push_str(&" ".repeat(room.saturating_sub(used)));
    out
}
