//! Whole scripts: loading, checking, deriving tensors, running every statement, reporting.

mod derive;
mod explain;
mod live;
mod measure;
mod needs;
mod phase;
mod sample;
mod session;
mod show;
mod statements;

pub use explain::explanation;
pub use needs::Needs;
pub use phase::{PhaseOptions, Prepared, prepare};
pub use session::{ModelSession, Session, SessionOptions};
pub use statements::{Done, Experiment, prepare_all, run, run_on};
