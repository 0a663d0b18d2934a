//! Tables: the numbers of `measure` and `sweep` from what the runs gave.

use super::measure::{Logits, Reading, positions};
use super::session::one;
use crate::report::{self, Align, Table};
use std::collections::HashMap;
use std::sync::Arc;
use steer_compiler::elaborate::{Cell, Read, RunSpec, TableSpec};
use steer_figures::{Frame, FrameAxis, FrameColumn};
use steer_lang::{Diagnostics, Span};

/// The values that runs gave, by run, output and position.
pub type Values = HashMap<(usize, usize, usize), Arc<[f32]>>;

/// Where the numbers of tables come from.
pub struct Given<'a> {
    pub values: &'a Values,
    pub logits: &'a Logits,
    /// The place of a run among those of the phase.
    pub run: &'a dyn Fn(&RunSpec) -> Option<usize>,
}

/// One entry of a table: for each metric its average, and its standard error where it is over several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    pub means: Vec<f64>,
    pub errors: Vec<Option<f64>>,
}

impl Given<'_> {
    /// The numbers of one cell. `span` is the statement's.
    pub fn cell(&self, cell: &Cell, span: Span) -> Result<Numbers, Diagnostics> {
        let n = cell.reads.len();
        let columns = cell.reads.first().map_or(0, |r| r.metrics.len());
        let mut all: Vec<Vec<f64>> = vec![Vec::with_capacity(n); columns];
        for (i, read) in cell.reads.iter().enumerate() {
            let values = self.read(read, span)?;
            let ends = match (cell.zero.get(i), cell.one.get(i)) {
                (Some(zero), Some(one)) => Some((self.read(zero, span)?, self.read(one, span)?)),
                _ => None,
            };
            for (c, (all, value)) in all.iter_mut().zip(values).enumerate() {
                all.push(match &ends {
                    Some((zero, one)) => (value - zero[c]) / (one[c] - zero[c]),
                    None => value,
                });
            }
        }
        let means = all.iter().map(|v| v.iter().sum::<f64>() / n as f64).collect();
        Ok(Numbers { means, errors: all.iter().map(|v| standard_error(v)).collect() })
    }

    /// Each metric of a run, averaged over its positions.
    fn read(&self, read: &Read, span: Span) -> Result<Vec<f64>, Diagnostics> {
        let Some(run) = (self.run)(&read.run) else {
            return Err(one(super::statements::broken("a run that is measured was not run")));
        };
        let reading = Reading { values: self.values, logits: self.logits, run, spec: &read.run, others: self.run };
        let metric = |m: &steer_compiler::elaborate::Metric| {
            let at = positions(&m.at.rows(&read.run.sequence()));
            let mut sum = 0.0;
            for p in &at {
                sum += reading.at(&m.value, *p).map_err(|e| vec![e.0.at(span, "measured here")])?;
            }
            Ok(sum / at.len() as f64)
        };
        read.metrics.iter().map(metric).collect()
    }
}

/// Of the mean: the sample's standard deviation over the root of its size.
fn standard_error(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((variance / n).sqrt())
}

/// A table with its numbers; cells that were not reached are NaN.
pub fn frame(spec: &TableSpec, cells: &[Option<Numbers>]) -> Frame {
    let axes = spec.axes.iter().map(|a| FrameAxis {
        name: a.name.clone(),
        labels: a.labels.clone(),
        numbers: a.numbers.clone(),
    });
    let column = |(c, name): (usize, &String)| {
        let values = cells.iter().map(|n| n.as_ref().map_or(f64::NAN, |n| n.means[c])).collect();
        let errors: Vec<f64> =
            cells.iter().map(|n| n.as_ref().and_then(|n| n.errors[c]).unwrap_or(f64::NAN)).collect();
        let any = errors.iter().any(|e| e.is_finite());
        FrameColumn { name: name.clone(), values, errors: any.then_some(errors) }
    };
    Frame {
        name: spec.name.clone().unwrap_or_default(),
        axes: axes.collect(),
        columns: spec.columns.iter().enumerate().map(column).collect(),
    }
}

/// The table of a `measure`: a row a run.
pub fn rows(frame: &Frame) -> String {
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
        assert_eq!(standard_error(&[1.0]), None);
        let e = standard_error(&[1.0, 3.0, 5.0, 7.0]).unwrap_or_default();
        assert!((e - (20.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
    }
}
