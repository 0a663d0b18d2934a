//! Tables as files for other programs: one row a cell.

mod csv;
mod npy;
mod parquet;

pub use npy::npy_header;

use crate::frame::{Fault, Frame};

/// A column of a file, by its content for a cell.
struct Field<'a> {
    name: String,
    content: Content<'a>,
}

enum Content<'a> {
    /// An axis: what stands at each of its entries.
    Labels(usize, &'a [String]),
    Numbers(usize, &'a [f64]),
    /// The places on an axis, from what the first counts as.
    Places(usize, usize),
    /// A metric or its errors; a NaN is missing.
    Values(&'a [f64]),
}

/// The columns of a table in a file: for each axis its labels, its places, and the numbers behind the labels where
/// they are no labels themselves; then for each metric its values and errors. Names are made different.
fn fields(frame: &Frame) -> Result<Vec<Field<'_>>, Fault> {
    frame.check()?;
    let mut out: Vec<Field<'_>> = Vec::new();
    let mut add = |name: String, content| {
        let taken = |n: &String| out.iter().any(|f| f.name == *n);
        let more = (2..).map(|i| format!("{name}_{i}"));
        let name = std::iter::once(name.clone()).chain(more).find(|n| !taken(n)).unwrap_or(name);
        out.push(Field { name, content });
    };
    for (a, axis) in frame.axes.iter().enumerate() {
        let same = |(label, n): (&String, &f64)| label.parse::<f64>().is_ok_and(|x| x == *n);
        match &axis.numbers {
            Some(n) if axis.labels.iter().zip(n).all(same) => add(axis.name.clone(), Content::Numbers(a, n)),
            Some(n) => {
                add(axis.name.clone(), Content::Labels(a, &axis.labels));
                add(format!("{}_number", axis.name), Content::Numbers(a, n));
            }
            None => add(axis.name.clone(), Content::Labels(a, &axis.labels)),
        }
        add(format!("{}_index", axis.name), Content::Places(a, axis.first));
    }
    for column in &frame.columns {
        add(column.name.clone(), Content::Values(&column.values));
        if let Some(errors) = &column.errors {
            add(format!("{}_error", column.name), Content::Values(errors));
        }
    }
    Ok(out)
}

impl Frame {
    /// The entry of an axis that a cell belongs to.
    fn place(&self, axis: usize, cell: usize) -> usize {
        cell / self.stride(axis).max(1) % self.axes[axis].len().max(1)
    }

    /// The table as JSON: axes with their labels and numbers, and metrics row-major over them; what was not computed is
    /// `null`.
    pub fn to_json(&self) -> String {
        // Every key is a string, so this cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
