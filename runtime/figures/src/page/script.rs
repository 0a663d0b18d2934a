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

/// A statement, with a link to where it stands in the script.
pub(super) fn piece(out: &mut String, script: &Script, range: &Range<usize>) {
    let Some(text) = script.text.get(range.clone()) else { return };
    let begin = range.start + (text.len() - text.trim_start().len());
    let end = begin + text.trim().len();
    if begin >= end {
        return;
    }
    let line = script.text[..begin].matches('\n').count() + 1;
    let _ = write!(out, "<pre class=\"code\"><a class=\"place\" href=\"#L{line}\">line {line}</a>");
    colored(out, script, begin..end);
    out.push_str("</pre>\n");
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
