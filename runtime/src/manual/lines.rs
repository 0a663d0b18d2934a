//! Styled text in lines of a terminal.

use super::markdown::{Inline, Style};
use crate::report;
use steer_figures::Color;
use steer_figures::text::{visible, width};
use steer_lang::highlight;

/// Pieces side by side, with their columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pieces: Vec<(String, Style)>,
    pub width: usize,
}

impl Line {
    fn push(&mut self, text: &str, style: Style) {
        self.width += width::of(text);
        match self.pieces.last_mut() {
            Some((last, of)) if *of == style => last.push_str(text),
            _ => self.pieces.push((text.into(), style)),
        }
    }

    /// The line with its colours.
    pub fn paint(&self, color: Color) -> String {
        self.pieces.iter().map(|(text, style)| paint(text, *style, color)).collect()
    }
}

/// Text in lines of at most `columns`, broken at spaces, and inside of what is longer than a line. Without colours code
/// stands between backticks.
pub(super) fn wrap(text: &[Inline], columns: usize, color: Color) -> Vec<Line> {
    let columns = columns.max(2);
    let mut out = Vec::new();
    let mut line = Line::default();
    for word in words(text, color) {
        let space = usize::from(line.width > 0);
        if line.width > 0 && line.width + space + word.width > columns {
            out.push(std::mem::take(&mut line));
        } else if line.width > 0 {
            let style = word.pieces.first().map_or(Style::default(), |(_, s)| *s);
            let joined = line.pieces.last().is_some_and(|(_, s)| *s == style);
            line.push(" ", if joined { style } else { Style::default() });
        }
        for (piece, style) in &word.pieces {
            for c in piece.chars() {
                if line.width + width::of_char(c) > columns {
                    out.push(std::mem::take(&mut line));
                }
                line.push(c.encode_utf8(&mut [0; 4]), *style);
            }
        }
    }
    out.push(line);
    out
}

/// The longest word of a text, and how wide the text is in one line.
pub(super) fn extent(text: &[Inline], color: Color) -> (usize, usize) {
    let words = words(text, color);
    let longest = words.iter().map(|w| w.width).max().unwrap_or(0);
    (longest, words.iter().map(|w| w.width).sum::<usize>() + words.len().saturating_sub(1))
}

/// What stands between spaces.
fn words(text: &[Inline], color: Color) -> Vec<Line> {
    let mut out = Vec::new();
    let mut word = Line::default();
    for inline in text {
        let quote = match inline.style.code && color == Color::None {
            true if inline.text.contains('`') => "``",
            true => "`",
            false => "",
        };
        let shown = format!("{quote}{}{quote}", visible(&inline.text));
        for (i, part) in shown.split([' ', '\n']).enumerate() {
            if i > 0 && word.width > 0 {
                out.push(std::mem::take(&mut word));
            }
            if !part.is_empty() {
                word.push(part, inline.style);
            }
        }
    }
    if word.width > 0 {
        out.push(word);
    }
    out
}

fn paint(text: &str, style: Style, color: Color) -> String {
    let mut codes = Vec::new();
    codes.extend(style.strong.then_some("1"));
    codes.extend(style.emphasis.then_some("3"));
    codes.extend(style.code.then_some("36"));
    ansi(text, &codes.join(";"), color)
}

/// The terminal's own palette: what it has chosen can be read on its ground.
fn ansi(text: &str, codes: &str, color: Color) -> String {
    match color == Color::None || codes.is_empty() || text.is_empty() {
        true => text.to_owned(),
        false => format!("\u{1b}[{codes}m{text}\u{1b}[0m"),
    }
}

/// A heading.
pub(super) fn strong(text: &str, color: Color) -> String {
    ansi(text, "1", color)
}

/// What stands back.
pub(super) fn faint(text: &str, color: Color) -> String {
    ansi(text, "2", color)
}

/// A piece of a script with its shades.
pub(super) fn script(text: &str, color: Color) -> String {
    if color == Color::None {
        return text.to_owned();
    }
    let (mut out, mut at) = (String::new(), 0);
    for (range, shade) in highlight(text) {
        out.push_str(&text[at..range.start]);
        out.push_str(&ansi(&text[range.clone()], report::shade_codes(shade), color));
        at = range.end;
    }
    out + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manual::markdown::line;

    fn shown(text: &str, columns: usize, color: Color) -> Vec<String> {
        wrap(&line(text), columns, color).iter().map(|l| l.paint(color)).collect()
    }

    #[test]
    fn text_is_wrapped_with_its_styles() {
        assert_eq!(shown("one `two three` four", 10, Color::None), ["one `two", "three`", "four"]);
        let colored = shown("one **two** `a b`.", 30, Color::Ansi16);
        assert_eq!(colored, ["one \u{1b}[1mtwo\u{1b}[0m \u{1b}[36ma b\u{1b}[0m."]);
        assert_eq!(shown("abcdefgh", 3, Color::None), ["abc", "def", "gh"]);
        assert_eq!(shown("", 9, Color::None), [""]);
    }

    #[test]
    fn scripts_have_shades_where_there_are_colours() {
        let text = "let a = unit(3) # one\n";
        assert_eq!(script(text, Color::None), text);
        let colored = script(text, Color::True);
        assert!(colored.starts_with("\u{1b}[35mlet\u{1b}[0m a = \u{1b}[34munit\u{1b}[0m("), "{colored:?}");
    }
}
