//! The largest entries of a metric over the rows of runs.

use super::measure::{Reading, positions};
use super::session::one;
use super::statements::broken;
use super::table::{Given, Numbers};
use std::cmp::Ordering;
use steer_compiler::elaborate::{Cell, Read, TableAxis, TableSpec};
use steer_figures::{Frame, FrameAxis, FrameColumn};
use steer_lang::{Diagnostics, Span};

/// Tokens shown before and after the one that an entry is of.
const AROUND: (usize, usize) = (6, 2);

impl Given<'_> {
    /// The largest entries of the metric on one run: their values, positions, and places in the metric's own axes.
    pub fn top(&self, cell: &Cell, count: usize, span: Span) -> Result<Numbers, Diagnostics> {
        let mut found: Vec<[f64; 3]> = Vec::new();
        for read in &cell.reads {
            let Some(run) = (self.run)(&read.run) else {
                return Err(one(broken("a run that is ranked was not run")));
            };
            let reading =
                Reading { values: self.values, sources: self.sources, run, spec: &read.run, others: self.run };
            for m in read.metrics.iter() {
                for p in positions(&m.at.rows(&read.run.sequence())) {
                    let values = reading.all_at(&m.value, p).map_err(|e| vec![e.0.at(span, "ranked here")])?;
                    let entries = values.into_iter().enumerate().filter(|(_, v)| !v.is_nan());
                    found.extend(entries.map(|(e, v)| [v, p as f64, e as f64]));
                    if found.len() > 4 * count {
                        keep(&mut found, count);
                    }
                }
            }
        }
        keep(&mut found, count);
        let column = |i: usize| found.iter().map(|f| f[i]).collect();
        Ok(Numbers { means: vec![column(0), column(1), column(2)], errors: vec![None, None, None] })
    }
}

/// The largest first; of equal ones the earlier.
fn order(a: &[f64; 3], b: &[f64; 3]) -> Ordering {
    b[0].total_cmp(&a[0]).then(a[1].total_cmp(&b[1])).then(a[2].total_cmp(&b[2]))
}

fn keep(found: &mut Vec<[f64; 3]>, count: usize) {
    found.sort_by(order);
    found.truncate(count);
}

/// The table of a `top`: the entries of all runs, each with its text around the token.
pub fn frame(spec: &TableSpec, cells: &[Option<Numbers>]) -> Frame {
    let count = spec.axes[0].labels.len();
    let mut found: Vec<(usize, [f64; 3])> = Vec::new();
    for (run, numbers) in cells.iter().enumerate() {
        if let Some([values, positions, entries]) = numbers.as_ref().map(|n| &n.means[..]) {
            let entries = values.iter().zip(positions).zip(entries);
            found.extend(entries.map(|((v, p), e)| (run, [*v, *p, *e])));
        }
    }
    if cells.iter().all(Option::is_none) {
        // Nothing is known yet but how many there may be.
        found.resize(count, (0, [f64::NAN, f64::NAN, 0.0]));
    }
    found.sort_by(|a, b| b.1[0].total_cmp(&a.1[0]).then(a.0.cmp(&b.0)).then(order(&a.1, &b.1)));
    found.truncate(count);
    let read = |run: usize| spec.cells[run].reads.first();
    let label = |(run, [_, p, e]): &(usize, [f64; 3])| {
        let Some(read) = read(*run).filter(|_| !p.is_nan()) else { return String::new() };
        let of_run = if spec.cells.len() > 1 { format!("{}: ", read.run.label) } else { String::new() };
        format!("{}{of_run}{}", own(&spec.own, *e as usize), context(read, *p as usize))
    };
    let columns = spec.columns.iter().map(|name| (name.clone(), 0)).chain([("position".to_owned(), 1)]);
    let column =
        |(name, i): (String, usize)| FrameColumn { name, values: found.iter().map(|f| f.1[i]).collect(), errors: None };
    let example = FrameColumn { name: "run".into(), values: found.iter().map(|f| f.0 as f64).collect(), errors: None };
    let example = (spec.cells.len() > 1).then_some(example);
    Frame {
        name: spec.name.clone().unwrap_or_default(),
        axes: vec![FrameAxis::new("row", found.iter().map(label))],
        columns: columns.map(column).chain(example).collect(),
    }
}

/// The entry of the metric's own axes, such as `neuron 5 of `.
fn own(axes: &[TableAxis], entry: usize) -> String {
    let mut rest = entry;
    let mut parts: Vec<String> = Vec::new();
    for a in axes.iter().rev() {
        let n = a.labels.len().max(1);
        let (entry, label) = (rest % n, a.labels.get(rest % n).map_or("", String::as_str));
        // A token says by itself what it is.
        parts.push(if label == entry.to_string() { format!("{} {label}", a.name) } else { format!("{label:?}") });
        rest /= n;
    }
    parts.reverse();
    if parts.is_empty() { String::new() } else { format!("{} of ", parts.join(", ")) }
}

/// The text around a token, which stands in marks.
fn context(read: &Read, position: usize) -> String {
    let ranges = &read.run.encoded.ranges;
    let Some(&(start, end)) = ranges.get(position) else { return String::new() };
    let from = ranges[position.saturating_sub(AROUND.0)].0;
    let to = ranges[(position + AROUND.1).min(ranges.len() - 1)].1.max(end);
    let text = |a: usize, b: usize| read.run.text.get(a..b.max(a)).unwrap_or("").replace('\n', "\u{23ce}");
    let more = |shown: bool| if shown { "" } else { "\u{2026}" };
    format!(
        "{}{}\u{ab}{}\u{bb}{}{}",
        more(from == 0),
        text(from.min(start), start),
        text(start, end),
        text(end, to),
        more(to >= read.run.text.len())
    )
}
