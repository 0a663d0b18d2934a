//! Finds names by walking the tree with the scopes that are open.

use super::slots::{slots, words};
use super::{Definition, Part, Role, SymbolKind, Symbols, Use};
use crate::ast::*;
use crate::source::{FileId, Span};
use std::collections::HashMap;

/// What a name means in a scope: a definition, or something of the language that hides those further out.
type Frame = HashMap<String, Option<usize>>;

/// Names that the language gives a meaning before any declaration of the script.
const OWN: &[&str] = &["pi", "inf", "layer", "token", "position"];

/// What a hook's body knows besides.
const HOOK: &[&str] = &["h", "h0", "donor"];

/// Values of a mixture that a route's body knows.
const ROUTE: &[&str] = &["router", "scores", "selection", "top_k", "chosen", "chosen_scores", "gates"];

/// Functions whose texts are no values of the script.
const RAW: &[&str] = &["template", "load", "site"];

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
struct Walk<'a> {
    texts: HashMap<FileId, &'a str>,
    out: Symbols,
    /// Declarations of the script, but for functions.
    values: Frame,
    functions: Frame,
    axes: Frame,
    /// The parameters of a definition.
    params: HashMap<usize, Vec<usize>>,
    /// Which definition an item is, by the place of its name.
    declared: HashMap<Span, usize>,
    scopes: Vec<Frame>,
    /// In a metric, calls mean metrics before functions.
    metric: bool,
}

impl<'a> Walk<'a> {
    fn define(
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
                _ => self.within(frame.clone(), |w| w.expr(value)),
            }
        }
    }

    fn param(&mut self, p: &Param) {
        let bounds = p.bounds.iter().flat_map(|(lo, hi)| [lo, hi]);
        p.default.iter().chain(bounds).for_each(|e| self.expr(e));
    }

    fn within(&mut self, frame: Frame, f: impl FnOnce(&mut Self)) {
        self.scopes.push(frame);
        f(self);
        self.scopes.pop();
    }

    /// An expression in which calls mean metrics first.
    fn measured(&mut self, e: &Expr) {
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
    fn subject(&mut self, e: &Expr) {
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

    fn index(&mut self, item: &IndexItem) {
        match item {
            IndexItem::All(_) => {}
            IndexItem::At(e) => self.expr(e),
            IndexItem::Range { start, end, .. } => start.iter().chain(end).for_each(|e| self.expr(e)),
        }
    }

    fn literal(&self, span: Span) -> &'a str {
        self.texts.get(&span.file).and_then(|t| t.get(span.start as usize..span.end as usize)).unwrap_or_default()
    }

    fn text(&mut self, span: Span) {
        let found: Vec<(Span, String)> =
            slots(self.literal(span)).into_iter().map(|(range, name)| (part(span, range), name.to_owned())).collect();
        for (place, name) in found {
            let first = name.split('.').next().unwrap_or_default();
            let end = place.start as usize + first.len();
            let place = Span::new(place.file, place.start as usize, end);
            let local = self.local(first);
            let found = local.unwrap_or_else(|| self.global(first));
            self.used(first, place, found, Role::Slot);
        }
    }

    fn expr(&mut self, e: &Expr) {
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
                let (found, raw) = match &f.kind {
                    ExprKind::Name(n) => {
                        let found = self.callee(n);
                        self.used(n, f.span, found, Role::Function);
                        (found, found.is_none() && RAW.contains(&n.as_str()))
                    }
                    _ => {
                        self.expr(f);
                        (None, false)
                    }
                };
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

    fn args(&mut self, callee: Option<usize>, args: &[Arg], raw: bool) {
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

    fn block(&mut self, block: &Block) {
        self.within(Frame::new(), |w| block.stmts.iter().for_each(|s| w.stmt(s, block.span)));
    }

    fn stmt(&mut self, stmt: &Stmt, block: Span) {
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
    fn bind(&mut self, name: &Ident, kind: SymbolKind, stmt: &Stmt, block: Span) {
        let scope = Span { start: stmt.span.end, ..block };
        let index = self.define(name, kind, stmt.span, stmt.doc.as_ref(), Some(scope));
        if let Some(frame) = self.scopes.last_mut() {
            frame.insert(name.name.clone(), Some(index));
        }
    }

    /// What a name means in the scopes that are open; the inner `None` is a name of the language.
    fn local(&self, name: &str) -> Option<Option<usize>> {
        self.scopes.iter().rev().find_map(|s| s.get(name)).copied()
    }

    fn global(&self, name: &str) -> Option<usize> {
        let declared = || self.values.get(name).or_else(|| self.axes.get(name)).copied().flatten();
        if OWN.contains(&name) { None } else { declared() }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.local(name).unwrap_or_else(|| self.global(name))
    }

    fn callee(&self, name: &str) -> Option<usize> {
        if let Some(local) = self.local(name) {
            return local;
        }
        let metric = self.values.get(name).copied().flatten();
        let metric = metric.filter(|i| self.out.definitions[*i].kind == SymbolKind::Metric);
        let function = self.functions.get(name).copied().flatten();
        if self.metric { metric.or(function) } else { function.or(metric) }
    }

    fn name(&mut self, name: &str, span: Span, role: Role) -> Option<usize> {
        let found = match role {
            // Runs are looked for among declarations, whatever the language calls so elsewhere.
            Role::Run | Role::Edit | Role::List | Role::Table => {
                self.local(name).flatten().or_else(|| self.values.get(name).copied().flatten())
            }
            _ => self.find(name),
        };
        self.used(name, span, found, role);
        found
    }

    fn used(&mut self, name: &str, span: Span, definition: Option<usize>, role: Role) {
        self.out.uses.push(Use { name: name.to_owned(), span, definition, role });
    }
}

/// Names of the language as a scope.
fn language(names: &[&str]) -> Frame {
    names.iter().map(|n| ((*n).to_owned(), None)).collect()
}

/// A part of a text by the bytes of its literal.
fn part(span: Span, range: std::ops::Range<usize>) -> Span {
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
