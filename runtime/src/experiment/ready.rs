//! An engine that is made ready when the first rows are handed to it: a phase whose values are all known needs none.

use super::phase::{PhaseOptions, Prepared, TensorValues};
use super::session::Session;
use super::warm::EngineUse;
use crate::engine::{Engine, Extend, Rounding, Run, StepResult, Watcher};
use crate::error::Error;
use crate::reference::Reference;
use crate::rows::RowsEngine;
use std::sync::Arc;
use std::time::Instant;
use steer_compiler::backend::row_backend;

/// See the module.
pub struct Ready<'a> {
    session: &'a Session,
    prepared: &'a Prepared,
    tensors: &'a TensorValues,
    options: &'a PhaseOptions,
    runs: Vec<Run>,
    engine: Option<Box<dyn Engine>>,
    /// What the engine is found by later, where it is kept.
    use_of: Option<EngineUse>,
    /// What reading weights and compiling kernels took.
    pub seconds: f64,
}

impl<'a> Ready<'a> {
    pub fn new(
        session: &'a Session,
        prepared: &'a Prepared,
        tensors: &'a TensorValues,
        options: &'a PhaseOptions,
    ) -> Self {
        let runs = prepared.engine_runs.clone();
        Ready { session, prepared, tensors, options, runs, engine: None, use_of: None, seconds: 0.0 }
    }

    /// Reads the weights and compiles, unless an engine waits that is ready.
    fn make(&mut self) -> Result<Box<dyn Engine>, Error> {
        let (session, prepared, options) = (self.session, self.prepared, self.options);
        if let Some(warm) = &options.warm {
            let of = self.use_of.insert(EngineUse::of(&prepared.plan, &self.tensors.0, options));
            if let Some(engine) = warm.engine(of) {
                return Ok(engine);
            }
        }
        let weights = options.weights(&session.checkpoint);
        let mut engine: Box<dyn Engine> = match row_backend(&options.backend) {
            Some(backend) => {
                let (plan, program) = (Arc::clone(&prepared.plan), Arc::clone(&prepared.program));
                let packed = options.warm.as_ref().map(|w| w.packed()).unwrap_or_default();
                let mut rows = RowsEngine::over(plan, program, backend, weights, self.tensors, &packed)?;
                if let Some(warm) = &options.warm {
                    warm.keep_packed(rows.packed());
                }
                rows.share = options.share;
                Box::new(rows)
            }
            None => Box::new(Reference::new(Arc::clone(&prepared.plan), weights, Arc::new(self.tensors.clone()))?),
        };
        engine.round(options.rounding);
        if options.measure {
            engine.measure();
        }
        Ok(engine)
    }

    /// Makes it ready before any row is there.
    pub fn ready(&mut self) -> Result<(), Error> {
        self.engine().map(|_| ())
    }

    fn engine(&mut self) -> Result<&mut Box<dyn Engine>, Error> {
        let made = match self.engine.take() {
            Some(engine) => engine,
            None => {
                let clock = Instant::now();
                let mut engine = self.make()?;
                engine.begin(std::mem::take(&mut self.runs))?;
                self.seconds += clock.elapsed().as_secs_f64();
                engine
            }
        };
        Ok(self.engine.insert(made))
    }

    /// Lets it wait for the next statement that it can execute.
    pub fn keep(self) {
        if let (Some(warm), Some(engine), Some(of)) = (&self.options.warm, self.engine, self.use_of) {
            warm.keep_engine(of, engine);
        }
    }
}

impl Engine for Ready<'_> {
    fn begin(&mut self, runs: Vec<Run>) -> Result<(), Error> {
        match &mut self.engine {
            Some(engine) => engine.begin(runs),
            None => {
                self.runs = runs;
                Ok(())
            }
        }
    }

    fn extend(&mut self, work: &[Extend]) -> Result<StepResult, Error> {
        self.engine()?.extend(work)
    }

    fn watch(&mut self, watcher: Option<Watcher>) {
        // What goes wrong here goes wrong again where rows are handed over.
        if let Ok(engine) = self.engine() {
            engine.watch(watcher);
        }
    }

    fn round(&mut self, rounding: Rounding) {
        if let Ok(engine) = self.engine() {
            engine.round(rounding);
        }
    }
}
