//! Ops that own a body, and edits.

use super::{Body, Builder};
use crate::plan::error::TypeError;
use crate::plan::ir::*;
use crate::plan::types;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use steer_lang::Span;

/// The layer, the source text and the origin that an owner has.
type Place = (Option<u32>, Span, Option<Arc<str>>);

/// An attention whose body is being built.
#[derive(Debug)]
#[must_use = "an attention is built by its end"]
pub struct OpenAttention {
    /// The argument of the body, `[head, key]`: what its pattern is made from.
    pub scores: NodeId,
    pub body: RegionId,
    op: Op,
    place: Place,
}

/// A scan whose body is being built.
#[derive(Debug)]
#[must_use = "a scan is built by its end"]
pub struct OpenScan {
    /// The argument of the body: the state that the row before carried on.
    pub state: NodeId,
    pub body: RegionId,
    place: Place,
}

impl Builder {
    /// Opens the body of an attention; it ends with [`Builder::attention_end`].
    pub fn attention_begin(
        &mut self,
        q: NodeId,
        k: NodeId,
        v: NodeId,
        scale: f32,
        window: Option<usize>,
    ) -> Result<OpenAttention, TypeError> {
        self.attention_over((q, k, v), scale, window, false)
    }

    /// The same, of all rows of a sequence where it is `whole`.
    pub fn attention_over(
        &mut self,
        (q, k, v): (NodeId, NodeId, NodeId),
        scale: f32,
        window: Option<usize>,
        whole: bool,
    ) -> Result<OpenAttention, TypeError> {
        self.not_nested()?;
        let body = RegionId(self.plan.regions.len() as u32);
        let op = Op::Attention { q, k, v, scale, window, whole, body };
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
        // An entry that is infinite and stays so has not moved.
        let (apart, none) = (self.binary(Binary::Sub, after, before)?, self.number(0.0)?);
        let change = self.select(differs, apart, none)?;
        let moved = self.reduce(Reduce::SumSq, change, &names)?;
        let norm = self.reduce(Reduce::SumSq, before, &names)?;
        self.receipt(edit, Stat::Changed, changed)?;
        self.receipt(edit, Stat::Moved, moved)?;
        self.receipt(edit, Stat::Before, norm)?;
        Ok(())
    }

    /// The receipts of a route, for gates over `axis` that are `before` where the route is left out.
    pub fn route_receipts(&mut self, edit: EditId, axis: &str, before: NodeId, after: NodeId) -> Result<(), TypeError> {
        let zero = self.number(0.0)?;
        let counted = |b: &mut Self, x: NodeId| b.reduce(Reduce::Sum, x, &[axis]);
        let (was, is) = (self.binary(Binary::Ne, before, zero)?, self.binary(Binary::Ne, after, zero)?);
        let (was_not, is_not) = (self.unary(Unary::Not, was)?, self.unary(Unary::Not, is)?);
        let (new, gone) = (self.binary(Binary::And, was_not, is)?, self.binary(Binary::And, was, is_not)?);
        let differs = self.binary(Binary::Ne, after, before)?;
        let change = self.binary(Binary::Sub, after, before)?;
        let (more, less) = (self.binary(Binary::Max, change, zero)?, self.binary(Binary::Min, change, zero)?);
        let (more, less) = (counted(self, more)?, counted(self, less)?);
        let less = self.unary(Unary::Neg, less)?;
        let moved = self.binary(Binary::Max, more, less)?;
        for (stat, of) in [
            (Stat::Changed, differs),
            (Stat::Before, before),
            (Stat::Chosen, was),
            (Stat::Entered, new),
            (Stat::Left, gone),
        ] {
            let sum = counted(self, of)?;
            self.receipt(edit, stat, sum)?;
        }
        self.receipt(edit, Stat::Moved, moved)?;
        Ok(())
    }

    /// What a value would be without these edits, everything else as it is.
    pub fn without(&mut self, value: NodeId, edits: &[EditId]) -> Result<NodeId, TypeError> {
        let of = |op: &Op| matches!(op, Op::Overlay { edit, .. } if edits.contains(edit));
        // What an edit is laid over stands before it, and what reads it behind it.
        let Some(first) = self.plan.nodes.iter().position(|n| of(&n.op)) else { return Ok(value) };
        let (mut reached, mut todo) = (BTreeSet::new(), vec![value]);
        while let Some(n) = todo.pop() {
            if n.0 as usize >= first && self.plan.node(n).op.body().is_none() && reached.insert(n) {
                self.plan.node(n).op.for_each_input(&mut |i| todo.push(i));
            }
        }
        let mut instead: HashMap<NodeId, NodeId> = HashMap::new();
        for n in reached {
            let Node { mut op, ty, layer, .. } = self.plan.node(n).clone();
            let mut other = false;
            op.for_each_input_mut(&mut |i| {
                if let Some(to) = instead.get(i) {
                    (*i, other) = (*to, true);
                }
            });
            let to = match op {
                Op::Overlay { edit, base, .. } if edits.contains(&edit) => base,
                op if other => {
                    let place = std::mem::replace(&mut self.layer, layer);
                    let copy = self.op(op, &ty);
                    self.layer = place;
                    copy?
                }
                _ => continue,
            };
            instead.insert(n, to);
        }
        Ok(instead.get(&value).copied().unwrap_or(value))
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
    pub(super) fn in_order_of(&mut self, a: NodeId, like: NodeId) -> Result<NodeId, TypeError> {
        let (have, want) = (self.ty(a), self.ty(like));
        if have.axes.len() != want.axes.len() || have.axes.iter().any(|x| want.position_of(&x.name).is_none()) {
            return Ok(a);
        }
        let names: Vec<Arc<str>> = want.axes.iter().map(|x| x.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|n| &**n).collect();
        self.permute(a, &names)
    }

    pub(super) fn not_nested(&self) -> Result<(), TypeError> {
        if self.open.is_empty() { Ok(()) } else { Err(TypeError::Nested) }
    }

    /// Nodes to come stand in a body that has ended: what is read of it from outside.
    pub fn reopen(&mut self, body: RegionId, attention: bool) {
        self.open.push((body, if attention { Body::Attention } else { Body::Scan }));
    }

    /// Ends what [`Builder::reopen`] began.
    pub fn close(&mut self) {
        self.open.pop();
    }

    fn open_body(&mut self, body: Body) -> Place {
        let id = RegionId(self.plan.regions.len() as u32);
        self.plan.regions.push(Region::default());
        self.open.push((id, body));
        (self.layer, self.span, self.origin_path.clone())
    }

    /// The owner belongs to the place where it was begun.
    fn close_body(&mut self, body: RegionId, place: Place, results: Vec<NodeId>) {
        self.plan.regions[body.0 as usize].results = results;
        self.open.pop();
        (self.layer, self.span, self.origin_path) = place;
    }
}
