//! The rows engine: executes a program over packed rows of any number of runs at once.
//!
//! Every distinct row is computed once ([`share`]); attention reads earlier rows through a row index
//! ([`cache`]); no value of a row depends on what else is computed beside it.

mod ahead;
mod cache;
mod chosen;
mod constants;
mod count;
mod edits;
mod exec;
mod exec_body;
mod exec_experts;
mod exec_instr;
mod exec_mix;
mod exec_products;
mod exec_scan;
mod given;
mod lives;
mod matrices;
mod memory;
mod meter;
mod number;
mod operations;
mod pool;
mod runs;
mod segments;
mod share;
mod stored;
mod team;

pub use count::{Counter, Pass, count};
pub use memory::{Held, RowSizes, Sizes};

use crate::engine::{Engine, Extend, Rounding, Run, StepResult, TensorSource, Watcher, WeightSource};
use crate::error::Error;
use ahead::Ahead;
use cache::{Caches, Homes};
pub(crate) use constants::Constants;
pub use constants::PackedWeights;
use lives::Lives;
use meter::Meter;
use operations::Cost;
use pool::Pool;
use runs::{Pasts, RunState, Users};
use share::Layout;
use std::sync::Arc;
use steer_compiler::backend::{RowBackend, RowKernels};
use steer_compiler::plan::{EditId, Plan};
use steer_compiler::program::{Instr, Patch, Program, Stretch};
use steer_kernels::{Arithmetic, Isa};
use steer_lang::codes;

/// A model under one Plan, compiled for this processor.
pub struct RowsEngine {
    plan: Arc<Plan>,
    program: Arc<Program>,
    kernels: Box<dyn RowKernels>,
    isa: Isa,
    constants: Constants,
    weights: Arc<dyn WeightSource>,
    layout: Layout,
    /// Computes equal rows once. Off only to test that it changes nothing.
    pub share: bool,
    runs: Vec<RunState>,
    users: Users,
    pasts: Pasts,
    caches: Caches,
    rounding: Rounding,
    homes: Homes,
    lives: Arc<Lives>,
    ahead: Ahead,
    /// By stretch: the edits that its instructions ask about.
    acting: Vec<Vec<EditId>>,
    /// By stretch: those of which it leaves receipts.
    told: Vec<Vec<EditId>>,
    /// What each instruction takes for one row.
    costs: Vec<Vec<Cost>>,
    watcher: Option<Watcher>,
    /// Where passes are measured.
    meter: Option<Arc<Meter>>,
    pool: Pool,
    /// Values of the pass before that were read.
    handed: Vec<Arc<[f32]>>,
}

impl RowsEngine {
    /// Compiles the kernels and reads the weights, but for experts, which are read when a row first chooses them.
    pub fn new(
        plan: Arc<Plan>,
        program: Arc<Program>,
        backend: &dyn RowBackend,
        weights: Arc<dyn WeightSource>,
        tensors: &dyn TensorSource,
    ) -> Result<Self, Error> {
        RowsEngine::over(plan, program, backend, weights, tensors, &PackedWeights::default())
    }

    /// Another program over the same weights: matrices that both read are in memory once.
    pub fn beside(
        &self,
        plan: Arc<Plan>,
        program: Arc<Program>,
        backend: &dyn RowBackend,
        tensors: &dyn TensorSource,
    ) -> Result<Self, Error> {
        RowsEngine::over(plan, program, backend, Arc::clone(&self.weights), tensors, self.packed())
    }

    /// With matrices that are packed already, where it reads them.
    pub fn over(
        plan: Arc<Plan>,
        program: Arc<Program>,
        backend: &dyn RowBackend,
        weights: Arc<dyn WeightSource>,
        tensors: &dyn TensorSource,
        packed: &PackedWeights,
    ) -> Result<Self, Error> {
        let isa = Isa::detect();
        let kernels = backend.compile(&program.kernels, isa)?;
        let constants = Constants::load(&plan, &program, kernels.as_ref(), &weights, tensors, packed)?;
        let homes = Homes::new(&program);
        let lives = Arc::new(Lives::of(&program, &homes));
        let ahead = Ahead::new(&program);
        let layout = layout(&program, &lives);
        let caches = Caches::new(&program, Rounding::default().cache);
        let acting = edits::acting(&program);
        let told = edits::told(&program);
        let costs = operations::costs(&program);
        Ok(RowsEngine {
            plan,
            program,
            kernels,
            isa,
            constants,
            weights,
            layout,
            share: true,
            runs: Vec::new(),
            users: Users::default(),
            pasts: Pasts::default(),
            caches,
            rounding: Rounding::default(),
            homes,
            lives,
            ahead,
            acting,
            told,
            costs,
            watcher: None,
            meter: None,
            pool: Pool::default(),
            handed: Vec::new(),
        })
    }

    /// The matrices of weights that it reads.
    pub fn packed(&self) -> &PackedWeights {
        self.constants.packed()
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How products with weights are computed.
    fn arithmetic(&self) -> Arithmetic {
        Arithmetic { isa: self.isa, activations: self.rounding.activations }
    }

    /// Of the matrices of experts, one for each expert and product: how many have been read, and how many there are.
    pub fn experts_read(&self) -> (usize, usize) {
        self.constants.experts_read()
    }
}

impl Engine for RowsEngine {
    fn begin(&mut self, runs: Vec<Run>) -> Result<(), Error> {
        self.users = Users::new(&self.program, &runs)?;
        self.pasts = Pasts::new(&self.program, runs.len());
        let n = self.program.stretches.len();
        // Pieces of an experiment are alike: the next one fills the same memory, unless it is much smaller.
        match runs.len() >= self.runs.len() / 2 && self.rounding.cache == self.caches.format {
            true => self.caches.clear(),
            false => self.caches = Caches::new(&self.program, self.rounding.cache),
        }
        self.runs = runs.into_iter().map(|r| RunState::new(r, n)).collect();
        Ok(())
    }

    fn extend(&mut self, work: &[Extend]) -> Result<StepResult, Error> {
        let isa = self.isa;
        team::lead(isa, || exec::step(self, work))
    }

    fn watch(&mut self, watcher: Option<Watcher>) {
        self.watcher = watcher;
    }

    fn round(&mut self, rounding: Rounding) {
        self.rounding = rounding;
    }

    fn measure(&mut self) {
        self.meter = Some(Arc::new(Meter::new(&self.plan, &self.program, &self.constants)));
    }
}

fn layout(program: &Program, lives: &Lives) -> Layout {
    let whole = |(s, stretch): (usize, &Stretch)| {
        let alone = |p: &&Patch| p.whole && lives.only(s, p.base);
        stretch.patches.iter().filter(alone).map(|p| p.edit).collect()
    };
    Layout::new(program, program.stretches.iter().enumerate().map(whole).collect())
}

/// A violated assumption: a bug of ours, reported without a panic.
pub(crate) fn broken(what: &str) -> Error {
    Error::new(codes::BACKEND, format!("the rows engine lost its way: {what}")).help("this is a bug in steer")
}

/// Whether of some products only chosen parts are computed.
pub fn chooses(program: &Program) -> bool {
    program
        .stretches
        .iter()
        .flat_map(|s| &s.instrs)
        .any(|i| matches!(i, Instr::Linear { active: Some(_), .. } | Instr::Experts(_)))
}

/// Whether an instruction reads earlier rows of its sequence.
fn reads_earlier(instr: &Instr) -> bool {
    matches!(instr, Instr::Attention { .. } | Instr::Conv1d { .. } | Instr::Scan { .. })
}
