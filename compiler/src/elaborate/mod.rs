//! Elaboration: a script and a model file become Plans, and every user error is found.

mod builtins;
mod call;
mod chat;
mod check;
mod derive;
mod eval;
mod index;
mod library;
mod metric;
mod model;
mod positions;
mod runs;
mod scope;
mod script;
mod select;
mod sites;
mod stmt;
mod tensors;
mod value;

pub use builtins::NAMES as BUILTINS;
pub use chat::{ASSISTANT, Chat, Content, Message, Prompt, Turn, Written};
pub use check::check;
pub use derive::{Leaf, LeafStat};
pub use library::{Library, STANDARD};
pub use metric::FUNCTIONS as METRIC_FUNCTIONS;
pub use model::{Built, Instance, InstanceBody, Model, OutputSpec, canonical};
pub use positions::{Interval, Misfit, RowSet, Sequence};
pub use scope::TensorType;
pub use script::*;
pub use value::Scope;
