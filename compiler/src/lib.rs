//! From a steer script and a model's configuration to optimized kernels.
//!
//! Pure: files, tokenizers and weights are reached only through [`elaborate::Host`].

pub mod backend;
pub mod elaborate;
pub mod kernel;
pub mod plan;
pub mod program;
pub mod schedule;
