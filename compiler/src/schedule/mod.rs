//! From the Plan to a program: what is fused, in which order it runs, on which rows.

mod calls;
mod classify;
mod consts;
mod emit;
mod experts;
mod fuse;
mod graph;
mod hook;
mod legalize;
mod needs;
mod order;
mod print;
mod recurrence;
mod softmax;
mod view;

pub use emit::{Computed, EditPlace, Explain};
pub use hook::{HookKernel, hook_kernel};

use crate::plan::Plan;
use crate::plan::rules::{self, FUSE, NARROW};
use crate::program::Program;
use steer_lang::Diagnostic;

/// The program that computes the outputs of a verified Plan, and where its edits ended up.
/// `options` may leave out rules of the scheduler.
pub fn schedule(plan: &Plan, options: &rules::Options) -> Result<(Program, Explain), Diagnostic> {
    let mut g = graph::Graph::new(plan)?;
    g.fuses = options.applies(&FUSE);
    legalize::legalize(&mut g)?;
    let live = g.live();
    g.find_needs(&live);
    let live = g.live();
    let order = order::order(&g, &live, options.applies(&NARROW), g.fuses)?;
    emit::emit(&g, &live, &order)
}

#[cfg(test)]
pub(crate) mod tests;
