//! What to say where the grammar stops: what was found, what was expected, and what to do.

use pest::error::{Error, ErrorVariant, InputLocation};

use super::Rule;
use super::chunks::Chunk;
use super::words::{self, DECLARATIONS, RESERVED, STATEMENTS};
use crate::codes;
use crate::diagnostic::{Diagnostic, nearest};
use crate::lex::{Token, TokenKind};
use crate::source::{FileId, Span};

/// An explained error, and where in the file it is.
pub(super) struct Explained {
    pub diagnostic: Diagnostic,
    pub place: usize,
}

/// The place of an error and what stands around it.
struct Scene<'a> {
    text: &'a str,
    tokens: &'a [Token],
    /// The token that does not fit; past the last one at the end of the item.
    at: usize,
    expected: &'a [Rule],
}

impl<'a> Scene<'a> {
    fn glyph(&self, token: usize) -> &'a str {
        self.tokens
            .get(token)
            .map_or("", |t| &self.text[t.start..t.end])
    }

    fn found(&self) -> &'a str {
        self.glyph(self.at)
    }

    fn before(&self) -> &'a str {
        self.at.checked_sub(1).map_or("", |n| self.glyph(n))
    }

    fn after(&self) -> &'a str {
        self.glyph(self.at + 1)
    }

    fn expects(&self, rule: Rule) -> bool {
        self.expected.contains(&rule)
    }

    /// The first word of the line of the error.
    fn line_word(&self) -> &'a str {
        let upto = &self.tokens[..(self.at + 1).min(self.tokens.len())];
        upto.iter()
            .rposition(|t| t.first)
            .map_or("", |n| self.glyph(n))
    }

    /// The operator or `=` at the end of the line above, where the error is that the statement on
    /// this line was read as its value.
    fn unfinished(&self) -> Option<Token> {
        let assigns = self.found() == "="
            || matches!(self.found(), "+" | "-" | "*" | "/") && self.after() == "=";
        let previous = self.tokens.get(self.at.checked_sub(2)?)?;
        let own_line = self.tokens[self.at - 1].first;
        (assigns && own_line && matches!(previous.kind, TokenKind::Mark(c) if c != ','))
            .then_some(*previous)
    }

    /// Where a line ends too early, the place to look at is its end and not the line after it.
    fn cut_short(&self, file: FileId, wanted: &str) -> Option<Diagnostic> {
        let ends = self.tokens.get(self.at).is_none_or(|t| t.first);
        let could_end = [
            Rule::stmt,
            Rule::rbrace,
            Rule::rbracket,
            Rule::rparen,
            Rule::EOI,
        ];
        if !ends || wanted.is_empty() || could_end.iter().any(|r| self.expects(*r)) {
            return None;
        }
        let last = self.tokens.get(self.at.checked_sub(1)?)?;
        let message = format!("expected {wanted} after {}", named(last, self.before()));
        Some(
            Diagnostic::error(codes::SYNTAX, message)
                .at(
                    Span::new(file, last.start, last.end),
                    "nothing comes after this",
                )
                .maybe_help(advice(self)),
        )
    }

    /// A word on the line of the error, up to it.
    fn line_has(&self, words: &[&str]) -> bool {
        let upto = &self.tokens[..(self.at + 1).min(self.tokens.len())];
        let line = upto.iter().rposition(|t| t.first).unwrap_or(0);
        (line..upto.len()).any(|n| words.contains(&self.glyph(n)))
    }

    fn is_word(&self) -> bool {
        self.tokens
            .get(self.at)
            .is_some_and(|t| t.kind == TokenKind::Word)
    }
}

/// The error of an item that begins with no declaration word.
pub(super) fn no_declaration(file: FileId, text: &str, chunk: &Chunk) -> Option<Diagnostic> {
    let token = chunk.tokens.first()?;
    let word = &text[token.start..token.end];
    if DECLARATIONS.contains(&word) {
        return None;
    }
    let next = chunk.tokens.get(1).map_or("", |t| &text[t.start..t.end]);
    let message = if token.kind == TokenKind::Word {
        format!("`{word}` does not begin a declaration")
    } else {
        format!("a declaration cannot begin with {}", named(token, word))
    };
    let help = if word == "/" && next == "/" {
        "a comment begins with `#`".to_owned()
    } else if word == "let" || word == "const" || word == "var" {
        "`let` belongs in a body; here use `param` for a number, `data` for texts, `vector` for a direction".to_owned()
    } else if let ("def" | "func" | "function", _) = (word, next) {
        "a function is declared with `fn`".to_owned()
    } else if STATEMENTS.contains(&word) {
        format!("`{word}` belongs in the body of a `hook`, `fn` or `arch`")
    } else if let Some(near) =
        nearest(word, DECLARATIONS.iter().copied()).filter(|_| word.len() > 2)
    {
        format!("did you mean `{near}`?")
    } else {
        format!(
            "a file is made of {} and `arch`",
            list(&DECLARATIONS[..DECLARATIONS.len() - 1])
        )
    };
    let span = Span::new(file, token.start, token.end);
    Some(
        Diagnostic::error(codes::SYNTAX, message)
            .at(span, "expected a declaration")
            .help(help),
    )
}

fn list(words: &[&str]) -> String {
    words
        .iter()
        .map(|w| format!("`{w}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Puts the grammar's error into words.
pub(super) fn explain(
    file: FileId,
    text: &str,
    chunk: &Chunk,
    base: usize,
    error: &Error<Rule>,
) -> Explained {
    let place = base
        + match error.location {
            InputLocation::Pos(at) => at,
            InputLocation::Span((start, _)) => start,
        };
    let expected = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.as_slice(),
        ErrorVariant::CustomError { .. } => &[],
    };
    let tokens = chunk.tokens;
    let at = tokens.partition_point(|t| t.end <= place);
    let scene = Scene {
        text,
        tokens,
        at,
        expected,
    };
    let wanted = match scene.before() {
        "with" if scene.expects(Rule::name) => "the name of a hook or patch".to_owned(),
        _ => wanted(expected),
    };
    if let Some(unfinished) = scene.unfinished() {
        let span = Span::new(file, unfinished.start, unfinished.end);
        let glyph = &text[unfinished.start..unfinished.end];
        let diagnostic =
            Diagnostic::error(codes::SYNTAX, format!("a value is missing after `{glyph}`"))
                .at(span, "the line ends here")
                .help("give it a value, or remove the statement");
        return Explained {
            diagnostic,
            place: unfinished.start,
        };
    }
    let (span, found) = match tokens.get(at) {
        Some(token) => (
            Span::new(file, token.start, token.end),
            named(token, scene.found()),
        ),
        None => {
            let last = tokens.last().map_or((0, 0), |t| (t.start, t.end));
            (
                Span::new(file, last.0, last.1),
                "the end of the declaration".to_owned(),
            )
        }
    };
    if let Some(diagnostic) = scene.cut_short(file, &wanted) {
        let place = diagnostic.labels[0].span.start as usize;
        return Explained { diagnostic, place };
    }
    let label = if wanted.is_empty() {
        "not expected here".to_owned()
    } else {
        format!("expected {wanted}")
    };
    let mut diagnostic = match slip(&scene) {
        Some((message, help)) => Diagnostic::error(codes::SYNTAX, message)
            .at(span, label)
            .help(help),
        None if wanted.is_empty() => {
            Diagnostic::error(codes::SYNTAX, format!("{found} does not belong here"))
                .at(span, label)
        }
        None => {
            let label = if at < tokens.len() {
                "not expected here"
            } else {
                "ends here"
            };
            Diagnostic::error(codes::SYNTAX, format!("expected {wanted}, found {found}"))
                .at(span, label)
        }
    };
    if diagnostic.help.is_none() {
        diagnostic = diagnostic.maybe_help(advice(&scene));
    }
    Explained { diagnostic, place }
}

/// "`at` or `,`": the likeliest few.
fn wanted(expected: &[Rule]) -> String {
    let mut names: Vec<(u8, String)> = Vec::new();
    // Where any value can begin, its many beginnings are one.
    let value = [Rule::number, Rule::name]
        .iter()
        .all(|r| expected.contains(r));
    if value {
        names.push((0, "a value".to_owned()));
    }
    let begins_value = |r: &&Rule| !(value && words::begins_value(**r));
    for (order, name) in expected
        .iter()
        .filter(begins_value)
        .filter_map(|r| words::friendly(*r))
    {
        if names.iter().all(|(_, n)| *n != name) {
            names.push((order, name));
        }
    }
    names.sort_by_key(|(order, _)| *order);
    // Where a value can go on, an operator or bracket always can; that is no news.
    if names.len() > 3 {
        names.retain(|(order, _)| *order < 4);
    }
    let names: Vec<String> = names.into_iter().map(|(_, name)| name).take(4).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

fn named(token: &Token, glyph: &str) -> String {
    match token.kind {
        TokenKind::Text { .. } => "a text".to_owned(),
        TokenKind::Number => format!("the number `{glyph}`"),
        TokenKind::Mark(c) if c.is_control() || c.is_whitespace() => {
            format!("the character U+{:04X}", u32::from(c))
        }
        _ => format!("`{glyph}`"),
    }
}

/// Habits from other languages, with a message of their own.
fn slip(scene: &Scene) -> Option<(String, String)> {
    let say = |message: &str, help: &str| Some((message.to_owned(), help.to_owned()));
    match (scene.before(), scene.found(), scene.after()) {
        (_, "/", "/") | ("/", "/", _) => {
            say("`//` does not begin a comment", "a comment begins with `#`")
        }
        (_, "'", _) => say(
            "texts do not take single quotes",
            "write it with double quotes: `\"...\"`",
        ),
        (_, ";", _) => say("statements do not end with `;`", "end the line instead"),
        (_, "=", _) if scene.expects(Rule::colon) => {
            say("an option is set with `:`, not `=`", "write `{ max: 60 }`")
        }
        (_, ":", _) if scene.expects(Rule::range) => say(
            "a range is not written with `:`",
            "write `1..3` for 1 and 2, `1..=3` for 1, 2 and 3",
        ),
        (_, ":", _) if scene.expects(Rule::eq) || scene.expects(Rule::assign_op) => {
            say("`:` does not set a value here", "write `=`")
        }
        (_, "=", _)
            if scene.expects(Rule::block)
                || scene.expects(Rule::lbrace)
                || scene.expects(Rule::rparen) =>
        {
            say(
                "`=` sets a value; it does not compare",
                "to compare, write `==`",
            )
        }
        (_, "and", _) => say(
            "there is no operator `and`",
            "write `&&` between conditions, `&` between positions",
        ),
        (_, "or", _) => say(
            "there is no operator `or`",
            "write `||` between conditions, `|` between positions",
        ),
        ("not", _, _) | (_, "not", _) => {
            say("there is no operator `not`", "negation is written `!`")
        }
        _ if scene.line_has(&["elif", "elsif"]) => say(
            "there is no `elif`",
            "write `else if`, or `else when` where it is decided per row",
        ),
        ("|", "|", _) if scene.expects(Rule::pos_not) || scene.expects(Rule::pos_and) => say(
            "positions are joined with a single `|`",
            "write `prompt[-1] | generated`",
        ),
        ("&", "&", _) => say(
            "positions are joined with a single `&`",
            "write `prompt & !bos`",
        ),
        (_, ",", _) if scene.expects(Rule::amp) => say(
            "positions are not joined with `,`",
            "write `|` for either, `&` for both",
        ),
        ("=", ">", _) | (_, "=>", _) | ("-", ">", _) => {
            say("there are no arrows", "write `=` to set a value")
        }
        (".", ".", "=") if scene.expects(Rule::field_name) => {
            say("bounds include both ends", "write `..` between them")
        }
        (".", number, _) if number.starts_with(|c: char| c.is_ascii_digit()) => say(
            "a number cannot follow `.`",
            "an index stands in brackets: `blocks[2]`",
        ),
        (_, "?", _) => say(
            "there is no operator `?`",
            "a choice is written `if cond { a } else { b }`",
        ),
        (_, "then", _) => say("there is no `then`", "the body stands in braces: `{ ... }`"),
        _ if scene.line_has(&["for", "while", "loop"]) => say(
            "a body has no loops",
            "a hook is applied at every row and layer it names; in a model file, `blocks` repeats",
        ),
        ("*", "*", _) => say("there is no operator `**`", "a power is written `^`"),
        _ => None,
    }
}

/// What to do, where the message is an ordinary one.
fn advice(scene: &Scene) -> Option<String> {
    let found = scene.found();
    if scene.is_word() {
        if RESERVED.contains(&found) && scene.expects(Rule::name) {
            return Some(format!(
                "`{found}` is a word of the language and cannot be a name"
            ));
        }
        if scene.expects(Rule::string) && !scene.expects(Rule::number) {
            return Some(format!("write it in double quotes: `\"{found}\"`"));
        }
        if found == "on" && scene.expects(Rule::kw_at) {
            return Some("`at` and its sites come first, then `on`".to_owned());
        }
        let mut expected: Vec<&str> = scene
            .expected
            .iter()
            .filter_map(|r| words::keyword(*r))
            .collect();
        if scene.expects(Rule::param_type) {
            expected.extend(["number", "int", "bool", "text"]);
        }
        if scene.expects(Rule::positions)
            || scene.expects(Rule::pos_not)
            || scene.expects(Rule::selection)
        {
            expected.extend([
                "all",
                "prompt",
                "generated",
                "seq",
                "bos",
                "after",
                "matching",
                "role",
                "mask",
                "maybe",
            ]);
        }
        if let Some(near) = nearest(found, expected)
            .filter(|n| *n != found && found.len() > 1 && !words::is_known(found))
        {
            return Some(format!("did you mean `{near}`?"));
        }
        if DECLARATIONS.contains(&found) {
            return Some("begin a declaration on a line of its own".to_owned());
        }
    }
    let number = scene
        .tokens
        .get(scene.at)
        .is_some_and(|t| t.kind == TokenKind::Number);
    if number && found.contains(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Some("a name does not begin with a digit".to_owned());
    }
    let first = scene.line_word();
    let is_first = scene.tokens.get(scene.at).is_some_and(|t| t.first);
    if !is_first && first.len() > 2 && !words::is_known(first) {
        if let Some(near) = nearest(first, STATEMENTS.iter().copied()) {
            return Some(format!("did you mean `{near}` instead of `{first}`?"));
        }
    }
    if found == "." && scene.after() != "." {
        return Some("no space stands before or after the `.` of a name".to_owned());
    }
    if matches!(found, "(" | "[") && scene.expects(Rule::infix) {
        return Some(format!(
            "`{found}` of a call or an index directly follows the name, without a space"
        ));
    }
    None
}
