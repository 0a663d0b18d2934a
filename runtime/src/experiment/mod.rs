//! Whole scripts: loading, checking, deriving tensors, running every statement, reporting.

mod derive;
mod explain;
mod live;
mod measure;
mod phase;
mod sample;
mod session;
mod statements;
mod table;

pub use explain::explanation;
pub use phase::{PhaseOptions, Prepared, prepare};
pub use session::{ModelSession, Session, SessionOptions};
pub use statements::{Done, Experiment, prepare_all, run};
