//! What a person reads, and the same as JSON.

mod diagnostics;
mod json;
mod number;
mod out;
mod page;
mod receipts;
mod table;
mod text;
pub mod width;

pub use diagnostics::render;
pub use json::{Completion, FileName, Generation, ModelReport, Output, Report, Timings, Value};
pub use number::{number, percent};
pub use out::print;
pub use page::{Page, Plain, Stdout};
pub use receipts::{Receipt, Sums, receipts_table};
pub use table::{Align, Table};
pub use text::{beside, settled, visible, wrap};
pub use width::terminal;
