//! Builds a Plan op by op: infers types, refuses what does not fit, shares equal nodes.

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
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Body {
    Attention,
    Scan,
}

/// An attention whose body is being built.
#[derive(Debug)]
#[must_use = "an attention is built by its end"]
pub struct OpenAttention {
    /// The argument of the body, `[head, key]`: what its pattern is made from.
    pub scores: NodeId,
    pub body: RegionId,
    op: Op,
    place: (Option<u32>, Span, Option<Arc<str>>),
}

/// A scan whose body is being built.
#[derive(Debug)]
#[must_use = "a scan is built by its end"]
pub struct OpenScan {
    /// The argument of the body: the state that the row before carried on.
    pub state: NodeId,
    pub body: RegionId,
    place: (Option<u32>, Span, Option<Arc<str>>),
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
        let id = match self.plan.weights.iter().position(|w| w.name == name && w.dims == dims) {
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

    /// Opens the body of an attention; it ends with [`Builder::attention_end`].
    pub fn attention_begin(
        &mut self,
        q: NodeId,
        k: NodeId,
        v: NodeId,
        scale: f32,
        window: Option<usize>,
    ) -> Result<OpenAttention, TypeError> {
        self.not_nested()?;
        let body = RegionId(self.plan.regions.len() as u32);
        let op = Op::Attention { q, k, v, scale, window, body };
        types::infer(&self.plan, &op, &Type::scalar(Elem::F32, true))?;
        let scores = types::scores(self.ty(q));
        let place = self.open_body(Body::Attention);
        let scores = self.op(Op::Arg(0), &scores)?;
        self.plan.regions[body.0 as usize].args.push(scores);
        Ok(OpenAttention { scores, body, op, place })
    }

    /// `pattern` has the axes of the scores, in any order.
    pub fn attention_end(&mut self, open: OpenAttention, pattern: NodeId) -> Result<NodeId, TypeError> {
        let pattern = self.spread(pattern, open.scores)?;
        let want = self.ty(open.scores);
        if self.ty(pattern).axes != want.axes {
            return Err(TypeError::OtherAxes { left: want.clone(), right: self.ty(pattern).clone() });
        }
        self.close_body(open.body, open.place, vec![pattern]);
        self.infer(open.op)
    }

    pub fn attention<E: From<TypeError>>(
        &mut self,
        (q, k, v): (NodeId, NodeId, NodeId),
        scale: f32,
        window: Option<usize>,
        body: impl FnOnce(&mut Self, NodeId) -> Result<NodeId, E>,
    ) -> Result<NodeId, E> {
        let open = self.attention_begin(q, k, v, scale, window)?;
        let pattern = body(self, open.scores)?;
        Ok(self.attention_end(open, pattern)?)
    }

    /// Opens the body of a scan over a state with these axes; it ends with [`Builder::scan_end`].
    pub fn scan_begin(&mut self, state: Vec<Axis>) -> Result<OpenScan, TypeError> {
        self.not_nested()?;
        let body = RegionId(self.plan.regions.len() as u32);
        let place = self.open_body(Body::Scan);
        let state = self.op(Op::Arg(0), &Type { axes: state, elem: Elem::F32, per_row: true })?;
        self.plan.regions[body.0 as usize].args.push(state);
        Ok(OpenScan { state, body, place })
    }

    /// `state` has the axes of the state, in any order.
    pub fn scan_end(&mut self, open: OpenScan, state: NodeId, result: NodeId) -> Result<NodeId, TypeError> {
        let state = self.spread(state, open.state)?;
        self.close_body(open.body, open.place, vec![state, result]);
        self.infer(Op::Scan { body: open.body })
    }

    pub fn scan<E: From<TypeError>>(
        &mut self,
        state: Vec<Axis>,
        body: impl FnOnce(&mut Self, NodeId) -> Result<(NodeId, NodeId), E>,
    ) -> Result<NodeId, E> {
        let open = self.scan_begin(state)?;
        let (state, result) = body(self, open.state)?;
        Ok(self.scan_end(open, state, result)?)
    }

    /// `value` on the rows where the edit is active; its axes are matched by name, absent ones repeated.
    pub fn overlay(&mut self, edit: EditId, base: NodeId, value: NodeId) -> Result<NodeId, TypeError> {
        let value = self.spread(value, base)?;
        self.infer(Op::Overlay { edit, base, value })
    }

    pub fn receipt(&mut self, edit: EditId, stat: Stat, value: NodeId) -> Result<NodeId, TypeError> {
        self.infer(Op::Receipt { edit, stat, value })
    }

    /// All of an edit's receipts, for a value that it changed from `before` to `after`.
    pub fn receipts(&mut self, edit: EditId, before: NodeId, after: NodeId) -> Result<(), TypeError> {
        let after = self.spread(after, before)?;
        let names: Vec<Arc<str>> = self.ty(before).axes.iter().map(|a| a.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|n| &**n).collect();
        let differs = self.binary(Binary::Ne, after, before)?;
        let entries = self.reduce(Reduce::Max, differs, names.get(1..).unwrap_or(&[]))?;
        let changed = self.reduce(Reduce::Sum, entries, names.get(..1).unwrap_or(&[]))?;
        let change = self.binary(Binary::Sub, after, before)?;
        let moved = self.reduce(Reduce::SumSq, change, &names)?;
        let norm = self.reduce(Reduce::SumSq, before, &names)?;
        self.receipt(edit, Stat::Changed, changed)?;
        self.receipt(edit, Stat::Moved, moved)?;
        self.receipt(edit, Stat::Before, norm)?;
        Ok(())
    }

    /// `value` under the axes of `like`, in that order: absent ones repeated.
    pub fn spread(&mut self, value: NodeId, like: NodeId) -> Result<NodeId, TypeError> {
        let (have, want) = (self.ty(value), self.ty(like));
        if let Some(more) = have.axes.iter().find(|a| want.position_of(&a.name).is_none()) {
            return Err(TypeError::NoAxis { axis: more.name.clone(), have: want.clone() });
        }
        if have.axes.len() == want.axes.len() {
            return self.in_order_of(value, like);
        }
        // There is no op that only repeats: a choice that is always made.
        let always = self.boolean(true)?;
        self.select(always, value, like)
    }

    /// `a` with those of its axes that `like` has, too, in the order of `like`.
    fn in_order_of(&mut self, a: NodeId, like: NodeId) -> Result<NodeId, TypeError> {
        let (have, want) = (self.ty(a), self.ty(like));
        if have.axes.len() != want.axes.len() || have.axes.iter().any(|x| want.position_of(&x.name).is_none()) {
            return Ok(a);
        }
        let names: Vec<Arc<str>> = want.axes.iter().map(|x| x.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|n| &**n).collect();
        self.permute(a, &names)
    }

    fn not_nested(&self) -> Result<(), TypeError> {
        if self.open.is_empty() { Ok(()) } else { Err(TypeError::Nested) }
    }

    fn open_body(&mut self, body: Body) -> (Option<u32>, Span, Option<Arc<str>>) {
        let id = RegionId(self.plan.regions.len() as u32);
        self.plan.regions.push(Region::default());
        self.open.push((id, body));
        (self.layer, self.span, self.origin_path.clone())
    }

    /// The owner belongs to the place where it was begun.
    fn close_body(&mut self, body: RegionId, place: (Option<u32>, Span, Option<Arc<str>>), results: Vec<NodeId>) {
        self.plan.regions[body.0 as usize].results = results;
        self.open.pop();
        (self.layer, self.span, self.origin_path) = place;
    }
}

/// A node that reads nothing and is the same in every layer.
fn op_is_leaf(op: &Op) -> bool {
    matches!(
        op,
        Op::Token | Op::Position | Op::Number(_) | Op::Table(_) | Op::Iota | Op::Weight(_) | Op::Tensor(_)
    )
}
