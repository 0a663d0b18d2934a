//! A script with its model, found, opened and checked.

use crate::checkpoint::{Checkpoint, find_model, sha256};
use crate::error::Error;
use crate::files;
use crate::tokens::Tokens;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use steer_compiler::elaborate::{Chat, Encoded, Host, Library, Model, Script, Written, check};
use steer_lang::ast::{File, Item, ItemKind, Text};
use steer_lang::{Diagnostic, Diagnostics, FileId, Severity, Sources, codes};

/// What the command line says of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    pub model: Option<String>,
    pub arch: Vec<PathBuf>,
    /// `name=value` for parameters of the script.
    pub set: Vec<(String, String)>,
}

/// A model with its files, and a script checked against it.
pub struct Session {
    pub script: Script,
    pub checkpoint: Arc<Checkpoint>,
    pub tokens: Option<Rc<Tokens>>,
    /// The folder that relative paths of the script begin at.
    pub folder: PathBuf,
    pub model_name: String,
    /// The script's own text.
    pub text: String,
    /// Which source that is.
    pub file: FileId,
    pub warnings: Diagnostics,
    /// By hash: all texts of scripts and model files, and the data that the script names.
    pub read: Vec<String>,
}

/// A model without a script.
pub struct ModelSession {
    pub model: Rc<Model>,
    pub checkpoint: Arc<Checkpoint>,
}

/// Imports may nest this deep.
const IMPORTS: usize = 32;

impl Session {
    /// Reads and checks a script. Every diagnostic points into `sources`.
    pub fn open(path: &Path, options: &SessionOptions, sources: &mut Sources) -> Result<Self, Diagnostics> {
        let text = files::read_text(path).map_err(one)?;
        Self::open_text(path, text, options, sources)
    }

    /// Checks a script that stands in no file yet; it is called `path`, where relative paths begin.
    pub fn open_text(
        path: &Path,
        text: String,
        options: &SessionOptions,
        sources: &mut Sources,
    ) -> Result<Self, Diagnostics> {
        let mut library = Library::standard(sources)?;
        let folder = folder_of(path);
        let mut items = Vec::new();
        let file = read_items(path, &text, sources, &mut items, &mut Vec::new())?;
        for file in &options.arch {
            library.add(&parse_file(file, sources)?, true)?;
        }
        library.add_script(&items)?;
        let named = named_model(&items, file)?;
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
        let place = |d: Error| match (&options.model, &named) {
            (None, Some(t)) if d.0.labels.is_empty() => vec![d.0.at(t.span, "named here")],
            _ => vec![*d.0],
        };
        let found = find_model(&model_name, from_script).map_err(place)?;
        let checkpoint = Arc::new(Checkpoint::open(&found).map_err(place)?);
        let model = open_model(library, &checkpoint, &[&folder, &found], sources)?;
        let tokens = Tokens::open(&found).map_err(one)?.map(Rc::new);
        let files = Files { folder: folder.clone(), tokens: tokens.clone(), read: RefCell::default() };
        let overrides: Vec<(String, String)> = options.set.clone();
        let (script, mut diagnostics) = check(&items, model, &files, sources, &overrides);
        let Some(script) = script else { return Err(diagnostics) };
        if let Some(t) = &tokens
            && let Some(vocab) = vocab(&script)
            && let Err(e) = t.check_fits(vocab)
        {
            diagnostics.push(*e.0);
        }
        diagnostics.extend(super::targets::check(&script.statements));
        if checkpoint.has_weights() {
            diagnostics.extend(checkpoint.validate(&script.plan.weights));
        }
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return Err(diagnostics);
        }
        let texts = sources.files().iter().map(|s| sha256(s.text.as_bytes()));
        let read = texts.chain(files.read.into_inner()).collect();
        Ok(Session { script, checkpoint, tokens, folder, model_name, text, file, warnings: diagnostics, read })
    }

    /// A path of the script.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl ModelSession {
    /// Opens a model by the name or folder of the command line.
    pub fn open(name: &str, arch: &[PathBuf], sources: &mut Sources) -> Result<Self, Diagnostics> {
        let mut library = Library::standard(sources)?;
        for file in arch {
            library.add(&parse_file(file, sources)?, true)?;
        }
        let found = find_model(name, None).map_err(one)?;
        let checkpoint = Arc::new(Checkpoint::open(&found).map_err(one)?);
        let model = open_model(library, &checkpoint, &[&found], sources)?;
        Ok(ModelSession { model, checkpoint })
    }
}

pub fn one(e: Error) -> Diagnostics {
    vec![*e.0]
}

/// The model that a script names: once, and its imports the same.
fn named_model(items: &[Item], script: FileId) -> Result<Option<Text>, Diagnostics> {
    let mut named: Vec<&Text> =
        items.iter().filter_map(|i| if let ItemKind::Model(t) = &i.kind { Some(t) } else { None }).collect();
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

fn parse_file(path: &Path, sources: &mut Sources) -> Result<File, Diagnostics> {
    let text = files::read_text(path).map_err(one)?;
    let id = sources.add(path.display().to_string(), text.as_str());
    let (tree, diagnostics) = steer_lang::parse(id, &text);
    if diagnostics.is_empty() { Ok(tree) } else { Err(diagnostics) }
}

/// The items of a script, those of its imports first, each file once; which source the script is.
fn read_items(
    path: &Path,
    text: &str,
    sources: &mut Sources,
    items: &mut Vec<Item>,
    seen: &mut Vec<PathBuf>,
) -> Result<FileId, Diagnostics> {
    let id = sources.add(path.display().to_string(), text);
    let (tree, diagnostics) = steer_lang::parse(id, text);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    seen.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
    for item in tree.items {
        let ItemKind::Import(name) = &item.kind else {
            items.push(item);
            continue;
        };
        let target = folder_of(path).join(&name.value);
        let own = target.canonicalize().unwrap_or_else(|_| target.clone());
        if seen.contains(&own) {
            continue;
        }
        if seen.len() > IMPORTS {
            return Err(vec![
                Diagnostic::error(codes::FILE, "too many files import one another").at(name.span, "here"),
            ]);
        }
        let inner = files::read_text(&target)
            .map_err(|e| vec![e.0.at(name.span, "imported here").help("paths are relative to the script")])?;
        read_items(&target, &inner, sources, items, seen)?;
    }
    Ok(id)
}

/// The architecture of a checkpoint; a model file beside the script or the weights is found by itself.
fn open_model(
    mut library: Library,
    checkpoint: &Checkpoint,
    folders: &[&Path],
    sources: &mut Sources,
) -> Result<Rc<Model>, Diagnostics> {
    let wanted = checkpoint.config().architectures().first().map(|a| (*a).to_owned());
    if let Some(name) = wanted
        && !library.archs.contains_key(&name)
        && let Some(tree) = folders.iter().find_map(|f| declares(f, &name, sources))
    {
        library.add(&tree, true)?;
    }
    let model = Model::new(library, checkpoint.config().value.clone()).map(|mut m| {
        m.stored = checkpoint.names().map(str::to_owned).collect();
        Rc::new(m)
    });
    model.map_err(|mut d| {
        d.message = format!("{} ({})", d.message, checkpoint.config().path.display());
        vec![*d]
    })
}

/// The first `.steer` file of a folder that declares an architecture.
fn declares(folder: &Path, arch: &str, sources: &mut Sources) -> Option<File> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "steer")) {
        let text = files::read_text(path).ok()?;
        if !text.contains(&format!("\"{arch}\"")) {
            continue;
        }
        if let Ok(mut tree) = parse_file(path, sources) {
            let here = tree
                .items
                .iter()
                .any(|i| matches!(&i.kind, ItemKind::Arch(a) if a.names.iter().any(|n| n.value == arch)));
            if here {
                tree.items.retain(|i| matches!(i.kind, ItemKind::Arch(_) | ItemKind::Fn(_)));
                return Some(tree);
            }
        }
    }
    None
}

/// The script's folder and the model's tokenizer, as the compiler asks of them.
struct Files {
    folder: PathBuf,
    tokens: Option<Rc<Tokens>>,
    /// The data that was read, by hash.
    read: RefCell<Vec<String>>,
}

impl Host for Files {
    fn text(&self, path: &str) -> Result<String, String> {
        let text = files::read_text(&self.folder.join(path)).map_err(|e| e.0.message.clone())?;
        self.read.borrow_mut().push(sha256(text.as_bytes()));
        Ok(text)
    }

    fn tensor_shape(&self, path: &str, key: Option<&str>) -> Result<Vec<usize>, Box<Diagnostic>> {
        crate::tensors::load(&self.folder.join(path), key).map(|a| a.shape).map_err(|e| e.0)
    }

    fn encode(&self, text: &str) -> Option<Result<Encoded, String>> {
        let tokens = self.tokens.as_ref()?;
        Some(tokens.encode(text, true).map_err(|e| e.0.message.clone()).map(|e| Encoded {
            bos: e.special.iter().take_while(|s| **s).count(),
            tokens: e.ids,
            ranges: e.offsets.into_iter().map(|r| (r.start, r.end)).collect(),
            turns: None,
        }))
    }

    fn chat(&self, chat: &Chat) -> Option<Result<Written, Box<Diagnostic>>> {
        Some(self.tokens.as_ref()?.chat(chat).map_err(|e| e.0))
    }

    fn piece(&self, token: u32) -> String {
        self.tokens.as_ref().map_or_else(|| token.to_string(), |t| t.piece(token))
    }

    fn single_token(&self, text: &str) -> Option<Result<u32, Vec<String>>> {
        let tokens = self.tokens.as_ref()?;
        Some(tokens.single(text).map_err(|seen| seen.0.into_iter().map(|(_, piece)| piece).collect()))
    }
}
