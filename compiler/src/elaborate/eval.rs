//! Expressions: what the compiler computes itself, and what becomes nodes of the Plan.

use super::scope::{Eval, Res, fail, names};
use super::slotted::fill;
use super::value::{Closure, Value, from_json};
use crate::plan::{Axis, Binary, NodeId, Type, Unary};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use steer_lang::ast::{AxisPart, BinaryOp, Block, Expr, ExprKind, UnaryOp};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// Texts that are put together are not longer.
const LONGEST: usize = 1 << 20;

/// The error for a part that a record has not.
fn no_part(fields: &BTreeMap<String, Value>, name: &str, field: &str, span: Span) -> Box<Diagnostic> {
    let names = || fields.keys().map(String::as_str);
    Box::new(
        Diagnostic::error(codes::UNKNOWN_NAME, format!("`{name}` has no `{field}`")).at(span, "not in its files").help(
            match nearest(field, names()) {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("it has {}", names().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
            },
        ),
    )
}

impl Eval<'_> {
    pub fn expr(&mut self, e: &Expr) -> Res<Value> {
        match &e.kind {
            ExprKind::Number(n) => Ok(Value::Number(*n)),
            ExprKind::Text(t) => Ok(Value::text(&self.interpolate(t, e.span)?)),
            ExprKind::Bool(b) => Ok(Value::Bool(*b)),
            ExprKind::None => Ok(Value::None),
            ExprKind::Name(name) => match self.site_read(e)? {
                Some(v) => Ok(v),
                None => self.lookup(name, e.span),
            },
            ExprKind::Field(of, field) => self.field(e, of, &field.name, field.span),
            ExprKind::Index(of, args) => self.index(of, args, e.span),
            ExprKind::Call(callee, args) => match self.site_read(e)? {
                Some(v) => Ok(v),
                None => self.call(callee, args, e.span),
            },
            ExprKind::Unary(op, a) => self.unary_op(*op, a, e.span),
            ExprKind::Binary(op, a, b) => self.binary_op(*op, a, b, e.span),
            ExprKind::List(items) => {
                Ok(Value::List(Rc::new(items.iter().map(|i| self.expr(i)).collect::<Res<Vec<_>>>()?)))
            }
            ExprKind::Axes(parts) => self.axes_literal(parts),
            ExprKind::If { cond, then, otherwise } => {
                if self.condition(cond)? {
                    self.branch(then)
                } else if let Some(b) = otherwise {
                    self.branch(b)
                } else {
                    Ok(Value::None)
                }
            }
            ExprKind::Lambda(params, body) => Ok(Value::Closure(Rc::new(Closure {
                params: params.clone(),
                body: body.clone(),
                scopes: self.scopes.clone(),
            }))),
        }
    }

    /// A block in its own scope; its value is the last statement's.
    pub fn branch(&mut self, block: &Block) -> Res<Value> {
        self.nested(|s| s.block(block))
    }

    /// A condition that the compiler decides.
    fn condition(&mut self, cond: &Expr) -> Res<bool> {
        match self.expr(cond)? {
            Value::Bool(b) => Ok(b),
            Value::Absent(path) => Err(missing_key(&path, cond.span)),
            Value::Node(_) => Err(Box::new(
                Diagnostic::error(
                    codes::WRONG_KIND,
                    "`if` is decided before the model runs, and this is known only then",
                )
                .at(cond.span, "a value of the model")
                .help("use `when` in a hook, or `select(condition, a, b)`"),
            )),
            other => fail(
                codes::WRONG_KIND,
                format!("a condition is true or false, not {}", other.kind()),
                cond.span,
                "this",
            ),
        }
    }

    /// Replaces `{name}` and `{name.field}` by their values; a name that is an axis stays, for weights spread over files.
    pub fn interpolate(&mut self, text: &str, span: Span) -> Res<String> {
        let mut length = text.len();
        let out = fill(text, |name| {
            let value = match self.slot(name, span)? {
                Value::Text(t) => t.to_string(),
                Value::Axes(_) => return None,
                v => v.as_number()?.to_string(),
            };
            length += value.len();
            (length <= LONGEST).then_some(value)
        });
        match length > LONGEST {
            true => fail(codes::WRONG_KIND, "this text grows too long", span, "here"),
            false => Ok(out),
        }
    }

    /// What a slot of a text names, if it does.
    fn slot(&mut self, name: &str, span: Span) -> Option<Value> {
        let word = |w: &str| !w.is_empty() && w.chars().all(|c| c.is_alphanumeric() || c == '_');
        let mut parts = name.split('.');
        let first = parts.next().filter(|w| word(w))?;
        let mut value = self.lookup(first, span).ok()?;
        for field in parts {
            let Value::Object(fields, path) = &value else { return None };
            value = from_json(fields.get(field)?, &format!("{path}.{field}"));
        }
        Some(value)
    }

    fn field(&mut self, whole: &Expr, of: &Expr, field: &str, span: Span) -> Res<Value> {
        if let Some(v) = self.site_read(whole)? {
            return Ok(v);
        }
        // A dotted name such as `attn.q` is one name.
        if let Some(path) = dotted_path(whole) {
            if let Some(v) = self.local(&path) {
                return Ok(v.clone());
            }
            let root = path.split('.').next().unwrap_or_default();
            let known = self.local(root).is_some() || root == "config" || self.global(root, whole.span).is_some();
            if !known {
                return Err(self.unknown(&path, whole.span));
            }
        }
        match self.expr(of)? {
            Value::Object(map, path) => {
                if &*path == "config"
                    && let Some(m) = self.model.as_mut()
                {
                    m.configured.insert(field.to_owned());
                }
                let at = format!("{path}.{field}");
                Ok(map.get(field).map_or(Value::Absent(at.as_str().into()), |v| from_json(v, &at)))
            }
            Value::Absent(path) => Ok(Value::Absent(format!("{path}.{field}").into())),
            Value::None => Ok(Value::Absent(field.into())),
            Value::Data(name) => Ok(Value::Data(format!("{name}.{field}").into())),
            Value::Record(fields, name) => {
                fields.get(field).cloned().ok_or_else(|| no_part(&fields, &name, field, span))
            }
            other => fail(codes::WRONG_KIND, format!("{} has no fields", other.kind()), span, "no such field"),
        }
    }

    fn axes_literal(&mut self, parts: &[AxisPart]) -> Res<Value> {
        let mut axes = Vec::new();
        for part in parts {
            if let Some(size) = &part.size {
                let n = self.count(size)?;
                axes.push(Axis::new(&part.name.name, n));
            } else {
                match self.lookup(&part.name.name, part.name.span)? {
                    Value::Axes(a) => axes.extend(a.iter().cloned()),
                    other => {
                        return fail(
                            codes::WRONG_KIND,
                            format!("`{}` is {}, not an axis", part.name.name, other.kind()),
                            part.name.span,
                            "an axis is wanted here",
                        );
                    }
                }
            }
        }
        Ok(Value::Axes(Rc::new(axes)))
    }

    /// A whole number of at least 0 that the compiler knows.
    pub fn count(&mut self, e: &Expr) -> Res<usize> {
        let v = self.expr(e)?;
        let n = self.number(&v, e.span)?;
        if n < 0.0 || n.fract() != 0.0 || n > 1e15 {
            return fail(
                codes::WRONG_KIND,
                format!("{n} is no count"),
                e.span,
                "a whole number of at least 0 is wanted",
            );
        }
        Ok(n as usize)
    }

    /// A number that the compiler knows.
    pub fn number(&self, v: &Value, span: Span) -> Res<f64> {
        match v {
            Value::Absent(path) => Err(missing_key(path, span)),
            Value::Node(_) => Err(Box::new(
                Diagnostic::error(
                    codes::WRONG_KIND,
                    "the compiler needs a number here, and this is known only when the model runs",
                )
                .at(span, "a value of the model"),
            )),
            other => match other.as_number() {
                Some(n) => Ok(n),
                None => fail(codes::WRONG_KIND, format!("a number is wanted, not {}", other.kind()), span, "this"),
            },
        }
    }

    /// The value as a node; numbers, parameters and tensors become one.
    pub fn node(&mut self, v: &Value, span: Span) -> Res<NodeId> {
        match v {
            Value::Node(n) => Ok(*n),
            Value::Number(n) if n.is_finite() && !(*n as f32).is_finite() => Err(Box::new(
                Diagnostic::error(codes::NOT_FINITE, format!("{n:e} is larger than values of a model can be"))
                    .at(span, "too large")
                    .help(format!("the largest is about {:.1e}", f32::MAX)),
            )),
            Value::Number(n) => self.num(*n as f32),
            Value::Bool(x) => {
                let r = self.b.boolean(*x);
                self.typed(r, span)
            }
            Value::Layer(_) => {
                let r = self.b.layer_index();
                self.typed(r, span)
            }
            Value::Param(name, value) => self.param_node(name, *value),
            Value::Tensor(name) => self.tensor_node(name, None, span),
            Value::Axes(_) | Value::Block(_) => {
                let n = self.number(v, span)?;
                self.num(n as f32)
            }
            Value::Absent(path) => Err(missing_key(path, span)),
            other => fail(codes::WRONG_KIND, format!("{} cannot be computed with", other.kind()), span, "this"),
        }
    }

    /// A parameter of the script in row code: a slot of the edit, so that its value is data of a run.
    fn param_node(&mut self, name: &str, value: f64) -> Res<NodeId> {
        let Some((edit, own)) = self.hook.as_ref().map(|h| (h.edit, h.own)) else { return self.num(value as f32) };
        let params = &mut self.b.plan.edits[edit.0 as usize].params;
        let slot = params[own..].iter().position(|p| p == name).map(|at| own + at).unwrap_or_else(|| {
            params.push(name.to_owned());
            params.len() - 1
        });
        let r = self.b.param(edit, slot as u32);
        self.typed(r, self.b.span)
    }

    /// A tensor of the script, of a family the one of a layer.
    pub fn tensor_node(&mut self, name: &str, layer: Option<u32>, span: Span) -> Res<NodeId> {
        let Some(ty) = self.tensors.get(name) else { return Err(self.unknown(name, span)) };
        let full = match (ty.family, layer) {
            (true, Some(l)) if !ty.layers.contains(&l) => {
                let there: Vec<String> = ty.layers.iter().map(u32::to_string).collect();
                return Err(Box::new(
                    Diagnostic::error(codes::OUT_OF_RANGE, format!("`{name}` has no value for layer {l}"))
                        .at(span, "there is none for this block")
                        .help(format!("it has the layers {}", there.join(", "))),
                ));
            }
            (true, Some(l)) => format!("{name}[{l}]"),
            (false, None) => name.to_owned(),
            (true, None) => {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, format!("`{name}` has one value for every layer"))
                        .at(span, "which layer?")
                        .help(format!("write `{name}[layer]`, or `{name}[3]` for the one of layer 3")),
                ));
            }
            (false, Some(_)) => {
                return fail(
                    codes::WRONG_KIND,
                    format!("`{name}` is not one value for every layer"),
                    span,
                    "no index wanted",
                );
            }
        };
        let axes = ty.axes.clone();
        {
            let r = self.b.tensor(&full, axes);
            self.typed(r, span)
        }
    }

    /// A parameter of the script as a number, but in hooks, where it is data of a run.
    pub fn settled(&self, v: Value) -> Value {
        match v {
            Value::Param(_, n) if self.hook.is_none() => Value::Number(n),
            v => v,
        }
    }

    fn unary_op(&mut self, op: UnaryOp, a: &Expr, span: Span) -> Res<Value> {
        let v = self.expr(a)?;
        let v = self.settled(v);
        match (op, &v) {
            (UnaryOp::Not, Value::Bool(b)) => Ok(Value::Bool(!b)),
            (UnaryOp::Not, _) => {
                let n = self.node(&v, a.span)?;
                let r = self.b.unary(Unary::Not, n);
                Ok(Value::Node(self.typed(r, span)?))
            }
            (UnaryOp::Neg, Value::Number(n)) => Ok(Value::Number(-n)),
            (UnaryOp::Neg, _) => {
                let n = self.node(&v, a.span)?;
                let r = self.b.unary(Unary::Neg, n);
                Ok(Value::Node(self.typed(r, span)?))
            }
        }
    }

    fn binary_op(&mut self, op: BinaryOp, a: &Expr, b: &Expr, span: Span) -> Res<Value> {
        let x = self.expr(a)?;
        match (op, &x) {
            (BinaryOp::Else, Value::Absent(_) | Value::None) => return self.expr(b),
            (BinaryOp::Else, _) => return Ok(x),
            (BinaryOp::And, Value::Bool(false)) | (BinaryOp::Or, Value::Bool(true)) => return Ok(x),
            _ => {}
        }
        let y = self.expr(b)?;
        let (x, y) = (self.settled(x), self.settled(y));
        // What is not there is not equal to anything, and not unequal.
        for (v, at) in [(&x, a.span), (&y, b.span)] {
            if let Value::Absent(path) = v {
                return Err(missing_key(path, at));
            }
        }
        if let (Value::Node(_), Value::Text(_)) | (Value::Text(_), Value::Node(_)) = (&x, &y) {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "a number of a row is no text")
                    .at(span, "compares them")
                    .help("rows of certain words are selected by `on matching \"...\"`, tokens by their numbers"),
            ));
        }
        if let Some(v) = fold(op, &x, &y) {
            return Ok(v);
        }
        if op == BinaryOp::Rem {
            return fail(
                codes::WRONG_KIND,
                "`%` is for numbers that the compiler knows",
                span,
                "known only when the model runs",
            );
        }
        if let Value::Chat(_) = &y {
            // What stands before it is not at fault.
            self.node(&y, b.span)?;
        }
        let (l, r) = (self.node(&x, a.span)?, self.node(&y, b.span)?);
        Ok(Value::Node(self.combine(op, l, r, span)?))
    }

    pub fn combine(&mut self, op: BinaryOp, l: NodeId, r: NodeId, span: Span) -> Res<NodeId> {
        let op = match op {
            BinaryOp::Or => Binary::Or,
            BinaryOp::And => Binary::And,
            BinaryOp::Lt => Binary::Lt,
            BinaryOp::Le => Binary::Le,
            BinaryOp::Gt => Binary::Gt,
            BinaryOp::Ge => Binary::Ge,
            BinaryOp::Eq => Binary::Eq,
            BinaryOp::Ne => Binary::Ne,
            BinaryOp::Add => Binary::Add,
            BinaryOp::Sub => Binary::Sub,
            BinaryOp::Mul => Binary::Mul,
            BinaryOp::Div => Binary::Div,
            BinaryOp::Pow => Binary::Pow,
            BinaryOp::MatMul => return self.matmul(l, r, span),
            BinaryOp::Rem | BinaryOp::Else => {
                return fail(codes::WRONG_KIND, "this operator is for numbers that the compiler knows", span, "here");
            }
        };
        let result = self.b.binary(op, l, r);
        self.typed(result, span)
    }

    /// `W @ h`: a product over the axes that a tensor without rows shares with a row value.
    fn matmul(&mut self, l: NodeId, r: NodeId, span: Span) -> Res<NodeId> {
        let (w, x) = match (self.plan().ty(l).per_row, self.plan().ty(r).per_row) {
            (false, _) => (l, r),
            (true, false) => (r, l),
            (true, true) => {
                return Err(Box::new(
                    Diagnostic::error(
                        codes::WRONG_KIND,
                        "`@` is a product with a loaded tensor, and both sides are values of the model",
                    )
                    .at(span, "no tensor here")
                    .help("use `dot(a, b)`, or `sum(a * b, axis)` to name the axis summed over"),
                ));
            }
        };
        let shared = self.shared_axes(x, w);
        if shared.is_empty() {
            return Err(self.nothing_shared("a product", l, r, span));
        }
        let result = self.b.linear(x, w, &names(&shared), None);
        self.typed(result, span)
    }

    /// The error for two values without an axis to sum over.
    pub fn nothing_shared(&self, what: &str, l: NodeId, r: NodeId, span: Span) -> Box<Diagnostic> {
        let (x, y) = (self.plan().ty(l), self.plan().ty(r));
        Box::new(
            Diagnostic::error(codes::AXIS_MISMATCH, format!("{what} needs an axis that both sides have"))
                .at(span, format!("the left side has {}, the right side {}", axes_of(x), axes_of(y)))
                .help("load or derive the vector with the site's axes, or index the site first"),
        )
    }

    /// The names of the axes that two values share.
    pub fn shared_axes(&self, a: NodeId, b: NodeId) -> Vec<Arc<str>> {
        let right = self.plan().ty(b);
        self.plan().ty(a).axes.iter().filter(|x| right.position_of(&x.name).is_some()).map(|x| x.name.clone()).collect()
    }
}

pub fn missing_key(path: &str, span: Span) -> Box<Diagnostic> {
    let Some(key) = path.strip_prefix("config.") else {
        let d = Diagnostic::error(codes::UNKNOWN_NAME, format!("{path} is not there"));
        return Box::new(d.at(span, "no such field"));
    };
    Box::new(
        Diagnostic::error(codes::MISSING_KEY, format!("config.json has no `{key}`"))
            .at(span, "the model file needs it here")
            .help("add the key to config.json, or give a default in the model file with `??`"),
    )
}

/// The axes of a value, in a sentence.
pub fn axes_of(ty: &Type) -> String {
    if ty.axes.is_empty() { "no axes".into() } else { format!("the axes {ty}") }
}

/// `a.b.c` as one name.
pub fn dotted_path(e: &Expr) -> Option<String> {
    match &e.kind {
        ExprKind::Name(n) => Some(n.clone()),
        ExprKind::Field(of, f) => Some(format!("{}.{}", dotted_path(of)?, f.name)),
        _ => None,
    }
}

/// An operation on values that the compiler knows.
fn fold(op: BinaryOp, a: &Value, b: &Value) -> Option<Value> {
    match (a, b) {
        (Value::Text(x), Value::Text(y)) => match op {
            BinaryOp::Eq => return Some(Value::Bool(x == y)),
            BinaryOp::Ne => return Some(Value::Bool(x != y)),
            BinaryOp::Add if x.len() + y.len() <= LONGEST => return Some(Value::text(&format!("{x}{y}"))),
            _ => return None,
        },
        (Value::Bool(x), Value::Bool(y)) => match op {
            BinaryOp::Eq => return Some(Value::Bool(x == y)),
            BinaryOp::Ne => return Some(Value::Bool(x != y)),
            BinaryOp::And => return Some(Value::Bool(*x && *y)),
            BinaryOp::Or => return Some(Value::Bool(*x || *y)),
            _ => {}
        },
        (Value::None, Value::None) if op == BinaryOp::Eq => return Some(Value::Bool(true)),
        (Value::None, Value::None) if op == BinaryOp::Ne => return Some(Value::Bool(false)),
        (Value::None, _) | (_, Value::None) => match op {
            BinaryOp::Eq => return Some(Value::Bool(false)),
            BinaryOp::Ne => return Some(Value::Bool(true)),
            _ => {}
        },
        (Value::Text(_), _) | (_, Value::Text(_)) => match op {
            BinaryOp::Eq => return Some(Value::Bool(false)),
            BinaryOp::Ne => return Some(Value::Bool(true)),
            _ => {}
        },
        _ => {}
    }
    // In row code a parameter is data of a run; only plain numbers are folded.
    let known = |v: &Value| match v {
        Value::Number(_) | Value::Layer(_) | Value::Block(_) | Value::Axes(_) => v.as_number(),
        _ => None,
    };
    let (x, y) = (known(a)?, known(b)?);
    Some(match op {
        BinaryOp::Lt => Value::Bool(x < y),
        BinaryOp::Le => Value::Bool(x <= y),
        BinaryOp::Gt => Value::Bool(x > y),
        BinaryOp::Ge => Value::Bool(x >= y),
        BinaryOp::Eq => Value::Bool(x == y),
        BinaryOp::Ne => Value::Bool(x != y),
        BinaryOp::Add => Value::Number(x + y),
        BinaryOp::Sub => Value::Number(x - y),
        BinaryOp::Mul => Value::Number(x * y),
        BinaryOp::Div => Value::Number(x / y),
        BinaryOp::Rem => Value::Number(x.rem_euclid(y)),
        BinaryOp::Pow => Value::Number(x.powf(y)),
        _ => return None,
    })
}
