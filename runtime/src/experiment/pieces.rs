//! An experiment cut into pieces that fit into memory.

use super::live::Ask;
use super::needs::Needs;
use super::phase::{PhaseOptions, Prepared};
use super::statements::{Experiment, What};
use crate::error::Error;
use crate::interrupt;
use crate::progress::{Bar, Unit};
use std::cell::Cell;
use std::collections::HashSet;
use steer_lang::Diagnostics;

/// A pass of a piece has about so many rows at most, so that results come now and then.
const ROWS: usize = 16384;
/// And so many where more of them would share nothing: a pass over few rows takes little memory, used again and again.
const ALONE: usize = 4096;
/// Of so many units one is looked at to see it.
const SOME: usize = 4;
/// And a piece takes about so many floating-point operations: what is finished is kept piece by piece, and an
/// interruption costs no more than one. Minutes on two cores.
const OPERATIONS: u64 = 20_000_000_000_000;

/// Some units of an experiment that are executed together.
pub struct Piece {
    pub units: Vec<usize>,
    pub needs: Needs,
}

/// Some units of an experiment with the runs that they need, numbered anew.
pub struct Part {
    pub units: Vec<usize>,
    /// By new number: the run of the experiment. In order.
    pub runs: Vec<usize>,
    pub prepared: Prepared,
    pub asks: Vec<Ask>,
}

impl Part {
    pub fn new(experiment: &Experiment, units: &[usize]) -> Self {
        let all = &experiment.prepared;
        let mut needed: HashSet<usize> = HashSet::new();
        let mut open: Vec<usize> = Vec::new();
        for unit in units.iter().map(|u| &experiment.units[*u]) {
            open.extend(unit.reads.iter().map(|r| r.0));
            open.extend(unit.grows.iter().map(|g| g.0));
        }
        while let Some(run) = open.pop() {
            if needed.insert(run) {
                open.extend(all.engine_runs[run].edits.iter().filter_map(|e| e.donor));
            }
        }
        let mut runs: Vec<usize> = needed.into_iter().collect();
        runs.sort_unstable();
        let asks = experiment.asks(units, &runs);
        Part { units: units.to_vec(), prepared: all.part(&runs), runs, asks }
    }

    /// The memory that it takes.
    pub fn needs(&self, experiment: &Experiment, options: &PhaseOptions) -> Result<Needs, Error> {
        let mut needs = Needs::of(&self.prepared, &self.asks, options)?;
        if self.units.len() < experiment.units.len() {
            // What other pieces have chosen stays.
            needs.weights = needs.all_weights;
        }
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
        self.runs.binary_search(&run).ok()
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
    let rows = Cell::new(ROWS);
    // What a piece of these takes, and whether they fit into one.
    let look = |units: &[usize]| -> Result<(Needs, bool), Diagnostics> {
        interrupt::check().map_err(|e| vec![*e.0])?;
        let part = Part::new(experiment, units);
        let longest = part.prepared.runs.iter().map(|r| r.encoded.tokens.len()).max().unwrap_or(0);
        let needs = part.needs(experiment, options).map_err(|e| vec![*e.0])?;
        let small = needs.pass_rows <= rows.get().max(16 * longest) && needs.operations <= OPERATIONS;
        let fits = small && budget.is_none_or(|b| needs.total() <= b);
        Ok((needs, fits))
    };
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let bar = Bar::new("planning", Unit::Steps(units.len() as u64));
    let mut out: Vec<Piece> = Vec::new();
    let text = |u: &&usize| experiment.units[**u].what == What::Text;
    // Texts are pieces of their own, unless all is one.
    let texts = units.iter().filter(text).count();
    if texts > 0 && texts < units.len() {
        let (needs, fits) = look(units)?;
        if fits {
            return Ok(vec![Piece { units: units.to_vec(), needs }]);
        }
    }
    // Neighbours are alike: a piece has about as many units as the one before.
    let mut guess = units.len();
    for texts in [false, true] {
        let rest: Vec<usize> = units.iter().filter(|u| text(u) == texts).copied().collect();
        let mut rest = &rest[..];
        rows.set(ROWS);
        if rest.len() >= SOME {
            let (count, needs) = most(rest, guess.min(rest.len()), &look)?;
            guess = count;
            if count >= SOME && needs.pass_rows > ALONE && apart(&rest[..count], &needs, &look)? {
                rows.set(ALONE);
                guess = count / SOME;
            }
        }
        while !rest.is_empty() {
            let (count, needs) = most(rest, guess.min(rest.len()), &look)?;
            out.push(Piece { units: rest[..count].to_vec(), needs });
            rest = &rest[count..];
            guess = count;
            bar.inc(count as u64);
        }
    }
    Ok(out)
}

/// What some units take, and whether they fit into one piece.
type Look<'l> = dyn Fn(&[usize]) -> Result<(Needs, bool), Diagnostics> + 'l;

/// Whether a part of these units takes its part of the operations of `all`: what is computed for one of them is of no
/// use to another.
fn apart(units: &[usize], all: &Needs, look: &Look) -> Result<bool, Diagnostics> {
    let count = units.len() / SOME;
    let (some, _) = look(&units[..count])?;
    let share = count as f64 / units.len() as f64;
    Ok(some.operations as f64 <= 1.1 * share * all.operations as f64)
}

/// About the most of the first units that fit into one piece, at least one whatever it takes, beginning with a guess.
fn most(units: &[usize], guess: usize, look: &Look) -> Result<(usize, Needs), Diagnostics> {
    // What is known to fit, and the least that is known not to.
    let mut low: Option<(usize, Needs)> = None;
    let mut high = units.len() + 1;
    let (mut next, mut step) = (guess.max(1), guess / 8);
    loop {
        let (needs, fits) = look(&units[..next])?;
        match fits || next == 1 {
            true => low = Some((next, needs)),
            false => high = next,
        }
        let found = low.as_ref().map_or(0, |l| l.0);
        let near = found + (found / 8).max(1);
        match low {
            Some(low) if near >= high => return Ok(low),
            // A few more and ever more, or where too many are known, the middle.
            Some(_) if high > units.len() => {
                next = (found + step.max(1)).min(units.len());
                step = 2 * step.max(1);
            }
            _ => next = (found + high) / 2,
        }
    }
}
