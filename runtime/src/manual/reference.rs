//! The language reference, cut into what can be looked up: sections by their headings, rows of tables by what their
//! first cell names, and paragraphs by the word that they explain in bold.

use super::markdown::{Block, Inline, Row, Table, bare, parse, slug};
use super::{Entry, Kind};
use std::collections::BTreeSet;

/// The reference without its title and list of contents, and its entries.
pub(super) fn read(text: &str) -> (Vec<Block>, Vec<Entry>) {
    let mut blocks = parse(text);
    let first = blocks.iter().position(|b| matches!(b, Block::Heading { level: 2, .. })).unwrap_or(0);
    blocks.drain(..first);
    let mut index = Index::default();
    for i in 0..blocks.len() {
        let next = blocks.get(i + 1).filter(|b| matches!(b, Block::Table(_))).cloned();
        match &mut blocks[i] {
            Block::Heading { text, id, .. } => {
                index.section = bare(text);
                index.anchor = slug(&index.section);
                index.taken.insert(index.anchor.clone());
                *id = Some(index.anchor.clone());
            }
            Block::Table(table) => index.table(table),
            Block::Paragraph { text, id } => *id = index.paragraph(text, next),
            _ => {}
        }
    }
    let mut entries = index.entries;
    entries.extend(sections(&blocks));
    (blocks, entries)
}

/// A place on the page for a name in some part of it.
pub(super) fn anchor(part: &str, name: &str) -> String {
    let kept = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' });
    format!("{part}.{}", kept.collect::<String>())
}

/// Each section with those below it.
fn sections(blocks: &[Block]) -> Vec<Entry> {
    let mut out = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        let Block::Heading { level: level @ (2 | 3), text, id: Some(id) } = block else { continue };
        let rest = &blocks[i + 1..];
        let end = rest.iter().position(|b| matches!(b, Block::Heading { level: l, .. } if l <= level));
        let own = rest[..end.unwrap_or(rest.len())].to_vec();
        let opening =
            own.iter().find_map(|b| if let Block::Paragraph { text, .. } = b { Some(bare(text)) } else { None });
        out.push(Entry {
            kind: Kind::Section,
            name: bare(text),
            also: vec![id.clone()],
            place: "language reference".into(),
            summary: first_sentence(&opening.unwrap_or_default()),
            blocks: own,
            id: id.clone(),
        });
    }
    out
}

/// A text up to the end of its first sentence.
pub(super) fn first_sentence(text: &str) -> String {
    let end = text.match_indices(['.', ':']).map(|(at, _)| at + 1).find(|at| {
        let rest = &text[*at..];
        rest.starts_with(' ') && !rest.trim_start().starts_with(|c: char| c.is_ascii_digit())
    });
    let sentence = end.map_or(text, |e| &text[..e]);
    sentence.trim_end_matches(':').to_owned()
}

#[derive(Default)]
struct Index {
    entries: Vec<Entry>,
    /// The section that is being read, and its place.
    section: String,
    anchor: String,
    /// Places that are taken.
    taken: BTreeSet<String>,
}

impl Index {
    fn add(&mut self, names: Vec<String>, summary: String, blocks: Vec<Block>) -> Option<String> {
        let mut names = names.into_iter();
        let name = names.next()?;
        let mut id = anchor(&self.anchor, &name);
        while !self.taken.insert(id.clone()) {
            id.push('_');
        }
        self.entries.push(Entry {
            kind: Kind::Word,
            name,
            also: names.collect(),
            place: self.section.clone(),
            summary,
            blocks,
            id: id.clone(),
        });
        Some(id)
    }

    fn table(&mut self, table: &mut Table) {
        let operators = table.head.first().is_some_and(|h| bare(h) == "operator");
        let Table { number, head, rows } = table;
        for row in rows {
            let Some(first) = row.cells.first() else { continue };
            let names = if operators { symbols(first) } else { names(first) };
            let summary = row.cells.iter().skip(1).map(|c| bare(c)).filter(|c| !c.is_empty()).collect::<Vec<_>>();
            let own = Table { number: *number, head: head.clone(), rows: vec![Row { id: None, ..row.clone() }] };
            row.id = self.add(names, first_sentence(&summary.join("; ")), vec![Block::Table(own)]);
        }
    }

    /// A paragraph that explains a word in bold, with the table behind it.
    fn paragraph(&mut self, text: &[Inline], next: Option<Block>) -> Option<String> {
        let names: Vec<String> = text.iter().filter(|i| i.style.strong).map(|i| i.text.clone()).collect();
        let own = Block::paragraph(text.to_vec());
        self.add(names, first_sentence(&bare(text)), [own].into_iter().chain(next).collect())
    }
}

/// What the first cell of a row names: of each piece of code what it begins with, and words that are nothing but names.
/// A cell without code is itself a name.
fn names(cell: &[Inline]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for code in cell.iter().filter(|i| i.style.code).map(|i| i.text.trim()) {
        let words: Vec<&str> = code.split(' ').collect();
        let only_names = words.len() > 2 && words.iter().all(|w| is_name(w));
        let first = &code[..code.find(|c: char| !is_part(c)).unwrap_or(code.len())];
        let first = first.trim_end_matches(['.', '-']);
        let found = if only_names { words } else { vec![first] };
        for name in found {
            // One letter stands for anything, but for the names of a hook's value.
            if is_name(name.trim_start_matches("--"))
                && (name.len() > 1 || name == "h")
                && !out.iter().any(|n| n == name)
            {
                out.push(name.to_owned());
                // An option is looked up without its dashes, too: with them it would be one of `doc`.
                out.extend(name.strip_prefix("--").map(str::to_owned));
            }
        }
    }
    let text = bare(cell);
    if out.is_empty() && !cell.iter().any(|i| i.style.code) && text.len() > 2 {
        out.push(text);
    }
    out
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(is_part)
}

/// The operators of a cell.
fn symbols(cell: &[Inline]) -> Vec<String> {
    let codes = cell.iter().filter(|i| i.style.code).flat_map(|i| i.text.split_whitespace());
    let marks = codes.map(|w| w.trim_matches(|c: char| c.is_ascii_alphanumeric()).to_owned());
    marks.filter(|m| !m.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Title\n\n- [One](#one)\n\n## One\n\nA **thing** is this. More.\n\n| | |\n|---|---|\n\
                        | `hook` | `hook a at b`: an edit |\n| `exp log sin` | by element |\n| `a ?? b` | x |\n\
                        | `--model M` | y |\n| `resid.pre`, `resid.post` | z |\n| plain name | w |\n\n### Inner\n\ntext\n\n## Two\n";

    #[test]
    fn a_text_is_cut_into_entries() {
        let (blocks, entries) = read(TEXT);
        let all: Vec<(&str, Vec<&str>, &str)> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.also.iter().map(String::as_str).collect(), e.id.as_str()))
            .collect();
        let expected = [
            ("thing", vec![], "one.thing"),
            ("hook", vec![], "one.hook"),
            ("exp", vec!["log", "sin"], "one.exp"),
            ("--model", vec!["model"], "one.__model"),
            ("resid.pre", vec!["resid.post"], "one.resid.pre"),
            ("plain name", vec![], "one.plain_name"),
            ("One", vec!["one"], "one"),
            ("Inner", vec!["inner"], "inner"),
            ("Two", vec!["two"], "two"),
        ];
        assert_eq!(all, expected);
        assert_eq!(entries[0].summary, "A thing is this.");
        assert_eq!(entries[0].blocks.len(), 2, "the table behind it");
        assert_eq!(entries[6].blocks.len(), 4, "with what is below it");
        assert_eq!(blocks.len(), 6);
        assert_eq!(symbols(&[Inline::code("<  <=  =="), Inline::code("a ?? b")]), ["<", "<=", "==", "??"]);
    }
}
