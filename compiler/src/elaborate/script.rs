//! A checked script: what is left of it once every name, site, position and token is resolved.

use super::chat::{Chat, Turn, Written};
use super::derive::Leaf;
use super::model::{Instance, Model};
use super::positions::RowSet;
use super::scope::TensorType;
use super::value::Scope;
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::rc::Rc;
use steer_lang::{Diagnostic, Span};
use steer_lang::ast::{BinaryOp, Block};

/// What the compiler asks of the world outside.
pub trait Host {
    /// The text of a file named by the script.
    fn text(&self, path: &str) -> Result<String, String>;
    /// The shape of a stored tensor; `key` names one of several.
    fn tensor_shape(&self, path: &str, key: Option<&str>) -> Result<Vec<usize>, String>;
    /// `None`: there is no tokenizer, so what depends on tokens is not checked.
    fn encode(&self, text: &str) -> Option<Result<Encoded, String>>;
    /// A conversation as the model's chat template writes it, with its tokens. `None` as above. Where the diagnostic has no
    /// place, the conversation is at fault.
    fn chat(&self, chat: &Chat) -> Option<Result<Written, Box<Diagnostic>>>;
    /// The token of a text that is exactly one, or the pieces that it is made of.
    fn single_token(&self, text: &str) -> Option<Result<u32, Vec<String>>>;
}

/// A text as tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    pub tokens: Vec<u32>,
    /// Byte range of every token in the text; empty for specials.
    pub ranges: Vec<(usize, usize)>,
    /// Leading special tokens; of a conversation those that begin a sequence.
    pub bos: usize,
    /// The messages of a conversation; `None` of a plain text.
    pub turns: Option<Vec<Turn>>,
}

/// A script for one model.
pub struct Script {
    pub model: Rc<Model>,
    /// Numbers and texts of `param`, as set.
    pub params: Vec<(String, ParamValue)>,
    pub edits: Vec<EditDecl>,
    pub tensors: Vec<TensorSpec>,
    pub tensor_types: BTreeMap<String, TensorType>,
    pub globals: Scope,
    pub statements: Vec<Statement>,
    pub layers: u32,
    /// Sites and axes of the unedited model.
    pub plan: Plan,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ParamValue {
    Number(f64),
    Bool(bool),
    Text(String),
}

/// A hook or patch.
#[derive(Clone, Debug)]
pub struct EditDecl {
    pub name: String,
    pub params: Vec<EditParam>,
    /// Canonical site names, with the layer as the script names it.
    pub sites: Vec<(String, Option<u32>)>,
    pub on: RowSet,
    pub maybe: bool,
    pub body: EditBody,
    pub span: Span,
    /// The selection's place, or the name's.
    pub on_span: Span,
}

#[derive(Clone, Debug)]
pub enum EditBody {
    Hook(Rc<Block>),
    /// From this run.
    Patch(Box<RunSpec>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct EditParam {
    pub name: String,
    pub default: Option<f64>,
    pub bounds: Option<(f64, f64)>,
    pub integer: bool,
}

/// One sequence under one list of edits.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// As reports name it.
    pub label: String,
    pub text: Rc<str>,
    pub encoded: Rc<Encoded>,
    pub uses: Vec<Use>,
    pub span: Span,
}

impl RunSpec {
    /// Whether the other is the same sequence under the same edits, whatever it is called.
    pub fn same(&self, other: &RunSpec) -> bool {
        self.text == other.text && self.uses == other.uses && self.encoded == other.encoded
    }
}

/// An edit with its arguments, in the order of `EditDecl::params`.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub edit: usize,
    pub args: Vec<f64>,
}

/// A declared tensor.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    pub name: String,
    pub family: bool,
    pub source: TensorFrom,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum TensorFrom {
    File { path: String, key: Option<String> },
    Derived(Vec<Derived>),
}

/// A derived tensor, of a family the one for one layer.
#[derive(Clone, Debug)]
pub struct Derived {
    /// The name with its layer: `mood[3]`.
    pub name: String,
    pub site: String,
    pub on: RowSet,
    pub leaves: Vec<Leaf>,
    /// The rows' sources, by data set.
    pub runs: Rc<BTreeMap<String, Vec<RunSpec>>>,
    /// Arithmetic over the leaves; its one output is the value.
    pub plan: Plan,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub kind: StatementKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum StatementKind {
    Generate { runs: Vec<RunSpec>, options: GenerateOptions },
    Measure { mean: bool, metrics: Vec<Metric>, runs: Vec<MeasureRuns> },
    Capture { sites: Vec<String>, before: bool, on: RowSet, runs: Vec<RunSpec>, to: String },
    Print(Vec<PrintItem>),
}

/// The runs of one subject of `measure`: one, or one an example of a data set.
#[derive(Clone, Debug)]
pub struct MeasureRuns {
    pub label: String,
    pub runs: Vec<RunSpec>,
}

#[derive(Clone, Debug)]
pub enum PrintItem {
    Text(String),
    /// A Plan without rows whose one output is the value.
    Value {
        label: String,
        plan: Plan,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerateOptions {
    pub max: usize,
    /// 0: greedy.
    pub temperature: f64,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub seed: u64,
    /// Stops at the model's end-of-text tokens.
    pub stop: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions { max: 40, temperature: 0.0, top_k: None, top_p: None, seed: 0, stop: true }
    }
}

/// A number read from a model's output, averaged over the selected positions.
#[derive(Clone, Debug)]
pub struct Metric {
    pub name: String,
    pub value: MetricExpr,
    pub at: RowSet,
}

#[derive(Clone, Debug)]
pub enum MetricExpr {
    Number(f64),
    /// Of the token at the next position.
    Logit(u32),
    LogProb(u32),
    Prob(u32),
    /// 0 is the likeliest.
    Rank(u32),
    /// Of the sequence's own next token, in nats; not defined at the last position.
    CrossEntropy,
    /// KL(other run ‖ this run) at the same position, in nats.
    Kl(Box<RunSpec>),
    Neg(Box<MetricExpr>),
    Call(&'static str, Box<MetricExpr>),
    Binary(BinaryOp, Box<MetricExpr>, Box<MetricExpr>),
}

impl MetricExpr {
    /// Calls `f` on every part.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a MetricExpr)) {
        f(self);
        match self {
            MetricExpr::Neg(a) | MetricExpr::Call(_, a) => a.visit(f),
            MetricExpr::Binary(_, a, b) => {
                a.visit(f);
                b.visit(f);
            }
            _ => {}
        }
    }
}

impl Script {
    /// The edits that runs use, laid out in one order that agrees with every run's own: one [`Instance`]
    /// a site. The second part gives for each run its uses as lists of instances.
    pub fn instances(&self, runs: &[&RunSpec]) -> (Vec<Instance>, Vec<Vec<Vec<usize>>>) {
        // A slot is one use of an edit; runs share slots where their orders agree. A new slot stands
        // before the first shared one that follows it in its run. A patch takes what its donor has there
        // after all of the donor's own edits, so it stands behind them.
        let donor = |edit: usize| match &self.edits[edit].body {
            EditBody::Patch(from) => runs.iter().position(|r| r.same(from)),
            EditBody::Hook(_) => None,
        };
        let mut slots: Vec<(usize, usize)> = Vec::new();
        let mut taken: Vec<Vec<usize>> = vec![Vec::new(); runs.len()];
        let mut next = 0;
        for run in donors_first(runs.len(), |r| runs[r].uses.iter().filter_map(|u| donor(u.edit)).collect()) {
            let uses: Vec<usize> = runs[run].uses.iter().map(|u| u.edit).collect();
            let mut mine = vec![0; uses.len()];
            let mut shared = vec![usize::MAX; uses.len()];
            for (use_at, slot) in common(&uses, &slots.iter().map(|s| s.1).collect::<Vec<_>>()) {
                shared[use_at] = slots[slot].0;
            }
            for (i, &edit) in uses.iter().enumerate() {
                if shared[i] != usize::MAX {
                    mine[i] = shared[i];
                    continue;
                }
                let place = |slots: &[(usize, usize)], slot: usize| slots.iter().position(|s| s.0 == slot);
                let own = donor(edit).map_or(&[][..], |d| &taken[d]);
                let least = own.iter().filter_map(|s| place(&slots, *s)).max().map_or(0, |p| p + 1);
                for s in &mut shared[i..] {
                    if place(&slots, *s).is_some_and(|p| p < least) {
                        *s = usize::MAX;
                    }
                }
                let following = shared[i..].iter().find(|s| **s != usize::MAX);
                let at = following.and_then(|f| place(&slots, *f)).unwrap_or(slots.len());
                slots.insert(at, (next, edit));
                mine[i] = next;
                next += 1;
            }
            taken[run] = mine;
        }
        let mut instances = Vec::new();
        let mut of_slot: Vec<Vec<usize>> = vec![Vec::new(); next];
        for &(slot, edit) in &slots {
            let decl = &self.edits[edit];
            let mut ids = Vec::new();
            for (site, layer) in &decl.sites {
                ids.push(instances.len());
                instances.push(decl.instance(site, *layer));
            }
            of_slot[slot] = ids;
        }
        let runs = taken.into_iter().map(|mine| mine.into_iter().map(|s| of_slot[s].clone()).collect()).collect();
        (instances, runs)
    }

    /// The seed of the first `generate`.
    pub fn seed(&self) -> Option<u64> {
        self.statements.iter().find_map(|s| match &s.kind {
            StatementKind::Generate { options, .. } => Some(options.seed),
            _ => None,
        })
    }

    /// The value of a parameter of the script, for slots that are not the edit's own.
    pub fn param(&self, name: &str) -> Option<f64> {
        self.params.iter().find(|(n, _)| n == name).and_then(|(_, v)| match v {
            ParamValue::Number(n) => Some(*n),
            ParamValue::Bool(b) => Some(f64::from(u8::from(*b))),
            ParamValue::Text(_) => None,
        })
    }
}

/// All of `n` runs, each behind those that it takes from.
fn donors_first(n: usize, donors: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    fn visit(run: usize, donors: &dyn Fn(usize) -> Vec<usize>, seen: &mut [bool], order: &mut Vec<usize>) {
        if !std::mem::replace(&mut seen[run], true) {
            donors(run).into_iter().for_each(|d| visit(d, donors, seen, order));
            order.push(run);
        }
    }
    let (mut seen, mut order) = (vec![false; n], Vec::new());
    (0..n).for_each(|run| visit(run, &donors, &mut seen, &mut order));
    order
}

/// A longest common subsequence, as pairs of places.
fn common(a: &[usize], b: &[usize]) -> Vec<(usize, usize)> {
    let mut best = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            best[i][j] = if a[i] == b[j] { best[i + 1][j + 1] + 1 } else { best[i + 1][j].max(best[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            out.push((i, j));
            i += 1;
            j += 1;
        } else if best[i + 1][j] >= best[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

impl EditDecl {
    pub fn instance(&self, site: &str, layer: Option<u32>) -> Instance {
        Instance {
            name: self.name.clone(),
            site: site.to_owned(),
            layer,
            params: self.params.iter().map(|p| p.name.clone()).collect(),
            body: match &self.body {
                EditBody::Hook(b) => super::model::InstanceBody::Hook(Rc::clone(b)),
                EditBody::Patch(_) => super::model::InstanceBody::Patch,
            },
            span: self.span,
        }
    }
}
