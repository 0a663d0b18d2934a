//! The evaluator's state: scopes, axes, the graph under construction.

use super::direct::Seen;
use super::eval::axes_of;
use super::library::Library;
use super::value::{Scope, Value};
use crate::plan::{Axis, Builder, EditId, NodeId, Op, Plan, Size, TypeError};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use steer_lang::ast::Ident;
use steer_lang::codes::{self, Code};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span};

/// The result of a step of elaboration.
pub type Res<T> = Result<T, Box<Diagnostic>>;

/// How deep functions may call one another.
const DEPTH: usize = 64;

/// How many calls one evaluation may make: far more than any model needs, and few enough to end soon.
const CALLS: usize = 1 << 21;

/// A tensor of the script, as row code sees it.
#[derive(Clone, Debug)]
pub struct TensorType {
    pub axes: Vec<Axis>,
    /// One for every layer.
    pub family: bool,
    /// The layers of a family that have one.
    pub layers: Vec<u32>,
}

/// What code inside of a hook can name besides its locals.
#[derive(Clone, Debug)]
pub struct HookContext {
    pub edit: EditId,
    /// How many parameters the edit itself has; those of the script stand behind them.
    pub own: usize,
    /// The site's value before the edit.
    pub base: NodeId,
    /// Of a route, the site of the mixture that it is at.
    pub stage: Option<super::routes::Stage>,
    /// Whether a statement of the route did anything at this site.
    pub acted: bool,
}

/// What row code of one Plan is evaluated in.
pub struct Eval<'a> {
    pub library: &'a Library,
    pub config: &'a Json,
    pub b: Builder,
    /// Axes by name, declared by the model file or by tensors of the script.
    pub axes: BTreeMap<String, Size>,
    pub tensors: &'a BTreeMap<String, TensorType>,
    /// Globals of the script: parameters and data sets.
    pub globals: &'a Scope,
    pub scopes: Vec<Scope>,
    pub layer: Option<u32>,
    /// The number of layers, where the model file does not say it itself.
    pub layers: Option<u32>,
    /// The prefix of weight names.
    pub under: String,
    /// The residual stream so far.
    pub resid: Option<NodeId>,
    pub hook: Option<HookContext>,
    pub model: Option<super::model::ModelState<'a>>,
    /// Whether names of sites stand for their values: in hooks, and in what metrics read.
    pub reads_sites: bool,
    /// While the end of the model is evaluated on another value than its own.
    pub lens: Option<Seen>,
    /// What names stand for at the end of the model file, while a metric's expression is evaluated.
    pub model_scopes: Vec<Scope>,
    /// Leaves of a derived tensor: means and components over data sets.
    pub derive: Option<super::derive::DeriveState>,
    depth: usize,
    calls: usize,
}

impl<'a> Eval<'a> {
    pub fn new(
        library: &'a Library,
        config: &'a Json,
        tensors: &'a BTreeMap<String, TensorType>,
        globals: &'a Scope,
        arch: &str,
    ) -> Self {
        let plan = Plan { arch: arch.to_owned(), ..Plan::default() };
        Eval {
            library,
            config,
            b: Builder::new(plan).sharing(),
            axes: BTreeMap::new(),
            tensors,
            globals,
            scopes: vec![HashMap::new()],
            layer: None,
            layers: None,
            under: String::new(),
            resid: None,
            hook: None,
            model: None,
            reads_sites: false,
            lens: None,
            model_scopes: Vec::new(),
            derive: None,
            depth: 0,
            calls: 0,
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.b.plan
    }

    pub fn bind(&mut self, name: &str, value: Value) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), value);
        }
    }

    /// Rebinds the innermost binding of a name.
    pub fn rebind(&mut self, name: &str, value: Value) -> bool {
        for scope in self.scopes.iter_mut().rev() {
            if let Some(slot) = scope.get_mut(name) {
                *slot = value;
                return true;
            }
        }
        false
    }

    /// Gives the value that a route is at another one.
    pub fn route(&mut self, value: NodeId) {
        let Some(hook) = &mut self.hook else { return };
        hook.acted = true;
        let name = hook.stage.map_or("", |s| s.name());
        self.rebind(name, Value::Node(value));
    }

    pub fn local(&self, name: &str) -> Option<&Value> {
        self.scopes.iter().rev().find_map(|s| s.get(name))
    }

    /// Runs `f` with no other locals than `scope`.
    pub fn isolated<T>(&mut self, scopes: Vec<Scope>, f: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        if self.depth >= DEPTH {
            return Err(Box::new(
                Diagnostic::error(
                    codes::UNKNOWN_FUNCTION,
                    format!("functions call one another more than {DEPTH} deep"),
                )
                .help("functions are inlined, so they cannot call themselves without end"),
            ));
        }
        self.calls += 1;
        if self.calls > CALLS {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_FUNCTION, format!("functions are called more than {CALLS} times"))
                    .help(
                        "functions are inlined, so one that calls others several times, and so on, grows without end",
                    ),
            ));
        }
        self.depth += 1;
        let saved = std::mem::replace(&mut self.scopes, scopes);
        let result = f(self);
        self.scopes = saved;
        self.depth -= 1;
        result
    }

    /// Runs `f` with a new innermost scope.
    pub fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        self.scopes.push(HashMap::new());
        let result = f(self);
        self.scopes.pop();
        result
    }

    pub fn axis(&self, name: &str) -> Option<Axis> {
        if name == crate::plan::KEY {
            return Some(Axis::key());
        }
        if let Some(&size) = self.axes.get(name) {
            return Some(Axis { name: Arc::from(name), size });
        }
        // A hook may name what a tensor of the script or a value of the model has without the model file's saying.
        let tensors = self.tensors.values().flat_map(|t| &t.axes);
        let values = self.plan().nodes.iter().flat_map(|n| &n.ty.axes);
        let mut known = tensors.chain(values);
        known.find(|a| self.hook.is_some() && &*a.name == name).cloned()
    }

    /// The value of a name, wherever it is declared.
    pub fn lookup(&mut self, ident: &str, span: Span) -> Res<Value> {
        if let Some(v) = self.local(ident) {
            return Ok(v.clone());
        }
        if let Some(v) = self.builtin_name(ident, span)? {
            return Ok(v);
        }
        match self.global(ident, span) {
            Some(Value::Broken) => return Err(silent()),
            Some(v) => return Ok(v.clone()),
            None => {}
        }
        if self.tensors.contains_key(ident) && self.library.in_script(span) {
            return Ok(Value::Tensor(ident.into()));
        }
        if let Some(axis) = self.axis(ident) {
            return Ok(Value::axis(axis));
        }
        Err(self.unknown(ident, span))
    }

    /// What the script declares under a name, where its names are seen.
    pub fn global(&self, name: &str, place: Span) -> Option<&Value> {
        self.globals.get(name).filter(|_| self.library.in_script(place))
    }

    fn builtin_name(&mut self, ident: &str, span: Span) -> Res<Option<Value>> {
        let value = match ident {
            "pi" => Value::Number(std::f64::consts::PI),
            "inf" => Value::Number(f64::INFINITY),
            "layer" => match self.layer {
                Some(l) => Value::Layer(l),
                None => {
                    return Err(Box::new(
                        Diagnostic::error(codes::UNKNOWN_NAME, "there is no layer here")
                            .at(span, "this site belongs to no layer")
                            .help("`layer` can be read at sites of `blocks[...]`"),
                    ));
                }
            },
            "config" if self.model.is_some() && self.hook.is_none() => match self.config.as_object() {
                Some(map) => Value::Object(Rc::new(map.clone()), "config".into()),
                None => return Ok(None),
            },
            "resid" if self.hook.is_none() => match self.resid {
                Some(n) => Value::Node(n),
                None => return Ok(None),
            },
            "token" if self.rows() => self.input(Op::Token)?,
            "position" if self.rows() => self.input(Op::Position)?,
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Whether there are rows here at all (not in the arithmetic of a derived tensor).
    fn rows(&self) -> bool {
        self.model.is_some()
    }

    pub fn unknown(&self, ident: &str, span: Span) -> Box<Diagnostic> {
        if ident == "blocks" {
            return Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, "one site of one block is read at a time")
                    .at(span, "which one?")
                    .help("write its number: `blocks[3].resid.pre`"),
            );
        }
        let stage = self.hook.as_ref().and_then(|h| h.stage);
        if let (Some(at), Some(later)) = (stage, super::routes::Stage::named(ident))
            && later > at
        {
            return super::routes::too_early(ident, at, span);
        }
        let mut names: Vec<&str> = Vec::new();
        for scope in &self.scopes {
            names.extend(scope.keys().map(String::as_str));
        }
        names.extend(self.globals.keys().map(String::as_str));
        names.extend(self.tensors.keys().map(String::as_str));
        names.extend(self.axes.keys().map(String::as_str));
        names.extend(["layer", "position", "token"]);
        names.sort_unstable();
        names.dedup();
        let help = match nearest(ident, names.iter().copied()) {
            Some(n) => format!("did you mean `{n}`?"),
            None => {
                names.retain(|n| !n.contains('.'));
                format!("known here are {}", names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", "))
            }
        };
        Box::new(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("nothing here is called `{ident}`"))
                .at(span, "not declared")
                .help(help),
        )
    }

    pub fn num(&mut self, n: f32) -> Res<NodeId> {
        let r = self.b.number(n);
        self.typed(r, self.b.span)
    }

    pub fn iota(&mut self, axis: Axis) -> Res<NodeId> {
        let r = self.b.iota(axis);
        self.typed(r, self.b.span)
    }

    fn input(&mut self, op: Op) -> Res<Value> {
        let r = if op == Op::Token { self.b.token() } else { self.b.position() };
        Ok(Value::Node(self.typed(r, self.b.span)?))
    }

    /// A typing error as a diagnostic at a place.
    pub fn typed<T>(&self, r: Result<T, TypeError>, span: Span) -> Res<T> {
        r.map_err(|e| type_error(&e, span))
    }
}

/// An error at a place.
pub fn fail<T>(code: Code, message: impl Into<String>, span: Span, label: impl Into<String>) -> Res<T> {
    Err(Box::new(Diagnostic::error(code, message).at(span, label)))
}

/// `1 argument`, `2 arguments`.
pub fn counted(n: usize, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    match n {
        0 => format!("no {what}s"),
        n => format!("{n} {what}{s}"),
    }
}

/// An error that follows from one already reported; it is not printed.
pub fn silent() -> Box<Diagnostic> {
    Box::new(Diagnostic::error(codes::UNKNOWN_NAME, ""))
}

/// Whether it is one that [`silent`] makes.
pub fn is_silent(d: &Diagnostic) -> bool {
    d.message.is_empty()
}

pub fn type_error(e: &TypeError, span: Span) -> Box<Diagnostic> {
    let code = match e {
        TypeError::NoAxis { .. } => codes::UNKNOWN_AXIS,
        TypeError::OutOfRange { .. } => codes::OUT_OF_RANGE,
        _ => codes::AXIS_MISMATCH,
    };
    if let TypeError::NoAxis { axis, have } = e {
        return Box::new(
            Diagnostic::error(code, format!("this value has no axis `{axis}`"))
                .at(span, format!("it has {}", axes_of(have))),
        );
    }
    Box::new(Diagnostic::error(code, e.to_string()).at(span, "here"))
}

/// Joins the names of a dotted path.
pub fn dotted(path: &[Ident]) -> String {
    path.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(".")
}

/// Axis names as the builder takes them.
pub fn names(axes: &[Arc<str>]) -> Vec<&str> {
    axes.iter().map(|a| &**a).collect()
}
