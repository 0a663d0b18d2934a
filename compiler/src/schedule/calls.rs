//! The instructions of library calls, and the bodies of mixing ops.

use super::consts::{self, Origin};
use super::emit::Emitter;
use super::fuse::Store;
use super::legalize::linear_axes;
use super::recurrence::Recognized;
use super::softmax;
use crate::plan::{Axis, NodeId, Op, RegionId, Size};
use crate::program::{Body, BodyPatch, ConstSource, ConstView, Instr, LookupIndex, MatrixView, Recurrence, Softmax};
use std::collections::HashMap;
use steer_lang::Diagnostic;

impl Emitter<'_, '_> {
    pub fn source(&self, n: NodeId) -> Result<ConstSource, Diagnostic> {
        match consts::origin(self.g, n) {
            Origin::Source(source) => Ok(source),
            Origin::Computed(root) => Ok(ConstSource::Computed(self.buffer(root)?)),
        }
    }

    pub fn const_view(&self, n: NodeId) -> Result<ConstView, Diagnostic> {
        consts::const_view(self.g, n, self.source(n)?)
    }

    /// The instruction of a library call.
    pub fn call(&mut self, n: NodeId) -> Result<Instr, Diagnostic> {
        let g = self.g;
        let layer = g.node(n).layer;
        let y = self.buffer(n)?;
        if let Some(experts) = g.experts.get(&n) {
            return self.experts(experts, y, layer);
        }
        let count =
            |axes: &[Axis]| -> usize { axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 1 }).product() };
        Ok(match g.node(n).op.clone() {
            Op::Linear { x, w, active, .. } => {
                let axes = linear_axes(g, n)?;
                let w: MatrixView = consts::matrix_view(g, w, &axes, self.source(w)?, g.select.get(&n).cloned())?;
                let active = active.map(|a| self.buffer(a)).transpose()?;
                let (extra, x_has_batch) = (count(&axes.extra), axes.x_has_batch);
                Instr::Linear { x: self.buffer(x)?, w, y, extra, x_has_batch, active, layer }
            }
            Op::Lookup { table, index } => {
                let index = match g.node(index).op {
                    Op::Token => LookupIndex::Token,
                    Op::Position => LookupIndex::Position,
                    _ => LookupIndex::Buffer(self.buffer(index)?),
                };
                Instr::Lookup { table: self.const_view(table)?, index, y }
            }
            Op::Attention { q, k, v, scale, window, whole, body } => {
                let d_head = g.ty(q).axes.last().map_or(1, |a| count(std::slice::from_ref(a)));
                let heads = |of: NodeId| count(&g.ty(of).axes) / d_head.max(1);
                let of = |of: NodeId| g.ty(of).axes.last().map_or(1, |a| count(std::slice::from_ref(a)));
                let (heads, kv_heads) = (heads(q), heads(k));
                if of(k) != d_head || of(v) != d_head || kv_heads == 0 || heads % kv_heads != 0 {
                    return Err(g.unsupported(n, "an attention whose queries, keys and values differ in size"));
                }
                let (q, k, v) = (self.buffer(q)?, self.buffer(k)?, self.buffer(v)?);
                let found = softmax::of(g, body).filter(|f| f.alone || g.fuses);
                let body = if found.is_some_and(|f| f.alone) { None } else { Some(self.body(n, body, None)?) };
                let softmax = match found {
                    Some(f) => Some(Softmax { sinks: f.sinks.map(|s| self.const_view(s)).transpose()? }),
                    None => None,
                };
                Instr::Attention { q, k, v, z: y, heads, kv_heads, d_head, scale, window, whole, softmax, body, layer }
            }
            Op::Conv1d { x, w } => {
                let taps = g.ty(w).axes.last().map_or(1, |a| count(std::slice::from_ref(a)));
                let channels = count(&g.ty(x).axes);
                Instr::Conv1d { x: self.buffer(x)?, w: self.const_view(w)?, y, channels, taps, layer }
            }
            Op::Scan { body } => {
                let state = g.results.get(&body).and_then(|r| r.first()).and_then(|r| g.ty(*r).len());
                let Some(state) = state else { return Err(g.unsupported(n, "a state with an axis over keys")) };
                match self.recurrence(body).filter(|_| g.fuses) {
                    None => {
                        let recurrence = self.recurrence_without_edits(body).filter(|_| g.fuses).map(Box::new);
                        Instr::Scan { body: Some(self.body(n, body, None)?), recurrence, state, y, layer }
                    }
                    Some(found) => {
                        let (body, new) = self.around_recurrence(n, body, &found)?;
                        let recurrence = Some(Box::new(Recurrence { new, ..found.recurrence }));
                        Instr::Scan { body, recurrence, state, y, layer }
                    }
                }
            }
            _ => return Err(g.unsupported(n, "this operation")),
        })
    }

    /// The kernel of a body, without what a recurrence computes of it.
    pub fn body(&mut self, owner: NodeId, body: RegionId, without: Option<&Recognized>) -> Result<Body, Diagnostic> {
        let g = self.g;
        let mut stores = self.stores.clone();
        let mut results: HashMap<NodeId, u32> = HashMap::new();
        for (i, &r) in g.results.get(&body).into_iter().flatten().enumerate() {
            results.insert(r, i as u32);
        }
        let mut outputs = Vec::new();
        for (i, &o) in g.outputs.iter().enumerate().filter(|(_, o)| g.is_inside(**o, body)) {
            let next = results.len() as u32;
            let result = *results.entry(o).or_insert(next);
            outputs.push((result, g.plan.outputs[i].node));
        }
        let mut patches = Vec::new();
        for (&edit, &base) in g.given.iter().filter(|(_, base)| g.is_inside(**base, body)) {
            let next = results.len() as u32;
            let result = *results.entry(base).or_insert(next);
            patches.push(BodyPatch { edit, result, node: g.original[base.0 as usize] });
        }
        stores.extend(results.iter().map(|(n, i)| (*n, Store::Result(*i))));
        let mut nodes: Vec<NodeId> = g.body_order(body).into_iter().filter(|n| g.is_unit(*n)).collect();
        if let Some(found) = without {
            nodes.retain(|n| !found.computes.contains(n));
            stores.insert(found.new, Store::Given(1));
        }
        let mut call = self.kernel(&nodes, &stores, false)?;
        call.layer = g.node(owner).layer;
        let at = (self.program.stretches.len() - 1, self.current().instrs.len());
        self.bodies.insert(body, (at.0, at.1, results));
        self.gives(&patches);
        Ok(Body { call, outputs, patches })
    }
}
