//! Places of a text as the protocol counts them: lines, and in a line units of UTF-16 or bytes.

use lsp_types::{Position, Range};

/// What positions in a line count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// What every client knows.
    Utf16,
    Utf8,
}

/// A text with the places where its lines begin.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    encoding: Encoding,
}

impl<'t> Lines<'t> {
    pub fn new(text: &'t str, encoding: Encoding) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(n, _)| n + 1)).collect();
        Lines { text, starts, encoding }
    }

    /// A line without its end.
    fn line(&self, n: usize) -> &'t str {
        let end = self.starts.get(n + 1).map_or(self.text.len(), |e| e - 1);
        self.text[self.starts[n]..end].trim_end_matches('\r')
    }

    /// The byte of a position; one beyond a line is its end, one beyond the text the text's.
    pub fn offset(&self, position: Position) -> usize {
        let line = position.line as usize;
        if line >= self.starts.len() {
            return self.text.len();
        }
        let mut left = position.character as usize;
        let text = self.line(line);
        for (at, c) in text.char_indices() {
            let width = self.width(c);
            if left < width {
                return self.starts[line] + at;
            }
            left -= width;
        }
        self.starts[line] + text.len()
    }

    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|s| *s <= offset).saturating_sub(1);
        let before = &self.text[self.starts[line]..offset];
        let character = before.chars().map(|c| self.width(c)).sum::<usize>();
        Position::new(line as u32, character as u32)
    }

    pub fn range(&self, bytes: std::ops::Range<usize>) -> Range {
        Range::new(self.position(bytes.start), self.position(bytes.end))
    }

    pub fn bytes(&self, range: Range) -> std::ops::Range<usize> {
        let (start, end) = (self.offset(range.start), self.offset(range.end));
        start..end.max(start)
    }

    /// How many units a piece of a line takes.
    pub fn units(&self, text: &str) -> u32 {
        text.chars().map(|c| self.width(c)).sum::<usize>() as u32
    }

    fn width(&self, c: char) -> usize {
        match self.encoding {
            Encoding::Utf16 => c.len_utf16(),
            Encoding::Utf8 => c.len_utf8(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_units() {
        let text = "a\u{1F600}b\r\né\n";
        for (encoding, b, after) in [(Encoding::Utf16, 3, 1), (Encoding::Utf8, 5, 2)] {
            let lines = Lines::new(text, encoding);
            assert_eq!(lines.offset(Position::new(0, b)), 5);
            assert_eq!(lines.position(5), Position::new(0, b));
            assert_eq!(lines.position(10), Position::new(1, after));
            // Beyond a line, in the middle of a character, beyond the text.
            assert_eq!(lines.offset(Position::new(0, 99)), 6);
            assert_eq!(lines.offset(Position::new(0, 2)), 1);
            assert_eq!(lines.offset(Position::new(9, 0)), text.len());
            for at in (0..=text.len()).filter(|n| text.is_char_boundary(*n) && *n != 7) {
                assert_eq!(lines.offset(lines.position(at)), at);
            }
        }
    }
}
