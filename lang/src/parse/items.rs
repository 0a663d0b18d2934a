//! Declarations.

use pest::iterators::Pair;

use super::{Build, Parts, Rule};
use crate::ast::*;
use crate::codes;
use crate::diagnostic::Diagnostic;

impl Build<'_> {
    pub(super) fn item_kind(&mut self, pair: Pair<Rule>) -> ItemKind {
        let rule = pair.as_rule();
        let source = pair.as_str();
        let mut parts = Parts::of(pair);
        match rule {
            Rule::model_item => {
                let text = self.text(&parts.need());
                ItemKind::Model(text, parts.take_if(Rule::options).map(|o| self.options(o)).unwrap_or_default())
            }
            Rule::import_item => ItemKind::Import(self.text(&parts.need())),
            Rule::param_item => ItemKind::Param(self.script_param(parts.need())),
            Rule::data_item => ItemKind::Data(self.binding(&mut parts)),
            Rule::prompt_item => ItemKind::Prompt(self.binding(&mut parts)),
            Rule::tensor_item => {
                let kind = if source.starts_with("vector") { TensorKind::Vector } else { TensorKind::Tensor };
                ItemKind::Tensor(self.tensor(kind, parts))
            }
            Rule::sae_item => {
                let name = self.ident(&parts.need());
                let folder = self.expr(parts.need(), 0);
                ItemKind::Sae(SaeDecl { name, folder, at: parts.take_if(Rule::site).map(|site| self.site(site)) })
            }
            Rule::fn_item => ItemKind::Fn(self.function(parts)),
            Rule::hook_item => {
                let name = parts.take_if(Rule::name).map(|n| self.ident(&n));
                let params = self.params(&mut parts);
                let at = self.sites(parts.need());
                let on = self.rows(&mut parts, Rule::on_rows);
                let from = parts.take_if(Rule::donor).map(|d| self.donor(d));
                ItemKind::Hook(HookDecl { name, params, at, on, from, body: self.block(parts.need(), 0) })
            }
            Rule::patch_item => {
                let name = parts.take_if(Rule::name).map(|n| self.ident(&n));
                let at = self.sites(parts.need());
                let on = self.rows(&mut parts, Rule::on_rows);
                ItemKind::Patch(PatchDecl { name, at, on, from: self.donor(parts.need()) })
            }
            Rule::route_item => {
                let name = parts.take_if(Rule::name).map(|n| self.ident(&n));
                let params = self.params(&mut parts);
                let at = self.sites(parts.need());
                let on = self.rows(&mut parts, Rule::on_rows);
                ItemKind::Route(RouteDecl { name, params, at, on, body: self.block(parts.need(), 0) })
            }
            Rule::run_item => {
                let name = self.ident(&parts.need());
                ItemKind::Run(RunDecl { name, run: self.run(parts.need()) })
            }
            Rule::metric_item => {
                let name = self.ident(&parts.need());
                let params = self.params(&mut parts);
                let value = self.expr(parts.need(), 0);
                let at = self.rows(&mut parts, Rule::at_rows);
                ItemKind::Metric(MetricDecl { name, params, value, at })
            }
            Rule::measure_item => ItemKind::Measure(self.measure(parts)),
            Rule::capture_item => {
                let before = parts.take_if(Rule::before).is_some();
                let at = self.sites(parts.need());
                let on = self.rows(&mut parts, Rule::on_rows);
                let of = self.run(parts.need());
                ItemKind::Capture(Capture { before, at, on, of, to: self.text(&parts.need()) })
            }
            Rule::generate_item => {
                let run = self.run(parts.need());
                let options = parts.next().map(|o| self.options(o)).unwrap_or_default();
                ItemKind::Generate(Generate { run, options })
            }
            Rule::print_item => ItemKind::Print(self.exprs(parts.need())),
            Rule::sweep_item | Rule::sweep_inner => ItemKind::Sweep(self.sweep(parts)),
            Rule::top_item => {
                let name = self.ident(&parts.need());
                let of = self.expr(parts.need(), 0);
                let at = self.rows(&mut parts, Rule::at_rows);
                let over = Parts::of(parts.need()).map(|run| self.run(run)).collect();
                let options = parts.next().map(|o| self.options(o)).unwrap_or_default();
                ItemKind::Top(Top { name, of, at, over, options })
            }
            Rule::plot_item => {
                let of = self.ident(&parts.need());
                let kind = parts.take_if(Rule::field_name).map(|k| self.ident(&k));
                let to = parts.take_if(Rule::string).map(|t| self.text(&t));
                let options = parts.next().map(|o| self.options(o)).unwrap_or_default();
                ItemKind::Plot(Plot { of, kind, to, options })
            }
            Rule::save_item => {
                let name = self.ident(&parts.need());
                ItemKind::Save(name, self.text(&parts.need()))
            }
            Rule::report_item => ItemKind::Report(self.text(&parts.need())),
            Rule::arch_item => {
                let mut names = Vec::new();
                while let Some(name) = parts.take_if(Rule::string) {
                    names.push(self.text(&name));
                }
                ItemKind::Arch(ArchDecl { names, body: self.block(parts.need(), 0) })
            }
            other => unreachable!("{other:?} is not an item"),
        }
    }

    fn binding(&mut self, parts: &mut Parts) -> Binding {
        let name = self.ident(&parts.need());
        Binding { name, value: self.expr(parts.need(), 0) }
    }

    /// A `param` of the script, which needs a default.
    fn script_param(&mut self, pair: Pair<Rule>) -> Param {
        let param = self.param(pair);
        if param.default.is_none() {
            let name = &param.name.name;
            self.diags.push(
                Diagnostic::error(codes::SYNTAX, format!("the parameter `{name}` has no default"))
                    .at(param.name.span, "expected `=` and a value after this")
                    .help(format!("write `param {name} = 1.0`; the command line can still set another value")),
            );
        }
        param
    }

    fn param(&mut self, pair: Pair<Rule>) -> Param {
        // `in` is what tells a default from bounds.
        let unmarked = pair.clone().into_inner();
        let mut in_bounds = false;
        let has_default = unmarked.clone().any(|p| p.as_rule() == Rule::eq);
        for part in unmarked {
            in_bounds |= part.as_rule() == Rule::kw_in;
        }
        let mut parts = Parts::of(pair);
        let name = self.ident(&parts.need());
        let ty = parts.take_if(Rule::param_type).and_then(|p| Some((ParamType::from_name(p.as_str())?, self.span(&p))));
        let default = has_default.then(|| self.expr(parts.need(), 0));
        let bounds = in_bounds.then(|| (self.expr(parts.need(), 0), self.expr(parts.need(), 0)));
        Param { name, ty, default, bounds }
    }

    fn params(&mut self, parts: &mut Parts) -> Vec<Param> {
        match parts.take_if(Rule::params) {
            Some(params) => Parts::of(params).map(|p| self.param(p)).collect(),
            None => Vec::new(),
        }
    }

    fn tensor(&mut self, kind: TensorKind, mut parts: Parts) -> TensorDecl {
        let name = self.ident(&parts.need());
        let family = parts.take_if(Rule::family).map(|f| self.ident(&Parts::of(f).need()));
        let axes = parts.take_if(Rule::list).map(|list| {
            let span = self.span(&list);
            Expr { kind: ExprKind::List(self.list(list, 1)), span }
        });
        let value = self.expr(parts.need(), 0);
        let at = parts.take_if(Rule::site).map(|site| self.site(site));
        let on = self.rows(&mut parts, Rule::on_rows);
        TensorDecl { kind, name, family, axes, value, at, on }
    }

    fn function(&mut self, mut parts: Parts) -> FnDecl {
        let name = self.ident(&parts.need());
        let params = self.params(&mut parts);
        let body = parts.need();
        let body = match body.as_rule() {
            Rule::block => self.block(body, 0),
            _ => {
                let value = self.expr(body, 0);
                let span = value.span;
                Block { stmts: vec![Stmt { kind: StmtKind::Expr(value), doc: None, span }], span }
            }
        };
        FnDecl { name, params, body }
    }

    fn exprs(&mut self, pair: Pair<Rule>) -> Vec<Expr> {
        Parts::of(pair).map(|p| self.expr(p, 0)).collect()
    }

    fn run(&mut self, pair: Pair<Rule>) -> RunExpr {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let subject = self.expr(parts.need(), 0);
        RunExpr { subject, with: self.with(parts.next()), span }
    }

    fn with(&mut self, pair: Option<Pair<Rule>>) -> Vec<EditUse> {
        let Some(pair) = pair else { return Vec::new() };
        let mut uses = Vec::new();
        for edit in Parts::of(pair) {
            let span = self.span(&edit);
            let mut parts = Parts::of(edit);
            let name = self.ident(&parts.need());
            let args = parts.next().map(|call| self.args(call, 0)).unwrap_or_default();
            uses.push(EditUse { name, args, span });
        }
        uses
    }

    fn donor(&mut self, pair: Pair<Rule>) -> Donor {
        let mut parts = Parts::of(pair);
        let run = self.run(parts.need());
        Donor { run, by: parts.next().map(|a| self.ident(&a)) }
    }

    fn sweep(&mut self, mut parts: Parts) -> Sweep {
        let name = parts.take_if(Rule::name).map(|n| self.ident(&n));
        let over = Parts::of(parts.need()).map(|axis| self.sweep_axis(axis)).collect();
        let body = parts.need();
        let braces = self.span(&body);
        Sweep { name, over, body: Parts::of(body).map(|item| self.item(item)).collect(), braces }
    }

    fn sweep_axis(&mut self, pair: Pair<Rule>) -> SweepAxis {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let var = self.ident(&parts.need());
        let values = parts.need();
        let values = match values.as_rule() {
            Rule::sweep_blocks => SweepValues::Blocks(Parts::of(values).next().map(|i| self.index_items(i))),
            _ => SweepValues::Of(self.index_item(values, 0)),
        };
        SweepAxis { var, values, span }
    }

    fn measure(&mut self, mut parts: Parts) -> Measure {
        let mean = parts.take_if(Rule::mean).is_some();
        let metrics = self.exprs(parts.need());
        let on = Parts::of(parts.need()).map(|run| self.run(run)).collect();
        let normalized = parts.take_if(Rule::normalized).map(|n| {
            let mut parts = Parts::of(n);
            (self.expr(parts.need(), 0), self.expr(parts.need(), 0))
        });
        Measure { mean, metrics, on, normalized }
    }

    fn options(&mut self, pair: Pair<Rule>) -> Vec<(Ident, Expr)> {
        let mut options = Vec::new();
        for option in Parts::of(pair) {
            let mut parts = Parts::of(option);
            let name = self.ident(&parts.need());
            options.push((name, self.expr(parts.need(), 0)));
        }
        options
    }
}
