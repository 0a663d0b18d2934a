//! Where the name at a place is declared.

use super::Known;
use super::functions::Functions;
use std::path::PathBuf;
use steer_compiler::elaborate::STANDARD;
use steer_lang::symbols::{Part, Role, Symbols};
use steer_lang::{FileId, Span, TokenKind, lex, parse};

/// A declaration's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In the text itself.
    Here(Span),
    /// In a file that it imports: the name's place, or its beginning.
    File(PathBuf, Option<Span>),
    /// In a file of the standard library, by its number for [`library_text`].
    Library(usize, Span),
}

/// A file of the standard library: its name and text.
pub fn library_text(n: usize) -> (&'static str, &'static str) {
    STANDARD.get(n).copied().unwrap_or_default()
}

/// The names of a text and its imports; their texts by the numbers of their files, the text itself first.
pub(super) fn names<'t>(text: &'t str, known: &Known<'t>) -> (Symbols, Vec<&'t str>) {
    let texts: Vec<&str> = std::iter::once(text).chain(known.imports.iter().map(|s| &*s.text)).collect();
    let trees: Vec<_> = texts.iter().enumerate().map(|(n, t)| parse(FileId(n as u16), t).0).collect();
    let parts: Vec<Part> = texts
        .iter()
        .zip(&trees)
        .enumerate()
        .map(|(n, (text, tree))| Part { file: FileId(n as u16), tree, text })
        .collect();
    (Symbols::of(&parts), texts)
}

/// Where the name at a place is declared.
pub fn definition(text: &str, offset: usize, known: &Known) -> Option<Target> {
    if let Some(path) = imported(text, offset, known) {
        return Some(Target::File(path, None));
    }
    let (symbols, _) = names(text, known);
    let (span, found) = symbols.at(FileId(0), offset)?;
    if let Some(index) = found {
        let place = symbols.definitions[index].span;
        return Some(match (place.file.0 as usize).checked_sub(1) {
            None => Target::Here(place),
            Some(n) => Target::File(PathBuf::from(&known.imports.get(n)?.name), Some(place)),
        });
    }
    let used = symbols.uses.iter().find(|u| u.span == span && u.role == Role::Function)?;
    let (file, place) = Functions::standard().get(&used.name)?.place?;
    Some(Target::Library(file, place))
}

/// The file that an `import` at this place names.
fn imported(text: &str, offset: usize, known: &Known) -> Option<PathBuf> {
    let tokens = lex(text).tokens;
    let n = tokens
        .iter()
        .position(|t| t.start <= offset && offset <= t.end && matches!(t.kind, TokenKind::Text { closed: true }))?;
    let before = tokens.get(n.checked_sub(1)?)?;
    if &text[before.start..before.end] != "import" {
        return None;
    }
    let path = known.folder?.join(&text[tokens[n].start + 1..tokens[n].end - 1]);
    path.is_file().then_some(path)
}
