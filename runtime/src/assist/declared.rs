//! What a text declares, by its tokens: also where it does not parse.

use super::place::Place;
use steer_lang::keywords::DECLARATIONS;
use steer_lang::symbols::SymbolKind;
use steer_lang::{Token, TokenKind, doc_above, lex, pieces};

/// A declared name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    pub kind: SymbolKind,
    /// The declaration up to its body, on one line.
    pub head: String,
    pub doc: String,
    /// Parameters as they are written: `alpha = 4.0`.
    pub params: Vec<String>,
    /// The axes of a sweep.
    pub axes: Vec<String>,
}

/// All declarations of a text, those of sweeps' bodies too.
pub fn declared(text: &str) -> Vec<Declared> {
    let lexed = lex(text);
    let tokens = &lexed.tokens;
    let mut out = Vec::new();
    for piece in pieces(text, tokens) {
        out.extend(item(text, tokens, piece.start, piece.end));
        if word(text, tokens, piece.start) != "sweep" {
            continue;
        }
        for n in piece.start + 1..piece.end {
            if tokens[n].first && matches!(word(text, tokens, n), "hook" | "patch" | "route" | "run") {
                out.extend(item(text, tokens, n, piece.end));
            }
        }
    }
    out
}

/// The declaration that begins at a token.
pub fn item(text: &str, tokens: &[Token], at: usize, end: usize) -> Option<Declared> {
    let kind = SymbolKind::declared_by(word(text, tokens, at))?;
    let name = at + 1;
    if name >= end || tokens[name].kind != TokenKind::Word {
        return None;
    }
    // An edit of a sweep may have none: its site follows.
    let edit = matches!(kind, SymbolKind::Hook | SymbolKind::Patch | SymbolKind::Route);
    if edit && matches!(word(text, tokens, name + 1), "." | "[") {
        return None;
    }
    let params = match tokens.get(name + 1).map(|t| t.kind) {
        Some(TokenKind::Open(b'(')) if name + 1 < end => arguments(text, tokens, name + 1, end),
        _ => Vec::new(),
    };
    let start = tokens[at].start;
    let axes = if kind == SymbolKind::Sweep { swept(text, tokens, at, end) } else { Vec::new() };
    Some(Declared {
        name: word(text, tokens, name).to_owned(),
        kind,
        head: head(text, tokens, at, end),
        doc: doc_above(text, start).unwrap_or_default(),
        params,
        axes,
    })
}

fn word<'t>(text: &'t str, tokens: &[Token], n: usize) -> &'t str {
    tokens.get(n).map_or("", |t| &text[t.start..t.end])
}

/// The pieces between commas of the bracket that opens at a token.
fn arguments(text: &str, tokens: &[Token], open: usize, end: usize) -> Vec<String> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0usize, tokens[open].end);
    for token in &tokens[open..end] {
        match token.kind {
            TokenKind::Open(_) => depth += 1,
            TokenKind::Close(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        let ends = depth == 0 || depth == 1 && token.kind == TokenKind::Mark(',');
        if ends {
            let piece = text[from..token.start.max(from)].split_whitespace().collect::<Vec<_>>().join(" ");
            out.extend((!piece.is_empty()).then_some(piece));
            from = token.end;
        }
        if depth == 0 {
            break;
        }
    }
    out
}

/// The names before `in` of a sweep's head.
fn swept(text: &str, tokens: &[Token], at: usize, end: usize) -> Vec<String> {
    let head = (at..end).take_while(|n| tokens[*n].kind != TokenKind::Open(b'{'));
    let names = head.filter(|n| word(text, tokens, n + 1) == "in" && tokens[*n].kind == TokenKind::Word);
    names.map(|n| word(text, tokens, n).to_owned()).collect()
}

/// A declaration up to its body, on one line.
fn head(text: &str, tokens: &[Token], at: usize, end: usize) -> String {
    let body = (at..end).find(|n| tokens[*n].kind == TokenKind::Open(b'{')).unwrap_or(end);
    let last = body.max(at + 1) - 1;
    let whole = text[tokens[at].start..tokens[last].end].split_whitespace().collect::<Vec<_>>().join(" ");
    match whole.chars().count() > 100 {
        true => whole.chars().take(99).chain(['…']).collect(),
        false => whole,
    }
}

/// The names that a body, a call or a sweep knows at a place: `(name, how it is written)`.
pub fn locals(place: &Place) -> Vec<(String, String)> {
    let (text, tokens) = (place.text, place.tokens);
    let mut out: Vec<(String, String)> = Vec::new();
    let word = |n: usize| word(text, tokens, n);
    for at in place.around() {
        let end = place.before;
        match word(at) {
            "sweep" => {
                for name in swept(text, tokens, at, end) {
                    let detail = format!("name of the sweep `{}`", word(at + 1));
                    out.push((name, detail));
                }
                continue;
            }
            "fn" | "hook" | "route" | "metric" => {
                for p in item(text, tokens, at, end).map(|d| d.params).unwrap_or_default() {
                    let name: String = p.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    out.push((name, format!("parameter: {p}")));
                }
            }
            "vector" | "tensor"
                if word(at + 2) == "[" && tokens.get(at + 3).is_some_and(|t| t.kind == TokenKind::Word) =>
            {
                out.push((word(at + 3).to_owned(), "each layer of the family".into()));
            }
            _ => {}
        }
        for n in at + 1..end {
            match word(n) {
                "let" if n + 1 < end => out.push((word(n + 1).to_owned(), line_of(text, tokens, n))),
                "blocks" if word(n + 2) == "in" && n + 2 < end => {
                    out.push((word(n + 1).to_owned(), line_of(text, tokens, n)))
                }
                "|" => {
                    // `|x, y| {`
                    let names: Vec<usize> = (n + 1..end)
                        .take_while(|m| matches!(tokens[*m].kind, TokenKind::Word | TokenKind::Mark(',')))
                        .collect();
                    let close = n + 1 + names.len();
                    if !names.is_empty() && word(close) == "|" && word(close + 1) == "{" {
                        let words = names.into_iter().filter(|m| tokens[*m].kind == TokenKind::Word);
                        out.extend(words.map(|m| (word(m).to_owned(), "of this function".into())));
                    }
                }
                _ => {}
            }
        }
    }
    // The innermost one of a name counts.
    out.reverse();
    let mut seen = Vec::new();
    out.retain(|(name, _)| {
        !name.is_empty()
            && !DECLARATIONS.contains(&name.as_str())
            && !seen.contains(name)
            && (seen.push(name.clone()), true).1
    });
    out
}

fn line_of(text: &str, tokens: &[Token], n: usize) -> String {
    let start = tokens[n].start;
    let end = text[start..].find('\n').map_or(text.len(), |e| start + e);
    text[start..end].trim().to_owned()
}
