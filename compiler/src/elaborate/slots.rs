//! One order for the edits of many runs.

use super::model::Instance;
use super::script::{RunSpec, Script, Use};
use std::collections::HashMap;

impl Script {
    /// The edits that runs use, laid out in one order that agrees with every run's own: one [`Instance`]
    /// a site. The second part gives for each run its uses as lists of instances.
    pub fn instances(&self, runs: &[&RunSpec]) -> (Vec<Instance>, Vec<Vec<Vec<usize>>>) {
        // A slot is one use of an edit; runs share slots where their orders agree. A new slot stands
        // before the first shared one that follows it in its run. A patch takes what its donor has there
        // after all of the donor's own edits, so it stands behind them.
        let known: HashMap<&RunSpec, usize> = runs.iter().enumerate().rev().map(|(i, r)| (*r, i)).collect();
        let donor = |u: &Use| u.place.from.as_ref().and_then(|from| known.get(&from.run).copied());
        let mut slots: Vec<(usize, usize)> = Vec::new();
        let mut taken: Vec<Vec<usize>> = vec![Vec::new(); runs.len()];
        let mut next = 0;
        for run in donors_first(runs.len(), |r| runs[r].uses.iter().filter_map(donor).collect()) {
            let uses: Vec<usize> = runs[run].uses.iter().map(|u| u.edit).collect();
            let mut mine = vec![0; uses.len()];
            let mut shared = vec![usize::MAX; uses.len()];
            for (use_at, slot) in common(&uses, &slots.iter().map(|s| s.1).collect::<Vec<_>>()) {
                shared[use_at] = slots[slot].0;
            }
            for (i, &edit) in uses.iter().enumerate() {
                if shared[i] != usize::MAX {
                    mine[i] = shared[i];
                    continue;
                }
                let place = |slots: &[(usize, usize)], slot: usize| slots.iter().position(|s| s.0 == slot);
                let own = donor(&runs[run].uses[i]).map_or(&[][..], |d| &taken[d]);
                let least = own.iter().filter_map(|s| place(&slots, *s)).max().map_or(0, |p| p + 1);
                for s in &mut shared[i..] {
                    if place(&slots, *s).is_some_and(|p| p < least) {
                        *s = usize::MAX;
                    }
                }
                let following = shared[i..].iter().find(|s| **s != usize::MAX);
                let at = following.and_then(|f| place(&slots, *f)).unwrap_or(slots.len());
                slots.insert(at, (next, edit));
                mine[i] = next;
                next += 1;
            }
            taken[run] = mine;
        }
        let mut instances = Vec::new();
        let mut of_slot: Vec<Vec<usize>> = vec![Vec::new(); next];
        for &(slot, edit) in &slots {
            let decl = &self.edits[edit];
            let mut ids = Vec::new();
            for (site, layer) in &decl.sites {
                ids.push(instances.len());
                instances.push(Instance { slot, ..decl.instance(site, *layer) });
            }
            of_slot[slot] = ids;
        }
        let runs = taken.into_iter().map(|mine| mine.into_iter().map(|s| of_slot[s].clone()).collect()).collect();
        (instances, runs)
    }
}

/// All of `n` runs, each behind those that it takes from.
fn donors_first(n: usize, donors: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    fn visit(run: usize, donors: &dyn Fn(usize) -> Vec<usize>, seen: &mut [bool], order: &mut Vec<usize>) {
        if !std::mem::replace(&mut seen[run], true) {
            donors(run).into_iter().for_each(|d| visit(d, donors, seen, order));
            order.push(run);
        }
    }
    let (mut seen, mut order) = (vec![false; n], Vec::new());
    (0..n).for_each(|run| visit(run, &donors, &mut seen, &mut order));
    order
}

/// A longest common subsequence, as pairs of places.
pub(super) fn common<T: PartialEq>(a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    let mut best = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            best[i][j] = if a[i] == b[j] { best[i + 1][j + 1] + 1 } else { best[i + 1][j].max(best[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            out.push((i, j));
            i += 1;
            j += 1;
        } else if best[i + 1][j] >= best[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}
