//! The slots of a text, `{name}`, where they stand in its literal.

use std::ops::Range;

/// The name of each slot of a literal with its quotes, with the bytes of the literal that it takes. As when texts are
/// filled, a slot ends at the first `}` and begins at the last `{` before it; escapes such as `\u{1F600}` are none.
pub fn slots(literal: &str) -> Vec<(Range<usize>, &str)> {
    let mut out = Vec::new();
    let mut open: Option<usize> = None;
    let mut chars = literal.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().map(|(_, c)| c);
                if escaped == Some('u') && literal[at + 2..].starts_with('{') {
                    while chars.next().is_some_and(|(_, c)| c != '}') {}
                }
            }
            '{' => open = Some(at + 1),
            '}' => {
                if let Some(start) = open.take() {
                    out.push((start..at, &literal[start..at]));
                }
            }
            _ => {}
        }
    }
    out
}

/// The words of a literal, with the bytes that each takes.
pub(super) fn words(literal: &str) -> Vec<(Range<usize>, &str)> {
    let mut out = Vec::new();
    let mut start = None;
    for (at, c) in literal.char_indices().chain([(literal.len(), ' ')]) {
        match (c.is_ascii_alphanumeric() || c == '_', start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                out.push((from..at, &literal[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_and_escapes_are_none() {
        let names = |text| slots(text).into_iter().map(|(r, n)| (r.start, n)).collect::<Vec<_>>();
        assert_eq!(names(r#""{a} {b.c} {{d} {e""#), [(2, "a"), (6, "b.c"), (13, "d")]);
        assert_eq!(names(r#""\u{1F600}{a}\"{b}""#), [(11, "a"), (16, "b")]);
        assert_eq!(names(r#""\u{""#), []);
        assert_eq!(words("\"kl(clean)\"").into_iter().map(|w| w.1).collect::<Vec<_>>(), ["kl", "clean"]);
    }
}
