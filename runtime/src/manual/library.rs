//! The standard library as its own texts have it: functions and architectures with their signatures, documentation and
//! code, and the sites that they declare.

use super::markdown::{Block, Inline, parse};
use super::reference::{anchor, first_sentence};
use super::{Entry, Kind};
use std::collections::BTreeMap;
use steer_compiler::elaborate::STANDARD;
use steer_lang::FileId;
use steer_lang::ast::{self, ExprKind, Ident, Item, ItemKind, Stmt, StmtKind};

/// Functions, metrics and architectures, and behind them sites by their names.
pub(super) fn entries() -> Vec<Entry> {
    let mut out = Vec::new();
    let mut sites = Sites::default();
    for (i, (file, text)) in STANDARD.iter().enumerate() {
        let (tree, _) = steer_lang::parse(FileId(i as u16), text);
        for item in &tree.items {
            out.extend(entry(item, file, text));
            sites.item(item, file);
        }
    }
    out.extend(sites.entries());
    out
}

fn entry(item: &Item, file: &str, text: &str) -> Option<Entry> {
    let doc = item.doc.clone().unwrap_or_default();
    let source = text.get(item.span.start as usize..item.span.end as usize).unwrap_or_default();
    let (kind, name, also) = match &item.kind {
        ItemKind::Fn(f) => {
            (if file.contains("/methods/") { Kind::Method } else { Kind::Block }, &f.name.name, Vec::new())
        }
        ItemKind::Metric(m) => (Kind::Method, &m.name.name, Vec::new()),
        ItemKind::Arch(a) => {
            let (first, more) = a.names.split_first()?;
            let mut also: Vec<String> = more.iter().map(|n| n.value.clone()).collect();
            also.push(stem(file).to_owned());
            (Kind::Model, &first.value, also)
        }
        _ => return None,
    };
    let mut blocks = parse(&doc);
    blocks.push(Block::script(format!("{}\n", source.trim_end())));
    Some(Entry {
        kind,
        name: name.clone(),
        also,
        place: file.to_owned(),
        summary: first_sentence(&doc.replace('\n', " ")),
        blocks,
        id: anchor(if kind == Kind::Model { "arch" } else { "fn" }, name),
    })
}

/// `llama` of `stdlib/models/llama.steer`.
pub(super) fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".steer").unwrap_or(name)
}

/// By site what is said of it, and by whom.
#[derive(Default)]
struct Sites(BTreeMap<String, Vec<(String, Vec<String>)>>);

impl Sites {
    fn item(&mut self, item: &Item, file: &str) {
        match &item.kind {
            ItemKind::Fn(f) => self.block(&f.body, &f.name.name),
            ItemKind::Arch(a) => self.block(&a.body, stem(file)),
            _ => {}
        }
    }

    fn block(&mut self, block: &ast::Block, by: &str) {
        for s in &block.stmts {
            self.statement(s, by);
        }
    }

    fn statement(&mut self, s: &Stmt, by: &str) {
        match &s.kind {
            StmtKind::Site { path, value } | StmtKind::Write { path, value } => {
                self.add(path, s.doc.as_deref().unwrap_or_default(), by);
                self.expr(value, by);
            }
            StmtKind::Blocks { body, .. } => self.block(body, by),
            StmtKind::Let(_, e) | StmtKind::Expr(e) | StmtKind::Axis(_, e) => self.expr(e, by),
            StmtKind::When { then, otherwise, .. } => {
                self.block(then, by);
                otherwise.iter().for_each(|b| self.block(b, by));
            }
            _ => {}
        }
    }

    /// Sites inside of the bodies that a call is given.
    fn expr(&mut self, e: &ast::Expr, by: &str) {
        match &e.kind {
            ExprKind::Call(_, args) => args.iter().for_each(|a| self.expr(&a.value, by)),
            ExprKind::Lambda(_, body) => self.block(body, by),
            ExprKind::If { then, otherwise, .. } => {
                self.block(then, by);
                otherwise.iter().for_each(|b| self.block(b, by));
            }
            ExprKind::Binary(_, a, b) => {
                self.expr(a, by);
                self.expr(b, by);
            }
            ExprKind::List(items) => items.iter().for_each(|i| self.expr(i, by)),
            _ => {}
        }
    }

    fn add(&mut self, path: &[Ident], doc: &str, by: &str) {
        let name = path.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(".");
        let said = self.0.entry(name).or_default();
        let doc = doc.replace('\n', " ");
        match said.iter_mut().find(|(text, _)| *text == doc) {
            Some((_, all)) if all.iter().any(|b| b == by) => {}
            Some((_, all)) => all.push(by.to_owned()),
            None => said.push((doc, vec![by.to_owned()])),
        }
    }

    fn entries(self) -> impl Iterator<Item = Entry> {
        self.0.into_iter().map(|(name, said)| {
            let summary = said.first().map(|(doc, _)| first_sentence(doc)).unwrap_or_default();
            let items: Vec<Vec<Block>> = said
                .into_iter()
                .map(|(doc, by)| {
                    let mut text = super::markdown::line(&doc);
                    text.push(Inline::plain(" Declared by "));
                    for (i, name) in by.iter().enumerate() {
                        if i > 0 {
                            text.push(Inline::plain(", "));
                        }
                        text.push(Inline::code(name.as_str()));
                    }
                    text.push(Inline::plain("."));
                    vec![Block::paragraph(text)]
                })
                .collect();
            let blocks = match &items[..] {
                [one] => one.clone(),
                _ => vec![Block::List { ordered: false, items }],
            };
            Entry {
                kind: Kind::Site,
                id: anchor("site", &name),
                also: Vec::new(),
                place: "stdlib".into(),
                summary,
                blocks,
                name,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text says something.
    fn says(doc: Option<&str>) -> bool {
        doc.is_some_and(|d| d.trim().len() >= 10 && !d.starts_with("The same ") && d.trim_end().ends_with(['.', '`']))
    }

    #[test]
    fn everything_in_the_library_is_documented() {
        let mut without = Vec::new();
        let mut count = 0;
        for (i, (file, text)) in STANDARD.iter().enumerate() {
            let (tree, _) = steer_lang::parse(FileId(i as u16), text);
            let mut sites = Sites::default();
            for item in &tree.items {
                sites.item(item, file);
                let name = match &item.kind {
                    ItemKind::Fn(f) => &f.name.name,
                    ItemKind::Metric(m) => &m.name.name,
                    ItemKind::Arch(a) => &a.names[0].value,
                    other => panic!("{file}: {other:?}"),
                };
                count += 1;
                if !says(item.doc.as_deref()) {
                    let line = text[..item.span.start as usize].matches('\n').count() + 1;
                    without.push(format!("{file}:{line}: {name}"));
                }
            }
            for (name, said) in &sites.0 {
                without.extend(said.iter().filter(|(doc, _)| !says(Some(doc))).map(|_| format!("{file}: {name}")));
            }
        }
        assert!(count > 120, "{count}");
        assert!(without.is_empty(), "say in `##` lines what these are:\n{}", without.join("\n"));
    }
}
