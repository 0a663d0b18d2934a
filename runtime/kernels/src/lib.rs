//! Row primitives, matrix products and attention loops for CPUs, in a fixed summation order.

pub mod attention;
pub mod gemm;
mod isa;
mod lanes;
mod math;
mod math64;
pub mod ops;
pub mod pack;
pub mod rows;
mod tile;

pub use attention::{Heads, KeyValues, Queries, Scratch, attend, attend_block};
pub use gemm::{gemm, matmul};
pub use isa::Isa;
pub use ops::{Binary, Reduce, Unary};
pub use pack::{Elements, Packed, Source};
