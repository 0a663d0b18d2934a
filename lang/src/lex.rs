//! A light scanner: words, strings, brackets and comments, and where lines begin.
//!
//! It never fails. The parser uses it to find where each item begins and whether its brackets are
//! closed before the grammar sees the text; the formatter uses it to find the comments; editors use it where a text
//! does not parse.

/// What a token is, as far as anyone but the grammar needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Word,
    Number,
    Text {
        closed: bool,
    },
    Open(u8),
    Close(u8),
    /// One character of an operator, or one that the language does not have.
    Mark(char),
}

/// A word, text, bracket or mark with its place.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
    /// No token stands before it on its line.
    pub first: bool,
    /// Bytes from the beginning of the line.
    pub column: usize,
}

/// `# ...`, without its line end.
#[derive(Clone, Copy, Debug)]
pub struct Comment {
    pub start: usize,
    pub end: usize,
}

/// What a text is made of.
#[derive(Debug, Default)]
pub struct Lexed {
    pub tokens: Vec<Token>,
    pub comments: Vec<Comment>,
}

/// Scans a whole text.
pub fn lex(text: &str) -> Lexed {
    let bytes = text.as_bytes();
    let mut out = Lexed::default();
    // A mark that some editors put before a text.
    let mut at = if text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
    let mut line = at;
    let mut first = true;
    while at < bytes.len() {
        let start = at;
        let kind = match bytes[at] {
            b'\n' => {
                at += 1;
                line = at;
                first = true;
                continue;
            }
            b' ' | b'\t' | b'\r' => {
                at += 1;
                continue;
            }
            b'#' => {
                at = line_end(bytes, at);
                let end = start + text[start..at].trim_end().len();
                out.comments.push(Comment { start, end });
                continue;
            }
            b'"' => {
                let (end, closed) = string_end(bytes, at);
                at = end;
                TokenKind::Text { closed }
            }
            b @ (b'(' | b'[' | b'{') => {
                at += 1;
                TokenKind::Open(b)
            }
            b @ (b')' | b']' | b'}') => {
                at += 1;
                TokenKind::Close(b)
            }
            b if is_word(b) => {
                while at < bytes.len() && is_word(bytes[at]) {
                    at += 1;
                }
                if b.is_ascii_digit() { TokenKind::Number } else { TokenKind::Word }
            }
            _ => {
                let c = text[at..].chars().next().unwrap_or(' ');
                at += c.len_utf8();
                TokenKind::Mark(c)
            }
        };
        out.tokens.push(Token { kind, start, end: at, first, column: start - line });
        first = false;
    }
    out
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The place of the next line end, or of the end of the text.
pub(crate) fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| from + n)
}

/// Where the string that opens at `open` ends, and whether a quote ends it.
fn string_end(bytes: &[u8], open: usize) -> (usize, bool) {
    let mut at = open + 1;
    while at < bytes.len() && bytes[at] != b'\n' {
        match bytes[at] {
            b'"' => return (at + 1, true),
            b'\\' if at + 1 < bytes.len() && bytes[at + 1] != b'\n' => at += 2,
            _ => at += 1,
        }
    }
    (at.min(bytes.len()), false)
}

/// The bracket that closes `open`.
pub(crate) fn closing(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

/// A character that a reader cannot see: a control, a mark of direction, a space without width.
pub(crate) fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}
