//! Which rows of a sequence a selection means.

use super::chat::{ASSISTANT, Content, Turn};
use super::slotted::{field, fill};
use serde_json::Value as Json;

/// The fields of an example of a data set.
pub type Fields = serde_json::Map<String, Json>;

/// A set of rows, resolved but for the sequence that it is asked of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowSet {
    All,
    Prompt(Option<Vec<Interval>>),
    Generated(Option<Vec<Interval>>),
    Seq(Vec<Interval>),
    /// Leading special tokens.
    Bos,
    /// Rows after the last token of the first occurrence. Slots such as `{subject}` stand for fields of the example.
    After(String),
    /// The tokens of every occurrence in the prompt; of one that generated text completes, the row that does.
    Matching(String),
    /// Some of the rows of the prompt that a set selects, counted among them.
    Part(Box<RowSet>, Vec<Interval>),
    /// The words of the messages of a role; what is generated is the assistant's.
    Role(String),
    /// One a token; rows beyond it are not selected.
    Mask(Vec<bool>),
    Or(Box<RowSet>, Box<RowSet>),
    And(Box<RowSet>, Box<RowSet>),
    Not(Box<RowSet>),
}

/// Positions, negative ones from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interval {
    At(i64),
    /// Ends exclusive; `None` is open.
    Range(Option<i64>, Option<i64>),
}

/// Which row of another run belongs to each row of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Alignment {
    /// The one at the same position.
    #[default]
    Index,
    /// The one as far from the end.
    End,
    /// Equal tokens in order, as many as possible (a longest common subsequence).
    Token,
    /// By position of the run; negative: none.
    Map(Vec<i64>),
}

impl Alignment {
    /// The donor's position for each token of a run.
    pub fn donors(&self, run: &[u32], donor: &[u32]) -> Vec<Option<usize>> {
        let (n, have) = (run.len(), donor.len());
        let within = |p: i64| usize::try_from(p).ok().filter(|p| *p < have);
        match self {
            Alignment::Index => (0..n).map(|i| within(i as i64)).collect(),
            Alignment::End => (0..n).map(|i| within(i as i64 + have as i64 - n as i64)).collect(),
            Alignment::Map(map) => (0..n).map(|i| map.get(i).and_then(|p| within(*p))).collect(),
            Alignment::Token => {
                let mut out = vec![None; n];
                for (i, j) in super::slots::common(run, donor) {
                    out[i] = Some(j);
                }
                out
            }
        }
    }
}

/// The position in a sequence of `have` tokens that belongs to one in a sequence of `len`: the same, or the one as
/// far from the end.
pub fn partner(position: usize, len: usize, have: usize, by_end: bool) -> Option<usize> {
    let at = if by_end { (position + have).checked_sub(len)? } else { position };
    (at < have).then_some(at)
}

/// A sequence of tokens with the places of their texts.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    pub prompt: usize,
    pub len: usize,
    /// Leading special tokens.
    pub bos: usize,
    pub text: &'a str,
    /// Byte range of every token in `text`; empty for specials.
    pub ranges: &'a [(usize, usize)],
    /// The messages of a conversation; `None` of a plain text.
    pub turns: Option<&'a [Turn]>,
    /// The fields of the example that it is of.
    pub fields: Option<&'a Fields>,
}

/// What is wrong with a selection for a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Misfit {
    /// An exact position that the sequence does not have.
    Beyond { index: i64, len: usize, part: &'static str },
    /// A text that occurs nowhere.
    NoOccurrence(String),
    /// A role, in a plain text.
    NoRoles(String),
    /// A role that no message has.
    NoMessage(String),
    /// A role whose messages the chat template does not write.
    LeftOut(String),
    /// A role with a message whose words nobody can find in the text.
    Changed(String),
}

impl<'a> Sequence<'a> {
    /// The tokens that have a part in one of these byte ranges of the text.
    fn touching(&self, places: impl Iterator<Item = (usize, usize)>) -> Vec<bool> {
        let mut rows = vec![false; self.len];
        for (start, end) in places {
            for (row, &(a, b)) in rows.iter_mut().zip(self.ranges) {
                *row |= a < b && a < end && b > start;
            }
        }
        rows
    }

    /// The tokens of the occurrences of a text. A row is there before those behind it are generated, so an
    /// occurrence that ends in generated text selects only the row that completes it.
    fn occurrences(&self, text: &str) -> Vec<bool> {
        let prompt = self.prompt.min(self.len);
        let end_of_prompt = self.ranges.get(prompt).map_or(self.text.len(), |r| r.0);
        let places = self.text.match_indices(text).map(|(start, _)| (start, start + text.len()));
        let (inside, later): (Vec<_>, Vec<_>) = places.partition(|(_, end)| *end <= end_of_prompt);
        let mut rows = self.touching(inside.into_iter());
        for (_, end) in later {
            if let Some(last) = last_before(self, end) {
                rows[last] = true;
            }
        }
        rows
    }

    fn messages(&self, role: &str) -> impl Iterator<Item = &'a Turn> {
        self.turns.into_iter().flatten().filter(move |t| &*t.role == role)
    }

    /// Why the words of a role cannot be selected.
    fn lacks(&self, role: &str) -> Option<Misfit> {
        let is = |c: &Content| self.messages(role).any(|t| t.content == *c);
        let written = |t: &Turn| matches!(t.content, Content::At(_));
        match self.turns {
            None => Some(Misfit::NoRoles(role.into())),
            Some(_) if is(&Content::Changed) => Some(Misfit::Changed(role.into())),
            Some(_) if self.messages(role).any(written) => None,
            Some(_) if is(&Content::LeftOut) => Some(Misfit::LeftOut(role.into())),
            Some(_) => Some(Misfit::NoMessage(role.into())),
        }
    }
}

impl RowSet {
    /// These of its rows, or all.
    pub fn part(self, part: Option<Vec<Interval>>) -> RowSet {
        match part {
            Some(part) => RowSet::Part(Box::new(self), part),
            None => self,
        }
    }

    /// The set with the fields of an example in its slots; `None` where that changes nothing.
    pub fn filled(&self, fields: &Fields) -> Option<RowSet> {
        let both = |a: &RowSet, b: &RowSet| match (a.filled(fields), b.filled(fields)) {
            (None, None) => None,
            (x, y) => Some((Box::new(x.unwrap_or_else(|| a.clone())), Box::new(y.unwrap_or_else(|| b.clone())))),
        };
        match self {
            RowSet::After(text) => with_fields(text, fields).map(RowSet::After),
            RowSet::Matching(text) => with_fields(text, fields).map(RowSet::Matching),
            RowSet::Part(of, part) => of.filled(fields).map(|of| RowSet::Part(Box::new(of), part.clone())),
            RowSet::Or(a, b) => both(a, b).map(|(a, b)| RowSet::Or(a, b)),
            RowSet::And(a, b) => both(a, b).map(|(a, b)| RowSet::And(a, b)),
            RowSet::Not(a) => a.filled(fields).map(|a| RowSet::Not(Box::new(a))),
            _ => None,
        }
    }

    /// For every position whether it is selected. That of a prompt's row follows from the prompt, that of a
    /// generated one from the sequence up to it.
    pub fn rows(&self, seq: &Sequence) -> Vec<bool> {
        let n = seq.len;
        if let Some(filled) = seq.fields.and_then(|f| self.filled(f)) {
            return filled.rows(&Sequence { fields: None, ..*seq });
        }
        match self {
            RowSet::All => vec![true; n],
            RowSet::Prompt(part) => within(part.as_deref(), 0, seq.prompt.min(n), n),
            RowSet::Generated(part) => within(part.as_deref(), seq.prompt.min(n), n, n),
            RowSet::Seq(part) => within(Some(part), 0, n, n),
            RowSet::Bos => (0..n).map(|i| i < seq.bos).collect(),
            RowSet::After(text) => {
                let end = seq.text.find(text.as_str()).map(|i| i + text.len());
                let last = end.and_then(|end| last_before(seq, end));
                (0..n).map(|i| last.is_some_and(|l| i > l)).collect()
            }
            RowSet::Matching(text) => seq.occurrences(text),
            RowSet::Part(of, part) => {
                let mut of = of.rows(seq);
                of[seq.prompt.min(n)..].fill(false);
                let count = of.iter().filter(|on| **on).count();
                let mut chosen = within(Some(part), 0, count, count).into_iter();
                of.iter_mut().filter(|on| **on).for_each(|on| *on = chosen.next().unwrap_or(false));
                of
            }
            RowSet::Role(role) => {
                let places = seq.messages(role).flat_map(|turn| match &turn.content {
                    Content::At(places) => places.as_slice(),
                    Content::LeftOut | Content::Changed => &[],
                });
                let mut rows = seq.touching(places.copied());
                if seq.turns.is_some() && role == ASSISTANT {
                    rows[seq.prompt.min(n)..].fill(true);
                }
                rows
            }
            RowSet::Mask(mask) => (0..n).map(|i| mask.get(i).copied().unwrap_or(false)).collect(),
            RowSet::Or(a, b) => a.rows(seq).into_iter().zip(b.rows(seq)).map(|(x, y)| x || y).collect(),
            RowSet::And(a, b) => a.rows(seq).into_iter().zip(b.rows(seq)).map(|(x, y)| x && y).collect(),
            RowSet::Not(a) => a.rows(seq).into_iter().map(|x| !x).collect(),
        }
    }

    /// What the sequence lacks. Generated rows are not asked for, since they come later.
    pub fn misfits(&self, seq: &Sequence, out: &mut Vec<Misfit>) {
        if let Some(filled) = seq.fields.and_then(|f| self.filled(f)) {
            return filled.misfits(&Sequence { fields: None, ..*seq }, out);
        }
        match self {
            RowSet::Prompt(Some(part)) => beyond(part, seq.prompt, "prompt", out),
            RowSet::Seq(part) => beyond(part, seq.len, "sequence", out),
            RowSet::Matching(text) | RowSet::After(text) if !seq.text.contains(text.as_str()) => {
                out.push(Misfit::NoOccurrence(text.clone()));
            }
            RowSet::Part(of, part) => {
                let known = out.len();
                of.misfits(seq, out);
                let count = of.rows(seq).iter().take(seq.prompt).filter(|on| **on).count();
                if out.len() == known {
                    beyond(part, count, "selected rows", out);
                }
            }
            RowSet::Role(role) => out.extend(seq.lacks(role)),
            RowSet::Or(a, b) | RowSet::And(a, b) => {
                a.misfits(seq, out);
                b.misfits(seq, out);
            }
            RowSet::Not(a) => a.misfits(seq, out),
            _ => {}
        }
    }

    /// Whether rows that are generated after a prompt of so many tokens can belong to it.
    pub fn may_generate(&self, prompt: usize) -> bool {
        let reaches = |i: &Interval| match *i {
            Interval::At(i) => i < 0 || i as usize >= prompt,
            Interval::Range(_, Some(end)) => end < 0 || end as usize > prompt,
            Interval::Range(_, None) => true,
        };
        match self {
            RowSet::All | RowSet::Generated(_) | RowSet::After(_) | RowSet::Matching(_) | RowSet::Not(_) => true,
            RowSet::Prompt(_) | RowSet::Bos | RowSet::Part(..) => false,
            RowSet::Role(role) => role == ASSISTANT,
            RowSet::Seq(part) => part.iter().any(reaches),
            RowSet::Mask(mask) => mask.iter().skip(prompt).any(|m| *m),
            RowSet::Or(a, b) => a.may_generate(prompt) || b.may_generate(prompt),
            RowSet::And(a, b) => a.may_generate(prompt) && b.may_generate(prompt),
        }
    }

    /// Whether all of it is counted from the end.
    pub fn from_the_end(&self) -> bool {
        match self {
            RowSet::Seq(part) | RowSet::Prompt(Some(part)) => part.iter().all(|i| match *i {
                Interval::At(i) => i < 0,
                Interval::Range(a, b) => a.is_some_and(|a| a < 0) && b.is_none_or(|b| b < 0),
            }),
            _ => false,
        }
    }

    /// Whether it counts from the end of a sequence, which is not known while it grows.
    pub fn counts_from_end(&self) -> bool {
        let negative = |part: &[Interval]| {
            part.iter().any(|i| match *i {
                Interval::At(i) => i < 0,
                Interval::Range(a, b) => a.is_some_and(|x| x < 0) || b.is_some_and(|x| x < 0),
            })
        };
        match self {
            RowSet::Seq(part) | RowSet::Generated(Some(part)) => negative(part),
            RowSet::Or(a, b) | RowSet::And(a, b) => a.counts_from_end() || b.counts_from_end(),
            RowSet::Not(a) => a.counts_from_end(),
            _ => false,
        }
    }
}

/// Exact positions that a part does not have.
fn beyond(part: &[Interval], len: usize, name: &'static str, out: &mut Vec<Misfit>) {
    for i in part {
        if let Interval::At(index) = *i {
            let real = if index < 0 { index + len as i64 } else { index };
            if real < 0 || real >= len as i64 {
                out.push(Misfit::Beyond { index, len, part: name });
            }
        }
    }
}

/// A text with fields of an example in its slots; `None` where it has none of them.
fn with_fields(text: &str, fields: &Fields) -> Option<String> {
    let mut any = false;
    let out = fill(text, |name| {
        let found = field(fields, name);
        any |= found.is_some();
        found
    });
    any.then_some(out)
}

fn within(part: Option<&[Interval]>, start: usize, end: usize, n: usize) -> Vec<bool> {
    let len = end.saturating_sub(start) as i64;
    let from_end = |i: i64| if i < 0 { i + len } else { i };
    let mut rows = vec![false; n];
    let mut mark = |a: i64, b: i64| {
        for i in a.max(0)..b.min(len) {
            rows[start + i as usize] = true;
        }
    };
    match part {
        None => mark(0, len),
        Some(part) => {
            for i in part {
                match *i {
                    Interval::At(i) => {
                        let i = from_end(i);
                        if i >= 0 {
                            mark(i, i + 1);
                        }
                    }
                    Interval::Range(a, b) => mark(a.map_or(0, from_end), b.map_or(len, from_end)),
                }
            }
        }
    }
    rows
}

/// The last token that begins before a place in the text.
fn last_before(seq: &Sequence, end: usize) -> Option<usize> {
    seq.ranges.iter().rposition(|&(a, b)| a < b && a < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq<'a>(text: &'a str, ranges: &'a [(usize, usize)], prompt: usize) -> Sequence<'a> {
        Sequence { prompt, len: ranges.len(), bos: 1, text, ranges, turns: None, fields: None }
    }

    #[test]
    fn rows_of_each_kind() {
        let ranges = [(0, 0), (0, 1), (1, 3), (3, 4), (4, 6)];
        let s = seq("a b. c", &ranges, 4);
        let rows =
            |set: RowSet| set.rows(&s).iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(rows(RowSet::All), [0, 1, 2, 3, 4]);
        assert_eq!(rows(RowSet::Prompt(Some(vec![Interval::At(-1)]))), [3]);
        assert_eq!(rows(RowSet::Generated(None)), [4]);
        assert_eq!(rows(RowSet::Seq(vec![Interval::Range(Some(1), Some(3))])), [1, 2]);
        assert_eq!(rows(RowSet::Bos), [0]);
        assert_eq!(rows(RowSet::After(".".into())), [4]);
        assert_eq!(rows(RowSet::Matching("b".into())), [2]);
        assert_eq!(rows(RowSet::Not(Box::new(RowSet::Prompt(None)))), [4]);
    }

    #[test]
    fn what_is_generated_changes_no_earlier_row() {
        // `#Abé Abé Ab`: a special token, then `A`, `b`, both bytes of `é`; the same again, generated in part.
        let text = "Ab\u{e9} Ab\u{e9} Ab";
        let ranges = [(0, 0), (0, 1), (1, 2), (2, 4), (2, 4), (4, 6), (6, 7), (7, 7), (7, 9), (9, 11), (11, 12)];
        let sets = ["Ab\u{e9}", "b\u{e9} A", "\u{e9}", " Ab", "A"].map(|t| t.to_owned());
        let sets = sets.iter().flat_map(|t| [RowSet::Matching(t.clone()), RowSet::After(t.clone())]);
        for set in sets.flat_map(|s| [RowSet::Not(Box::new(s.clone())), s]) {
            for prompt in 5..=ranges.len() {
                let until = |len: usize| Sequence { len, ..seq(&text[..ranges[len - 1].1], &ranges[..len], prompt) };
                let whole = set.rows(&until(ranges.len()));
                for len in prompt..ranges.len() {
                    assert_eq!(set.rows(&until(len)), whole[..len], "{set:?}, a prompt of {prompt}, {len} rows");
                }
            }
        }
        let rows = |text: &str, prompt: usize| {
            let rows = RowSet::Matching(text.into()).rows(&seq("Ab\u{e9} Ab\u{e9} Ab", &ranges, prompt));
            rows.iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| i).collect::<Vec<_>>()
        };
        assert_eq!(rows("Ab\u{e9}", 11), [1, 2, 3, 4, 5, 6, 8]);
        assert_eq!(rows("Ab\u{e9}", 7), [1, 2, 3, 4, 8]);
        assert_eq!(rows("b\u{e9} A", 5), [5, 9]);
    }

    #[test]
    fn roles_are_the_words_of_messages() {
        // `#U: ab A: cd` with two more tokens generated; `b A` is one token.
        let ranges = [(0, 1), (1, 4), (4, 5), (5, 8), (8, 10), (10, 12), (12, 13), (13, 13)];
        let turn = |role: &str, content: Content| Turn { role: role.into(), content };
        let turns = [
            turn("system", Content::LeftOut),
            turn("user", Content::At(vec![(4, 6)])),
            turn("assistant", Content::At(vec![(10, 12)])),
            turn("tool", Content::Changed),
        ];
        let s = Sequence { turns: Some(&turns), ..seq("#U: ab A: cdx", &ranges, 6) };
        let role = |r: &str| RowSet::Role(r.into());
        let rows =
            |set: RowSet| set.rows(&s).iter().enumerate().filter(|(_, b)| **b).map(|(i, _)| i).collect::<Vec<_>>();
        assert_eq!(rows(role("user")), [2, 3]);
        assert_eq!(rows(role("assistant")), [5, 6, 7]);
        assert!(rows(role("system")).is_empty());
        let misfits = |set: RowSet, s: &Sequence| {
            let mut out = Vec::new();
            set.misfits(s, &mut out);
            out
        };
        assert_eq!(misfits(role("user"), &s), []);
        assert_eq!(misfits(role("system"), &s), [Misfit::LeftOut("system".into())]);
        assert_eq!(misfits(RowSet::Not(Box::new(role("tool"))), &s), [Misfit::Changed("tool".into())]);
        assert_eq!(misfits(role("usr"), &s), [Misfit::NoMessage("usr".into())]);
        assert_eq!(misfits(role("user"), &seq("ab", &[(0, 2)], 1)), [Misfit::NoRoles("user".into())]);
        assert!(role("assistant").may_generate(6) && !role("user").may_generate(6));
    }

    #[test]
    fn an_index_beyond_the_prompt_is_a_misfit() {
        let ranges = [(0, 1), (1, 2)];
        let s = seq("ab", &ranges, 2);
        let mut out = Vec::new();
        RowSet::Prompt(Some(vec![Interval::At(2), Interval::At(-2)])).misfits(&s, &mut out);
        assert_eq!(out, [Misfit::Beyond { index: 2, len: 2, part: "prompt" }]);
    }

    #[test]
    fn what_can_be_generated_later() {
        let seq = |i| RowSet::Seq(vec![i]);
        assert!(!seq(Interval::At(1)).may_generate(2));
        assert!(seq(Interval::At(2)).may_generate(2));
        assert!(seq(Interval::At(-1)).may_generate(2));
        assert!(!seq(Interval::Range(Some(0), Some(2))).may_generate(2));
        assert!(seq(Interval::Range(Some(0), Some(3))).may_generate(2));
        assert!(seq(Interval::Range(Some(0), None)).may_generate(2));
        assert!(!RowSet::Mask(vec![true, true]).may_generate(2));
    }
}
