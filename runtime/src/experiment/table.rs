//! Tables: the numbers of `measure` and `sweep` from what the runs gave.

use super::measure::{Reading, Sources, positions};
use super::session::one;
use crate::report::{self, Align, Table};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use steer_compiler::elaborate::{Cell, Metric, Read, RunSpec, TableSpec};
use steer_figures::{Frame, FrameAxis, FrameColumn};
use steer_lang::{Diagnostics, Span};

/// The values that runs gave, by run, output and position.
pub type Values = HashMap<(usize, usize, usize), Arc<[f32]>>;

/// Where the numbers of tables come from.
pub struct Given<'a> {
    pub values: &'a Values,
    pub sources: &'a Sources,
    /// The place of a run among those of the phase.
    pub run: &'a dyn Fn(&RunSpec) -> Option<usize>,
}

/// One entry of a table: for each metric its average over the runs and their positions, and the standard
/// error of that over several runs. A metric with axes of its own has an average for each of its entries. Of a run of a
/// `top`: the largest values, their positions, and their places among the metric's own entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    pub means: Vec<Vec<f64>>,
    pub errors: Vec<Option<Vec<f64>>>,
}

impl Given<'_> {
    /// The numbers of one cell. `span` is the statement's.
    pub fn cell(&self, cell: &Cell, span: Span) -> Result<Numbers, Diagnostics> {
        let columns = cell.reads.first().map_or(0, |r| r.metrics.len());
        // By metric, by run: its entries.
        let mut all: Vec<Vec<Vec<f64>>> = vec![Vec::with_capacity(cell.reads.len()); columns];
        for (i, read) in cell.reads.iter().enumerate() {
            let values = self.read(read, span)?;
            let ends = match (cell.zero.get(i), cell.one.get(i)) {
                (Some(zero), Some(one)) => Some((self.read(zero, span)?, self.read(one, span)?)),
                _ => None,
            };
            for (c, (all, mut value)) in all.iter_mut().zip(values).enumerate() {
                if let Some((zero, one)) = &ends {
                    for ((v, z), o) in value.iter_mut().zip(&zero[c]).zip(&one[c]) {
                        *v = (*v - z) / (o - z);
                    }
                }
                all.push(value);
            }
        }
        let entry = |runs: &[Vec<f64>], e: usize| {
            runs.iter().map(|r| r.get(e).copied().unwrap_or(f64::NAN)).collect::<Vec<f64>>()
        };
        let each = |runs: &[Vec<f64>], f: fn(&[f64]) -> f64| {
            (0..runs.iter().map(Vec::len).max().unwrap_or(0)).map(|e| f(&entry(runs, e))).collect::<Vec<f64>>()
        };
        Ok(Numbers {
            means: all.iter().map(|runs| each(runs, mean)).collect(),
            errors: all.iter().map(|runs| (runs.len() > 1).then(|| each(runs, standard_error))).collect(),
        })
    }

    /// Each metric of a run, averaged over its positions.
    fn read(&self, read: &Read, span: Span) -> Result<Vec<Vec<f64>>, Diagnostics> {
        let Some(run) = (self.run)(&read.run) else {
            return Err(one(super::statements::broken("a run that is measured was not run")));
        };
        let reading = Reading { values: self.values, sources: self.sources, run, spec: &read.run, others: self.run };
        let metric = |m: &Metric| {
            let at = positions(&m.at.rows(&read.run.sequence()));
            let mut sum: Vec<f64> = Vec::new();
            for p in &at {
                let values = reading.all_at(&m.value, *p).map_err(|e| vec![e.0.at(span, "measured here")])?;
                sum.resize(values.len(), 0.0);
                sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
            }
            sum.iter_mut().for_each(|s| *s /= at.len() as f64);
            Ok(sum)
        };
        read.metrics.iter().map(metric).collect()
    }
}

/// A table with its numbers; cells that were not reached are NaN.
pub fn frame(spec: &TableSpec, cells: &[Option<Numbers>]) -> Frame {
    if spec.top { super::top::frame(spec, cells) } else { of_cells(spec, cells) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the mean: the sample's standard deviation over the root of its size.
fn standard_error(values: &[f64]) -> f64 {
    let mean = mean(values);
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0);
    (variance / values.len() as f64).sqrt()
}

fn of_cells(spec: &TableSpec, cells: &[Option<Numbers>]) -> Frame {
    let axes = spec.axes.iter().chain(&spec.own).map(|a| FrameAxis {
        name: a.name.clone(),
        labels: a.labels.clone(),
        numbers: a.numbers.clone(),
        first: a.first,
    });
    let entries: usize = spec.own.iter().map(|a| a.labels.len()).product();
    let missing = || vec![f64::NAN; entries];
    let column = |(c, name): (usize, &String)| {
        // A metric has no entries where a run has none of its positions.
        let whole = |v: Option<Vec<f64>>| v.filter(|v| v.len() == entries).unwrap_or_else(missing);
        let values = cells.iter().flat_map(|n| whole(n.as_ref().map(|n| n.means[c].clone()))).collect();
        let error = |n: &Option<Numbers>| whole(n.as_ref().and_then(|n| n.errors[c].clone()));
        let errors: Vec<f64> = cells.iter().flat_map(error).collect();
        let any = errors.iter().any(|e| e.is_finite());
        FrameColumn { name: name.clone(), values, errors: any.then_some(errors) }
    };
    Frame {
        name: spec.name.clone().unwrap_or_default(),
        axes: axes.collect(),
        columns: spec.columns.iter().enumerate().map(column).collect(),
    }
}

/// The table of a `measure`: a row a run. Metrics with axes of their own have a table each.
pub fn rows(frame: &Frame, columns: usize) -> String {
    if frame.axes.len() > 1
        && let Ok(text) = frame.text(columns)
    {
        return text;
    }
    let errors: Vec<String> = frame.columns.iter().map(|c| format!("± {}", c.name)).collect();
    let mut columns: Vec<(&str, Align)> = vec![(frame.axes[0].name.as_str(), Align::Left)];
    for (c, e) in frame.columns.iter().zip(&errors) {
        columns.push((&c.name, Align::Right));
        if c.errors.is_some() {
            columns.push((e, Align::Right));
        }
    }
    let mut table = Table::new(&columns);
    let shown = |x: f64| if x.is_nan() { "-".into() } else { report::number(x) };
    for (i, label) in frame.axes[0].labels.iter().enumerate() {
        let mut row = vec![label.clone()];
        for c in &frame.columns {
            row.push(shown(c.values[i]));
            row.extend(c.errors.as_ref().map(|e| shown(e[i])));
        }
        table.row(row);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_mean() {
        let e = standard_error(&[1.0, 3.0, 5.0, 7.0]);
        assert!((e - (20.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
    }
}
