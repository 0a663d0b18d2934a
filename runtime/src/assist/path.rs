//! Dotted names such as `blocks[3].attn.q`, by their tokens.

use super::model::{ModelFacts, SiteFacts};
use super::place::Place;
use steer_lang::{Token, TokenKind};

/// A name with its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dotted<'t> {
    /// Each with what stands in brackets behind it.
    pub parts: Vec<(&'t str, Option<&'t str>)>,
    pub start: usize,
    pub end: usize,
}

impl<'t> Dotted<'t> {
    /// The dotted name that begins at a token, up to (not including) the token `end`.
    pub fn read(text: &'t str, tokens: &[Token], from: usize, end: usize) -> Option<Dotted<'t>> {
        let word = |n: usize| &text[tokens[n].start..tokens[n].end];
        let mut parts = Vec::new();
        let mut n = from;
        let mut last = from;
        while n < end && tokens[n].kind == TokenKind::Word {
            let name = word(n);
            let mut index = None;
            last = n;
            let touches = |m: usize| m < end && tokens[m].start == tokens[m - 1].end;
            if touches(n + 1) && tokens[n + 1].kind == TokenKind::Open(b'[') {
                let close = closing(tokens, n + 1, end)?;
                // The index of a value's own axis is none of the name.
                if name == "blocks"
                    || parts.is_empty() && touches(close + 1) && tokens[close + 1].kind == TokenKind::Mark('.')
                {
                    index = Some(&text[tokens[n + 1].end..tokens[close].start]);
                    last = close;
                }
            }
            parts.push((name, index));
            let dot = last + 1;
            if !(touches(dot) && tokens[dot].kind == TokenKind::Mark('.') && touches(dot + 1)) {
                break;
            }
            n = dot + 1;
        }
        let (start, end) = (tokens.get(from)?.start, tokens.get(last)?.end);
        (!parts.is_empty()).then_some(Dotted { parts, start, end })
    }

    /// The parts behind the first, with dots between.
    pub fn rest(&self) -> String {
        self.parts.iter().skip(1).map(|(n, _)| *n).collect::<Vec<_>>().join(".")
    }

    /// All parts, with dots between.
    pub fn whole(&self) -> String {
        self.parts.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(".")
    }

    pub fn root(&self) -> &'t str {
        self.parts.first().map_or("", |(n, _)| n)
    }

    /// The block that the first part names by its number.
    pub fn layer(&self, model: &ModelFacts) -> Option<u32> {
        let index = self.parts.first()?.1?;
        model.layer(index.trim().parse().ok()?)
    }

    /// The site that this names; `block`: whether the first part stands for a block, whatever it is called.
    pub fn site<'m>(&self, model: &'m ModelFacts, block: bool) -> Option<&'m SiteFacts> {
        if block {
            let rest = self.rest();
            let layer = self.layer(model);
            return model.of_block(layer).into_iter().find(|s| s.name == rest);
        }
        let whole = self.whole();
        model.outside().find(|s| s.name == whole)
    }
}

/// The bracket that closes one.
pub fn closing(tokens: &[Token], open: usize, end: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (n, token) in tokens.iter().enumerate().take(end).skip(open) {
        match token.kind {
            TokenKind::Open(_) => depth += 1,
            TokenKind::Close(_) => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(n);
                }
            }
            _ => {}
        }
    }
    None
}

/// The first site that the item around a place is at.
pub fn site_of_item<'m>(place: &Place, model: &'m ModelFacts) -> Option<&'m SiteFacts> {
    let item = place.item?;
    let word = |n: usize| place.word(n);
    let at = match word(item) {
        "hook" | "patch" | "route" | "vector" | "tensor" => (item + 1..place.before).find(|n| word(*n) == "at"),
        _ => None,
    };
    // In a sweep an edit may have no name: its site follows the word.
    let first = at.map_or(item + 1, |n| n + 1);
    let dotted = Dotted::read(place.text, place.tokens, first, place.tokens.len())?;
    let block = dotted.root() == "blocks" || dotted.parts.len() > 1 && dotted.site(model, false).is_none();
    dotted.site(model, block)
}
