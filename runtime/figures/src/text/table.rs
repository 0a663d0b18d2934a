//! Tables of plain text.

use super::width;

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
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| {
                let cells = self.rows.iter().map(|r| width::of(&r[i]));
                cells.max().unwrap_or(0).max(width::of(&self.columns[i].0))
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut out = String::new();
            for ((cell, w), (_, align)) in cells.zip(&widths).zip(&self.columns) {
                let pad = " ".repeat(w.saturating_sub(width::of(cell)));
                let (before, after) = if *align == Align::Right { (pad.as_str(), "") } else { ("", pad.as_str()) };
                out.push_str(&format!("{before}{cell}{after}  "));
            }
            format!("{}\n", out.trim_end())
        };
        let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
        let mut out = line(&mut self.columns.iter().map(|(n, _)| n.as_str()));
        out.push_str(&line(&mut rule.iter().map(String::as_str)));
        for row in &self.rows {
            out.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        out
    }
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
}
