//! steer as a model under measurement: the logits after more tokens, as `steer run` would compute them.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use steer::engine::{Engine, Extend, Run, TensorSource};
use steer::error::Error;
use steer::experiment::{PhaseOptions, Prepared, Session, SessionOptions, prepare};
use steer::rows::RowsEngine;
use steer::tensors::load;
use steer_compiler::backend::row_backend;
use steer_compiler::elaborate::{Encoded, OutputSpec, RunSpec};
use steer_compiler::plan;
use steer_lang::{Diagnostics, Sources};

pub trait Model {
    /// Forgets all tokens.
    fn begin(&mut self);

    /// Appends tokens; the logits of the last one.
    fn extend(&mut self, tokens: &[u32]) -> Vec<f32>;
}

/// A model with some hooks of a script.
pub struct Steer {
    engine: RowsEngine,
    runs: Vec<Run>,
    chunk: usize,
    len: usize,
}

impl Steer {
    /// The model of a folder, described by `arch` where the standard library does not, with these hooks of a script of
    /// this folder.
    pub fn open(folder: &Path, script: &str, arch: Option<&str>, hooks: &[&str]) -> Result<Self, String> {
        let mut sources = Sources::default();
        let told = |d: Diagnostics| d.iter().map(|d| format!("{}\n", d.message)).collect::<String>();
        Steer::open_in(folder, script, arch, hooks, &mut sources).map_err(told)
    }

    fn open_in(
        folder: &Path,
        name: &str,
        arch: Option<&str>,
        hooks: &[&str],
        sources: &mut Sources,
    ) -> Result<Self, Diagnostics> {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let script = folder.join(name);
        let text = std::fs::read_to_string(here.join(name)).unwrap_or_default();
        steer::files::write_atomic(&script, |out| out.write_all(text.as_bytes())).map_err(|e| vec![*e.0])?;
        let options = SessionOptions {
            model: Some(folder.display().to_string()),
            arch: arch.map(|a| here.join(a)).into_iter().collect(),
            set: Vec::new(),
            ..SessionOptions::default()
        };
        let session = Session::open(&script, &options, sources)?;
        let uses = hooks.iter().filter_map(|hook| {
            let (edit, _) = session.script.named.get(*hook)?;
            let args = session.script.edits[*edit].params.iter().filter_map(|p| p.default).collect();
            session.script.use_of(hook, args)
        });
        let run = RunSpec {
            label: "run".into(),
            text: "".into(),
            encoded: Rc::new(Encoded::default()),
            record: None,
            uses: uses.collect(),
            span: Default::default(),
        };
        let logits = OutputSpec::Site { name: "logits".into(), before: false };
        let options = PhaseOptions::default();
        let Prepared { plan, program, engine_runs, .. } =
            prepare((&session.script, &session.checkpoint), &[run], &[logits], &options)?;
        let backend = row_backend(&options.backend).expect("the default is a row backend");
        let engine = RowsEngine::new(plan, program, backend, session.checkpoint.clone(), &Files(folder.to_path_buf()))
            .map_err(|e| vec![*e.0])?;
        Ok(Steer { engine, runs: engine_runs, chunk: options.chunk, len: 0 })
    }
}

impl Model for Steer {
    fn begin(&mut self) {
        self.engine.begin(self.runs.clone()).expect("steer begins");
        self.len = 0;
    }

    fn extend(&mut self, tokens: &[u32]) -> Vec<f32> {
        let mut logits = Vec::new();
        for (i, part) in tokens.chunks(self.chunk).enumerate() {
            let last = i + 1 == tokens.len().div_ceil(self.chunk);
            let work = Extend {
                run: 0,
                tokens: part.to_vec(),
                active: vec![vec![true; part.len()]; self.runs[0].edits.len()],
                donor_positions: Vec::new(),
                reads: vec![if last { vec![self.len + part.len() - 1] } else { Vec::new() }],
            };
            let result = self.engine.extend(&[work]).expect("steer runs its model");
            self.len += part.len();
            logits = result.values.first().map(|v| v.data.to_vec()).unwrap_or_default();
        }
        logits
    }
}

/// Tensors of the script, by the name of their file.
struct Files(PathBuf);

impl TensorSource for Files {
    fn read(&self, tensor: &plan::Tensor) -> Result<Arc<[f32]>, Error> {
        Ok(load(&self.0.join(format!("{}.npy", tensor.name)), None)?.data.into())
    }
}
