//! Runs steer scripts: model folders, tokenizers, row engines, experiments and reports.

pub mod assist;
pub mod checkpoint;
pub mod cli;
pub mod engine;
pub mod error;
pub mod experiment;
pub mod files;
mod guard;
pub mod hub;
pub mod interrupt;
pub mod limits;
pub mod lsp;
pub mod manual;
pub mod memory;
pub mod parquet;
pub mod progress;
pub mod reference;
pub mod repl;
pub mod report;
pub mod rows;
pub mod tensors;
pub mod tokens;
