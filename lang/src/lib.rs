//! The steer language: grammar, syntax tree, diagnostics and formatter.
//!
//! Pure: nothing here reads a file or knows a tensor.

pub mod ast;
pub mod codes;
pub mod diagnostic;
mod erase;
mod format;
mod highlight;
pub mod keywords;
mod lex;
mod names;
mod ops;
mod parse;
pub mod source;
pub mod symbols;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use erase::{eq_ignoring_spans, erase_spans};
pub use format::format;
pub use highlight::{Shade, highlight};
pub use lex::{Comment, Lexed, Token, TokenKind, lex};
pub use parse::{NOTHING_FOLLOWS, doc_above, parse, parse_expr, pieces};
pub use source::{FileId, Source, Sources, Span};
