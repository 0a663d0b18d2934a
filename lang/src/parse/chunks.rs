//! Where each item begins, and what is wrong with brackets and strings, before the grammar runs.
//!
//! An item begins on a line of its own. Outside of brackets any declaration word begins one, and so
//! does any other word in column 0 that cannot continue the line before; inside of brackets only a
//! declaration in column 0 does, which means that a bracket was never closed.

use super::words::{self, DECLARATIONS};
use crate::codes;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::lex::{Token, TokenKind, closing};
use crate::source::{FileId, Span};

/// How deep brackets may nest.
pub(crate) const MAX_NESTING: usize = 100;

/// The tokens of one item.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    pub tokens: &'a [Token],
    /// Its brackets and strings are closed, so that the grammar can be asked.
    pub sound: bool,
}

/// Cuts the tokens of a file into items.
pub(crate) fn split<'a>(file: FileId, text: &str, tokens: &'a [Token], diags: &mut Diagnostics) -> Vec<Chunk<'a>> {
    let mut scan = Scan::new(file, text, diags);
    let mut chunks = Vec::new();
    let mut start = 0;
    // Where every bracket is closed, a declaration in column 0 says nothing.
    let balanced = balanced(tokens);
    for at in 0..tokens.len() {
        let inside = !scan.open.is_empty();
        if at > start
            && !(inside && balanced)
            && !begun(text, tokens, start, at)
            && begins_item(text, tokens, at, !inside)
        {
            scan.finish(Some(tokens[at]));
            chunks.push(Chunk { tokens: &tokens[start..at], sound: scan.sound });
            scan.sound = true;
            scan.too_deep = false;
            start = at;
        }
        scan.token(tokens[at]);
    }
    scan.finish(None);
    if start < tokens.len() {
        chunks.push(Chunk { tokens: &tokens[start..], sound: scan.sound });
    }
    chunks
}

/// Whether the brackets and strings of one piece of text are closed.
pub(crate) fn check(file: FileId, text: &str, tokens: &[Token], diags: &mut Diagnostics) -> bool {
    let mut scan = Scan::new(file, text, diags);
    for token in tokens {
        scan.token(*token);
    }
    scan.finish(None);
    scan.sound
}

/// Whether every bracket of a file is closed by one of its kind.
fn balanced(tokens: &[Token]) -> bool {
    let mut open = Vec::new();
    tokens.iter().all(|t| match t.kind {
        TokenKind::Open(b) => {
            open.push(closing(b));
            true
        }
        TokenKind::Close(b) => open.pop() == Some(b),
        TokenKind::Text { closed } => closed,
        _ => true,
    }) && open.is_empty()
}

/// Whether this is the name behind a declaration word that stands on a line of its own.
fn begun(text: &str, tokens: &[Token], start: usize, at: usize) -> bool {
    let word = tokens[start];
    at == start + 1
        && matches!(&text[word.start..word.end], "data" | "prompt" | "run")
        && declares(text, &text[word.start..word.end], &tokens[at..])
}

fn begins_item(text: &str, tokens: &[Token], at: usize, outside: bool) -> bool {
    let token = tokens[at];
    if !token.first || token.kind != TokenKind::Word {
        return false;
    }
    let word = &text[token.start..token.end];
    if DECLARATIONS.contains(&word) && (outside || token.column == 0) && declares(text, word, &tokens[at + 1..]) {
        return true;
    }
    outside && token.column == 0 && !words::continues(word) && complete(text, &tokens[at - 1])
}

/// Whether what follows a declaration word is a declaration, and not a use of a value of that name.
fn declares(text: &str, word: &str, rest: &[Token]) -> bool {
    let Some(next) = rest.first() else {
        return false;
    };
    let marks = |t: Option<&Token>, allowed: &[&str]| {
        t.is_some_and(|t| t.kind != TokenKind::Word && allowed.contains(&&text[t.start..t.end]))
    };
    match word {
        "model" | "import" | "arch" => matches!(next.kind, TokenKind::Text { .. }),
        "param" => next.kind == TokenKind::Word && !next.first,
        "hook" | "patch" | "route" => next.kind == TokenKind::Word && !next.first,
        "data" | "prompt" | "vector" | "tensor" | "sae" | "fn" | "run" | "metric" => {
            let own_line = next.first && marks(rest.get(1), &["="]) && matches!(word, "data" | "prompt" | "run");
            next.kind == TokenKind::Word && (own_line || !next.first && marks(rest.get(1), &["=", "(", "[", ":"]))
        }
        _ => !next.first && matches!(next.kind, TokenKind::Word | TokenKind::Text { .. } | TokenKind::Number),
    }
}

/// Whether an expression or declaration could end after this token.
pub(crate) fn complete(text: &str, token: &Token) -> bool {
    match token.kind {
        TokenKind::Word => !words::wants_more(&text[token.start..token.end]),
        TokenKind::Number | TokenKind::Text { .. } | TokenKind::Close(_) => true,
        TokenKind::Open(_) | TokenKind::Mark(_) => false,
    }
}

struct Scan<'d, 't> {
    file: FileId,
    text: &'t str,
    open: Vec<Open>,
    /// The bracket whose closing one stood further left than it should.
    suspect: Option<Open>,
    sound: bool,
    too_deep: bool,
    /// A text without its end may have swallowed brackets.
    cut: bool,
    /// Of the line that is being read.
    indent: usize,
    diags: &'d mut Diagnostics,
}

#[derive(Clone, Copy)]
struct Open {
    token: Token,
    /// Of the line on which it stands.
    indent: usize,
}

impl<'d, 't> Scan<'d, 't> {
    fn new(file: FileId, text: &'t str, diags: &'d mut Diagnostics) -> Self {
        Scan { file, text, open: Vec::new(), suspect: None, sound: true, too_deep: false, cut: false, indent: 0, diags }
    }

    fn span(&self, token: Token) -> Span {
        Span::new(self.file, token.start, token.end)
    }

    fn glyph(&self, token: Token) -> &str {
        &self.text[token.start..token.end]
    }

    fn token(&mut self, token: Token) {
        if token.first {
            self.indent = token.column;
        }
        match token.kind {
            TokenKind::Text { closed: false } => {
                self.sound = false;
                self.cut = true;
                self.diags.push(
                    Diagnostic::error(codes::UNCLOSED, "this text has no closing quote")
                        .at(
                            Span::new(self.file, token.start, token.start + 1),
                            "opens here and runs to the end of the line",
                        )
                        .help("close it with `\"` on the same line; a line break inside a text is written `\\n`"),
                );
            }
            TokenKind::Open(_) => {
                self.open.push(Open { token, indent: self.indent });
                if self.open.len() > MAX_NESTING && !self.too_deep {
                    self.too_deep = true;
                    self.sound = false;
                    self.diags.push(
                        Diagnostic::error(codes::SYNTAX, format!("brackets nest more than {MAX_NESTING} deep"))
                            .at(self.span(token), "one bracket too many")
                            .help("give an inner part a name with `let`"),
                    );
                }
            }
            TokenKind::Close(close) => self.close(token, close),
            _ => {}
        }
    }

    fn close(&mut self, token: Token, close: u8) {
        let matches = |o: &Open| matches!(o.token.kind, TokenKind::Open(b) if closing(b) == close);
        match self.open.last().copied() {
            Some(top) if matches(&top) => {
                if token.first && token.column < top.indent && self.suspect.is_none() {
                    self.suspect = Some(top);
                }
                self.open.pop();
            }
            Some(top) => {
                self.sound = false;
                let missing = match top.token.kind {
                    TokenKind::Open(b) => char::from(closing(b)),
                    _ => ')',
                };
                let message = format!("`{}` is still open at this `{}`", self.glyph(top.token), self.glyph(token));
                self.diags.push(
                    Diagnostic::error(codes::UNCLOSED, message)
                        .at(self.span(top.token), "opened here")
                        .at(self.span(token), "closes another kind of bracket")
                        .help(format!("close it with `{missing}` first")),
                );
                match self.open.iter().rposition(matches) {
                    Some(found) => self.open.truncate(found),
                    None => {
                        self.open.pop();
                    }
                }
            }
            None => {
                if self.sound {
                    let message = format!("this `{}` closes nothing", self.glyph(token));
                    self.diags.push(
                        Diagnostic::error(codes::SYNTAX, message)
                            .at(self.span(token), "no bracket is open here")
                            .help("remove it, or look for a bracket above that closes too early"),
                    );
                }
                self.sound = false;
            }
        }
    }

    /// At the end of an item: what is open stays open.
    fn finish(&mut self, next: Option<Token>) {
        let left_open = self.open.last().copied();
        if let Some(open) = left_open.filter(|_| !self.cut) {
            let open = self.suspect.unwrap_or(open);
            self.sound = false;
            let close = match open.token.kind {
                TokenKind::Open(b) => char::from(closing(b)),
                _ => '}',
            };
            let message = format!("this `{}` is never closed", self.glyph(open.token));
            let mut diag = Diagnostic::error(codes::UNCLOSED, message).at(self.span(open.token), "opened here");
            if let Some(next) = next {
                diag = diag.at(self.span(next), "the next declaration begins here");
            }
            self.diags.push(diag.help(format!("add the `{close}` that belongs to it")));
        }
        self.open.clear();
        self.suspect = None;
        self.cut = false;
    }
}
