//! Runs steer scripts: model folders, tokenizers, row engines, experiments and reports.

pub mod checkpoint;
pub mod engine;
pub mod error;
pub mod files;
mod guard;
pub mod interrupt;
pub mod progress;
pub mod report;
pub mod tensors;
pub mod tokens;
