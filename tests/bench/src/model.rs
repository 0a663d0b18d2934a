//! steer as a model under measurement: the logits after more tokens, as `steer run` would compute them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use steer::checkpoint::Checkpoint;
use steer::engine::{Engine, Extend, Rounding, Run, Spent, WeightSource};
use steer::experiment::{PhaseOptions, Prepared, Session, SessionOptions, prepare, tensors};
use steer::rows::RowsEngine;
use steer_compiler::backend::row_backend;
use steer_compiler::elaborate::{Encoded, OutputSpec, RunSpec};
use steer_kernels::Activations;
use steer_lang::{Diagnostics, Sources};

/// What is measured.
pub trait Model {
    /// Forgets all tokens.
    fn begin(&mut self) -> Result<(), String>;

    /// Appends tokens; the logits of the last one.
    fn extend(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String>;
}

/// A model, and the script that has hooks for it.
#[derive(Clone, Debug)]
pub struct Source {
    /// A folder or a file.
    pub model: PathBuf,
    /// A script of this folder. What it loads lies beside the model.
    pub script: PathBuf,
    /// A model file, where the standard library has none.
    pub arch: Option<PathBuf>,
    /// `name=value` for parameters of the script.
    pub set: Vec<(String, String)>,
    pub rounding: Rounding,
}

impl Source {
    pub fn new(model: &Path, script: &str) -> Self {
        Source {
            model: model.to_path_buf(),
            script: here(script),
            arch: None,
            set: Vec::new(),
            rounding: Rounding::default(),
        }
    }
}

/// `f32`, `bf16` or `q8_0`.
pub fn activations(name: &str) -> Result<Activations, String> {
    Activations::from_name(name).ok_or_else(|| format!("no activations `{name}`"))
}

/// How many layers: at least one.
pub fn layers(count: &str) -> Result<usize, String> {
    count.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("`{count}` is no number of layers"))
}

/// A file of the benchmark.
pub fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A model with some hooks of a script.
pub struct Steer {
    engine: RowsEngine,
    checkpoint: Arc<Checkpoint>,
    runs: Vec<Run>,
    chunk: usize,
    len: usize,
    /// What the last tokens took, where that is measured.
    spent: Vec<Spent>,
}

impl Steer {
    /// A model with these hooks. It shares memory with another one of the same weights.
    pub fn open(source: &Source, hooks: &[&str], beside: Option<&Steer>) -> Result<Self, String> {
        let told = |d: Diagnostics| d.iter().map(|d| format!("{}\n", d.message)).collect::<String>();
        Steer::open_in(source, hooks, beside, &mut Sources::default()).map_err(told)
    }

    fn open_in(
        source: &Source,
        hooks: &[&str],
        beside: Option<&Steer>,
        sources: &mut Sources,
    ) -> Result<Self, Diagnostics> {
        let text = steer::files::read_text(&source.script).map_err(|e| vec![*e.0])?;
        let folder = source.model.parent().unwrap_or(Path::new(""));
        let options = SessionOptions {
            model: Some(source.model.display().to_string()),
            arch: source.arch.iter().cloned().collect(),
            set: source.set.clone(),
            ..SessionOptions::default()
        };
        let session = Session::open_text(&folder.join("bench.steer"), text, &options, sources)?;
        let mut uses = Vec::new();
        for hook in hooks {
            let found = session.script.named.get(*hook).and_then(|(edit, _)| {
                let args = session.script.edits[*edit].params.iter().filter_map(|p| p.default).collect();
                session.script.use_of(hook, args)
            });
            let there = || steer_lang::Diagnostic::error(steer_lang::codes::COMMAND, format!("no hook `{hook}`"));
            uses.push(found.ok_or_else(|| vec![there()])?);
        }
        let run = RunSpec {
            label: "run".into(),
            text: "".into(),
            encoded: Rc::new(Encoded::default()),
            record: None,
            uses,
            span: Default::default(),
        };
        let logits = OutputSpec::Site { name: "logits".into(), before: false };
        let options = PhaseOptions::default();
        let Prepared { plan, program, engine_runs, .. } =
            prepare((&session.script, &session.checkpoint), &[run], &[logits], &options)?;
        let wanted: BTreeSet<String> = plan.tensors.iter().map(|t| t.name.clone()).collect();
        let values = tensors(&session, &wanted, &options)?;
        let backend = row_backend(&options.backend).expect("the default is a row backend");
        let checkpoint = beside.map_or(session.checkpoint, |b| Arc::clone(&b.checkpoint));
        let engine = match beside {
            Some(other) => other.engine.beside(plan, program, backend, &values),
            None => {
                let weights: Arc<dyn WeightSource> = Arc::<Checkpoint>::clone(&checkpoint);
                RowsEngine::new(plan, program, backend, weights, &values)
            }
        };
        let mut engine = engine.map_err(|e| vec![*e.0])?;
        engine.round(source.rounding);
        Ok(Steer { engine, checkpoint, runs: engine_runs, chunk: options.chunk, len: 0, spent: Vec::new() })
    }

    /// Measures from now on where time goes.
    pub fn measure(&mut self) {
        self.engine.measure();
    }

    /// What the last tokens took by kind of work, where that is measured.
    pub fn spent(&self) -> &[Spent] {
        &self.spent
    }
}

impl Model for Steer {
    fn begin(&mut self) -> Result<(), String> {
        self.len = 0;
        self.engine.begin(self.runs.clone()).map_err(|e| e.to_string())
    }

    fn extend(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String> {
        self.spent.clear();
        let mut logits = Vec::new();
        let last = tokens.len().div_ceil(self.chunk);
        for (i, part) in tokens.chunks(self.chunk).enumerate() {
            let work = Extend {
                run: 0,
                tokens: part.to_vec(),
                active: vec![vec![true; part.len()]; self.runs[0].edits.len()],
                donor_positions: Vec::new(),
                reads: vec![if i + 1 == last { vec![self.len + part.len() - 1] } else { Vec::new() }],
            };
            let result = self.engine.extend(&[work]).map_err(|e| e.to_string())?;
            self.len += part.len();
            self.spent.extend(result.spent);
            logits = result.values.first().map(|v| v.data.to_vec()).unwrap_or_default();
        }
        Ok(logits)
    }
}
