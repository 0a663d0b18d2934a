//! Tests of the scheduler on small plans that are built by hand or at random.

mod placement;
mod plans;
mod random;
mod run;

pub(crate) use plans::{Plans, Random};
