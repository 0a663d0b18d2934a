//! What a person reads, and the same as JSON.

mod diagnostics;
mod json;
mod out;
mod receipts;
pub mod width;

pub use diagnostics::render;
pub use json::{Completion, FileName, Generation, ModelReport, Output, Report, Timings, Value};
pub use out::print;
pub use receipts::{Receipt, receipts_table};
pub use steer_figures::text::{Align, Table, beside, number, percent, visible, wrap};
pub use width::terminal;
