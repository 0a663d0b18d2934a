//! Declarations in the order in which they need one another, whatever order they stand in.

use super::check::{Checker, name_of};
use super::reads::foreign;
use super::value::Value;
use std::collections::{HashMap, HashSet};
use steer_lang::ast::{
    Block, Donor, Expr, ExprKind, IndexItem, Item, ItemKind, Param, Positions, PositionsKind, RunExpr, Selection,
    SitePath, StmtKind,
};
use steer_lang::{Diagnostic, Span, codes};

/// A name that a declaration mentions.
#[derive(Clone, Debug)]
struct Mention {
    name: String,
    span: Span,
    /// It is called.
    function: bool,
    /// It may stand for something else, as `{name}` in a text does.
    maybe: bool,
}

/// A declaration whose mentions are being looked at.
struct Open {
    item: usize,
    mentions: Vec<Mention>,
    next: usize,
    error: Option<Box<Diagnostic>>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    Begun,
    Done,
}

impl Checker<'_> {
    /// Checks every declaration after those that it mentions. Of declarations that are made from themselves
    /// one has an error.
    pub(super) fn declarations(&mut self, items: &[Item], overrides: &[(String, String)]) {
        let mut known = Known::default();
        let mut twice = HashSet::new();
        for (i, item) in items.iter().enumerate() {
            if let ItemKind::Fn(f) = &item.kind {
                known.functions.insert(&f.name.name, i);
            }
            let Some(name) = name_of(item) else { continue };
            match self.new_name(name) {
                Ok(()) => drop(known.values.insert(&name.name, i)),
                Err(d) => {
                    twice.insert(i);
                    self.diagnostics.push(*d);
                }
            }
            known.axes_of(item, i);
        }
        let mut states = vec![State::Waiting; items.len()];
        let mut stack: Vec<Open> = Vec::new();
        let mut order: Vec<usize> = (0..items.len()).filter(|i| !twice.contains(i)).collect();
        order.sort_by_key(|i| rank(&items[*i]));
        for first in order {
            if states[first] == State::Waiting {
                states[first] = State::Begun;
                stack.push(Open::of(items, first));
            }
            while let Some(top) = stack.last_mut() {
                let Some(mention) = top.mentions.get(top.next).cloned() else {
                    let Some(done) = stack.pop() else { break };
                    states[done.item] = State::Done;
                    self.declared(&items[done.item], done.error, overrides);
                    continue;
                };
                top.next += 1;
                let Some((of, hard)) = known.find(&mention) else { continue };
                match states[of] {
                    State::Done => {}
                    State::Waiting => {
                        states[of] = State::Begun;
                        stack.push(Open::of(items, of));
                    }
                    State::Begun if hard && !mention.maybe => {
                        let name = &mention.name;
                        let word = word(&items[of]);
                        top.error.get_or_insert_with(|| {
                            Box::new(
                                Diagnostic::error(
                                    codes::UNKNOWN_NAME,
                                    format!("the {word} `{name}` is made from itself"),
                                )
                                .at(mention.span, "here"),
                            )
                        });
                        self.globals.insert(name.clone(), Value::Broken);
                    }
                    State::Begun => {}
                }
            }
        }
    }

    /// One declaration, all of whose mentions are declared.
    fn declared(&mut self, item: &Item, error: Option<Box<Diagnostic>>, overrides: &[(String, String)]) {
        let result = match error {
            Some(d) => Err(d),
            None => self.declare(item, overrides),
        };
        let name = name_of(item).map(|n| n.name.clone());
        match (result, name) {
            (Ok(()), _) => {}
            (Err(d), name) => {
                // That others miss it is only the echo of this error.
                if let Some(name) = name {
                    self.globals.insert(name, Value::Broken);
                }
                self.diagnostics.push(*d);
            }
        }
    }
}

/// Which item declares what.
#[derive(Default)]
struct Known<'a> {
    values: HashMap<&'a str, usize>,
    functions: HashMap<&'a str, usize>,
    /// Axes that tensors bring along.
    axes: HashMap<&'a str, usize>,
}

impl<'a> Known<'a> {
    fn axes_of(&mut self, item: &'a Item, i: usize) {
        if let ItemKind::Tensor(t) = &item.kind
            && let Some(Expr { kind: ExprKind::List(parts), .. }) = &t.axes
        {
            for part in parts {
                if let ExprKind::Axes(axes) = &part.kind {
                    for a in axes.iter().filter(|a| a.size.is_some()) {
                        self.axes.entry(&a.name.name).or_insert(i);
                    }
                }
            }
        }
    }

    /// The item that a mention means, and whether nothing else can be meant.
    fn find(&self, m: &Mention) -> Option<(usize, bool)> {
        if m.function {
            return self.functions.get(&*m.name).map(|i| (*i, false));
        }
        let value = self.values.get(&*m.name).map(|i| (*i, true));
        value.or_else(|| self.axes.get(&*m.name).map(|i| (*i, false)))
    }
}

/// The name of every `site("...")` in an expression, with its place.
pub(super) fn foreign_names(items: &[Item]) -> Vec<(String, Span)> {
    let mut found = Mentions::default();
    items.iter().for_each(|item| found.bodies(item));
    found.foreign
}

/// What comes first where nothing is mentioned.
fn rank(item: &Item) -> u8 {
    match &item.kind {
        ItemKind::Param(_) | ItemKind::Data(_) | ItemKind::Prompt(_) | ItemKind::Sae(_) => 0,
        ItemKind::Tensor(_) => 1,
        ItemKind::Hook(h) if h.from.is_none() => 2,
        ItemKind::Route(_) => 2,
        ItemKind::Hook(_) | ItemKind::Patch(_) => 3,
        _ => 4,
    }
}

/// What it is called.
pub(super) fn word(item: &Item) -> &'static str {
    match &item.kind {
        ItemKind::Param(_) => "parameter",
        ItemKind::Data(_) => "data set",
        ItemKind::Prompt(_) => "prompt",
        ItemKind::Tensor(_) => "tensor",
        ItemKind::Sae(_) => "sparse autoencoder",
        ItemKind::Hook(_) => "hook",
        ItemKind::Route(_) => "route",
        ItemKind::Patch(_) => "patch",
        ItemKind::Run(_) => "run",
        ItemKind::Metric(_) => "metric",
        ItemKind::Sweep(_) | ItemKind::Top(_) => "table",
        _ => "value",
    }
}

impl Open {
    fn of(items: &[Item], item: usize) -> Open {
        let mut found = Mentions::default();
        found.item(&items[item]);
        Open { item, mentions: found.all, next: 0, error: None }
    }
}

/// Collects what a declaration needs before it can be checked. Bodies of hooks and metrics are looked at
/// when everything is declared.
#[derive(Default)]
struct Mentions {
    all: Vec<Mention>,
    /// Names that a function declares itself.
    own: Vec<String>,
    /// Names of other programs for sites.
    foreign: Vec<(String, Span)>,
}

impl Mentions {
    fn item(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Param(p) => self.params(std::slice::from_ref(p)),
            ItemKind::Data(b) | ItemKind::Prompt(b) => self.expr(&b.value),
            ItemKind::Tensor(t) => {
                self.own.extend(t.family.iter().map(|f| f.name.clone()));
                t.axes.iter().for_each(|a| self.expr(a));
                self.expr(&t.value);
                t.at.iter().for_each(|s| self.site(s));
                self.selection(t.on.as_ref());
            }
            ItemKind::Sae(s) => {
                self.expr(&s.folder);
                s.at.iter().for_each(|at| self.site(at));
            }
            ItemKind::Fn(f) => {
                self.own.extend(f.params.iter().map(|p| p.name.name.clone()));
                self.params(&f.params);
                self.block(&f.body);
            }
            ItemKind::Hook(h) => {
                self.params(&h.params);
                h.at.iter().for_each(|s| self.site(s));
                self.selection(h.on.as_ref());
                self.donor(h.from.as_ref());
            }
            ItemKind::Route(r) => {
                self.params(&r.params);
                r.at.iter().for_each(|s| self.site(s));
                self.selection(r.on.as_ref());
                // What it names decides which experts these are.
                self.block(&r.body);
            }
            ItemKind::Patch(p) => {
                p.at.iter().for_each(|s| self.site(s));
                self.selection(p.on.as_ref());
                self.donor(Some(&p.from));
            }
            ItemKind::Run(r) => self.run(&r.run),
            _ => {}
        }
    }

    /// What an item evaluates when everything is declared.
    fn bodies(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Hook(h) => self.block(&h.body),
            ItemKind::Route(r) => self.block(&r.body),
            ItemKind::Fn(f) => self.block(&f.body),
            ItemKind::Metric(m) => self.expr(&m.value),
            ItemKind::Measure(m) => m.metrics.iter().for_each(|e| self.expr(e)),
            ItemKind::Top(t) => self.expr(&t.of),
            ItemKind::Sweep(s) => s.body.iter().for_each(|item| self.bodies(item)),
            _ => {}
        }
    }

    fn name(&mut self, name: &str, span: Span, function: bool, maybe: bool) {
        if !self.own.iter().any(|n| n == name) {
            self.all.push(Mention { name: name.to_owned(), span, function, maybe });
        }
    }

    fn params(&mut self, params: &[Param]) {
        for p in params {
            p.default.iter().for_each(|e| self.expr(e));
            if let Some((lo, hi)) = &p.bounds {
                self.expr(lo);
                self.expr(hi);
            }
        }
    }

    fn run(&mut self, run: &RunExpr) {
        self.expr(&run.subject);
        for u in &run.with {
            self.name(&u.name.name, u.name.span, false, false);
            u.args.iter().for_each(|a| self.expr(&a.value));
        }
    }

    fn donor(&mut self, donor: Option<&Donor>) {
        let Some(donor) = donor else { return };
        self.run(&donor.run);
        if let Some(by) = &donor.by {
            self.name(&by.name, by.span, false, true);
        }
    }

    fn site(&mut self, site: &SitePath) {
        site.segments.iter().filter_map(|s| s.index.as_ref()).flatten().for_each(|i| self.index(i));
    }

    fn selection(&mut self, selection: Option<&Selection>) {
        selection.iter().for_each(|s| self.positions(&s.set));
    }

    fn positions(&mut self, p: &Positions) {
        match &p.kind {
            PositionsKind::Prompt(Some(part))
            | PositionsKind::Generated(Some(part))
            | PositionsKind::Seq(Some(part)) => part.iter().for_each(|i| self.index(i)),
            PositionsKind::After(text, part) | PositionsKind::Matching(text, part) => {
                self.text(&text.value, text.span);
                part.iter().flatten().for_each(|i| self.index(i));
            }
            PositionsKind::Mask(name) => self.name(&name.name, name.span, false, false),
            PositionsKind::Or(a, b) | PositionsKind::And(a, b) => {
                self.positions(a);
                self.positions(b);
            }
            PositionsKind::Not(a) => self.positions(a),
            _ => {}
        }
    }

    fn index(&mut self, item: &IndexItem) {
        match item {
            IndexItem::All(_) => {}
            IndexItem::At(e) => self.expr(e),
            IndexItem::Range { start, end, .. } => start.iter().chain(end).for_each(|e| self.expr(e)),
        }
    }

    fn text(&mut self, text: &str, span: Span) {
        for part in text.split('{').skip(1) {
            if let Some((name, _)) = part.split_once('}') {
                self.name(name, span, false, true);
            }
        }
    }

    fn expr(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Number(_) | ExprKind::Bool(_) | ExprKind::None => {}
            ExprKind::Text(t) => self.text(t, e.span),
            ExprKind::Name(n) => self.name(n, e.span, false, false),
            ExprKind::Field(of, _) => self.expr(of),
            ExprKind::Index(of, args) => {
                self.expr(of);
                args.iter().for_each(|a| self.index(&a.item));
            }
            ExprKind::Call(f, args) => {
                if let ExprKind::Name(n) = &f.kind {
                    self.name(n, f.span, true, true);
                }
                self.foreign.extend(foreign(e).map(|name| (name.to_owned(), e.span)));
                args.iter().for_each(|a| self.expr(&a.value));
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
                        None => self.name(&p.name.name, p.name.span, false, true),
                    }
                }
            }
            ExprKind::If { cond, then, otherwise } => {
                self.expr(cond);
                self.block(then);
                otherwise.iter().for_each(|o| self.block(o));
            }
            ExprKind::Lambda(params, body) => {
                self.own.extend(params.iter().map(|p| p.name.clone()));
                self.block(body);
            }
        }
    }

    fn block(&mut self, b: &Block) {
        for s in &b.stmts {
            match &s.kind {
                StmtKind::Let(name, e) => {
                    self.expr(e);
                    self.own.push(name.name.clone());
                }
                StmtKind::Experts { experts, by, .. } => experts.iter().chain(by).for_each(|e| self.expr(e)),
                StmtKind::Axis(_, e) | StmtKind::Require(e, _) | StmtKind::Expr(e) => self.expr(e),
                StmtKind::Site { value, .. } | StmtKind::Write { value, .. } => self.expr(value),
                StmtKind::Assign { target, value, .. } => {
                    self.expr(target);
                    self.expr(value);
                }
                StmtKind::When { cond, then, otherwise } => {
                    self.expr(cond);
                    self.block(then);
                    otherwise.iter().for_each(|o| self.block(o));
                }
                StmtKind::Blocks { start, end, body, .. } => {
                    self.expr(start);
                    self.expr(end);
                    self.block(body);
                }
            }
        }
    }
}
