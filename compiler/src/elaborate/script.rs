//! A checked script: what is left of it once every name, site, position and token is resolved.

use super::chat::{Chat, Turn, Written};
use super::derive::Leaf;
use super::model::{Instance, Model};
use super::positions::{Alignment, Fields, RowSet, Sequence};
use super::reads::{Lens, RowRead};
use super::routes::{Claims, Ranking};
use super::scope::TensorType;
use super::value::{Scope, Value};
use crate::plan::Plan;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use steer_lang::ast::{BinaryOp, Block};
use steer_lang::{Diagnostic, FileId, Span};

/// What the compiler asks of the world outside.
pub trait Host {
    /// The text of a file named by the script, or by a file `from` that it imports.
    fn text(&self, path: &str, from: FileId) -> Result<String, String>;
    /// The rows of a Parquet file, each a record of its columns. An error has no place yet.
    fn rows(&self, path: &str, from: FileId) -> Result<Vec<Map<String, Json>>, Box<Diagnostic>> {
        let _ = (path, from);
        Ok(Vec::new())
    }
    /// The shape of a stored tensor, all of whose values can be used; `key` names one of several. An error
    /// has no place yet.
    fn tensor_shape(&self, path: &str, key: Option<&str>, from: FileId) -> Result<Vec<usize>, Box<Diagnostic>>;
    /// The directions of a control vector; `None` where the file is no such by its name.
    fn directions(&self, path: &str, from: FileId) -> Option<Result<Directions, Box<Diagnostic>>> {
        let _ = (path, from);
        None
    }
    /// What a folder says of the sparse autoencoder in it.
    fn dictionary(&self, folder: &str, from: FileId) -> Result<Dictionary, Box<Diagnostic>> {
        let _ = (folder, from);
        Ok(Dictionary::default())
    }
    /// `None`: there is no tokenizer, so what depends on tokens is not checked.
    fn encode(&self, text: &str) -> Option<Result<Encoded, String>>;
    /// What to do where there is no tokenizer and one is needed.
    fn without_tokenizer(&self) -> &'static str {
        "use a model that has one"
    }
    /// A conversation as the model's chat template writes it, with its tokens; `None` as above. Where the diagnostic has no
    /// place, the conversation is at fault.
    fn chat(&self, chat: &Chat) -> Option<Result<Written, Box<Diagnostic>>>;
    /// A token as reports show it.
    fn piece(&self, token: u32) -> String;
    /// The token of a text that is exactly one, or the pieces that it is made of.
    fn single_token(&self, text: &str) -> Option<Result<u32, Vec<String>>>;
}

/// What a file of a control vector holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directions {
    /// The `i` of its `direction.{i}`.
    pub numbers: Vec<u32>,
    /// The kind of model that it says it is for.
    pub model: Option<String>,
}

/// A sparse autoencoder as SAELens saves it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dictionary {
    /// Its `cfg.json`.
    pub config: Json,
    /// The file of its tensors, as `load` would name it.
    pub file: String,
    /// Their names and shapes.
    pub tensors: Vec<(String, Vec<usize>)>,
}

/// How something that comes from elsewhere was understood, where it could mean several things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub of: String,
    pub means: String,
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
    /// Hooks and patches by name: which edit, and where it acts unless a run says otherwise.
    pub named: BTreeMap<String, (usize, Rc<Place>)>,
    pub tensors: Vec<TensorSpec>,
    pub tensor_types: BTreeMap<String, TensorType>,
    pub globals: Scope,
    pub statements: Vec<Statement>,
    pub readings: Vec<Reading>,
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

/// A hook or patch, as far as it is compiled: the same for every run that uses it.
#[derive(Clone, Debug)]
pub struct EditDecl {
    pub name: String,
    pub params: Vec<EditParam>,
    /// Canonical site names, with the layer as the script names it.
    pub sites: Vec<(String, Option<u32>)>,
    pub body: EditBody,
    /// Names of a sweep that the body reads and that are known when it is compiled.
    pub bound: Rc<BTreeMap<String, Value>>,
    /// Keys that the body names by number: the first of them, and where.
    pub keys: Vec<(usize, Span)>,
    /// Of a route: the experts that it masks or forces on every row that it selects, by mixture.
    pub claims: Vec<Claims>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum EditBody {
    /// `donor`: whether it may read the value of another run.
    Hook { body: Rc<Block>, donor: bool },
    /// The value of another run, whole.
    Patch,
    /// Statements about experts, of which each site takes those that concern it.
    Route(Rc<Block>),
}

/// On which rows an edit acts and what it takes: data of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub on: RowSet,
    pub maybe: bool,
    pub from: Option<DonorSpec>,
    /// The selection's place, or the name's.
    pub span: Span,
}

impl Place {
    /// Of `on maybe ...` and a donor: the rows that have a partner in it; `None` where that changes nothing.
    pub fn partnered(&self, run: &RunSpec) -> Option<RowSet> {
        let from = self.from.as_ref().filter(|_| self.maybe)?;
        let donors = from.by.donors(&run.encoded.tokens, &from.run.encoded.tokens);
        let alone = donors.iter().any(Option::is_none);
        let known = RowSet::Mask(donors.iter().map(Option::is_some).collect());
        alone.then(|| RowSet::And(Box::new(self.on.clone()), Box::new(known)))
    }
}

/// Another run, and which of its rows belongs to which.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DonorSpec {
    pub run: RunSpec,
    pub by: Alignment,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EditParam {
    pub name: String,
    pub default: Option<f64>,
    pub bounds: Option<(f64, f64)>,
    pub integer: bool,
    /// Declared `bool`.
    pub boolean: bool,
    pub counts: Option<Counts>,
}

/// What a parameter counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    pub axis: String,
    /// 0 where it names an entry of the axis, 1 where it says how many of them.
    pub first: usize,
    /// How many entries there are.
    pub entries: usize,
    /// Where the body says so.
    pub span: Span,
}

/// One sequence under one list of edits. Equal where what is computed is equal, whatever they are called.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// As reports name it.
    pub label: String,
    pub text: Rc<str>,
    pub encoded: Rc<Encoded>,
    pub uses: Vec<Use>,
    /// The example that it is of, whose fields stand in the slots of positions that are read.
    pub record: Option<Rc<Fields>>,
    pub span: Span,
}

impl PartialEq for RunSpec {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.uses == other.uses && self.encoded == other.encoded
    }
}

impl Eq for RunSpec {}

impl Hash for RunSpec {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
        self.uses.hash(state);
    }
}

impl RunSpec {
    /// The sequence as it stands before it grows.
    pub fn sequence(&self) -> Sequence<'_> {
        let e = &self.encoded;
        let (n, turns) = (e.tokens.len(), e.turns.as_deref());
        let fields = self.record.as_deref();
        Sequence { prompt: n, len: n, bos: e.bos, text: &self.text, ranges: &e.ranges, turns, fields }
    }
}

/// An edit with its arguments, in the order of `EditDecl::params`.
#[derive(Clone, Debug)]
pub struct Use {
    pub edit: usize,
    /// Where the run names it.
    pub span: Span,
    pub args: Vec<f64>,
    pub place: Rc<Place>,
}

impl Use {
    fn bits(&self) -> impl Iterator<Item = u64> {
        self.args.iter().map(|a| a.to_bits())
    }
}

impl PartialEq for Use {
    fn eq(&self, other: &Self) -> bool {
        self.edit == other.edit
            && self.bits().eq(other.bits())
            && (Rc::ptr_eq(&self.place, &other.place) || self.place == other.place)
    }
}

impl Eq for Use {}

impl Hash for Use {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.edit.hash(state);
        self.bits().for_each(|b| b.hash(state));
        self.place.hash(state);
    }
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
    /// Path and key may have `{layer}` in them, which stands for the layer's number and `shift` more.
    File {
        path: String,
        key: Option<String>,
        shift: i64,
    },
    Derived(Vec<Derived>),
}

/// A derived tensor, of a family the one for one layer.
#[derive(Clone, Debug)]
pub struct Derived {
    /// The name with its layer: `mood[3]`.
    pub name: String,
    pub layer: Option<u32>,
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
    Generate {
        runs: Vec<RunSpec>,
        options: GenerateOptions,
        /// What each run's finished texts are scored by: one a run, or none.
        scores: Vec<Rc<Metric>>,
    },
    /// `measure`, and `sweep`.
    Table(TableSpec),
    Capture {
        sites: Vec<String>,
        before: bool,
        on: RowSet,
        /// Whether runs without such rows are no error.
        maybe: bool,
        runs: Vec<RunSpec>,
        to: String,
    },
    Print(Vec<PrintItem>),
    /// Of the table of this name.
    Plot {
        table: String,
        kind: Option<String>,
        to: Option<String>,
        options: Vec<(String, PlotOption)>,
    },
    Save {
        table: String,
        to: String,
    },
    SaveTensors(SavedTensors),
    Report {
        to: String,
    },
}

/// A declared tensor, or all of a family, to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedTensors {
    pub name: String,
    pub shape: Vec<usize>,
    /// The tensors by the names of their values.
    pub tensors: Vec<String>,
    /// Of a family of directions: the block at whose output each acts.
    pub blocks: Option<Vec<u32>>,
    pub to: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PlotOption {
    Number(f64),
    Text(String),
}

/// Numbers along labelled axes, each column a metric.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Of a sweep.
    pub name: Option<String>,
    pub axes: Vec<TableAxis>,
    pub columns: Vec<String>,
    /// Axes that the metrics themselves have, behind the others: heads, neurons, keys.
    pub own: Vec<TableAxis>,
    /// Row-major over the axes; as many as there are entries, or none where nothing is measured there.
    pub cells: Vec<Cell>,
    /// Of a `top`: its one axis counts the largest entries of its one metric, over all positions of the runs, which
    /// are a cell each.
    pub top: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TableAxis {
    pub name: String,
    pub labels: Vec<String>,
    /// Where the entries are numbers.
    pub numbers: Option<Vec<f64>>,
    /// What the first entry counts as: with a window the keys of a row do not begin with the first.
    pub first: usize,
}

impl TableAxis {
    /// Takes in the labels of the same axis elsewhere in the table: an entry that is called otherwise there is
    /// called by its number, or as `name` says.
    pub fn agree(&mut self, other: &TableAxis, name: impl Fn(usize) -> Option<String>) {
        if self.first != other.first {
            self.first = 0;
        }
        let first = self.first;
        for (i, (mine, theirs)) in self.labels.iter_mut().zip(&other.labels).enumerate() {
            if mine != theirs {
                *mine = name(i).unwrap_or_else(|| format!("[{}]", first + i));
            }
        }
    }
}

/// The average of each metric over some runs, mostly one.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub reads: Vec<Read>,
    /// The same runs under what is to give 0 and 1; or none.
    pub zero: Vec<Read>,
    pub one: Vec<Read>,
}

/// Metrics of one run, by column.
#[derive(Clone, Debug)]
pub struct Read {
    pub run: RunSpec,
    pub metrics: Rc<[Metric]>,
}

#[derive(Clone, Debug)]
pub enum PrintItem {
    Text(String),
    /// A Plan without rows whose one output is the value.
    Value {
        label: String,
        plan: Plan,
    },
    /// The first `n` entries of a ranking.
    Ranked {
        ranking: Ranking,
        n: usize,
        /// Of a family.
        layers: Option<Vec<u32>>,
        shape: Vec<usize>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    pub max: usize,
    /// 0: greedy.
    pub temperature: f64,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    /// The least probability, as a share of the likeliest token's.
    pub min_p: Option<f64>,
    /// What logits of tokens that were there before are divided by, or multiplied where they are negative.
    pub repetition_penalty: Option<f64>,
    /// Texts of each prompt.
    pub samples: usize,
    pub seed: u64,
    /// Stops at the model's end-of-text tokens.
    pub stop: bool,
    /// Texts before which a generated text ends.
    pub stops: Vec<String>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            max: 40,
            temperature: 0.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            samples: 1,
            seed: 0,
            stop: true,
            stops: Vec::new(),
        }
    }
}

/// A number read from a model's output, averaged over the selected positions.
#[derive(Clone, Debug)]
pub struct Metric {
    pub name: String,
    pub value: MetricExpr,
    pub at: RowSet,
    /// That a run has no such position is no error; the metric is not defined there.
    pub maybe: bool,
}

#[derive(Clone, Debug)]
pub enum MetricExpr {
    Number(f64),
    /// Of the token at the next position.
    Logit(u32, Option<Rc<Lens>>),
    LogProb(u32, Option<Rc<Lens>>),
    Prob(u32, Option<Rc<Lens>>),
    /// 0 is the likeliest.
    Rank(u32, Option<Rc<Lens>>),
    /// An expression over sites.
    Row(Rc<RowRead>),
    /// Of the sequence's own next token, in nats: not at the last position, which has none.
    CrossEntropy,
    /// KL(other run ‖ this run) in nats, at the same position, or at the one as far from the end.
    Kl(Box<RunSpec>, bool),
    Neg(Box<MetricExpr>),
    Call(&'static str, Box<MetricExpr>),
    Binary(BinaryOp, Box<MetricExpr>, Box<MetricExpr>),
}

impl MetricExpr {
    /// What the logits are taken from in place of the model's own.
    pub fn lens(&self) -> Option<&Lens> {
        match self {
            MetricExpr::Logit(_, l) | MetricExpr::LogProb(_, l) | MetricExpr::Prob(_, l) | MetricExpr::Rank(_, l) => {
                l.as_deref()
            }
            _ => None,
        }
    }

    /// The other runs whose logits are read, with the position there for one here.
    pub fn others(&self) -> Vec<(&RunSpec, bool)> {
        let mut out: Vec<(&RunSpec, bool)> = Vec::new();
        self.visit(&mut |part| {
            if let MetricExpr::Kl(run, by_end) = part {
                out.push((run, *by_end));
            }
        });
        out
    }

    /// Whether it is of what the model says of tokens.
    pub fn reads_logits(&self) -> bool {
        let mut reads = false;
        self.visit(&mut |m| {
            let other = matches!(m, MetricExpr::Number(_) | MetricExpr::Row(_) | MetricExpr::Neg(_));
            reads |= !other && !matches!(m, MetricExpr::Call(..) | MetricExpr::Binary(..));
        });
        reads
    }

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
    /// The seed of the first `generate`.
    pub fn seed(&self) -> Option<u64> {
        self.statements.iter().find_map(|s| match &s.kind {
            StatementKind::Generate { options, .. } => Some(options.seed),
            _ => None,
        })
    }

    /// A named hook or patch as a run uses it, with these arguments.
    pub fn use_of(&self, name: &str, args: Vec<f64>) -> Option<Use> {
        self.named.get(name).map(|(edit, place)| Use { edit: *edit, span: place.span, args, place: Rc::clone(place) })
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

impl EditDecl {
    pub fn instance(&self, site: &str, layer: Option<u32>) -> Instance {
        Instance {
            name: self.name.clone(),
            site: site.to_owned(),
            layer,
            params: self.params.iter().map(|p| p.name.clone()).collect(),
            body: self.body.clone(),
            bound: Rc::clone(&self.bound),
            slot: 0,
            span: self.span,
        }
    }
}
