//! What the manual says under one name.

use super::markdown::{Block, Inline, Row, Table};
use super::terminal;
use super::{Entry, Kind, lines};
use steer_figures::Color;
use steer_figures::text::{width, wrap};

/// All that the manual says of something.
#[derive(Clone, Debug)]
pub struct Topic {
    /// As it was asked for.
    pub name: String,
    parts: Vec<Part>,
    /// Sections in which there is more.
    more: Vec<String>,
}

/// What one place says.
#[derive(Clone, Debug)]
struct Part {
    title: String,
    place: String,
    blocks: Vec<Block>,
}

impl Topic {
    /// What some entries say, one behind the other; rows of one table stand in one.
    pub(super) fn of(name: &str, entries: &[&Entry], more: Vec<String>) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        for e in entries {
            let row = match (e.kind, &e.blocks[..]) {
                (Kind::Word, [Block::Table(t)]) => t.rows.first().map(|r| (t.number, r.clone())),
                _ => None,
            };
            if let Some((number, row)) = row
                && let Some(part) = parts.last_mut()
                && let [Block::Table(t)] = &mut part.blocks[..]
                && t.number == number
            {
                t.rows.push(row);
                continue;
            }
            let title = match e.kind {
                Kind::Command => format!("steer {}", e.name),
                // A row has several names.
                Kind::Word => name.to_owned(),
                _ => e.name.clone(),
            };
            parts.push(Part { title, place: e.place.clone(), blocks: e.blocks.clone() });
        }
        Topic { name: name.into(), parts, more }
    }

    /// Several things by name, each with a sentence.
    pub(super) fn list(topic: &str, found: &[(&str, &Entry)]) -> Self {
        let row = |(name, e): &(&str, &Entry)| {
            let name = if e.kind == Kind::Section { Inline::plain(*name) } else { Inline::code(*name) };
            Row { cells: vec![vec![name], super::markdown::line(&e.summary)], id: None }
        };
        let table = Table { rows: found.iter().map(row).collect(), ..Table::default() };
        let place = "ask for one of them by its name".to_owned();
        let blocks = vec![Block::Table(table)];
        Topic { name: topic.into(), parts: vec![Part { title: topic.into(), place, blocks }], more: Vec::new() }
    }

    /// The text for a terminal of this width.
    pub fn text(&self, columns: usize, color: Color) -> String {
        let mut out = String::new();
        for part in &self.parts {
            if !out.is_empty() {
                out.push('\n');
            }
            let place = format!("({})", part.place);
            let fits = width::of(&part.title) + 1 + width::of(&place) <= columns;
            let within = |text: &str, style: fn(&str, Color) -> String| {
                wrap(text, columns).iter().map(|l| style(l, color)).collect::<Vec<_>>().join("\n")
            };
            let between = if fits { ' ' } else { '\n' };
            let (title, place) = (within(&part.title, lines::strong), within(&place, lines::faint));
            out.push_str(&format!("{title}{between}{place}\n\n"));
            out.push_str(&terminal::text(&part.blocks, columns, color));
        }
        if !self.more.is_empty() {
            let all: Vec<String> = self.more.iter().map(|m| format!("`{m}`")).collect();
            out.push('\n');
            for line in wrap(&format!("More under {}", all.join(", ")), columns) {
                out.push_str(&format!("{}\n", lines::faint(&line, color)));
            }
        }
        out
    }
}
