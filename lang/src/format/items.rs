//! Declarations.

use super::doc::Doc;
use super::expr::quoted;
use super::{Element, Printer};
use crate::ast::*;
use crate::lex::TokenKind;
use crate::source::Span;

impl<'a> Printer<'a> {
    pub(super) fn item(&mut self, item: &Item) -> Doc {
        match &item.kind {
            ItemKind::Model(text, options) => {
                let head = Doc::Text(format!("model {}", quoted(&text.value)));
                self.with_options(head, text.span, options, item.span)
            }
            ItemKind::Import(text) => Doc::Text(format!("import {}", quoted(&text.value))),
            ItemKind::Param(param) => Doc::concat([Doc::text("param "), self.param(param)]),
            ItemKind::Data(binding) => self.binding("data", binding),
            ItemKind::Prompt(binding) => self.binding("prompt", binding),
            ItemKind::Tensor(tensor) => self.tensor(tensor),
            ItemKind::Sae(sae) => {
                let head = Doc::concat([Doc::Text(format!("sae {} = ", sae.name.name)), self.expr(&sae.folder)]);
                let at = sae.at.as_ref().map(|at| Doc::concat([Doc::text("at "), self.site(at)]));
                header(head, at.into_iter().collect())
            }
            ItemKind::Fn(function) => self.function(function),
            ItemKind::Hook(hook) => self.hook(hook),
            ItemKind::Route(route) => {
                let (head, mut clauses) = self.edit_head("route", route.name.as_ref(), &route.params, &route.at);
                clauses.extend(self.on(route.on.as_ref()));
                self.with_body(head, clauses, &route.body)
            }
            ItemKind::Patch(patch) => {
                let (head, mut clauses) = self.edit_head("patch", patch.name.as_ref(), &[], &patch.at);
                clauses.extend(self.on(patch.on.as_ref()));
                clauses.push(self.donor(&patch.from));
                header(head, clauses)
            }
            ItemKind::Run(run) => self.run(Doc::Text(format!("run {} = ", run.name.name)), &run.run),
            ItemKind::Metric(metric) => self.metric(metric),
            ItemKind::Measure(measure) => self.measure(measure),
            ItemKind::Capture(capture) => {
                let before = if capture.before { "capture before " } else { "capture " };
                let head = Doc::concat([Doc::text(before), self.sites(&capture.at)]);
                let mut clauses = Vec::new();
                clauses.extend(self.on(capture.on.as_ref()));
                clauses.push(self.run_clause("of ", &capture.of));
                clauses.push(Doc::Text(format!("to {}", quoted(&capture.to.value))));
                header(head, clauses)
            }
            ItemKind::Generate(generate) => self.generate(generate, item.span),
            ItemKind::Print(values) => Doc::concat([Doc::text("print "), self.exprs(values)]),
            ItemKind::Sweep(sweep) => self.sweep(sweep),
            ItemKind::Top(top) => {
                let head = Doc::Text(format!("top {} of ", top.name.name));
                let head = Doc::concat([head, self.expr(&top.of)]);
                let at = top.at.as_ref().map(|at| Doc::concat([Doc::text("at "), self.selection(at)]));
                let clauses = at.into_iter().chain(self.runs("over ", &top.over)).collect();
                let end = top.over.last().map_or(top.of.span, |run| run.span);
                self.with_options(header(head, clauses), end, &top.options, item.span)
            }
            ItemKind::Plot(plot) => {
                let kind = plot.kind.as_ref().map_or(String::new(), |k| format!(" as {}", k.name));
                let head = Doc::Text(format!("plot {}{kind}", plot.of.name));
                let to = plot.to.iter().map(|to| Doc::Text(format!("to {}", quoted(&to.value)))).collect();
                let head = header(head, to);
                let end = plot.to.as_ref().map(|t| t.span).or(plot.kind.as_ref().map(|k| k.span));
                self.with_options(head, end.unwrap_or(plot.of.span), &plot.options, item.span)
            }
            ItemKind::Save(name, to) => Doc::Text(format!("save {} to {}", name.name, quoted(&to.value))),
            ItemKind::Report(to) => Doc::Text(format!("report to {}", quoted(&to.value))),
            ItemKind::Arch(arch) => {
                let names = arch
                    .names
                    .iter()
                    .map(|n| Element::new(n.span, |_: &mut Printer<'a>| Doc::Text(quoted(&n.value))))
                    .collect();
                let names = self.listed(names);
                Doc::concat([Doc::text("arch "), names, Doc::text(" "), self.block(&arch.body)])
            }
        }
    }

    fn binding(&mut self, word: &str, binding: &Binding) -> Doc {
        let head = Doc::Text(format!("{word} {} = ", binding.name.name));
        Doc::concat([head, self.expr(&binding.value)])
    }

    fn param(&mut self, param: &Param) -> Doc {
        let ty = param.ty.map_or(String::new(), |(ty, _)| format!(": {}", ty.name()));
        let mut docs = vec![Doc::Text(format!("{}{ty}", param.name.name))];
        if let Some(default) = &param.default {
            docs.extend([Doc::text(" = "), self.expr(default)]);
        }
        if let Some((low, high)) = &param.bounds {
            docs.extend([Doc::text(" in "), self.expr(low), Doc::text(".."), self.expr(high)]);
        }
        Doc::Concat(docs)
    }

    /// `(a, b = 1)`, and nothing where there are none.
    fn params(&mut self, params: &[Param]) -> Doc {
        let (Some(first), Some(last)) = (params.first(), params.last()) else {
            return Doc::Concat(Vec::new());
        };
        let bounds = self.around(first.name.span.start as usize, param_span(last).end as usize, b')');
        let elements =
            params.iter().map(|p| Element::new(param_span(p), move |s: &mut Printer<'a>| s.param(p))).collect();
        self.bracketed(("(", ")"), bounds, false, elements)
    }

    fn tensor(&mut self, tensor: &TensorDecl) -> Doc {
        let word = if tensor.kind == TensorKind::Vector { "vector" } else { "tensor" };
        let family = tensor.family.as_ref().map_or(String::new(), |f| format!("[{}]", f.name));
        let mut docs = vec![Doc::Text(format!("{word} {}{family}", tensor.name.name))];
        if let Some(axes) = &tensor.axes {
            docs.extend([Doc::text(": "), self.expr(axes)]);
        }
        docs.extend([Doc::text(" = "), self.expr(&tensor.value)]);
        let mut clauses = Vec::new();
        if let Some(site) = &tensor.at {
            clauses.push(Doc::concat([Doc::text("at "), self.site(site)]));
        }
        clauses.extend(self.on(tensor.on.as_ref()));
        header(Doc::Concat(docs), clauses)
    }

    fn function(&mut self, function: &FnDecl) -> Doc {
        let mut docs = vec![Doc::Text(format!("fn {}", function.name.name))];
        docs.push(match function.params.is_empty() {
            true => Doc::text("()"),
            false => self.params(&function.params),
        });
        match function.body.stmts.as_slice() {
            [Stmt { kind: StmtKind::Expr(value), .. }] if !self.slice(function.body.span).starts_with('{') => {
                docs.extend([Doc::text(" = "), self.expr(value)]);
            }
            _ => docs.extend([Doc::text(" "), self.block(&function.body)]),
        }
        Doc::Concat(docs)
    }

    fn hook(&mut self, hook: &HookDecl) -> Doc {
        let (head, mut clauses) = self.edit_head("hook", hook.name.as_ref(), &hook.params, &hook.at);
        clauses.extend(self.on(hook.on.as_ref()));
        if let Some(from) = &hook.from {
            clauses.push(self.donor(from));
        }
        self.with_body(head, clauses, &hook.body)
    }

    /// The head of an edit with its clauses, and its body. Where the clauses have lines of their own, so has the brace.
    fn with_body(&mut self, head: Doc, clauses: Vec<Doc>, body: &Block) -> Doc {
        let clauses = clauses.into_iter().flat_map(|c| [Doc::Line, c]);
        let head = Doc::group([head, Doc::nest(clauses), Doc::Line]);
        Doc::concat([head, self.block(body)])
    }

    /// `hook name(...)` and its first clause `at ...`; without a name the sites follow the word.
    fn edit_head(&mut self, word: &str, name: Option<&Ident>, params: &[Param], at: &[SitePath]) -> (Doc, Vec<Doc>) {
        match name {
            Some(name) => {
                let head = Doc::Text(format!("{word} {}", name.name));
                (Doc::concat([head, self.params(params)]), vec![self.at_sites(at)])
            }
            None => (Doc::concat([Doc::Text(format!("{word} ")), self.sites(at)]), Vec::new()),
        }
    }

    fn donor(&mut self, donor: &Donor) -> Doc {
        let run = self.run_clause("from ", &donor.run);
        let by = donor.by.as_ref().map(|by| Doc::Text(format!("by {}", by.name)));
        header(run, by.into_iter().collect())
    }

    fn sweep(&mut self, sweep: &Sweep) -> Doc {
        let name = sweep.name.as_ref().map_or(String::new(), |n| format!(" {}", n.name));
        let axes = sweep
            .over
            .iter()
            .map(|axis| Element::new(axis.span, move |p: &mut Printer<'a>| p.sweep_axis(axis)))
            .collect();
        let axes = Doc::concat([Doc::text("over "), self.listed(axes)]);
        let head = Doc::group([Doc::Text(format!("sweep{name}")), Doc::nest([Doc::Line, axes])]);
        let spans: Vec<Span> = sweep.body.iter().map(|i| i.span).collect();
        let body = self.braced(sweep.braces, &spans, false, |p, n| p.item(&sweep.body[n]));
        Doc::concat([head, Doc::text(" "), body])
    }

    fn sweep_axis(&mut self, axis: &SweepAxis) -> Doc {
        let values = match &axis.values {
            SweepValues::Blocks(None) => Doc::text("blocks"),
            SweepValues::Blocks(Some(items)) => Doc::concat([Doc::text("blocks"), self.index(items)]),
            SweepValues::Of(item) => self.index_item(item),
        };
        Doc::concat([Doc::Text(format!("{} in ", axis.var.name)), values])
    }

    fn metric(&mut self, metric: &MetricDecl) -> Doc {
        let name = Doc::Text(format!("metric {}", metric.name.name));
        let params = self.params(&metric.params);
        let head = Doc::concat([name, params, Doc::text(" = "), self.expr(&metric.value)]);
        let at = metric.at.as_ref().map(|at| Doc::concat([Doc::text("at "), self.selection(at)]));
        header(head, at.into_iter().collect())
    }

    fn measure(&mut self, measure: &Measure) -> Doc {
        let word = if measure.mean { "measure mean " } else { "measure " };
        let head = Doc::concat([Doc::text(word), self.exprs(&measure.metrics)]);
        let on = self.preposition(measure);
        let mut clauses = self.runs(on, &measure.on);
        if let Some((zero, one)) = &measure.normalized {
            let (zero, one) = (self.expr(zero), self.expr(one));
            clauses.push(Doc::concat([Doc::text("normalized by ("), zero, Doc::text(", "), one, Doc::text(")")]));
        }
        header(head, clauses)
    }

    /// Several runs behind a word; where the last alone has edits, these are a clause of their own.
    fn runs(&mut self, word: &str, runs: &[RunExpr]) -> Vec<Doc> {
        let only_last = runs.iter().rev().skip(1).all(|run| run.with.is_empty());
        let subjects: Vec<_> = runs
            .iter()
            .map(|run| match only_last {
                true => Element::new(run.subject.span, move |p: &mut Printer<'a>| p.expr(&run.subject)),
                false => Element::new(run.span, move |p: &mut Printer<'a>| p.run(Doc::text(""), run)),
            })
            .collect();
        let mut clauses = vec![Doc::concat([Doc::text(word), self.listed(subjects)])];
        if only_last {
            clauses.extend(runs.last().and_then(|run| self.with(&run.with)));
        }
        clauses
    }

    /// `on` or `over`, as the author wrote.
    fn preposition(&self, measure: &Measure) -> &'static str {
        let from = measure.metrics.last().map_or(0, |m| m.span.end as usize);
        let to = measure.on.first().map_or(0, |r| r.subject.span.start as usize);
        let start = self.tokens.partition_point(|t| t.start < from);
        let over = self.tokens[start..]
            .iter()
            .take_while(|t| t.start < to)
            .any(|t| t.kind == TokenKind::Word && &self.text[t.start..t.end] == "over");
        if over { "over " } else { "on " }
    }

    fn generate(&mut self, generate: &Generate, span: Span) -> Doc {
        let run = self.run(Doc::text("generate "), &generate.run);
        self.with_options(run, generate.run.span, &generate.options, span)
    }

    /// `{ name: value, ... }` behind a statement, whose part before them ends where `before` does.
    fn with_options(&mut self, head: Doc, before: Span, options: &[(Ident, Expr)], span: Span) -> Doc {
        if options.is_empty() {
            return head;
        }
        let elements = options
            .iter()
            .map(|(name, value)| {
                Element::new(name.span.to(value.span), move |p: &mut Printer<'a>| {
                    Doc::concat([Doc::Text(format!("{}: ", name.name)), p.expr(value)])
                })
            })
            .collect();
        let open = self.tokens.partition_point(|t| t.start < before.end as usize);
        let open = self.tokens.get(open).map_or(span.start as usize, |t| t.start);
        let options = self.bracketed(("{", "}"), (open, span.end as usize - 1), true, elements);
        Doc::concat([head, Doc::text(" "), options])
    }

    fn exprs(&mut self, values: &[Expr]) -> Doc {
        let elements = values.iter().map(|v| Element::new(v.span, move |p: &mut Printer<'a>| p.expr(v))).collect();
        self.listed(elements)
    }

    fn at_sites(&mut self, sites: &[SitePath]) -> Doc {
        Doc::concat([Doc::text("at "), self.sites(sites)])
    }

    fn on(&mut self, selection: Option<&Selection>) -> Option<Doc> {
        selection.map(|s| Doc::concat([Doc::text("on "), self.selection(s)]))
    }

    /// A run with its edits, on the next line where they do not fit.
    fn run(&mut self, head: Doc, run: &RunExpr) -> Doc {
        let head = Doc::concat([head, self.expr(&run.subject)]);
        let with = self.with(&run.with);
        header(head, with.into_iter().collect())
    }

    fn run_clause(&mut self, word: &str, run: &RunExpr) -> Doc {
        self.run(Doc::text(word), run)
    }

    fn with(&mut self, uses: &[EditUse]) -> Option<Doc> {
        if uses.is_empty() {
            return None;
        }
        let elements = uses.iter().map(|u| Element::new(u.span, move |p: &mut Printer<'a>| p.edit_use(u))).collect();
        Some(Doc::concat([Doc::text("with "), self.listed(elements)]))
    }

    fn edit_use(&mut self, edit: &EditUse) -> Doc {
        let name = Doc::text(&edit.name.name);
        if edit.args.is_empty() {
            return name;
        }
        Doc::concat([name, self.args(&edit.args, edit.name.span.end as usize, edit.span.end as usize - 1)])
    }
}

/// What a declaration begins with, and its clauses: on one line, or each on its own.
fn header(head: Doc, clauses: Vec<Doc>) -> Doc {
    let clauses = clauses.into_iter().flat_map(|c| [Doc::Line, c]);
    Doc::group([head, Doc::nest(clauses)])
}

fn param_span(param: &Param) -> Span {
    let mut span = param.name.span;
    for end in param.ty.iter().map(|(_, s)| *s).chain(param.default.iter().map(|d| d.span)) {
        span = span.to(end);
    }
    param.bounds.as_ref().map_or(span, |(_, high)| span.to(high.span))
}
