//! Scripts with colours and line numbers.

use super::Script;
use crate::draw::escape;
use std::fmt::Write;
use std::ops::Range;

/// Longer scripts are folded.
const OPEN: usize = 40;

/// The whole script, each line with a place that statements lead to.
pub(super) fn whole(out: &mut String, script: &Script) {
    let lines = script.text.lines().count();
    let open = if lines <= OPEN { " open=\"\"" } else { "" };
    let name = if script.name.is_empty() { "script" } else { &script.name };
    let _ = writeln!(out, "<details class=\"script\"{open}>\n<summary><span>{}</span></summary>", escape(name));
    out.push_str("<pre class=\"code numbered\">");
    let mut start = 0;
    for (i, line) in script.text.split_inclusive('\n').enumerate() {
        let end = start + line.trim_end_matches(['\n', '\r']).len();
        let _ = write!(out, "<span class=\"line\" id=\"L{}\">", i + 1);
        colored(out, script, start..end);
        out.push_str("</span>\n");
        start += line.len();
    }
    out.push_str("</pre>\n</details>\n");
}

/// A statement.
pub(super) struct Piece<'a> {
    script: &'a Script,
    range: Range<usize>,
    text: &'a str,
}

impl<'a> Piece<'a> {
    /// These bytes of a script without the spaces around them, where there is something else.
    pub fn of(script: &'a Script, range: &Range<usize>) -> Option<Self> {
        let text = script.text.get(range.clone())?;
        let begin = range.start + (text.len() - text.trim_start().len());
        let text = text.trim();
        (!text.is_empty()).then(|| Piece { script, range: begin..begin + text.len(), text })
    }

    fn first(&self) -> &'a str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Whether this is its first line, but for a bracket that opens there.
    pub fn begins_with(&self, title: &str) -> bool {
        self.first().trim_end_matches('{').trim_end() == title
    }

    /// Whether there is more than one line.
    pub fn has_more(&self) -> bool {
        self.text.lines().nth(1).is_some()
    }

    /// A link to where it stands in the script.
    fn place(&self) -> String {
        let line = self.script.text[..self.range.start].matches('\n').count() + 1;
        format!("<a class=\"place\" href=\"#L{line}\">line {line}</a>")
    }

    /// Its first line as a heading.
    pub fn heading(&self, out: &mut String) {
        let end = self.range.start + self.first().trim_end_matches('{').trim_end().len();
        let place = if self.has_more() { String::new() } else { self.place() };
        let _ = write!(out, "<h2 class=\"code\">{place}");
        colored(out, self.script, self.range.start..end);
        out.push_str("</h2>\n");
    }

    /// All of it.
    pub fn html(&self, out: &mut String) {
        let _ = write!(out, "<pre class=\"code\">{}", self.place());
        colored(out, self.script, self.range.clone());
        out.push_str("</pre>\n");
    }
}

/// A part of the script with its colours.
fn colored(out: &mut String, script: &Script, part: Range<usize>) {
    let mut at = part.start;
    let plain = |out: &mut String, range: Range<usize>| {
        out.push_str(&escape(script.text.get(range).unwrap_or_default()));
    };
    let first = script.shades.partition_point(|(r, _)| r.end <= part.start);
    for (range, shade) in &script.shades[first..] {
        let (from, to) = (range.start.max(at), range.end.min(part.end));
        if range.start >= part.end {
            break;
        }
        if from >= to {
            continue;
        }
        plain(out, at..from);
        let _ = write!(out, "<i class=\"{}\">", escape(shade));
        plain(out, from..to);
        out.push_str("</i>");
        at = to;
    }
    plain(out, at..part.end);
}
