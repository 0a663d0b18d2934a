//! The table that sweeps and measurements give.

use serde::Serialize;

/// A named table with labelled axes, as `sweep` and `measure` give it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Frame {
    pub name: String,
    pub axes: Vec<FrameAxis>,
    pub columns: Vec<FrameColumn>,
}

/// An axis of a table: one label for each entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrameAxis {
    /// Such as `layer`, `token` or `alpha`.
    pub name: String,
    /// Tokens as they are, with their spaces.
    pub labels: Vec<String>,
    /// The numbers behind the labels, where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Vec<f64>>,
    /// What the first entry counts as, where it is not 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub first: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// One metric of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FrameColumn {
    pub name: String,
    /// Row-major over the axes; NaN where a cell was not computed.
    pub values: Vec<f64>,
    /// Standard errors, where the values are means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<f64>>,
}

/// Why a table or plot cannot be made as asked: what is there, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl FrameAxis {
    pub fn new(name: impl Into<String>, labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        FrameAxis { name: name.into(), labels: labels.into_iter().map(Into::into).collect(), ..FrameAxis::default() }
    }

    /// An axis of numbers, labelled by them.
    pub fn of_numbers(name: impl Into<String>, numbers: impl IntoIterator<Item = f64>) -> Self {
        let numbers: Vec<f64> = numbers.into_iter().collect();
        let labels = numbers.iter().map(f64::to_string).collect();
        FrameAxis { name: name.into(), labels, numbers: Some(numbers), first: 0 }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl FrameColumn {
    pub fn new(name: impl Into<String>, values: Vec<f64>) -> Self {
        FrameColumn { name: name.into(), values, errors: None }
    }
}

impl Frame {
    /// How many cells a column has; the product of the axes' lengths.
    pub fn cells(&self) -> usize {
        self.axes.iter().fold(1, |n, a| n.saturating_mul(a.len()))
    }

    /// The place of a metric.
    pub fn column(&self, name: &str) -> Result<usize, Fault> {
        crate::plot::find(self, name, self.columns.iter().map(|c| c.name.as_str()), "metric")
    }

    /// How many cells apart the entries of an axis are.
    pub(crate) fn stride(&self, axis: usize) -> usize {
        self.axes.iter().skip(axis + 1).fold(1, |n, a| n.saturating_mul(a.len()))
    }

    /// Whether every column has a value for each cell and every axis a number for each label.
    pub fn check(&self) -> Result<(), Fault> {
        let cells = self.cells();
        for a in &self.axes {
            if a.numbers.as_ref().is_some_and(|n| n.len() != a.len()) {
                let message =
                    format!("the axis `{}` of `{}` has another count of numbers than of labels", a.name, self.name);
                return Err(Fault::new(message));
            }
        }
        for c in &self.columns {
            for n in std::iter::once(c.values.len()).chain(c.errors.as_ref().map(Vec::len)) {
                if n != cells {
                    let message =
                        format!("the column `{}` of `{}` has {n} entries for {cells} cells", c.name, self.name);
                    return Err(Fault::new(message));
                }
            }
        }
        Ok(())
    }
}
