//! The texts that a client has open, and files beside them.

use super::lines::{Encoding, Lines};
use super::uri::{own, path_of};
use crate::files;
use lsp_types::{TextDocumentContentChangeEvent, Uri};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use steer_lang::ast::ItemKind;
use steer_lang::{FileId, Source, parse};

/// An open text.
#[derive(Clone, Debug)]
pub struct Document {
    pub uri: Uri,
    /// `None` where it stands in no file yet.
    pub path: Option<PathBuf>,
    pub version: i32,
    pub text: Arc<str>,
}

/// Texts by the paths of their files, as they are in the editor.
pub type Unsaved = Arc<BTreeMap<PathBuf, Arc<str>>>;

/// All that are open.
#[derive(Default)]
pub struct Documents {
    open: HashMap<String, Document>,
}

impl Document {
    /// Where its paths begin.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref()?.parent()
    }

    /// What diagnostics call it.
    pub fn name(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(|| PathBuf::from("untitled.steer"))
    }
}

impl Documents {
    pub fn open(&mut self, uri: Uri, version: i32, text: String) {
        let path = path_of(&uri);
        self.open.insert(uri.as_str().to_owned(), Document { uri, path, version, text: text.into() });
    }

    pub fn close(&mut self, uri: &Uri) {
        self.open.remove(uri.as_str());
    }

    pub fn get(&self, uri: &Uri) -> Option<&Document> {
        self.open.get(uri.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Document> {
        self.open.values()
    }

    /// Applies what has changed, in order.
    pub fn change(
        &mut self,
        uri: &Uri,
        version: i32,
        changes: Vec<TextDocumentContentChangeEvent>,
        encoding: Encoding,
    ) {
        let Some(document) = self.open.get_mut(uri.as_str()) else { return };
        let mut text = document.text.to_string();
        for change in changes {
            match change.range {
                Some(range) => {
                    let bytes = Lines::new(&text, encoding).bytes(range);
                    text.replace_range(bytes, &change.text);
                }
                None => text = change.text,
            }
        }
        document.text = text.into();
        document.version = version;
    }

    /// The texts of all files that are open.
    pub fn unsaved(&self) -> Unsaved {
        let texts = self.open.values().filter_map(|d| Some((own(d.path.as_deref()?), Arc::clone(&d.text))));
        Arc::new(texts.collect())
    }
}

/// The files that a text imports, and they import, each once; as they are in the editor.
pub fn imports(path: Option<&Path>, text: &str, unsaved: &BTreeMap<PathBuf, Arc<str>>) -> Vec<Source> {
    const MOST: usize = 64;
    let mut out = Vec::new();
    let Some(path) = path else { return out };
    let mut seen = vec![own(path)];
    let mut open = imported(path, text);
    while let Some(next) = open.pop() {
        let key = own(&next);
        if seen.contains(&key) || out.len() >= MOST {
            continue;
        }
        let found = unsaved.get(&key).cloned().or_else(|| Some(files::read_text(&next).ok()?.into()));
        seen.push(key);
        let Some(found) = found else { continue };
        open.extend(imported(&next, &found));
        out.push(Source { name: next.display().to_string(), text: found });
    }
    out
}

fn imported(path: &Path, text: &str) -> Vec<PathBuf> {
    // Most texts import nothing.
    if !text.contains("import") {
        return Vec::new();
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let items = parse(FileId(0), text).0.items;
    items
        .iter()
        .rev()
        .filter_map(|i| if let ItemKind::Import(t) = &i.kind { Some(folder.join(&t.value)) } else { None })
        .collect()
}
