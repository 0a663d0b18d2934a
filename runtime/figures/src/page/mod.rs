//! An experiment as one HTML page that needs nothing else: no network, no files beside it.

mod diff;
mod script;
mod tables;
mod texts;

use crate::draw::escape;
use crate::figure::Figure;
use crate::frame::Frame;
use crate::text::Table;
use std::fmt::Write;
use std::ops::Range;

/// All that a page shows.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub title: String,
    /// A sentence or two under the title, such as the comment at the head of the script.
    pub about: String,
    pub script: Script,
    /// What it takes to run it again: model, backend, seed, versions.
    pub facts: Vec<(String, String)>,
    /// Warnings as they were printed.
    pub warnings: Vec<String>,
    pub sections: Vec<Section>,
}

/// A script with its colours.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Its file.
    pub name: String,
    pub text: String,
    /// What pieces of it are, in order: `keyword`, `call`, `number`, `text` or `comment`.
    pub shades: Vec<(Range<usize>, &'static str)>,
}

/// What one statement gave, or a part of the page with another heading.
#[derive(Clone, Debug, Default)]
pub struct Section {
    pub title: String,
    /// The statement: bytes of the script.
    pub source: Option<Range<usize>>,
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A sentence.
    Note(String),
    /// Text as it was printed.
    Printed(String),
    Table(Table),
    /// A table with axes.
    Frame(Frame),
    Plot(Figure),
    /// Continuations of one prompt (which is not a part of them), each with the edits that it stands under; the first is
    /// what others differ from.
    Texts {
        prompt: String,
        texts: Vec<(String, String)>,
    },
}

/// With so many sections a page begins with a list of them.
const LISTED: usize = 4;

impl Page {
    /// The page as HTML, every element closed, so that it is XML as well.
    pub fn html(&self) -> String {
        let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
        out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
        // Whatever a model wrote, nothing is loaded from anywhere.
        out.push_str(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'\"/>\n<meta name=\"color-scheme\" content=\"light dark\"/>\n",
        );
        let _ = writeln!(out, "<title>{}</title>", escape(&self.title));
        let _ = writeln!(out, "<style>\n{}</style>\n</head>\n<body>\n<main>", include_str!("style.css"));
        self.head(&mut out);
        if !self.script.text.is_empty() {
            script::whole(&mut out, &self.script);
        }
        for (i, section) in self.sections.iter().enumerate() {
            section.html(&mut out, i, &self.script);
        }
        let _ = writeln!(
            out,
            "</main>\n<div id=\"tip\" hidden=\"\"></div>\n<script>\n{}</script>",
            include_str!("page.js")
        );
        out.push_str("</body>\n</html>\n");
        out
    }

    fn head(&self, out: &mut String) {
        let _ = writeln!(out, "<header>\n<h1>{}</h1>", escape(&self.title));
        if !self.about.is_empty() {
            let _ = writeln!(out, "<p class=\"about\">{}</p>", escape(&self.about));
        }
        if !self.facts.is_empty() {
            out.push_str("<dl class=\"facts\">\n");
            for (name, value) in &self.facts {
                let class = if value.chars().count() > 30 { " class=\"long\"" } else { "" };
                let _ = writeln!(out, "<div{class}><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
            }
            out.push_str("</dl>\n");
        }
        out.push_str("</header>\n");
        if !self.warnings.is_empty() {
            let n = self.warnings.len();
            let title = if n == 1 { "One warning".to_string() } else { format!("{n} warnings") };
            let _ = writeln!(out, "<section class=\"warnings\">\n<h2>{title}</h2>");
            for text in &self.warnings {
                let _ = writeln!(out, "<pre>{}</pre>", escape(text.trim_matches('\n')));
            }
            out.push_str("</section>\n");
        }
        if self.sections.len() >= LISTED {
            out.push_str("<nav aria-label=\"Contents\"><ol>\n");
            for (i, s) in self.sections.iter().enumerate() {
                let _ = writeln!(out, "<li><a href=\"#s{i}\">{}</a></li>", escape(&s.title));
            }
            out.push_str("</ol></nav>\n");
        }
    }
}

impl Section {
    fn html(&self, out: &mut String, number: usize, script: &Script) {
        let _ = writeln!(out, "<section id=\"s{number}\">");
        let source = self.source.as_ref().and_then(|range| script::Piece::of(script, range));
        // A statement of one line is its own heading.
        match &source {
            Some(piece) if piece.begins_with(&self.title) => piece.heading(out),
            _ => {
                let _ = writeln!(out, "<h2>{}</h2>", escape(&self.title));
            }
        }
        match &source {
            Some(piece) if !piece.begins_with(&self.title) || piece.has_more() => piece.html(out),
            _ => {}
        }
        for block in &self.blocks {
            match block {
                Block::Note(text) => {
                    let _ = writeln!(out, "<p>{}</p>", escape(text));
                }
                Block::Printed(text) => {
                    let _ = writeln!(out, "<pre class=\"printed\">{}</pre>", escape(text.trim_end_matches('\n')));
                }
                Block::Table(table) => tables::table(out, table),
                Block::Frame(frame) => tables::frame(out, frame),
                Block::Plot(figure) => {
                    let title = figure.title();
                    let caption = if title.is_empty() || title == self.title { "" } else { title };
                    out.push_str("<figure>\n");
                    if !caption.is_empty() {
                        let _ = writeln!(out, "<figcaption>{}</figcaption>", escape(caption));
                    }
                    let _ = writeln!(out, "<div class=\"plot\">{}</div>\n</figure>", figure.inline());
                }
                Block::Texts { prompt, texts } => texts::draw(out, prompt, texts),
            }
        }
        out.push_str("</section>\n");
    }
}
