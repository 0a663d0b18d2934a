//! A script with its model, found, opened and checked.

use super::host::Files;
use super::inputs::{self, Input, InputKind};
use super::keep::SCRIPT;
use super::keys::{Keys, stamps};
use super::models;
use super::open::{self, Opened};
use super::settings;
use crate::checkpoint::{Checkpoint, find_model, sha256};
use crate::error::Error;
use crate::files;
use crate::hub::{Hub, Id, Need};
use crate::tokens::Tokens;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use steer_compiler::elaborate::{Library, Model, Script, check};
use steer_lang::ast::{File, Item, ItemKind, Text};
use steer_lang::{Diagnostic, Diagnostics, FileId, Severity, Source, Sources, Span, codes};

/// What the command line says of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    pub model: Option<String>,
    pub arch: Vec<PathBuf>,
    /// `name=value` for parameters of the script.
    pub set: Vec<(String, String)>,
    /// Where models of the hub come from.
    pub hub: Hub,
    /// Whether what is opened will read weights, so that those of a model of the hub are needed.
    pub weights: bool,
    /// Texts of imports that are not what their files hold, by the files' own paths.
    pub unsaved: Arc<BTreeMap<PathBuf, Arc<str>>>,
    /// Whether the model stays open for the next session of this thread.
    pub keep: bool,
}

/// A model with its files, and a script checked against it.
pub struct Session {
    pub script: Script,
    pub checkpoint: Arc<Checkpoint>,
    pub tokens: Option<Rc<Tokens>>,
    /// The folder that relative paths of the script begin at.
    pub folder: PathBuf,
    /// The folder of each file that was imported, and of the script.
    pub folders: Vec<(FileId, PathBuf)>,
    pub model_name: String,
    /// The file that declares the model's architecture, as diagnostics call it.
    pub arch_file: String,
    /// The script's own text.
    pub text: String,
    /// Which source that is.
    pub file: FileId,
    pub warnings: Diagnostics,
    /// The files that were read, but for the model's own.
    pub inputs: Vec<Input>,
    /// All texts of scripts and model files, and the data that the script names: what each is, and its hash.
    pub read: Vec<(String, String)>,
    /// What tells whether a definition is the same as in another session.
    pub keys: Keys,
}

/// A text of a script. What a later one declares takes the place of what an earlier one has under its name.
#[derive(Clone, Debug)]
pub struct Part {
    /// As diagnostics call it: a path, or what stands for one.
    pub name: PathBuf,
    pub text: String,
    /// Whether what it imports is there for its definitions alone.
    pub quiet: bool,
}

/// A model without a script.
pub struct ModelSession {
    pub model: Rc<Model>,
    pub checkpoint: Arc<Checkpoint>,
    /// The file that declares its architecture.
    pub arch_file: String,
    pub warnings: Diagnostics,
}

/// Imports may nest this deep.
const IMPORTS: usize = 32;

impl Session {
    /// Reads and checks a script. Every diagnostic points into `sources`.
    pub fn open(path: &Path, options: &SessionOptions, sources: &mut Sources) -> Result<Self, Diagnostics> {
        // A path of the command line begins at the working directory.
        let text = files::read_text(path).map_err(|e| one(if path.exists() { e } else { e.help("check the path") }))?;
        Self::open_text(path, text, options, sources)
    }

    /// Checks a script that stands in no file yet; it is called `path`, where relative paths begin.
    pub fn open_text(
        path: &Path,
        text: String,
        options: &SessionOptions,
        sources: &mut Sources,
    ) -> Result<Self, Diagnostics> {
        Self::open_parts(&folder_of(path), &[Part { name: path.to_path_buf(), text, quiet: false }], options, sources)
    }

    /// Checks a script of several texts; relative paths in those that are no files begin at `folder`.
    pub fn open_parts(
        folder: &Path,
        parts: &[Part],
        options: &SessionOptions,
        sources: &mut Sources,
    ) -> Result<Self, Diagnostics> {
        let before = sources.clone();
        let (session, named) = Self::described(folder, parts, options, sources)?;
        match &named.id {
            // Weights are downloaded for a script that is right, and it is checked against them anew.
            Some(id) if options.weights && !session.checkpoint.has_weights() => {
                options.hub.fetch(id, Need::Weights).map_err(|e| vec![placed(e, named.span)])?;
                *sources = before;
                Ok(Self::described(folder, parts, options, sources)?.0)
            }
            _ => Ok(session),
        }
    }

    /// Checks a script against what is there of its model.
    fn described(
        folder: &Path,
        parts: &[Part],
        options: &SessionOptions,
        sources: &mut Sources,
    ) -> Result<(Self, Named), Diagnostics> {
        let mut library = Library::standard(sources)?;
        let folder = folder.to_path_buf();
        let mut items = Vec::new();
        let standard = sources.files().len();
        let (mut file, mut text) = (FileId(standard as u16), String::new());
        let (mut own, mut seen) = (Vec::new(), Vec::new());
        for part in parts {
            let mut new = Vec::new();
            file = read_items(&folder, part, options, sources, &mut new, &mut seen)?;
            text.clone_from(&part.text);
            own.push(file);
            if part.quiet {
                new.retain(|i| i.span.file == file || !i.is_statement());
            }
            // What is imported cannot be declared again.
            let taken = |i: &Item| own.contains(&i.span.file) && new.iter().any(|n| replaces(n, i));
            items.retain(|i| !taken(i));
            items.append(&mut new);
        }
        let folders: Vec<(FileId, PathBuf)> = (standard..sources.files().len())
            .map(|i| (FileId(i as u16), folder_in_sources(&folder, &sources.files()[i].name)))
            .collect();
        let mut inputs: Vec<Input> = folders
            .iter()
            .filter(|(id, _)| is_file_name(Path::new(&sources.get(*id).name)))
            .map(|(id, _)| Input {
                kind: if own.contains(id) { InputKind::Script } else { InputKind::Import },
                path: PathBuf::from(&sources.get(*id).name),
            })
            .collect();
        // Behind the script stand the files of its model.
        let described_from = sources.files().len();
        let given = models::add(&mut library, &options.arch, sources)?;
        library.add_script(&items)?;
        // Of several texts the one that names the model sets its keys, too.
        let names = |i: &&Item| matches!(i.kind, ItemKind::Model(..)) && own.contains(&i.span.file);
        let of_model = items.iter().find(names).map_or(file, |i| i.span.file);
        let named = named_model(&items, of_model)?;
        let model_name = match (&options.model, &named) {
            (Some(m), _) => m.clone(),
            (None, Some(t)) => t.value.clone(),
            (None, None) => {
                return Err(vec![Diagnostic::error(codes::NO_MODEL, "the script names no model").help(
                    "begin it with `model \"tiny-llama\"` or the path of a Hugging Face folder, or run with --model",
                )]);
            }
        };
        let from_script = options.model.is_none().then_some(folder.as_path());
        let model_span = named.filter(|_| options.model.is_none()).map(|t| t.span);
        let place = |e: Error| vec![placed(e, model_span)];
        let location = find_model(&model_name, from_script, &options.hub).map_err(place)?;
        let found = &location.path;
        let settings = settings::of(&items, of_model)?;
        let Opened { checkpoint, tokens } = open::open(&location, &settings, options.keep, place)?;
        let described = models::describe(library, &checkpoint, &given, &[&folder, checkpoint.folder()], sources)?;
        settings::check(&settings, &described.model)?;
        let of_models = given.iter().map(|g| &g.path).chain(&described.found);
        inputs.extend(of_models.map(|path| Input { kind: InputKind::ModelFile, path: path.clone() }));
        let arch_file = sources.get(described.file).name.clone();
        let (read, named) = (RefCell::default(), RefCell::default());
        let model = found.clone();
        let files = Files { folder: folder.clone(), folders, model, tokens: tokens.clone(), read, named };
        let overrides: Vec<(String, String)> = options.set.clone();
        let (script, mut diagnostics) = check(&items, Rc::clone(&described.model), &files, sources, &overrides);
        diagnostics.splice(0..0, described.warnings);
        let Some(script) = script else { return Err(diagnostics) };
        if let (Some(tokens), Some(vocab)) = (&tokens, vocab(&script)) {
            diagnostics.extend(tokens.misfit(vocab));
        }
        diagnostics.extend(super::targets::check(&script.statements));
        inputs.extend(files.named.take());
        let written = script.statements.iter().map(|s| (&s.kind, s.span));
        diagnostics.extend(inputs::clashes(written, &folder, &inputs, found));
        if checkpoint.has_weights() {
            let wrong = checkpoint.validate(&script.plan.weights);
            diagnostics.extend(if wrong.is_empty() {
                checkpoint
                    .unread_tensors(&script.plan.weights)
                    .into_iter()
                    .chain(checkpoint.unread_metadata())
                    .collect()
            } else {
                wrong
            });
        }
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return Err(diagnostics);
        }
        let data: Vec<(String, String)> = files.read.into_inner();
        let keys = match options.keep {
            true => {
                let of_models = sources.files()[described_from..].iter().map(|s| s.text.to_string());
                let hashes = data.iter().map(|(_, hash)| hash.clone());
                let data: Vec<String> = hashes.chain(stamps(&inputs)).chain(of_models).collect();
                Keys::of(&items, sources, &options.set, &data)
            }
            false => Keys::default(),
        };
        let read = texts_of(sources, (standard, described_from), &own).into_iter().chain(data).collect();
        let (folders, warnings) = (files.folders, diagnostics);
        #[rustfmt::skip]
        let session = Session {
            script, checkpoint, tokens, folder, folders, model_name, arch_file, text, file, warnings, inputs, read, keys,
        };
        Ok((session, Named { id: location.id, span: model_span }))
    }

    /// A path of the script, for what it writes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A path of the script or of a file that it imports, for what it reads.
    pub fn path_in(&self, file: FileId, name: &str) -> PathBuf {
        folder_in(&self.folders, file, &self.folder).join(name)
    }

    /// An error where the command line names a file that must not be written.
    pub fn may_write(&self, path: &Path) -> Result<(), Error> {
        let statements = self.script.statements.iter().map(|s| &s.kind);
        inputs::clash(path, statements, &self.folder, &self.inputs, self.checkpoint.path())?;
        files::check_target(path)
    }
}

impl ModelSession {
    /// Opens a model by the name or folder of the command line.
    pub fn open(name: &str, arch: &[PathBuf], hub: &Hub, sources: &mut Sources) -> Result<Self, Diagnostics> {
        let mut library = Library::standard(sources)?;
        let given = models::add(&mut library, arch, sources)?;
        let location = find_model(name, None, hub).map_err(one)?;
        let checkpoint = Arc::new(location.open().map_err(one)?);
        let described = models::describe(library, &checkpoint, &given, &[checkpoint.folder()], sources)?;
        let arch_file = sources.get(described.file).name.clone();
        Ok(ModelSession { model: described.model, checkpoint, arch_file, warnings: described.warnings })
    }
}

/// What a model is called on the hub, where it is one of the hub's, and where the script names it.
struct Named {
    id: Option<Id>,
    span: Option<Span>,
}

/// An error about the model, at the place that names it.
fn placed(e: Error, named: Option<Span>) -> Diagnostic {
    match named {
        Some(span) if e.0.labels.is_empty() => e.0.at(span, "named here"),
        _ => *e.0,
    }
}

pub fn one(e: Error) -> Diagnostics {
    vec![*e.0]
}

/// The model that a script names: once, and its imports the same.
fn named_model(items: &[Item], script: FileId) -> Result<Option<Text>, Diagnostics> {
    let mut named: Vec<&Text> =
        items.iter().filter_map(|i| if let ItemKind::Model(t, _) = &i.kind { Some(t) } else { None }).collect();
    // The script's own first.
    named.sort_by_key(|t| t.span.file != script);
    let Some(first) = named.first() else { return Ok(None) };
    for t in &named[1..] {
        if t.span.file == first.span.file || t.value != first.value {
            return Err(vec![
                Diagnostic::error(codes::DUPLICATE_NAME, "a script has one model")
                    .at(t.span, format!("{:?} here", t.value))
                    .at(first.span, format!("{:?} here", first.value))
                    .help("name one; the same script runs with another by --model"),
            ]);
        }
    }
    Ok(Some((*first).clone()))
}

/// The texts that a script is made of, by hash: those of the library are before the first bound, those of its model
/// behind the second, and of those between some are its `own`.
fn texts_of(sources: &Sources, (script, model): (usize, usize), own: &[FileId]) -> Vec<(String, String)> {
    let library: String = sources.files()[..script].iter().map(|s| s.text.to_string()).collect();
    let named = |(i, s): (usize, &Source)| {
        let file = Path::new(&s.name).file_name().map_or(s.name.as_str().into(), |n| n.to_string_lossy());
        let name = match i {
            _ if own.contains(&FileId(i as u16)) => SCRIPT.to_string(),
            _ if i < model => format!("the import `{file}`"),
            _ => format!("the model file `{file}`"),
        };
        (name, sha256(s.text.as_bytes()))
    };
    let rest = sources.files().iter().enumerate().skip(script).map(named);
    std::iter::once(("the library".to_string(), sha256(library.as_bytes()))).chain(rest).collect()
}

fn vocab(script: &Script) -> Option<usize> {
    let site = script.plan.sites.iter().find(|s| s.name == "logits")?;
    script.plan.ty(site.value).len()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether an item stands in the place of an earlier one.
fn replaces(new: &Item, old: &Item) -> bool {
    match (new.declares(), old.declares()) {
        (Some(new), Some(old)) => new.name == old.name,
        _ => matches!((&new.kind, &old.kind), (ItemKind::Model(..), ItemKind::Model(..))),
    }
}

/// The folder that relative paths of a source begin at: its own where it is a file.
fn folder_in_sources(folder: &Path, name: &str) -> PathBuf {
    let path = Path::new(name);
    if is_file_name(path) { folder_of(path) } else { folder.to_path_buf() }
}

/// Whether a text was read from a file: others have names in angle brackets.
fn is_file_name(name: &Path) -> bool {
    !name.to_string_lossy().starts_with('<')
}

/// The folder of a file of the script.
pub(super) fn folder_in<'f>(folders: &'f [(FileId, PathBuf)], file: FileId, script: &'f Path) -> &'f Path {
    folders.iter().find(|(f, _)| *f == file).map_or(script, |(_, folder)| folder)
}

pub(super) fn parse_file(path: &Path, sources: &mut Sources) -> Result<File, Diagnostics> {
    let text = files::read_text(path).map_err(one)?;
    let id = sources.add(path.display().to_string(), text.as_str());
    let (tree, diagnostics) = steer_lang::parse(id, &text);
    if diagnostics.is_empty() { Ok(tree) } else { Err(diagnostics) }
}

/// The items of a script, those of its imports first, each file once; which source the script is.
fn read_items(
    folder: &Path,
    part: &Part,
    options: &SessionOptions,
    sources: &mut Sources,
    items: &mut Vec<Item>,
    seen: &mut Vec<PathBuf>,
) -> Result<FileId, Diagnostics> {
    let path = &part.name;
    let id = sources.add(path.display().to_string(), part.text.as_str());
    let (tree, diagnostics) = steer_lang::parse(id, &part.text);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    seen.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
    for item in tree.items {
        let ItemKind::Import(name) = &item.kind else {
            items.push(item);
            continue;
        };
        let target = folder_in_sources(folder, &path.display().to_string()).join(&name.value);
        let own = target.canonicalize().unwrap_or_else(|_| target.clone());
        if seen.contains(&own) {
            continue;
        }
        if seen.len() > IMPORTS {
            return Err(vec![
                Diagnostic::error(codes::FILE, "too many files import one another").at(name.span, "here"),
            ]);
        }
        let inner = options
            .unsaved
            .get(&own)
            .map_or_else(|| files::read_text(&target), |text| Ok(text.to_string()))
            .map_err(|e| if target.exists() { e } else { e.help("paths are relative to the importing file") })
            .map_err(|e| vec![e.0.at(name.span, "imported here")])?;
        read_items(folder, &Part { name: target, text: inner, quiet: part.quiet }, options, sources, items, seen)?;
    }
    Ok(id)
}
