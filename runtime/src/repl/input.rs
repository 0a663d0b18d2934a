//! What an input is, and whether it is complete.

use super::notebook::{Cell, cells};
use std::path::Path;
use steer_lang::{
    Diagnostic, Diagnostics, FileId, NOTHING_FOLLOWS, Sources, Span, Token, TokenKind, codes, keywords, lex, parse,
    parse_expr,
};

/// What was typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Nothing,
    /// `:sites attn`: the word and the rest.
    Command(String, String),
    Items(Vec<Cell>),
    /// `blocks[3].attn.pattern[head = 2] on prompt of "some text" with cheer`
    Look(Look),
    /// `diff clean with cheer` and `diff clean, corrupt`: the runs.
    Diff(String, String),
    /// An expression, to be printed.
    Value(String),
}

/// What of a run is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Sites with the selection of rows, as in `capture`.
    pub what: String,
    /// Entries of axes; negative numbers count from the end.
    pub entries: Vec<(String, i64)>,
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
    match trimmed {
        "quit" | "exit" | "quit()" | "exit()" => return Ok(Input::Command("quit".into(), String::new())),
        "help" | "help()" => return Ok(Input::Command("help".into(), String::new())),
        _ => {}
    }
    if trimmed == "diff" || trimmed.starts_with("diff ") {
        return match diff(trimmed["diff".len()..].trim()) {
            Some((before, after)) => Ok(Input::Diff(before, after)),
            None => Err(wrong(
                origin,
                text,
                "a diff is of two runs",
                "write `diff with cheer \"some text\"`, `diff clean with cheer` or `diff clean, corrupt`",
            )),
        };
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
        (Some(_), d) if d.is_empty() && !keywords::is_keyword(trimmed) => Ok(Input::Value(trimmed.to_owned())),
        _ => Err(hinted(wrong, trimmed)),
    }
}

fn wrong(origin: &Path, text: &str, message: &str, help: &str) -> Wrong {
    let mut sources = Sources::default();
    let file = sources.add(origin.display().to_string(), text);
    let begin = text.len() - text.trim_start().len();
    let span = Span::new(file, begin, text.trim_end().len());
    (vec![Diagnostic::error(codes::SYNTAX, message).at(span, "here").help(help)], sources)
}

/// What somebody means who writes `x = 3`.
fn hinted((mut diagnostics, sources): Wrong, text: &str) -> Wrong {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some((name, value)) = text.split_once('=').map(|(n, v)| (n.trim(), v.trim()))
        && is_name(name)
        && let Some(first) = diagnostics.first_mut()
    {
        first.help = Some(format!("`param {name} = {value}` declares a number, and `:set {name} {value}` sets one"));
    }
    (diagnostics, sources)
}

/// The two runs of a diff.
fn diff(text: &str) -> Option<(String, String)> {
    if let Some(run) = run_of(text) {
        let subject = edits_of(&run)?.0.to_owned();
        return Some((subject, run));
    }
    let cuts = text.match_indices(',').map(|(at, _)| (text[..at].trim(), text[at + 1..].trim()));
    let is_run = |run: &str| parses(&format!("run r = {run}"));
    cuts.into_iter().find(|(a, b)| is_run(a) && is_run(b)).map(|(a, b)| (a.to_owned(), b.to_owned()))
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
        let (what, entries) = entries(what).unwrap_or_else(|| (what.to_owned(), Vec::new()));
        let site = parses(&format!("capture {what} of {run} to \"x\""));
        // Any other value of a run is measured.
        let value = entries.is_empty() && parses(&format!("measure {what} on {run}"));
        (site || value).then(|| Look { what, entries, run: run.to_owned() })
    })
    .next()
}

/// `[head = 2, key = -1]` in a site.
fn entries(what: &str) -> Option<(String, Vec<(String, i64)>)> {
    let equals = what.find('=')?;
    let open = what[..equals].rfind('[')?;
    let close = open + what[open..].find(']')?;
    let one = |part: &str| {
        let (axis, number) = part.split_once('=')?;
        Some((axis.trim().to_owned(), number.trim().parse().ok()?))
    };
    let all = what[open + 1..close].split(',').map(one).collect::<Option<_>>()?;
    Some((format!("{}{}", &what[..open], &what[close + 1..]), all))
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
        Err((diagnostics, _)) => !diagnostics.iter().any(|d| d.labels.iter().any(|l| l.text == NOTHING_FOLLOWS)),
    }
}

/// How many brackets are open at the end.
fn open_brackets(text: &str) -> i32 {
    let step = |t: &Token| match t.kind {
        TokenKind::Open(_) => 1,
        TokenKind::Close(_) => -1,
        _ => 0,
    };
    lex(text).tokens.iter().map(step).sum()
}

/// A text from elsewhere than a terminal, in inputs. One begins at a line that is not indented, where no bracket is open; items
/// that follow one another are one script.
pub fn inputs(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut comments = false;
    for line in text.lines() {
        let begins = line.starts_with(|c: char| !c.is_whitespace() && !"})]".contains(c));
        match pieces.last_mut() {
            Some(last) if comments && !line.starts_with(':') || !begins || open_brackets(last) > 0 => {
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
        let items = |text: &str| matches!(read(Path::new(""), text), Ok(Input::Items(_) | Input::Nothing));
        // A name that is given another meaning begins another script.
        let joined = out.last().filter(|_| script).map(|last| format!("{last}\n{piece}")).filter(|j| items(j));
        script = items(&piece);
        match (joined, out.last_mut()) {
            (Some(joined), Some(last)) if script => *last = joined,
            _ => out.push(piece),
        }
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
        let of = |what: &str, entries: &[(&str, i64)], run: &str| {
            let entries = entries.iter().map(|(axis, n)| (axis.to_string(), *n)).collect();
            Input::Look(Look { what: what.into(), entries, run: run.into() })
        };
        assert_eq!(read("embed of clean"), of("embed", &[], "clean"));
        assert_eq!(read("norm(blocks[1].resid.post) of clean"), of("norm(blocks[1].resid.post)", &[], "clean"));
        assert_eq!(
            read("blocks[3].attn.pattern[head = 2, key = -1] on prompt of \"a of b\" with cheer(alpha = 2)"),
            of("blocks[3].attn.pattern on prompt", &[("head", 2), ("key", -1)], "\"a of b\" with cheer(alpha = 2)")
        );
        let diff = |before: &str, after: &str| Input::Diff(before.into(), after.into());
        assert_eq!(read("diff clean with a, b(2)"), diff("clean", "clean with a, b(2)"));
        assert_eq!(read("diff with a, b(x = 2) \"a text\""), diff("\"a text\"", "\"a text\" with a, b(x = 2)"));
        assert_eq!(read("diff clean, corrupt with a, b"), diff("clean", "corrupt with a, b"));
        assert_eq!(read("exit()"), Input::Command("quit".into(), String::new()));
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
        let text = "## Of f.\nfn f(x) = x\n\nprint f(1)\n:time\n\nhook a at embed {\n    h = 0\n}\n1 + 2\ngenerate \"x\"\n    with a\n# Why.\n:time\nfn f(x) = x\nfn f(x) = 2";
        let cut = inputs(text);
        let cut: Vec<&str> = cut.iter().map(|c| c.trim()).collect();
        assert_eq!(cut[0], "## Of f.\nfn f(x) = x\n\nprint f(1)");
        assert_eq!(
            cut[1..],
            [
                ":time",
                "hook a at embed {\n    h = 0\n}",
                "1 + 2",
                "generate \"x\"\n    with a\n# Why.",
                ":time",
                "fn f(x) = x",
                "fn f(x) = 2"
            ]
        );
    }
}
