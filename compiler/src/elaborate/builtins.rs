//! The language's own functions in row code and in the compiler's arithmetic.

use super::call::Args;
use super::direct::DIRECT;
use super::model::Longest;
use super::scope::{Eval, Res, fail, names};
use super::value::{Closure, Value};
use crate::plan::{Axis, Binary, NodeId, Op, Reduce, Size, Unary};
use std::rc::Rc;
use std::sync::Arc;
use steer_lang::{Diagnostic, Span, codes};

/// A table holds at most this many numbers.
const TABLE: usize = 1 << 16;

impl Eval<'_> {
    /// `None` where there is no such function.
    pub fn builtin(&mut self, name: &str, args: &mut Args) -> Res<Option<Value>> {
        let span = args.span;
        if let Some(op) = unary_named(name) {
            let (v, at) = args.need(0, "x")?;
            if let Value::Number(n) = v {
                return Ok(Some(Value::Number(f64::from(op.apply(n as f32)))));
            }
            let x = self.node(&v, at)?;
            let r = self.b.unary(op, x);
            return Ok(Some(Value::Node(self.typed(r, span)?)));
        }
        let value = match name {
            "floor" | "ceil" => {
                let (v, at) = args.need(0, "x")?;
                if let (Value::Node(x), "floor") = (&v, name) {
                    let r = self.b.unary(Unary::Floor, *x);
                    Value::Node(self.typed(r, span)?)
                } else {
                    let n = self.number(&v, at)?;
                    Value::Number(if name == "floor" { n.floor() } else { n.ceil() })
                }
            }
            "min" | "max" => return self.extremum(name, args, span).map(Some),
            "sum" => self.reduction(Reduce::Sum, args, span)?,
            "mean" => match self.derived_leaf(name, args)? {
                Some(v) => v,
                None => self.mean(args, span)?,
            },
            "pca" => match self.derived_leaf(name, args)? {
                Some(v) => v,
                None => {
                    return Err(Box::new(
                        Diagnostic::error(codes::WRONG_KIND, "`pca` is over the rows of a data set")
                            .at(span, "no data set here")
                            .help("declare it: `vector v = pca(data) at blocks[3].resid.post on prompt[-1]`"),
                    ));
                }
            },
            "total" => match self.derived_leaf(name, args)? {
                Some(v) => v,
                None => {
                    return fail(codes::WRONG_KIND, "`total` is over the rows of a data set", span, "no data set here");
                }
            },
            "top" | "bottom" | "random" => self.among(args)?,
            "argmax" => self.reduction(Reduce::ArgMax, args, span)?,
            "norm" => {
                let (x, at) = self.arg_node(args, 0, "x")?;
                let over = self.over(args, x, 1)?;
                let squared = self.b.reduce(Reduce::SumSq, x, &names(&over));
                let squared = self.typed(squared, at)?;
                let r = self.b.unary(Unary::Sqrt, squared);
                Value::Node(self.typed(r, span)?)
            }
            "dot" => self.dot(args, span)?,
            "top_k" => {
                let (of, _) = self.arg_node(args, 0, "x")?;
                let (axis, at) = args.need(1, "axis")?;
                let axis = single_axis(&axis, at)?;
                let (k, at) = args.need(2, "k")?;
                let known = match &k {
                    Value::Node(n) => match self.plan().node(*n).op {
                        Op::Number(k) => Some(f64::from(k)),
                        _ => None,
                    },
                    k => k.as_number(),
                };
                if let Some(n) = known.filter(|n| *n < 0.0 || n.fract() != 0.0) {
                    return fail(
                        codes::WRONG_KIND,
                        format!("`top_k` takes a whole number of entries, not {n}"),
                        at,
                        "this",
                    );
                }
                let k = self.node(&k, at)?;
                let r = self.b.top_k(of, &axis.name, k);
                Value::Node(self.typed(r, span)?)
            }
            "select" => {
                let (c, _) = self.arg_node(args, 0, "condition")?;
                let (a, _) = self.arg_node(args, 1, "a")?;
                let (b, _) = self.arg_node(args, 2, "b")?;
                let r = self.b.select(c, a, b);
                Value::Node(self.typed(r, span)?)
            }
            "concat" => {
                let (a, _) = self.arg_node(args, 0, "a")?;
                let (b, _) = self.arg_node(args, 1, "b")?;
                let (axis, at) = args.need(2, "axis")?;
                let axis = single_axis(&axis, at)?;
                let r = self.b.concat(a, b, &axis.name);
                Value::Node(self.typed(r, span)?)
            }
            "rename" => self.rename(args, span)?,
            "axes" => {
                let (x, _) = self.arg_node(args, 0, "x")?;
                Value::Axes(Rc::new(self.plan().ty(x).axes.clone()))
            }
            // In a direct effect the last norm keeps the scale that it has in the model itself.
            "held" => {
                let (x, _) = self.arg_node(args, 0, "x")?;
                Value::Node(self.lens.and_then(|seen| seen.held).unwrap_or(x))
            }
            DIRECT => {
                let (x, _) = self.arg_node(args, 0, "x")?;
                let (token, at) = args.need(1, "token")?;
                let token = self.number(&token, at)?;
                Value::Node(self.direct_logit(x, token as u32, span)?)
            }
            "size" => self.size(args)?,
            "index" => {
                let (axis, at) = args.need(0, "axis")?;
                match axis {
                    Value::Node(x) => self.number_of_elements(x, span)?,
                    axis => Value::Node(self.iota(single_axis(&axis, at)?)?),
                }
            }
            "weight" => self.weight(args, span)?,
            "stored" => self.stored(args)?,
            "given" => Value::Bool(!matches!(args.need(0, "key")?, (Value::Absent(_), _))),
            "linear" => self.linear(args, span)?,
            "lookup" => {
                let (table, _) = self.arg_node(args, 0, "table")?;
                let (index, _) = self.arg_node(args, 1, "index")?;
                let r = self.b.lookup(table, index);
                Value::Node(self.typed(r, span)?)
            }
            "conv1d" => {
                let (x, _) = self.arg_node(args, 0, "x")?;
                let (w, _) = self.arg_node(args, 1, "taps")?;
                match args.get(2, "window") {
                    Some((body, at)) => self.convolve(x, w, body, at, span)?,
                    None => {
                        let r = self.b.conv1d(x, w);
                        Value::Node(self.typed(r, span)?)
                    }
                }
            }
            "attend" => self.attend(args, span)?,
            "scan" => self.scan(args, span)?,
            "table" => self.table(args, span)?,
            "longest" => self.longest(args)?,
            "forbid" => self.forbid(args)?,
            "load" => {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, "`load` reads a file into a declared tensor")
                        .at(span, "not here")
                        .help(
                            "declare it at the top level: `vector v: [d_model] = load(\"file.safetensors\", \"key\")`",
                        ),
                ));
            }
            "fail" => {
                let (v, at) = args.need(0, "message")?;
                let Value::Text(text) = v else {
                    return fail(codes::WRONG_KIND, "`fail` takes a text", at, "this is none");
                };
                return fail(codes::REFUSED_CONFIG, &*text, span, "refused here");
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// The number of each element of a value, counted through its axes in their order.
    fn number_of_elements(&mut self, x: NodeId, span: Span) -> Res<Value> {
        let axes = self.plan().ty(x).axes.clone();
        let mut all: Option<NodeId> = None;
        for axis in axes {
            let Size::Fixed(n) = axis.size else {
                return fail(codes::WRONG_KIND, "elements along keys have no numbers", span, "this has the axis `key`");
            };
            let own = self.iota(axis)?;
            all = Some(match all {
                None => own,
                Some(before) => {
                    let n = self.b.number(n as f32);
                    let n = self.typed(n, span)?;
                    let scaled = self.b.binary(Binary::Mul, before, n);
                    let scaled = self.typed(scaled, span)?;
                    let sum = self.b.binary(Binary::Add, scaled, own);
                    self.typed(sum, span)?
                }
            });
        }
        Ok(all.map_or(Value::Number(0.0), Value::Node))
    }

    /// The axes of an argument `over`, or all that `x` has.
    fn over(&mut self, args: &mut Args, x: NodeId, place: usize) -> Res<Vec<Arc<str>>> {
        let all: Vec<Arc<str>> = self.plan().ty(x).axes.iter().map(|a| a.name.clone()).collect();
        match args.get(place, "over") {
            None | Some((Value::None, _)) => Ok(all),
            Some((Value::Axes(axes), _)) => Ok(axes.iter().map(|a| a.name.clone()).collect()),
            Some((Value::List(items), at)) => {
                let mut names = Vec::new();
                for i in items.iter() {
                    names.push(single_axis(i, at)?.name);
                }
                Ok(names)
            }
            Some((other, at)) => {
                fail(codes::WRONG_KIND, format!("an axis is wanted, not {}", other.kind()), at, "this")
            }
        }
    }

    fn reduction(&mut self, op: Reduce, args: &mut Args, span: Span) -> Res<Value> {
        let (x, _) = self.arg_node(args, 0, "x")?;
        let over = self.over(args, x, 1)?;
        if over.is_empty() {
            return Ok(Value::Node(x));
        }
        let r = self.b.reduce(op, x, &names(&over));
        Ok(Value::Node(self.typed(r, span)?))
    }

    fn mean(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (x, _) = self.arg_node(args, 0, "x")?;
        let over = self.over(args, x, 1)?;
        if over.is_empty() {
            return Ok(Value::Node(x));
        }
        let r = self.b.mean(x, &names(&over));
        Ok(Value::Node(self.typed(r, span)?))
    }

    fn extremum(&mut self, name: &str, args: &mut Args, span: Span) -> Res<Value> {
        let (x, at) = args.need(0, "x")?;
        let second = args.get(1, "over");
        let (reduce, binary) = if name == "min" { (Reduce::Min, Binary::Min) } else { (Reduce::Max, Binary::Max) };
        match second {
            Some((y, at2)) if !matches!(y, Value::Axes(_) | Value::None | Value::List(_)) => {
                if let (Value::Number(a), Value::Number(b)) = (&x, &y) {
                    return Ok(Value::Number(if name == "min" { a.min(*b) } else { a.max(*b) }));
                }
                let (a, b) = (self.node(&x, at)?, self.node(&y, at2)?);
                let r = self.b.binary(binary, a, b);
                Ok(Value::Node(self.typed(r, span)?))
            }
            _ => self.reduction(reduce, args, span),
        }
    }

    fn dot(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (a, _) = self.arg_node(args, 0, "a")?;
        let (b, _) = self.arg_node(args, 1, "b")?;
        let shared = self.shared_axes(a, b);
        if shared.is_empty() {
            return Err(self.nothing_shared("a dot product", a, b, span));
        }
        let over = match args.get(2, "over") {
            Some((Value::Axes(axes), _)) => axes.iter().map(|a| a.name.clone()).collect(),
            _ => shared,
        };
        let product = self.b.binary(Binary::Mul, a, b);
        let product = self.typed(product, span)?;
        let r = self.b.reduce(Reduce::Sum, product, &names(&over));
        Ok(Value::Node(self.typed(r, span)?))
    }

    /// One axis under another name, or taken apart into several; or several as one.
    fn rename(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (x, _) = self.arg_node(args, 0, "x")?;
        let (from, at) = args.need(1, "from")?;
        let (to, at2) = args.need(2, "to")?;
        let r = match (&from, &to) {
            (Value::Axes(several), _) if several.len() > 1 => {
                let names: Vec<&str> = several.iter().map(|a| &*a.name).collect();
                self.b.merge(x, &names, &name_of(&to, at2)?)
            }
            (_, Value::Axes(several)) if several.len() > 1 => self.b.split(x, &name_of(&from, at)?, several),
            _ => self.b.rename(x, &name_of(&from, at)?, &name_of(&to, at2)?),
        };
        Ok(Value::Node(self.typed(r, span)?))
    }

    /// `size(axis)`, `size(x, axis)` of a value that has it, or `size(list)`.
    fn size(&mut self, args: &mut Args) -> Res<Value> {
        let (v, at) = args.need(0, "x")?;
        if let Value::List(items) = &v {
            return Ok(Value::Number(items.len() as f64));
        }
        if let (Value::Node(x), Some((axis, at2))) = (&v, args.get(1, "axis")) {
            let axis = single_axis(&axis, at2)?;
            let ty = self.plan().ty(*x);
            return match ty.position_of(&axis.name).map(|i| ty.axes[i].size) {
                Some(Size::Fixed(n)) => Ok(Value::Number(n as f64)),
                _ => fail(
                    codes::UNKNOWN_AXIS,
                    format!("this value has no axis `{}`", axis.name),
                    at2,
                    format!("its axes are {ty}"),
                ),
            };
        }
        Ok(Value::Number(self.number(&v, at)?))
    }

    fn weight(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        if self.model.is_none() || self.hook.is_some() {
            return fail(codes::UNKNOWN_FUNCTION, "`weight` is for model files", span, "not here");
        }
        let (name, at) = args.need(0, "name")?;
        let Value::Text(name) = name else {
            return fail(codes::WRONG_KIND, "the name of a tensor is a text", at, "this is none");
        };
        let (dims, at) = args.need(1, "axes")?;
        let Value::List(items) = dims else {
            return fail(
                codes::WRONG_KIND,
                "the axes of a tensor are a list, as in `[vocab, d_model]`",
                at,
                "this is none",
            );
        };
        let mut dims: Vec<Vec<Axis>> = Vec::new();
        for item in items.iter() {
            let Value::Axes(axes) = item else {
                return fail(codes::WRONG_KIND, format!("an axis is wanted, not {}", item.kind()), at, "in this list");
            };
            dims.push(axes.to_vec());
        }
        let full = format!("{}{name}", self.under);
        let r = self.b.weight(&full, dims);
        Ok(Value::Node(self.typed(r, span)?))
    }

    /// Whether the weight files hold a tensor of this name: some architectures are saved in two layouts.
    fn stored(&mut self, args: &mut Args) -> Res<Value> {
        let (name, at) = args.need(0, "name")?;
        let (Value::Text(name), Some(model)) = (&name, &self.model) else {
            return fail(codes::WRONG_KIND, "`stored` takes the name of a tensor, in a model file", at, "not here");
        };
        Ok(Value::Bool(model.stored.contains(&format!("{}{name}", self.under))))
    }

    /// How many tokens a sequence may have, and why no more.
    fn longest(&mut self, args: &mut Args) -> Res<Value> {
        let (n, at) = args.need(0, "tokens")?;
        let tokens = self.size_of_config(&n, "the model", "positions", at)?;
        let (why, at) = args.need(1, "why")?;
        let (Value::Text(why), Some(model)) = (&why, &mut self.model) else {
            return fail(codes::WRONG_KIND, "`longest` takes a number and the reason, in a model file", at, "not here");
        };
        if model.longest.as_ref().is_none_or(|l| tokens < l.tokens) {
            model.longest = Some(Longest { tokens, why: why.as_ref().into() });
        }
        Ok(Value::None)
    }

    /// A token that no sequence may have, and why not.
    fn forbid(&mut self, args: &mut Args) -> Res<Value> {
        let (n, at) = args.need(0, "token")?;
        let token = n.as_number().filter(|n| n.fract() == 0.0 && (0.0..f64::from(u32::MAX)).contains(n));
        let (why, _) = args.need(1, "why")?;
        let (Some(token), Value::Text(why), Some(model)) = (token, &why, &mut self.model) else {
            return fail(codes::WRONG_KIND, "`forbid` takes a token and the reason, in a model file", at, "not here");
        };
        model.forbidden.push((token as u32, why.as_ref().into()));
        Ok(Value::None)
    }

    fn linear(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (x, _) = self.arg_node(args, 0, "x")?;
        let (w, at) = self.arg_node(args, 1, "w")?;
        if self.plan().ty(w).per_row {
            return fail(
                codes::WRONG_KIND,
                "the second argument of `linear` is a weight",
                at,
                "this is a value of a row",
            );
        }
        let over = match args.get(2, "over") {
            Some((Value::Axes(axes), _)) => axes.iter().map(|a| a.name.clone()).collect(),
            _ => self.shared_axes(x, w),
        };
        let active = match args.get(3, "active") {
            Some((v, at)) if !matches!(v, Value::None) => Some(self.node(&v, at)?),
            _ => None,
        };
        let r = self.b.linear(x, w, &names(&over), active);
        Ok(Value::Node(self.typed(r, span)?))
    }

    /// Numbers by index along one axis, computed now.
    fn table(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (axes, at) = args.need(0, "axes")?;
        let axis = match &axes {
            Value::List(items) if items.len() == 1 => single_axis(&items[0], at)?,
            _ => return fail(codes::WRONG_KIND, "a table has one axis, as in `[d_head = 8]`", at, "here"),
        };
        let Size::Fixed(n) = axis.size else {
            return fail(codes::WRONG_KIND, "a table has as many entries as the compiler knows", at, "here");
        };
        if n > TABLE {
            return fail(
                codes::REFUSED_CONFIG,
                format!("a table of {n} entries is too large: at most {TABLE} are taken"),
                at,
                "here",
            );
        }
        let (body, at) = args.need(1, "body")?;
        let body = function_of(body, "table", "index", at)?;
        let mut values = Vec::with_capacity(n);
        for i in 0..n {
            let v = self.apply(&body, vec![Value::Number(i as f64)], span)?;
            values.push(self.number(&v, span)? as f32);
        }
        let r = self.b.table(values, vec![axis]);
        Ok(Value::Node(self.typed(r, span)?))
    }
}

fn unary_named(name: &str) -> Option<Unary> {
    Some(match name {
        "exp" => Unary::Exp,
        "log" => Unary::Log,
        "sqrt" => Unary::Sqrt,
        "rsqrt" => Unary::Rsqrt,
        "abs" => Unary::Abs,
        "sign" => Unary::Sign,
        "tanh" => Unary::Tanh,
        "sigmoid" => Unary::Sigmoid,
        "silu" => Unary::Silu,
        "relu" => Unary::Relu,
        "gelu" => Unary::Gelu,
        "gelu_tanh" => Unary::GeluTanh,
        "softplus" => Unary::Softplus,
        "sin" => Unary::Sin,
        "cos" => Unary::Cos,
        "round" => Unary::Round,
        _ => return None,
    })
}

/// The function that is the body of another one.
pub(super) fn function_of(v: Value, of: &str, what: &str, span: Span) -> Res<Rc<Closure>> {
    match v {
        Value::Closure(body) => Ok(body),
        _ => {
            let message = format!("the last argument of `{of}` is a function of the {what}");
            fail(codes::WRONG_KIND, message, span, "this is none")
        }
    }
}

pub fn single_axis(v: &Value, span: Span) -> Res<Axis> {
    match v {
        Value::Axes(a) if a.len() == 1 => Ok(a[0].clone()),
        other => fail(codes::WRONG_KIND, format!("one axis is wanted, not {}", other.kind()), span, "this"),
    }
}

/// An axis's name, whatever its size; also a number bound to a name of its own.
fn name_of(v: &Value, span: Span) -> Res<Arc<str>> {
    match v {
        Value::Text(t) => Ok(Arc::from(&**t)),
        _ => Ok(single_axis(v, span)?.name),
    }
}
