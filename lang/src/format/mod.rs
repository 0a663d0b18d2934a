//! The one way to write a text: 4 spaces, 100 columns, no needless parentheses.
//!
//! The tree is printed anew; comments are put back by where they stood. A comment on a line of its
//! own stays above what it stood above; one at the end of a line stays there. One in a place where
//! no line can end moves up, above the declaration or statement.

mod comments;
mod doc;
mod expr;
mod items;
mod positions;
mod stmts;

use crate::diagnostic::Diagnostics;
use crate::lex::{Comment, Token, TokenKind, lex};
use crate::parse::parse;
use crate::source::{FileId, Span};
use doc::{Doc, layout};

/// Writes a text in the one way, or says why it cannot be read.
pub fn format(text: &str) -> Result<String, Diagnostics> {
    let mut out = pass(text)?;
    // A comment that moved may leave room for what it stood beside.
    for _ in 0..PASSES {
        let again = pass(&out)?;
        if again == out {
            break;
        }
        out = again;
    }
    Ok(out)
}

/// More passes than any text has been seen to need.
const PASSES: usize = 4;

fn pass(text: &str) -> Result<String, Diagnostics> {
    let (file, diags) = parse(FileId::default(), text);
    if !diags.is_empty() {
        return Err(diags);
    }
    let lexed = lex(text);
    let mut printer = Printer { text, tokens: &lexed.tokens, comments: &lexed.comments, next: 0 };
    let spans: Vec<Span> = file.items.iter().map(|item| item.span).collect();
    let lines = printer.sequence(&spans, 0, text.len(), |p, n| p.item(&file.items[n]));
    let mut out = layout(&lines);
    if !out.is_empty() {
        out.push('\n');
    }
    Ok(out)
}

struct Printer<'a> {
    text: &'a str,
    tokens: &'a [Token],
    comments: &'a [Comment],
    /// The first comment that is not written yet.
    next: usize,
}

/// One line of a body or file, and whether an empty one stands before it.
struct Entry {
    blank: bool,
    doc: Doc,
}

impl<'a> Printer<'a> {
    /// Items or statements on lines of their own, with their comments. `from` and `to` bound what
    /// holds them: the inside of the braces, or the file.
    fn sequence(
        &mut self,
        spans: &[Span],
        from: usize,
        to: usize,
        mut print: impl FnMut(&mut Self, usize) -> Doc,
    ) -> Doc {
        let mut entries: Vec<Entry> = Vec::new();
        let mut end = from;
        for (n, span) in spans.iter().enumerate() {
            let (start, stop) = (span.start as usize, span.end as usize);
            let first = entries.len();
            end = self.own_lines(&mut entries, start, from, end);
            let blank = self.blank_between(end, start);
            let doc = print(self, n);
            let moved = self.moved(stop);
            let limit = spans.get(n + 1).map_or(to, |s| s.start as usize);
            let trailing = self.trailing(stop, limit);
            end = trailing.as_ref().map_or(stop, |_| self.comments[self.next - 1].end);
            entries.push(Entry { blank, doc: Doc::concat([doc].into_iter().chain(trailing)) });
            // What had no place inside goes above the comments of this entry.
            let blank = !moved.is_empty() && std::mem::take(&mut entries[first].blank);
            let moved = moved.into_iter().enumerate().map(|(n, doc)| Entry { blank: blank && n == 0, doc });
            entries.splice(first..first, moved);
        }
        self.own_lines(&mut entries, to, from, end);
        let mut docs = Vec::new();
        for (n, entry) in entries.into_iter().enumerate() {
            if n > 0 {
                docs.push(Doc::Hard);
                if entry.blank {
                    docs.push(Doc::Hard);
                }
            }
            docs.push(entry.doc);
        }
        Doc::Concat(docs)
    }

    fn own_lines(&mut self, entries: &mut Vec<Entry>, before: usize, from: usize, end: usize) -> usize {
        let mut end = end;
        while let Some(comment) = self.comment_before(before) {
            if comment.start < from {
                entries.push(Entry { blank: false, doc: self.demoted(comment) });
                continue;
            }
            let blank = self.blank_between(end, comment.start);
            let line = self.text[..comment.start].rsplit('\n').next().unwrap_or_default();
            let doc = match line.trim_start_matches('\u{FEFF}').trim().is_empty() {
                true => Doc::text(&self.text[comment.start..comment.end]),
                false => self.demoted(comment),
            };
            entries.push(Entry { blank, doc });
            end = comment.end;
        }
        end
    }

    fn blank_between(&self, end: usize, start: usize) -> bool {
        end < start && self.text[end..start].bytes().filter(|b| *b == b'\n').count() > 1
    }

    fn slice(&self, span: Span) -> &'a str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// Where the brackets around some parts open and close: the token before the first part, and the
    /// first closing bracket after the last one.
    fn around(&self, first: usize, last: usize, close: u8) -> (usize, usize) {
        let open = self.tokens.partition_point(|t| t.start < first).saturating_sub(1);
        let open = self.tokens.get(open).map_or(first, |t| t.start);
        let after = self.tokens.partition_point(|t| t.start < last);
        let close = self.tokens[after..].iter().find(|t| t.kind == TokenKind::Close(close));
        (open, close.map_or(last, |t| t.start))
    }

    /// Whether it stands on one line.
    fn one_line(&self, span: Span) -> bool {
        !self.slice(span).contains('\n')
    }
}

/// What each part of a list is made of: where it stood, and how to print it.
struct Element<'e, 'a> {
    start: usize,
    end: usize,
    print: Box<dyn FnOnce(&mut Printer<'a>) -> Doc + 'e>,
}

impl<'e, 'a> Element<'e, 'a> {
    fn new(span: Span, print: impl FnOnce(&mut Printer<'a>) -> Doc + 'e) -> Self {
        Element { start: span.start as usize, end: span.end as usize, print: Box::new(print) }
    }
}

/// The separator of parts that stand side by side, each on its line where they are broken.
const COMMA: &str = ",";
