//! What the pieces of a script are to a reader, for pages and editors.

use crate::keywords;
use crate::lex::{TokenKind, lex};
use std::ops::Range;

/// What a piece of a script is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shade {
    Keyword,
    /// A name that is called.
    Call,
    Number,
    Text,
    Comment,
}

impl Shade {
    /// What a style sheet calls it.
    pub fn name(self) -> &'static str {
        match self {
            Shade::Keyword => "keyword",
            Shade::Call => "call",
            Shade::Number => "number",
            Shade::Text => "text",
            Shade::Comment => "comment",
        }
    }
}

/// The pieces of a script that have a shade, in order; also of one with mistakes.
pub fn highlight(text: &str) -> Vec<(Range<usize>, Shade)> {
    let lexed = lex(text);
    let mut out: Vec<(Range<usize>, Shade)> = lexed.comments.iter().map(|c| (c.start..c.end, Shade::Comment)).collect();
    for (i, token) in lexed.tokens.iter().enumerate() {
        let next = lexed.tokens.get(i + 1);
        let opens = next.is_some_and(|n| n.kind == TokenKind::Open(b'(') && n.start == token.end);
        // The parts of `resid.pre` are names, whatever they are elsewhere.
        let part = i > 0 && lexed.tokens[i - 1].kind == TokenKind::Mark('.') && lexed.tokens[i - 1].end == token.start;
        let word = &text[token.start..token.end];
        let shade = match token.kind {
            TokenKind::Word if keywords::is_keyword(word) && !part => Shade::Keyword,
            TokenKind::Word if opens => Shade::Call,
            TokenKind::Number => Shade::Number,
            TokenKind::Text { .. } => Shade::Text,
            _ => continue,
        };
        out.push((token.start..token.end, shade));
    }
    out.sort_by_key(|(range, _)| range.start);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_shades() {
        let text = "hook a at blocks[2].with.post {\n    h += 4 * unit(\"é\") # on\n}\n\"open";
        let shades: Vec<(&str, Shade)> = highlight(text).into_iter().map(|(r, s)| (&text[r], s)).collect();
        let expected = [
            ("hook", Shade::Keyword),
            ("at", Shade::Keyword),
            ("blocks", Shade::Keyword),
            ("2", Shade::Number),
            ("4", Shade::Number),
            ("unit", Shade::Call),
            ("\"é\"", Shade::Text),
            ("# on", Shade::Comment),
            ("\"open", Shade::Text),
        ];
        assert_eq!(shades, expected);
    }
}
