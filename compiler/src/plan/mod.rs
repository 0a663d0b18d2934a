//! The Plan: its definition, text form, verifier and rules.

mod build;
mod error;
mod ir;
mod parse;
mod print;
pub mod rules;
pub mod types;
mod verify;

pub use build::{Builder, OpenAttention, OpenScan};
pub use error::TypeError;
pub use ir::*;
pub use parse::{ParseError, parse};
pub use print::print;
pub use verify::verify;
