//! What the manual has, in few lines.

use super::markdown::{Block, Inline, bare};
use super::terminal::columns_of;
use super::{Entry, Kind, Manual, library, lines};
use steer_compiler::elaborate::{FUNCTIONS, FunctionGroup as Group};
use steer_figures::Color;
use steer_figures::text::wrap;

/// The groups with their names.
pub(super) fn groups(manual: &Manual) -> Vec<(String, Vec<String>)> {
    let named: Vec<String> = codes_of(&manual.reference);
    let in_reference = |name: &str| named.iter().any(|n| n == name);
    let of = |kind: Kind| -> Vec<String> { manual.of(kind).map(|e| e.name.clone()).collect() };
    let table = |e: &&Entry| match &e.blocks[..] {
        [Block::Table(t)] if e.place == "Items" => Some(t.number),
        _ => None,
    };
    let first = manual.of(Kind::Word).find_map(|e| table(&e));
    let items = manual.of(Kind::Word).filter(|e| first.is_some() && table(e) == first);
    let declared: Vec<String> = items.flat_map(|e| [&e.name].into_iter().chain(&e.also)).cloned().collect();
    let functions = |group: Group| FUNCTIONS.iter().filter(move |f| f.group == group).map(|f| f.name.to_owned());
    let mut values: Vec<String> = functions(Group::Values).chain(functions(Group::Tensors)).collect();
    values.extend(functions(Group::Texts).chain(functions(Group::Data)));
    let everyday = manual.of(Kind::Block).filter(|e| e.place == "stdlib/blocks/functions.steer");
    let everyday: Vec<String> = everyday.map(|e| e.name.clone()).filter(|n| in_reference(n)).collect();
    values.extend(everyday.iter().cloned());
    let mut files: Vec<String> = functions(Group::Models).collect();
    files.extend(of(Kind::Block).into_iter().filter(|n| in_reference(n) && !everyday.contains(n)));
    let mut sites: Vec<String> = of(Kind::Site);
    sites.extend(["resid.pre", "resid.post"].map(String::from));
    sites.sort();
    vec![
        ("The language".into(), top_sections(&manual.reference)),
        ("Declarations and statements".into(), declared),
        ("Functions".into(), values),
        ("Functions of metrics".into(), functions(Group::Metrics).collect()),
        ("Methods".into(), of(Kind::Method).into_iter().filter(|n| in_reference(n)).collect()),
        ("Sites".into(), sites),
        ("Functions of model files".into(), files),
        ("Model files".into(), manual.of(Kind::Model).map(|e| library::stem(&e.place).to_owned()).collect()),
        ("Subcommands".into(), of(Kind::Command)),
    ]
}

/// Groups and their names in columns.
pub(super) fn text(manual: &Manual, columns: usize, color: Color) -> String {
    let mut out = String::new();
    for (title, names) in groups(manual) {
        let before = if out.is_empty() { "" } else { "\n" };
        out.push_str(&format!("{before}{}\n", lines::strong(&title, color)));
        let inner = columns_of(&names, columns.saturating_sub(2));
        inner.lines().for_each(|l| out.push_str(&format!("  {l}\n")));
    }
    let mut codes = manual.of(Kind::Code).map(|e| e.name.as_str());
    let (first, last) = (codes.next().unwrap_or_default(), codes.last().unwrap_or_default());
    out.push_str(&format!("\n{}\n", lines::strong("Diagnostics", color)));
    for line in wrap(
        &format!("{first} to {last}: a page on each, as `steer explain {first}` has it"),
        columns.saturating_sub(2),
    ) {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

/// The headings of the reference.
fn top_sections(reference: &[Block]) -> Vec<String> {
    let headings = reference.iter().filter_map(|b| match b {
        Block::Heading { level: 2, text, .. } => Some(bare(text)),
        _ => None,
    });
    headings.collect()
}

/// The names that the reference has as code, alone or as they are called.
fn codes_of(blocks: &[Block]) -> Vec<String> {
    let mut out = Vec::new();
    let mut add = |text: &[Inline]| {
        let codes = text.iter().filter(|i| i.style.code).map(|i| i.text.as_str());
        let words = codes.flat_map(|c| c.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        out.extend(words.map(str::to_owned));
    };
    for block in blocks {
        match block {
            Block::Paragraph { text, .. } => add(text),
            Block::Table(t) => t.rows.iter().flat_map(|r| &r.cells).for_each(|c| add(c)),
            _ => {}
        }
    }
    out
}
