//! What executes a Plan: the rows engine, and the candle reference that defines the values.

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use steer_compiler::plan::{EditId, Stat, Tensor, Weight};
use steer_kernels::attention::CacheFormat;
use steer_kernels::{Activations, Arithmetic, Format, Isa};

/// Weights by what the Plan says of them.
pub trait WeightSource: Send + Sync {
    /// All elements of a weight in file order, widened to f32; the tensors that a spread name stands
    /// for follow one another.
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error>;

    /// Some of these elements; what else there is need not be read.
    fn read_range(&self, weight: &Weight, range: Range<usize>) -> Result<Vec<f32>, Error> {
        Ok(self.read(weight)?[range].to_vec())
    }

    /// How many elements are in each piece of a weight as its files store it; `None` where it can only be read.
    fn elements(&self, _weight: &Weight) -> Option<usize> {
        None
    }

    /// A piece of a weight as its file stores it: the whole, or one of the tensors that a spread name stands for.
    fn piece(&self, _weight: &Weight, _index: usize) -> Option<Piece<'_>> {
        None
    }

    /// Says that some of a weight's pieces have been read: memory that their file has taken for them may go, until they are
    /// read again.
    fn let_go(&self, _weight: &Weight, _pieces: Range<usize>) {}
}

/// Elements as a file stores them.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    pub format: Format,
    pub bytes: &'a [u8],
    pub order: Order,
}

/// How the elements of a file lie, against those of the weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Same,
    /// By row of the weight, each so long: the row in the file.
    Rows(Vec<usize>, usize),
    /// As so many rows and columns of the weight turned around.
    Turned(usize, usize),
}

impl Order {
    /// Where elements of the weight at `outs[o] + ins[k]` are in the file, as such a sum again; `None` where they are not.
    pub fn offsets(&self, outs: Vec<usize>, ins: Vec<usize>) -> Option<(Vec<usize>, Vec<usize>)> {
        let apart = |columns: usize| {
            let most = |offsets: &[usize]| offsets.iter().map(|i| i % columns).max();
            Some(most(&outs)? + most(&ins)? < columns)
        };
        match self {
            Order::Same => Some((outs, ins)),
            Order::Rows(rows, columns) => {
                if !apart(*columns)? || ins.iter().any(|k| k >= columns) {
                    return None;
                }
                let place = |o: &usize| Some(rows.get(o / columns)? * columns + o % columns);
                Some((outs.iter().map(place).collect::<Option<_>>()?, ins))
            }
            Order::Turned(rows, columns) => {
                let place = |i: &usize| i % columns * rows + i / columns;
                apart(*columns)?.then(|| (outs.iter().map(place).collect(), ins.iter().map(place).collect()))
            }
        }
    }
}

/// Weights that are only read: everything is computed with as float32.
pub struct Widened(pub Arc<dyn WeightSource>);

impl WeightSource for Widened {
    fn read(&self, weight: &Weight) -> Result<Vec<f32>, Error> {
        self.0.read(weight)
    }

    fn read_range(&self, weight: &Weight, range: Range<usize>) -> Result<Vec<f32>, Error> {
        self.0.read_range(weight, range)
    }

    fn let_go(&self, weight: &Weight, pieces: Range<usize>) {
        self.0.let_go(weight, pieces);
    }
}

/// Values of the script's tensors, by name.
pub trait TensorSource: Send + Sync {
    fn read(&self, tensor: &Tensor) -> Result<Arc<[f32]>, Error>;
}

/// One sequence under one set of edits, as an engine is told of it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Which edits of the Plan it uses, with their parameters by slot.
    pub edits: Vec<RunEdit>,
}

#[derive(Clone, Debug)]
pub struct RunEdit {
    pub edit: EditId,
    pub params: Vec<f32>,
    /// For a patch: the run that it takes values from.
    pub donor: Option<usize>,
}

/// New tokens of one run.
#[derive(Clone, Debug, Default)]
pub struct Extend {
    pub run: usize,
    pub tokens: Vec<u32>,
    /// For each edit of the run (in the order of `Run::edits`), for each new token: whether it is active.
    pub active: Vec<Vec<bool>>,
    /// For each edit of the run, for each new token: the donor's position. Empty: its own position.
    pub donor_positions: Vec<Vec<usize>>,
    /// For each output of the Plan: which positions (absolute, among the new rows) are read.
    pub reads: Vec<Vec<usize>>,
}

/// A value that was asked for.
#[derive(Clone, Debug)]
pub struct RowValue {
    pub run: usize,
    /// Index into `Plan::outputs`.
    pub output: usize,
    pub position: usize,
    /// Row-major over the axes of the output's type.
    pub data: Arc<[f32]>,
}

/// What an edit did to one row on which it was active.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowReceipt {
    pub run: usize,
    pub edit: EditId,
    pub position: usize,
    pub did: Did,
}

/// What an edit did to a row, by [`Stat`].
pub type Did = [f32; Stat::COUNT];

impl RowReceipt {
    pub fn of(&self, stat: Stat) -> f32 {
        self.did[stat as usize]
    }
}

/// Rows that were worked on, against what one pass a run would have taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowCount {
    /// Rows times stretches.
    pub computed: u64,
    pub naive: u64,
    /// Floating-point operations of products, attentions, convolutions and scans.
    pub operations: u64,
    pub naive_operations: u64,
}

impl std::ops::AddAssign for RowCount {
    fn add_assign(&mut self, more: Self) {
        self.computed += more.computed;
        self.naive += more.naive;
        self.operations += more.operations;
        self.naive_operations += more.naive_operations;
    }
}

/// What a part of a pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    Product,
    Experts,
    Attention,
    Convolution,
    Scan,
    Kernel,
    Lookup,
    /// What else a pass does.
    Rest,
    /// Between passes.
    Between,
}

/// What was spent on one kind of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Spent {
    pub kind: WorkKind,
    /// What tells it from other work of its kind, such as a weight whatever the layer.
    pub name: Arc<str>,
    pub calls: u64,
    pub seconds: f64,
    /// Read and written at least.
    pub bytes: u64,
    /// In floating point.
    pub operations: u64,
}

impl Spent {
    /// Nothing yet.
    pub fn new(kind: WorkKind, name: &str) -> Self {
        Spent { kind, name: name.into(), calls: 0, seconds: 0.0, bytes: 0, operations: 0 }
    }
}

#[derive(Clone, Debug, Default)]
pub struct StepResult {
    pub values: Vec<RowValue>,
    pub receipts: Vec<RowReceipt>,
    pub rows: RowCount,
    /// What its time was spent on, where that is measured.
    pub spent: Vec<Spent>,
}

/// Is told what part of a pass is done, from 0 to 1.
pub type Watcher = Box<dyn Fn(f64) + Send + Sync>;

/// Where numbers are kept in fewer bits than they are computed in. A row's values depend on it, and still on nothing else
/// than its own prefix and edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rounding {
    /// How keys and values are stored.
    pub cache: CacheFormat,
    /// What products with weights read of rows.
    pub activations: Activations,
}

impl Rounding {
    /// The instructions that kernels and products use here, as far as last digits may differ by them.
    pub fn instruction_set(self) -> &'static str {
        Arithmetic { isa: Isa::detect(), activations: self.activations }.name()
    }

    /// About how large keys and values may be before they are stored as infinite, where float32 could hold them.
    pub fn largest_stored(self) -> Option<f32> {
        const HALF: f32 = 65504.0;
        match self.cache {
            CacheFormat::F32 => None,
            CacheFormat::F16 => Some(HALF),
            // The scale is a float16, and numbers are up to 127 of it.
            CacheFormat::Q8 => Some(127.0 * HALF),
        }
    }
}

/// A loaded model under one Plan, with the caches of its runs.
///
/// The values of a row depend on its prefix and its edits alone, however the tokens are handed over.
pub trait Engine {
    /// Starts afresh with these runs, all of them empty. A donor must not depend on the run it gives to.
    fn begin(&mut self, runs: Vec<Run>) -> Result<(), Error>;

    /// Appends tokens to runs, all of them in one pass, and returns what is read.
    fn extend(&mut self, work: &[Extend]) -> Result<StepResult, Error>;

    /// Who is told of the passes from now on. An engine that does not know how far it is tells nobody.
    fn watch(&mut self, _watcher: Option<Watcher>) {}

    /// What is rounded from the next start on; otherwise nothing is.
    fn round(&mut self, rounding: Rounding);

    /// Passes say from now on what their time is spent on, if the engine knows.
    fn measure(&mut self) {}
}
