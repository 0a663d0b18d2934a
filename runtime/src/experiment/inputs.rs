//! Files that a session reads, and files that may not be written because of them.

use crate::checkpoint::sha256;
use crate::error::Error;
use crate::files;
use serde::Serialize;
use std::path::{Path, PathBuf};
use steer_compiler::elaborate::StatementKind;
use steer_lang::{Diagnostic, Diagnostics, Span, codes};

/// What a file is to a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    Script,
    Import,
    /// An architecture that is not built in.
    ModelFile,
    Data,
    Tensors,
}

impl InputKind {
    /// How a sentence calls it.
    fn name(self) -> &'static str {
        match self {
            InputKind::Script => "the script itself",
            InputKind::Import => "a file that the script imports",
            InputKind::ModelFile => "the model file",
            InputKind::Data => "a data set of the script",
            InputKind::Tensors => "a file that the script loads",
        }
    }
}

/// A file that a session has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub kind: InputKind,
    pub path: PathBuf,
}

impl Input {
    /// Of its bytes as they are now.
    pub fn sha256(&self) -> Result<String, Error> {
        Ok(sha256(&files::read(&self.path)?))
    }
}

/// Endings that a model's own files have.
const OF_MODELS: &[&str] = &["safetensors", "json", "jinja", "model", "txt"];

/// Errors where a script would write over what it reads, or twice to the same file. `folder` is where its paths
/// begin, `model` the model's folder.
pub fn clashes<'s>(
    statements: impl Iterator<Item = (&'s StatementKind, Span)>,
    folder: &Path,
    inputs: &[Input],
    model: &Path,
) -> Diagnostics {
    let mut out = Diagnostics::new();
    let mut written: Vec<(PathBuf, Span)> = Vec::new();
    for (kind, span) in statements {
        let Some(to) = target(kind) else { continue };
        let path = folder.join(to);
        if let Err(e) = over_input(&path, inputs, model) {
            out.push(e.0.at(span, "to be written here"));
            continue;
        }
        if files::is_passage(&path) {
            continue;
        }
        let own = canonical(&path);
        match written.iter().find(|(p, _)| *p == own) {
            Some((_, first)) => out.push(
                Diagnostic::error(codes::FILE, format!("`{to}` is written twice"))
                    .at(span, "written again here")
                    .at(*first, "written first here")
                    .help("give one of them another name: the second would replace the first"),
            ),
            None => written.push((own, span)),
        }
    }
    out
}

/// The same for a file that the command line names.
pub fn clash<'s>(
    path: &Path,
    statements: impl Iterator<Item = &'s StatementKind>,
    folder: &Path,
    inputs: &[Input],
    model: &Path,
) -> Result<(), Error> {
    over_input(path, inputs, model)?;
    let own = canonical(path);
    let twice = statements.filter_map(target).any(|to| canonical(&folder.join(to)) == own);
    if twice && !files::is_passage(path) {
        let message = format!("`{}` is written by a statement of the script, too", path.display());
        return Err(Error::new(codes::FILE, message).help("give one of them another name"));
    }
    Ok(())
}

/// The file that a statement writes.
pub fn target(kind: &StatementKind) -> Option<&str> {
    match kind {
        StatementKind::Capture { to, .. } | StatementKind::Save { to, .. } | StatementKind::Report { to } => Some(to),
        StatementKind::SaveTensors(saved) => Some(&saved.to),
        StatementKind::Plot { to, .. } => to.as_deref(),
        _ => None,
    }
}

fn over_input(path: &Path, inputs: &[Input], model: &Path) -> Result<(), Error> {
    let own = canonical(path);
    let refused = |what: &str| {
        let message = format!("`{}` would be written over: it is {what}", path.display());
        Err(Error::new(codes::FILE, message).help("write to a file of another name"))
    };
    if let Some(input) = inputs.iter().find(|i| canonical(&i.path) == own) {
        return refused(input.kind.name());
    }
    if model.is_file() {
        return if own == canonical(model) { refused("the model") } else { Ok(()) };
    }
    let ending = own.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    if own.parent().is_some_and(|p| p == canonical(model)) && OF_MODELS.contains(&&*ending) {
        let message = format!("`{}` would stand in the model's folder, as one of the model's files", path.display());
        return Err(Error::new(codes::FILE, message).help("write to another folder"));
    }
    Ok(())
}

/// A path with its links followed, as far as it exists.
fn canonical(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}
