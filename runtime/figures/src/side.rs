//! An axis as plots show it: labels that can be read, names of entries, and groups of neighbours where there are too many.

use crate::frame::FrameAxis;
use crate::text::{number, visible, width};

/// One axis of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Side {
    pub name: String,
    /// Labels with everything visible that is in them.
    pub labels: Vec<String>,
    pub numbers: Option<Vec<f64>>,
    /// The labels are the numbers: some of them are enough.
    pub numeric: bool,
    /// Every label is another one, with no number behind it: it says by itself which entry is meant.
    plain: bool,
    /// How many entries of the table each entry here stands for.
    pub each: usize,
}

/// A label with its outer spaces and control characters visible.
pub(crate) fn shown(label: &str) -> String {
    if label.is_empty() {
        return "\"\"".into();
    }
    let inner = label.trim_matches(' ');
    let before = label.len() - label.trim_start_matches(' ').len();
    let after = label.len() - before - inner.len();
    let inner = visible(&inner.replace('\t', "⇥")).replace('\n', "⏎");
    format!("{}{inner}{}", "·".repeat(before), "·".repeat(after))
}

/// As much of a text as fits into so many columns of a terminal.
pub(crate) fn clip(text: &str, columns: usize) -> String {
    if width::of(text) <= columns {
        return text.to_string();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += width::of_char(c);
        if used > columns {
            break;
        }
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The same of the labels of one axis: where different ones would look the same, their ends are shown.
pub(crate) fn clip_all(labels: &[String], columns: usize) -> Vec<String> {
    let clipped: Vec<String> = labels.iter().map(|l| clip(l, columns)).collect();
    let same = |i: usize| (0..labels.len()).any(|j| clipped[i] == clipped[j] && labels[i] != labels[j]);
    (0..labels.len()).map(|i| if same(i) { end_of(&labels[i], columns) } else { clipped[i].clone() }).collect()
}

/// As much of the end of a text as fits into so many columns.
fn end_of(text: &str, columns: usize) -> String {
    let mut used = 1;
    let fits = |c: &char| {
        used += width::of_char(*c);
        used <= columns
    };
    let end: Vec<char> = text.chars().rev().take_while(fits).collect();
    std::iter::once('…').chain(end.into_iter().rev()).collect()
}

impl Side {
    pub(crate) fn of(axis: &FrameAxis) -> Side {
        let is_number = |(label, n): (&String, &f64)| label.parse::<f64>().is_ok_and(|x| x == *n);
        let numbers = axis.numbers.as_ref();
        let mut sorted: Vec<&String> = axis.labels.iter().collect();
        sorted.sort_unstable();
        let unique = sorted.windows(2).all(|w| w[0] != w[1]);
        let labelled = numbers.is_some_and(|n| axis.labels.iter().zip(n).all(is_number));
        Side {
            name: shown(&axis.name),
            labels: axis.labels.iter().map(|l| if labelled { tidy(l) } else { shown(l) }).collect(),
            numbers: axis.numbers.clone(),
            numeric: labelled,
            plain: unique && (labelled || numbers.is_none()),
            each: 1,
        }
    }

    /// Entries with names and nothing else.
    pub(crate) fn named(name: &str, labels: Vec<String>) -> Side {
        Side { name: name.into(), labels, numbers: None, numeric: false, plain: true, each: 1 }
    }

    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// The first entries only.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.labels.truncate(len);
        self.numbers.iter_mut().for_each(|n| n.truncate(len));
    }

    /// What one entry is called in a sentence: `layer 3`, `token 10 "·Mary"`.
    pub(crate) fn entry(&self, i: usize) -> String {
        let Some(label) = self.labels.get(i) else { return String::new() };
        let named = label.parse::<f64>().is_err();
        match (self.plain, self.each) {
            (_, 2..) => format!("{} {label} and on", self.name),
            (true, _) if named => format!("{} \"{label}\"", self.name),
            (true, _) => format!("{} {label}", self.name),
            (false, _) => {
                let place = self.numbers.as_ref().and_then(|n| n.get(i)).map_or(i.to_string(), |n| number(*n));
                format!("{} {place} \"{label}\"", self.name)
            }
        }
    }

    /// Labels that are numbers, go up, and so can be put on a scale.
    pub(crate) fn scale(&self) -> Option<&[f64]> {
        let numbers = self.numbers.as_deref().filter(|_| self.numeric)?;
        let rising = numbers.windows(2).all(|w| w[0] < w[1]) && numbers.iter().all(|x| x.is_finite());
        (rising && numbers.len() > 1).then_some(numbers)
    }

    /// Every `each` neighbours as one entry, called by the first one's number, or its place where it has none.
    pub(crate) fn grouped(&self, each: usize) -> Side {
        if each <= 1 {
            return self.clone();
        }
        let firsts: Vec<usize> = (0..self.len()).step_by(each).collect();
        let place = |i: &usize| self.numbers.as_ref().map_or((i * self.each) as f64, |n| n[*i]);
        let numbers: Vec<f64> = firsts.iter().map(place).collect();
        let label = |(i, n): (&usize, &f64)| if self.numeric { self.labels[*i].clone() } else { number(*n) };
        let labels = firsts.iter().zip(&numbers).map(label).collect();
        Side {
            name: self.name.clone(),
            labels,
            numbers: Some(numbers),
            numeric: true,
            plain: self.plain,
            each: self.each * each,
        }
    }
}

/// A number's label without digits that nobody reads, such as those of `0.30000000000000004`.
fn tidy(label: &str) -> String {
    match label.parse::<f64>() {
        Ok(x) if label.len() > 8 => number(x),
        _ => label.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_label_can_be_seen() {
        assert_eq!(shown(" Mary"), "·Mary");
        assert_eq!(shown("  a b "), "··a b·");
        assert_eq!(shown("\n\t\u{1b}[2J"), "⏎⇥␛[2J");
        assert_eq!(shown(""), "\"\"");
        assert_eq!(shown("   "), "···");
        assert_eq!(clip("abcdef", 4), "abc…");
        let labels = ["mean of x", "mean of x with y", "other"].map(String::from);
        assert_eq!(clip_all(&labels, 7), ["…n of x", "…with y", "other"]);
        assert_eq!(clip("你好你好", 5), "你好…");
        assert_eq!(clip("abc", 0), "");
    }

    #[test]
    fn entries_have_names() {
        let layers = Side::of(&FrameAxis::of_numbers("layer", [0.0, 1.0, 2.0]));
        assert_eq!(layers.entry(1), "layer 1");
        assert!(layers.scale().is_some());
        let tokens = Side::of(&FrameAxis::new("token", [" a", " b", " a"]));
        assert_eq!(tokens.entry(2), "token 2 \"·a\"");
        assert_eq!(tokens.grouped(2).entry(1), "token 2 and on");
        let counted = FrameAxis { numbers: Some(vec![10.0, 11.0]), ..FrameAxis::new("token", [" a", " b"]) };
        assert_eq!(Side::of(&counted).entry(1), "token 11 \"·b\"");
        assert!(Side::of(&counted).scale().is_none());
        assert_eq!(Side::of(&counted).grouped(2).labels, ["10"]);
        let heads = Side::of(&FrameAxis::new("prompt", ["clean", "corrupt"]));
        assert_eq!(heads.entry(0), "prompt \"clean\"");
        assert_eq!(heads.entry(7), "");
        assert_eq!(Side::of(&FrameAxis::of_numbers("alpha", [0.1 + 0.2])).labels, ["0.3000"]);
    }
}
