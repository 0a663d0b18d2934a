//! From text to syntax tree.
//!
//! A scanner cuts the text into items ([`chunks`]), the grammar reads each by itself, and builders
//! turn what it found into the tree. So one bad declaration never hides the next one, and inside a
//! body one bad statement never hides the next either ([`recover`]).

mod chunks;
mod errors;
mod expr;
mod items;
mod positions;
mod recover;
mod scene;
mod slips;
mod stmts;
mod strings;
pub(crate) mod words;

use pest::Parser;
use pest::iterators::{Pair, Pairs};

use crate::ast::{Expr, File, Ident, Item, Text};
use crate::codes;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::lex::{Token, lex};
use crate::source::{FileId, Span};
use chunks::Chunk;
pub use scene::NOTHING_FOLLOWS;

#[derive(pest_derive::Parser)]
#[grammar = "grammar.pest"]
struct Grammar;

/// The longest text that is read: 16 MiB.
const MAX_BYTES: usize = 16 << 20;

/// After so many errors the rest of a file is not read.
const MAX_ERRORS: usize = 100;

/// How deep a tree may be. Whoever walks it by recursion needs no more stack than this.
const MAX_DEPTH: usize = 256;

/// Parses a script, a library or a model file.
///
/// The tree holds what could be read; it is the whole file where there are no diagnostics.
pub fn parse(file: FileId, text: &str) -> (File, Diagnostics) {
    let mut diags = Diagnostics::new();
    if let Err(diag) = check_size(file, text) {
        return (File::default(), vec![diag]);
    }
    let lexed = lex(text);
    let mut items = Vec::new();
    for chunk in chunks::split(file, text, &lexed.tokens, &mut diags) {
        if diags.len() > MAX_ERRORS {
            break;
        }
        if chunk.sound {
            items.extend(recover::item(file, text, &chunk, &mut diags));
        }
    }
    diags.sort_by_key(|d| d.labels.first().map_or(0, |l| l.span.start));
    (File { items }, diags)
}

/// The items of a text by their tokens, also of one with mistakes.
pub fn pieces(text: &str, tokens: &[Token]) -> Vec<std::ops::Range<usize>> {
    let mut begun = 0;
    let chunks = chunks::split(FileId(0), text, tokens, &mut Diagnostics::new());
    let range = |chunk: &Chunk| {
        let start = begun;
        begun += chunk.tokens.len();
        start..begun
    };
    chunks.iter().map(range).collect()
}

/// Parses one expression, as typed at a prompt.
pub fn parse_expr(file: FileId, text: &str) -> (Option<Expr>, Diagnostics) {
    let mut diags = Diagnostics::new();
    if let Err(diag) = check_size(file, text) {
        return (None, vec![diag]);
    }
    let lexed = lex(text);
    let sound = chunks::check(file, text, &lexed.tokens, &mut diags);
    if !sound {
        return (None, diags);
    }
    match Grammar::parse(Rule::one_expr, text) {
        Ok(mut pairs) => {
            let mut build = Build::new(file, text, 0, &lexed.tokens);
            let expr = pairs.next().map(|pair| build.expr(pair, 0));
            (expr.filter(|_| build.diags.is_empty()), build.diags)
        }
        Err(error) => {
            let chunk = Chunk { tokens: &lexed.tokens, sound };
            (None, vec![errors::explain(file, text, &chunk, 0, &error).diagnostic])
        }
    }
}

fn check_size(file: FileId, text: &str) -> Result<(), Diagnostic> {
    if text.len() <= MAX_BYTES {
        return Ok(());
    }
    Err(Diagnostic::error(codes::SYNTAX, "this text is longer than 16 MiB")
        .at(Span::new(file, 0, 0), "a script this long is not read")
        .help("long lists belong in a data file: `data names = lines(\"names.txt\")`"))
}

/// Turns what the grammar found in one item into the tree.
struct Build<'a> {
    file: FileId,
    /// The whole file.
    text: &'a str,
    /// Where in the file the text that the grammar saw begins.
    base: usize,
    /// The tokens of the item.
    tokens: &'a [Token],
    diags: Diagnostics,
}

impl<'a> Build<'a> {
    fn new(file: FileId, text: &'a str, base: usize, tokens: &'a [Token]) -> Self {
        Build { file, text, base, tokens, diags: Diagnostics::new() }
    }

    /// The place of a pair, without the spaces and comments that a rule may have skipped at its end.
    fn span(&self, pair: &Pair<Rule>) -> Span {
        let span = pair.as_span();
        let (start, end) = (self.base + span.start(), self.base + span.end());
        let after = self.tokens.partition_point(|t| t.start < end);
        let end = if after > 0 { self.tokens[after - 1].end.clamp(start, end) } else { end };
        Span::new(self.file, start, end)
    }

    fn ident(&self, pair: &Pair<Rule>) -> Ident {
        Ident { name: pair.as_str().to_owned(), span: self.span(pair) }
    }

    fn text(&mut self, pair: &Pair<Rule>) -> Text {
        let span = self.span(pair);
        Text { value: strings::unescape(pair.as_str(), span, &mut self.diags), span }
    }

    fn item(&mut self, pair: Pair<Rule>) -> Item {
        let span = self.span(&pair);
        let doc = doc_above(self.text, span.start as usize);
        Item { kind: self.item_kind(pair), doc, span }
    }

    /// Whether a tree this deep may be built. Says so once where it may not.
    fn fits(&mut self, depth: usize, span: Span) -> bool {
        let fits = depth <= MAX_DEPTH;
        if !fits && self.diags.iter().all(|d| d.message != TOO_DEEP) {
            self.diags.push(
                Diagnostic::error(codes::SYNTAX, TOO_DEEP)
                    .at(span, format!("more than {MAX_DEPTH} operators, calls or branches, one inside the other"))
                    .help("give parts of it names with `let`, or use a list and a reduction such as `sum`"),
            );
        }
        fits
    }
}

const TOO_DEEP: &str = "this is too long to read as one expression";

/// What a pair holds, without keywords and punctuation.
struct Parts<'i>(Pairs<'i, Rule>);

impl<'i> Parts<'i> {
    fn of(pair: Pair<'i, Rule>) -> Self {
        let mut parts = Parts(pair.into_inner());
        parts.skip_marks();
        parts
    }

    fn skip_marks(&mut self) {
        while self.0.peek().is_some_and(|p| words::is_mark(p.as_rule())) {
            self.0.next();
        }
    }

    fn peek(&self) -> Option<Rule> {
        self.0.peek().map(|p| p.as_rule())
    }

    /// The next part where the grammar has one at this place in every case.
    fn need(&mut self) -> Pair<'i, Rule> {
        self.next().expect("the grammar has a part here")
    }

    fn take_if(&mut self, rule: Rule) -> Option<Pair<'i, Rule>> {
        if self.peek() == Some(rule) { self.next() } else { None }
    }
}

impl<'i> Iterator for Parts<'i> {
    type Item = Pair<'i, Rule>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next();
        self.skip_marks();
        next
    }
}

/// The `##` lines directly above the line that begins with what stands at `start`.
pub fn doc_above(text: &str, start: usize) -> Option<String> {
    let (text, start) = match text.strip_prefix('\u{FEFF}') {
        Some(rest) => (rest, start - (text.len() - rest.len())),
        None => (text, start),
    };
    let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
    if !text[line_start..start].trim().is_empty() {
        return None;
    }
    let mut lines: Vec<&str> = Vec::new();
    for line in text[..line_start].lines().rev() {
        match line.trim().strip_prefix("##") {
            Some(doc) => lines.push(doc.strip_prefix(' ').unwrap_or(doc)),
            None => break,
        }
    }
    lines.reverse();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
