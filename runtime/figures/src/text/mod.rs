//! Texts for people: numbers, tables and wrapped lines, all measured in columns of a terminal.

mod number;
mod table;
pub mod width;
mod wrap;

pub use number::{error, number, percent};
pub use table::{Align, Table};
pub use wrap::{beside, settled, visible, wrap};
