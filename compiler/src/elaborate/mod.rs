//! Elaboration: a script and a model file become Plans, and every user error is found.

mod builtins;
mod call;
mod check;
mod data;
mod derive;
mod edits;
mod eval;
mod index;
mod library;
mod metric;
mod model;
mod positions;
mod reads;
mod runs;
mod scope;
mod script;
mod select;
mod sites;
mod slots;
mod stmt;
mod sweep;
mod tables;
mod tensors;
mod typing;
mod value;

pub use builtins::NAMES as BUILTINS;
pub use check::check;
pub use derive::{Leaf, LeafStat};
pub use library::{Library, STANDARD};
pub use metric::FUNCTIONS as METRIC_FUNCTIONS;
pub use model::{Built, Instance, Model, OutputSpec, canonical};
pub use positions::{Alignment, Interval, Misfit, RowSet, Sequence};
pub use reads::{Lens, RowRead};
pub use scope::TensorType;
pub use script::*;
pub use value::Scope;
