//! Routes: statements about experts, as edits of the sites between a router and its gates.
//!
//! The body of a route is one text. At each site that some of its statements concern, these are what is evaluated there,
//! with the names and conditions that they need.

use super::eval::axes_of;
use super::index::Pick;
use super::model::Instance;
use super::scope::{Eval, Res, fail};
use super::stmt::scope_of;
use super::value::Value;
use crate::plan::{Axis, Binary, EditId, Elem, NodeId, Op, Reduce, Size, Type};
use std::collections::BTreeSet;
use std::sync::Arc;
use steer_lang::ast::{Block, Expr, ExprKind, Ident, Stmt, StmtKind, Verb};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// The sites of a mixture that a route works at, in the order in which the model computes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Router,
    Scores,
    Selection,
    TopK,
    Chosen,
    ChosenScores,
    Gates,
}

impl Stage {
    pub const ALL: [Stage; 7] =
        [Stage::Router, Stage::Scores, Stage::Selection, Stage::TopK, Stage::Chosen, Stage::ChosenScores, Stage::Gates];

    /// The last part of the site's name, and what a route calls its value.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Router => "router",
            Stage::Scores => "scores",
            Stage::Selection => "selection",
            Stage::TopK => "top_k",
            Stage::Chosen => "chosen",
            Stage::ChosenScores => "chosen_scores",
            Stage::Gates => "gates",
        }
    }

    pub fn named(name: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// The mixture and the stage of a site such as `blocks[3].moe.gates`.
pub fn stage_of(site: &str) -> Option<(&str, Stage)> {
    let (mixture, last) = site.rsplit_once('.')?;
    Some((mixture, Stage::named(last)?))
}

/// Where a statement about experts does something.
fn acts_at(verb: Verb, by: Option<&Expr>) -> &'static [Stage] {
    match (verb, by) {
        (Verb::Mask, _) => &[Stage::Router, Stage::Selection],
        (Verb::Drop | Verb::Mute, _) => &[Stage::Gates],
        (Verb::Force, None) | (Verb::Bias, _) => &[Stage::Selection],
        (Verb::Force, Some(_)) => &[Stage::Selection, Stage::ChosenScores],
    }
}

/// The sites that statements of a body concern.
pub fn stages(body: &Block) -> Vec<Stage> {
    Stage::ALL.into_iter().filter(|s| !at_stage(body, *s).stmts.is_empty()).collect()
}

/// The part of a body that is evaluated at one site.
pub fn at_stage(body: &Block, stage: Stage) -> Block {
    part(body, stage, &mut BTreeSet::new())
}

/// The same of one block; `needed` are the names that what follows reads.
fn part(block: &Block, stage: Stage, needed: &mut BTreeSet<String>) -> Block {
    let mut stmts: Vec<Stmt> = block.stmts.iter().rev().filter_map(|s| part_of(s, stage, needed)).collect();
    stmts.reverse();
    Block { stmts, span: block.span }
}

fn part_of(stmt: &Stmt, stage: Stage, needed: &mut BTreeSet<String>) -> Option<Stmt> {
    let reads = |needed: &mut BTreeSet<String>, e: &Expr| needed.extend(e.names().into_iter().map(str::to_owned));
    let kind = match &stmt.kind {
        StmtKind::Let(name, e) => {
            if !needed.contains(&name.name) {
                return None;
            }
            reads(needed, e);
            return Some(stmt.clone());
        }
        StmtKind::Assign { target, value, .. } => {
            let root = root(target)?;
            if root != stage.name() && !needed.contains(root) {
                return None;
            }
            reads(needed, target);
            reads(needed, value);
            return Some(stmt.clone());
        }
        StmtKind::Experts { verb, experts, by } => {
            if !acts_at(*verb, by.as_ref()).contains(&stage) {
                return None;
            }
            experts.iter().chain(by).for_each(|e| reads(needed, e));
            return Some(stmt.clone());
        }
        StmtKind::When { cond, then, otherwise } => {
            let (then, otherwise) = parts(then, otherwise.as_ref(), stage, needed)?;
            reads(needed, cond);
            StmtKind::When { cond: cond.clone(), then, otherwise }
        }
        StmtKind::Expr(Expr { kind: ExprKind::If { cond, then, otherwise }, span }) => {
            let (then, otherwise) = parts(then, otherwise.as_ref(), stage, needed)?;
            reads(needed, cond);
            StmtKind::Expr(Expr { kind: ExprKind::If { cond: cond.clone(), then, otherwise }, span: *span })
        }
        _ => return None,
    };
    Some(Stmt { kind, ..stmt.clone() })
}

fn parts(
    then: &Block,
    otherwise: Option<&Block>,
    stage: Stage,
    needed: &mut BTreeSet<String>,
) -> Option<(Block, Option<Block>)> {
    let otherwise = otherwise.map(|o| part(o, stage, needed));
    let then = part(then, stage, needed);
    let empty = then.stmts.is_empty() && otherwise.as_ref().is_none_or(|o| o.stmts.is_empty());
    (!empty).then_some((then, otherwise))
}

/// The name that an assignment is to.
fn root(target: &Expr) -> Option<&str> {
    match &target.kind {
        ExprKind::Name(n) => Some(n),
        ExprKind::Index(of, _) => root(of),
        _ => None,
    }
}

/// What a body says that no site could make sense of.
pub fn check_body(body: &Block) -> Res<()> {
    check_block(body, &mut Vec::new())
}

fn check_block(block: &Block, known: &mut Vec<String>) -> Res<()> {
    let outer = known.len();
    for s in &block.stmts {
        match &s.kind {
            StmtKind::Let(name, _) if Stage::named(&name.name).is_some() => {
                return Err(taken(name));
            }
            StmtKind::Let(name, _) => known.push(name.name.clone()),
            StmtKind::Assign { target, .. } => {
                let name = root(target).unwrap_or_default();
                if Stage::named(name).is_none() && !known.iter().any(|k| k == name) {
                    return Err(no_target(name, target.span));
                }
            }
            StmtKind::Experts { verb: verb @ (Verb::Mask | Verb::Drop | Verb::Mute), by: Some(by), .. } => {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{}` takes no `by`", verb.word()))
                        .at(by.span, "nothing is asked for here")
                        .help("`bias 3 by -1` makes a choice less likely; `gates[expert = 3] *= 0.5` makes a gate smaller"),
                ));
            }
            StmtKind::Experts { verb: Verb::Bias, by: None, .. } => {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_ARGUMENTS, "`bias` needs a number")
                        .at(s.span, "by how much?")
                        .help("write `bias 3 by 0.5`"),
                ));
            }
            StmtKind::Experts { .. } => {}
            StmtKind::When { then, otherwise, .. }
            | StmtKind::Expr(Expr { kind: ExprKind::If { then, otherwise, .. }, .. }) => {
                check_block(then, known)?;
                otherwise.iter().try_for_each(|o| check_block(o, known))?;
            }
            _ => {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, "this does nothing in a route")
                        .at(s.span, "a value that nothing reads")
                        .help("a route is made of `mask`, `drop`, `mute`, `force`, `bias`, of assignments such as `top_k = 1`, `let`, `when` and `if`"),
                ));
            }
        }
    }
    known.truncate(outer);
    Ok(())
}

/// The error for a name that is one of the mixture's values.
pub fn taken(name: &Ident) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` has a meaning of its own in routes", name.name))
            .at(name.span, "a site of the mixture")
            .help("give it another name"),
    )
}

/// The error for a value of the mixture that is computed only behind the site in hand.
pub fn too_early(name: &str, at: Stage, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::UNKNOWN_SITE, format!("`{name}` is computed behind `{}`", at.name()))
            .at(span, format!("what this decides acts on `{}`", at.name()))
            .help("`mask` acts on the logits already, `bias`, `force` and `top_k` behind the scores, `drop` and `mute` on the gates"),
    )
}

fn no_target(name: &str, span: Span) -> Box<Diagnostic> {
    let all = Stage::ALL.map(Stage::name);
    let what = if name == "h" { "a route has no `h`".to_owned() } else { format!("a route cannot assign to `{name}`") };
    Box::new(Diagnostic::error(codes::BAD_TARGET, what).at(span, "no site of the mixture").help(
        match nearest(name, all).filter(|_| name.len() > 1) {
            Some(n) => format!("did you mean `{n}`?"),
            None => format!("assign to {}", all.map(|n| format!("`{n}`")).join(", ")),
        },
    ))
}

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
            (Verb::Force, Stage::Selection) => self.num(f32::INFINITY)?,
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
                self.rebind(stage.name(), Value::Node(dropped));
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
        self.rebind(stage.name(), Value::Node(new));
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
                self.node(&x, by.span)
            }
            None => Ok(old),
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
        let i = super::index::entry(i, &axis.name, Some(size), span)?;
        Ok(self.layer.is_some_and(|l| f64::from(l) == real).then_some(i))
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
                named.insert(super::index::entry(n, &axis.name, Some(size), span)?);
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
                        .help("write `mask 3, 5`, `mask [[1, 5], [2, 5]]`, `mask scores < 0.1` or `mask top(10, relevance)`"),
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
