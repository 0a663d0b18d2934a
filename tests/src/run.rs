//! Sequences handed to engines in any pieces.

use std::collections::HashMap;
use std::sync::Arc;
use steer::checkpoint::Checkpoint;
use steer::engine::{Engine, Extend, RowCount, RowReceipt, Run, TensorSource};
use steer::error::Error;
use steer::reference::Reference;
use steer::rows::RowsEngine;
use steer_compiler::backend::row_backend;
use steer_compiler::elaborate::{Model, OutputSpec, Scope};
use steer_compiler::plan::Plan;
use steer_compiler::plan::rules::{Options, optimize};
use steer_compiler::program::Program;
use steer_compiler::schedule::schedule;

/// An optimized Plan with its program.
#[derive(Clone)]
pub struct Compiled {
    pub plan: Arc<Plan>,
    pub program: Arc<Program>,
}

/// Optimizes and schedules a Plan.
pub fn compile(mut plan: Plan, options: &Options) -> Compiled {
    optimize(&mut plan, options, &mut |_, _, _| {}).unwrap_or_else(|e| panic!("{e}"));
    let (program, _) = schedule(&plan, options).unwrap_or_else(|d| panic!("{d:?}"));
    Compiled { plan: Arc::new(plan), program: Arc::new(program) }
}

/// The unedited model with these sites as outputs.
pub fn compile_sites(model: &Model, sites: &[String], options: &Options) -> Compiled {
    let site = |name: &String| OutputSpec::Site { name: name.clone(), before: false };
    let outputs: Vec<OutputSpec> = sites.iter().map(site).collect();
    let built = model.build(&[], &outputs, &Default::default(), &Scope::new()).unwrap_or_else(|d| panic!("{d:?}"));
    compile(built.plan, options)
}

/// What executes Plans, the default first; candle is the reference.
pub const BACKENDS: &[&str] = &[
    #[cfg(feature = "llvm")]
    "llvm",
    "cranelift",
    "interp",
    "candle",
];

/// The engine of one of [`BACKENDS`].
pub fn engine(
    backend: &str,
    compiled: &Compiled,
    weights: &Arc<Checkpoint>,
    tensors: &Arc<dyn TensorSource>,
) -> Box<dyn Engine> {
    match row_backend(backend) {
        Some(_) => Box::new(rows_engine(backend, compiled, weights, tensors)),
        None => Box::new(
            Reference::new(Arc::clone(&compiled.plan), Arc::clone(weights) as _, Arc::clone(tensors))
                .unwrap_or_else(|e| panic!("{e}")),
        ),
    }
}

pub fn rows_engine(
    backend: &str,
    compiled: &Compiled,
    weights: &Arc<Checkpoint>,
    tensors: &Arc<dyn TensorSource>,
) -> RowsEngine {
    let backend = row_backend(backend).expect("a row backend");
    let (plan, program) = (Arc::clone(&compiled.plan), Arc::clone(&compiled.program));
    RowsEngine::new(plan, program, backend, Arc::clone(weights) as _, tensors.as_ref())
        .unwrap_or_else(|e| panic!("{e}"))
}

/// One sequence: its tokens and, by edit of the run, the rows on which it is active.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    pub run: Run,
    pub tokens: Vec<u32>,
    pub active: Vec<Vec<bool>>,
}

impl Feed {
    pub fn plain(tokens: &[u32]) -> Self {
        Feed { run: Run::default(), tokens: tokens.to_vec(), active: Vec::new() }
    }
}

/// What all runs gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By run, output and position.
    pub values: HashMap<(usize, usize, usize), Arc<[f32]>>,
    /// By run, edit and position.
    pub receipts: Vec<RowReceipt>,
    pub rows: RowCount,
}

impl Outcome {
    pub fn value(&self, run: usize, output: usize, position: usize) -> &[f32] {
        self.values.get(&(run, output, position)).map_or(&[], |v| v)
    }
}

/// Runs all sequences side by side. `cuts` are the positions at which a pass ends; the last pass takes
/// what is left. Everything is read unless `reads` says no.
pub fn feed(
    engine: &mut dyn Engine,
    feeds: &[Feed],
    cuts: &[usize],
    outputs: usize,
    reads: &dyn Fn(usize, usize, usize) -> bool,
) -> Result<Outcome, Error> {
    engine.begin(feeds.iter().map(|f| f.run.clone()).collect())?;
    let longest = feeds.iter().map(|f| f.tokens.len()).max().unwrap_or(0);
    let mut out = Outcome::default();
    let mut start = 0;
    for end in cuts.iter().copied().filter(|c| *c < longest).chain([longest]) {
        let mut work = Vec::new();
        for (run, f) in feeds.iter().enumerate() {
            let stop = end.min(f.tokens.len());
            if start >= stop {
                continue;
            }
            work.push(Extend {
                run,
                tokens: f.tokens[start..stop].to_vec(),
                active: f.active.iter().map(|a| a[start..stop].to_vec()).collect(),
                donor_positions: Vec::new(),
                reads: (0..outputs).map(|o| (start..stop).filter(|p| reads(run, o, *p)).collect()).collect(),
            });
        }
        let step = engine.extend(&work)?;
        out.values.extend(step.values.into_iter().map(|v| ((v.run, v.output, v.position), v.data)));
        out.receipts.extend(step.receipts);
        out.rows += step.rows;
        start = end;
    }
    out.receipts.sort_by_key(|r| (r.run, r.edit, r.position));
    Ok(out)
}

/// Everything read.
pub fn all(_: usize, _: usize, _: usize) -> bool {
    true
}

/// No tensors.
pub struct NoTensors;

impl TensorSource for NoTensors {
    fn read(&self, tensor: &steer_compiler::plan::Tensor) -> Result<Arc<[f32]>, Error> {
        panic!("nothing has the tensor {}", tensor.name)
    }
}

pub fn no_tensors() -> Arc<dyn TensorSource> {
    Arc::new(NoTensors)
}
