//! The place at which the grammar stops, and what stands around it.

use super::Rule;
use super::errors::named;
use super::slips::advice;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::lex::{Token, TokenKind};
use crate::source::{FileId, Span};

/// How a diagnostic calls the end of a text in which something is missing: more lines may make it whole.
pub const NOTHING_FOLLOWS: &str = "nothing comes after this";

/// The place of an error and what stands around it.
pub(super) struct Scene<'a> {
    pub text: &'a str,
    pub tokens: &'a [Token],
    /// The token that does not fit; past the last one at the end of the item.
    pub at: usize,
    pub expected: &'a [Rule],
}

impl<'a> Scene<'a> {
    pub fn glyph(&self, token: usize) -> &'a str {
        self.tokens.get(token).map_or("", |t| &self.text[t.start..t.end])
    }

    pub fn found(&self) -> &'a str {
        self.glyph(self.at)
    }

    pub fn before(&self) -> &'a str {
        self.at.checked_sub(1).map_or("", |n| self.glyph(n))
    }

    pub fn after(&self) -> &'a str {
        self.glyph(self.at + 1)
    }

    pub fn expects(&self, rule: Rule) -> bool {
        self.expected.contains(&rule)
    }

    /// Whether rows could be named here.
    pub fn expects_positions(&self) -> bool {
        [Rule::positions, Rule::pos_not, Rule::selection].iter().any(|r| self.expects(*r))
    }

    /// The dotted name around the place.
    pub fn dotted(&self) -> &'a str {
        let (before, after) = (self.tokens.get(..self.at), self.tokens.get(self.at..));
        let (Some(before), Some(after), Some(here)) = (before, after, self.tokens.get(self.at)) else { return "" };
        let part = |t: &Token| matches!(t.kind, TokenKind::Word | TokenKind::Number | TokenKind::Mark('.'));
        let mut start = here.start;
        for t in before.iter().rev().take_while(|t| part(t)) {
            if t.end != start {
                break;
            }
            start = t.start;
        }
        let mut end = here.start;
        for t in after.iter().take_while(|t| part(t)) {
            if t.start != end {
                break;
            }
            end = t.end;
        }
        &self.text[start..end]
    }

    /// What stands at the place without a space in it, such as `tiny-gpt2`.
    pub fn touching(&self) -> &'a str {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let joined = rest.windows(2).take_while(|w| w[0].end == w[1].start).count();
        match (rest.first(), rest.get(joined)) {
            (Some(first), Some(last)) => &self.text[first.start..last.end],
            _ => "",
        }
    }

    /// The first word of the line of the error.
    pub fn line_word(&self) -> &'a str {
        let upto = &self.tokens[..(self.at + 1).min(self.tokens.len())];
        upto.iter().rposition(|t| t.first).map_or("", |n| self.glyph(n))
    }

    /// The operator or `=` at the end of the line above, where the error is that the statement on
    /// this line was read as its value.
    pub fn unfinished(&self) -> Option<Token> {
        let assigns = self.found() == "=" || matches!(self.found(), "+" | "-" | "*" | "/") && self.after() == "=";
        let previous = self.tokens.get(self.at.checked_sub(2)?)?;
        let own_line = self.tokens[self.at - 1].first;
        (assigns && own_line && matches!(previous.kind, TokenKind::Mark(c) if c != ',')).then_some(*previous)
    }

    /// Where a line ends too early, the place to look at is its end and not the line after it.
    pub fn cut_short(&self, file: FileId, wanted: &str) -> Option<Diagnostic> {
        let ends = self.tokens.get(self.at).is_none_or(|t| t.first);
        let could_end = [Rule::stmt, Rule::route_stmt, Rule::rbrace, Rule::rbracket, Rule::rparen, Rule::EOI];
        if !ends || wanted.is_empty() || could_end.iter().any(|r| self.expects(*r)) {
            return None;
        }
        let last = self.tokens.get(self.at.checked_sub(1)?)?;
        let message = format!("expected {wanted} after {}", named(last, self.before()));
        Some(
            Diagnostic::error(codes::SYNTAX, message)
                .at(Span::new(file, last.start, last.end), NOTHING_FOLLOWS)
                .maybe_help(advice(self)),
        )
    }

    /// A word on the line of the error, up to it.
    pub fn line_has(&self, words: &[&str]) -> bool {
        let upto = &self.tokens[..(self.at + 1).min(self.tokens.len())];
        let line = upto.iter().rposition(|t| t.first).unwrap_or(0);
        (line..upto.len()).any(|n| words.contains(&self.glyph(n)))
    }

    pub fn is_word(&self) -> bool {
        self.tokens.get(self.at).is_some_and(|t| t.kind == TokenKind::Word)
    }
}
