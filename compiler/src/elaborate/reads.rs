//! Values of other sites, read by hooks and metrics.

use super::direct::Seen;
use super::eval::axes_of;
use super::model::canonical;
use super::scope::{Eval, Res, fail, silent};
use super::value::Value;
use crate::plan::{MAIN, Node, NodeId, Op, RegionId};
use std::collections::BTreeMap;
use steer_lang::ast::{Arg, Expr, ExprKind, IndexArg, IndexItem};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// A value of a row that a metric reads: an expression over sites.
#[derive(Clone, Debug)]
pub struct RowRead {
    pub expr: Expr,
    /// What its names stand for where it was written.
    pub names: BTreeMap<String, Value>,
    pub span: Span,
    /// Equal where expression and names are.
    pub key: String,
}

impl RowRead {
    pub fn new(expr: Expr, names: BTreeMap<String, Value>) -> Self {
        let (span, key) = (expr.span, format!("{:?} {names:?}", expr.span));
        RowRead { expr, names, span, key }
    }
}

impl PartialEq for RowRead {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The residual stream, or what is to be read in its place, through the model's last norm and its
/// unembedding (the logit lens).
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    pub read: RowRead,
    /// Whether the last norm is applied.
    pub norm: bool,
}

/// The name of a site of the language, `blocks` with its number taken apart.
pub enum SitePath<'e> {
    /// `blocks[3].resid.post`: the number's place and the rest.
    Block(&'e Expr, String),
    /// `b.resid.post`, where `b` may stand for a block.
    Dotted(&'e str, String),
    /// `site("model.layers.3.mlp")`: what another program calls it.
    Foreign(&'e str),
}

/// The text of a `site("...")`.
pub fn foreign(e: &Expr) -> Option<&str> {
    match &e.kind {
        ExprKind::Call(f, args) if matches!(&f.kind, ExprKind::Name(n) if n == "site") => match &args[..] {
            [Arg { name: None, value: Expr { kind: ExprKind::Text(text), .. } }] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Under which name the script's own values have what a `site("...")` was found to be.
pub fn foreign_key(name: &str) -> String {
    format!("site({name:?})")
}

/// Takes `blocks[3].attn.q` or `b.attn.q` apart; `None` for any other expression.
pub fn site_path(e: &Expr) -> Option<SitePath<'_>> {
    if let Some(name) = foreign(e) {
        return Some(SitePath::Foreign(name));
    }
    let mut fields: Vec<&str> = Vec::new();
    let mut at = e;
    while let ExprKind::Field(of, field) = &at.kind {
        fields.push(&field.name);
        at = of;
    }
    fields.reverse();
    match &at.kind {
        ExprKind::Index(root, args) if !fields.is_empty() => match (&root.kind, &args[..]) {
            (ExprKind::Name(n), [IndexArg { axis: None, item: IndexItem::At(i) }]) if n == "blocks" => {
                Some(SitePath::Block(i, fields.join(".")))
            }
            _ => None,
        },
        ExprKind::Name(n) => Some(SitePath::Dotted(n, fields.join("."))),
        _ => None,
    }
}

/// Calls `f` on an expression and all of its parts; what `f` says is not looked into.
pub fn visit<'e>(e: &'e Expr, f: &mut dyn FnMut(&'e Expr) -> bool) {
    if !f(e) {
        return;
    }
    let index = |args: &'e [IndexArg], f: &mut dyn FnMut(&'e Expr) -> bool| {
        for a in args {
            match &a.item {
                IndexItem::All(_) => {}
                IndexItem::At(e) => visit(e, f),
                IndexItem::Range { start, end, .. } => start.iter().chain(end).for_each(|e| visit(e, f)),
            }
        }
    };
    match &e.kind {
        ExprKind::Field(of, _) => visit(of, f),
        ExprKind::Index(of, args) => {
            visit(of, f);
            index(args, f);
        }
        ExprKind::Call(_, args) => args.iter().for_each(|a| visit(&a.value, f)),
        ExprKind::Unary(_, a) => visit(a, f),
        ExprKind::Binary(_, a, b) => {
            visit(a, f);
            visit(b, f);
        }
        ExprKind::List(items) => items.iter().for_each(|i| visit(i, f)),
        _ => {}
    }
}

impl Eval<'_> {
    /// The full name of the site that an expression names; `None` where it names none.
    fn site_name(&mut self, e: &Expr) -> Res<Option<String>> {
        match site_path(e) {
            Some(SitePath::Block(number, rest)) => {
                let v = self.expr(number)?;
                let n = self.number(&v, number.span)?;
                let layers = f64::from(self.model.as_ref().and_then(|m| m.layers).or(self.layers).unwrap_or(0));
                let real = if n < 0.0 { n + layers } else { n };
                if real.fract() != 0.0 || !(0.0..layers).contains(&real) {
                    return Err(Box::new(
                        Diagnostic::error(codes::OUT_OF_RANGE, format!("there is no block {n}"))
                            .at(number.span, format!("the model has {layers} blocks"))
                            .help(format!("blocks count from 0 to {}, or from the end: -1 is the last", layers - 1.0)),
                    ));
                }
                Ok(Some(format!("blocks[{real}].{rest}")))
            }
            Some(SitePath::Dotted(root, rest)) => match self.local(root).or_else(|| self.global(root, e.span)) {
                Some(Value::Block(l)) if !rest.is_empty() => Ok(Some(format!("blocks[{l}].{rest}"))),
                Some(Value::Record(fields, _)) if rest == "site" => match fields.get("site") {
                    Some(Value::Text(site)) => Ok(Some(site.to_string())),
                    _ => Ok(None),
                },
                Some(_) => Ok(None),
                None if rest.is_empty() => Ok(Some(root.to_owned())),
                None => Ok(Some(format!("{root}.{rest}"))),
            },
            Some(SitePath::Foreign(name)) => match self.global(&foreign_key(name), e.span) {
                Some(Value::Text(site)) => Ok(Some(site.to_string())),
                Some(_) => Err(silent()),
                None => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// The value of a site that an expression names; `None` where it names none.
    pub fn site_read(&mut self, e: &Expr) -> Res<Option<Value>> {
        if !self.reads_sites {
            return Ok(None);
        }
        let Some(name) = self.site_name(e)? else { return Ok(None) };
        let mut own = canonical(&name);
        let has = |s: &Self, name: &str| s.b.plan.sites.iter().any(|site| site.name == name);
        // In a hook of a block `mlp.in` is that of its own block.
        if let (Some(layer), true, true) = (self.layer, self.hook.is_some(), name.contains('.'))
            && !name.starts_with("blocks[")
            && !has(self, &own)
        {
            let of_block = canonical(&format!("blocks[{layer}].{name}"));
            if has(self, &of_block) {
                own = of_block;
            }
        }
        let Some(site) = self.b.plan.sites.iter().find(|s| s.name == own) else {
            let known = self.b.plan.sites.iter().map(|s| s.name.as_str());
            return match name.starts_with("blocks[") {
                false => Ok(None),
                true => Err(Box::new(
                    Diagnostic::error(codes::UNKNOWN_SITE, format!("`{name}` cannot be read here"))
                        .at(e.span, self.why_unread(&name))
                        .help(match nearest(&name, known) {
                            _ if let Some((written, site)) = self.hook_point_like(&name) => {
                                format!("TransformerLens' name for it is written `{written}`; here it is `{site}`")
                            }
                            Some(n) if self.hook.is_none() => format!("did you mean `{n}`?"),
                            _ => "a hook reads sites that come before its own; `steer sites` lists them in their order"
                                .to_owned(),
                        }),
                )),
            };
        };
        let (node, region) = (site.value, site.region);
        if region != MAIN && region != self.b.region() {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, format!("`{name}` cannot be read here"))
                    .at(e.span, "it lives inside of an attention or scan")
                    .help("hook it at its own site, measure it by itself, or capture it"),
            ));
        }
        Ok(Some(Value::Node(node)))
    }

    /// What a path with a hook point's name in it means.
    fn hook_point_like(&self, name: &str) -> Option<(String, String)> {
        let (layer, name) = super::sites::split(name);
        super::foreign::hook_point_like(layer, name, |site| self.b.plan.sites.iter().any(|s| s.name == site))
    }

    /// Whether a site that is not there yet is a later one, as far as that can be told.
    fn why_unread(&self, name: &str) -> &'static str {
        let number: Option<u32> =
            name.strip_prefix("blocks[").and_then(|r| r.split_once(']')).and_then(|(n, _)| n.parse().ok());
        match (number, self.layer) {
            (Some(block), Some(own)) if self.hook.is_some() && block > own => "its block comes after the hook's own",
            (Some(block), Some(own)) if self.hook.is_some() && block < own => "the model has no such site",
            (Some(_), _) if self.hook.is_none() => "the model has no such site",
            _ => "the model has no such site, or computes it only later",
        }
    }

    /// The node of an expression over sites; inside of a body where it reads one of its values.
    pub fn row_read(&mut self, read: &RowRead) -> Res<NodeId> {
        self.reads_sites = true;
        self.model_scopes = self.scopes.clone();
        let scope = read.names.clone().into_iter().collect();
        let node = self.isolated(vec![scope], |s| {
            let body = s.body_of(read)?;
            if let Some(body) = body {
                let owner = |n: &Node| n.op.body() == Some(body) && matches!(n.op, Op::Attention { .. });
                let attention = s.b.plan.nodes.iter().any(owner);
                s.b.reopen(body, attention);
            }
            let value = s.expr(&read.expr);
            let node = value.and_then(|v| s.node(&v, read.span));
            if body.is_some() {
                s.b.close();
            }
            node
        });
        self.reads_sites = false;
        node
    }

    /// The body of an attention or scan whose values an expression reads.
    fn body_of(&mut self, read: &RowRead) -> Res<Option<RegionId>> {
        let mut paths = Vec::new();
        visit(&read.expr, &mut |e| {
            let path = site_path(e).is_some();
            if path {
                paths.push(e);
            }
            !path
        });
        let mut inside: Option<RegionId> = None;
        for e in paths {
            let Some(region) = self.region_of(e)?.filter(|r| *r != MAIN) else { continue };
            if inside.is_some_and(|known| known != region) {
                return fail(
                    codes::WRONG_KIND,
                    "this reads values inside of several attentions or scans",
                    read.span,
                    "one at a time can be read",
                );
            }
            inside = Some(region);
        }
        Ok(inside)
    }

    fn region_of(&mut self, e: &Expr) -> Res<Option<RegionId>> {
        let Some(name) = self.site_name(e)? else { return Ok(None) };
        let own = canonical(&name);
        Ok(self.b.plan.sites.iter().find(|s| s.name == own).map(|s| s.region))
    }

    /// A value through the model's last norm, unless it is left out, and its unembedding.
    pub fn lens(&mut self, lens: &Lens) -> Res<NodeId> {
        let value = self.row_read(&lens.read)?;
        let (have, want) = (self.plan().ty(value), self.resid.map(|r| self.plan().ty(r)));
        if let Some(want) = want.filter(|want| have.axes != want.axes || !have.per_row) {
            let label = match have.per_row {
                true => format!("this has {}", axes_of(have)),
                false => "this is the same in every row".to_owned(),
            };
            return Err(Box::new(
                Diagnostic::error(codes::AXIS_MISMATCH, "the logit lens is of a value like the residual stream")
                    .at(lens.read.span, label)
                    .help(format!("a value of a row with {} is wanted, such as `blocks[0].resid.post`", axes_of(want))),
            ));
        }
        self.seen(Seen { value, norm: lens.norm, held: None }, lens.read.span)
    }
}
