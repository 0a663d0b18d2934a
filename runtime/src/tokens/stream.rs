//! Text as its tokens come, never a character too early.

use super::Tokens;
use crate::error::Error;

/// Tokens that are decoded again with each new one, at least, for what depends on neighbours.
const CONTEXT: usize = 16;

/// What stands for bytes that are not yet a character.
const INCOMPLETE: char = char::REPLACEMENT_CHARACTER;

/// Decodes a sequence token by token. What `push` and `finish` return, joined, is the text that the new
/// tokens add to the sequence before them.
pub struct Stream<'a> {
    tokens: &'a Tokens,
    /// The tail of the sequence.
    ids: Vec<u32>,
    /// The text of `ids`, as far as it has been printed.
    printed: String,
    /// Lengths of `ids` at which all text was complete: only there may the tail be cut.
    complete: Vec<usize>,
}

impl<'a> Stream<'a> {
    /// A stream after the sequence `before`, the prompt.
    pub fn new(tokens: &'a Tokens, before: &[u32]) -> Result<Self, Error> {
        let mut printed = tokens.decode(before)?;
        let complete = if printed.ends_with(INCOMPLETE) { Vec::new() } else { vec![before.len()] };
        printed.truncate(printed.trim_end_matches(INCOMPLETE).len());
        Ok(Stream { tokens, ids: before.to_vec(), printed, complete })
    }

    /// Takes one more token, and returns the text that is now certain.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, Error> {
        self.ids.push(id);
        let mut text = self.tokens.decode(&self.ids)?;
        let all = text.len();
        // A token may end a character and begin another, whose other bytes come later.
        text.truncate(text.trim_end_matches(INCOMPLETE).len());
        let complete = text.len() == all;
        // Bytes that stand for themselves are decoded all together: until the last is there, none of them is a character.
        if !complete && !text.starts_with(&self.printed) {
            return Ok(None);
        }
        let new = self.added(&text);
        self.printed = text;
        if complete {
            self.complete.push(self.ids.len());
            self.shorten()?;
        }
        Ok((!new.is_empty()).then_some(new))
    }

    /// What is left when no more tokens come, incomplete characters included.
    pub fn finish(self) -> Result<String, Error> {
        let text = self.tokens.decode(&self.ids)?;
        Ok(self.added(&text))
    }

    /// Forgets the part of the tail that nothing new can depend on; all of its text has been printed.
    fn shorten(&mut self) -> Result<(), Error> {
        let last = self.ids.len().saturating_sub(CONTEXT);
        let cut = self.complete.iter().copied().take_while(|n| *n <= last).last().unwrap_or(0);
        if cut < CONTEXT {
            return Ok(());
        }
        self.ids.drain(..cut);
        self.complete.retain(|n| *n > cut);
        self.complete.iter_mut().for_each(|n| *n -= cut);
        self.printed = self.tokens.decode(&self.ids)?;
        Ok(())
    }

    /// What `text` has beyond what was printed.
    fn added(&self, text: &str) -> String {
        match text.strip_prefix(&self.printed) {
            Some(new) => new.to_string(),
            // A decoder that changes earlier text, such as a space before punctuation: what is out is out.
            None => text.chars().skip(self.printed.chars().count()).collect(),
        }
    }
}
