//! How much was computed.

use crate::engine::RowCount;
use serde::Serialize;
use steer_figures::text::number;

/// Rows and operations, against a pass for each run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Work {
    pub rows_computed: u64,
    pub rows_naive: u64,
    /// Floating-point operations of products, attentions, convolutions and scans.
    pub operations: u64,
    pub operations_naive: u64,
}

impl From<RowCount> for Work {
    fn from(c: RowCount) -> Self {
        Work {
            rows_computed: c.computed,
            rows_naive: c.naive,
            operations: c.operations,
            operations_naive: c.naive_operations,
        }
    }
}

/// Floating-point operations as a person reads them.
pub fn operations(n: u64) -> String {
    let x = n as f64;
    match n {
        0..1_000_000_000 => format!("{} MFLOP", number(x / 1e6)),
        1_000_000_000..1_000_000_000_000 => format!("{} GFLOP", number(x / 1e9)),
        _ => format!("{} TFLOP", number(x / 1e12)),
    }
}

/// What was saved, as a line; nothing where nothing was.
pub fn work_line(c: &RowCount) -> String {
    if c.naive <= c.computed {
        return String::new();
    }
    let operations = match c.operations {
        0 => String::new(),
        n => format!(", {} of {}", operations(n), operations(c.naive_operations)),
    };
    format!("{} of {} rows computed{operations}: equal rows once, unread rows never\n", c.computed, c.naive)
}
