//! Builds a Plan op by op: infers types, refuses what does not fit, shares equal nodes.

mod mixing;

pub use mixing::{OpenAttention, OpenConvolution, OpenScan};

use super::error::TypeError;
use super::ir::*;
use super::types;
use std::collections::HashMap;
use std::sync::Arc;
use steer_lang::Span;

/// A Plan under construction, and the place in it and in the source that the next node belongs to.
#[derive(Debug, Default)]
pub struct Builder {
    pub plan: Plan,
    /// The layer of the nodes to come.
    pub layer: Option<u32>,
    /// The source text of the nodes to come.
    pub span: Span,
    /// The functions that are being inlined, outermost first.
    origin: Vec<Arc<str>>,
    origin_path: Option<Arc<str>>,
    /// The bodies that are open.
    open: Vec<(RegionId, Body)>,
    share: Option<HashMap<String, NodeId>>,
    /// Weights of the Plan by name, as far as they have been looked at.
    named: HashMap<String, Vec<usize>>,
    looked: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Body {
    Attention,
    Scan,
}

impl Builder {
    pub fn new(plan: Plan) -> Self {
        Builder { plan, ..Builder::default() }
    }

    /// From now on, an op equal to an earlier one of the same region and layer is that one.
    pub fn sharing(mut self) -> Self {
        self.share = Some(HashMap::new());
        self
    }

    pub fn finish(self) -> Plan {
        self.plan
    }

    pub fn ty(&self, id: NodeId) -> &Type {
        self.plan.ty(id)
    }

    /// The region of the nodes to come.
    pub fn region(&self) -> RegionId {
        self.open.last().map_or(MAIN, |o| o.0)
    }

    /// Whether an attention's body is open, so that `key` exists.
    pub fn in_attention(&self) -> bool {
        self.open.last().is_some_and(|o| o.1 == Body::Attention)
    }

    /// Nodes to come are inlined from this function.
    pub fn enter(&mut self, function: &str) {
        self.origin.push(function.into());
        self.origin_path = Some(self.origin.join("/").into());
    }

    pub fn leave(&mut self) {
        self.origin.pop();
        self.origin_path = if self.origin.is_empty() { None } else { Some(self.origin.join("/").into()) };
    }

    /// Any op but a mixing one. `declared` is what the op leaves open (see [`types::infer`]).
    pub fn op(&mut self, op: Op, declared: &Type) -> Result<NodeId, TypeError> {
        let ty = types::infer(&self.plan, &op, declared)?;
        if ty.has_keys() && !self.in_attention() {
            return Err(TypeError::KeyOutside);
        }
        if op == Op::Layer && self.layer.is_none() {
            return Err(TypeError::NoLayer);
        }
        let shared = !matches!(op, Op::Receipt { .. } | Op::Arg(_) | Op::Attention { .. } | Op::Scan { .. });
        let (region, layer) = (self.region(), self.layer);
        let key = match &self.share {
            Some(_) if shared => {
                // A weight or a number is the same in every layer.
                let layer = if op_is_leaf(&op) { None } else { layer };
                Some(format!("{} {layer:?} {op:?} {ty:?}", region.0))
            }
            _ => None,
        };
        if let Some(&id) = key.as_ref().and_then(|k| self.share.as_ref()?.get(k)) {
            return Ok(id);
        }
        let id = self.plan.push(region, Node { op, ty, layer, origin: self.origin_path.clone(), span: self.span });
        if let (Some(share), Some(key)) = (&mut self.share, key) {
            share.insert(key, id);
        }
        Ok(id)
    }

    fn infer(&mut self, op: Op) -> Result<NodeId, TypeError> {
        self.op(op, &Type::scalar(Elem::F32, false))
    }

    pub fn number(&mut self, n: f32) -> Result<NodeId, TypeError> {
        self.infer(Op::Number(n))
    }

    pub fn boolean(&mut self, b: bool) -> Result<NodeId, TypeError> {
        self.op(Op::Number(f32::from(u8::from(b))), &Type::scalar(Elem::Bool, false))
    }

    /// Numbers in the order of the axes.
    pub fn table(&mut self, values: impl Into<Arc<[f32]>>, axes: Vec<Axis>) -> Result<NodeId, TypeError> {
        self.op(Op::Table(values.into()), &Type { axes, elem: Elem::F32, per_row: false })
    }

    pub fn iota(&mut self, axis: Axis) -> Result<NodeId, TypeError> {
        self.op(Op::Iota, &Type { axes: vec![axis], elem: Elem::Index, per_row: false })
    }

    pub fn token(&mut self) -> Result<NodeId, TypeError> {
        self.infer(Op::Token)
    }

    pub fn position(&mut self) -> Result<NodeId, TypeError> {
        self.infer(Op::Position)
    }

    /// The number of the current layer.
    pub fn layer_index(&mut self) -> Result<NodeId, TypeError> {
        self.infer(Op::Layer)
    }

    /// A tensor of the weight files, with its axes in file order; one and the same weight each time.
    pub fn weight(&mut self, name: &str, dims: Vec<Vec<Axis>>) -> Result<NodeId, TypeError> {
        for (at, w) in self.plan.weights.iter().enumerate().skip(self.looked) {
            self.named.entry(w.name.clone()).or_default().push(at);
        }
        self.looked = self.plan.weights.len();
        let same = self.named.get(name).into_iter().flatten();
        let id = match same.copied().find(|at| self.plan.weights[*at].dims == dims) {
            Some(at) => at,
            None => {
                self.plan.weights.push(Weight { name: name.to_owned(), dims, span: self.span });
                self.plan.weights.len() - 1
            }
        };
        self.infer(Op::Weight(WeightId(id as u32)))
    }

    /// A tensor of the script.
    pub fn tensor(&mut self, name: &str, axes: Vec<Axis>) -> Result<NodeId, TypeError> {
        let id = match self.plan.tensors.iter().position(|t| t.name == name && t.axes == axes) {
            Some(at) => at,
            None => {
                self.plan.tensors.push(Tensor { name: name.to_owned(), axes });
                self.plan.tensors.len() - 1
            }
        };
        self.infer(Op::Tensor(TensorId(id as u32)))
    }

    pub fn edit(&mut self, edit: Edit) -> EditId {
        self.plan.edits.push(edit);
        EditId((self.plan.edits.len() - 1) as u32)
    }

    pub fn param(&mut self, edit: EditId, slot: u32) -> Result<NodeId, TypeError> {
        self.infer(Op::Param { edit, slot })
    }

    /// What the donor run has at the site, whose value is `base`.
    pub fn donor(&mut self, edit: EditId, base: NodeId) -> Result<NodeId, TypeError> {
        let declared = self.ty(base).clone();
        self.op(Op::Donor(edit), &declared)
    }

    pub fn unary(&mut self, op: Unary, a: NodeId) -> Result<NodeId, TypeError> {
        if let (Op::Number(x), false) = (&self.plan.node(a).op, matches!(op, Unary::Not | Unary::IsFinite)) {
            let folded = op.apply(*x);
            return self.number(folded);
        }
        self.infer(Op::Unary(op, a))
    }

    /// Axes are matched by name; numbers are computed at once.
    pub fn binary(&mut self, op: Binary, a: NodeId, b: NodeId) -> Result<NodeId, TypeError> {
        if let (Op::Number(x), Op::Number(y)) = (&self.plan.node(a).op, &self.plan.node(b).op) {
            let folded = op.apply(*x, *y);
            return if types::is_bool(op) { self.boolean(folded != 0.0) } else { self.number(folded) };
        }
        self.infer(Op::Binary(op, a, b))
    }

    pub fn select(&mut self, condition: NodeId, then: NodeId, other: NodeId) -> Result<NodeId, TypeError> {
        self.infer(Op::Select(condition, then, other))
    }

    /// The axes `over` in any order; over none, the value itself (its square for `SumSq`).
    pub fn reduce(&mut self, op: Reduce, a: NodeId, over: &[&str]) -> Result<NodeId, TypeError> {
        match (op, over.is_empty()) {
            (Reduce::SumSq, true) => self.binary(Binary::Mul, a, a),
            (Reduce::Sum | Reduce::Max | Reduce::Min, true) => Ok(a),
            _ => {
                let have = self.ty(a);
                for (i, name) in over.iter().enumerate() {
                    if have.position_of(name).is_none() {
                        return Err(TypeError::NoAxis { axis: (*name).into(), have: have.clone() });
                    }
                    if over[..i].contains(name) {
                        return Err(TypeError::Duplicate { axis: (*name).into() });
                    }
                }
                let over = have.axes.iter().map(|x| x.name.clone()).filter(|n| over.contains(&&**n)).collect();
                self.infer(Op::Reduce(op, a, over))
            }
        }
    }

    /// How many entries there are along these axes: a number, but for `key`.
    pub fn count(&mut self, a: NodeId, over: &[&str]) -> Result<NodeId, TypeError> {
        let (mut fixed, mut keys) = (1usize, false);
        for name in over {
            let have = self.ty(a);
            match have.position_of(name).map(|at| have.axes[at].size) {
                None => return Err(TypeError::NoAxis { axis: (*name).into(), have: have.clone() }),
                Some(Size::Keys) => keys = true,
                Some(Size::Fixed(n)) => fixed *= n,
            }
        }
        let fixed = self.number(fixed as f32)?;
        if !keys {
            return Ok(fixed);
        }
        let (iota, zero) = (self.iota(Axis::key())?, self.number(0.0)?);
        let ones = self.binary(Binary::Ge, iota, zero)?;
        let keys = self.reduce(Reduce::Sum, ones, &[KEY])?;
        self.binary(Binary::Mul, keys, fixed)
    }

    pub fn mean(&mut self, a: NodeId, over: &[&str]) -> Result<NodeId, TypeError> {
        let sum = self.reduce(Reduce::Sum, a, over)?;
        let count = self.count(a, over)?;
        self.binary(Binary::Div, sum, count)
    }

    pub fn top_k(&mut self, of: NodeId, axis: &str, k: NodeId) -> Result<NodeId, TypeError> {
        self.infer(Op::TopK { of, axis: axis.into(), k })
    }

    pub fn slice(&mut self, of: NodeId, axis: &str, start: usize, len: usize) -> Result<NodeId, TypeError> {
        self.infer(Op::Slice { of, axis: axis.into(), start, len })
    }

    pub fn at(&mut self, of: NodeId, axis: &str, index: usize) -> Result<NodeId, TypeError> {
        self.infer(Op::At { of, axis: axis.into(), index })
    }

    pub fn pick(&mut self, of: NodeId, axis: &str, entries: impl Into<Arc<[u32]>>) -> Result<NodeId, TypeError> {
        self.infer(Op::Pick { of, axis: axis.into(), entries: entries.into() })
    }

    /// The same elements in the same order under other axes; nothing where they are the same axes.
    pub fn reshape(&mut self, a: NodeId, axes: Vec<Axis>) -> Result<NodeId, TypeError> {
        if self.ty(a).axes == axes {
            return Ok(a);
        }
        self.op(Op::Reshape(a), &Type { axes, elem: Elem::F32, per_row: false })
    }

    /// The same value with one axis under another name.
    pub fn rename(&mut self, a: NodeId, from: &str, to: &str) -> Result<NodeId, TypeError> {
        let mut axes = self.ty(a).axes.clone();
        match axes.iter_mut().find(|x| &*x.name == from) {
            Some(axis) => axis.name = to.into(),
            None => return Err(TypeError::NoAxis { axis: from.into(), have: self.ty(a).clone() }),
        }
        self.reshape(a, axes)
    }

    /// The same value with one axis taken apart into several, the last fastest.
    pub fn split(&mut self, a: NodeId, from: &str, to: &[Axis]) -> Result<NodeId, TypeError> {
        let mut axes = self.ty(a).axes.clone();
        let Some(at) = axes.iter().position(|x| &*x.name == from) else {
            return Err(TypeError::NoAxis { axis: from.into(), have: self.ty(a).clone() });
        };
        axes.splice(at..=at, to.iter().cloned());
        self.reshape(a, axes)
    }

    /// The same value with several axes as one, the last fastest, at the place of the first. They are of fixed size.
    pub fn merge(&mut self, a: NodeId, from: &[&str], to: &str) -> Result<NodeId, TypeError> {
        let have = self.ty(a).clone();
        let mut size = 1_usize;
        for name in from {
            match have.position_of(name).map(|i| have.axes[i].size) {
                Some(Size::Fixed(n)) => size = size.saturating_mul(n),
                _ => return Err(TypeError::NoAxis { axis: (*name).into(), have }),
            }
        }
        let first = have.axes.iter().position(|x| from.contains(&&*x.name)).unwrap_or(0);
        let mut rest: Vec<&str> = have.axes.iter().map(|x| &*x.name).filter(|n| !from.contains(n)).collect();
        rest.splice(first..first, from.iter().copied());
        let together = self.permute(a, &rest)?;
        let mut axes = self.ty(together).axes.clone();
        axes.splice(first..first + from.len(), [Axis { name: to.into(), size: Size::Fixed(size) }]);
        self.reshape(together, axes)
    }

    /// The same value with its axes in this order, all of them named.
    pub fn permute(&mut self, a: NodeId, names: &[&str]) -> Result<NodeId, TypeError> {
        let have = self.ty(a);
        let mut axes = Vec::new();
        for name in names {
            match have.position_of(name) {
                Some(at) => axes.push(have.axes[at].clone()),
                None => return Err(TypeError::NoAxis { axis: (*name).into(), have: have.clone() }),
            }
        }
        if have.axes == axes {
            return Ok(a);
        }
        self.op(Op::Permute(a), &Type { axes, elem: Elem::F32, per_row: false })
    }

    /// The other axes are matched by name.
    pub fn concat(&mut self, a: NodeId, b: NodeId, axis: &str) -> Result<NodeId, TypeError> {
        let b = self.in_order_of(b, a)?;
        self.infer(Op::Concat(a, b, axis.into()))
    }

    pub fn linear(&mut self, x: NodeId, w: NodeId, over: &[&str], active: Option<NodeId>) -> Result<NodeId, TypeError> {
        self.infer(Op::Linear { x, w, over: over.iter().map(|&o| o.into()).collect(), active })
    }

    pub fn lookup(&mut self, table: NodeId, index: NodeId) -> Result<NodeId, TypeError> {
        self.infer(Op::Lookup { table, index })
    }

    pub fn conv1d(&mut self, x: NodeId, w: NodeId) -> Result<NodeId, TypeError> {
        self.not_nested()?;
        let (channel, have) = (self.ty(x).axes.first().map(|a| a.name.clone()), self.ty(w));
        let w = match (&channel, &have.axes[..]) {
            (Some(channel), [tap, c]) if c.name == *channel => {
                let names = [c.name.clone(), tap.name.clone()];
                self.permute(w, &[&names[0], &names[1]])?
            }
            _ => w,
        };
        self.infer(Op::Conv1d { x, w })
    }
}

/// A node that reads nothing and is the same in every layer.
fn op_is_leaf(op: &Op) -> bool {
    matches!(op, Op::Token | Op::Position | Op::Number(_) | Op::Table(_) | Op::Iota | Op::Weight(_) | Op::Tensor(_))
}
