//! Scores of generated texts: a metric of the whole text, once it is complete.

use super::measure::{Reading, Sources, positions};
use super::table::Values;
use crate::error::Error;
use std::rc::Rc;
use steer_compiler::elaborate::{Encoded, Metric, RunSpec, Sequence};

/// What a run that grows is scored by.
#[derive(Clone, Debug)]
pub struct Score {
    metric: Rc<Metric>,
    sources: Rc<Sources>,
    /// The outputs of the Plan that it reads, of any row.
    pub outputs: Vec<usize>,
}

impl Score {
    pub fn new(metric: &Rc<Metric>, sources: &Rc<Sources>) -> Self {
        let outputs = sources.outputs(&metric.value);
        Score { metric: Rc::clone(metric), sources: Rc::clone(sources), outputs }
    }

    /// The average over the positions that the metric selects of the text; NaN where it selects none.
    pub fn of(
        &self,
        values: &Values,
        (run, spec): (usize, &RunSpec),
        text: &Sequence,
        tokens: &[u32],
    ) -> Result<f64, Error> {
        let encoded = Rc::new(Encoded { tokens: tokens.to_vec(), ..(*spec.encoded).clone() });
        let spec = RunSpec { encoded, ..spec.clone() };
        let text = Sequence { fields: spec.record.as_deref(), ..*text };
        let reading = Reading { values, sources: &self.sources, run, spec: &spec, others: &|_| None };
        let at = positions(&self.metric.at.rows(&text));
        let each = at.iter().map(|p| reading.at(&self.metric.value, *p));
        Ok(each.sum::<Result<f64, Error>>()? / at.len() as f64)
    }
}
