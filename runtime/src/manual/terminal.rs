//! Blocks of the manual as lines of a terminal.

use super::lines::{self, extent, wrap};
use super::markdown::{Block, Inline, Table, bare};
use steer_figures::Color;
use steer_figures::text::width;

/// Prose is no wider than this: longer lines are hard to follow.
const PROSE: usize = 100;

/// A column narrower than this cannot be read: then cells stand below one another.
const NARROWEST: usize = 16;

/// Columns between those of a table.
const GAP: usize = 2;

/// The lines of some blocks, with an empty one between them.
pub(super) fn text(blocks: &[Block], columns: usize, color: Color) -> String {
    let mut out = String::new();
    for (i, block) in blocks.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(&one(block, columns, color));
    }
    out
}

fn one(block: &Block, columns: usize, color: Color) -> String {
    match block {
        Block::Heading { text, .. } => {
            let lines = wrap(&[Inline::plain(bare(text))], columns, color);
            lines.iter().map(|l| lines::strong(&l.paint(color), color) + "\n").collect()
        }
        Block::Paragraph { text, .. } => paragraph(text, columns.min(PROSE), color),
        Block::Code { tag, text } => code(tag, text, color),
        Block::Table(table) => self::table(table, columns, color),
        Block::List { ordered, items } => list(*ordered, items, columns, color),
    }
}

fn paragraph(text: &[Inline], columns: usize, color: Color) -> String {
    wrap(text, columns, color).iter().map(|l| l.paint(color) + "\n").collect()
}

/// Code keeps its lines, whatever their length, so that it can be copied.
fn code(tag: &str, text: &str, color: Color) -> String {
    let fails = tag.split_once("fails=").map(|(_, code)| format!("    # fails with {code}"));
    let head = fails.map_or(String::new(), |f| lines::faint(&f, color) + "\n");
    let painted = if tag.split_whitespace().next() == Some("steer") { lines::script(text, color) } else { text.into() };
    let line = |l: &str| if l.trim().is_empty() { "\n".to_owned() } else { format!("    {l}\n") };
    painted.lines().fold(head, |text, l| text + &line(l))
}

fn list(ordered: bool, items: &[Vec<Block>], columns: usize, color: Color) -> String {
    let mut out = String::new();
    for (i, item) in items.iter().enumerate() {
        let mark = if ordered { format!("{}. ", i + 1) } else { "- ".to_owned() };
        let indent = " ".repeat(mark.len());
        let inner = text(item, columns.saturating_sub(mark.len()), color);
        for (n, line) in inner.lines().enumerate() {
            let before = if n == 0 { &mark } else { &indent };
            out.push_str(&format!("{before}{line}\n"));
        }
    }
    out
}

fn table(table: &Table, columns: usize, color: Color) -> String {
    let n = table.rows.iter().map(|r| r.cells.len()).chain([table.head.len()]).max().unwrap_or(0);
    let headed = table.head.iter().any(|cell| !cell.is_empty());
    let cell = |cells: &[Vec<Inline>], i: usize| cells.get(i).cloned().unwrap_or_default();
    let all = || table.rows.iter().map(|r| &r.cells).chain(headed.then_some(&table.head));
    let extents: Vec<(usize, usize)> = (0..n)
        .map(|i| {
            let each = all().map(|cells| extent(&cell(cells, i), color));
            each.fold((0, 0), |(a, b), (c, d)| (a.max(c), b.max(d)))
        })
        .collect();
    let Some(widths) = widths(&extents, columns) else { return stacked(table, columns, color) };
    let mut out = String::new();
    let mut line = |cells: &[Vec<Inline>], strong: bool| {
        let wrapped: Vec<_> = (0..n).map(|i| wrap(&cell(cells, i), widths[i], color)).collect();
        for k in 0..wrapped.iter().map(Vec::len).max().unwrap_or(0) {
            let (mut text, mut pad) = (String::new(), 0);
            for (i, lines) in wrapped.iter().enumerate() {
                let Some(l) = lines.get(k).filter(|l| l.width > 0) else {
                    pad += widths[i] + GAP;
                    continue;
                };
                text.push_str(&" ".repeat(pad));
                let painted = l.paint(color);
                text.push_str(&if strong { lines::strong(&painted, color) } else { painted });
                pad = widths[i] - l.width.min(widths[i]) + GAP;
            }
            out.push_str(&format!("{text}\n"));
        }
    };
    if headed {
        line(&table.head, true);
        let rules: Vec<Vec<Inline>> = widths.iter().map(|w| vec![Inline::plain("─".repeat(*w))]).collect();
        line(&rules, false);
    }
    table.rows.iter().for_each(|row| line(&row.cells, false));
    out
}

/// How wide columns are: as wide as their widest cell where that fits; else the wide ones share what is left, those with
/// more text more of it. `None` where one would be too narrow.
fn widths(extents: &[(usize, usize)], columns: usize) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..extents.len()).collect();
    order.sort_by_key(|i| extents[*i].1);
    let mut left = columns.saturating_sub(GAP * extents.len().saturating_sub(1));
    let mut out = vec![0; extents.len()];
    for (done, i) in order.iter().enumerate() {
        let weight = |i: &usize| (extents[*i].1 as f64).sqrt();
        let all: f64 = order[done..].iter().map(weight).sum();
        let share = (left as f64 * weight(i) / all.max(1.0)) as usize;
        let share = if done + 1 == order.len() { left } else { share };
        let (word, whole) = extents[*i];
        // Names are not broken where the others have room to give.
        let most = left.saturating_sub(2 * NARROWEST * (order.len() - done - 1)).max(share);
        let wanted = whole.min(share).max(word.min(most));
        if wanted < whole && wanted < NARROWEST {
            return None;
        }
        out[*i] = wanted;
        left = left.saturating_sub(wanted);
    }
    Some(out)
}

/// Each row as a paragraph whose further cells are indented below the first one.
fn stacked(table: &Table, columns: usize, color: Color) -> String {
    let mut out = String::new();
    for row in &table.rows {
        for (i, cell) in row.cells.iter().enumerate().filter(|(_, c)| !c.is_empty()) {
            let indent = if i == 0 { "" } else { "    " };
            for l in wrap(cell, columns.saturating_sub(indent.len()), color) {
                out.push_str(&format!("{indent}{}\n", l.paint(color)));
            }
        }
    }
    out
}

/// Names in as many columns as there is room for, read from the top to the bottom.
pub(super) fn columns_of(names: &[String], columns: usize) -> String {
    let widest = names.iter().map(|n| width::of(n)).max().unwrap_or(0);
    let room = ((columns + GAP) / (widest + GAP)).max(1);
    let height = names.len().div_ceil(room);
    let mut out = String::new();
    for k in 0..height {
        let line: Vec<String> = names
            .iter()
            .skip(k)
            .step_by(height)
            .map(|n| format!("{n}{}", " ".repeat(widest.saturating_sub(width::of(n)))))
            .collect();
        out.push_str(line.join(&" ".repeat(GAP)).trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manual::markdown::parse;

    fn shown(markdown: &str, columns: usize) -> String {
        text(&parse(markdown), columns, Color::None)
    }

    #[test]
    fn tables_line_up_and_fit() {
        let markdown = "| name | what |\n|---|---|\n| `a` | one two three four |\n| `long one` | five |\n";
        assert_eq!(
            shown(markdown, 80),
            "name        what\n──────────  ──────────────────\n`a`         one two three four\n`long one`  five\n"
        );
        assert_eq!(
            shown(&markdown.replace("name | what", " | "), 30),
            "`a`         one two three four\n`long one`  five\n"
        );
        let narrow = format!("| | |\n|---|---|\n| `{}` | {} |\n", "x".repeat(20), "word ".repeat(12));
        assert_eq!(shown(&narrow, 24), format!("`{}`\n{}", "x".repeat(20), "    word word word word\n".repeat(3)));
    }

    #[test]
    fn blocks_are_told_apart() {
        assert_eq!(
            shown("# Head\n\ntext\n\n- a\n- b c\n\n```steer\nlet a = 1\n\n```\n", 4),
            "Head\n\ntext\n\n- a\n- b\n  c\n\n    let a = 1\n\n"
        );
    }

    #[test]
    fn names_stand_in_columns() {
        let names: Vec<String> = ["a", "bb", "ccc", "d", "e"].map(String::from).to_vec();
        assert_eq!(columns_of(&names, 9), "a    d\nbb   e\nccc\n");
        assert_eq!(columns_of(&names, 1), "a\nbb\nccc\nd\ne\n");
    }
}
