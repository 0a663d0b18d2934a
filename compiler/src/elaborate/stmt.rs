//! Statements of functions, hooks and model files.

use super::eval::{axes_of, dotted_path};
use super::index::Pick;
use super::routes::Stage;
use super::scope::{Eval, Res, dotted, fail};
use super::value::{Scope, Value};
use crate::plan::{Axis, Binary, Elem, NodeId, Size};
use std::collections::HashMap;
use steer_lang::ast::{AssignOp, BinaryOp, Block, Expr, ExprKind, IndexArg, Stmt, StmtKind};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// No axis has more entries.
const LARGEST: f64 = (1u64 << 31) as f64;

impl Eval<'_> {
    /// Runs the statements in the current scope; the value is the last one's.
    pub fn block(&mut self, block: &Block) -> Res<Value> {
        let mut value = Value::None;
        for stmt in &block.stmts {
            value = self.stmt(stmt)?;
        }
        Ok(value)
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) -> Res<Value> {
        self.b.span = stmt.span;
        match &stmt.kind {
            StmtKind::Let(name, value) => {
                let v = self.expr(value)?;
                self.bind(&name.name, v);
                Ok(Value::None)
            }
            StmtKind::Expr(e) => self.expr(e),
            StmtKind::Assign { target, op, value } => {
                self.assign(target, *op, value)?;
                Ok(Value::None)
            }
            StmtKind::When { cond, then, otherwise } => {
                self.when(cond, then, otherwise.as_ref())?;
                Ok(Value::None)
            }
            StmtKind::Experts { verb, experts, by } => {
                self.experts_stmt(*verb, experts, by.as_ref(), stmt.span)?;
                Ok(Value::None)
            }
            StmtKind::Require(cond, message) => match self.expr(cond)? {
                Value::Bool(true) => Ok(Value::None),
                Value::Bool(false) => {
                    let text = self.interpolate(&message.value, message.span)?;
                    fail(codes::REFUSED_CONFIG, text, cond.span, "this does not hold for the configuration")
                }
                other => {
                    fail(codes::WRONG_KIND, format!("a condition is wanted, not {}", other.kind()), cond.span, "this")
                }
            },
            StmtKind::Site { path, value } => {
                let v = self.expr(value)?;
                let node = self.node(&v, value.span)?;
                if let Some(seen) = self.lens {
                    let through = if !seen.norm && dotted(path) == "unembed.in" { seen.value } else { node };
                    self.bind(&dotted(path), Value::Node(through));
                    return Ok(Value::Node(through));
                }
                self.declare_site(&dotted(path), node, stmt.doc.as_deref(), stmt.span)
            }
            StmtKind::Write { path, value } => {
                let v = self.expr(value)?;
                let node = self.node(&v, value.span)?;
                self.write_site(&dotted(path), node, stmt.doc.as_deref(), stmt.span)
            }
            StmtKind::Axis(name, value) => {
                let v = self.expr(value)?;
                let n = self.size_of_config(&v, &format!("the axis `{}`", name.name), "entries", value.span)?;
                self.axes.insert(name.name.clone(), Size::Fixed(n));
                Ok(Value::None)
            }
            StmtKind::Blocks { var, start, end, under, body } => {
                self.blocks(&var.name, start, end, under, body, stmt.span)
            }
        }
    }

    /// A size that a model file takes from the configuration: how many `of` there are in `what`.
    pub fn size_of_config(&self, v: &Value, what: &str, of: &str, span: Span) -> Res<usize> {
        let refuse = |message: String| {
            Err(Box::new(
                Diagnostic::error(codes::REFUSED_CONFIG, message)
                    .at(span, "computed here from config.json")
                    .help("correct config.json, or check that it belongs to this architecture"),
            ))
        };
        match v {
            Value::Text(_) | Value::Bool(_) | Value::List(_) | Value::Object(..) | Value::None => {
                refuse(format!("{what} needs a number of {of}, and config.json gives {}", v.kind()))
            }
            _ => match self.number(v, span)? {
                n if n.fract() == 0.0 && (1.0..=LARGEST).contains(&n) => Ok(n as usize),
                n => refuse(format!("{what} would have {n} {of}")),
            },
        }
    }

    fn assign(&mut self, target: &Expr, op: AssignOp, value: &Expr) -> Res<()> {
        let (name, index): (&Expr, Option<&[IndexArg]>) = match &target.kind {
            ExprKind::Index(of, args) => (of, Some(args)),
            _ => (target, None),
        };
        let Some(ident) = dotted_path(name) else {
            return fail(codes::BAD_TARGET, "only a name can be assigned to", target.span, "this is no name");
        };
        let of_model = ident == "resid" && self.model.is_some() && self.hook.is_none();
        if of_model && op == AssignOp::Set && index.is_none() {
            return self.assign_stream(value);
        }
        if matches!(ident.as_str(), "h0" | "layer" | "token" | "position" | "resid") {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_TARGET, format!("`{ident}` can only be read"))
                    .at(target.span, "not assignable")
                    .help("a hook changes its site's value by assigning to `h`"),
            ));
        }
        let Some(old) = self.local(&ident).cloned() else {
            let mut d = self.unknown(&ident, target.span);
            if op == AssignOp::Set && index.is_none() {
                let near = self.scopes.iter().flat_map(|s| s.keys()).map(String::as_str);
                let near = nearest(&ident, near).map(|n| format!("; or did you mean `{n}`?"));
                d.help = Some(format!("a new name begins with `let`: `let {ident} = ...`{}", near.unwrap_or_default()));
            }
            if self.lookup(&ident, target.span).is_ok() {
                d = Box::new(
                    Diagnostic::error(codes::BAD_TARGET, format!("`{ident}` is no local name"))
                        .at(target.span, "not assignable")
                        .help(format!("start with `let {ident} = ...`, or assign to `h`")),
                );
            }
            return Err(d);
        };
        let rhs = self.expr(value)?;
        if op == AssignOp::Set && self.hook.as_ref().is_some_and(|h| h.stage == Some(Stage::TopK)) && ident == "top_k" {
            self.chooses(&rhs, value.span)?;
        }
        let (old_node, rhs_node) = (self.node(&old, target.span)?, self.node(&rhs, value.span)?);
        let new = match index {
            None => self.operate(op, old_node, rhs_node, value.span)?,
            Some(args) => self.assign_part(old_node, args, op, rhs_node, target.span, value.span)?,
        };
        let routed = self.hook.as_ref().and_then(|h| h.stage).is_some_and(|s| s.name() == ident);
        let new = if routed || ident == "h" { self.fit(new, old_node, value.span)? } else { new };
        match routed {
            true => self.route(new),
            false => drop(self.rebind(&ident, Value::Node(new))),
        }
        Ok(())
    }

    /// Another residual stream from here on, as behind the norm of a post-norm block.
    fn assign_stream(&mut self, value: &Expr) -> Res<()> {
        let v = self.expr(value)?;
        let mut node = self.node(&v, value.span)?;
        if let Some(old) = self.resid {
            node = self.fit(node, old, value.span)?;
        }
        self.resid = Some(node);
        Ok(())
    }

    fn operate(&mut self, op: AssignOp, old: NodeId, rhs: NodeId, span: Span) -> Res<NodeId> {
        let op = match op {
            AssignOp::Set => return Ok(rhs),
            AssignOp::Add => BinaryOp::Add,
            AssignOp::Sub => BinaryOp::Sub,
            AssignOp::Mul => BinaryOp::Mul,
            AssignOp::Div => BinaryOp::Div,
        };
        self.combine(op, old, rhs, span)
    }

    /// The new value of `h` brought to the axes of the old one: missing axes are repeated.
    pub fn fit(&mut self, new: NodeId, old: NodeId, span: Span) -> Res<NodeId> {
        let (want, have) = (self.plan().ty(old).clone(), self.plan().ty(new).clone());
        if want.axes == have.axes && have.per_row == want.per_row && have.elem != Elem::Bool {
            return Ok(new);
        }
        if let Some(extra) = have.axes.iter().find(|a| want.position_of(&a.name).is_none()) {
            let name = self.hook.as_ref().and_then(|h| h.stage).map_or("h", |s| s.name());
            return Err(Box::new(
                Diagnostic::error(
                    codes::AXIS_MISMATCH,
                    format!("the new value has the axis `{}`, which `{name}` lacks", extra.name),
                )
                .at(span, format!("this has {}", axes_of(&have)))
                .help(format!("`{name}` has {}; sum or index the other axis away", axes_of(&want))),
            ));
        }
        // Selecting with a constant repeats missing axes and keeps the order and type of `old`.
        let yes = self.b.spread(new, old);
        self.typed(yes, span)
    }

    fn assign_part(
        &mut self,
        old: NodeId,
        args: &[IndexArg],
        op: AssignOp,
        rhs: NodeId,
        target: Span,
        value: Span,
    ) -> Res<NodeId> {
        let picks = self.picks(old, args, target)?;
        let sliced = picks.iter().any(|(axis, pick, _)| {
            matches!(pick, Pick::Range(..)) && self.plan().ty(rhs).position_of(&axis.name).is_some()
        });
        if sliced {
            return self.assign_slice(old, picks, op, rhs, value);
        }
        let whole = self.operate(op, old, rhs, value)?;
        let whole = self.fit(whole, old, value)?;
        let mut mask: Option<NodeId> = None;
        for (axis, pick, at) in picks {
            let Some(hit) = self.hits(&axis, pick, at)? else { continue };
            mask = Some(match mask {
                None => hit,
                Some(m) => {
                    let both = self.b.binary(Binary::And, m, hit);
                    self.typed(both, at)?
                }
            });
        }
        let Some(mask) = mask else { return Ok(whole) };
        let result = self.b.select(mask, whole, old);
        self.typed(result, target)
    }

    /// Where along an axis an index hits; `None`: everywhere.
    pub(super) fn hits(&mut self, axis: &Axis, pick: Pick, span: Span) -> Res<Option<NodeId>> {
        let iota = self.iota(axis.clone())?;
        let compare = |s: &mut Self, op: Binary, n: f32| {
            let number = s.num(n)?;
            let r = s.b.binary(op, iota, number);
            s.typed(r, span)
        };
        Ok(Some(match pick {
            Pick::All => return Ok(None),
            Pick::At(i) => compare(self, Binary::Eq, i as f32)?,
            Pick::Range(lo, hi) => {
                let from = compare(self, Binary::Ge, lo as f32)?;
                if hi == usize::MAX {
                    from
                } else {
                    let to = compare(self, Binary::Lt, hi as f32)?;
                    let both = self.b.binary(Binary::And, from, to);
                    self.typed(both, span)?
                }
            }
            Pick::Many(entries) => {
                let mut any: Option<NodeId> = None;
                for i in entries {
                    let hit = compare(self, Binary::Eq, i as f32)?;
                    any = Some(match any {
                        None => hit,
                        Some(a) => {
                            let either = self.b.binary(Binary::Or, a, hit);
                            self.typed(either, span)?
                        }
                    });
                }
                match any {
                    Some(a) => a,
                    None => return fail(codes::EMPTY_SELECTION, "an empty list selects nothing", span, "empty"),
                }
            }
            Pick::Node(n) => {
                let r = self.b.binary(Binary::Eq, iota, n);
                self.typed(r, span)?
            }
        }))
    }

    /// `h[neuron = 0..4] = v` where `v` has entries of its own for that range.
    fn assign_slice(
        &mut self,
        old: NodeId,
        picks: Vec<(Axis, Pick, Span)>,
        op: AssignOp,
        rhs: NodeId,
        span: Span,
    ) -> Res<NodeId> {
        let [(axis, Pick::Range(lo, hi), _)] = &picks[..] else {
            return Err(Box::new(
                Diagnostic::error(
                    codes::BAD_TARGET,
                    "values of their own can be assigned to a range along one axis only",
                )
                .at(span, "several axes are indexed")
                .help("assign in two steps, or assign a single number"),
            ));
        };
        let (name, lo, hi) = (axis.name.clone(), *lo, *hi);
        let Size::Fixed(n) = axis.size else {
            return fail(
                codes::BAD_TARGET,
                "keys differ by row, so a range of them has no values of its own",
                span,
                "here",
            );
        };
        let part = self.b.slice(old, &name, lo, hi - lo);
        let part = self.typed(part, span)?;
        let new = self.operate(op, part, rhs, span)?;
        let mut whole = self.fit(new, part, span)?;
        if lo > 0 {
            let head = self.b.slice(old, &name, 0, lo);
            let head = self.typed(head, span)?;
            let joined = self.b.concat(head, whole, &name);
            whole = self.typed(joined, span)?;
        }
        if hi < n {
            let tail = self.b.slice(old, &name, hi, n - hi);
            let tail = self.typed(tail, span)?;
            let joined = self.b.concat(whole, tail, &name);
            whole = self.typed(joined, span)?;
        }
        Ok(whole)
    }

    /// `when` keeps both outcomes: what is assigned inside holds where the condition does.
    fn when(&mut self, cond: &Expr, then: &Block, otherwise: Option<&Block>) -> Res<()> {
        let c = self.expr(cond)?;
        if let Value::Bool(b) = c {
            if b {
                self.branch(then)?;
            } else if let Some(o) = otherwise {
                self.branch(o)?;
            }
            return Ok(());
        }
        let c = self.node(&c, cond.span)?;
        if self.plan().ty(c).elem != Elem::Bool {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "a condition is true or false, and this is a number")
                    .at(cond.span, format!("it has {}", axes_of(self.plan().ty(c))))
                    .help("compare it with something: `when dot(h, v) < 2.0`"),
            ));
        }
        let before = self.scopes.clone();
        self.branch(then)?;
        let after_then = std::mem::replace(&mut self.scopes, before.clone());
        if let Some(o) = otherwise {
            self.branch(o)?;
        }
        let after_else = std::mem::replace(&mut self.scopes, before.clone());
        for (level, scope) in before.iter().enumerate() {
            for name in scope.keys() {
                let (a, b) = (&after_then[level][name], &after_else[level][name]);
                let (Value::Node(a), Value::Node(b)) = (a, b) else { continue };
                if a == b {
                    continue;
                }
                let merged = self.merge(c, *a, *b, cond.span)?;
                self.scopes[level].insert(name.clone(), Value::Node(merged));
            }
        }
        Ok(())
    }

    fn merge(&mut self, cond: NodeId, a: NodeId, b: NodeId, span: Span) -> Res<NodeId> {
        let (ct, at) = (self.plan().ty(cond).clone(), self.plan().ty(a).clone());
        if let Some(axis) = ct.axes.iter().find(|x| at.position_of(&x.name).is_none()) {
            return Err(Box::new(
                Diagnostic::error(
                    codes::AXIS_MISMATCH,
                    format!("the condition differs along `{}`, which the assigned value lacks", axis.name),
                )
                .at(span, format!("this has {}", axes_of(&ct)))
                .help(format!(
                    "the assigned value has {}; reduce the condition, as with `max` or `mean`",
                    axes_of(&at)
                )),
            ));
        }
        let r = self.b.select(cond, a, b);
        self.typed(r, span)
    }
}

/// A scope with these names only.
pub fn scope_of<'n>(names: impl IntoIterator<Item = (&'n str, Value)>) -> Scope {
    names.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<HashMap<_, _>>()
}
