//! Tables of plain text.

use super::width;

/// What stands between columns.
const GAP: &str = "  ";

/// A column with several lines is no narrower than this.
const NARROWEST: usize = 10;

/// To which side the cells of a column go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Columns with a heading, as wide as their widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Table { columns: columns.iter().map(|(n, a)| (n.to_string(), *a)).collect(), rows: Vec::new() }
    }

    /// Adds a row; cells that are missing are empty, and there are no more than columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|c| super::visible(&c).replace('\n', "⏎"));
        let mut cells: Vec<String> = cells.take(self.columns.len()).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    /// Headings with their sides.
    pub(crate) fn heads(&self) -> &[(String, Align)] {
        &self.columns
    }

    /// Cells by row, as many as there are headings.
    pub(crate) fn cells(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// The table as lines, the heading underlined.
    pub fn render(&self) -> String {
        self.within(usize::MAX)
    }

    /// The same within so many columns, as far as that can be done between the words of cells: of those that go to the left
    /// first, the last column before the others.
    pub fn within(&self, columns: usize) -> String {
        let widths = self.widths(columns);
        let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
        let heads: Vec<String> = self.columns.iter().map(|(n, _)| n.clone()).collect();
        [&heads, &rule].into_iter().chain(&self.rows).map(|cells| self.lines(cells, &widths)).collect()
    }

    fn widths(&self, columns: usize) -> Vec<usize> {
        let widest = |i: usize, of: fn(&str) -> usize| {
            let cells = self.rows.iter().map(|r| of(&r[i]));
            cells.max().unwrap_or(0).max(of(&self.columns[i].0))
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(|i| widest(i, width::of)).collect();
        let whole: usize = widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let mut over = whole.saturating_sub(columns);
        let left = |i: &usize| self.columns[*i].1 == Align::Left;
        let order = (0..widths.len()).rev();
        for i in order.clone().filter(left).chain(order.filter(|i| !left(i))) {
            let piece = |cell: &str| pieces(cell).map(|p| width::of(p.trim_end())).max().unwrap_or(0);
            let least = widest(i, piece).max(if left(&i) { NARROWEST } else { 0 });
            let kept = widths[i].saturating_sub(over).max(least).min(widths[i]);
            over -= widths[i] - kept;
            widths[i] = kept;
        }
        widths
    }

    /// A row, of more than one line where a cell is wider than its column.
    fn lines(&self, cells: &[String], widths: &[usize]) -> String {
        let fits = |(cell, w): (&String, &usize)| match width::of(cell) > *w {
            true => wrapped(cell, *w),
            false => vec![cell.clone()],
        };
        let cells: Vec<Vec<String>> = cells.iter().zip(widths).map(fits).collect();
        let mut out = String::new();
        for k in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            for ((cell, w), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
                let cell = cell.get(k).map_or("", String::as_str);
                let pad = " ".repeat(w.saturating_sub(width::of(cell)));
                let (before, after) = if *align == Align::Right { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.push_str(&format!("{before}{cell}{after}{GAP}"));
            }
            out.push_str(&format!("{}\n", line.trim_end()));
        }
        out
    }
}

/// What stays together: words, and of a site its block.
fn pieces(cell: &str) -> impl Iterator<Item = &str> {
    cell.split_inclusive(' ').flat_map(|word| {
        let at = word.find("].").map_or(0, |at| at + 2);
        let (block, rest) = word.split_at(at);
        [block, rest].into_iter().filter(|p| !p.is_empty())
    })
}

/// The lines of a cell whose pieces are no wider than its column.
fn wrapped(cell: &str, columns: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    for piece in pieces(cell) {
        let Some(line) = out.last_mut() else { break };
        if !line.is_empty() && width::of(line) + width::of(piece.trim_end()) > columns {
            out.push(piece.to_owned());
        } else {
            line.push_str(piece);
        }
    }
    out.iter_mut().for_each(|l| l.truncate(l.trim_end().len()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut t = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        t.row(["é你".to_string(), "1".to_string()]);
        t.row(["longer".to_string(), "1234".to_string()]);
        t.row(["a\nb".to_string()]);
        assert_eq!(t.render(), "name       n\n──────  ────\né你        1\nlonger  1234\na⏎b\n");
    }

    #[test]
    fn the_last_cells_are_wrapped_between_words() {
        let mut t = Table::new(&[("name", Align::Left), ("n", Align::Right), ("what", Align::Left)]);
        t.row(["a b".to_string(), "1".to_string(), "some words that go on".to_string()]);
        t.row(["c".to_string(), "2".to_string(), "one".to_string()]);
        let wrapped = "name  n  what\n────  ─  ─────────────\na b   1  some words\n         that go on\nc     2  one\n";
        assert_eq!(t.within(22), wrapped);
        assert_eq!(t.within(30), t.render());
        // A word is not broken.
        let mut t = Table::new(&[("what", Align::Left)]);
        t.row(["moe.chosen_scores".to_string()]);
        assert_eq!(t.within(10), t.render());
        // Of a site what stands behind its block; at last cells that go to the right.
        let mut t = Table::new(&[("site", Align::Left), ("mean of all", Align::Right)]);
        t.row(["blocks[1].resid.post".to_string(), "1".to_string()]);
        let wrapped = "site          mean\n            of all\n──────────  ──────\nblocks[1].       1\nresid.post\n";
        assert_eq!(t.within(18), wrapped);
    }
}
