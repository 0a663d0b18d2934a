//! The line editor of a terminal: history with search, matching brackets, highlighting, completion.

use super::commands::COMMANDS;
use super::{Flow, Repl, input};
use crate::assist::{self, Candidate, ModelFacts};
use crate::error::Error;
use crate::{files, report};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Cmd, CompletionType, Config, Context, Editor, EventHandler, Helper, KeyCode, KeyEvent, Modifiers};
use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use steer_lang::{Shade, highlight};

/// As many lines of history are kept.
const HISTORY: usize = 5000;

/// A session on a terminal.
pub struct Terminal {
    editor: Editor<Assistant, FileHistory>,
    /// Where history is kept, if anywhere.
    file: Option<PathBuf>,
    known: Rc<RefCell<Known>>,
}

/// What completion knows of a session.
#[derive(Default)]
pub(super) struct Known {
    pub definitions: String,
    pub model: ModelFacts,
    pub folder: PathBuf,
}

impl Known {
    /// What can stand at a place of an input: where what it replaces begins, and the candidates.
    fn complete(&self, line: &str, at: usize) -> (usize, Vec<Pair>) {
        // Behind the word of a command stands what stands in a script elsewhere.
        let (cut, before) = match line[..at].strip_prefix(':') {
            Some(command) => match command.split_once(' ') {
                None => {
                    let fit = COMMANDS.iter().filter(|c| c.0.starts_with(command));
                    let pair = |c: &(&str, &str, &str)| Pair {
                        display: format!("{:28} {}", format!(":{} {}", c.0, c.1), c.2),
                        replacement: c.0.to_owned(),
                    };
                    return (1, fit.map(pair).collect());
                }
                Some((word, rest)) => (at - rest.len(), before_of_command(word)),
            },
            None => (0, ""),
        };
        let head = format!("{}\n{before}", self.definitions);
        let text = format!("{head}{}", &line[cut..]);
        let known = assist::Known { model: Some(&self.model), folder: Some(&self.folder), imports: &[] };
        let found = assist::complete(&text, head.len() + at - cut, &known);
        let from = (found.from + cut).saturating_sub(head.len()).clamp(cut, at);
        let widest = found.candidates.iter().map(|c| c.text.chars().count()).max().unwrap_or(0).min(40);
        let pair = |c: Candidate| Pair {
            display: format!("{:widest$}  {}", c.text, c.detail).trim_end().to_owned(),
            replacement: c.text,
        };
        (from, found.candidates.into_iter().map(pair).collect())
    }
}

/// A script in which what follows the word of a command could stand.
fn before_of_command(word: &str) -> &'static str {
    match word {
        "sites" => "capture ",
        "save" | "save!" => "import \"",
        "load" => "import \"",
        "explain" => "generate \"a\" with ",
        _ => "print ",
    }
}

struct Assistant {
    color: bool,
    known: Rc<RefCell<Known>>,
}

impl Terminal {
    pub fn new(history: Option<PathBuf>) -> Result<Self, Error> {
        let failed = |e: ReadlineError| {
            let e = std::io::Error::other(e.to_string());
            files::failed("read from", Path::new("the terminal"), &e)
        };
        let config = Config::builder()
            .max_history_size(HISTORY)
            .and_then(|c| c.history_ignore_dups(true))
            .map_err(failed)?
            .completion_type(CompletionType::List)
            .auto_add_history(false)
            .build();
        // What completion asks takes a moment to be read, while the first line is typed.
        std::thread::spawn(assist::Functions::standard);
        let known = Rc::new(RefCell::new(Known::default()));
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Assistant { color: report::errors_in_color(), known: Rc::clone(&known) }));
        // Another line without evaluating what is complete.
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
        if let Some(file) = &history {
            // A history that cannot be read is none.
            let _ = editor.load_history(file);
        }
        Ok(Terminal { editor, file: history, known })
    }

    /// Reads and evaluates inputs until the session ends.
    pub fn run(&mut self, repl: &mut Repl) -> Result<(), Error> {
        loop {
            *self.known.borrow_mut() = repl.known();
            match self.editor.readline("steer> ") {
                Ok(text) => {
                    if !text.trim().is_empty() {
                        let _ = self.editor.add_history_entry(text.trim_end());
                        self.remember();
                    }
                    if repl.enter(&text).0 == Flow::Ended {
                        return Ok(());
                    }
                }
                Err(ReadlineError::Interrupted) => report::print("ctrl-D or :quit ends the session\n")?,
                Err(ReadlineError::Eof) => return Ok(()),
                Err(e) => {
                    let e = std::io::Error::other(e.to_string());
                    return Err(files::failed("read from", Path::new("the terminal"), &e));
                }
            }
        }
    }

    /// Keeps history at once: whatever ends the process, it is there. That it cannot be kept stops nobody.
    fn remember(&mut self) {
        if let Some(file) = &self.file {
            let folder = file.parent().map(std::fs::create_dir_all);
            if folder.is_none_or(|made| made.is_ok()) {
                let _ = self.editor.append_history(file);
            }
        }
    }
}

impl Helper for Assistant {}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match input::is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(self.known.borrow().complete(line, at))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, at: usize) -> Cow<'l, str> {
        match self.color {
            true => Cow::Owned(painted(line, Some(at))),
            false => Cow::Borrowed(line),
        }
    }

    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.color { Cow::Owned(format!("\x1b[1;34m{prompt}\x1b[0m")) } else { Cow::Borrowed(prompt) }
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        self.color
    }
}

/// A script in colours, with the bracket that belongs to the one at the cursor.
fn painted(text: &str, at: Option<usize>) -> String {
    let shades = highlight(text);
    let pair = at.and_then(|at| partner(text, at));
    let mut out = String::with_capacity(2 * text.len());
    let mut next = shades.iter().peekable();
    let mut end = None;
    for (i, c) in text.char_indices() {
        if let Some((range, shade)) = next.next_if(|(range, _)| range.start == i) {
            out.push_str(&format!("\x1b[{}m", report::shade_codes(*shade)));
            end = Some(range.end);
        }
        match pair {
            Some((a, b)) if i == a || i == b => {
                out.push_str("\x1b[1;7m");
                out.push(c);
                out.push_str("\x1b[0m");
            }
            _ => out.push(c),
        }
        if end == Some(i + c.len_utf8()) {
            out.push_str("\x1b[0m");
            end = None;
        }
    }
    if end.is_some() {
        out.push_str("\x1b[0m");
    }
    out
}

/// The bracket at the cursor or before it, and the one that belongs to it. Those in texts and comments are none.
fn partner(text: &str, at: usize) -> Option<(usize, usize)> {
    let shades = highlight(text);
    let inside =
        |i: usize| shades.iter().any(|(range, s)| matches!(s, Shade::Text | Shade::Comment) && range.contains(&i));
    let bytes = text.as_bytes();
    let mut open = Vec::new();
    for (i, b) in bytes.iter().enumerate().filter(|(i, _)| !inside(*i)) {
        let opener = match b {
            b'(' | b'[' | b'{' => {
                open.push((i, *b));
                continue;
            }
            b')' => b'(',
            b']' => b'[',
            b'}' => b'{',
            _ => continue,
        };
        let (from, kind) = open.pop()?;
        if kind != opener {
            return None;
        }
        let here = |place: usize| place == at || place + 1 == at;
        if here(i) || here(from) {
            return Some((from, i));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_find_their_partners() {
        let text = "f(a[1], \")\") # (";
        assert_eq!(partner(text, 1), Some((1, 11)));
        assert_eq!(partner(text, 12), Some((1, 11)));
        assert_eq!(partner(text, 4), Some((3, 5)));
        assert_eq!(partner(text, 9), None);
        assert_eq!(partner("(]", 0), None);
    }

    #[test]
    fn paint_changes_no_letter() {
        let text = "hook é at blocks[2].resid.post {\n    h += 4.5 * unit(\"ö";
        let bare: String = painted(text, Some(7))
            .split('\u{1b}')
            .enumerate()
            .map(|(i, part)| match i {
                0 => part.to_owned(),
                _ => part.split_once('m').map_or(String::new(), |(_, rest)| rest.to_owned()),
            })
            .collect();
        assert_eq!(bare, text);
    }
}
