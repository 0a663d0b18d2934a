//! Metrics from logits.

use super::live::not_finite;
use crate::error::Error;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use steer_compiler::elaborate::{Lens, MetricExpr, OutputSpec, RowRead, RunSpec, partner};
use steer_lang::ast::BinaryOp;

/// Where the logits of a phase are: whole, or single columns.
#[derive(Clone, Debug)]
pub enum Logits {
    Whole(usize),
    /// By token, the output that holds it.
    Columns(HashMap<u32, usize>),
}

/// The outputs of a Plan that metrics read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The model's logits, and those seen through a lens.
    logits: Vec<(Option<Lens>, Logits)>,
    /// Expressions over sites, by key.
    rows: HashMap<String, usize>,
}

impl Sources {
    /// Of these metrics; `whole`: all of the model's logits are needed anyway.
    pub fn of<'m>(
        metrics: impl Iterator<Item = &'m MetricExpr>,
        whole: bool,
        outputs: &mut Vec<OutputSpec>,
    ) -> Sources {
        let mut wanted: Vec<(Option<Lens>, BTreeSet<u32>, bool)> = Vec::new();
        let mut out = Sources::default();
        if whole {
            wanted.push((None, BTreeSet::new(), true));
        }
        for m in metrics {
            m.visit(&mut |part| {
                let (token, all) = match part {
                    MetricExpr::Logit(t, _) => (Some(*t), false),
                    MetricExpr::LogProb(..)
                    | MetricExpr::Prob(..)
                    | MetricExpr::Rank(..)
                    | MetricExpr::CrossEntropy
                    | MetricExpr::Kl(..) => (None, true),
                    MetricExpr::Row(read) => {
                        if !out.rows.contains_key(&read.key) {
                            out.rows.insert(read.key.clone(), outputs.len());
                            outputs.push(OutputSpec::Row((**read).clone()));
                        }
                        return;
                    }
                    _ => return,
                };
                let lens = part.lens();
                let at = wanted.iter().position(|(l, ..)| l.as_ref() == lens).unwrap_or_else(|| {
                    wanted.push((lens.cloned(), BTreeSet::new(), false));
                    wanted.len() - 1
                });
                wanted[at].1.extend(token);
                wanted[at].2 |= all;
            });
        }
        for (lens, tokens, whole) in wanted {
            let logits = if whole {
                outputs.push(match &lens {
                    None => OutputSpec::Site { name: "logits".into(), before: false },
                    Some(l) => OutputSpec::Lens(l.clone()),
                });
                Logits::Whole(outputs.len() - 1)
            } else {
                let column = |t: u32| {
                    outputs.push(match &lens {
                        None => OutputSpec::Logit(t),
                        Some(l) => OutputSpec::LensLogit(l.clone(), t),
                    });
                    (t, outputs.len() - 1)
                };
                Logits::Columns(tokens.into_iter().map(column).collect())
            };
            out.logits.push((lens, logits));
        }
        out
    }

    fn logits(&self, lens: Option<&Lens>) -> Option<&Logits> {
        self.logits.iter().find(|(l, _)| l.as_ref() == lens).map(|(_, o)| o)
    }

    /// The output that has all of the model's logits.
    pub fn whole(&self) -> Option<usize> {
        match self.logits(None) {
            Some(Logits::Whole(o)) => Some(*o),
            _ => None,
        }
    }

    /// The outputs that a metric reads of its own run.
    pub fn outputs(&self, m: &MetricExpr) -> Vec<usize> {
        let mut out = Vec::new();
        m.visit(&mut |part| {
            let logits = self.logits(part.lens());
            match (part, logits) {
                (MetricExpr::Row(read), _) => out.extend(self.rows.get(&read.key)),
                (MetricExpr::Logit(t, _), Some(Logits::Columns(c))) => out.extend(c.get(t)),
                (
                    MetricExpr::Logit(..)
                    | MetricExpr::LogProb(..)
                    | MetricExpr::Prob(..)
                    | MetricExpr::Rank(..)
                    | MetricExpr::CrossEntropy
                    | MetricExpr::Kl(..),
                    Some(Logits::Whole(o)),
                ) => out.push(*o),
                _ => {}
            }
        });
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// Everything a metric of one run is computed from.
pub struct Reading<'a> {
    pub values: &'a HashMap<(usize, usize, usize), Arc<[f32]>>,
    pub sources: &'a Sources,
    pub run: usize,
    pub spec: &'a RunSpec,
    /// The run that a KL names.
    pub others: &'a dyn Fn(&RunSpec) -> Option<usize>,
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
            MetricExpr::Logit(t, lens) => f64::from(self.logit(*t, lens.as_deref(), position)?),
            MetricExpr::LogProb(t, lens) => log_probs(&self.row(self.run, lens.as_deref(), position)?)[*t as usize],
            MetricExpr::Prob(t, lens) => log_probs(&self.row(self.run, lens.as_deref(), position)?)[*t as usize].exp(),
            MetricExpr::Row(read) => self.site(read, position)?.first().copied().map_or(f64::NAN, f64::from),
            MetricExpr::Rank(t, lens) => {
                let row = self.row(self.run, lens.as_deref(), position)?;
                let mine = row[*t as usize];
                row.iter().enumerate().filter(|(i, x)| **x > mine || (**x == mine && (*i as u32) < *t)).count() as f64
            }
            MetricExpr::CrossEntropy => {
                let Some(&next) = self.spec.encoded.tokens.get(position + 1) else { return Ok(f64::NAN) };
                -log_probs(&self.row(self.run, None, position)?)[next as usize]
            }
            MetricExpr::Kl(other, by_end) => {
                let there = partner(position, self.spec.encoded.tokens.len(), other.encoded.tokens.len(), *by_end);
                let (Some(run), Some(there)) = ((self.others)(other), there) else { return Ok(f64::NAN) };
                let p = log_probs(&self.row(run, None, there)?);
                let q = log_probs(&self.row(self.run, None, position)?);
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
                    BinaryOp::Pow => x.powf(y),
                    // What blew up is neither more nor less than anything.
                    _ if x.is_nan() || y.is_nan() => f64::NAN,
                    compare => f64::from(holds(*compare, x, y)),
                }
            }
        })
    }

    /// All entries of a metric that has axes of its own, or the one that it has.
    pub fn all_at(&self, m: &MetricExpr, position: usize) -> Result<Vec<f64>, Error> {
        match m {
            MetricExpr::Row(read) => Ok(self.site(read, position)?.iter().map(|x| f64::from(*x)).collect()),
            other => Ok(vec![self.at(other, position)?]),
        }
    }

    fn site(&self, read: &RowRead, position: usize) -> Result<Arc<[f32]>, Error> {
        match self.sources.rows.get(&read.key) {
            Some(o) => self.value(self.run, *o, position),
            None => Err(super::statements::broken("a site was not read")),
        }
    }

    fn logit(&self, token: u32, lens: Option<&Lens>, position: usize) -> Result<f32, Error> {
        let Some(logits) = self.sources.logits(lens) else {
            return Err(super::statements::broken("no logits were read"));
        };
        let x = match logits {
            Logits::Whole(_) => self.row(self.run, lens, position)?[token as usize],
            Logits::Columns(columns) => match columns.get(&token) {
                Some(o) => self.value(self.run, *o, position)?[0],
                None => return Err(super::statements::broken("a column was not read")),
            },
        };
        if x.is_finite() { Ok(x) } else { Err(not_finite(&self.spec.label, position, token as usize)) }
    }

    fn row(&self, run: usize, lens: Option<&Lens>, position: usize) -> Result<Arc<[f32]>, Error> {
        let Some(Logits::Whole(output)) = self.sources.logits(lens) else {
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

/// Whether a comparison of two numbers holds.
fn holds(op: BinaryOp, x: f64, y: f64) -> bool {
    match op {
        BinaryOp::Lt => x < y,
        BinaryOp::Le => x <= y,
        BinaryOp::Gt => x > y,
        BinaryOp::Ge => x >= y,
        BinaryOp::Ne => x != y,
        _ => x == y,
    }
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
