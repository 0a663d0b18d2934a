//! Checks texts on a thread of its own, so that no request waits for a model.

use super::Outbox;
use super::diagnose::Places;
use super::documents::{Document, Unsaved, imports};
use super::lines::Encoding;
use super::shelf::Shelf;
use super::uri::own;
use crate::assist::{Functions, Known, ModelFacts, unknown_names};
use crate::checkpoint::find_model;
use crate::experiment::{ModelSession, Session, SessionOptions};
use crate::files::{Stamp, stamp};
use lsp_server::{Message, Notification};
use lsp_types::PublishDiagnosticsParams;
use lsp_types::notification::{Notification as _, PublishDiagnostics};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use steer_lang::ast::{Item, ItemKind};
use steer_lang::{Diagnostics, FileId, Sources, codes, parse};

/// A text to check.
pub struct Job {
    pub document: Document,
    /// What is open, which counts before what is on disk.
    pub unsaved: Unsaved,
}

/// What checks have found, for requests to use.
#[derive(Default)]
pub struct Found {
    by_uri: Mutex<HashMap<String, Of>>,
}

#[derive(Clone, Default)]
struct Of {
    /// The newest version that a check was asked for.
    wanted: i32,
    model: Option<Arc<ModelFacts>>,
    imports: Vec<PathBuf>,
}

impl Found {
    fn with<T>(&self, uri: &str, f: impl FnOnce(&mut Of) -> T) -> T {
        f(self.by_uri.lock().unwrap_or_else(PoisonError::into_inner).entry(uri.to_owned()).or_default())
    }

    pub fn want(&self, uri: &str, version: i32) {
        self.with(uri, |of| of.wanted = version);
    }

    pub fn model(&self, uri: &str) -> Option<Arc<ModelFacts>> {
        self.with(uri, |of| of.model.clone())
    }

    /// The texts that import a file.
    pub fn importing(&self, path: &Path) -> Vec<String> {
        let all = self.by_uri.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, of)| of.imports.iter().any(|p| p == path)).map(|(uri, _)| uri.clone()).collect()
    }

    pub fn forget(&self, uri: &str) {
        self.by_uri.lock().unwrap_or_else(PoisonError::into_inner).remove(uri);
    }
}

/// What the thread works with.
pub struct Checker {
    pub options: SessionOptions,
    pub encoding: Encoding,
    pub found: Arc<Found>,
    pub shelf: Arc<Shelf>,
    pub out: Arc<Outbox>,
    /// Models by name and folder, with the state of their files.
    pub models: HashMap<(String, PathBuf), (Stamp, Arc<ModelFacts>)>,
}

/// How long nothing may come before a check begins.
const QUIET: Duration = Duration::from_millis(30);

impl Checker {
    /// Checks what comes until nobody can send any more; of several versions of a text the last alone.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        // Read while the client still opens its first text.
        Functions::standard();
        while let Ok(first) = jobs.recv() {
            let mut waiting = vec![first];
            loop {
                match jobs.recv_timeout(QUIET) {
                    Ok(job) => {
                        waiting.retain(|w| w.document.uri != job.document.uri);
                        waiting.push(job);
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            for job in waiting {
                self.publish(&job);
            }
        }
    }

    fn publish(&mut self, job: &Job) {
        let (document, uri) = (&job.document, job.document.uri.as_str());
        if self.found.with(uri, |of| of.wanted > document.version) {
            return;
        }
        // A bug is reported on standard error by the hook for panics; the other texts are still checked.
        let checked = catch_unwind(AssertUnwindSafe(|| self.check(job))).unwrap_or_default();
        let stale = self.found.with(uri, |of| {
            of.imports = checked.imports;
            // One that only a script without mistakes declares stays known while there are some.
            let before = of.model.take().filter(|m| checked.named.as_deref() == Some(&m.name));
            of.model = checked.model.or(before);
            of.wanted > document.version
        });
        if stale {
            return;
        }
        let params = PublishDiagnosticsParams {
            uri: document.uri.clone(),
            diagnostics: checked.diagnostics,
            version: Some(document.version),
        };
        self.out.send(Message::Notification(Notification::new(PublishDiagnostics::METHOD.into(), params)));
    }

    fn check(&mut self, job: &Job) -> Checked {
        let document = &job.document;
        let (tree, mut diagnostics) = parse(FileId(0), &document.text);
        let imported = imports(document.path.as_deref(), &document.text, &job.unsaved);
        let mut sources = Sources::default();
        let mut file = Some(sources.add(document.name().display().to_string(), Arc::clone(&document.text)));
        let mut model = None;
        let named = self.named(&tree.items, &imported);
        if let Some(name) = &named {
            let path = document.name();
            if diagnostics.is_empty() {
                sources = Sources::default();
                let options = SessionOptions { unsaved: Arc::clone(&job.unsaved), keep: true, ..self.options.clone() };
                let session = Session::open_text(&path, document.text.to_string(), &options, &mut sources);
                file = number_of(&sources, &path.display().to_string());
                diagnostics = match session {
                    Ok(session) => {
                        model = Some(Arc::new(ModelFacts::of_session(&session)));
                        session.warnings
                    }
                    Err(found) => found,
                };
            }
            // A script with mistakes still has a model, whose sites are to be completed.
            model = model.or_else(|| self.facts(name, document.folder()));
        } else if diagnostics.is_empty() {
            let known = Known { model: None, folder: document.folder(), imports: &imported };
            diagnostics = unknown_names(&document.text, &known);
            for s in &imported {
                sources.add(s.name.clone(), Arc::clone(&s.text));
            }
        }
        if self.options.hub.offline.as_deref() == Some(super::OFFLINE) {
            for d in diagnostics.iter_mut().filter(|d| d.code == codes::HUB) {
                d.help = Some("`steer check` downloads what a check needs; an editor downloads nothing".into());
            }
        }
        let path = document.name();
        let places = Places {
            uri: &document.uri,
            path: &path,
            text: &document.text,
            file,
            sources: &sources,
            tree: &tree,
            encoding: self.encoding,
            shelf: &self.shelf,
        };
        Checked {
            diagnostics: diagnostics.iter().map(|d| places.diagnostic(d)).collect(),
            model,
            named,
            imports: imported.iter().map(|s| own(Path::new(&s.name))).collect(),
        }
    }

    /// What the script calls its model.
    fn named(&self, items: &[Item], imported: &[steer_lang::Source]) -> Option<String> {
        let of = |items: &[Item]| {
            items.iter().find_map(|i| if let ItemKind::Model(t, _) = &i.kind { Some(t.value.clone()) } else { None })
        };
        let given = self.options.model.clone();
        given.or_else(|| of(items)).or_else(|| imported.iter().find_map(|s| of(&parse(FileId(0), &s.text).0.items)))
    }

    /// What there is of a model by itself, read again when its files change.
    fn facts(&mut self, name: &str, folder: Option<&Path>) -> Option<Arc<ModelFacts>> {
        let found = find_model(name, folder, &self.options.hub).ok()?;
        let key = (name.to_owned(), found.path.clone());
        let stamp = stamp(&found.path);
        if let Some((_, facts)) = self.models.get(&key).filter(|(before, _)| *before == stamp) {
            return Some(Arc::clone(facts));
        }
        let path = found.path.to_str()?;
        let mut sources = Sources::default();
        let opened: Result<_, Diagnostics> =
            ModelSession::open(path, &self.options.arch, &self.options.hub, &mut sources);
        let facts = Arc::new(opened.and_then(|s| ModelFacts::of_model(name, &s)).ok()?);
        self.models.insert(key, (stamp, Arc::clone(&facts)));
        Some(facts)
    }
}

#[derive(Default)]
struct Checked {
    diagnostics: Vec<lsp_types::Diagnostic>,
    model: Option<Arc<ModelFacts>>,
    /// What the script calls its model.
    named: Option<String>,
    imports: Vec<PathBuf>,
}

/// The number of a source by its name, the last one.
fn number_of(sources: &Sources, name: &str) -> Option<FileId> {
    sources.files().iter().rposition(|s| s.name == name).map(|n| FileId(n as u16))
}
