//! Checks a script against a model, before any weight is read.

use super::chat::{Prompt, as_prompt};
use super::data::Record;
use super::edits::{Applied, Named, free_name};
use super::model::{Forbidden, Longest, Model};
use super::params::{parse_value, type_name};
use super::runs::Runs;
use super::scope::{Eval, Res, TensorType, fail, is_silent};
use super::script::{EditDecl, Encoded, Host, ParamValue, Reading, Script, Statement, TensorSpec};
use super::value::{Scope, Value};
use crate::plan::{Plan, Size};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use steer_lang::ast::{
    Expr, ExprKind, HookDecl, Ident, Item, ItemKind, MetricDecl, Param, ParamType, PatchDecl, RouteDecl, RunExpr,
    Sweep, Text,
};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Diagnostics, Severity, Sources, Span, codes};

/// An edit by its place in the source, its sites, and the names that it knows.
pub(super) type EditKey = (Span, Vec<(String, Option<u32>)>, String);

/// The state of a check.
pub struct Checker<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) model: Rc<Model>,
    pub(super) sources: &'a Sources,
    pub(super) layers: u32,
    pub(super) plan: Plan,
    pub(super) longest: Option<Longest>,
    pub(super) forbidden: Vec<Forbidden>,
    pub(super) axes: BTreeMap<String, Size>,
    pub(super) site_names: BTreeSet<String>,
    pub(super) globals: Scope,
    pub(super) params: Vec<(String, ParamValue)>,
    pub(super) data: BTreeMap<String, Vec<Record>>,
    /// Lists of numbers: masks, and maps of positions.
    pub(super) lists: BTreeMap<String, Vec<f64>>,
    pub(super) prompts: BTreeMap<String, Prompt>,
    /// Named runs.
    pub(super) runs: BTreeMap<String, Runs>,
    /// Runs that the sweeps around name, which are others in each cell.
    pub(super) cell_runs: BTreeMap<String, RunExpr>,
    pub(super) metrics: BTreeMap<String, MetricDecl>,
    pub(super) edits: Vec<EditDecl>,
    /// Hooks and patches by name.
    pub(super) named: BTreeMap<String, Named>,
    /// Edits by their place in the source, sites and bound names, so that a sweep compiles each once.
    pub(super) compiled: HashMap<EditKey, usize>,
    /// Names that stand before the script's own: of the sweeps around, with their values in the present cell, or of
    /// the arguments of a metric.
    pub(super) locals: Vec<(String, Value)>,
    /// The edits without a name of the sweeps around the one in hand.
    pub(super) around: Vec<Applied>,
    /// The tables of the statements so far, by name.
    pub(super) tables: BTreeMap<String, Vec<String>>,
    /// Prompts with their texts, encoded once.
    pub(super) encoded: HashMap<Prompt, (Rc<str>, Rc<Encoded>)>,
    pub(super) tensor_types: BTreeMap<String, TensorType>,
    pub(super) tensors: Vec<TensorSpec>,
    pub(super) readings: Vec<Reading>,
    /// The runs being resolved, so that a run that names itself is found.
    pub(super) resolving: Vec<String>,
    /// The edits that some run names.
    pub(super) used: HashSet<usize>,
    /// How many cells the sweeps around have, so far.
    pub(super) wide: usize,
    /// The parts of the metric in hand, so far.
    pub(super) parts: usize,
    pub(super) diagnostics: Diagnostics,
    declared: BTreeMap<String, Span>,
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
        axes: known_axes(built.axes, &built.plan),
        plan: built.plan,
        longest: built.longest,
        forbidden: built.forbidden,
        model,
        globals: Scope::new(),
        params: Vec::new(),
        data: BTreeMap::new(),
        lists: BTreeMap::new(),
        prompts: BTreeMap::new(),
        runs: BTreeMap::new(),
        cell_runs: BTreeMap::new(),
        metrics: BTreeMap::new(),
        edits: Vec::new(),
        named: BTreeMap::new(),
        compiled: HashMap::new(),
        locals: Vec::new(),
        around: Vec::new(),
        tables: BTreeMap::new(),
        encoded: HashMap::new(),
        tensor_types: BTreeMap::new(),
        tensors: Vec::new(),
        readings: Vec::new(),
        resolving: Vec::new(),
        parts: 0,
        used: HashSet::new(),
        wide: 1,
        diagnostics: Vec::new(),
        declared: BTreeMap::new(),
    };
    c.overrides_known(items, overrides);
    c.declarations(items, overrides);
    c.foreign_names(items);
    let mut statements: Vec<Statement> = Vec::new();
    for item in items {
        match c.statement(item) {
            Ok(kind) => statements.extend(kind.map(|kind| Statement { kind, span: item.span })),
            Err(d) => {
                if let ItemKind::Sweep(Sweep { name: Some(name), .. }) = &item.kind {
                    c.globals.insert(name.name.clone(), Value::Broken);
                }
                c.diagnostics.push(*d);
            }
        }
    }
    c.type_check(&mut statements);
    for s in &statements {
        c.check_rows(s);
    }
    c.unused_metrics();
    c.diagnostics.iter_mut().for_each(|d| super::meant::elsewhere(d, items, sources));
    // What only follows from another error is not said, but there is a script only where there is none.
    let failed = c.diagnostics.iter().any(|d| d.severity == Severity::Error);
    if !failed {
        c.unused_edits(items);
    }
    let mut seen: Vec<(codes::Code, Option<Span>, String)> = Vec::new();
    c.diagnostics.retain(|d| {
        if is_silent(d) {
            return false;
        }
        let key = (d.code, d.labels.first().map(|l| l.span), d.message.clone());
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    // As the script is read, whichever stage found them.
    c.diagnostics.sort_by_key(|d| d.labels.first().map(|l| (l.span.file, l.span.start)));
    let script = (!failed).then(|| Script {
        model: c.model,
        params: c.params,
        edits: c.edits,
        named: c.named.into_iter().map(|(n, e)| (n, (e.edit, Rc::clone(&e.places[0])))).collect(),
        tensors: c.tensors,
        tensor_types: c.tensor_types,
        globals: c.globals,
        statements,
        readings: c.readings,
        layers: c.layers,
        plan: c.plan,
    });
    (script, c.diagnostics)
}

impl Checker<'_> {
    /// Warns of hooks and patches of the script's own file that no run names.
    fn unused_edits(&mut self, items: &[Item]) {
        let own = items.iter().map(|i| i.span.file).min();
        for item in items.iter().filter(|i| Some(i.span.file) == own) {
            let word = match item.kind {
                ItemKind::Hook(_) => "hook",
                ItemKind::Route(_) => "route",
                _ => "patch",
            };
            if let Some(name) = name_of(item)
                && let Some(found) = self.named.get(&name.name)
                && found.span == name.span
                && !self.used.contains(&found.edit)
            {
                self.diagnostics.push(
                    Diagnostic::warning(codes::UNREAD_EDIT, format!("no run uses the {word} `{}`", name.name))
                        .at(name.span, "it does nothing")
                        .help(format!("write `with {}` behind the run that it is for", name.name)),
                );
            }
        }
    }

    /// Whether a name is declared with an error, which is reported already.
    pub(super) fn broken(&self, name: &str) -> bool {
        matches!(self.globals.get(name), Some(Value::Broken))
    }

    pub(super) fn new_name(&mut self, name: &steer_lang::ast::Ident) -> Res<()> {
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

    /// One declaration; what it mentions is declared already.
    pub(super) fn declare(&mut self, item: &Item, overrides: &[(String, String)]) -> Res<()> {
        match &item.kind {
            ItemKind::Param(p) => {
                free_name(&p.name)?;
                self.param(p, overrides)
            }
            ItemKind::Data(b) => self.data(b),
            ItemKind::Prompt(b) => {
                let value = self.value(&b.value)?;
                let Some(prompt) = as_prompt(&value, b.value.span)? else {
                    return fail(
                        codes::WRONG_KIND,
                        format!("a prompt is a text or a conversation, not {}", value.kind()),
                        b.value.span,
                        "this",
                    );
                };
                if let Prompt::Chat(_) = &prompt {
                    self.written(&prompt, b.value.span)?;
                }
                self.globals.insert(b.name.name.clone(), Value::from(&prompt));
                self.prompts.insert(b.name.name.clone(), prompt);
                Ok(())
            }
            ItemKind::Run(r) => {
                let mut found = self.run_expr(&r.run)?;
                found.label = r.name.name.clone();
                if let [one] = &mut found.runs[..] {
                    one.label = r.name.name.clone();
                }
                self.runs.insert(r.name.name.clone(), found);
                Ok(())
            }
            ItemKind::Metric(m) => {
                for p in &m.params {
                    self.bounds(p)?;
                }
                self.metrics.insert(m.name.name.clone(), m.clone());
                Ok(())
            }
            ItemKind::Hook(HookDecl { name: Some(name), .. })
            | ItemKind::Patch(PatchDecl { name: Some(name), .. })
            | ItemKind::Route(RouteDecl { name: Some(name), .. }) => {
                let found = match &item.kind {
                    ItemKind::Hook(h) => self.hook(h)?,
                    ItemKind::Patch(p) => self.patch(p)?,
                    ItemKind::Route(r) => self.route(r)?,
                    _ => return Ok(()),
                };
                self.named.insert(name.name.clone(), found);
                Ok(())
            }
            ItemKind::Sae(s) => {
                free_name(&s.name)?;
                self.sae(s)
            }
            ItemKind::Tensor(t) => {
                free_name(&t.name)?;
                self.tensor(item)
            }
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
        let default = p.default.as_ref().map(|d| self.value(d)).transpose()?;
        let ty = match (p.ty, &default) {
            (Some((t, _)), _) => t,
            (None, Some(Value::Text(_))) => ParamType::Text,
            (None, Some(Value::Bool(_))) => ParamType::Bool,
            _ => ParamType::Number,
        };
        let given = overrides.iter().rev().find(|(n, _)| *n == p.name.name).map(|(_, v)| v.as_str());
        let from_outside = given.is_some();
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
        let given = Param { ty: Some((ty, p.name.span)), ..p.clone() };
        self.fits(&given, &value, if from_outside { p.name.span } else { span })?;
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

    pub(super) fn fits(&mut self, p: &Param, value: &Value, span: Span) -> Res<()> {
        self.evaluator().fits(p, value, span)
    }

    pub(super) fn bounds(&mut self, p: &Param) -> Res<Option<(f64, f64)>> {
        self.evaluator().bounds(p)
    }

    pub(super) fn plain_number(&mut self, e: &Expr) -> Res<f64> {
        self.evaluator().plain_number(e)
    }

    pub(super) fn plain_or_bool(&mut self, e: &Expr) -> Res<f64> {
        match self.value(e)? {
            Value::Bool(b) => Ok(f64::from(u8::from(b))),
            _ => self.plain_number(e),
        }
    }

    /// A value that the compiler knows, outside of row code.
    pub(super) fn value(&mut self, e: &Expr) -> Res<Value> {
        self.evaluator().expr(e)
    }

    /// What evaluates outside of row code.
    pub(super) fn evaluator(&self) -> Eval<'_> {
        let mut eval = Eval::new(
            &self.model.library,
            &self.model.config,
            &self.tensor_types,
            &self.globals,
            &self.model.arch_name,
        );
        eval.axes = self.axes.clone();
        eval.layers = Some(self.layers);
        for (name, value) in &self.locals {
            eval.bind(name, value.clone());
        }
        eval
    }

    /// What a name of a sweep or a metric's parameter stands for here.
    pub(super) fn local(&self, name: &str) -> Option<&Value> {
        self.locals.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// What a name stands for here, if it is a value.
    pub(super) fn named_value(&self, name: &str) -> Option<&Value> {
        self.local(name).or_else(|| self.globals.get(name))
    }

    /// A value in whose place a plain name may stand for itself.
    pub(super) fn plain_text(&mut self, e: &Expr) -> Res<Value> {
        match &e.kind {
            ExprKind::Name(n) if self.named_value(n).is_none() => Ok(Value::text(n)),
            _ => self.value(e),
        }
    }

    /// The path of a file to write, its slots filled.
    pub(super) fn target(&mut self, to: &Text) -> Res<String> {
        let text = Expr { kind: ExprKind::Text(to.value.clone()), span: to.span };
        match self.value(&text)? {
            Value::Text(path) => Ok(path.to_string()),
            _ => Ok(to.value.clone()),
        }
    }

    pub(super) fn vocab(&self) -> Option<usize> {
        let site = self.plan.sites.iter().find(|s| s.name == "logits")?;
        self.plan.ty(site.value).len()
    }

    pub(super) fn text_of(&self, span: Span) -> String {
        self.sources.text(span).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The axes that a model file declares, and those that its sites have besides.
fn known_axes(mut axes: BTreeMap<String, Size>, plan: &Plan) -> BTreeMap<String, Size> {
    for axis in plan.sites.iter().flat_map(|s| &plan.ty(s.value).axes) {
        if matches!(axis.size, Size::Fixed(_)) {
            axes.entry(axis.name.to_string()).or_insert(axis.size);
        }
    }
    axes
}

/// What an item declares, if it is something with a name.
pub(super) fn name_of(item: &Item) -> Option<&Ident> {
    Some(match &item.kind {
        ItemKind::Param(p) => &p.name,
        ItemKind::Data(b) | ItemKind::Prompt(b) => &b.name,
        ItemKind::Tensor(t) => &t.name,
        ItemKind::Sae(s) => &s.name,
        ItemKind::Hook(h) => h.name.as_ref()?,
        ItemKind::Route(r) => r.name.as_ref()?,
        ItemKind::Patch(p) => p.name.as_ref()?,
        ItemKind::Run(r) => &r.name,
        ItemKind::Metric(m) => &m.name,
        ItemKind::Sweep(s) => s.name.as_ref()?,
        ItemKind::Top(t) => &t.name,
        _ => return None,
    })
}
