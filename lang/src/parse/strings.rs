//! Texts between quotes.

use crate::codes;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::Span;

/// The value of a literal with its quotes. A bad escape is reported and left as it stands.
pub(super) fn unescape(literal: &str, span: Span, diags: &mut Diagnostics) -> String {
    let inner = literal.strip_prefix('"').unwrap_or(literal);
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some((_, 'n')) => out.push('\n'),
            Some((_, 't')) => out.push('\t'),
            Some((_, '"')) => out.push('"'),
            Some((_, '\\')) => out.push('\\'),
            Some((_, 'u')) => match unicode(&inner[at + 2..]) {
                Some((c, len)) => {
                    out.push(c);
                    while chars.offset() < at + 2 + len && chars.next().is_some() {}
                }
                None => {
                    bad(span, at, 2, diags).help =
                        Some("a character by its number is written `\\u{1F600}`, with one to six digits".to_owned());
                    out.push_str("\\u");
                }
            },
            Some((_, c)) => {
                bad(span, at, 1 + c.len_utf8(), diags);
                out.push('\\');
                out.push(c);
            }
            None => out.push('\\'),
        }
    }
    out
}

/// `{1F600}` and its length.
fn unicode(text: &str) -> Option<(char, usize)> {
    let body = text.strip_prefix('{')?;
    let close = body.find('}')?;
    let digits = &body[..close];
    if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    Some((c, close + 2))
}

fn bad(span: Span, at: usize, len: usize, diags: &mut Diagnostics) -> &mut Diagnostic {
    let start = span.start as usize + 1 + at;
    let place = Span::new(span.file, start, start + len);
    diags.push(
        Diagnostic::error(codes::SYNTAX, "a text has no such escape")
            .at(place, "not an escape")
            .help("the escapes are `\\n`, `\\t`, `\\\"`, `\\\\` and `\\u{1F600}`; a backslash itself is `\\\\`"),
    );
    let last = diags.len() - 1;
    &mut diags[last]
}
