//! Scripts on checkpoints without a tokenizer: a prompt is a list of words `t<token>`.

use crate::run::{Compiled, Feed};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use steer::engine::TensorSource;
use steer::error::Error;
use steer::experiment::{ModelSession, PhaseOptions, Prepared, Session, prepare};
use steer::tensors::{SAE_CONFIG, SAE_WEIGHTS, read_dictionary};
use steer_compiler::elaborate::{
    Chat, Dictionary, Encoded, Host, Model, OutputSpec, RunSpec, Script, Sequence, StatementKind, TensorFrom, Written,
    check,
};
use steer_compiler::plan::Tensor;
use steer_lang::{Diagnostic, Diagnostics, FileId, Severity, Sources};

/// The text that stands for tokens.
pub fn words(tokens: &[u32]) -> String {
    tokens.iter().map(|t| format!("t{t}")).collect::<Vec<_>>().join(" ")
}

/// Files of one folder, and words for tokens.
struct Words<'a> {
    folder: &'a Path,
}

impl Host for Words<'_> {
    fn text(&self, path: &str, _: FileId) -> Result<String, String> {
        std::fs::read_to_string(self.folder.join(path)).map_err(|e| e.to_string())
    }

    fn tensor_shape(&self, path: &str, key: Option<&str>, _: FileId) -> Result<Vec<usize>, Box<Diagnostic>> {
        steer::tensors::load(&self.folder.join(path), key).map(|a| a.shape).map_err(|e| e.0)
    }

    fn dictionary(&self, folder: &str, _: FileId) -> Result<Dictionary, Box<Diagnostic>> {
        let file = format!("{folder}/{SAE_WEIGHTS}");
        let config = self.folder.join(folder).join(SAE_CONFIG);
        let read = read_dictionary(&config, &self.folder.join(&file)).map_err(|e| e.0)?;
        Ok(Dictionary { file, ..read })
    }

    fn encode(&self, text: &str) -> Option<Result<Encoded, String>> {
        let mut out = Encoded::default();
        let mut at = 0;
        for word in text.split(' ') {
            let Some(token) = word.strip_prefix('t').and_then(|n| n.parse().ok()) else {
                return Some(Err(format!("{word:?} is no token")));
            };
            out.tokens.push(token);
            out.ranges.push((at, at + word.len()));
            at += word.len() + 1;
        }
        Some(Ok(out))
    }

    fn piece(&self, token: u32) -> String {
        format!("t{token}")
    }

    fn chat(&self, _: &Chat) -> Option<Result<Written, Box<Diagnostic>>> {
        None
    }

    fn single_token(&self, text: &str) -> Option<Result<u32, Vec<String>>> {
        Some(text.strip_prefix('t').and_then(|n| n.parse().ok()).ok_or_else(|| vec![text.to_owned()]))
    }
}

/// Checks a script text against a model. `folder` is where its files are.
pub fn session(model: &ModelSession, folder: &Path, text: &str) -> Result<Session, Diagnostics> {
    let mut sources = Sources::default();
    let id = sources.add("script.steer", text);
    let (tree, diagnostics) = steer_lang::parse(id, text);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let known = &model.model;
    let mut library = known.library.clone();
    library.add_script(&tree.items)?;
    let (config, arch) = (known.config.clone(), Rc::clone(&known.arch));
    let own = Model { library, config, arch, arch_name: known.arch_name.clone(), stored: known.stored.clone() };
    let (script, warnings) = check(&tree.items, Rc::new(own), &Words { folder }, &sources, &[]);
    if warnings.iter().any(|d| d.severity == Severity::Error) {
        return Err(warnings);
    }
    let Some(script) = script else { return Err(warnings) };
    Ok(Session {
        script,
        checkpoint: Arc::clone(&model.checkpoint),
        tokens: None,
        folder: folder.to_path_buf(),
        folders: Vec::new(),
        arch_file: String::new(),
        inputs: Vec::new(),
        model_name: model.checkpoint.folder().display().to_string(),
        text: text.to_owned(),
        file: id,
        warnings,
        read: Vec::new(),
        keys: Default::default(),
    })
}

/// The runs of all `generate` statements.
pub fn generated(script: &Script) -> Vec<RunSpec> {
    let of = |s: &StatementKind| match s {
        StatementKind::Generate { runs, .. } => runs.clone(),
        _ => Vec::new(),
    };
    script.statements.iter().flat_map(|s| of(&s.kind)).collect()
}

/// A phase with these sites as outputs.
pub fn phase(
    session: &Session,
    runs: &[RunSpec],
    sites: &[&str],
    options: &PhaseOptions,
) -> Result<Prepared, Diagnostics> {
    let site = |name: &&str| OutputSpec::Site { name: (*name).to_owned(), before: false };
    let outputs: Vec<OutputSpec> = sites.iter().map(site).collect();
    prepare((&session.script, &session.checkpoint), runs, &outputs, options)
}

pub fn compiled(prepared: &Prepared) -> Compiled {
    Compiled { plan: Arc::clone(&prepared.plan), program: Arc::clone(&prepared.program) }
}

/// All runs of a phase as sequences, donors included; `later` are the tokens that follow the prompt of a
/// run that was asked for.
pub fn feeds(prepared: &Prepared, later: &dyn Fn(usize) -> Vec<u32>) -> Vec<Feed> {
    let mut out = Vec::new();
    for (i, run) in prepared.runs.iter().enumerate() {
        let e = &run.encoded;
        let mut tokens = e.tokens.clone();
        let mut text = run.text.to_string();
        let mut ranges = e.ranges.clone();
        for t in later(i) {
            tokens.push(t);
            let from = text.len() + 1;
            text.push_str(&format!(" t{t}"));
            ranges.push((from, text.len()));
        }
        let (prompt, turns) = (e.tokens.len(), e.turns.as_deref());
        let active = prepared.places[i].iter().map(|p| {
            // As they are found: those of the prompt, then each new row when it is there.
            let until = |len: usize| {
                let (text, ranges) = (&text[..ranges[len - 1].1], &ranges[..len]);
                p.on.rows(&Sequence { prompt, len, bos: e.bos, text, ranges, turns, fields: None })
            };
            let mut rows = until(prompt);
            for len in prompt + 1..=tokens.len() {
                rows.push(until(len)[len - 1]);
            }
            assert_eq!(rows, until(tokens.len()), "{:?} of {text:?}", p.on);
            rows
        });
        let active = active.collect();
        out.push(Feed { run: prepared.engine_runs[i].clone(), tokens, active });
    }
    out
}

/// The loaded tensors of a script.
pub struct Loaded(BTreeMap<String, Arc<[f32]>>);

impl TensorSource for Loaded {
    fn read(&self, tensor: &Tensor) -> Result<Arc<[f32]>, Error> {
        Ok(Arc::clone(&self.0[&tensor.name]))
    }
}

pub fn loaded(session: &Session) -> Arc<dyn TensorSource> {
    let mut out = BTreeMap::new();
    for spec in &session.script.tensors {
        if let TensorFrom::File { path, key, .. } = &spec.source {
            let array =
                steer::tensors::load(&session.folder.join(path), key.as_deref()).unwrap_or_else(|e| panic!("{e}"));
            out.insert(spec.name.clone(), array.data.into());
        }
    }
    Arc::new(Loaded(out))
}

/// A folder of this test process, empty at first and gone with the value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("steer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
