//! Texts before which a generated text ends.

/// What of a text may be seen: a part of a stop text is held back until it is known not to become one.
#[derive(Clone, Debug, Default)]
pub struct Held {
    stops: Vec<String>,
    /// What is not seen yet.
    text: String,
}

impl Held {
    /// With the texts before which to end.
    pub fn new(stops: &[String]) -> Self {
        Held { stops: stops.to_vec(), text: String::new() }
    }

    /// Takes what comes, and returns what may be seen now and whether the text ends with it.
    pub fn push(&mut self, new: &str) -> (String, bool) {
        self.text.push_str(new);
        if let Some(at) = self.stops.iter().filter_map(|s| self.text.find(s.as_str())).min() {
            let mut seen = std::mem::take(&mut self.text);
            seen.truncate(at);
            return (seen, true);
        }
        let rest = self.text.split_off(self.text.len() - self.begun());
        (std::mem::replace(&mut self.text, rest), false)
    }

    /// What may be seen when nothing comes but this.
    pub fn end(&mut self, last: &str) -> String {
        let (mut seen, ends) = self.push(last);
        if !ends {
            seen.push_str(&std::mem::take(&mut self.text));
        }
        seen
    }

    /// The length of the longest end of the text with which a stop text begins.
    fn begun(&self) -> usize {
        let starts = self.text.char_indices().map(|(at, _)| &self.text[at..]);
        starts.filter(|end| self.stops.iter().any(|s| s.starts_with(*end))).map(str::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut held = Held::new(&stops.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let mut out = Vec::new();
        for piece in pieces {
            let (text, ends) = held.push(piece);
            out.push(text);
            if ends {
                return (out, true);
            }
        }
        out.push(held.end(""));
        (out, false)
    }

    #[test]
    fn no_part_of_a_stop_text_is_seen() {
        assert_eq!(
            seen(&["User:"], &["Yes", ".\n", "Us", "er", ": and"]),
            (["Yes", ".\n", "", "", ""].map(Into::into).into(), true)
        );
        assert_eq!(seen(&["\n\n"], &["a\n", "b", "\n\nc"]), (["a", "\nb", ""].map(Into::into).into(), true));
        // What only began like one comes after all.
        assert_eq!(seen(&["User:"], &["Us", "ual", "Use"]), (["", "Usual", "", "Use"].map(Into::into).into(), false));
        assert_eq!(seen(&["aab"], &["aa", "ab"]), (["", "a"].map(Into::into).into(), true));
        // The first one that is complete, wherever others begin.
        assert_eq!(seen(&["abcd", "c"], &["ab", "c"]), (["", "ab"].map(Into::into).into(), true));
        assert_eq!(seen(&["é\u{301}x"], &["e é", "\u{301}"]), (["e ", "", "é\u{301}"].map(Into::into).into(), false));
        assert_eq!(seen(&[], &["a", "b"]), (["a", "b", ""].map(Into::into).into(), false));
    }
}
