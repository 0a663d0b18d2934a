//! The floating-point operations of products and mixers; kernels between them are few beside these.

use steer_compiler::plan::Sight;
use steer_compiler::program::{Dim, Instr, MatrixView, Program};

/// Operations for one element of a state and step: its decay, what is added, what is read.
const STATE: u64 = 8;

/// What an instruction takes for one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Whatever the row.
    pub each: u64,
    /// For each of its keys.
    pub key: u64,
    pub sight: Sight,
    /// It is that much at most: of a mixture of experts only the chosen ones are computed.
    pub chosen: bool,
}

impl Cost {
    fn of(instr: &Instr) -> Self {
        let each = |each| Cost { each, ..Cost::default() };
        match instr {
            Instr::Linear { w, extra, active, .. } => {
                Cost { chosen: active.is_some(), ..each(products(w) * *extra as u64) }
            }
            Instr::Experts(experts) => Cost { chosen: true, ..each(experts.matrices().map(products).sum()) },
            Instr::Attention { heads, d_head, window, whole, .. } => {
                let sight = Sight { window: *window, whole: *whole };
                Cost { key: 4 * (heads * d_head) as u64, sight, ..Cost::default() }
            }
            Instr::Conv1d { channels, taps, .. } => each(2 * (channels * taps) as u64),
            Instr::Scan { state, .. } => each(STATE * *state as u64),
            Instr::Kernel(_) | Instr::Lookup { .. } => Cost::default(),
        }
    }

    /// Of a row at a position, in a sequence of so many rows.
    pub fn at(&self, position: usize, rows: usize) -> u64 {
        self.each + self.key * self.sight.of(position, rows).len() as u64
    }
}

/// Of one row with all entries of a matrix.
fn products(w: &MatrixView) -> u64 {
    let count = |dims: &[Dim]| dims.iter().map(|d| d.0 as u64).product::<u64>();
    let out = w.select.as_ref().map_or(count(&w.out), |s| s.len() as u64);
    2 * count(&w.batch) * out * count(&w.inner)
}

/// What each instruction of a program takes.
pub fn costs(program: &Program) -> Vec<Vec<Cost>> {
    program.stretches.iter().map(|s| s.instrs.iter().map(Cost::of).collect()).collect()
}

/// Rows at these positions, in sequences of so many rows, through all of these instructions.
pub fn total(costs: &[Cost], places: impl Iterator<Item = (usize, usize)>) -> u64 {
    // Neighbours have the same cost but for their keys.
    if let [cost] = costs {
        return places.map(|(position, rows)| cost.at(position, rows)).sum();
    }
    let each: u64 = costs.iter().map(|c| c.each).sum();
    let keyed: Vec<&Cost> = costs.iter().filter(|c| c.key > 0).collect();
    places.map(|(position, rows)| each + keyed.iter().map(|c| c.at(position, rows)).sum::<u64>()).sum()
}
