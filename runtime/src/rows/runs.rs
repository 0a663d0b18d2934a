//! What is kept of each run, and which runs have which edits.

use super::number::{Kind, Number, joined, mixed};
use crate::engine::{Run, RunEdit};
use crate::error::Error;
use steer_compiler::plan::{EditId, Reads};
use steer_compiler::program::{Program, Stretch};
use steer_lang::codes;

/// What is kept of a run.
pub struct RunState {
    pub run: Run,
    pub len: usize,
    /// By stretch, by position: where the caches of that stretch hold the row.
    pub slots: Vec<Vec<u32>>,
}

impl RunState {
    pub fn new(run: Run, stretches: usize) -> Self {
        RunState { run, len: 0, slots: vec![Vec::new(); stretches] }
    }
}

/// What numbers need of the rows of earlier steps.
#[derive(Default)]
pub struct Pasts {
    /// For each stretch that reads earlier rows, by run: what its rows so far come to, or the latest of
    /// their numbers, as many as its window holds beside the row itself.
    of: Vec<Vec<Number>>,
    /// By run: the rows so far as narrow stretches read them.
    pub narrow: Vec<Number>,
}

impl Pasts {
    pub fn new(program: &Program, runs: usize) -> Self {
        let wide = |s: &Stretch| match s.reads {
            Reads::Own | Reads::Whole => 0,
            Reads::Window(rows) => runs * rows.saturating_sub(1),
            Reads::Prefix | Reads::State => runs,
        };
        Pasts { of: program.stretches.iter().map(|s| vec![0; wide(s)]).collect(), narrow: vec![0; runs] }
    }

    pub fn of(&mut self, stretch: usize) -> &mut [Number] {
        &mut self.of[stretch]
    }
}

fn key(e: &RunEdit) -> Number {
    let edit = mixed(Kind::Edit, u128::from(e.edit.0));
    e.params.iter().fold(edit, |n, p| joined(Kind::Edit, n, u128::from(p.to_bits())))
}

/// One run that has an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub edit: EditId,
    pub run: usize,
    /// The edit's place in [`Run::edits`].
    pub place: usize,
    /// The run that a patch takes from.
    pub donor: Option<usize>,
    /// The number of the edit with its parameters.
    pub key: Number,
}

/// Which runs have which edits; donors stand before those they give to.
#[derive(Default)]
pub struct Users {
    /// Place of each run among those sorted so that donors come first.
    pub order: Vec<usize>,
    of_edit: Vec<Vec<Use>>,
    /// For the edits that begin in each stretch, a run's together in the order of the stretch.
    of_stretch: Vec<Vec<Use>>,
}

impl Users {
    pub fn new(program: &Program, runs: &[Run]) -> Result<Self, Error> {
        let order = donors_first(runs)?;
        let mut by_order: Vec<usize> = (0..runs.len()).collect();
        by_order.sort_unstable_by_key(|r| order[*r]);
        let mut of_edit: Vec<Vec<Use>> = Vec::new();
        for &run in &by_order {
            for (place, e) in runs[run].edits.iter().enumerate() {
                let at = e.edit.0 as usize;
                if of_edit.len() <= at {
                    of_edit.resize_with(at + 1, Vec::new);
                }
                of_edit[at].push(Use { edit: e.edit, run, place, donor: e.donor, key: key(e) });
            }
        }
        let mut users = Users { order, of_edit, of_stretch: Vec::new() };
        for stretch in &program.stretches {
            let mut uses: Vec<Use> = stretch.edits.iter().flat_map(|e| users.of(*e).iter().copied()).collect();
            uses.sort_by_key(|u| users.order[u.run]);
            users.of_stretch.push(uses);
        }
        Ok(users)
    }

    /// The runs that have an edit.
    pub fn of(&self, edit: EditId) -> &[Use] {
        self.of_edit.get(edit.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// The runs that have edits which begin in a stretch.
    pub fn begin_in(&self, stretch: usize) -> &[Use] {
        self.of_stretch.get(stretch).map_or(&[], Vec::as_slice)
    }
}

/// The place of each run in an order in which donors stand before those they give to.
fn donors_first(runs: &[Run]) -> Result<Vec<usize>, Error> {
    let circle = || Error::new(codes::BAD_TARGET, "runs patch one another in a circle");
    let mut depths: Vec<Option<usize>> = vec![None; runs.len()];
    for run in 0..runs.len() {
        // The way from this run along donors whose depth is not known yet.
        let mut way = vec![run];
        while let Some(&at) = way.last() {
            let mut deepest = 0;
            let mut open = None;
            for donor in runs[at].edits.iter().filter_map(|e| e.donor) {
                match depths.get(donor) {
                    Some(Some(d)) => deepest = deepest.max(d + 1),
                    Some(None) => open = Some(donor),
                    None => return Err(super::broken("a patch names a run that does not exist")),
                }
            }
            match open {
                Some(donor) if way.contains(&donor) => return Err(circle()),
                Some(donor) => way.push(donor),
                None => {
                    depths[at] = Some(deepest);
                    way.pop();
                }
            }
        }
    }
    let mut sorted: Vec<usize> = (0..runs.len()).collect();
    sorted.sort_by_key(|r| depths[*r]);
    let mut order = vec![0; runs.len()];
    for (place, run) in sorted.into_iter().enumerate() {
        order[run] = place;
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(donors: &[usize]) -> Run {
        let edit = |(i, d): (usize, &usize)| RunEdit { edit: EditId(i as u32), params: Vec::new(), donor: Some(*d) };
        Run { edits: donors.iter().enumerate().map(edit).collect() }
    }

    #[test]
    fn donors_stand_before_those_they_give_to() {
        let order = donors_first(&[run(&[1, 2]), run(&[2]), run(&[]), run(&[0])]).unwrap();
        assert_eq!(order, [2, 1, 0, 3]);
        assert!(donors_first(&[run(&[1]), run(&[0])]).is_err());
        assert!(donors_first(&[run(&[0])]).is_err());
        assert!(donors_first(&[run(&[7])]).is_err());
    }
}
