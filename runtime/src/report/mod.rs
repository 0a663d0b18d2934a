//! What a person reads, and the same as JSON.

mod diagnostics;
mod html;
mod json;
mod out;
mod page;
mod receipts;
mod save;
mod screen;
mod steps;
pub mod width;
mod work;

pub use diagnostics::render;
pub use html::{block, page, section};
pub use json::{
    Completion, FileName, Generation, InputFile, ModelReport, Output, Report, Timings, Value, Warning, titled,
};
pub use out::print;
pub use page::{Page, Plain, Silent, Stdout, Warned};
pub use receipts::{Receipt, Routing, Sums, receipts_table};
pub use save::{
    PlotFile, TableFile, capture_file, page_file, producer, save_page, save_plot, save_table, save_tensors, tensor_file,
};
pub use screen::{errors_in_color, screen, shade_codes, without_color};
pub use steer_figures::Color;
pub use steer_figures::text::{Align, Table, beside, number, percent, settled, visible, wrap};
pub use steps::{Part, Steps, limits_line};
pub use width::terminal;
pub use work::{Work, operations, work_line};
