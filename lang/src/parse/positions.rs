//! Sites and positions.

use pest::iterators::Pair;

use super::{Build, Parts, Rule};
use crate::ast::{Expr, ExprKind, Ident, IndexItem, Positions, PositionsKind, Selection, SitePath, SiteSegment};

impl Build<'_> {
    pub(super) fn sites(&mut self, pair: Pair<Rule>) -> Vec<SitePath> {
        Parts::of(pair).map(|p| self.site(p)).collect()
    }

    pub(super) fn site(&mut self, pair: Pair<Rule>) -> SitePath {
        let span = self.span(&pair);
        let mut segments: Vec<SiteSegment> = Vec::new();
        for part in Parts::of(pair) {
            if part.as_rule() == Rule::foreign {
                let text = self.text(&Parts::of(part).need());
                let name = Ident { name: "site".into(), span };
                let at = Expr { kind: ExprKind::Text(text.value), span: text.span };
                segments.push(SiteSegment { name, index: Some(vec![IndexItem::At(at)]) });
            } else if part.as_rule() == Rule::site_index {
                let index = Some(self.index_items(part));
                if let Some(segment) = segments.last_mut() {
                    segment.index = index;
                }
            } else {
                segments.push(SiteSegment { name: self.ident(&part), index: None });
            }
        }
        SitePath { segments, span }
    }

    pub(super) fn index_items(&mut self, pair: Pair<Rule>) -> Vec<IndexItem> {
        Parts::of(pair).map(|p| self.index_item(p, 0)).collect()
    }

    /// The selection after `on` or `at`, if the item has one.
    pub(super) fn rows(&mut self, parts: &mut Parts, rule: Rule) -> Option<Selection> {
        let pair = Parts::of(parts.take_if(rule)?).need();
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let maybe = parts.take_if(Rule::maybe).is_some();
        Some(Selection { maybe, set: self.positions(parts.need(), 0), span })
    }

    fn positions(&mut self, pair: Pair<Rule>, depth: usize) -> Positions {
        self.joined(pair, depth, PositionsKind::Or)
    }

    /// Parts side by side, joined from the left.
    fn joined(
        &mut self,
        pair: Pair<Rule>,
        depth: usize,
        join: fn(Box<Positions>, Box<Positions>) -> PositionsKind,
    ) -> Positions {
        let span = self.span(&pair);
        let parts: Vec<_> = Parts::of(pair).collect();
        let depth = depth + parts.len();
        if !self.fits(depth, span) {
            return Positions { kind: PositionsKind::All, span };
        }
        let mut joined: Option<Positions> = None;
        for part in parts {
            let next = match part.as_rule() {
                Rule::pos_and => self.joined(part, depth, PositionsKind::And),
                _ => self.negated(part, depth),
            };
            joined = Some(match joined {
                None => next,
                Some(left) => {
                    let span = left.span.to(next.span);
                    Positions { kind: join(Box::new(left), Box::new(next)), span }
                }
            });
        }
        joined.expect("the grammar has a position here")
    }

    fn negated(&mut self, pair: Pair<Rule>, depth: usize) -> Positions {
        let span = self.span(&pair);
        let mut parts = Parts::of(pair);
        let mut bangs = Vec::new();
        while let Some(bang) = parts.take_if(Rule::bang) {
            bangs.push(self.span(&bang));
        }
        let depth = depth + bangs.len();
        if !self.fits(depth, span) {
            return Positions { kind: PositionsKind::All, span };
        }
        let mut set = self.atom(parts.need(), depth);
        for bang in bangs.into_iter().rev() {
            let span = bang.to(set.span);
            set = Positions { kind: PositionsKind::Not(Box::new(set)), span };
        }
        set
    }

    fn atom(&mut self, pair: Pair<Rule>, depth: usize) -> Positions {
        let span = self.span(&pair);
        let source = pair.as_str();
        let rule = pair.as_rule();
        let mut parts = Parts::of(pair);
        let kind = match rule {
            Rule::pos_paren => self.positions(parts.need(), depth).kind,
            Rule::pos_all => PositionsKind::All,
            Rule::pos_bos => PositionsKind::Bos,
            Rule::pos_text => {
                let text = self.text(&parts.need());
                let index = parts.next().map(|p| self.index_items(p));
                match source.starts_with("after") {
                    true => PositionsKind::After(text, index),
                    false => PositionsKind::Matching(text, index),
                }
            }
            Rule::pos_of => {
                let name = self.ident(&parts.need());
                if source.starts_with("role") { PositionsKind::Role(name) } else { PositionsKind::Mask(name) }
            }
            Rule::pos_rows => {
                let word = parts.need();
                let index = parts.next().map(|p| self.index_items(p));
                match word.as_str() {
                    "prompt" => PositionsKind::Prompt(index),
                    "generated" => PositionsKind::Generated(index),
                    _ => PositionsKind::Seq(index),
                }
            }
            Rule::pos_name => PositionsKind::Name(self.ident(&parts.need())),
            _ => PositionsKind::Seq(Some(self.index_items(parts.need()))),
        };
        Positions { kind, span }
    }
}
