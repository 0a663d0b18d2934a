//! The reference: a Plan op by op on candle tensors, without fusing, caches or shared rows. It defines
//! the values that every backend is compared with.

mod eval;
mod mixing;
mod ops;
mod taken;
#[cfg(test)]
mod tests;

use crate::engine::{
    Engine, Extend, Rounding, RowCount, RowReceipt, RowValue, Run, StepResult, TensorSource, WeightSource,
};
use crate::error::Error;
use candle_core::{Device, Tensor};
use eval::{Constants, EditInputs, Inputs, failed};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use steer_compiler::plan::{EditId, NodeId, Op, Plan, Sight, Size, Stat};
use steer_kernels::Format;
use steer_lang::codes;
use taken::Taken;

/// A loaded model under one Plan, recomputed from the first row each time.
pub struct Reference {
    plan: Arc<Plan>,
    constants: Constants,
    runs: Vec<State>,
    /// For each edit that patches, the value that it is about.
    bases: HashMap<EditId, NodeId>,
    rounding: Rounding,
    /// What rows see in the attention that a node stands in.
    sights: HashMap<NodeId, Sight>,
}

/// A run with all of its rows so far.
struct State {
    run: Run,
    tokens: Vec<u32>,
    /// By edit of the run, by row.
    active: Vec<Vec<bool>>,
    donor_positions: Vec<Vec<usize>>,
}

type Values = HashMap<NodeId, Tensor>;

fn misuse(message: String) -> Error {
    Error::new(codes::BACKEND, message)
}

impl Reference {
    pub fn new(plan: Arc<Plan>, weights: Arc<dyn WeightSource>, tensors: Arc<dyn TensorSource>) -> Result<Self, Error> {
        let mut constants = eval::constants(&plan, |op| {
            let (name, axes, values) = match op {
                Op::Weight(id) => {
                    let weight = &plan.weights[id.0 as usize];
                    (&weight.name, weight.axes(), weights.read(weight)?)
                }
                Op::Tensor(id) => {
                    let tensor = &plan.tensors[id.0 as usize];
                    (&tensor.name, tensor.axes.clone(), tensors.read(tensor)?.to_vec())
                }
                _ => return Ok(None),
            };
            let mut shape = vec![1];
            shape.extend(axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 0 }));
            let want: usize = shape.iter().product();
            if values.len() != want {
                let message = format!("`{name}` has {} elements where {want} are expected", values.len());
                return Err(Error::new(codes::WEIGHT_SHAPE, message));
            }
            Tensor::from_vec(values, shape, &Device::Cpu).map(Some).map_err(failed)
        })?;
        constants.formats = formats(&plan, weights.as_ref());
        let mut bases = HashMap::new();
        let mut sights = HashMap::new();
        for node in &plan.nodes {
            match &node.op {
                Op::Overlay { edit, base, .. } => {
                    // Others than the first are of what receipts compare with.
                    bases.entry(*edit).or_insert(*base);
                }
                op @ Op::Attention { body, .. } => {
                    let sight = op.sight().unwrap_or_default();
                    sights.extend(plan.region(*body).order.iter().map(|n| (*n, sight)));
                }
                _ => {}
            }
        }
        Ok(Reference { plan, constants, runs: Vec::new(), bases, rounding: Rounding::default(), sights })
    }

    /// What has to be known of a run: what is read of it, its receipts, and what it gives to others.
    fn wanted(&self, run: usize) -> HashSet<NodeId> {
        let mut wanted: HashSet<NodeId> = self.plan.outputs.iter().map(|o| o.node).collect();
        let edits = &self.runs[run].run.edits;
        for (i, node) in self.plan.nodes.iter().enumerate() {
            if matches!(node.op, Op::Receipt { edit, .. } if edits.iter().any(|e| e.edit == edit)) {
                wanted.insert(NodeId(i as u32));
            }
        }
        let given = self.runs.iter().flat_map(|r| &r.run.edits).filter(|e| e.donor == Some(run));
        wanted.extend(given.filter_map(|e| self.bases.get(&e.edit)));
        wanted
    }

    /// The values of a run and, before it, of its donors.
    fn values(
        &self,
        run: usize,
        known: &mut HashMap<usize, Arc<Values>>,
        open: &mut Vec<usize>,
    ) -> Result<Arc<Values>, Error> {
        if let Some(values) = known.get(&run) {
            return Ok(values.clone());
        }
        if open.contains(&run) {
            return Err(misuse(format!("run {run} gives to itself")));
        }
        let state = self.runs.get(run).ok_or_else(|| misuse(format!("there is no run {run}")))?;
        open.push(run);
        let mut inputs = Inputs { tokens: state.tokens.clone(), edits: HashMap::new() };
        for (i, e) in state.run.edits.iter().enumerate() {
            let mut edit = EditInputs { params: e.params.clone(), active: state.active[i].clone(), donor: None };
            if let (Some(donor), Some(base)) = (e.donor, self.bases.get(&e.edit)) {
                let values = self.values(donor, known, open)?;
                let rows = self.runs[donor].tokens.len();
                let taken = Taken { positions: &state.donor_positions[i], active: &edit.active, rows };
                let (ty, sight) = (self.plan.ty(*base), self.sights.get(base).copied().unwrap_or_default());
                let about = &self.plan.edits[e.edit.0 as usize];
                edit.donor = Some(match ty.has_keys() {
                    true => taken.keys_of(&values[base], ty, sight, (&about.name, &about.site))?,
                    false => taken.rows_of(&values[base])?,
                });
            }
            inputs.edits.insert(e.edit, edit);
        }
        open.pop();
        let values = if inputs.tokens.is_empty() {
            Values::new()
        } else {
            eval::evaluate(&self.plan, &self.constants, &inputs, self.rounding, &self.wanted(run))?
        };
        let values = Arc::new(values);
        known.insert(run, values.clone());
        Ok(values)
    }

    fn append(&mut self, work: &Extend) -> Result<(), Error> {
        let state = self.runs.get_mut(work.run).ok_or_else(|| misuse(format!("there is no run {}", work.run)))?;
        let first = state.tokens.len();
        state.tokens.extend(&work.tokens);
        for i in 0..state.run.edits.len() {
            let active = work.active.get(i).filter(|a| a.len() == work.tokens.len());
            let active =
                active.ok_or_else(|| misuse(format!("run {} does not say where edit {i} is active", work.run)))?;
            state.active[i].extend(active);
            let own = || (first..state.tokens.len()).collect::<Vec<_>>();
            let positions = work.donor_positions.get(i).filter(|p| !p.is_empty()).cloned().unwrap_or_else(own);
            if positions.len() != work.tokens.len() {
                return Err(misuse(format!("run {} does not say where edit {i} takes its values", work.run)));
            }
            state.donor_positions[i].extend(positions);
        }
        Ok(())
    }

    /// One row of a value, as long as the row has keys.
    fn row(&self, node: NodeId, value: &Tensor, row: usize) -> Result<Arc<[f32]>, Error> {
        let cut = || -> candle_core::Result<Vec<f32>> {
            let mut x = value.narrow(0, row.min(value.dims()[0] - 1), 1)?;
            if let Some(at) = self.plan.ty(node).axes.iter().position(|a| a.size == Size::Keys) {
                let keys = self.sights.get(&node).copied().unwrap_or_default().of(row, x.dims()[at + 1]);
                x = x.narrow(at + 1, keys.start, keys.len())?;
            }
            x.flatten_all()?.to_vec1()
        };
        Ok(cut().map_err(failed)?.into())
    }
}

/// How the weights of products are stored that are views of one weight.
fn formats(plan: &Plan, weights: &dyn WeightSource) -> HashMap<NodeId, Format> {
    let format = |mut at: NodeId| loop {
        match &plan.node(at).op {
            Op::Weight(id) => return Some(weights.piece(&plan.weights[id.0 as usize], 0)?.format),
            Op::Slice { of, .. } | Op::At { of, .. } | Op::Pick { of, .. } => at = *of,
            Op::Reshape(of) | Op::Permute(of) => at = *of,
            _ => return None,
        }
    };
    let products = plan.nodes.iter().enumerate().filter_map(|(i, node)| match node.op {
        Op::Linear { w, .. } => Some((NodeId(i as u32), format(w)?)),
        _ => None,
    });
    products.collect()
}

impl Engine for Reference {
    fn begin(&mut self, runs: Vec<Run>) -> Result<(), Error> {
        let state = |run: Run| {
            let edits = run.edits.len();
            State { run, tokens: Vec::new(), active: vec![Vec::new(); edits], donor_positions: vec![Vec::new(); edits] }
        };
        self.runs = runs.into_iter().map(state).collect();
        Ok(())
    }

    fn round(&mut self, rounding: Rounding) {
        self.rounding = rounding;
    }

    fn extend(&mut self, work: &[Extend]) -> Result<StepResult, Error> {
        let mut first = Vec::new();
        for w in work {
            first.push(self.runs.get(w.run).map_or(0, |r| r.tokens.len()));
            self.append(w)?;
        }
        let mut known = HashMap::new();
        let mut result = StepResult::default();
        for (w, &first) in work.iter().zip(&first) {
            let values = self.values(w.run, &mut known, &mut Vec::new())?;
            let last = first + w.tokens.len();
            for (output, positions) in w.reads.iter().enumerate() {
                let Some(node) = self.plan.outputs.get(output).map(|o| o.node) else { continue };
                for &position in positions {
                    if !(first..last).contains(&position) {
                        return Err(Error::new(
                            codes::POSITION_RANGE,
                            format!("position {position} is not among {first}..{last}"),
                        ));
                    }
                    let data = self.row(node, &values[&node], position)?;
                    result.values.push(RowValue { run: w.run, output, position, data });
                }
            }
            self.receipts(w.run, first..last, &values, &mut result.receipts)?;
            result.rows.naive += w.tokens.len() as u64;
        }
        result.rows = RowCount { computed: result.rows.naive, ..result.rows };
        Ok(result)
    }
}

impl Reference {
    fn receipts(
        &self,
        run: usize,
        rows: std::ops::Range<usize>,
        values: &Values,
        receipts: &mut Vec<RowReceipt>,
    ) -> Result<(), Error> {
        let state = &self.runs[run];
        for (i, e) in state.run.edits.iter().enumerate() {
            let mut stats = Vec::new();
            for (n, node) in self.plan.nodes.iter().enumerate() {
                if let (Op::Receipt { edit, stat, .. }, Some(value)) = (&node.op, values.get(&NodeId(n as u32)))
                    && *edit == e.edit
                {
                    stats.push((*stat, value.to_vec1::<f32>().map_err(failed)?));
                }
            }
            if stats.is_empty() {
                continue;
            }
            for position in rows.clone().filter(|&p| state.active[i][p]) {
                let sum = |stat: Stat| {
                    let of = stats.iter().filter(|s| s.0 == stat);
                    of.map(|(_, v)| v[position.min(v.len() - 1)]).sum::<f32>()
                };
                receipts.push(RowReceipt { run, edit: e.edit, position, did: Stat::ALL.map(sum) });
            }
        }
        Ok(())
    }
}
