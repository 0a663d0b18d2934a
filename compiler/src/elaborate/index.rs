//! Indexing and slicing by axis.

use super::model::Counted;
use super::scope::{Eval, Res, fail};
use super::script::Counts;
use super::value::Value;
use crate::plan::{Axis, Binary, NodeId, Op, Reduce};
use steer_lang::ast::{Expr, ExprKind, IndexArg, IndexItem};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// One resolved entry of an index.
pub enum Pick {
    All,
    At(usize),
    Range(usize, usize),
    /// An index known only at run time.
    Node(NodeId),
    /// Some entries.
    Many(Vec<usize>),
}

impl Eval<'_> {
    pub fn index(&mut self, of: &Expr, args: &[IndexArg], span: Span) -> Res<Value> {
        let v = self.expr(of)?;
        match &v {
            Value::Tensor(name) if self.tensors.get(&**name).is_some_and(|t| t.family) => {
                let name = name.clone();
                let [IndexArg { axis: None, item: IndexItem::At(e) }] = args else {
                    return fail(
                        codes::BAD_ARGUMENTS,
                        format!("`{name}` takes one layer"),
                        span,
                        "write it as `[layer]`",
                    );
                };
                let layers = self.layers().unwrap_or(0);
                let v = self.expr(e)?;
                let n = self.number(&v, e.span)?;
                let layer = if n < 0.0 { n + f64::from(layers) } else { n };
                if layer.fract() != 0.0 || !(0.0..f64::from(layers)).contains(&layer) {
                    return Err(Box::new(
                        Diagnostic::error(codes::OUT_OF_RANGE, format!("`{name}` has no layer {n}"))
                            .at(e.span, format!("the model has {layers} blocks"))
                            .help(format!(
                                "blocks count from 0 to {}, or from the end: -1 is the last",
                                layers.saturating_sub(1)
                            )),
                    ));
                }
                Ok(Value::Node(self.tensor_node(&name, Some(layer as u32), span)?))
            }
            Value::List(items) => {
                let [IndexArg { axis: None, item: IndexItem::At(e) }] = args else {
                    return fail(codes::BAD_ARGUMENTS, "a list takes one index", span, "here");
                };
                let i = self.count(e)?;
                items.get(i).cloned().map_or_else(|| Err(out_of_range("list", i as i64, items.len(), e.span)), Ok)
            }
            Value::Absent(path) => Ok(Value::Absent(format!("{path}[]").into())),
            _ => {
                let mut node = self.node(&v, of.span)?;
                for (axis, pick, at) in self.picks(node, args, span)? {
                    node = self.pick(node, &axis, pick, at)?;
                }
                Ok(Value::Node(node))
            }
        }
    }

    /// The number of layers, where the model is known already.
    fn layers(&self) -> Option<u32> {
        self.model.as_ref().and_then(|m| m.layers).or(self.layers)
    }

    /// Resolves `[head = 3, 0..4]` against the axes of a value.
    pub fn picks(&mut self, node: NodeId, args: &[IndexArg], span: Span) -> Res<Vec<(Axis, Pick, Span)>> {
        let mut out = Vec::new();
        for arg in args {
            let ty = self.plan().ty(node).clone();
            let axis = match &arg.axis {
                Some(name) => ty.axes.iter().find(|a| *a.name == *name.name).cloned().ok_or_else(|| {
                    Box::new(
                        Diagnostic::error(codes::UNKNOWN_AXIS, format!("this value has no axis `{}`", name.name))
                            .at(name.span, format!("its axes are {ty}"))
                            .maybe_help(near_axis(&name.name, &ty.axes).map(|n| format!("did you mean `{n}`?"))),
                    )
                })?,
                None if ty.axes.len() == 1 => ty.axes[0].clone(),
                None => {
                    return Err(Box::new(
                        Diagnostic::error(codes::UNKNOWN_AXIS, "which axis is meant?")
                            .at(span, format!("this value has the axes {ty}"))
                            .help(match ty.axes.first() {
                                Some(a) => format!("name it: `[{} = {}]`", a.name, number_of(&arg.item)),
                                None => "a single number has no entries".into(),
                            }),
                    ));
                }
            };
            let size = if let crate::plan::Size::Fixed(n) = axis.size { Some(n) } else { None };
            let (pick, at) = match &arg.item {
                IndexItem::All(s) => (Pick::All, *s),
                IndexItem::Range { start, end, inclusive, span } => {
                    let lo = start.as_ref().map_or(Ok(0), |e| self.bound(e, size))?;
                    let hi = match end {
                        Some(e) => self.bound(e, size)? + usize::from(*inclusive),
                        None => size.unwrap_or(usize::MAX),
                    };
                    if size.is_none() && lo < hi {
                        self.names_key(lo, *span);
                    }
                    if size.is_some_and(|n| hi > n) || lo >= hi {
                        return Err(out_of_range_text(
                            &axis.name,
                            &format!("entries {lo}..{hi}"),
                            size.unwrap_or(0),
                            *span,
                        ));
                    }
                    (Pick::Range(lo, hi), *span)
                }
                IndexItem::At(e) => (self.pick_at(e, &axis.name, size)?, e.span),
            };
            out.push((axis, pick, at));
        }
        Ok(out)
    }

    fn pick_at(&mut self, e: &Expr, axis: &str, size: Option<usize>) -> Res<Pick> {
        let v = self.expr(e)?;
        if let Value::List(items) = &v {
            let mut many = Vec::new();
            for i in items.iter() {
                let n = self.number(i, e.span)?;
                many.push(entry(n, axis, size, e.span)?);
            }
            return Ok(Pick::Many(many));
        }
        match &v {
            Value::Node(n) => {
                self.counts(*n, axis, size, e.span);
                Ok(Pick::Node(*n))
            }
            Value::Param(..) if self.hook.is_some() => {
                let n = self.node(&v, e.span)?;
                self.counts(n, axis, size, e.span);
                Ok(Pick::Node(n))
            }
            _ => {
                let n = self.number(&v, e.span)?;
                let i = entry(n, axis, size, e.span)?;
                if size.is_none() {
                    self.names_key(i, e.span);
                }
                Ok(Pick::At(i))
            }
        }
    }

    /// Notes that a parameter counts the entries of an axis, so that its values are checked.
    pub(super) fn counts(&mut self, n: NodeId, axis: &str, size: Option<usize>, span: Span) {
        if let Some(entries) = size {
            self.counts_from(n, Counts { axis: axis.into(), first: 0, entries, span });
        }
    }

    /// Notes what a parameter counts, where `n` is one.
    pub(super) fn counts_from(&mut self, n: NodeId, counts: Counts) {
        let Op::Param { edit, slot } = &self.plan().nodes[n.0 as usize].op else { return };
        let counted = Counted { edit: *edit, slot: *slot, counts };
        if let Some(m) = self.model.as_mut() {
            m.counted.push(counted);
        }
    }

    /// Notes that an edit names a key by its number, which the rows that it selects must have.
    fn names_key(&mut self, first: usize, span: Span) {
        if let (Some(hook), Some(m)) = (&self.hook, self.model.as_mut()) {
            m.keys.push((hook.edit, first, span));
        }
    }

    fn bound(&mut self, e: &Expr, size: Option<usize>) -> Res<usize> {
        let v = self.expr(e)?;
        let n = self.number(&v, e.span)?;
        let from_end = if n < 0.0 { size.map(|s| s as f64 + n) } else { Some(n) };
        match from_end {
            Some(n) if n >= 0.0 && n.fract() == 0.0 && n < 1e9 => Ok(n as usize),
            None => Err(keys_from_the_end(n, e.span)),
            _ if n.abs() >= 1e9 => {
                fail(codes::OUT_OF_RANGE, format!("{n:e} is no bound of this axis"), e.span, "out of range")
            }
            _ => fail(codes::OUT_OF_RANGE, format!("{n} is no bound of this axis"), e.span, "out of range"),
        }
    }

    /// Reads entries of an axis.
    pub fn pick(&mut self, node: NodeId, axis: &Axis, pick: Pick, span: Span) -> Res<NodeId> {
        let fixed = matches!(axis.size, crate::plan::Size::Fixed(_));
        let result = match pick {
            Pick::All => Ok(node),
            Pick::At(i) if fixed => self.b.at(node, &axis.name, i),
            Pick::Range(lo, hi) if fixed => self.b.slice(node, &axis.name, lo, hi - lo),
            Pick::Many(_) => {
                return fail(
                    codes::WRONG_KIND,
                    "a list of entries can be assigned to, not read",
                    span,
                    "read a range instead",
                );
            }
            Pick::Range(..) => {
                return fail(
                    codes::WRONG_KIND,
                    "a range of keys can be assigned to, not read",
                    span,
                    "rows differ in how many keys they have",
                );
            }
            // An entry known at run time, or a key, which some rows lack: a sum in which it alone counts.
            Pick::At(_) | Pick::Node(_) => {
                let index = match pick {
                    Pick::Node(n) => n,
                    Pick::At(i) => self.num(i as f32)?,
                    _ => node,
                };
                let iota = self.iota(axis.clone())?;
                let hit = self.b.binary(Binary::Eq, iota, index);
                let hit = self.typed(hit, span)?;
                let zero = self.num(0.0)?;
                let only = self.b.select(hit, node, zero);
                let only = self.typed(only, span)?;
                self.b.reduce(Reduce::Sum, only, &[&axis.name])
            }
        };
        self.typed(result, span)
    }
}

/// The number of an index, for an example.
fn number_of(item: &IndexItem) -> f64 {
    match item {
        IndexItem::At(Expr { kind: ExprKind::Number(n), .. }) => *n,
        _ => 0.0,
    }
}

pub(super) fn entry(n: f64, axis: &str, size: Option<usize>, span: Span) -> Res<usize> {
    if n < 0.0 && size.is_none() {
        return Err(keys_from_the_end(n, span));
    }
    let real = if n < 0.0 { size.map_or(n, |s| n + s as f64) } else { n };
    if real < 0.0 || real.fract() != 0.0 || real >= 1e9 || size.is_some_and(|s| real >= s as f64) {
        return Err(out_of_range_text(axis, &format!("entry {n}"), size.unwrap_or(0), span));
    }
    Ok(real as usize)
}

/// The error for a key that is counted from the end, which is another one in every row.
fn keys_from_the_end(n: f64, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::OUT_OF_RANGE, format!("keys count from the first, and {n} counts from the last"))
            .at(span, "each row has as many keys as it has earlier rows")
            .help("a row's own key is the last: write `h[key = position]`, or `position - 1` for the one before"),
    )
}

pub fn out_of_range(axis: &str, index: i64, size: usize, span: Span) -> Box<Diagnostic> {
    out_of_range_text(axis, &format!("entry {index}"), size, span)
}

fn out_of_range_text(axis: &str, index: &str, size: usize, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::OUT_OF_RANGE, format!("`{axis}` has no {index}"))
            .at(span, format!("there are {size}"))
            .maybe_help(
                (size > 0).then(|| format!("entries count from 0 to {}, or from the end: -1 is the last", size - 1)),
            ),
    )
}

/// The axis that was probably meant: `kv_head` by `head`, else the nearest name.
fn near_axis<'a>(name: &str, axes: &'a [Axis]) -> Option<&'a str> {
    let part = format!("_{name}");
    let whole = axes.iter().map(|a| &*a.name).find(|a| a.ends_with(&part));
    whole.or_else(|| nearest(name, axes.iter().map(|a| &*a.name)))
}
