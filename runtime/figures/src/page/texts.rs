//! Continuations of a prompt beside each other, with what differs from the first one.

use super::diff;
use crate::draw::escape;
use std::fmt::Write;

pub(super) fn draw(out: &mut String, prompt: &str, texts: &[(String, String)]) {
    out.push_str("<div class=\"texts\">\n");
    let base = texts.first().map_or("", |(_, text)| text.as_str());
    for (i, (with, text)) in texts.iter().enumerate() {
        let same = i > 0 && text == base;
        let badge = if same { " <span class=\"same\">the same text</span>" } else { "" };
        let (with, prompt) = (escape(with), escape(prompt));
        let _ = write!(out, "<article>\n<h3>{with}{badge}</h3>\n<p><span class=\"prompt\">{prompt}</span>");
        let parts = if i == 0 { vec![(text.as_str(), false)] } else { diff::against(base, text) };
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
