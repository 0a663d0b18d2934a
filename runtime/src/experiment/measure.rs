//! Metrics from logits.

use super::live::not_finite;
use crate::error::Error;
use std::collections::HashMap;
use std::sync::Arc;
use steer_compiler::elaborate::{MetricExpr, RunSpec, Sequence};
use steer_lang::ast::BinaryOp;

/// Where the logits of a phase are: whole, or single columns.
pub enum Logits {
    Whole(usize),
    /// By token, the output that holds it.
    Columns(HashMap<u32, usize>),
}

/// Everything a metric of one run is computed from.
pub struct Reading<'a> {
    pub values: &'a HashMap<(usize, usize, usize), Arc<[f32]>>,
    pub logits: &'a Logits,
    pub run: usize,
    pub spec: &'a RunSpec,
    /// The run of each KL, in the order in which the expression names them.
    pub others: &'a dyn Fn(&RunSpec) -> Option<usize>,
}

/// The sequence of a run that does not grow.
pub fn sequence(run: &RunSpec) -> Sequence<'_> {
    let e = &run.encoded;
    let (n, turns) = (e.tokens.len(), e.turns.as_deref());
    Sequence { prompt: n, len: n, bos: e.bos, text: &run.text, ranges: &e.ranges, turns }
}

/// The positions of a set, as numbers.
pub fn positions(rows: &[bool]) -> Vec<usize> {
    rows.iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| i).collect()
}

impl Reading<'_> {
    /// The metric at one position.
    pub fn at(&self, m: &MetricExpr, position: usize) -> Result<f64, Error> {
        Ok(match m {
            MetricExpr::Number(n) => *n,
            MetricExpr::Logit(t) => f64::from(self.logit(*t, position)?),
            MetricExpr::LogProb(t) => log_probs(&self.row(self.run, position)?)[*t as usize],
            MetricExpr::Prob(t) => log_probs(&self.row(self.run, position)?)[*t as usize].exp(),
            MetricExpr::Rank(t) => {
                let row = self.row(self.run, position)?;
                let mine = row[*t as usize];
                row.iter().enumerate().filter(|(i, x)| **x > mine || (**x == mine && (*i as u32) < *t)).count() as f64
            }
            MetricExpr::CrossEntropy => {
                let Some(&next) = self.spec.encoded.tokens.get(position + 1) else { return Ok(f64::NAN) };
                -log_probs(&self.row(self.run, position)?)[next as usize]
            }
            MetricExpr::Kl(other) => {
                let Some(run) = (self.others)(other) else { return Ok(f64::NAN) };
                let p = log_probs(&self.row(run, position.min(other.encoded.tokens.len().saturating_sub(1)))?);
                let q = log_probs(&self.row(self.run, position)?);
                p.iter().zip(&q).map(|(p, q)| if p.is_finite() { p.exp() * (p - q) } else { 0.0 }).sum()
            }
            MetricExpr::Neg(a) => -self.at(a, position)?,
            MetricExpr::Call(name, a) => {
                let x = self.at(a, position)?;
                match *name {
                    "exp" => x.exp(),
                    "log" => x.ln(),
                    "sqrt" => x.sqrt(),
                    _ => x.abs(),
                }
            }
            MetricExpr::Binary(op, a, b) => {
                let (x, y) = (self.at(a, position)?, self.at(b, position)?);
                match op {
                    BinaryOp::Add => x + y,
                    BinaryOp::Sub => x - y,
                    BinaryOp::Mul => x * y,
                    BinaryOp::Div => x / y,
                    _ => x.powf(y),
                }
            }
        })
    }

    fn logit(&self, token: u32, position: usize) -> Result<f32, Error> {
        let x = match self.logits {
            Logits::Whole(_) => self.row(self.run, position)?[token as usize],
            Logits::Columns(columns) => match columns.get(&token) {
                Some(o) => self.value(self.run, *o, position)?[0],
                None => return Err(super::statements::broken("a column was not read")),
            },
        };
        if x.is_finite() { Ok(x) } else { Err(not_finite(&self.spec.label, position, token as usize)) }
    }

    fn row(&self, run: usize, position: usize) -> Result<Arc<[f32]>, Error> {
        let Logits::Whole(output) = self.logits else {
            return Err(super::statements::broken("only columns were read"));
        };
        let row = self.value(run, *output, position)?;
        match row.iter().position(|x| x.is_nan()) {
            Some(bad) => Err(not_finite(&self.spec.label, position, bad)),
            None => Ok(row),
        }
    }

    fn value(&self, run: usize, output: usize, position: usize) -> Result<Arc<[f32]>, Error> {
        self.values
            .get(&(run, output, position))
            .cloned()
            .ok_or_else(|| super::statements::broken("a value that a metric reads is missing"))
    }
}

/// Logarithms of the softmax, in f64.
fn log_probs(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let top = f64::from(top);
    let total: f64 = row.iter().map(|x| (f64::from(*x) - top).exp()).sum();
    let shift = top + total.ln();
    row.iter().map(|x| f64::from(*x) - shift).collect()
}

/// Whether the metric can be had from single columns of the logits.
pub fn columns_of(m: &MetricExpr) -> Option<Vec<u32>> {
    let mut columns = Some(Vec::new());
    m.visit(&mut |part| match part {
        MetricExpr::Logit(t) => {
            if let Some(c) = &mut columns {
                c.push(*t);
            }
        }
        MetricExpr::LogProb(_)
        | MetricExpr::Prob(_)
        | MetricExpr::Rank(_)
        | MetricExpr::CrossEntropy
        | MetricExpr::Kl(_) => {
            columns = None;
        }
        _ => {}
    });
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_sum_to_one() {
        let p = log_probs(&[1.0, 2.0, 3.0, 1000.0]);
        assert!((p.iter().map(|x| x.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((p[2] - (3.0 - 1000.0)).abs() < 1e-9);
    }
}
