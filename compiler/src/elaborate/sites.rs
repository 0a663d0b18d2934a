//! Site paths of a script against the sites of the model.

use super::check::Checker;
use super::model::canonical;
use super::scope::{Res, fail, silent};
use super::value::Value;
use steer_lang::ast::{Expr, ExprKind, IndexItem, SitePath, UnaryOp};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// A site as a script names it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub name: String,
    pub layer: Option<u32>,
}

impl Named {
    /// A site by its full name.
    pub fn of(name: &str) -> Self {
        Named { name: name.to_owned(), layer: split(name).0.and_then(|l| l.parse().ok()) }
    }

    pub fn canonical(&self) -> String {
        canonical(&self.name)
    }
}

impl Checker<'_> {
    /// Every site that a path names. `family` is the name that stands for each layer in turn.
    pub fn sites(&mut self, path: &SitePath, family: Option<&str>) -> Res<Vec<Named>> {
        if let Some(name) = path.foreign() {
            return self.foreign_path(name, path.span).map(|n| vec![n]);
        }
        let first = &path.segments[0];
        let rest = path.segments[1..].iter().map(|s| s.name.name.as_str()).collect::<Vec<_>>().join(".");
        if let Some(s) = path.segments[1..].iter().find(|s| s.index.is_some()) {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, format!("`{}` has no numbered parts", s.name.name))
                    .at(s.name.span, "brackets do not belong here")
                    .help("choose a head or neuron inside of the hook: `h[head = 3]`"),
            ));
        }
        if let Some(Value::Record(fields, _)) = self.named_value(&first.name.name)
            && let (Some(Value::Text(site)), "site", None) = (fields.get("site"), rest.as_str(), &first.index)
        {
            return Ok(vec![Named::of(site)]);
        }
        if self.broken(&first.name.name) && path.segments.len() > 1 {
            return Err(silent());
        }
        if let Some(Value::Record(..)) = self.named_value(&first.name.name) {
            let name = &first.name.name;
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, format!("this is no site of `{name}`"))
                    .at(path.span, "a sparse autoencoder reads one site")
                    .help(format!("write `{name}.site`")),
            ));
        }
        if let Some(Value::Block(l)) = self.local(&first.name.name)
            && first.index.is_none()
        {
            let name = format!("blocks[{l}].{rest}");
            let layer = Some(*l);
            return match self.has_site(&name) {
                true => Ok(vec![Named { name, layer }]),
                false => Err(self.unknown_site(&name, path.span)),
            };
        }
        if first.name.name == "blocks" && rest.is_empty() {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, "a block is no site")
                    .at(path.span, "which value of it?")
                    .help("name a site after it: `blocks[1].resid.post`; `steer sites` lists them all"),
            ));
        }
        if first.name.name != "blocks" {
            let name = path.segments.iter().map(|s| s.name.name.as_str()).collect::<Vec<_>>().join(".");
            if first.index.is_some() || !self.has_site(&name) {
                return Err(self.unknown_site(&name, path.span));
            }
            return Ok(vec![Named { name, layer: None }]);
        }
        let Some(items) = &first.index else {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, "which blocks?")
                    .at(first.name.span, format!("there are {}", self.layers))
                    .help(format!("write `blocks[*].{rest}` for all, or `blocks[3].{rest}` for one")),
            ));
        };
        let mut out = Vec::new();
        let mut exact = false;
        for item in items {
            let (layers, glob) = self.layer_item(item, family)?;
            exact |= !glob;
            for l in layers {
                let name = format!("blocks[{l}].{rest}");
                if self.has_site(&name) {
                    out.push(Named { name, layer: Some(l) });
                } else if !glob {
                    return Err(self.unknown_site(&name, path.span));
                }
            }
        }
        if out.is_empty() && !exact {
            return Err(self.unknown_site(&format!("blocks[0].{rest}"), path.span));
        }
        Ok(out)
    }

    /// The layers of one entry, and whether it is a glob, which skips layers that lack the site.
    pub(super) fn layer_item(&mut self, item: &IndexItem, family: Option<&str>) -> Res<(Vec<u32>, bool)> {
        let n = i64::from(self.layers);
        match item {
            IndexItem::All(_) => Ok(((0..self.layers).collect(), true)),
            IndexItem::At(Expr { kind: ExprKind::Name(name), .. }) if Some(name.as_str()) == family => {
                Ok(((0..self.layers).collect(), true))
            }
            IndexItem::At(e) => {
                let i = self.integer(e)?;
                Ok((vec![self.layer_number(i, e.span)?], false))
            }
            IndexItem::Range { start, end, inclusive, span } => {
                let bound = |s: &mut Self, e: &Option<Expr>, or: i64| match e {
                    None => Ok(or),
                    Some(e) => s.integer(e).map(|i| if i < 0 { i + n } else { i }),
                };
                let a = bound(self, start, 0)?;
                let b = bound(self, end, n)? + i64::from(*inclusive && end.is_some());
                if a < 0 || b > n || a >= b {
                    return Err(Box::new(
                        Diagnostic::error(codes::OUT_OF_RANGE, format!("there are no blocks {a}..{b}"))
                            .at(*span, format!("the model has {n} blocks"))
                            .help(format!("blocks count from 0 to {}", n - 1)),
                    ));
                }
                Ok(((a as u32..b as u32).collect(), false))
            }
        }
    }

    fn layer_number(&self, i: i64, span: Span) -> Res<u32> {
        let n = i64::from(self.layers);
        let real = if i < 0 { i + n } else { i };
        if real < 0 || real >= n {
            return Err(Box::new(
                Diagnostic::error(codes::OUT_OF_RANGE, format!("there is no block {i}"))
                    .at(span, format!("the model has {n} blocks"))
                    .help(format!("blocks count from 0 to {}, or from the end: -1 is the last", n - 1)),
            ));
        }
        Ok(real as u32)
    }

    /// A whole number that the script gives.
    pub fn integer(&mut self, e: &Expr) -> Res<i64> {
        if let ExprKind::Unary(UnaryOp::Neg, inner) = &e.kind {
            return self.integer(inner).map(|i| -i);
        }
        let v = self.value(e)?;
        match v.as_number() {
            Some(n) if n.fract() == 0.0 && n.abs() < 1e15 => Ok(n as i64),
            Some(n) => fail(codes::WRONG_KIND, format!("a whole number is wanted, not {n}"), e.span, "this"),
            None => fail(codes::WRONG_KIND, format!("a whole number is wanted, not {}", v.kind()), e.span, "this"),
        }
    }

    pub(super) fn has_site(&self, name: &str) -> bool {
        self.site_names.contains(name)
    }

    pub(super) fn unknown_site(&self, name: &str, span: Span) -> Box<Diagnostic> {
        let (layer, wanted) = split(name);
        let other = super::foreign::hook_point_like(layer, wanted, |site| self.has_site(site));
        let mut names: Vec<&str> =
            self.site_names.iter().map(String::as_str).filter(|s| split(s).0 == layer || layer.is_none()).collect();
        if names.is_empty() {
            names = self.site_names.iter().map(String::as_str).collect();
        }
        let shorts: Vec<&str> = names.iter().map(|n| split(n).1).collect();
        let group = format!("{}.", wanted.split('.').next().unwrap_or_default());
        let help = match nearest(wanted, shorts.iter().copied()) {
            _ if let Some((written, site)) = &other => {
                format!("TransformerLens' name for it is written `{written}`; here it is `{site}`")
            }
            Some(n) if layer.is_some() => format!("did you mean `{}`?", name.replace(wanted, n)),
            Some(n) if self.site_names.contains(n) => format!("did you mean `{n}`?"),
            Some(n) => format!("did you mean `blocks[*].{n}`?"),
            None => {
                let mut near: Vec<&str> = shorts.iter().copied().filter(|s| s.starts_with(&group)).collect();
                if near.is_empty() {
                    near = shorts;
                }
                near.sort_unstable();
                near.dedup();
                format!("it has {}", near.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(", "))
            }
        };
        Box::new(
            Diagnostic::error(
                codes::UNKNOWN_SITE,
                format!(
                    "the model has no site `{wanted}`{}",
                    match layer {
                        Some(l) => format!(" in block {l}"),
                        None => String::new(),
                    }
                ),
            )
            .at(span, format!("{} does not have it", self.model.arch_name))
            .help(format!("{help}{} `steer sites` lists them all", if help.ends_with('?') { "" } else { ";" })),
        )
    }
}

/// `blocks[3].attn.q` as its layer and its name inside of the block.
pub(super) fn split(name: &str) -> (Option<&str>, &str) {
    match name.strip_prefix("blocks[").and_then(|r| r.split_once("].")) {
        Some((layer, rest)) => (Some(layer), rest),
        None => (None, name),
    }
}
