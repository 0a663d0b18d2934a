//! Finds names by walking the tree with the scopes that are open.

use super::bodies::part;
use super::slots::words;
use super::{Definition, Part, Role, SymbolKind, Symbols};
use crate::ast::*;
use crate::source::{FileId, Span};
use std::collections::HashMap;

/// What a name means in a scope: a definition, or something of the language that hides those further out.
pub(super) type Frame = HashMap<String, Option<usize>>;

/// What a hook's body knows besides.
const HOOK: &[&str] = &["h", "h0", "donor"];

/// Values of a mixture that a route's body knows.
const ROUTE: &[&str] = &["router", "scores", "selection", "top_k", "chosen", "chosen_scores", "gates"];

pub(super) fn symbols(parts: &[Part]) -> Symbols {
    let mut walk = Walk { texts: parts.iter().map(|p| (p.file, p.text)).collect(), ..Walk::default() };
    for part in parts {
        part.tree.items.iter().for_each(|item| walk.declare(item, None));
    }
    for part in parts {
        part.tree.items.iter().for_each(|item| walk.item(item));
    }
    walk.out
}

#[derive(Default)]
pub(super) struct Walk<'a> {
    pub(super) texts: HashMap<FileId, &'a str>,
    pub(super) out: Symbols,
    /// Declarations of the script, but for functions.
    pub(super) values: Frame,
    pub(super) functions: Frame,
    pub(super) axes: Frame,
    /// The parameters of a definition.
    pub(super) params: HashMap<usize, Vec<usize>>,
    /// Which definition an item is, by the place of its name.
    pub(super) declared: HashMap<Span, usize>,
    pub(super) scopes: Vec<Frame>,
    /// In a metric, calls mean metrics before functions.
    pub(super) metric: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn define(
        &mut self,
        name: &Ident,
        kind: SymbolKind,
        whole: Span,
        doc: Option<&String>,
        scope: Option<Span>,
    ) -> usize {
        let (name, span) = (name.name.clone(), name.span);
        self.out.definitions.push(Definition { name, kind, span, whole, doc: doc.cloned(), scope, of: None });
        self.out.definitions.len() - 1
    }

    /// An item that declares a name: of a sweep's body in the innermost scope, else in the script.
    fn declare(&mut self, item: &Item, scope: Option<Span>) {
        let (name, kind, params): (&Ident, SymbolKind, &[Param]) = match &item.kind {
            ItemKind::Param(p) => (&p.name, SymbolKind::Param, &[]),
            ItemKind::Data(b) => (&b.name, SymbolKind::Data, &[]),
            ItemKind::Prompt(b) => (&b.name, SymbolKind::Prompt, &[]),
            ItemKind::Tensor(t) => (&t.name, SymbolKind::Tensor, &[]),
            ItemKind::Sae(s) => (&s.name, SymbolKind::Sae, &[]),
            ItemKind::Fn(f) => (&f.name, SymbolKind::Function, &f.params),
            ItemKind::Hook(HookDecl { name: Some(n), params, .. }) => (n, SymbolKind::Hook, params),
            ItemKind::Route(RouteDecl { name: Some(n), params, .. }) => (n, SymbolKind::Route, params),
            ItemKind::Patch(PatchDecl { name: Some(n), .. }) => (n, SymbolKind::Patch, &[]),
            ItemKind::Run(r) => (&r.name, SymbolKind::Run, &[]),
            ItemKind::Metric(m) => (&m.name, SymbolKind::Metric, &m.params),
            ItemKind::Sweep(Sweep { name: Some(n), .. }) => (n, SymbolKind::Sweep, &[]),
            ItemKind::Top(t) => (&t.name, SymbolKind::Top, &[]),
            ItemKind::Arch(a) => return self.axes_of(&a.body),
            _ => return,
        };
        let index = self.define(name, kind, item.span, item.doc.as_ref(), scope);
        self.declared.insert(name.span, index);
        let frame = match (kind, self.scopes.last_mut()) {
            (SymbolKind::Function, _) => &mut self.functions,
            (_, Some(inner)) => inner,
            (_, None) => &mut self.values,
        };
        frame.entry(name.name.clone()).or_insert(Some(index));
        self.parameters(index, params, item.span);
        if let ItemKind::Tensor(TensorDecl { axes: Some(Expr { kind: ExprKind::List(list), .. }), .. }) = &item.kind {
            for part in list.iter().flat_map(|e| if let ExprKind::Axes(parts) = &e.kind { &parts[..] } else { &[] }) {
                if part.size.is_some() {
                    let axis = self.define(&part.name, SymbolKind::Axis, item.span, None, None);
                    self.axes.entry(part.name.name.clone()).or_insert(Some(axis));
                }
            }
        }
    }

    fn parameters(&mut self, owner: usize, params: &[Param], whole: Span) {
        for p in params {
            let index = self.define(&p.name, SymbolKind::Parameter, whole, None, Some(whole));
            self.out.definitions[index].of = Some(owner);
            self.params.entry(owner).or_default().push(index);
        }
    }

    fn axes_of(&mut self, body: &Block) {
        for stmt in &body.stmts {
            if let StmtKind::Axis(name, _) = &stmt.kind {
                let axis = self.define(name, SymbolKind::Axis, stmt.span, stmt.doc.as_ref(), None);
                self.axes.entry(name.name.clone()).or_insert(Some(axis));
            }
        }
    }

    /// The parameters of the definition with this name, as a scope.
    fn parameters_of(&self, name: Option<Span>) -> Frame {
        let owner = name.and_then(|n| self.declared.get(&n));
        let params = owner.and_then(|o| self.params.get(o)).into_iter().flatten();
        params.map(|i| (self.out.definitions[*i].name.clone(), Some(*i))).collect()
    }

    fn item(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Model(_, options) => options.iter().for_each(|(_, e)| self.expr(e)),
            ItemKind::Import(_) => {}
            ItemKind::Param(p) => self.param(p),
            ItemKind::Data(b) | ItemKind::Prompt(b) => self.expr(&b.value),
            ItemKind::Tensor(t) => self.tensor(t, item.span),
            ItemKind::Sae(s) => {
                self.expr(&s.folder);
                s.at.iter().for_each(|at| self.site(at));
            }
            ItemKind::Fn(f) => {
                let frame = self.parameters_of(Some(f.name.span));
                self.within(frame, |w| {
                    f.params.iter().for_each(|p| w.param(p));
                    w.block(&f.body);
                });
            }
            ItemKind::Hook(h) => {
                self.edit(&h.params, &h.at, h.on.as_ref(), h.from.as_ref());
                let mut frame = language(HOOK);
                frame.extend(self.parameters_of(h.name.as_ref().map(|n| n.span)));
                self.within(frame, |w| w.block(&h.body));
            }
            ItemKind::Route(r) => {
                self.edit(&r.params, &r.at, r.on.as_ref(), None);
                let mut frame = language(ROUTE);
                frame.extend(self.parameters_of(r.name.as_ref().map(|n| n.span)));
                self.within(frame, |w| w.block(&r.body));
            }
            ItemKind::Patch(p) => self.edit(&[], &p.at, p.on.as_ref(), Some(&p.from)),
            ItemKind::Run(r) => self.run(&r.run),
            ItemKind::Metric(m) => {
                let frame = self.parameters_of(Some(m.name.span));
                self.within(frame, |w| {
                    m.params.iter().for_each(|p| w.param(p));
                    w.measured(&m.value);
                    w.selection(m.at.as_ref());
                });
            }
            ItemKind::Measure(m) => {
                m.metrics.iter().for_each(|e| self.measured(e));
                m.on.iter().for_each(|r| self.run(r));
                if let Some((zero, one)) = &m.normalized {
                    self.subject(zero);
                    self.subject(one);
                }
            }
            ItemKind::Capture(c) => {
                c.at.iter().for_each(|s| self.site(s));
                self.selection(c.on.as_ref());
                self.run(&c.of);
                self.text(c.to.span);
            }
            ItemKind::Generate(g) => {
                self.run(&g.run);
                for (name, value) in &g.options {
                    if name.name == "score" { self.measured(value) } else { self.expr(value) }
                }
            }
            ItemKind::Print(items) => items.iter().for_each(|e| self.expr(e)),
            ItemKind::Sweep(s) => self.sweep(s, item.span),
            ItemKind::Top(t) => {
                self.measured(&t.of);
                self.selection(t.at.as_ref());
                t.over.iter().for_each(|r| self.run(r));
                t.options.iter().for_each(|(_, e)| self.expr(e));
            }
            ItemKind::Plot(p) => self.plot(p),
            ItemKind::Save(of, to) => {
                self.name(&of.name, of.span, Role::Table);
                self.text(to.span);
            }
            ItemKind::Report(to) => self.text(to.span),
            ItemKind::Arch(a) => self.block(&a.body),
        }
    }

    fn tensor(&mut self, t: &TensorDecl, whole: Span) {
        t.axes.iter().for_each(|e| self.expr(e));
        self.expr(&t.value);
        self.selection(t.on.as_ref());
        // The name of a family stands for a layer in the site alone; elsewhere it is the language's `layer`.
        let mut frame = Frame::new();
        if let Some(family) = &t.family {
            let index = self.define(family, SymbolKind::Family, whole, None, Some(whole));
            frame.insert(family.name.clone(), Some(index));
        }
        self.within(frame, |w| t.at.iter().for_each(|s| w.site(s)));
    }

    fn edit(&mut self, params: &[Param], at: &[SitePath], on: Option<&Selection>, from: Option<&Donor>) {
        params.iter().for_each(|p| self.param(p));
        at.iter().for_each(|s| self.site(s));
        self.selection(on);
        let Some(from) = from else { return };
        self.run(&from.run);
        if let Some(by) = from.by.as_ref().filter(|by| !matches!(by.name.as_str(), "index" | "end" | "token")) {
            self.name(&by.name, by.span, Role::List);
        }
    }

    fn sweep(&mut self, s: &Sweep, whole: Span) {
        let of = s.name.as_ref().and_then(|n| self.declared.get(&n.span).copied());
        let mut frame = Frame::new();
        for axis in &s.over {
            match &axis.values {
                SweepValues::Blocks(items) => items.iter().flatten().for_each(|i| self.index(i)),
                SweepValues::Of(item) => self.within(frame.clone(), |w| w.index(item)),
            }
            let index = self.define(&axis.var, SymbolKind::SweepAxis, axis.span, None, Some(whole));
            self.out.definitions[index].of = of;
            frame.insert(axis.var.name.clone(), Some(index));
        }
        self.within(frame, |w| {
            s.body.iter().for_each(|item| w.declare(item, Some(s.braces)));
            s.body.iter().for_each(|item| w.item(item));
        });
    }

    /// Options of a plot name axes and metrics of its table, also within a text such as `"kl(clean)"`.
    fn plot(&mut self, p: &Plot) {
        self.name(&p.of.name, p.of.span, Role::Table);
        p.to.iter().for_each(|to| self.text(to.span));
        let table = self.find(&p.of.name);
        let axes = self.out.definitions.iter().enumerate().filter(|(_, d)| d.of.is_some() && d.of == table);
        let frame: Frame = axes.map(|(i, d)| (d.name.clone(), Some(i))).collect();
        for (name, value) in &p.options {
            match &value.kind {
                ExprKind::Text(_) if matches!(name.name.as_str(), "column" | "x" | "y" | "series") => {
                    let literal = self.literal(value.span);
                    for (range, word) in words(literal) {
                        let found =
                            frame.get(word).copied().flatten().or_else(|| self.values.get(word).copied().flatten());
                        if found.is_some() {
                            self.used(word, part(value.span, range), found, Role::Slot);
                        }
                    }
                }
                _ => self.within(frame.clone(), |w| w.measured(value)),
            }
        }
    }

    fn param(&mut self, p: &Param) {
        let bounds = p.bounds.iter().flat_map(|(lo, hi)| [lo, hi]);
        p.default.iter().chain(bounds).for_each(|e| self.expr(e));
    }

    pub(super) fn within(&mut self, frame: Frame, f: impl FnOnce(&mut Self)) {
        self.scopes.push(frame);
        f(self);
        self.scopes.pop();
    }

    /// An expression in which calls mean metrics first.
    pub(super) fn measured(&mut self, e: &Expr) {
        let before = std::mem::replace(&mut self.metric, true);
        self.expr(e);
        self.metric = before;
    }

    fn run(&mut self, run: &RunExpr) {
        self.subject(&run.subject);
        for edit in &run.with {
            let found = self.name(&edit.name.name, edit.name.span, Role::Edit);
            self.args(found, &edit.args, false);
        }
    }

    /// What is run.
    pub(super) fn subject(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Name(n) => drop(self.name(n, e.span, Role::Run)),
            _ => self.expr(e),
        }
    }

    fn site(&mut self, site: &SitePath) {
        if site.foreign().is_some() {
            return;
        }
        if let Some(first) = site.segments.first() {
            let found = self.find(&first.name.name);
            let of = found.map(|i| self.out.definitions[i].kind);
            if matches!(of, Some(SymbolKind::SweepAxis | SymbolKind::Sae | SymbolKind::Parameter)) {
                self.used(&first.name.name, first.name.span, found, Role::Value);
            }
        }
        site.segments.iter().flat_map(|s| s.index.iter().flatten()).for_each(|i| self.index(i));
    }

    fn selection(&mut self, selection: Option<&Selection>) {
        selection.iter().for_each(|s| self.positions(&s.set));
    }

    fn positions(&mut self, p: &Positions) {
        match &p.kind {
            PositionsKind::Prompt(items) | PositionsKind::Generated(items) | PositionsKind::Seq(items) => {
                items.iter().flatten().for_each(|i| self.index(i));
            }
            PositionsKind::After(text, items) | PositionsKind::Matching(text, items) => {
                self.text(text.span);
                items.iter().flatten().for_each(|i| self.index(i));
            }
            PositionsKind::Mask(name) => drop(self.name(&name.name, name.span, Role::List)),
            PositionsKind::Name(name) => drop(self.name(&name.name, name.span, Role::Positions)),
            PositionsKind::Or(a, b) | PositionsKind::And(a, b) => {
                self.positions(a);
                self.positions(b);
            }
            PositionsKind::Not(a) => self.positions(a),
            PositionsKind::All | PositionsKind::Bos | PositionsKind::Role(_) => {}
        }
    }
}

/// Names of the language as a scope.
fn language(names: &[&str]) -> Frame {
    names.iter().map(|n| ((*n).to_owned(), None)).collect()
}
