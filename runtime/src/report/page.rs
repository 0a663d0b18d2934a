//! Where the texts of a run go: plain output, or a terminal that shows them as they come.

use super::{print, width};
use crate::error::Error;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use steer_lang::Diagnostic;

/// Where the texts of a run go, in order.
pub trait Page {
    /// Text that stays.
    fn print(&mut self, text: &str) -> Result<(), Error>;

    /// Whether drafts are seen.
    fn drafts(&self) -> bool {
        false
    }

    /// Lines that are seen behind what was printed, in place of those before, until something is printed.
    fn draft(&mut self, _text: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Warnings, as soon as they are known: before the run, those that are known then.
    fn warn(&mut self, _warnings: &[Diagnostic]) {}
}

/// A page, and who is told of warnings.
pub struct Warned<'p> {
    pub page: Box<dyn Page + 'p>,
    pub warn: &'p mut dyn FnMut(&[Diagnostic]),
}

impl Page for Warned<'_> {
    fn print(&mut self, text: &str) -> Result<(), Error> {
        self.page.print(text)
    }

    fn drafts(&self) -> bool {
        self.page.drafts()
    }

    fn draft(&mut self, text: &str) -> Result<(), Error> {
        self.page.draft(text)
    }

    fn warn(&mut self, warnings: &[Diagnostic]) {
        (self.warn)(warnings);
    }
}

/// A page without drafts.
pub struct Plain<'p>(pub &'p mut dyn FnMut(&str) -> Result<(), Error>);

impl Page for Plain<'_> {
    fn print(&mut self, text: &str) -> Result<(), Error> {
        (self.0)(text)
    }
}

/// A page that nobody sees.
pub struct Silent;

impl Page for Silent {
    fn print(&mut self, _text: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// Standard output; drafts are seen where it is a terminal.
pub struct Stdout {
    terminal: bool,
    draft: Draft,
    /// When the last draft was drawn.
    drawn: Option<Instant>,
}

/// Drafts follow one another no faster.
const PAUSE: Duration = Duration::from_millis(40);

impl Stdout {
    pub fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|t| t == "dumb" || t.is_empty());
        let terminal = cfg!(unix) && !dumb && std::io::stdout().is_terminal();
        Stdout { terminal, draft: Draft::default(), drawn: None }
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Page for Stdout {
    fn print(&mut self, text: &str) -> Result<(), Error> {
        self.drawn = None;
        print(&(self.draft.erase() + text))
    }

    fn drafts(&self) -> bool {
        self.terminal
    }

    fn draft(&mut self, text: &str) -> Result<(), Error> {
        if !self.terminal || self.drawn.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        let (columns, rows) = width::screen();
        print(&self.draft.draw(text, columns, rows))
    }
}

/// Lines on a terminal that will be replaced. The cursor stands at the beginning of the line below them.
#[derive(Debug, Default)]
struct Draft {
    lines: Vec<String>,
}

impl Draft {
    /// What to write so that the lines of `text` stand where the draft stood. Nothing is wider or higher than
    /// the terminal, so that the cursor finds its way back: of a long text the beginning and the end are seen.
    fn draw(&mut self, text: &str, columns: usize, rows: usize) -> String {
        /// A block's title and the rule below it.
        const HEAD: usize = 2;
        let all: Vec<String> = text.lines().map(|l| width::cut(l, columns)).collect();
        let room = rows.saturating_sub(1);
        let lines = match all.len().checked_sub(room) {
            Some(over @ 1..) if room > HEAD => [&all[..HEAD], &all[HEAD + over..]].concat(),
            Some(over) => all[over..].to_vec(),
            None => all,
        };
        if lines == self.lines {
            return String::new();
        }
        // A character that the terminal takes for wider than it is must not wrap its line. Lines are cleared
        // one by one as they are written, which flickers less than clearing all first.
        let mut out = format!("\x1b[?7l{}", self.back());
        for line in &lines {
            out.push_str(line);
            out.push_str("\x1b[K\n");
        }
        out.push_str("\x1b[J\x1b[?7h");
        self.lines = lines;
        out
    }

    /// What to write so that nothing of the draft is left.
    fn erase(&mut self) -> String {
        let back = self.back();
        let erased = if self.lines.is_empty() { String::new() } else { back + "\x1b[J" };
        self.lines.clear();
        erased
    }

    /// To where the draft begins.
    fn back(&self) -> String {
        match self.lines.len() {
            0 => String::new(),
            n => format!("\r\x1b[{n}A"),
        }
    }
}

#[cfg(test)]
#[path = "../../tests/common/screen.rs"]
mod screen;

#[cfg(test)]
mod tests {
    use super::screen::Screen;
    use super::*;
    use crate::report::beside;

    /// As the terminal's driver passes it on.
    fn cooked(text: String) -> String {
        text.replace('\n', "\r\n")
    }

    #[test]
    fn nothing_of_a_draft_remains() {
        let words = ["one", " two", " three", "\nfour", " 你好", " five", " \u{1b}[2J", " six", " seven", " eight"];
        for (columns, rows) in [(120, 40), (60, 12), (60, 5), (30, 8), (12, 3), (9, 1)] {
            let (mut draft, mut screen) = (Draft::default(), Screen::new(columns, rows));
            screen.write("before\r\n");
            let (mut left, mut right) = (String::new(), String::new());
            for (i, word) in words.iter().cycle().take(40).enumerate() {
                left.push_str(word);
                if i % 3 == 0 {
                    right.push_str(word);
                }
                let text = beside(&[("baseline", &left), ("steered", &right)], 60);
                screen.write(&cooked(draft.draw(&text, columns, rows)));
                assert!(screen.text().starts_with("before\n"));
            }
            screen.write(&draft.erase());
            assert_eq!(screen.text(), "before\n", "{columns} x {rows}");
            assert_eq!(draft.erase(), "");
        }
    }

    #[test]
    fn a_draft_shows_the_beginning_and_the_end() {
        let (mut draft, mut screen) = (Draft::default(), Screen::new(20, 6));
        let text: Vec<String> = (0..10).map(|i| format!("line {i}")).collect();
        screen.write(&cooked(draft.draw(&text[..3].join("\n"), 20, 6)));
        assert_eq!(screen.text(), "line 0\nline 1\nline 2\n");
        screen.write(&cooked(draft.draw(&text.join("\n"), 20, 6)));
        assert_eq!(screen.text(), "line 0\nline 1\nline 7\nline 8\nline 9\n");
        assert_eq!(draft.draw(&text.join("\n"), 20, 6), "", "what has not changed is not drawn again");
    }
}
