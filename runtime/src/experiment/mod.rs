//! Whole scripts: loading, checking, deriving tensors, running every statement, reporting.

mod answer;
#[cfg(feature = "llvm")]
mod build;
mod derive;
mod execute;
mod explain;
mod host;
mod inputs;
mod keep;
mod keys;
mod live;
mod look;
mod measure;
mod models;
mod needs;
mod open;
mod phase;
mod pieces;
mod ready;
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
mod warm;

#[cfg(feature = "llvm")]
pub use build::{Library, library};
pub use derive::tensors;
pub use execute::{Done, merge_on, merging_computes, overflow, run, run_on};
pub use explain::{explanation, memory, rounding};
pub use inputs::{Input, InputKind};
pub use keep::{Keeping, Place as KeepingPlace, Shard, shard_file};
pub use keys::Keys;
pub use look::{Seen, printed_values, seen, sizes};
pub use needs::Needs;
pub use phase::{PhaseOptions, Prepared, TensorValues, prepare};
pub use session::{ModelSession, Part, Session, SessionOptions};
pub use spent::Passes;
pub use statements::{Experiment, prepare_all};
pub use warm::Warm;
