//! What statements about experts make of the values of a mixture, and what a route leaves behind.

use super::{Stage, at_stage, stage_of};
use crate::elaborate::eval::axes_of;
use crate::elaborate::index::Pick;
use crate::elaborate::model::Instance;
use crate::elaborate::scope::{Eval, Res, fail};
use crate::elaborate::script::Counts;
use crate::elaborate::stmt::scope_of;
use crate::elaborate::value::Value;
use crate::plan::{Axis, Binary, EditId, Elem, NodeId, Op, Reduce, Size, Type};
use std::collections::BTreeSet;
use std::sync::Arc;
use steer_lang::ast::{Block, Expr, ExprKind, Verb};
use steer_lang::{Diagnostic, Span, codes};

/// Experts that a statement names by number.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub edit: EditId,
    pub verb: Verb,
    pub experts: BTreeSet<usize>,
    pub of: usize,
    pub span: Span,
}

impl Eval<'_> {
    /// What a route makes of the value of one of its sites.
    pub fn route_value(&mut self, edit: EditId, instance: &Instance, body: &Block, base: NodeId) -> Res<NodeId> {
        let Some((mixture, stage)) = stage_of(&instance.site) else { return Ok(base) };
        let mut scope = scope_of([(stage.name(), Value::Node(base))]);
        for earlier in Stage::ALL.into_iter().take_while(|s| *s < stage) {
            let name = format!("{mixture}.{}", earlier.name());
            if let Some(site) = self.plan().sites.iter().rev().find(|s| s.name == name) {
                scope.insert(earlier.name().into(), Value::Node(site.value));
            }
        }
        scope.extend(self.edit_scope(edit, instance)?);
        self.reads_sites = true;
        let body = at_stage(body, stage);
        let value = self.isolated(vec![scope], |s| {
            s.block(&body)?;
            Ok(s.local(stage.name()).cloned())
        });
        self.reads_sites = false;
        match value? {
            Some(v) => self.node(&v, instance.span),
            None => Ok(base),
        }
    }

    /// `mask 3, 5`, `force 3 by max`: at the site in hand.
    pub fn experts_stmt(&mut self, verb: Verb, experts: &[Expr], by: Option<&Expr>, span: Span) -> Res<()> {
        let Some(stage) = self.hook.as_ref().and_then(|h| h.stage) else {
            return fail(codes::WRONG_KIND, format!("`{}` is for routes", verb.word()), span, "not here");
        };
        let Some(old) = self.local(stage.name()).cloned() else { return Ok(()) };
        let old = self.node(&old, span)?;
        let [axis] = &self.plan().ty(old).axes[..] else { return Ok(()) };
        let axis = axis.clone();
        let Some(hit) = self.experts(verb, experts, &axis, span)? else { return Ok(()) };
        let new = match (verb, stage) {
            (Verb::Mask, _) => self.num(f32::NEG_INFINITY)?,
            (Verb::Force, Stage::Selection) => {
                // What is masked stays so.
                let (never, always) = (self.num(f32::NEG_INFINITY)?, self.num(f32::INFINITY)?);
                let masked = self.b.binary(Binary::Eq, old, never);
                let masked = self.typed(masked, span)?;
                let chosen = self.b.select(masked, never, always);
                self.typed(chosen, span)?
            }
            (Verb::Force, _) => self.forced_score(by, old, &axis, span)?,
            (Verb::Bias, _) => {
                let Some(by) = by else { return Ok(()) };
                let x = self.expr(by)?;
                let x = self.node(&x, by.span)?;
                let sum = self.b.binary(Binary::Add, old, x);
                self.typed(sum, by.span)?
            }
            (Verb::Mute, _) => self.num(0.0)?,
            (Verb::Drop, _) => {
                let dropped = self.dropped(hit, old, &axis);
                let dropped = self.typed(dropped, span)?;
                self.route(dropped);
                return Ok(());
            }
        };
        let hit = match (verb, stage) {
            // More may be forced than there are choices.
            (Verb::Force, Stage::ChosenScores) => match self.local(Stage::Chosen.name()).cloned() {
                Some(chosen) => {
                    let (chosen, zero) = (self.node(&chosen, span)?, self.num(0.0)?);
                    let chosen = self.b.binary(Binary::Ne, chosen, zero);
                    let chosen = self.typed(chosen, span)?;
                    let both = self.b.binary(Binary::And, hit, chosen);
                    self.typed(both, span)?
                }
                None => hit,
            },
            _ => hit,
        };
        let new = self.b.select(hit, new, old);
        let new = self.typed(new, span)?;
        let new = self.fit(new, old, span)?;
        self.route(new);
        Ok(())
    }

    fn forced_score(&mut self, by: Option<&Expr>, old: NodeId, axis: &Axis, span: Span) -> Res<NodeId> {
        match by {
            Some(Expr { kind: ExprKind::Name(n), .. }) if n == "max" && self.local("max").is_none() => {
                let r = self.b.reduce(Reduce::Max, old, &[&axis.name]);
                self.typed(r, span)
            }
            Some(by) => {
                let x = self.expr(by)?;
                if let Some(n) = x.as_number().filter(|n| !matches!(x, Value::Param(..)) && (n.is_nan() || *n < 0.0)) {
                    return Err(Box::new(
                        Diagnostic::error(
                            codes::OUT_OF_RANGE,
                            format!("an expert cannot be chosen with the score {n}"),
                        )
                        .at(by.span, "no weight")
                        .help("gates are shares of the chosen experts' scores: give a number of at least 0"),
                    ));
                }
                self.node(&x, by.span)
            }
            None => Ok(old),
        }
    }

    /// Notes or checks how many experts a route chooses.
    pub fn chooses(&mut self, k: &Value, span: Span) -> Res<()> {
        let Some(Size::Fixed(entries)) = self.local(Stage::Selection.name()).and_then(|v| match v {
            Value::Node(n) => self.plan().ty(*n).axes.first().map(|a| a.size),
            _ => None,
        }) else {
            return Ok(());
        };
        match k {
            Value::Number(n) if n.fract() != 0.0 || !(1.0..=entries as f64).contains(n) => Err(Box::new(
                Diagnostic::error(codes::OUT_OF_RANGE, format!("{n} of {entries} experts cannot be chosen"))
                    .at(span, "this many")
                    .help(format!("give a whole number from 1 to {entries}; `mute` and `drop` switch experts off")),
            )),
            Value::Node(_) | Value::Param(..) => {
                let n = self.node(k, span)?;
                self.counts_from(n, Counts { axis: "expert".into(), first: 1, entries, span });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Gates without some, the others scaled so that the sum stays what it was. Where all are gone they are 0; where none
    /// is, the factor is 1 exactly.
    fn dropped(&mut self, hit: NodeId, gates: NodeId, axis: &Axis) -> Result<NodeId, crate::plan::TypeError> {
        let zero = self.b.number(0.0)?;
        let kept = self.b.select(hit, zero, gates)?;
        let (all, left) =
            (self.b.reduce(Reduce::Sum, gates, &[&axis.name])?, self.b.reduce(Reduce::Sum, kept, &[&axis.name])?);
        let none = self.b.binary(Binary::Eq, left, zero)?;
        let factor = self.b.binary(Binary::Div, all, left)?;
        let factor = self.b.select(none, zero, factor)?;
        self.b.binary(Binary::Mul, kept, factor)
    }

    /// Which experts are meant, as a condition over their axis; `None` where there are none.
    fn experts(&mut self, verb: Verb, experts: &[Expr], axis: &Axis, span: Span) -> Res<Option<NodeId>> {
        let Size::Fixed(size) = axis.size else { return Ok(None) };
        let mut named = BTreeSet::new();
        let mut any: Option<NodeId> = None;
        for e in experts {
            let v = self.expr(e)?;
            match &v {
                Value::List(items) => {
                    for item in items.iter() {
                        match item {
                            Value::List(pair) => {
                                if let Some(i) = self.expert_of_pair(pair, axis, size, e.span)? {
                                    named.insert(i);
                                }
                            }
                            item => self.one_expert(item, axis, size, &mut named, &mut any, e.span)?,
                        }
                    }
                }
                v => self.one_expert(v, axis, size, &mut named, &mut any, e.span)?,
            }
        }
        if !named.is_empty() {
            if any.is_none()
                && let (Some(edit), Some(m)) = (self.hook.as_ref().map(|h| h.edit), self.model.as_mut())
            {
                m.claims.push(Claim { edit, verb, experts: named.clone(), of: size, span });
            }
            let values: Arc<[f32]> = (0..size).map(|i| f32::from(u8::from(named.contains(&i)))).collect();
            let ty = Type { axes: vec![axis.clone()], elem: Elem::Bool, per_row: false };
            let table = self.b.op(Op::Table(values), &ty);
            let table = self.typed(table, span)?;
            self.either(&mut any, table, span)?;
        }
        Ok(any)
    }

    fn either(&mut self, any: &mut Option<NodeId>, hit: NodeId, span: Span) -> Res<()> {
        *any = Some(match *any {
            None => hit,
            Some(before) => {
                let r = self.b.binary(Binary::Or, before, hit);
                self.typed(r, span)?
            }
        });
        Ok(())
    }

    /// `[layer, expert]`, where this is that layer.
    fn expert_of_pair(&mut self, pair: &[Value], axis: &Axis, size: usize, span: Span) -> Res<Option<usize>> {
        let [layer, expert] = pair else {
            return Err(Box::new(
                Diagnostic::error(
                    codes::WRONG_KIND,
                    format!("an expert of a layer is a pair, and this has {} parts", pair.len()),
                )
                .at(span, "in this list")
                .help("write `[[1, 5], [2, 5]]` for expert 5 of layers 1 and 2"),
            ));
        };
        let layers = f64::from(self.model.as_ref().and_then(|m| m.layers).or(self.layers).unwrap_or(0));
        let n = self.number(layer, span)?;
        let real = if n < 0.0 { n + layers } else { n };
        if real.fract() != 0.0 || !(0.0..layers).contains(&real) {
            return fail(
                codes::OUT_OF_RANGE,
                format!("there is no layer {n}"),
                span,
                format!("the model has {layers} blocks"),
            );
        }
        let i = self.number(expert, span)?;
        let i = crate::elaborate::index::entry(i, &axis.name, Some(size), span)?;
        if !self.is_routed(real as u32) {
            return Err(Box::new(
                Diagnostic::error(codes::OUT_OF_RANGE, format!("this route is at no mixture of layer {n}"))
                    .at(span, format!("names expert {i} of layer {n}"))
                    .help("leave the pair out, or write the route at that layer, too: `at blocks[*].moe`"),
            ));
        }
        Ok(self.layer.is_some_and(|l| f64::from(l) == real).then_some(i))
    }

    /// Whether the route in hand is at a mixture of this layer.
    fn is_routed(&self, layer: u32) -> bool {
        let (Some(hook), Some(model)) = (&self.hook, &self.model) else { return true };
        let Some(mine) = model.instances.get(hook.edit.0 as usize) else { return true };
        let same = |i: &Instance| i.name == mine.name && i.span == mine.span;
        model.instances.iter().any(|i| same(i) && i.layer == Some(layer))
    }

    fn one_expert(
        &mut self,
        v: &Value,
        axis: &Axis,
        size: usize,
        named: &mut BTreeSet<usize>,
        any: &mut Option<NodeId>,
        span: Span,
    ) -> Res<()> {
        let node = match v {
            Value::Node(n) => *n,
            Value::Param(..) | Value::Tensor(_) => self.node(v, span)?,
            v => {
                let n = self.number(v, span)?;
                named.insert(crate::elaborate::index::entry(n, &axis.name, Some(size), span)?);
                return Ok(());
            }
        };
        let ty = self.plan().ty(node).clone();
        let hit = match (&ty.axes[..], ty.elem) {
            ([], Elem::F32 | Elem::Index) => {
                self.counts(node, &axis.name, Some(size), span);
                let hit = self.hits(axis, Pick::Node(node), span)?;
                hit.unwrap_or(node)
            }
            ([own], Elem::Bool) if own == axis => node,
            _ => {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, "experts are numbers, or a condition over `expert`")
                        .at(span, format!("this has {}", axes_of(&ty)))
                        .help("write `mask 3, 5`, `mask [[1, 5], [2, 5]]`, `drop scores < 0.1` or `mask top(10, relevance)`"),
                ));
            }
        };
        self.either(any, hit, span)
    }

    /// The receipts of the routes of a mixture, whose gates these are.
    pub fn route_receipts(&mut self, mixture: &str, gates: NodeId) -> Res<()> {
        let Some(instances) = self.model.as_ref().map(|m| m.instances) else { return Ok(()) };
        let of = |i: &Instance| stage_of(&i.site).filter(|(m, _)| i.is_route() && *m == mixture).map(|(_, s)| s);
        let mut slots: Vec<(usize, Vec<(Stage, EditId)>)> = Vec::new();
        for (at, i) in instances.iter().enumerate() {
            let Some(stage) = of(i) else { continue };
            let edit = EditId(at as u32);
            match slots.iter_mut().find(|(slot, _)| *slot == i.slot) {
                Some((_, parts)) => parts.push((stage, edit)),
                None => slots.push((i.slot, vec![(stage, edit)])),
            }
        }
        for (_, parts) in slots {
            let laid = |e: &EditId| {
                self.plan().nodes.iter().rev().any(|n| matches!(n.op, Op::Overlay { edit, .. } if edit == *e))
            };
            let last = parts.iter().filter(|(_, e)| laid(e)).max();
            let Some(&(_, edit)) = last else { continue };
            let edits: Vec<EditId> = parts.iter().map(|p| p.1).collect();
            let instance = &instances[edit.0 as usize];
            let [axis] = &self.plan().ty(gates).axes[..] else { continue };
            let axis = axis.name.clone();
            let (layer, span) = (self.b.layer, self.b.span);
            self.b.layer = instance.layer.or(layer);
            self.b.span = instance.span;
            self.b.enter(&instance.name);
            let before = self.b.without(gates, &edits);
            let done = before.and_then(|before| self.b.route_receipts(edit, &axis, before, gates));
            self.b.leave();
            (self.b.layer, self.b.span) = (layer, span);
            self.typed(done, instance.span)?;
        }
        Ok(())
    }
}
