//! Markdown as a small tree, which becomes lines of a terminal or a page.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A piece of a line in one style.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inline {
    pub text: String,
    pub style: Style,
    /// Where it leads, as written: `#sites`.
    pub link: Option<String>,
}

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub code: bool,
    pub strong: bool,
    pub emphasis: bool,
}

/// A paragraph, a table, and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Heading { level: u8, text: Vec<Inline>, id: Option<String> },
    Paragraph { text: Vec<Inline>, id: Option<String> },
    Code { tag: String, text: String },
    Table(Table),
    List { ordered: bool, items: Vec<Vec<Block>> },
}

/// A table; its head may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Which table of its text it is, from 0.
    pub number: usize,
    pub head: Vec<Vec<Inline>>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub cells: Vec<Vec<Inline>>,
    pub id: Option<String>,
}

impl Inline {
    /// Text as it is.
    pub fn plain(text: impl Into<String>) -> Self {
        Inline { text: text.into(), ..Inline::default() }
    }

    /// A piece of code.
    pub fn code(text: impl Into<String>) -> Self {
        Inline { text: text.into(), style: Style { code: true, ..Style::default() }, link: None }
    }
}

impl Block {
    /// A paragraph of its own.
    pub fn paragraph(text: Vec<Inline>) -> Self {
        Block::Paragraph { text, id: None }
    }

    /// A piece of a script.
    pub fn script(text: impl Into<String>) -> Self {
        Block::Code { tag: "steer".into(), text: text.into() }
    }
}

/// The text of a line without its styles.
pub fn bare(text: &[Inline]) -> String {
    text.iter().map(|i| i.text.as_str()).collect()
}

/// The name under which a heading can be linked to, as GitHub makes it.
pub fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Parses a text. What this tree has no place for, as pictures and raw HTML, is left out.
pub fn parse(text: &str) -> Vec<Block> {
    let mut reader = Reader { events: Parser::new_ext(text, Options::ENABLE_TABLES), tables: 0 };
    reader.blocks(None)
}

/// A text of one paragraph, such as a doc comment's line.
pub fn line(text: &str) -> Vec<Inline> {
    let paragraphs = parse(text).into_iter().filter_map(|b| match b {
        Block::Paragraph { text, .. } => Some(text),
        _ => None,
    });
    paragraphs
        .reduce(|mut all, next| {
            all.push(Inline::plain(" "));
            all.extend(next);
            all
        })
        .unwrap_or_default()
}

struct Reader<'a> {
    events: Parser<'a>,
    tables: usize,
}

impl Reader<'_> {
    /// The blocks up to the end of `within`, or of the text.
    fn blocks(&mut self, within: Option<TagEnd>) -> Vec<Block> {
        let mut out = Vec::new();
        // Text that stands in an item of a tight list without a paragraph of its own.
        let mut loose: Vec<Inline> = Vec::new();
        while let Some(event) = self.events.next() {
            let block = match event {
                Event::End(end) if Some(end) == within => break,
                Event::Start(Tag::Heading { level, .. }) => {
                    Block::Heading { level: level as u8, text: self.inlines(TagEnd::Heading(level)), id: None }
                }
                Event::Start(Tag::Paragraph) => Block::paragraph(self.inlines(TagEnd::Paragraph)),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let tag = match kind {
                        CodeBlockKind::Fenced(tag) => tag.to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    Block::Code { tag, text: bare(&self.inlines(TagEnd::CodeBlock)) }
                }
                Event::Start(Tag::Table(_)) => Block::Table(self.table()),
                Event::Start(Tag::List(first)) => self.list(first.is_some()),
                other => {
                    self.inline(other, Style::default(), None, &mut loose);
                    continue;
                }
            };
            if !loose.is_empty() {
                out.push(Block::paragraph(std::mem::take(&mut loose)));
            }
            out.push(block);
        }
        if !loose.is_empty() {
            out.push(Block::paragraph(loose));
        }
        out
    }

    fn list(&mut self, ordered: bool) -> Block {
        let mut items = Vec::new();
        while let Some(event) = self.events.next() {
            match event {
                Event::Start(Tag::Item) => items.push(self.blocks(Some(TagEnd::Item))),
                Event::End(TagEnd::List(_)) => break,
                _ => {}
            }
        }
        Block::List { ordered, items }
    }

    fn table(&mut self) -> Table {
        let mut out = Table { number: self.tables, ..Table::default() };
        self.tables += 1;
        let mut head = true;
        let mut cells = Vec::new();
        while let Some(event) = self.events.next() {
            match event {
                Event::Start(Tag::TableCell) => cells.push(self.inlines(TagEnd::TableCell)),
                Event::End(TagEnd::TableHead) => {
                    out.head = std::mem::take(&mut cells);
                    head = false;
                }
                Event::End(TagEnd::TableRow) if !head => {
                    out.rows.push(Row { cells: std::mem::take(&mut cells), id: None });
                }
                Event::End(TagEnd::Table) => break,
                _ => {}
            }
        }
        out
    }

    /// What stands on lines up to the end of `within`.
    fn inlines(&mut self, within: TagEnd) -> Vec<Inline> {
        let mut out = Vec::new();
        while let Some(event) = self.events.next() {
            if event == Event::End(within) {
                break;
            }
            self.inline(event, Style::default(), None, &mut out);
        }
        out
    }

    fn inline(&mut self, event: Event, style: Style, link: Option<&str>, out: &mut Vec<Inline>) {
        let mut push = |text: &str, style: Style| {
            let link = link.map(str::to_owned);
            match out.last_mut() {
                Some(last) if last.style == style && last.link == link => last.text.push_str(text),
                _ => out.push(Inline { text: text.into(), style, link }),
            }
        };
        let (inner, end, leads) = match event {
            Event::Text(text) => return push(&text, style),
            Event::Code(text) => return push(&text, Style { code: true, ..style }),
            Event::SoftBreak | Event::HardBreak => return push(" ", style),
            Event::Start(Tag::Strong) => (Style { strong: true, ..style }, TagEnd::Strong, None),
            Event::Start(Tag::Emphasis) => (Style { emphasis: true, ..style }, TagEnd::Emphasis, None),
            Event::Start(Tag::Link { dest_url, .. }) => (style, TagEnd::Link, Some(dest_url.to_string())),
            _ => return,
        };
        let leads = leads.as_deref().or(link);
        while let Some(event) = self.events.next() {
            if event == Event::End(end) {
                break;
            }
            self.inline(event, inner, leads, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_a_tree() {
        let text = "# A `b`, c\n\nOne *two* **three**\n[four](#a-b-c) `five`.\n\n- x\n- y\n\n| | n |\n|---|---|\n| `a \\| b` | 1 |\n\n    code\n";
        let blocks = parse(text);
        let Block::Heading { level: 1, text, .. } = &blocks[0] else { panic!("{blocks:?}") };
        assert_eq!(slug(&bare(text)), "a-b-c");
        let Block::Paragraph { text, .. } = &blocks[1] else { panic!("{blocks:?}") };
        assert_eq!(bare(text), "One two three four five.");
        assert!(text.iter().any(|i| i.link.as_deref() == Some("#a-b-c") && i.text == "four"));
        assert!(text.iter().any(|i| i.style.strong && i.text == "three"));
        let Block::List { ordered: false, items } = &blocks[2] else { panic!("{blocks:?}") };
        assert_eq!(items.len(), 2);
        assert_eq!(items[1], [Block::paragraph(vec![Inline::plain("y")])]);
        let Block::Table(table) = &blocks[3] else { panic!("{blocks:?}") };
        assert_eq!(bare(&table.head[1]), "n");
        assert_eq!(table.rows[0].cells[0], [Inline::code("a | b")]);
        assert_eq!(blocks[4], Block::Code { tag: String::new(), text: "code\n".into() });
    }

    #[test]
    fn headings_are_linked_to_as_on_github() {
        assert_eq!(slug("Text, numbers, names"), "text-numbers-names");
        assert_eq!(slug("GGUF files"), "gguf-files");
        assert_eq!(slug("E0301: axes do not fit"), "e0301-axes-do-not-fit");
    }
}
