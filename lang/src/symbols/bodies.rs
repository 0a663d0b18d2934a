//! Names in values and statements, and what they mean in the scopes that are open.

use super::slots::slots;
use super::walk::{Frame, Walk};
use super::{Role, SymbolKind, Use};
use crate::ast::*;
use crate::source::Span;

/// Names that the language gives a meaning before any declaration of the script.
const OWN: &[&str] = &["pi", "inf", "layer", "token", "position"];

/// Functions whose texts are no values of the script.
const RAW: &[&str] = &["template", "load", "site"];

/// Functions of runs.
const OF_RUNS: &[&str] = &["tokens", "kl"];

impl<'a> Walk<'a> {
    pub(super) fn index(&mut self, item: &IndexItem) {
        match item {
            IndexItem::All(_) => {}
            IndexItem::At(e) => self.expr(e),
            IndexItem::Range { start, end, .. } => start.iter().chain(end).for_each(|e| self.expr(e)),
        }
    }

    pub(super) fn literal(&self, span: Span) -> &'a str {
        self.texts.get(&span.file).and_then(|t| t.get(span.start as usize..span.end as usize)).unwrap_or_default()
    }

    pub(super) fn text(&mut self, span: Span) {
        let found: Vec<(Span, String)> =
            slots(self.literal(span)).into_iter().map(|(range, name)| (part(span, range), name.to_owned())).collect();
        for (place, name) in found {
            let first = name.split('.').next().unwrap_or_default();
            let end = place.start as usize + first.len();
            let place = Span::new(place.file, place.start as usize, end);
            let found = self.value(first);
            self.used(first, place, found, Role::Slot);
        }
    }

    pub(super) fn expr(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Number(_) | ExprKind::Bool(_) | ExprKind::None => {}
            ExprKind::Text(_) => self.text(e.span),
            ExprKind::Name(n) => drop(self.name(n, e.span, Role::Value)),
            ExprKind::Field(of, _) => match dotted(e).and_then(|path| Some((self.local(&path)?, path))) {
                Some((found, path)) => self.used(&path, e.span, found, Role::Value),
                None => self.expr(of),
            },
            ExprKind::Index(of, args) => {
                self.expr(of);
                for a in args {
                    if let Some(axis) = &a.axis {
                        let found = self.axes.get(&axis.name).copied().flatten();
                        self.used(&axis.name, axis.span, found, Role::Axis);
                    }
                    self.index(&a.item);
                }
            }
            ExprKind::Call(f, args) => {
                let ExprKind::Name(n) = &f.kind else {
                    self.expr(f);
                    return self.args(None, args, false);
                };
                let found = self.callee(n);
                self.used(n, f.span, found, Role::Function);
                if found.is_none() && OF_RUNS.contains(&n.as_str()) {
                    return args.iter().for_each(|a| self.subject(&a.value));
                }
                let raw = found.is_none() && RAW.contains(&n.as_str());
                self.args(found, args, raw);
            }
            ExprKind::Unary(_, a) => self.expr(a),
            ExprKind::Binary(_, a, b) => {
                self.expr(a);
                self.expr(b);
            }
            ExprKind::List(items) => items.iter().for_each(|i| self.expr(i)),
            ExprKind::Axes(parts) => {
                for p in parts {
                    match &p.size {
                        Some(size) => self.expr(size),
                        None => drop(self.name(&p.name.name, p.name.span, Role::Axis)),
                    }
                }
            }
            ExprKind::If { cond, then, otherwise } => {
                self.expr(cond);
                self.block(then);
                otherwise.iter().for_each(|b| self.block(b));
            }
            ExprKind::Lambda(params, body) => {
                let define =
                    |p: &Ident| (p.name.clone(), Some(self.define(p, SymbolKind::Local, e.span, None, Some(e.span))));
                let frame = params.iter().map(define).collect();
                self.within(frame, |w| w.block(body));
            }
        }
    }

    pub(super) fn args(&mut self, callee: Option<usize>, args: &[Arg], raw: bool) {
        for a in args {
            if let Some(name) = &a.name {
                let params = callee.and_then(|c| self.params.get(&c)).into_iter().flatten();
                let found = params.copied().find(|i| self.out.definitions[*i].name == name.name);
                self.used(&name.name, name.span, found, Role::Argument);
            }
            if !(raw && matches!(a.value.kind, ExprKind::Text(_))) {
                self.expr(&a.value);
            }
        }
    }

    pub(super) fn block(&mut self, block: &Block) {
        self.within(Frame::new(), |w| block.stmts.iter().for_each(|s| w.stmt(s, block.span)));
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt, block: Span) {
        match &stmt.kind {
            StmtKind::Let(name, e) => {
                self.expr(e);
                self.bind(name, SymbolKind::Local, stmt, block);
            }
            StmtKind::Assign { target, value, .. } => {
                self.expr(target);
                self.expr(value);
            }
            StmtKind::When { cond, then, otherwise } => {
                self.expr(cond);
                self.block(then);
                otherwise.iter().for_each(|b| self.block(b));
            }
            StmtKind::Experts { experts, by, .. } => experts.iter().chain(by).for_each(|e| self.expr(e)),
            StmtKind::Site { path, value } | StmtKind::Write { path, value } => {
                self.expr(value);
                if let (Some(first), Some(last)) = (path.first(), path.last()) {
                    let name = path.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(".");
                    self.bind(&Ident { name, span: first.span.to(last.span) }, SymbolKind::Site, stmt, block);
                }
            }
            // Axes are declared with the items, since all of the script sees them.
            StmtKind::Axis(_, e) | StmtKind::Expr(e) => self.expr(e),
            StmtKind::Require(e, message) => {
                self.expr(e);
                self.text(message.span);
            }
            StmtKind::Blocks { var, start, end, under, body } => {
                self.expr(start);
                self.expr(end);
                let index = self.define(var, SymbolKind::Local, stmt.span, None, Some(stmt.span));
                self.within(Frame::from([(var.name.clone(), Some(index))]), |w| {
                    w.text(under.span);
                    w.block(body);
                });
            }
        }
    }

    /// A name from here to the end of its block.
    pub(super) fn bind(&mut self, name: &Ident, kind: SymbolKind, stmt: &Stmt, block: Span) {
        let scope = Span { start: stmt.span.end, ..block };
        let index = self.define(name, kind, stmt.span, stmt.doc.as_ref(), Some(scope));
        if let Some(frame) = self.scopes.last_mut() {
            frame.insert(name.name.clone(), Some(index));
        }
    }

    /// What a name means in the scopes that are open; the inner `None` is a name of the language.
    pub(super) fn local(&self, name: &str) -> Option<Option<usize>> {
        self.scopes.iter().rev().find_map(|s| s.get(name)).copied()
    }

    pub(super) fn global(&self, name: &str) -> Option<usize> {
        let declared = || self.values.get(name).or_else(|| self.axes.get(name)).copied().flatten();
        if OWN.contains(&name) { None } else { declared() }
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.local(name).unwrap_or_else(|| self.global(name))
    }

    /// The same where a value is wanted: metrics are none but in metrics, and edits, runs and tables never are.
    pub(super) fn value(&self, name: &str) -> Option<usize> {
        let hidden = |kind| match kind {
            SymbolKind::Metric => !self.metric,
            SymbolKind::Hook | SymbolKind::Patch | SymbolKind::Route => true,
            SymbolKind::Run | SymbolKind::Sweep | SymbolKind::Top => true,
            _ => false,
        };
        let found = self.find(name).filter(|i| !hidden(self.out.definitions[*i].kind));
        found.or_else(|| self.axes.get(name).copied().flatten().filter(|_| self.local(name).is_none()))
    }

    pub(super) fn callee(&self, name: &str) -> Option<usize> {
        if let Some(local) = self.local(name) {
            return local;
        }
        let metric = self.values.get(name).copied().flatten();
        let metric = metric.filter(|i| self.out.definitions[*i].kind == SymbolKind::Metric);
        let function = self.functions.get(name).copied().flatten();
        if self.metric { metric.or(function) } else { function.or(metric) }
    }

    pub(super) fn name(&mut self, name: &str, span: Span, role: Role) -> Option<usize> {
        let found = match role {
            // Runs are looked for among declarations, whatever the language calls so elsewhere.
            Role::Run | Role::Edit | Role::List | Role::Table => {
                self.local(name).flatten().or_else(|| self.values.get(name).copied().flatten())
            }
            _ => self.value(name),
        };
        self.used(name, span, found, role);
        found
    }

    pub(super) fn used(&mut self, name: &str, span: Span, definition: Option<usize>, role: Role) {
        self.out.uses.push(Use { name: name.to_owned(), span, definition, role });
    }
}

/// A part of a text by the bytes of its literal.
pub(super) fn part(span: Span, range: std::ops::Range<usize>) -> Span {
    Span::new(span.file, span.start as usize + range.start, span.start as usize + range.end)
}

/// `attn.q` as one name.
fn dotted(e: &Expr) -> Option<String> {
    match &e.kind {
        ExprKind::Name(n) => Some(n.clone()),
        ExprKind::Field(of, field) => Some(format!("{}.{}", dotted(of)?, field.name)),
        _ => None,
    }
}
