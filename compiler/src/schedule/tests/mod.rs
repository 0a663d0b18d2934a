//! Tests of the scheduler on small plans that are built by hand or at random.

mod placement;
mod plans;
mod random;
mod run;

use plans::Plans;
pub(crate) use plans::Random;
