//! What to say where the grammar stops: what was found, what was expected, and what to do.

use pest::error::{Error, ErrorVariant, InputLocation};

use super::Rule;
use super::chunks::Chunk;
use super::scene::Scene;
use super::slips::{advice, slip};
use super::words::{self, DECLARATIONS, STATEMENTS};
use crate::codes;
use crate::diagnostic::{Diagnostic, nearest};
use crate::lex::{Token, TokenKind, hidden};
use crate::source::{FileId, Span};

/// An explained error, and where in the file it is.
pub(super) struct Explained {
    pub diagnostic: Diagnostic,
    pub place: usize,
}
/// The error of an item that begins with no declaration word.
pub(super) fn no_declaration(file: FileId, text: &str, chunk: &Chunk) -> Option<Diagnostic> {
    let token = chunk.tokens.first()?;
    let word = &text[token.start..token.end];
    if DECLARATIONS.contains(&word) {
        return None;
    }
    let next = chunk.tokens.get(1).map_or("", |t| &text[t.start..t.end]);
    let message = if token.kind == TokenKind::Word {
        format!("`{word}` does not begin a declaration")
    } else {
        format!("a declaration cannot begin with {}", named(token, word))
    };
    let help = if word == "/" && next == "/" {
        "a comment begins with `#`".to_owned()
    } else if word == "let" || word == "const" || word == "var" {
        "`let` belongs in a body; here use `param` for a number, `data` for texts, `vector` for a direction".to_owned()
    } else if let ("def" | "func" | "function", _) = (word, next) {
        "a function is declared with `fn`".to_owned()
    } else if STATEMENTS.contains(&word) {
        format!("`{word}` belongs in the body of a `hook`, `fn` or `arch`")
    } else if let Some(near) = nearest(word, DECLARATIONS.iter().copied()).filter(|_| word.len() > 2) {
        format!("did you mean `{near}`?")
    } else {
        format!("a file is made of {} and `arch`", list(&DECLARATIONS[..DECLARATIONS.len() - 1]))
    };
    let span = Span::new(file, token.start, token.end);
    Some(Diagnostic::error(codes::SYNTAX, message).at(span, "expected a declaration").help(help))
}

fn list(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

/// Puts the grammar's error into words.
pub(super) fn explain(file: FileId, text: &str, chunk: &Chunk, base: usize, error: &Error<Rule>) -> Explained {
    let place = base
        + match error.location {
            InputLocation::Pos(at) => at,
            InputLocation::Span((start, _)) => start,
        };
    let expected = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.as_slice(),
        ErrorVariant::CustomError { .. } => &[],
    };
    let tokens = chunk.tokens;
    let at = tokens.partition_point(|t| t.end <= place);
    let scene = Scene { text, tokens, at, expected };
    let wanted = match scene.before() {
        "with" if scene.expects(Rule::name) => "the name of a hook, patch or route".to_owned(),
        _ => wanted(expected),
    };
    if let Some(unfinished) = scene.unfinished() {
        let span = Span::new(file, unfinished.start, unfinished.end);
        let glyph = &text[unfinished.start..unfinished.end];
        let diagnostic = Diagnostic::error(codes::SYNTAX, format!("a value is missing after `{glyph}`"))
            .at(span, "the line ends here")
            .help("give it a value, or remove the statement");
        return Explained { diagnostic, place: unfinished.start };
    }
    let (span, found) = match tokens.get(at) {
        Some(token) => (Span::new(file, token.start, token.end), named(token, scene.found())),
        None => {
            let last = tokens.last().map_or((0, 0), |t| (t.start, t.end));
            (Span::new(file, last.0, last.1), "the end of the declaration".to_owned())
        }
    };
    if let Some(diagnostic) = scene.cut_short(file, &wanted) {
        let place = diagnostic.labels[0].span.start as usize;
        return Explained { diagnostic, place };
    }
    let label = if wanted.is_empty() { "not expected here".to_owned() } else { format!("expected {wanted}") };
    let mut diagnostic = match slip(&scene) {
        Some((message, help)) => Diagnostic::error(codes::SYNTAX, message).at(span, label).help(help),
        None if wanted.is_empty() => {
            Diagnostic::error(codes::SYNTAX, format!("{found} does not belong here")).at(span, label)
        }
        None => {
            let label = if at < tokens.len() { "not expected here" } else { "ends here" };
            Diagnostic::error(codes::SYNTAX, format!("expected {wanted}, found {found}")).at(span, label)
        }
    };
    if diagnostic.help.is_none() {
        diagnostic = diagnostic.maybe_help(advice(&scene));
    }
    Explained { diagnostic, place }
}

/// "`at` or `,`": the likeliest few.
fn wanted(expected: &[Rule]) -> String {
    let mut names: Vec<(u8, String)> = Vec::new();
    // Where any value can begin, its many beginnings are one.
    let value = [Rule::number, Rule::name].iter().all(|r| expected.contains(r));
    if value {
        names.push((0, "a value".to_owned()));
    }
    let begins_value = |r: &&Rule| !(value && words::begins_value(**r));
    for (order, name) in expected.iter().filter(begins_value).filter_map(|r| words::friendly(*r)) {
        if names.iter().all(|(_, n)| *n != name) {
            names.push((order, name));
        }
    }
    names.sort_by_key(|(order, _)| *order);
    // Where a value can go on, an operator or bracket always can; that is no news.
    if names.len() > 3 {
        names.retain(|(order, _)| *order < 4);
    }
    let names: Vec<String> = names.into_iter().map(|(_, name)| name).take(4).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

pub(super) fn named(token: &Token, glyph: &str) -> String {
    match token.kind {
        TokenKind::Text { .. } => "a text".to_owned(),
        TokenKind::Number => format!("the number `{glyph}`"),
        TokenKind::Mark(c) if c.is_whitespace() || hidden(c) => {
            format!("the character U+{:04X}", u32::from(c))
        }
        _ => format!("`{glyph}`"),
    }
}
