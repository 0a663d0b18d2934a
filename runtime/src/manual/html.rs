//! The manual as one page that needs nothing else: no network, no script, no file beside it.

use super::markdown::{Block, Inline, Row, Table, bare, line, slug};
use super::reference::anchor;
use super::{Entry, Kind, Manual, library};
use std::collections::BTreeMap;
use std::fmt::Write;
use steer_compiler::elaborate::{FunctionGroup as Group, STANDARD};
use steer_lang::highlight;

/// A part of the page: its heading, and places in it with their names.
struct Chapter {
    title: &'static str,
    id: &'static str,
    about: &'static str,
    body: String,
    contents: Vec<(String, String)>,
}

/// The whole page, every element closed, so that it is XML as well.
pub(super) fn page(manual: &Manual) -> String {
    let writer = Writer { known: known(manual) };
    let chapters = [
        writer.reference(manual),
        writer.functions(manual),
        writer.methods(manual),
        writer.sites(manual),
        writer.blocks(manual),
        writer.models(manual),
        writer.commands(manual),
        writer.codes(manual),
    ];
    let mut out = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
    out.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>The steer manual</title>\n",
    );
    let _ = writeln!(out, "<style>\n{}</style>\n</head>\n<body>", include_str!("style.css"));
    contents(&mut out, &chapters);
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(out, "<main>\n<header><h1>The steer manual</h1><p class=\"quiet\">steer {version}</p></header>");
    for c in &chapters {
        let _ = writeln!(out, "<section class=\"chapter\" id=\"{}\">\n<h1>{}</h1>", c.id, escape(c.title));
        if !c.about.is_empty() {
            let _ = writeln!(out, "<p>{}</p>", escape(c.about));
        }
        out.push_str(&c.body);
        out.push_str("</section>\n");
    }
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

/// The list at the side: chapters that fold, the first one open.
fn contents(out: &mut String, chapters: &[Chapter]) {
    out.push_str("<nav aria-label=\"Contents\">\n");
    for (i, c) in chapters.iter().enumerate() {
        let open = if i == 0 { " open=\"\"" } else { "" };
        let _ =
            writeln!(out, "<details{open}>\n<summary><a href=\"#{}\">{}</a></summary>\n<ul>", c.id, escape(c.title));
        for (name, id) in &c.contents {
            let _ = writeln!(out, "<li><a href=\"#{}\">{}</a></li>", escape(id), escape(name));
        }
        out.push_str("</ul>\n</details>\n");
    }
    out.push_str("</nav>\n");
}

/// What a piece of code that is nothing but a name leads to.
fn known(manual: &Manual) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    // Later ones count: a function of the library stands for the same name of a table.
    for kind in [Kind::Builtin, Kind::Block, Kind::Method, Kind::Site, Kind::Model, Kind::Code] {
        out.extend(manual.of(kind).map(|e| (e.name.clone(), e.id.clone())));
    }
    out.extend(manual.of(Kind::Command).map(|e| (format!("steer {}", e.name), e.id.clone())));
    // Names that are words of the language as well mean mostly that.
    ["route", "top", "index", "table", "load", "form", "steps", "rank", "total", "random"]
        .iter()
        .for_each(|w| drop(out.remove(*w)));
    out
}

struct Writer {
    known: BTreeMap<String, String>,
}

impl Writer {
    fn reference(&self, manual: &Manual) -> Chapter {
        let mut contents = Vec::new();
        for block in &manual.reference {
            if let Block::Heading { level: 2, text, id: Some(id) } = block {
                contents.push((bare(text), id.clone()));
            }
        }
        Chapter { title: "The language", id: "language", about: "", body: self.all(&manual.reference, ""), contents }
    }

    fn functions(&self, manual: &Manual) -> Chapter {
        let mut body = String::new();
        for group in Group::ALL {
            let id = slug(group.title());
            let _ = writeln!(body, "<h2 id=\"{id}\">{}</h2>", escape(group.title()));
            for e in manual.of(Kind::Builtin).filter(|e| e.place == group.title()) {
                self.article(&mut body, e, &e.name, &self.all(&e.blocks, &e.id));
            }
        }
        Chapter {
            title: "Functions",
            id: "functions-of-the-language",
            about: "The language's own functions. Those of the standard library follow.",
            body,
            contents: names(manual.of(Kind::Builtin)),
        }
    }

    fn methods(&self, manual: &Manual) -> Chapter {
        Chapter {
            title: "Methods",
            id: "methods-of-the-library",
            about: "Functions of stdlib/methods: what papers do, in the words of the language.",
            body: self.files(manual, Kind::Method),
            contents: names(manual.of(Kind::Method)),
        }
    }

    fn blocks(&self, manual: &Manual) -> Chapter {
        Chapter {
            title: "Blocks",
            id: "blocks-of-the-library",
            about: "Functions of stdlib/blocks, of which model files are put together, and those of the model files.",
            body: self.files(manual, Kind::Block),
            contents: names(manual.of(Kind::Block)),
        }
    }

    /// Functions of the library by their files, each file with the comment that it begins with.
    fn files(&self, manual: &Manual, kind: Kind) -> String {
        let mut out = String::new();
        for (file, text) in STANDARD {
            let mut own = manual.of(kind).filter(|e| e.place == *file).peekable();
            if own.peek().is_none() {
                continue;
            }
            let _ = writeln!(out, "<h2 id=\"{}\">{file}</h2>", anchor("file", file));
            let about: Vec<&str> = text.lines().map_while(|l| l.strip_prefix("# ")).collect();
            if !about.is_empty() {
                let _ = writeln!(out, "<p>{}</p>", self.inlines(&line(&about.join("\n")), ""));
            }
            own.for_each(|e| self.coded(&mut out, e, &e.name));
        }
        out
    }

    fn models(&self, manual: &Manual) -> Chapter {
        let mut body = String::new();
        for e in manual.of(Kind::Model) {
            self.coded(&mut body, e, &e.place);
        }
        let contents = manual.of(Kind::Model).map(|e| (library::stem(&e.place).to_owned(), e.id.clone())).collect();
        Chapter {
            title: "Model files",
            id: "architectures",
            about: "The architectures that are built in, each a text in the language.",
            body,
            contents,
        }
    }

    fn sites(&self, manual: &Manual) -> Chapter {
        let mut body = String::new();
        for e in manual.of(Kind::Site) {
            self.article(&mut body, e, &e.name, &self.all(&e.blocks, &e.id));
        }
        Chapter {
            title: "Sites",
            id: "sites-of-the-library",
            about: "What each site is, by the functions and model files that declare it. `steer sites` lists those of a \
                    model with their axes and sizes.",
            body,
            contents: names(manual.of(Kind::Site)),
        }
    }

    fn commands(&self, manual: &Manual) -> Chapter {
        let mut body = String::new();
        for e in manual.of(Kind::Command) {
            self.article(&mut body, e, &format!("steer {}", e.name), &self.all(&e.blocks, &e.id));
        }
        Chapter { title: "Subcommands", id: "subcommands", about: "", body, contents: names(manual.of(Kind::Command)) }
    }

    fn codes(&self, manual: &Manual) -> Chapter {
        let mut body = String::new();
        for e in manual.of(Kind::Code) {
            self.article(&mut body, e, &e.name, &self.all(&e.blocks, &e.id));
        }
        Chapter {
            title: "Diagnostics",
            id: "diagnostics",
            about: "Each begins with a stable code; `steer explain` prints the page of one.",
            body,
            contents: manual.of(Kind::Code).map(|e| (format!("{} {}", e.name, e.summary), e.id.clone())).collect(),
        }
    }

    /// An entry under a heading of its own.
    fn article(&self, out: &mut String, e: &Entry, title: &str, body: &str) {
        let _ = writeln!(
            out,
            "<article id=\"{0}\">\n<h3><a href=\"#{0}\">{1}</a></h3>\n{body}</article>",
            escape(&e.id),
            escape(title)
        );
    }

    /// An entry whose last block is its code, which is folded below its first line.
    fn coded(&self, out: &mut String, e: &Entry, title: &str) {
        let Some((Block::Code { tag, text }, doc)) = e.blocks.split_last() else {
            return self.article(out, e, title, &self.all(&e.blocks, &e.id));
        };
        let mut body = self.all(doc, &e.id);
        if text.trim_end().lines().count() == 1 {
            body.push_str(&self.one(&Block::Code { tag: tag.clone(), text: text.clone() }, &e.id));
        } else {
            let _ = writeln!(
                body,
                "<details class=\"source\"><summary><code>{}</code></summary>\n{}</details>",
                shaded(&head(text)),
                code(tag, text)
            );
        }
        self.article(out, e, title, &body);
    }

    /// Some blocks; nothing in them leads to where they are themselves.
    fn all(&self, blocks: &[Block], own: &str) -> String {
        blocks.iter().map(|b| self.one(b, own)).collect()
    }

    fn one(&self, block: &Block, own: &str) -> String {
        match block {
            Block::Heading { level, text, id } => {
                let level = (*level).clamp(2, 4);
                let text = escape(&bare(text));
                match id {
                    Some(id) => format!("<h{level} id=\"{id}\"><a href=\"#{id}\">{text}</a></h{level}>\n"),
                    None => format!("<h{level}>{text}</h{level}>\n"),
                }
            }
            Block::Paragraph { text, id } => {
                format!("<p{}>{}</p>\n", place(id.as_deref()), self.inlines(text, own))
            }
            Block::Code { tag, text } => code(tag, text),
            Block::Table(table) => self.table(table, own),
            Block::List { ordered, items } => {
                let tag = if *ordered { "ol" } else { "ul" };
                let items: String = items.iter().map(|i| format!("<li>{}</li>\n", self.all(i, own))).collect();
                format!("<{tag}>\n{items}</{tag}>\n")
            }
        }
    }

    fn table(&self, table: &Table, own: &str) -> String {
        let mut out = String::from("<div class=\"wide\"><table>\n");
        if table.head.iter().any(|c| !c.is_empty()) {
            let cells: String = table.head.iter().map(|c| format!("<th>{}</th>", self.inlines(c, own))).collect();
            let _ = writeln!(out, "<thead><tr>{cells}</tr></thead>");
        }
        out.push_str("<tbody>\n");
        for Row { cells, id } in &table.rows {
            let cells: String = cells.iter().map(|c| format!("<td>{}</td>", self.inlines(c, own))).collect();
            let _ = writeln!(out, "<tr{}>{cells}</tr>", place(id.as_deref()));
        }
        out.push_str("</tbody>\n</table></div>\n");
        out
    }

    fn inlines(&self, text: &[Inline], own: &str) -> String {
        text.iter().map(|i| self.inline(i, own)).collect()
    }

    fn inline(&self, i: &Inline, own: &str) -> String {
        let mut out = escape(&i.text);
        if i.style.code {
            out = format!("<code>{out}</code>");
        }
        if i.style.emphasis {
            out = format!("<em>{out}</em>");
        }
        if i.style.strong {
            out = format!("<strong>{out}</strong>");
        }
        let meant = self.known.get(i.text.trim_end_matches("()")).filter(|id| i.style.code && *id != own);
        match (&i.link, meant) {
            // Other files are not at hand.
            (Some(link), _) if link.starts_with('#') => format!("<a href=\"{}\">{out}</a>", escape(link)),
            (None, Some(id)) => format!("<a href=\"#{}\">{out}</a>", escape(id)),
            _ => out,
        }
    }
}

/// How a declaration begins, in one line: of a function its name and parameters.
fn head(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let mut depth = 0;
    let end = text.char_indices().filter(|_| first.starts_with("fn ")).find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        *c == ')' && depth == 0
    });
    let head = end.map_or(first, |(at, _)| &text[..=at]);
    head.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(").replace(", )", ")")
}

/// Entries with their places.
fn names<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<(String, String)> {
    entries.map(|e| (e.name.clone(), e.id.clone())).collect()
}

fn place(id: Option<&str>) -> String {
    id.map_or(String::new(), |id| format!(" id=\"{}\"", escape(id)))
}

/// A block of code; a script with its shades, and whether it is meant to fail.
fn code(tag: &str, text: &str) -> String {
    let script = tag.split_whitespace().next() == Some("steer");
    let body = if script { shaded(text) } else { escape(text) };
    let fails = tag.split_once("fails=").map(|(_, code)| code);
    let note = fails.map_or(String::new(), |code| format!("<span class=\"fails\">fails with {}</span>", escape(code)));
    format!("<pre class=\"code\">{note}{}</pre>\n", body.trim_end_matches('\n'))
}

/// A piece of a script as the language's own highlighter sees it.
fn shaded(text: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for (range, shade) in highlight(text) {
        out.push_str(&escape(&text[at..range.start]));
        let _ = write!(out, "<i class=\"{}\">{}</i>", shade.name(), escape(&text[range.clone()]));
        at = range.end;
    }
    out + &escape(&text[at..])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
