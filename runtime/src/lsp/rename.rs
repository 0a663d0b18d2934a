//! Another name for what a script declares, in all files that see it.

use super::Server;
use super::documents::Document;
use super::lines::Lines;
use super::requests::{Answer, value};
use super::uri::own;
use lsp_server::ErrorCode;
use lsp_types::{Location, PrepareRenameResponse, TextDocumentPositionParams, TextEdit, Uri, WorkspaceEdit};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use steer_lang::keywords::RESERVED;
use steer_lang::symbols::{Definition, Part, Role, SymbolKind, Symbols};
use steer_lang::{FileId, Span, parse};

/// A script with its imports, as one set of names.
struct Script {
    symbols: Symbols,
    /// By the numbers of their files, the script itself first.
    files: Vec<(Option<PathBuf>, Arc<str>)>,
    /// The number of a file that cannot be read as a whole, so that names in it may be missed.
    broken: Option<usize>,
}

/// Names that the language has in bodies.
const OWN: &[&str] = &["h", "h0", "donor", "layer", "position", "token", "pi", "inf"];

fn refused<T>(message: impl Into<String>) -> Result<T, (ErrorCode, String)> {
    Err((ErrorCode::RequestFailed, message.into()))
}

impl Script {
    fn of(server: &Server, document: &Document) -> Script {
        let mut files = vec![(document.path.clone(), Arc::clone(&document.text))];
        files.extend(server.imports(document).into_iter().map(|s| (Some(PathBuf::from(s.name)), s.text)));
        let (trees, mistakes): (Vec<_>, Vec<_>) =
            files.iter().enumerate().map(|(n, (_, text))| parse(FileId(n as u16), text)).unzip();
        let broken = mistakes.iter().position(|m| !m.is_empty());
        let parts: Vec<Part> = trees
            .iter()
            .zip(&files)
            .enumerate()
            .map(|(n, (tree, (_, text)))| Part { file: FileId(n as u16), tree, text })
            .collect();
        let symbols = Symbols::of(&parts);
        Script { symbols, files, broken }
    }

    fn text(&self, file: FileId) -> &str {
        self.files.get(file.0 as usize).map_or("", |(_, t)| t)
    }

    /// The number of a file by its path.
    fn number(&self, path: &Path) -> Option<FileId> {
        let wanted = own(path);
        let found = self.files.iter().position(|(p, _)| p.as_deref().is_some_and(|p| own(p) == wanted));
        found.map(|n| FileId(n as u16))
    }
}

/// What stands at a place, and why it cannot be renamed where that is so.
fn renamed(server: &Server, place: &TextDocumentPositionParams) -> Result<(Script, usize, Span), (ErrorCode, String)> {
    let Some(document) = server.documents.get(&place.text_document.uri) else {
        return refused("this text is not open");
    };
    let at = Lines::new(&document.text, server.encoding).offset(place.position);
    let script = Script::of(server, document);
    let Some((span, found)) = script.symbols.at(FileId(0), at) else {
        return refused("there is no name here that a script declares");
    };
    let Some(index) = found else {
        let name = &document.text[span.start as usize..span.end as usize];
        return match crate::assist::Functions::standard().get(name) {
            Some(f) if f.place.is_some() => {
                refused(format!("`{name}` is a function of the standard library, which has one name for all scripts"))
            }
            Some(_) => refused(format!("`{name}` is a function of the language")),
            None => refused(format!(
                "`{name}` is declared in no file of the script: it belongs to the model or the language"
            )),
        };
    };
    let d = &script.symbols.definitions[index];
    match d.kind {
        SymbolKind::Site => {
            return refused(format!("`{}` is a site: its name is the same in every architecture", d.name));
        }
        SymbolKind::Family => return refused("the layers of a family are called `layer` in every script"),
        SymbolKind::Axis => return refused(format!("`{}` is an axis, which values bring along by its name", d.name)),
        _ => {}
    }
    Ok((script, index, span))
}

pub fn prepare(server: &Server, place: &TextDocumentPositionParams) -> Answer {
    let (script, index, span) = renamed(server, place)?;
    let placeholder = script.symbols.definitions[index].name.clone();
    value(Some(PrepareRenameResponse::RangeWithPlaceholder {
        range: server.range(script.text(FileId(0)), span),
        placeholder,
    }))
}

// The protocol has addresses as keys; what can change in one is no part of its comparison.
#[allow(clippy::mutable_key_type)]
pub fn rename(server: &Server, place: &TextDocumentPositionParams, name: &str) -> Answer {
    let (script, index, _) = renamed(server, place)?;
    let definition = script.symbols.definitions[index].clone();
    if definition.name == name {
        return value(Some(WorkspaceEdit::default()));
    }
    allowed(name, &definition)?;
    let mut edits: HashMap<PathBuf, Vec<(Span, Arc<str>)>> = HashMap::new();
    let mut own_edits = Vec::new();
    // Scripts that import the file in which it is declared name it, too.
    let of_file = script.files.get(definition.span.file.0 as usize).and_then(|(p, _)| p.clone());
    let others = of_file.as_deref().map(|p| server.found.importing(&own(p))).unwrap_or_default();
    let others = others.iter().filter(|u| *u != place.text_document.uri.as_str());
    let others = others.filter_map(|u| server.documents.get(&u.parse::<Uri>().ok()?)).map(|d| Script::of(server, d));
    for (first, script) in std::iter::once((true, script)).chain(others.map(|s| (false, s))) {
        let found = match first {
            true => Some(index),
            // The same declaration by its place.
            false => of_file.as_deref().and_then(|p| script.number(p)).and_then(|file| {
                script.symbols.definitions.iter().position(|d| d.span == Span { file, ..definition.span })
            }),
        };
        let Some(found) = found else { continue };
        if let Some(n) = script.broken {
            let path = script.files.get(n).and_then(|(p, _)| p.as_deref());
            let name = path.map_or("this text".to_owned(), |p| format!("`{}`", p.display()));
            return refused(format!("{name} has mistakes of syntax, behind which names may stand: correct them first"));
        }
        free(name, &script.symbols, found)?;
        for span in script.symbols.places(found) {
            let (path, text) = &script.files[span.file.0 as usize];
            match path {
                Some(path) => edits.entry(own(path)).or_default().push((span, Arc::clone(text))),
                None => own_edits.push((span, Arc::clone(text))),
            }
        }
    }
    let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
    let mut add = |uri: Uri, spans: Vec<(Span, Arc<str>)>| {
        let mut seen = Vec::new();
        for (span, text) in spans {
            if !seen.contains(&(span.start, span.end)) {
                seen.push((span.start, span.end));
                let edit = TextEdit { range: server.range(&text, span), new_text: name.to_owned() };
                changes.entry(uri.clone()).or_default().push(edit);
            }
        }
    };
    for (path, spans) in edits {
        if !in_workspace(server, &path) {
            return refused(format!(
                "`{}` stands in `{}`, too, which is outside of the workspace",
                definition.name,
                path.display()
            ));
        }
        if let Some(uri) = server.uri_of_file(&path) {
            add(uri, spans);
        }
    }
    if !own_edits.is_empty() {
        add(place.text_document.uri.clone(), own_edits);
    }
    value(Some(WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() }))
}

/// Every place where the name at a place is written, in the script and its imports.
pub fn references(server: &Server, document: &Document, at: usize) -> Option<Vec<Location>> {
    let script = Script::of(server, document);
    let index = script.symbols.at(FileId(0), at)?.1?;
    let places = script.symbols.places(index).into_iter().filter_map(|span| {
        let (path, text) = script.files.get(span.file.0 as usize)?;
        let uri = match path {
            Some(path) if span.file != FileId(0) => server.uri_of_file(path)?,
            _ => document.uri.clone(),
        };
        Some(Location { uri, range: server.range(text, span) })
    });
    Some(places.collect())
}

/// Files of open texts, and those below a folder of the workspace; without one, beside an open text.
fn in_workspace(server: &Server, path: &Path) -> bool {
    let mut open = server.documents.iter().filter_map(|d| d.path.as_deref()).map(own);
    match server.workspace.is_empty() {
        true => open.any(|p| p == path || p.parent().is_some_and(|f| path.starts_with(f))),
        false => server.workspace.iter().any(|f| path.starts_with(f)) || open.any(|p| p == path),
    }
}

/// Whether a name can be written at all.
fn allowed(name: &str, definition: &Definition) -> Result<(), (ErrorCode, String)> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return refused(format!("`{name}` is no name: a letter or `_`, with letters, digits and `_` after it"));
    }
    if RESERVED.contains(&name) {
        return refused(format!("`{name}` is a word of the language"));
    }
    if OWN.contains(&name) && definition.kind != SymbolKind::Function {
        return refused(format!("`{name}` has a meaning of its own in hooks"));
    }
    Ok(())
}

/// Whether nothing else has the name where the definition is seen.
fn free(name: &str, symbols: &Symbols, index: usize) -> Result<(), (ErrorCode, String)> {
    let of = &symbols.definitions[index];
    let meets = |a: Option<Span>, b: Option<Span>| match (a, b) {
        (Some(a), Some(b)) => a.file == b.file && a.start < b.end && b.start < a.end,
        _ => true,
    };
    let function = |k: SymbolKind| k == SymbolKind::Function;
    let taken = symbols.definitions.iter().find(|d| {
        d.name == name
            && meets(d.scope, of.scope)
            && (function(d.kind) == function(of.kind) || d.kind == SymbolKind::Metric)
    });
    if let Some(d) = taken {
        return refused(format!("there is a {} `{name}` already", d.kind.word()));
    }
    let caught = symbols.uses.iter().find(|u| {
        u.name == name && u.definition.is_none() && u.role != Role::Argument && meets(Some(u.span), of.scope)
    });
    if caught.is_some() {
        return refused(format!("`{name}` is written already, and means something of the model or the language there"));
    }
    Ok(())
}
