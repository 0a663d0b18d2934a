//! What an input is, and whether it is complete.

use super::notebook::{Cell, cells};
use std::path::Path;
use steer_lang::{Diagnostics, FileId, Sources, parse, parse_expr};

/// What was typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Nothing,
    /// `:sites attn`: the word and the rest.
    Command(String, String),
    Items(Vec<Cell>),
    /// `blocks[3].attn.pattern[head = 2] on prompt of "some text" with cheer`
    Look(Look),
    /// `diff clean with cheer`: the run.
    Diff(String),
    /// An expression, to be printed.
    Value(String),
}

/// What of a run is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Sites with the selection of rows, as in `capture`.
    pub what: String,
    /// An entry of an axis.
    pub entry: Option<(String, usize)>,
    pub run: String,
}

/// Why an input is none.
pub type Wrong = (Diagnostics, Sources);

/// Reads an input. What is neither command nor item nor expression is reported as the item that it seems to be.
pub fn read(origin: &Path, text: &str) -> Result<Input, Wrong> {
    let trimmed = text.trim();
    if let Some(command) = trimmed.strip_prefix(':') {
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        return Ok(Input::Command(word.to_owned(), rest.trim().to_owned()));
    }
    if let Some(rest) = trimmed.strip_prefix("diff ").map(str::trim)
        && let Some(run) = run_of(rest)
    {
        return Ok(Input::Diff(run));
    }
    let wrong = match cells(origin, text) {
        Ok(cells) if cells.is_empty() => return Ok(Input::Nothing),
        Ok(cells) => return Ok(Input::Items(cells)),
        Err(wrong) => wrong,
    };
    if let Some(look) = look(trimmed) {
        return Ok(Input::Look(look));
    }
    match parse_expr(FileId(0), trimmed) {
        (Some(_), d) if d.is_empty() => Ok(Input::Value(trimmed.to_owned())),
        _ => Err(wrong),
    }
}

fn parses(text: &str) -> bool {
    parse(FileId(0), text).1.is_empty()
}

/// `with cheer "prompt"` and `"prompt" with cheer` as a run.
fn run_of(text: &str) -> Option<String> {
    let is_run = |run: &str| parses(&format!("run r = {run}")) && run.contains("with");
    if is_run(text) {
        return Some(text.to_owned());
    }
    let edits = text.strip_prefix("with ")?;
    // The subject is what stands behind the edits.
    let cuts = edits.char_indices().filter(|(_, c)| c.is_whitespace() || *c == '"').map(|(at, _)| at);
    let runs = cuts.map(|at| format!("{} with {}", edits[at..].trim(), edits[..at].trim()));
    runs.into_iter().find(|run| !run.starts_with("with ") && is_run(run))
}

/// A run as its subject and the edits behind `with`.
pub fn edits_of(run: &str) -> Option<(&str, &str)> {
    let cuts = run.match_indices(" with ").map(|(at, _)| at);
    let parts = cuts.map(|at| (run[..at].trim(), run[at + " with ".len()..].trim()));
    parts.into_iter().find(|(subject, _)| parse_expr(FileId(0), subject).1.is_empty())
}

pub fn has_edits(run: &str) -> bool {
    edits_of(run).is_some()
}

fn look(text: &str) -> Option<Look> {
    let cuts = text.match_indices(" of ").map(|(at, _)| at);
    cuts.filter_map(|at| {
        let (what, run) = (text[..at].trim(), text[at + " of ".len()..].trim());
        let (what, entry) = match entry(what) {
            Some((what, entry)) => (what, Some(entry)),
            None => (what.to_owned(), None),
        };
        parses(&format!("capture {what} of {run} to \"x\"")).then(|| Look { what, entry, run: run.to_owned() })
    })
    .next()
}

/// `[head = 2]` at the end of a site.
fn entry(what: &str) -> Option<(String, (String, usize))> {
    let (open, close) = (what.rfind('[')?, what.rfind(']')?);
    let (axis, number) = what[open + 1..close].split_once('=')?;
    let rest = format!("{}{}", &what[..open], &what[close + 1..]);
    Some((rest, (axis.trim().to_owned(), number.trim().parse().ok()?)))
}

/// Whether more lines belong to an input: brackets and texts are open, or a definition has not come to its end.
pub fn is_complete(text: &str) -> bool {
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.starts_with(':') {
        return true;
    }
    // An empty line ends an input whatever it is.
    if text.ends_with('\n') {
        return true;
    }
    if open_brackets(trimmed) > 0 {
        return false;
    }
    match read(Path::new(""), trimmed) {
        Ok(_) => true,
        // What went wrong at the end may come right with what follows.
        Err((diagnostics, _)) => {
            !diagnostics.iter().all(|d| d.labels.first().is_some_and(|l| l.span.end as usize >= trimmed.len()))
        }
    }
}

/// How many brackets are open at the end, texts and comments apart.
fn open_brackets(text: &str) -> i32 {
    let (mut depth, mut chars) = (0, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '#' => {
                chars.find(|c| *c == '\n');
            }
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => {
                            chars.next();
                        }
                        '"' | '\n' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    depth
}

/// A text from elsewhere than a terminal, in inputs. One begins at a line that is not indented, where no bracket is open; items
/// that follow one another are one script.
pub fn inputs(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut comments = false;
    for line in text.lines() {
        let begins = line.starts_with(|c: char| !c.is_whitespace() && !"})]".contains(c));
        match pieces.last_mut() {
            Some(last) if comments || !begins || open_brackets(last) > 0 => {
                last.push('\n');
                last.push_str(line);
            }
            _ => pieces.push(line.to_owned()),
        }
        // Comments belong to what follows them.
        comments = line.starts_with('#') || comments && line.trim().is_empty();
    }
    let mut out: Vec<String> = Vec::new();
    let mut script = false;
    for piece in pieces.into_iter().filter(|p| !p.trim().is_empty()) {
        let items = matches!(read(Path::new(""), &piece), Ok(Input::Items(_) | Input::Nothing));
        match out.last_mut() {
            Some(last) if script && items => {
                last.push('\n');
                last.push_str(&piece);
            }
            _ => out.push(piece),
        }
        script = items;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_apart() {
        let read = |text: &str| read(Path::new("<1>"), text).unwrap();
        assert_eq!(read(" \n# nothing"), Input::Nothing);
        assert_eq!(read(":sites attn.*"), Input::Command("sites".into(), "attn.*".into()));
        assert!(matches!(read("generate \"x\" with a { max: 3 }"), Input::Items(c) if c.len() == 1));
        assert_eq!(read("norm(mood[3]) + 1"), Input::Value("norm(mood[3]) + 1".into()));
        let of = |what: &str, entry: Option<(&str, usize)>, run: &str| {
            let entry = entry.map(|(axis, n)| (axis.to_owned(), n));
            Input::Look(Look { what: what.into(), entry, run: run.into() })
        };
        assert_eq!(read("embed of clean"), of("embed", None, "clean"));
        assert_eq!(
            read("blocks[3].attn.pattern[head = 2] on prompt of \"a of b\" with cheer(alpha = 2)"),
            of("blocks[3].attn.pattern on prompt", Some(("head", 2)), "\"a of b\" with cheer(alpha = 2)")
        );
        assert_eq!(read("diff clean with a, b(2)"), Input::Diff("clean with a, b(2)".into()));
        assert_eq!(read("diff with a, b(x = 2) \"a text\""), Input::Diff("\"a text\" with a, b(x = 2)".into()));
        assert!(super::read(Path::new("<1>"), "hook a at embed {\n    h += \n}").is_err());
    }

    #[test]
    fn inputs_go_on_until_they_are_complete() {
        for text in [
            "hook a at embed {",
            "hook a at embed {\n    h *= 2",
            "generate",
            "measure x on",
            "print (1 +",
            "fn f(x) =",
        ] {
            assert!(!is_complete(text), "{text}");
        }
        for text in [
            "",
            ":quit",
            "generate \"x\"",
            "hook a at embed {\n    h *= 2\n}",
            "1 + 1",
            "hook a at embed {\n\n",
            "generate ]",
        ] {
            assert!(is_complete(text), "{text}");
        }
    }

    #[test]
    fn a_text_is_cut_into_inputs() {
        let text = "## Of f.\nfn f(x) = x\n\nprint f(1)\n:time\n\nhook a at embed {\n    h = 0\n}\n1 + 2\ngenerate \"x\"\n    with a";
        let cut = inputs(text);
        let cut: Vec<&str> = cut.iter().map(|c| c.trim()).collect();
        assert_eq!(cut[0], "## Of f.\nfn f(x) = x\n\nprint f(1)");
        assert_eq!(cut[1..], [":time", "hook a at embed {\n    h = 0\n}", "1 + 2", "generate \"x\"\n    with a"]);
    }
}
