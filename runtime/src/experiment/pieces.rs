//! An experiment cut into pieces that fit into memory.

use super::live::Ask;
use super::needs::Needs;
use super::phase::{PhaseOptions, Prepared};
use super::statements::{Experiment, What};
use crate::error::Error;
use steer_lang::Diagnostics;

/// A pass of a piece has about so many rows at most, so that results come now and then.
const ROWS: usize = 16384;
/// And a piece takes about so many floating-point operations: what is finished is kept piece by piece, and an
/// interruption costs no more than one. Minutes on two cores.
const OPERATIONS: u64 = 20_000_000_000_000;

/// Some units of an experiment that are executed together.
pub struct Piece {
    pub units: Vec<usize>,
    /// The floating-point operations that it takes.
    pub operations: u64,
}

/// Some units of an experiment with the runs that they need, numbered anew.
pub struct Part {
    pub units: Vec<usize>,
    /// By new number: the run of the experiment.
    pub runs: Vec<usize>,
    /// By run of the experiment.
    locals: Vec<Option<usize>>,
    pub prepared: Prepared,
    pub asks: Vec<Ask>,
}

impl Part {
    pub fn new(experiment: &Experiment, units: &[usize]) -> Self {
        let all = &experiment.prepared;
        let mut asks = experiment.asks(units);
        let mut needed = vec![false; all.runs.len()];
        let mut open: Vec<usize> = Vec::new();
        for unit in units.iter().map(|u| &experiment.units[*u]) {
            open.extend(unit.reads.iter().map(|r| r.0));
            open.extend(unit.grows.iter().map(|g| g.0));
        }
        while let Some(run) = open.pop() {
            if !std::mem::replace(&mut needed[run], true) {
                open.extend(all.engine_runs[run].edits.iter().filter_map(|e| e.donor));
            }
        }
        let runs: Vec<usize> = (0..all.runs.len()).filter(|r| needed[*r]).collect();
        let mut locals = vec![None; all.runs.len()];
        for (local, run) in runs.iter().enumerate() {
            locals[*run] = Some(local);
        }
        let asks = runs.iter().map(|r| std::mem::take(&mut asks[*r])).collect();
        Part { units: units.to_vec(), prepared: all.part(&runs, &locals), runs, locals, asks }
    }

    /// The memory that it takes.
    pub fn needs(&self, experiment: &Experiment, options: &PhaseOptions) -> Result<Needs, Error> {
        let mut needs = Needs::of(&self.prepared, &self.asks, options)?;
        // What is captured is put together once more to be written.
        let plan = &self.prepared.plan;
        let captures = self.units.iter().map(|u| &experiment.units[*u]).filter(|u| u.what == What::Capture);
        let bytes = |(_, output, rows): &(usize, usize, Vec<usize>)| {
            let widest = rows.iter().max().map_or(0, |p| p + 1);
            rows.len() as u64 * plan.ty(plan.outputs[*output].node).len_with(widest) as u64 * 4
        };
        let captured = captures.flat_map(|u| &u.reads).map(bytes).fold(0, u64::saturating_add);
        needs.outputs = needs.outputs.saturating_add(captured);
        Ok(needs)
    }

    /// The number that a run of the experiment has here.
    pub fn local(&self, run: usize) -> Option<usize> {
        self.locals[run]
    }
}

impl Experiment {
    /// The memory that it takes in one piece.
    pub fn needs(&self, options: &PhaseOptions) -> Result<Needs, Error> {
        Part::new(self, &self.whole()).needs(self, options)
    }
}

/// Units in pieces, in order: tables and captures first, then texts. All in one where they fit.
pub fn pieces(
    experiment: &Experiment,
    units: &[usize],
    options: &PhaseOptions,
    budget: Option<u64>,
) -> Result<Vec<Piece>, Diagnostics> {
    let needs = |units: &[usize]| -> Result<(Needs, usize), Diagnostics> {
        let part = Part::new(experiment, units);
        let longest = part.prepared.runs.iter().map(|r| r.encoded.tokens.len()).max().unwrap_or(0);
        Ok((part.needs(experiment, options).map_err(|e| vec![*e.0])?, longest))
    };
    // What a piece of these takes, where they fit into one.
    let fits = |units: &[usize]| -> Result<Option<u64>, Diagnostics> {
        let (needs, longest) = needs(units)?;
        let small = needs.pass_rows <= ROWS.max(16 * longest) && needs.operations <= OPERATIONS;
        Ok((small && budget.is_none_or(|b| needs.total() <= b)).then_some(needs.operations))
    };
    if units.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(operations) = fits(units)? {
        return Ok(vec![Piece { units: units.to_vec(), operations }]);
    }
    let mut out = Vec::new();
    let text = |u: &&usize| experiment.units[**u].what == What::Text;
    for texts in [false, true] {
        let rest: Vec<usize> = units.iter().filter(|u| text(u) == texts).copied().collect();
        let mut rest = &rest[..];
        while !rest.is_empty() {
            // The most units that fit: at least one, whatever it takes.
            let (mut low, mut high) = (1, 2.min(rest.len()));
            while high > low && fits(&rest[..high])?.is_some() {
                low = high;
                high = (high * 2).min(rest.len());
            }
            while low + 1 < high {
                let middle = (low + high) / 2;
                if fits(&rest[..middle])?.is_some() {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            out.push(Piece { units: rest[..low].to_vec(), operations: needs(&rest[..low])?.0.operations });
            rest = &rest[low..];
        }
    }
    Ok(out)
}
