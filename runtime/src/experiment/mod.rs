//! Whole scripts: loading, checking, deriving tensors, running every statement, reporting.

mod answer;
#[cfg(feature = "llvm")]
mod build;
mod derive;
mod execute;
mod explain;
mod inputs;
mod keep;
mod live;
mod measure;
mod models;
mod needs;
mod phase;
mod pieces;
mod receipts;
mod results;
mod sample;
mod score;
mod session;
mod settings;
mod show;
mod spent;
mod statements;
mod stop;
mod table;
mod targets;
mod top;

#[cfg(feature = "llvm")]
pub use build::{Library, library};
pub use derive::tensors;
pub use execute::{Done, merge_on, merging_computes, run, run_on};
pub use explain::{caches, explanation};
pub use inputs::{Input, InputKind};
pub use keep::{Keeping, Place as KeepingPlace, Shard, shard_file};
pub use needs::Needs;
pub use phase::{PhaseOptions, Prepared, TensorValues, prepare};
pub use session::{ModelSession, Session, SessionOptions};
pub use spent::Passes;
pub use statements::{Experiment, prepare_all};
