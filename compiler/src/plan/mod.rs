//! The Plan: its definition, text form, verifier and rules.

mod build;
mod error;
pub mod generate;
mod ir;
mod linear;
mod parse;
mod print;
pub mod rules;
#[cfg(test)]
mod tests;
pub mod types;
mod verify;

pub use build::{Builder, OpenAttention, OpenConvolution, OpenScan};
pub use error::TypeError;
pub use ir::*;
pub use parse::{ParseError, parse};
pub use print::print;
pub use verify::verify;
