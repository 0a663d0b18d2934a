//! Kir: a fused kernel over a block of rows.
//!
//! A kernel works on one row after another. Its statements are vector operations over strided
//! operands, in order, and branches on the guards of edits. Everything that differs between layers
//! (weights, the layer's number, parameters) is an argument, so layers share their kernels.

pub mod build;
pub(crate) mod depend;
mod interp;
mod ir;
mod layout;
mod parse;
mod print;
mod verify;

pub use interp::interpret;
pub use ir::*;
pub use layout::{Layout, Pass};
pub use parse::{ParseError, parse};
pub use verify::verify;

#[cfg(test)]
mod tests;
