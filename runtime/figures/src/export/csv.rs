//! CSV as in RFC 4180, with line feeds.

use super::{Content, fields};
use crate::frame::{Fault, Frame};
use std::fmt::Write;

impl Frame {
    /// The table as CSV, one row a cell. What was not computed is empty.
    pub fn to_csv(&self) -> Result<String, Fault> {
        let fields = fields(self)?;
        let mut out = String::new();
        let names: Vec<String> = fields.iter().map(|f| quoted(&f.name)).collect();
        out.push_str(&names.join(","));
        out.push('\n');
        for cell in 0..self.cells() {
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                match field.content {
                    Content::Labels(axis, labels) => out.push_str(&quoted(&labels[self.place(axis, cell)])),
                    Content::Numbers(axis, numbers) => value(&mut out, numbers[self.place(axis, cell)]),
                    Content::Places(axis, first) => {
                        let _ = write!(out, "{}", first + self.place(axis, cell));
                    }
                    Content::Values(values) => value(&mut out, values[cell]),
                }
            }
            out.push('\n');
        }
        Ok(out)
    }
}

/// A number in as many digits as it takes to read the same one back.
fn value(out: &mut String, x: f64) {
    let _ = match () {
        () if x.is_nan() => Ok(()),
        () if x.fract() == 0.0 && x.abs() < 1e15 => write!(out, "{x:.0}"),
        () => write!(out, "{x:?}"),
    };
}

/// A text that a reader takes as it is, its spaces included.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.trim() == text && !text.contains([',', '"', '\n', '\r']);
    if plain { text.to_string() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}
