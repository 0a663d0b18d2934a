//! Continuations of a prompt beside each other, with what differs from the first one.

use super::diff;
use crate::draw::escape;
use std::fmt::Write;

pub(super) fn draw(out: &mut String, prompt: &str, texts: &[(String, String)]) {
    out.push_str("<div class=\"texts\">\n");
    let rest = |text: &str| text.strip_prefix(prompt).map_or((false, text.to_string()), |r| (true, r.to_string()));
    let base = texts.first().map(|(_, text)| rest(text).1).unwrap_or_default();
    for (i, (with, text)) in texts.iter().enumerate() {
        let (begins, own) = rest(text);
        let same = i > 0 && own == base;
        let badge = if same { " <span class=\"same\">the same text</span>" } else { "" };
        let _ = write!(out, "<article>\n<h3>{}{badge}</h3>\n<p>", escape(with));
        if begins {
            let _ = write!(out, "<span class=\"prompt\">{}</span>", escape(prompt));
        }
        let parts = if i == 0 { vec![(own.as_str(), false)] } else { diff::against(&base, &own) };
        for (part, changed) in parts {
            // Spaces before a word are not marked.
            let word = part.trim_start();
            let _ = match changed {
                true => write!(out, "{}<mark>{}</mark>", escape(&part[..part.len() - word.len()]), escape(word)),
                false => write!(out, "{}", escape(part)),
            };
        }
        out.push_str("</p>\n</article>\n");
    }
    out.push_str("</div>\n");
}
