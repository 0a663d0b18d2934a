//! What the passes of a phase were spent on, where that is measured.

use crate::engine::Spent;

/// Passes of one sort: those of prompts, or those of new tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passes {
    pub passes: u64,
    /// Rows that were handed over.
    pub rows: u64,
    /// One for each kind of work and name.
    pub spent: Vec<Spent>,
}

impl Passes {
    /// One more pass; nothing where it was not measured.
    pub fn pass(&mut self, rows: usize, spent: Vec<Spent>) {
        if !spent.is_empty() {
            self.add(&Passes { passes: 1, rows: rows as u64, spent });
        }
    }

    pub fn add(&mut self, more: &Passes) {
        self.passes += more.passes;
        self.rows += more.rows;
        for new in &more.spent {
            match self.spent.iter_mut().find(|s| s.kind == new.kind && s.name == new.name) {
                Some(line) => {
                    line.calls += new.calls;
                    line.seconds += new.seconds;
                    line.bytes += new.bytes;
                    line.operations += new.operations;
                }
                None => self.spent.push(new.clone()),
            }
        }
    }
}
