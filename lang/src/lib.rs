//! The steer language: grammar, syntax tree, diagnostics and formatter.
//!
//! Pure: nothing here reads a file or knows a tensor.

pub mod ast;
pub mod codes;
pub mod diagnostic;
mod erase;
mod format;
mod highlight;
mod lex;
mod names;
mod ops;
mod parse;
pub mod source;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use erase::{eq_ignoring_spans, erase_spans};
pub use format::format;
pub use highlight::{Shade, highlight};
pub use parse::{parse, parse_expr};
pub use source::{FileId, Source, Sources, Span};
