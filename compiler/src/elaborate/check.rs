//! Checks a script against a model, before any weight is read.

use super::chat::Prompt;
use super::model::{Model, OutputSpec};
use super::scope::{Eval, Res, TensorType, fail};
use super::script::{EditBody, EditDecl, EditParam, Host, ParamValue, RunSpec, Script, Statement, TensorSpec};
use super::value::{DataSet, Scope, Value};
use crate::plan::{Plan, Size};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use steer_lang::ast::{Binding, Expr, HookDecl, Item, ItemKind, MetricDecl, Param, ParamType, PatchDecl, RunExpr};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Diagnostics, Severity, Sources, Span, codes};

/// The state of a check.
pub struct Checker<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) model: Rc<Model>,
    pub(super) sources: &'a Sources,
    pub(super) layers: u32,
    pub(super) plan: Plan,
    pub(super) axes: BTreeMap<String, Size>,
    pub(super) site_names: BTreeSet<String>,
    pub(super) globals: Scope,
    pub(super) params: Vec<(String, ParamValue)>,
    pub(super) data: BTreeMap<String, Rc<DataSet>>,
    pub(super) masks: BTreeMap<String, Vec<bool>>,
    pub(super) prompts: BTreeMap<String, Prompt>,
    pub(super) runs: BTreeMap<String, RunExpr>,
    pub(super) metrics: BTreeMap<String, MetricDecl>,
    pub(super) edits: Vec<EditDecl>,
    pub(super) tensor_types: BTreeMap<String, TensorType>,
    pub(super) tensors: Vec<TensorSpec>,
    /// The runs being resolved, so that a run that names itself is found.
    pub(super) resolving: Vec<String>,
    pub(super) diagnostics: Diagnostics,
    declared: BTreeMap<String, Span>,
    /// Names whose declaration has an error; that they are missed elsewhere is only its echo.
    broken: BTreeSet<String>,
}

/// Checks the items of a script (its imports included, in order) against a model.
///
/// `overrides` are the `name=value` of the command line. Every error that can be found is in the
/// diagnostics; there is a script where none is an error.
pub fn check(
    items: &[Item],
    model: Rc<Model>,
    host: &dyn Host,
    sources: &Sources,
    overrides: &[(String, String)],
) -> (Option<Script>, Diagnostics) {
    let no_tensors = BTreeMap::new();
    let built = match model.build(&[], &[], &no_tensors, &Scope::new()) {
        Ok(b) => b,
        Err(d) => return (None, vec![*d]),
    };
    let mut c = Checker {
        host,
        sources,
        layers: built.layers,
        site_names: built.plan.sites.iter().map(|s| s.name.clone()).collect(),
        plan: built.plan,
        axes: built.axes,
        model,
        globals: Scope::new(),
        params: Vec::new(),
        data: BTreeMap::new(),
        masks: BTreeMap::new(),
        prompts: BTreeMap::new(),
        runs: BTreeMap::new(),
        metrics: BTreeMap::new(),
        edits: Vec::new(),
        tensor_types: BTreeMap::new(),
        tensors: Vec::new(),
        resolving: Vec::new(),
        diagnostics: Vec::new(),
        declared: BTreeMap::new(),
        broken: BTreeSet::new(),
    };
    c.overrides_known(items, overrides);
    c.each(items, |c, item| c.declare(item, overrides));
    c.each(items, |c, item| c.tensor(item));
    c.each(items, |c, item| match &item.kind {
        ItemKind::Hook(h) => c.hook(h),
        _ => Ok(()),
    });
    c.each(items, |c, item| match &item.kind {
        ItemKind::Patch(p) => c.patch(p),
        _ => Ok(()),
    });
    c.type_check();
    let mut statements: Vec<Statement> = Vec::new();
    c.each(items, |c, item| {
        if let Some(kind) = c.statement(item)? {
            statements.push(Statement { kind, span: item.span });
        }
        Ok(())
    });
    for s in &statements {
        c.check_rows(s);
    }
    c.unused_runs();
    let mut seen: Vec<(codes::Code, Option<Span>, String)> = Vec::new();
    let broken = std::mem::take(&mut c.broken);
    let echo = |d: &Diagnostic| {
        d.code == codes::UNKNOWN_NAME && d.labels.first().is_some_and(|l| broken.contains(sources.text(l.span)))
    };
    c.diagnostics.retain(|d| {
        if echo(d) {
            return false;
        }
        let key = (d.code, d.labels.first().map(|l| l.span), d.message.clone());
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    // As the script is read, whichever stage found them.
    c.diagnostics.sort_by_key(|d| d.labels.first().map(|l| (l.span.file, l.span.start)));
    let failed = c.diagnostics.iter().any(|d| d.severity == Severity::Error);
    let script = (!failed).then(|| Script {
        model: c.model,
        params: c.params,
        edits: c.edits,
        tensors: c.tensors,
        tensor_types: c.tensor_types,
        globals: c.globals,
        statements,
        layers: c.layers,
        plan: c.plan,
    });
    (script, c.diagnostics)
}

impl Checker<'_> {
    /// Runs `f` on every item; an error ends the item, not the check.
    fn each(&mut self, items: &[Item], mut f: impl FnMut(&mut Self, &Item) -> Res<()>) {
        for item in items {
            if let Err(d) = f(self, item) {
                if d.code != codes::DUPLICATE_NAME {
                    self.broken.extend(name_of(item).map(str::to_owned));
                }
                self.diagnostics.push(*d);
            }
        }
    }

    fn new_name(&mut self, name: &steer_lang::ast::Ident) -> Res<()> {
        if let Some(first) = self.declared.get(&name.name) {
            return Err(Box::new(
                Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` is declared twice", name.name))
                    .at(name.span, "declared again here")
                    .at(*first, "first declared here")
                    .help("give one of them another name"),
            ));
        }
        self.declared.insert(name.name.clone(), name.span);
        Ok(())
    }

    fn declare(&mut self, item: &Item, overrides: &[(String, String)]) -> Res<()> {
        match &item.kind {
            ItemKind::Param(p) => self.param(p, overrides),
            ItemKind::Data(b) => self.data(b),
            ItemKind::Prompt(b) => {
                self.new_name(&b.name)?;
                let value = self.value(&b.value)?;
                let Some(prompt) = Self::as_prompt(&value) else {
                    return fail(
                        codes::WRONG_KIND,
                        format!("a prompt is a text or a conversation, not {}", value.kind()),
                        b.value.span,
                        "this",
                    );
                };
                self.prompts.insert(b.name.name.clone(), prompt);
                Ok(())
            }
            ItemKind::Run(r) => {
                self.new_name(&r.name)?;
                self.runs.insert(r.name.name.clone(), r.run.clone());
                Ok(())
            }
            ItemKind::Metric(m) => {
                self.new_name(&m.name)?;
                self.metrics.insert(m.name.name.clone(), m.clone());
                Ok(())
            }
            ItemKind::Hook(HookDecl { name, .. }) | ItemKind::Patch(PatchDecl { name, .. }) => self.new_name(name),
            ItemKind::Tensor(t) => self.new_name(&t.name),
            _ => Ok(()),
        }
    }

    fn overrides_known(&mut self, items: &[Item], overrides: &[(String, String)]) {
        let names: Vec<&str> = items
            .iter()
            .filter_map(|i| match &i.kind {
                ItemKind::Param(p) => Some(p.name.name.as_str()),
                _ => None,
            })
            .collect();
        for (name, _) in overrides {
            if !names.contains(&name.as_str()) {
                self.diagnostics.push(
                    Diagnostic::error(codes::COMMAND, format!("--set {name}: the script has no parameter `{name}`"))
                        .help(match nearest(name, names.iter().copied()) {
                            Some(n) => format!("did you mean `{n}`?"),
                            None if names.is_empty() => "it declares none; add `param name = value`".into(),
                            None => format!("it has {}", names.join(", ")),
                        }),
                );
            }
        }
    }

    fn param(&mut self, p: &Param, overrides: &[(String, String)]) -> Res<()> {
        self.new_name(&p.name)?;
        let default = p.default.as_ref().map(|d| self.value(d)).transpose()?;
        let ty = match (p.ty, &default) {
            (Some((t, _)), _) => t,
            (None, Some(Value::Text(_))) => ParamType::Text,
            (None, Some(Value::Bool(_))) => ParamType::Bool,
            _ => ParamType::Number,
        };
        let given = overrides.iter().rev().find(|(n, _)| *n == p.name.name).map(|(_, v)| v.as_str());
        let value = match (given, default) {
            (Some(text), _) => parse_value(text, ty).ok_or_else(|| {
                Box::new(
                    Diagnostic::error(
                        codes::BAD_PARAMETER,
                        format!("--set {}={text}: {} is wanted", p.name.name, type_name(ty)),
                    )
                    .at(p.name.span, "declared here"),
                )
            })?,
            (None, Some(v)) => v,
            (None, None) => {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_PARAMETER, format!("the parameter `{}` has no value", p.name.name))
                        .at(p.name.span, "no default")
                        .help(format!("run with --set {}=..., or give a default", p.name.name)),
                ));
            }
        };
        let span = p.default.as_ref().map_or(p.name.span, |d| d.span);
        let fits = match (&value, ty) {
            (Value::Text(_), ParamType::Text) | (Value::Bool(_), ParamType::Bool) => true,
            (v, ParamType::Number) => v.as_number().is_some(),
            (v, ParamType::Integer) => v.as_number().is_some_and(|n| n.fract() == 0.0),
            _ => false,
        };
        if !fits {
            return fail(
                codes::BAD_PARAMETER,
                format!("`{}` is {}", p.name.name, type_name(ty)),
                span,
                format!("this is {}", value.kind()),
            );
        }
        if let (Some((lo, hi)), Some(n)) = (self.bounds(p)?, value.as_number())
            && !(lo..=hi).contains(&n)
        {
            return fail(
                codes::BAD_PARAMETER,
                format!("{n} is outside of the bounds of `{}`", p.name.name),
                p.name.span,
                format!("from {lo} to {hi}"),
            );
        }
        let name = p.name.name.clone();
        let (stored, value) = match value {
            Value::Text(t) => (ParamValue::Text(t.to_string()), Value::Text(t)),
            Value::Bool(b) => (ParamValue::Bool(b), Value::Bool(b)),
            v => {
                let n = v.as_number().unwrap_or(0.0);
                (ParamValue::Number(n), Value::Param(name.as_str().into(), n))
            }
        };
        self.params.push((name.clone(), stored));
        self.globals.insert(name, value);
        Ok(())
    }

    pub(super) fn bounds(&mut self, p: &Param) -> Res<Option<(f64, f64)>> {
        let Some((lo, hi)) = &p.bounds else { return Ok(None) };
        let (a, b) = (self.plain_number(lo)?, self.plain_number(hi)?);
        if a > b {
            return fail(
                codes::BAD_PARAMETER,
                format!("nothing lies between {a} and {b}"),
                lo.span.to(hi.span),
                "the bounds",
            );
        }
        Ok(Some((a, b)))
    }

    pub(super) fn plain_number(&mut self, e: &Expr) -> Res<f64> {
        let v = self.value(e)?;
        match v.as_number() {
            Some(n) => Ok(n),
            None => fail(codes::WRONG_KIND, format!("a number is wanted, not {}", v.kind()), e.span, "this"),
        }
    }

    fn data(&mut self, b: &Binding) -> Res<()> {
        use steer_lang::ast::ExprKind;
        self.new_name(&b.name)?;
        let name = b.name.name.clone();
        if let ExprKind::Call(f, args) = &b.value.kind
            && matches!(&f.kind, ExprKind::Name(n) if n == "lines")
        {
            let [arg] = &args[..] else {
                return fail(codes::BAD_ARGUMENTS, "`lines` takes the path of a text file", b.value.span, "here");
            };
            let Value::Text(path) = self.value(&arg.value)? else {
                return fail(
                    codes::WRONG_KIND,
                    "`lines` takes the path of a text file",
                    arg.value.span,
                    "this is none",
                );
            };
            let text = self.host.text(&path).map_err(|e| {
                Box::new(
                    Diagnostic::error(codes::FILE, e)
                        .at(arg.value.span, "named here")
                        .help("paths are relative to the script"),
                )
            })?;
            let lines = text.lines().filter(|l| !l.trim().is_empty());
            let items = lines.map(|l| Prompt::Text(l.into())).collect();
            return self.add_data(name, items, b.value.span);
        }
        let value = self.value(&b.value)?;
        let Value::List(items) = value else {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "a data set is a list of texts")
                    .at(b.value.span, format!("this is {}", value.kind()))
                    .help("write `[\"...\", \"...\"]` or `lines(\"file.txt\")`"),
            ));
        };
        if !items.is_empty() && items.iter().all(|i| matches!(i, Value::Number(_) | Value::Bool(_))) {
            let mask = items
                .iter()
                .map(|i| matches!(i, Value::Bool(true)) || i.as_number().is_some_and(|n| n != 0.0))
                .collect();
            self.masks.insert(name, mask);
            return Ok(());
        }
        let mut prompts = Vec::new();
        for i in items.iter() {
            let Some(prompt) = Self::as_prompt(i) else {
                return fail(
                    codes::WRONG_KIND,
                    format!("a data set is a list of texts, not of {}", i.kind()),
                    b.value.span,
                    "in this list",
                );
            };
            prompts.push(prompt);
        }
        self.add_data(name, prompts, b.value.span)
    }

    fn add_data(&mut self, name: String, items: Vec<Prompt>, span: Span) -> Res<()> {
        if items.is_empty() {
            return fail(codes::EMPTY_SELECTION, format!("the data set `{name}` is empty"), span, "no texts");
        }
        let set = Rc::new(DataSet { name: name.clone(), items });
        self.globals.insert(name.clone(), Value::Data(Rc::clone(&set)));
        self.data.insert(name, set);
        Ok(())
    }

    pub(super) fn edit_params(&mut self, params: &[Param]) -> Res<Vec<EditParam>> {
        let mut out: Vec<EditParam> = Vec::new();
        for p in params {
            if out.iter().any(|q| q.name == p.name.name) {
                return fail(
                    codes::DUPLICATE_NAME,
                    format!("`{}` is declared twice", p.name.name),
                    p.name.span,
                    "again here",
                );
            }
            if let Some((ParamType::Text, span)) = p.ty {
                return fail(codes::WRONG_KIND, "a hook's parameters are numbers", span, "a text");
            }
            let default = p.default.as_ref().map(|d| self.plain_or_bool(d)).transpose()?;
            let bounds = self.bounds(p)?;
            let q = EditParam {
                name: p.name.name.clone(),
                default,
                bounds,
                integer: matches!(p.ty, Some((ParamType::Integer, _))),
            };
            if let Some(d) = default {
                check_value(&q, d, p.default.as_ref().map_or(p.name.span, |e| e.span))?;
            }
            out.push(q);
        }
        Ok(out)
    }

    pub(super) fn plain_or_bool(&mut self, e: &Expr) -> Res<f64> {
        match self.value(e)? {
            Value::Bool(b) => Ok(f64::from(u8::from(b))),
            _ => self.plain_number(e),
        }
    }

    fn hook(&mut self, h: &HookDecl) -> Res<()> {
        let params = self.edit_params(&h.params)?;
        let decl = self.edit_decl(&h.name, &h.at, h.on.as_ref(), params, EditBody::Hook(Rc::new(h.body.clone())))?;
        self.edits.push(decl);
        Ok(())
    }

    fn patch(&mut self, p: &PatchDecl) -> Res<()> {
        let from = self.run_expr(&p.from)?;
        let Ok([run]) = <[RunSpec; 1]>::try_from(from.runs) else {
            return fail(
                codes::WRONG_KIND,
                "a patch is from one run, not from a data set",
                p.from.span,
                "this is a data set",
            );
        };
        let decl = self.edit_decl(&p.name, &p.at, p.on.as_ref(), Vec::new(), EditBody::Patch(Box::new(run)))?;
        for (site, _) in &decl.sites {
            let inside =
                self.plan.sites.iter().find(|s| s.name == *site).is_some_and(|s| s.region != crate::plan::MAIN);
            if inside {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_TARGET, format!("`{site}` cannot be patched yet"))
                        .at(p.at[0].span, "it lives inside of an attention or scan")
                        .help(
                            "patch what it is made from or goes into: `attn.q`, `attn.k`, `attn.v`, `attn.z`, `ssm.y`",
                        ),
                ));
            }
        }
        self.edits.push(decl);
        Ok(())
    }

    fn edit_decl(
        &mut self,
        name: &steer_lang::ast::Ident,
        at: &[steer_lang::ast::SitePath],
        on: Option<&steer_lang::ast::Selection>,
        params: Vec<EditParam>,
        body: EditBody,
    ) -> Res<EditDecl> {
        let mut sites: Vec<(String, Option<u32>)> = Vec::new();
        for path in at {
            for named in self.sites(path, None)? {
                let own = named.canonical();
                if !sites.iter().any(|(s, _)| *s == own) {
                    sites.push((own, named.layer));
                }
            }
        }
        let set = self.selection(on)?;
        Ok(EditDecl {
            name: name.name.clone(),
            params,
            sites,
            on: set,
            maybe: on.is_some_and(|s| s.maybe),
            body,
            span: name.span,
            on_span: on.map_or(name.span, |s| s.span),
        })
    }

    /// Builds one Plan with every edit at every site of its own, so that each body is checked there.
    fn type_check(&mut self) {
        let instances: Vec<_> =
            self.edits.iter().flat_map(|e| e.sites.iter().map(|(site, layer)| e.instance(site, *layer))).collect();
        let logits = self.site_names.contains("logits");
        let outputs: Vec<OutputSpec> =
            if logits { vec![OutputSpec::Site { name: "logits".into(), before: false }] } else { Vec::new() };
        match self.model.build(&instances, &outputs, &self.tensor_types, &self.globals) {
            Ok(built) => self.diagnostics.extend(built.diagnostics),
            Err(d) => self.diagnostics.push(*d),
        }
    }

    /// A value that the compiler knows, outside of row code.
    pub(super) fn value(&mut self, e: &Expr) -> Res<Value> {
        let mut eval = Eval::new(
            &self.model.library,
            &self.model.config,
            &self.tensor_types,
            &self.globals,
            &self.model.arch_name,
        );
        eval.axes = self.axes.clone();
        eval.layers = Some(self.layers);
        for (name, prompt) in &self.prompts {
            eval.bind(name, Value::from(prompt));
        }
        eval.expr(e)
    }

    pub(super) fn vocab(&self) -> Option<usize> {
        let site = self.plan.sites.iter().find(|s| s.name == "logits")?;
        self.plan.ty(site.value).len()
    }

    pub(super) fn text_of(&self, span: Span) -> String {
        self.sources.text(span).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

pub(super) fn check_value(p: &EditParam, v: f64, span: Span) -> Res<()> {
    if p.integer && v.fract() != 0.0 {
        return fail(codes::BAD_PARAMETER, format!("`{}` is a whole number", p.name), span, format!("this is {v}"));
    }
    if let Some((lo, hi)) = p.bounds
        && !(lo..=hi).contains(&v)
    {
        return fail(
            codes::BAD_PARAMETER,
            format!("{v} is outside of the bounds of `{}`", p.name),
            span,
            format!("from {lo} to {hi}"),
        );
    }
    Ok(())
}

/// What an item declares, if it is something with a name.
fn name_of(item: &Item) -> Option<&str> {
    let name = match &item.kind {
        ItemKind::Param(p) => &p.name,
        ItemKind::Data(b) | ItemKind::Prompt(b) => &b.name,
        ItemKind::Tensor(t) => &t.name,
        ItemKind::Hook(h) => &h.name,
        ItemKind::Patch(p) => &p.name,
        ItemKind::Run(r) => &r.name,
        ItemKind::Metric(m) => &m.name,
        _ => return None,
    };
    Some(&name.name)
}

fn type_name(ty: ParamType) -> &'static str {
    match ty {
        ParamType::Number => "a number",
        ParamType::Integer => "a whole number",
        ParamType::Bool => "true or false",
        ParamType::Text => "a text",
    }
}

fn parse_value(text: &str, ty: ParamType) -> Option<Value> {
    match ty {
        ParamType::Text => Some(Value::text(text)),
        ParamType::Bool => text.parse().ok().map(Value::Bool),
        ParamType::Number => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::Number),
        ParamType::Integer => text.parse::<i64>().ok().map(|n| Value::Number(n as f64)),
    }
}
