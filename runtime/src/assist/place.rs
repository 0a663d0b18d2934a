//! Where in a script a place is, by the tokens before it: also in a text that does not parse.

use steer_lang::ast::Verb;
use steer_lang::keywords::{DECLARATIONS, wants_more};
use steer_lang::{Token, TokenKind, pieces};

/// What an open bracket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Arguments of a call, or parameters of a declaration.
    Arguments,
    /// An index of a value or a site.
    Index,
    /// Anything else in `( )` and `[ ]`.
    Group,
    /// Edits and a `measure`.
    Sweep,
    /// Statements.
    Body,
    /// `{ max: 30 }`
    Options,
}

/// A bracket that is open at the place.
#[derive(Clone, Copy, Debug)]
pub struct Open<'t> {
    pub holds: Holds,
    /// What stands directly before it: `blocks`, `h`, the name of a function.
    pub head: &'t str,
    /// Its own number among the tokens.
    pub token: usize,
    /// The item and its last word outside of brackets, where it opens.
    item: usize,
    clause: &'t str,
}

/// A place of a text.
#[derive(Debug)]
pub struct Place<'t> {
    pub text: &'t str,
    /// All tokens of the text.
    pub tokens: &'t [Token],
    /// How many of them stand before what is being typed.
    pub before: usize,
    /// Where the word that is being typed begins, and where the place is.
    pub from: usize,
    pub at: usize,
    /// The number of the token that begins the item; of a sweep's body the one inside. `None` where a new one begins.
    pub item: Option<usize>,
    /// The last word of the item that says what follows: `at`, `on`, `with`, or the item's own.
    pub clause: &'t str,
    pub open: Vec<Open<'t>>,
    /// Nothing stands before it on its line.
    pub fresh: bool,
    /// It is inside of a text, which begins here.
    pub quoted: Option<usize>,
}

impl<'t> Place<'t> {
    /// `None` in a comment.
    pub fn find(text: &'t str, tokens: &'t [Token], comments: &[steer_lang::Comment], at: usize) -> Option<Place<'t>> {
        if comments.iter().any(|c| c.start < at && at <= line_end(text, c.start)) {
            return None;
        }
        let after = tokens.partition_point(|t| t.end < at);
        let touching = tokens.get(after).filter(|t| t.start < at);
        let (before, from, quoted) = match touching {
            Some(t) if matches!(t.kind, TokenKind::Text { closed } if at < t.end || !closed) => {
                (after, at, Some(t.start))
            }
            Some(t) if matches!(t.kind, TokenKind::Word | TokenKind::Number) => (after, t.start, None),
            Some(t) if t.end == at => (after + 1, at, None),
            Some(_) => (after, at, None),
            None => (after, at, None),
        };
        let line = text[..from].rfind('\n').map_or(0, |n| n + 1);
        let fresh = quoted.is_none() && text[line..from].trim().is_empty();
        let pieces = pieces(text, tokens);
        // Where the word that is typed itself begins an item, nothing before it matters.
        let own = quoted.is_none() && from < at && pieces.iter().any(|p| p.start == before);
        let begins = pieces.iter().rev().map(|p| p.start).find(|start| *start < before).filter(|_| !own);
        let mut place =
            Place { text, tokens, before, from, at, item: None, clause: "", open: Vec::new(), fresh, quoted };
        if let Some(begins) = begins {
            place.scan(begins);
        }
        Some(place)
    }

    /// The text of a token.
    pub fn word(&self, token: usize) -> &'t str {
        self.tokens.get(token).map_or("", |t| &self.text[t.start..t.end])
    }

    /// The word that begins the item.
    pub fn declaration(&self) -> &'t str {
        self.item.map_or("", |i| self.word(i))
    }

    /// The token before what is being typed.
    pub fn last(&self) -> Option<&'t Token> {
        self.before.checked_sub(1).and_then(|n| self.tokens.get(n))
    }

    /// The text of that token.
    pub fn last_word(&self) -> &'t str {
        self.before.checked_sub(1).map_or("", |n| self.word(n))
    }

    /// The bracket that was opened last.
    pub fn inner(&self) -> Option<&Open<'t>> {
        self.open.last()
    }

    /// Whether a value or name has ended before the place, so that a word which joins must follow.
    pub fn ended(&self) -> bool {
        let Some(last) = self.last() else { return false };
        let in_item = self.item.is_none_or(|i| self.before > i);
        in_item
            && match last.kind {
                TokenKind::Word => {
                    !(wants_more(self.last_word())
                        || last.first && self.is_verb(self.last_word())
                        || self.is_command(self.before - 1))
                }
                TokenKind::Number | TokenKind::Text { .. } | TokenKind::Close(_) => true,
                TokenKind::Open(_) | TokenKind::Mark(_) => false,
            }
    }

    /// Whether a token begins an input of a prompt that is no item of a script.
    fn is_command(&self, token: usize) -> bool {
        self.item == Some(token) && self.word(token) == "diff"
    }

    /// Whether a word says what a route does to experts, which follow.
    fn is_verb(&self, word: &str) -> bool {
        self.declaration() == "route" && Verb::ALL.iter().any(|v| v.word() == word)
    }

    /// Whether something stands before it on its line, if only spaces.
    pub fn indented(&self) -> bool {
        self.from > 0 && !self.text[..self.from].ends_with('\n')
    }

    /// Whether an item begins here.
    pub fn begins_item(&self) -> bool {
        self.fresh && self.open.last().is_none_or(|o| o.holds == Holds::Sweep)
    }

    /// Whether a statement of a body begins here.
    pub fn begins_statement(&self) -> bool {
        let opened = self.last().is_some_and(|t| t.kind == TokenKind::Open(b'{'));
        self.open.last().is_some_and(|o| o.holds == Holds::Body) && (self.fresh || opened)
    }

    /// The dotted name that what is being typed goes on with: `blocks[3].attn.` gives the tokens from `blocks` on, and
    /// where they begin.
    pub fn path(&self) -> Option<usize> {
        let mut at = self.before;
        let dot = |n: usize| self.tokens[n].kind == TokenKind::Mark('.');
        if at == 0 || !dot(at - 1) {
            return None;
        }
        // `..` is a range.
        if at >= 2 && dot(at - 2) {
            return None;
        }
        loop {
            // A dot; before it a name, maybe with an index.
            let mut name = at.checked_sub(2)?;
            if self.tokens[name].kind == TokenKind::Close(b']') {
                let mut depth = 1;
                while depth > 0 {
                    name = name.checked_sub(1)?;
                    match self.tokens[name].kind {
                        TokenKind::Close(b']') => depth += 1,
                        TokenKind::Open(b'[') => depth -= 1,
                        _ => {}
                    }
                }
                name = name.checked_sub(1)?;
            }
            if self.tokens[name].kind != TokenKind::Word {
                return None;
            }
            match name.checked_sub(1) {
                Some(d) if dot(d) && d + 1 == name && self.tokens[d].end == self.tokens[name].start => at = d + 1,
                _ => return Some(name),
            }
        }
    }

    /// The names that enclosing sweeps declare are in items around the one in hand: where each of these begins.
    pub fn around(&self) -> Vec<usize> {
        self.open.iter().filter(|o| o.holds == Holds::Sweep).map(|o| o.item).chain(self.item).collect()
    }

    fn scan(&mut self, begins: usize) {
        let mut item = begins;
        let mut clause = self.word(begins);
        for n in begins + 1..self.before {
            let token = self.tokens[n];
            let word = self.word(n);
            match token.kind {
                TokenKind::Word => {
                    let in_sweep = self.open.last().is_some_and(|o| o.holds == Holds::Sweep);
                    let own = self.open.iter().rev().take_while(|o| o.holds != Holds::Sweep).count() == 0;
                    let part = n > 0 && self.tokens[n - 1].kind == TokenKind::Mark('.');
                    if in_sweep && token.first && DECLARATIONS.contains(&word) {
                        (item, clause) = (n, word);
                    } else if own && !part && says_what_follows(word) {
                        clause = word;
                    }
                }
                TokenKind::Open(byte) => {
                    let holds = self.holds(n, byte, item);
                    let head = self.head(n);
                    self.open.push(Open { holds, head, token: n, item, clause });
                }
                TokenKind::Close(byte) => {
                    if let Some(at) = self.open.iter().rposition(|o| closes(self.word(o.token), byte)) {
                        (item, clause) = (self.open[at].item, self.open[at].clause);
                        self.open.truncate(at);
                    }
                }
                TokenKind::Mark('=') if self.open.iter().rev().take_while(|o| o.holds != Holds::Sweep).count() == 0 => {
                    clause = "=";
                }
                _ => {}
            }
        }
        self.item = Some(item);
        self.clause = clause;
    }

    /// The word that a bracket touches.
    fn head(&self, n: usize) -> &'t str {
        match n.checked_sub(1).map(|m| self.tokens[m]) {
            Some(t) if t.kind == TokenKind::Word && t.end == self.tokens[n].start => self.word(n - 1),
            _ => "",
        }
    }

    fn holds(&self, n: usize, byte: u8, item: usize) -> Holds {
        let touches = n.checked_sub(1).is_some_and(|m| {
            let t = self.tokens[m];
            t.end == self.tokens[n].start && matches!(t.kind, TokenKind::Word | TokenKind::Close(b']' | b')'))
        });
        match (byte, self.word(item)) {
            (b'(', _) if touches => Holds::Arguments,
            (b'[', _) if touches => Holds::Index,
            (b'(' | b'[', _) => Holds::Group,
            (_, "sweep") => Holds::Sweep,
            (_, "generate" | "top" | "plot" | "model") => Holds::Options,
            _ => Holds::Body,
        }
    }
}

fn says_what_follows(word: &str) -> bool {
    matches!(word, "at" | "on" | "over" | "with" | "from" | "of" | "to" | "in" | "by" | "as" | "normalized" | "under")
}

fn closes(open: &str, close: u8) -> bool {
    matches!((open, close), ("(", b')') | ("[", b']') | ("{", b'}'))
}

fn line_end(text: &str, from: usize) -> usize {
    text[from..].find('\n').map_or(text.len(), |n| from + n)
}
