//! Model files: an architecture and a configuration become a Plan, with edits laid over its sites.

use super::library::Library;
use super::reads::{Lens, RowRead};
use super::routes::{Claim, Stage, stage_of};
use super::scope::{Eval, Res, TensorType, fail};
use super::script::{Counts, EditBody};
use super::value::{Scope, Value};
use crate::plan::{Binary, Edit, EditId, NodeId, Output, Plan, Site, Size};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use steer_lang::ast::{ArchDecl, Block, Expr, Stmt, StmtKind, Text};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Diagnostics, Span, codes};

/// More layers than any model has; a larger number is a damaged configuration.
const MAX_LAYERS: usize = 1024;

/// The names that GGUF files have for architectures.
const GGUF: &str = include_str!("../../../stdlib/gguf.json");

/// An architecture with a configuration: what a Plan is built from.
pub struct Model {
    pub library: Library,
    pub config: Json,
    pub arch: Rc<ArchDecl>,
    pub arch_name: String,
    /// The tensors that the weight files hold, where there are any.
    pub stored: BTreeSet<String>,
}

/// An edit laid over one site.
#[derive(Clone, Debug)]
pub struct Instance {
    pub name: String,
    /// The site's own name: of two names of one value, that which [`canonical`] gives.
    pub site: String,
    /// The layer as the script names it.
    pub layer: Option<u32>,
    pub params: Vec<String>,
    pub body: EditBody,
    /// Further names that the body knows.
    pub bound: Rc<BTreeMap<String, Value>>,
    /// The use that it belongs to: the parts of a route at one mixture have the same.
    pub slot: usize,
    pub span: Span,
}

impl Instance {
    pub fn is_route(&self) -> bool {
        matches!(self.body, EditBody::Route(_))
    }
}

/// Something that a run is to give back.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputSpec {
    Site {
        name: String,
        before: bool,
    },
    /// One column of the logits.
    Logit(u32),
    /// An expression over sites.
    Row(RowRead),
    /// The logits as they would be with another residual stream, all of them or one column.
    Lens(Lens),
    LensLogit(Lens, u32),
}

/// A finished Plan with what was found on the way.
pub struct Built {
    pub plan: Plan,
    pub axes: BTreeMap<String, Size>,
    pub layers: u32,
    pub diagnostics: Diagnostics,
    pub counted: Vec<Counted>,
    pub keys: Vec<(EditId, usize, Span)>,
    pub longest: Option<Longest>,
    pub forbidden: Vec<Forbidden>,
    /// Experts that routes name by number, and the parts of routes that change nothing.
    pub claims: Vec<Claim>,
    pub idle: Vec<EditId>,
    /// The keys of the configuration that were asked for.
    pub configured: BTreeSet<String>,
}

/// A token that no sequence may have, and why not.
pub type Forbidden = (u32, Rc<str>);

/// How many tokens a sequence may have, and what stands against more.
#[derive(Clone, Debug, PartialEq)]
pub struct Longest {
    pub tokens: usize,
    pub why: Rc<str>,
}

/// A parameter of an edit that counts entries of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    pub edit: EditId,
    pub slot: u32,
    pub counts: Counts,
}

/// The state of [`Eval`] that only model files need.
pub struct ModelState<'a> {
    pub layers: Option<u32>,
    pub(super) instances: &'a [Instance],
    pub stored: &'a BTreeSet<String>,
    /// The statements of the model file.
    body: &'a Block,
    diagnostics: Diagnostics,
    /// What bodies of hooks index with parameters, and keys that they name by number.
    pub counted: Vec<Counted>,
    pub keys: Vec<(EditId, usize, Span)>,
    pub longest: Option<Longest>,
    pub forbidden: Vec<Forbidden>,
    pub claims: Vec<Claim>,
    idle: Vec<EditId>,
    pub configured: BTreeSet<String>,
}

impl Model {
    /// The keys of the configuration that the model file asks for.
    pub fn configured(&self) -> Res<BTreeSet<String>> {
        Ok(self.build(&[], &[], &BTreeMap::new(), &Scope::new())?.configured)
    }

    /// Whether `hint` is what programs call models of another kind: by their `model_type`, by the architecture, or as GGUF
    /// files do.
    pub fn is_other(&self, hint: &str) -> bool {
        let kind = self.config.get("model_type").and_then(Json::as_str);
        let families: Json = serde_json::from_str(GGUF).unwrap_or_default();
        let of_file = |f: &Json| {
            let other = f.get("with").and_then(Json::as_object).into_iter().flatten().map(|(_, arch)| arch);
            f.get("arch").into_iter().chain(other).any(|a| a.as_str() == Some(self.arch_name.as_str()))
        };
        let families = families.get("families").and_then(Json::as_object).into_iter().flatten();
        let files: Vec<&str> = families.filter(|(_, f)| of_file(f)).map(|(name, _)| name.as_str()).collect();
        // Of a model that nobody else has a name for nothing is known.
        let known = kind.into_iter().chain(files).collect::<Vec<_>>();
        !hint.is_empty() && !known.is_empty() && hint != self.arch_name && !known.contains(&hint)
    }

    /// The architecture that `config.json` names.
    pub fn new(library: Library, config: Json) -> Res<Self> {
        let Some(object) = config.as_object() else {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_CONFIG, "config.json is not an object")
                    .help("it must be the config.json that transformers saves beside the weights"),
            ));
        };
        let name = object.get("architectures").and_then(|a| a.get(0)).and_then(Json::as_str);
        let Some(name) = name else {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_CONFIG, "config.json names no architecture")
                    .help("it needs a line such as \"architectures\": [\"LlamaForCausalLM\"]"),
            ));
        };
        let Some(arch) = library.archs.get(name).cloned() else {
            let known: Vec<&str> = library.archs.keys().map(String::as_str).collect();
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_ARCH, format!("there is no model file for the architecture {name}")).help(format!(
                    "{}known are {}; write one and pass it with --arch FILE, or put it next to the script and `import` it",
                    nearest(name, known.iter().copied()).map_or(String::new(), |n| format!("did you mean {n}? ")),
                    known.join(", ")
                )),
            ));
        };
        let arch_name = name.to_owned();
        Ok(Model { library, config, arch, arch_name, stored: BTreeSet::new() })
    }

    /// Builds the Plan with these edits, in order, giving back these values.
    pub fn build(
        &self,
        instances: &[Instance],
        outputs: &[OutputSpec],
        tensors: &BTreeMap<String, TensorType>,
        globals: &Scope,
    ) -> Res<Built> {
        let mut e = Eval::new(&self.library, &self.config, tensors, globals, &self.arch_name);
        e.model = Some(ModelState {
            layers: None,
            instances,
            stored: &self.stored,
            body: &self.arch.body,
            diagnostics: Vec::new(),
            counted: Vec::new(),
            keys: Vec::new(),
            longest: None,
            forbidden: Vec::new(),
            claims: Vec::new(),
            idle: Vec::new(),
            configured: BTreeSet::new(),
        });
        for i in instances {
            e.b.edit(Edit {
                name: i.name.clone(),
                site: i.site.clone(),
                layer: i.layer,
                route: stage_of(&i.site).filter(|_| i.is_route()).map(|(mixture, _)| mixture.to_owned()),
                params: i.params.clone(),
                span: i.span,
            });
        }
        e.block(&self.arch.body)?;
        for spec in outputs {
            if let Err(d) = e.output(spec) {
                // A place holder, so that outputs keep their numbers.
                let node = e.num(0.0)?;
                e.b.plan.outputs.push(Output { name: String::new(), node });
                e.model.iter_mut().for_each(|m| m.diagnostics.push((*d).clone()));
            }
        }
        let Some(state) = e.model.take() else { return Err(broken("no model")) };
        let (axes, layers) = (e.axes, state.layers.unwrap_or(0));
        let ModelState { diagnostics, counted, keys, longest, forbidden, claims, idle, configured, .. } = state;
        Ok(Built {
            plan: e.b.finish(),
            axes,
            layers,
            diagnostics,
            counted,
            keys,
            longest,
            forbidden,
            claims,
            idle,
            configured,
        })
    }
}

impl Eval<'_> {
    fn output(&mut self, spec: &OutputSpec) -> Res<()> {
        let (name, node) = match spec {
            OutputSpec::Site { name, before } => {
                let own = canonical(name);
                let Some(site) = self.b.plan.sites.iter().find(|s| s.name == own) else {
                    return Err(broken(&format!("no site {name}")));
                };
                let node = if *before { site.before } else { site.value };
                (name.clone(), self.of_each_row(node)?)
            }
            OutputSpec::Logit(token) => {
                let Some(site) = self.b.plan.sites.iter().find(|s| s.name == "logits") else {
                    return fail(
                        codes::REFUSED_CONFIG,
                        "this model has no site `logits`",
                        self.b.span,
                        "a metric reads it",
                    );
                };
                let logits = site.value;
                let r = self.b.at(logits, "vocab", *token as usize);
                (format!("logit {token}"), self.typed(r, self.b.span)?)
            }
            OutputSpec::Row(read) => {
                let node = self.row_read(read)?;
                if !self.plan().ty(node).per_row {
                    return Err(Box::new(
                        Diagnostic::error(codes::WRONG_KIND, "nothing of the model is measured here")
                            .at(read.span, "the same at every position of every run")
                            .help("`print` shows a number or a tensor"),
                    ));
                }
                ("row".to_owned(), node)
            }
            OutputSpec::Lens(lens) => ("lens".to_owned(), self.lens(lens)?),
            OutputSpec::LensLogit(lens, token) => {
                let logits = self.lens(lens)?;
                let r = self.b.at(logits, "vocab", *token as usize);
                (format!("lens logit {token}"), self.typed(r, lens.read.span)?)
            }
        };
        self.b.plan.outputs.push(Output { name, node });
        Ok(())
    }

    /// A value that the model has once, such as the number of experts that are chosen, for each row.
    fn of_each_row(&mut self, node: NodeId) -> Res<NodeId> {
        if self.plan().ty(node).per_row {
            return Ok(node);
        }
        let (position, zero) = (self.b.position(), self.num(0.0)?);
        let position = self.typed(position, self.b.span)?;
        let nothing = self.b.binary(Binary::Mul, position, zero);
        let nothing = self.typed(nothing, self.b.span)?;
        let sum = self.b.binary(Binary::Add, node, nothing);
        self.typed(sum, self.b.span)
    }

    /// What the model file says behind its blocks.
    pub fn behind_the_blocks(&self) -> Option<&[Stmt]> {
        let stmts = &self.model.as_ref()?.body.stmts;
        let at = stmts.iter().position(|s| matches!(s.kind, StmtKind::Blocks { .. }))?;
        Some(&stmts[at + 1..]).filter(|rest| !rest.is_empty())
    }

    pub fn blocks(
        &mut self,
        var: &str,
        start: &Expr,
        end: &Expr,
        under: &Text,
        body: &Block,
        span: Span,
    ) -> Res<Value> {
        let from = self.count(start)?;
        let to = self.expr(end)?;
        let to = self.size_of_config(&to, "the model", "layers", end.span)?;
        if to > MAX_LAYERS {
            return Err(Box::new(
                Diagnostic::error(codes::REFUSED_CONFIG, format!("the model would have {to} layers"))
                    .at(end.span, "computed here from config.json")
                    .help(format!("at most {MAX_LAYERS} are taken; a larger number is a damaged configuration")),
            ));
        }
        let Some(model) = self.model.as_mut() else {
            return fail(codes::WRONG_KIND, "`blocks` is for model files", span, "not here");
        };
        if model.layers.is_some() || self.layer.is_some() {
            return fail(codes::WRONG_KIND, "a model has one list of blocks", span, "the second");
        }
        model.layers = Some(to as u32);
        for l in from..to {
            self.layer = Some(l as u32);
            self.b.layer = self.layer;
            self.scopes.push(HashMap::from([(var.to_owned(), Value::Layer(l as u32))]));
            let outer = self.under.clone();
            self.under = outer.clone() + &self.interpolate(&under.value, under.span)?;
            if l == from {
                self.stream_site("resid.pre", "The residual stream as the block finds it.", span)?;
            } else if let Some(last) = self.b.plan.sites.last().cloned() {
                // One value with two names.
                let contract = Arc::from("The residual stream as the block finds it.");
                self.b.plan.sites.push(Site {
                    name: format!("blocks[{l}].resid.pre"),
                    layer: self.layer,
                    contract,
                    ..last
                });
            }
            self.block(body)?;
            self.stream_site("resid.post", "The residual stream as the block leaves it.", span)?;
            self.under = outer;
            self.scopes.pop();
        }
        self.layer = None;
        self.b.layer = None;
        Ok(Value::None)
    }

    fn stream_site(&mut self, path: &str, contract: &str, span: Span) -> Res<()> {
        let Some(node) = self.resid else {
            return fail(
                codes::WRONG_KIND,
                "nothing is written to the residual stream before the blocks",
                span,
                "here",
            );
        };
        self.declare_site(path, node, Some(contract), span)?;
        Ok(())
    }

    /// Declares a site and lays the edits over it; the name is bound to the edited value.
    pub fn declare_site(&mut self, path: &str, node: NodeId, contract: Option<&str>, span: Span) -> Res<Value> {
        if self.model.is_none() || self.hook.is_some() {
            return fail(codes::WRONG_KIND, "sites are declared by model files", span, "not here");
        }
        let name = match self.layer {
            Some(l) => format!("blocks[{l}].{path}"),
            None => path.to_owned(),
        };
        if self.b.plan.sites.iter().rev().take_while(|s| s.layer == self.layer).any(|s| s.name == name) {
            return fail(codes::DUPLICATE_NAME, format!("the site `{path}` is declared twice"), span, "again here");
        }
        let value = self.overlays(&name, node)?;
        if let Some((mixture, Stage::Gates)) = stage_of(&name) {
            self.route_receipts(mixture, value)?;
        }
        let site = Site {
            name,
            layer: self.layer,
            region: self.b.region(),
            before: node,
            value,
            contract: contract.unwrap_or("").into(),
        };
        self.b.plan.sites.push(site);
        if path.starts_with("resid.") {
            self.resid = Some(value);
        }
        self.bind(path, Value::Node(value));
        Ok(Value::Node(value))
    }

    pub fn write_site(&mut self, path: &str, node: NodeId, contract: Option<&str>, span: Span) -> Res<Value> {
        let written = self.declare_site(path, node, contract, span)?;
        let value = self.node(&written, span)?;
        let sum = match self.resid {
            None => value,
            Some(r) => {
                let sum = self.b.binary(Binary::Add, r, value);
                self.typed(sum, span)?
            }
        };
        self.resid = Some(sum);
        Ok(written)
    }

    /// The sites that a value is of, itself and not what is made of it.
    fn sites_of(&self, node: NodeId) -> Vec<String> {
        let known = self.plan().sites.iter().filter(|s| s.before == node || s.value == node);
        let mut out: Vec<String> = known.map(|s| s.name.clone()).collect();
        if let (Some(hook), Some(m)) = (&self.hook, &self.model)
            && hook.base == node
        {
            // The site in hand is declared behind its edits.
            out.extend(m.instances.get(hook.edit.0 as usize).map(|i| i.site.clone()));
        }
        out
    }

    /// Warns where a sparse autoencoder is given a value of another site than the one that it was made for.
    pub(super) fn other_site(&mut self, values: &[(Value, Span)]) {
        let saes = values.iter().filter_map(|(v, _)| match v {
            Value::Record(parts, name) => match parts.get("site") {
                Some(Value::Text(site)) if parts.contains_key("config") => Some((name.to_string(), site.to_string())),
                _ => None,
            },
            _ => None,
        });
        let Some((name, site)) = saes.into_iter().next() else { return };
        for (value, span) in values {
            let Value::Node(node) = value else { continue };
            let found = self.sites_of(*node);
            if found.is_empty() || found.iter().any(|s| canonical(s) == canonical(&site)) {
                continue;
            }
            let message = format!("`{name}` was made for {site}, and reads another site here");
            let d = Diagnostic::warning(codes::WRONG_KIND, message)
                .at(*span, format!("this is {}", found[0]))
                .help(format!("give it `{name}.site`, unless this is meant"));
            if let Some(m) = self.model.as_mut().filter(|m| !m.diagnostics.contains(&d)) {
                m.diagnostics.push(d);
            }
        }
    }

    /// Lays the edits of a site over its value, in order. One that does not fit is reported and left out.
    fn overlays(&mut self, site: &str, node: NodeId) -> Res<NodeId> {
        let Some(instances) = self.model.as_ref().map(|m| m.instances) else { return Ok(node) };
        let mut value = node;
        for (i, instance) in instances.iter().enumerate() {
            if instance.site != site {
                continue;
            }
            match self.overlay(EditId(i as u32), instance, value) {
                Ok(v) => value = v,
                Err(d) => {
                    if let Some(m) = self.model.as_mut() {
                        m.diagnostics.push(*d);
                    }
                }
            }
        }
        Ok(value)
    }

    fn overlay(&mut self, edit: EditId, instance: &Instance, base: NodeId) -> Res<NodeId> {
        let (layer, built, span) = (self.layer, self.b.layer, self.b.span);
        self.layer = instance.layer;
        self.b.layer = instance.layer.or(built);
        self.b.span = instance.span;
        self.b.enter(&instance.name);
        let outer = self.hook.replace(super::scope::HookContext {
            edit,
            own: instance.params.len(),
            base,
            stage: stage_of(&instance.site).filter(|_| instance.is_route()).map(|(_, stage)| stage),
            acted: false,
        });
        let value = match &instance.body {
            EditBody::Patch => {
                let r = self.b.donor(edit, base);
                self.typed(r, instance.span)
            }
            EditBody::Hook { body, donor } => self.hook_value(edit, instance, body, *donor, base),
            EditBody::Route(body) => self.route_value(edit, instance, body, base),
        };
        let result = value.and_then(|value| {
            match instance.is_route() {
                // What it did is told of the gates.
                true if !self.hook.as_ref().is_some_and(|h| h.acted) => {
                    self.model.iter_mut().for_each(|m| m.idle.push(edit));
                    return Ok(base);
                }
                true => {}
                false => {
                    let r = self.b.receipts(edit, base, value);
                    self.typed(r, instance.span)?;
                }
            }
            let r = self.b.overlay(edit, base, value);
            self.typed(r, instance.span)
        });
        self.hook = outer;
        self.b.leave();
        (self.layer, self.b.layer, self.b.span) = (layer, built, span);
        result
    }

    /// The names of an edit: its parameters, and those of a sweep that are known when it is compiled.
    pub(super) fn edit_scope(&mut self, edit: EditId, instance: &Instance) -> Res<Scope> {
        let mut scope: Scope = instance.bound.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        for (slot, name) in instance.params.iter().enumerate() {
            let r = self.b.param(edit, slot as u32);
            scope.insert(name.clone(), Value::Node(self.typed(r, instance.span)?));
        }
        Ok(scope)
    }

    fn hook_value(
        &mut self,
        edit: EditId,
        instance: &Instance,
        body: &Block,
        donor: bool,
        base: NodeId,
    ) -> Res<NodeId> {
        let mut scope = super::stmt::scope_of([("h", Value::Node(base)), ("h0", Value::Node(base))]);
        scope.extend(self.edit_scope(edit, instance)?);
        if donor {
            let r = self.b.donor(edit, base);
            scope.insert("donor".into(), Value::Node(self.typed(r, instance.span)?));
        }
        self.reads_sites = true;
        let h = self.isolated(vec![scope], |s| {
            s.block(body)?;
            Ok(s.local("h").cloned())
        });
        self.reads_sites = false;
        let h = h?;
        match h {
            Some(Value::Node(n)) if n == base => {
                if let Some(m) = self.model.as_mut() {
                    let seen = m.diagnostics.iter().any(|d| d.labels.first().is_some_and(|l| l.span == instance.span));
                    if !seen {
                        m.diagnostics.push(
                            Diagnostic::warning(
                                codes::UNREAD_EDIT,
                                format!("the hook `{}` never changes `h`", instance.name),
                            )
                            .at(instance.span, "it has no effect")
                            .help("assign to `h`, as in `h += alpha * v`"),
                        );
                    }
                }
                Ok(n)
            }
            Some(Value::Node(n)) => Ok(n),
            _ => Err(broken("h is no value")),
        }
    }
}

/// Of the two names of the residual stream between two blocks, the one that edits are laid over.
pub fn canonical(site: &str) -> String {
    let Some(rest) = site.strip_prefix("blocks[") else { return site.to_owned() };
    let Some((layer, "resid.pre")) = rest.split_once("].") else { return site.to_owned() };
    match layer.parse::<u32>() {
        Ok(l) if l > 0 => format!("blocks[{}].resid.post", l - 1),
        _ => site.to_owned(),
    }
}

fn broken(what: &str) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::UNKNOWN_SITE, format!("the compiler lost its way: {what}"))
            .help("this is a bug in steer"),
    )
}
