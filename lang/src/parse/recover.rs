//! Reading one item, and going on after a bad statement inside its body.

use pest::Parser;

use super::chunks::{Chunk, complete};
use super::{Build, Grammar, MAX_ERRORS, Rule, errors};
use crate::ast::{HookDecl, Item, ItemKind, PatchDecl, RouteDecl};
use crate::codes;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::lex::{Token, TokenKind};
use crate::source::FileId;

/// So many statements of one item are reported.
const MAX_RETRIES: usize = 20;

/// Reads one item. Where a statement is bad, the error is reported, the statement is replaced by
/// spaces, and the rest is read again.
pub(super) fn item(file: FileId, text: &str, chunk: &Chunk, diags: &mut Diagnostics) -> Option<Item> {
    let (first, last) = (chunk.tokens.first()?, chunk.tokens.last()?);
    if let Some(diag) = errors::no_declaration(file, text, chunk) {
        diags.push(diag);
        return None;
    }
    let base = first.start;
    let mut source = text[base..last.end].to_owned();
    let mut tokens = chunk.tokens.to_vec();
    for _ in 0..MAX_RETRIES {
        if diags.len() > MAX_ERRORS {
            return None;
        }
        match Grammar::parse(Rule::one_item, &source) {
            Ok(mut pairs) => {
                let mut build = Build::new(file, text, base, &tokens);
                let item = build.item(pairs.next()?);
                diags.append(&mut build.diags);
                diags.extend(nameless(&item));
                return Some(item);
            }
            Err(error) => {
                let left = Chunk { tokens: &tokens, sound: true };
                let found = errors::explain(file, text, &left, base, &error);
                diags.push(found.diagnostic);
                let (start, end) = bad_statement(text, &tokens, found.place)?;
                // Bytes, not characters, so that places stay what they are.
                let blank: String = text[start..end].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
                source.replace_range(start - base..end - base, &blank);
                tokens.retain(|t| t.end <= start || t.start >= end);
            }
        }
    }
    None
}

/// An edit without a name outside of a sweep, where nothing could use it.
fn nameless(item: &Item) -> Option<Diagnostic> {
    let (word, place) = match &item.kind {
        ItemKind::Hook(HookDecl { name: None, at, .. }) => ("hook", at.first()?.span),
        ItemKind::Patch(PatchDecl { name: None, at, .. }) => ("patch", at.first()?.span),
        ItemKind::Route(RouteDecl { name: None, at, .. }) => ("route", at.first()?.span),
        _ => return None,
    };
    Some(
        Diagnostic::error(codes::SYNTAX, format!("a {word} outside of a sweep has a name"))
            .at(place, "expected a name and `at` before this")
            .help(format!("write `{word} name at ...`, and `with name` where it is to act")),
    )
}

/// The bytes of the statement in which `place` lies: whole lines between the braces of its block.
/// `None` outside of braces, or where there is nothing to remove.
fn bad_statement(text: &str, tokens: &[Token], place: usize) -> Option<(usize, usize)> {
    let at = tokens.partition_point(|t| t.end <= place);
    let inside = innermost_brace(&tokens[..at])? + 1;
    let begins_line = |n: usize| tokens[n].first && complete(text, &tokens[n - 1]);
    // Back to where the statement begins. An error at the end of the block is one of its last line.
    let closes = tokens.get(at).is_none_or(|t| matches!(t.kind, TokenKind::Close(_)));
    let mut start = if closes { at.checked_sub(1)? } else { at };
    while start > inside && !begins_line(start) {
        start -= 1;
    }
    let start = start.max(inside);
    // Forward to the end of the line, with brackets closed, but not past the end of the block.
    let mut depth = 0usize;
    let mut end = start;
    while let Some(token) = tokens.get(end) {
        match token.kind {
            TokenKind::Open(_) => depth += 1,
            TokenKind::Close(_) if depth == 0 => break,
            TokenKind::Close(_) => depth -= 1,
            _ => {}
        }
        end += 1;
        let line_ends = tokens.get(end).is_none_or(|t| t.first);
        if depth == 0 && end > at && line_ends {
            break;
        }
    }
    (start < end).then(|| (tokens[start].start, tokens[end - 1].end))
}

/// The brace that is open after these tokens and was opened last.
fn innermost_brace(tokens: &[Token]) -> Option<usize> {
    let mut open = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Open(b) => open.push((n, b)),
            TokenKind::Close(_) => {
                open.pop();
            }
            _ => {}
        }
    }
    open.iter().rev().find(|(_, b)| *b == b'{').map(|(n, _)| *n)
}
