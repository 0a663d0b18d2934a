//! Row primitives, matrix products and attention loops for CPUs, in a fixed summation order.
//!
//! A row's result depends on the row's own inputs and the lengths summed, bit for bit: not on how
//! many rows, columns or threads there are, on alignment, or on which of the forms of a kernel
//! computed it. The instruction sets ([`Isa`]) are chosen at run time and give the same bits too.
//! Only the payload and sign of a NaN are unspecified; and products of bf16 with bf16 rows take what is below the least
//! normal number for zero where the processor multiplies bf16 itself. Results assume the processor's default
//! rounding, with subnormal numbers.
//!
//! - [`ops`]: the vocabulary of row operations and their meaning;
//! - [`rows`]: function pointers to row kernels, for compiled code;
//! - [`formats`], [`pack`], [`activations`] and [`mod@gemm`]: how weights are stored, packed weights, what is read of rows,
//!   and products;
//! - [`attention`]: attention over a list of keys, whole or in steps;
//! - [`scan`]: the recurrence of state space layers, and the convolution before it;
//! - [`sum`]: sums of a few rows out of many;
//! - [`limits`]: what the processor does at most.

pub mod activations;
mod area;
pub mod attention;
pub mod formats;
pub mod gemm;
mod isa;
mod lanes;
pub mod limits;
mod made;
mod math;
mod math64;
pub mod ops;
pub mod pack;
pub mod rows;
pub mod scan;
pub mod sum;
mod tile;

pub use activations::Activations;
pub use area::Area;
pub use attention::{Heads, KeyValues, Queries, Scratch, Softmax, attend, attend_block};
pub use formats::Format;
pub use gemm::{Arithmetic, gemm, matmul, rows_at_once};
pub use isa::Isa;
pub use made::{WholeRows, gemm_whole};
pub use ops::{Binary, Reduce, Stored, Summed, Unary};
pub use pack::{PANEL, Packed, fill_blocks, fill_elements, fill_panel};
pub use tile::ask;
