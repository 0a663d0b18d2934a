//! What a person reads, and the same as JSON.

mod diagnostics;
mod json;
mod out;
mod page;
mod receipts;
pub mod width;

pub use diagnostics::render;
pub use json::{Completion, FileName, Generation, ModelReport, Output, Report, Timings, Value};
pub use out::print;
pub use page::{Page, Plain, Stdout};
pub use receipts::{Receipt, Sums, receipts_table};
pub use steer_figures::text::{Align, Table, beside, number, percent, settled, visible, wrap};
pub use width::terminal;
