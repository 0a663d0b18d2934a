//! Comments: which ones are still to be written, and where.

use super::doc::Doc;
use super::{COMMA, Element, Printer};
use crate::lex::Comment;

impl<'a> Printer<'a> {
    /// Takes the next comment if it begins before a place.
    pub(super) fn comment_before(&mut self, before: usize) -> Option<Comment> {
        let comment = *self.comments.get(self.next)?;
        (comment.start < before).then(|| {
            self.next += 1;
            comment
        })
    }

    /// A comment that leaves its place documents nothing, so it keeps one `#` only.
    pub(super) fn demoted(&self, comment: Comment) -> Doc {
        let text = &self.text[comment.start..comment.end];
        Doc::Text(format!("#{}", text.trim_start_matches('#')))
    }

    /// The comments before a place that nothing has written.
    pub(super) fn moved(&mut self, before: usize) -> Vec<Doc> {
        let mut moved = Vec::new();
        while let Some(comment) = self.comment_before(before) {
            moved.push(self.demoted(comment));
        }
        moved
    }

    /// The comment that follows on the same line as what ends at `end`.
    pub(super) fn trailing(&mut self, end: usize, limit: usize) -> Option<Doc> {
        let comment = *self.comments.get(self.next)?;
        let follows = comment.start >= end && comment.start < limit && !self.text[end..comment.start].contains('\n');
        follows.then(|| {
            self.next += 1;
            Doc::Trailing(self.text[comment.start..comment.end].to_owned())
        })
    }

    /// The comments before a part of a list, each on its line.
    pub(super) fn leading(&mut self, before: usize) -> Vec<Doc> {
        let mut docs = Vec::new();
        while let Some(comment) = self.comment_before(before) {
            docs.push(Doc::text(&self.text[comment.start..comment.end]));
            docs.push(Doc::Hard);
        }
        docs
    }

    /// `open a, b close`, on one line or with each part on its own and a comma after the last.
    /// `from` is where the bracket opens and `to` where it closes.
    pub(super) fn bracketed(
        &mut self,
        (open, close): (&'static str, &'static str),
        (from, to): (usize, usize),
        pad: bool,
        elements: Vec<Element<'_, 'a>>,
    ) -> Doc {
        let edge = || if pad { Doc::Line } else { Doc::Soft };
        let first = elements.first().map_or(to, |e| e.start);
        let mut docs = vec![Doc::text(open)];
        docs.extend(self.trailing(from + 1, first));
        let mut inner = self.parts(to, elements, Doc::Broken(COMMA));
        // What is left stands before the closing bracket.
        while let Some(comment) = self.comment_before(to) {
            inner.extend([Doc::Hard, Doc::text(&self.text[comment.start..comment.end])]);
        }
        match inner.first() {
            None if docs.len() > 1 => docs.push(Doc::Hard),
            None => {}
            Some(Doc::Hard) => docs.extend([Doc::nest(inner), edge()]),
            Some(_) => {
                inner.insert(0, edge());
                docs.extend([Doc::nest(inner), edge()]);
            }
        }
        docs.push(Doc::text(close));
        Doc::group(docs)
    }

    /// `a, b`, with `last` after the last one.
    pub(super) fn parts(&mut self, to: usize, elements: Vec<Element<'_, 'a>>, last: Doc) -> Vec<Doc> {
        let mut docs = Vec::new();
        let starts: Vec<usize> = elements.iter().map(|e| e.start).collect();
        let count = starts.len();
        let mut last = Some(last);
        for (n, element) in elements.into_iter().enumerate() {
            if n > 0 {
                docs.push(Doc::Line);
            }
            docs.extend(self.leading(element.start));
            docs.push((element.print)(self));
            docs.extend(if n + 1 < count { Some(Doc::text(COMMA)) } else { last.take() });
            let limit = starts.get(n + 1).copied().unwrap_or(to);
            docs.extend(self.trailing(element.end, limit));
        }
        docs
    }

    /// `a, b` without brackets; broken, each further part on a line of its own, indented.
    pub(super) fn listed(&mut self, elements: Vec<Element<'_, 'a>>) -> Doc {
        let Some(to) = elements.last().map(|e| e.end) else {
            return Doc::Concat(Vec::new());
        };
        let parts = self.parts(to, elements, Doc::Concat(Vec::new()));
        Doc::group([Doc::nest(parts)])
    }
}
