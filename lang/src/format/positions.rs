//! Sites and positions.

use super::doc::Doc;
use super::expr::{index_span, quoted};
use super::{Element, Printer};
use crate::ast::{IndexItem, Positions, PositionsKind, Selection, SitePath};

impl<'a> Printer<'a> {
    pub(super) fn sites(&mut self, sites: &[SitePath]) -> Doc {
        let elements = sites.iter().map(|s| Element::new(s.span, move |p: &mut Printer<'a>| p.site(s))).collect();
        self.listed(elements)
    }

    pub(super) fn site(&mut self, path: &SitePath) -> Doc {
        if let Some(text) = path.foreign() {
            return Doc::Text(format!("site({})", quoted(text)));
        }
        let mut docs = Vec::new();
        for (n, segment) in path.segments.iter().enumerate() {
            if n > 0 {
                docs.push(Doc::text("."));
            }
            docs.push(Doc::text(&segment.name.name));
            if let Some(index) = &segment.index {
                docs.push(self.index(index));
            }
        }
        Doc::Concat(docs)
    }

    pub(super) fn index(&mut self, items: &[IndexItem]) -> Doc {
        let start = items.first().map_or(0, |i| index_span(i).start as usize);
        let end = items.last().map_or(0, |i| index_span(i).end as usize);
        let elements =
            items.iter().map(|i| Element::new(index_span(i), move |p: &mut Printer<'a>| p.index_item(i))).collect();
        self.bracketed(("[", "]"), self.around(start, end, b']'), false, elements)
    }

    pub(super) fn selection(&mut self, selection: &Selection) -> Doc {
        let maybe = if selection.maybe { "maybe " } else { "" };
        Doc::concat([Doc::text(maybe), self.positions(&selection.set)])
    }

    fn positions(&mut self, set: &Positions) -> Doc {
        match &set.kind {
            PositionsKind::All => Doc::text("all"),
            PositionsKind::Bos => Doc::text("bos"),
            PositionsKind::Prompt(index) => self.rows("prompt", index.as_deref()),
            PositionsKind::Generated(index) => self.rows("generated", index.as_deref()),
            PositionsKind::Seq(index) => {
                let bare = self.slice(set.span).trim_start_matches(['(', ' ', '\n', '\t', '\r']).starts_with('[');
                self.rows(if bare { "" } else { "seq" }, index.as_deref())
            }
            PositionsKind::After(text, index) => self.rows(format!("after {}", quoted(&text.value)), index.as_deref()),
            PositionsKind::Matching(text, index) => {
                self.rows(format!("matching {}", quoted(&text.value)), index.as_deref())
            }
            PositionsKind::Role(name) => Doc::Text(format!("role({})", name.name)),
            PositionsKind::Mask(name) => Doc::Text(format!("mask({})", name.name)),
            PositionsKind::Name(name) => Doc::text(&name.name),
            PositionsKind::Not(inner) => Doc::concat([Doc::text("!"), self.set_operand(inner, NOT)]),
            PositionsKind::Or(..) | PositionsKind::And(..) => self.joined(set),
        }
    }

    fn rows(&mut self, word: impl Into<String>, index: Option<&[IndexItem]>) -> Doc {
        let index = index.map(|items| self.index(items));
        Doc::concat([Doc::Text(word.into())].into_iter().chain(index))
    }

    /// A chain of one operator, grouped from the left.
    fn joined(&mut self, set: &Positions) -> Doc {
        let level = strength(set);
        let symbol = if level == OR { "| " } else { "& " };
        let mut links = Vec::new();
        let mut first = set;
        while let PositionsKind::Or(left, right) | PositionsKind::And(left, right) = &first.kind {
            if strength(first) != level {
                break;
            }
            links.push(&**right);
            first = left;
        }
        let mut docs = vec![self.set_operand(first, level)];
        let mut rest = Vec::new();
        let mut end = first.span.end as usize;
        for right in links.into_iter().rev() {
            rest.extend(self.trailing(end, right.span.start as usize));
            rest.extend([Doc::Line, Doc::text(symbol), self.set_operand(right, level + 1)]);
            end = right.span.end as usize;
        }
        docs.push(Doc::nest(rest));
        Doc::group(docs)
    }

    fn set_operand(&mut self, set: &Positions, min: u8) -> Doc {
        let doc = self.positions(set);
        if strength(set) >= min {
            return doc;
        }
        Doc::concat([Doc::text("("), doc, Doc::text(")")])
    }
}

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;

fn strength(set: &Positions) -> u8 {
    match &set.kind {
        PositionsKind::Or(..) => OR,
        PositionsKind::And(..) => AND,
        PositionsKind::Not(..) => NOT,
        _ => NOT + 1,
    }
}
