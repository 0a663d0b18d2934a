//! Value numbers: which rows of a step are one row.
//!
//! A row's number before a stretch is a hash of all that its values there depend on: its token and
//! prefix, and the edits on it and on what it reads. Rows with one number are computed once.

use crate::engine::{Extend, Run};
use crate::error::Error;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use steer_compiler::plan::EditId;
use steer_compiler::program::Program;

/// A 128-bit hash; rows are compared by it alone.
pub type Number = u128;

/// What is kept of a run.
pub struct RunState {
    pub run: Run,
    /// The place in `Run::edits` of each edit of the Plan.
    pub edit_at: HashMap<EditId, usize>,
    pub len: usize,
    /// By stretch, by position: where the caches of that stretch hold the row.
    pub slots: Vec<Vec<u32>>,
    /// By stretch: the hash of all rows so far.
    prefix: Vec<Number>,
}

impl RunState {
    pub fn new(run: Run, stretches: usize) -> Self {
        let edit_at = run.edits.iter().enumerate().map(|(i, e)| (e.edit, i)).collect();
        RunState { run, edit_at, len: 0, slots: vec![Vec::new(); stretches], prefix: vec![0; stretches] }
    }
}

/// One row of one run in a step.
#[derive(Clone, Copy, Debug)]
pub struct NewRow {
    pub run: usize,
    pub position: usize,
    pub token: u32,
    /// Index into the step's work, and into its tokens.
    pub work: usize,
    pub at: usize,
}

/// The distinct rows of one stretch.
#[derive(Clone, Debug, Default)]
pub struct RowsOf {
    /// By row of the step: its distinct row, or [`NONE`] where nothing needs it.
    pub map: Vec<u32>,
    /// By distinct row: the row of the step that stands for it.
    pub first: Vec<u32>,
}

/// A row that nothing needs.
pub const NONE: u32 = u32::MAX;

/// The rows of a step and how they are shared.
pub struct Step<'a> {
    pub work: &'a [Extend],
    pub rows: Vec<NewRow>,
    /// By run and position, the row of this step.
    index: HashMap<(usize, usize), u32>,
    pub stretches: Vec<RowsOf>,
}

impl Step<'_> {
    pub fn active(&self, runs: &[RunState], row: &NewRow, edit: EditId) -> bool {
        runs[row.run].edit_at.get(&edit).is_some_and(|&i| self.work[row.work].active.get(i).is_some_and(|a| a[row.at]))
    }

    /// The row that a patch on this row takes its value from.
    pub fn donor(&self, runs: &[RunState], row: &NewRow, edit: EditId) -> Option<u32> {
        let i = *runs[row.run].edit_at.get(&edit)?;
        let donor = runs[row.run].run.edits[i].donor?;
        let given = self.work[row.work].donor_positions.get(i).and_then(|p| p.get(row.at));
        self.index.get(&(donor, given.copied().unwrap_or(row.position))).copied()
    }
}

/// What sharing has to know of each stretch of a program.
pub struct Layout {
    /// Whether its rows read earlier ones.
    pub mixes: Vec<bool>,
    /// The patches that replace a whole value with nothing else alive beside it.
    pub whole: Vec<Vec<EditId>>,
}

/// Numbers all rows of a step, stretch by stretch, and finds the distinct ones.
///
/// `needed` says of a row of the step
/// whether anything needs it in a narrow stretch.
pub fn number<'a>(
    program: &Program,
    layout: &Layout,
    runs: &mut [RunState],
    order: &[usize],
    work: &'a [Extend],
    share: bool,
    needed: impl Fn(usize, &NewRow) -> bool,
) -> Result<Step<'a>, Error> {
    let mut by_run: Vec<(usize, usize)> = work.iter().enumerate().map(|(w, e)| (e.run, w)).collect();
    by_run.sort_by_key(|(run, _)| order[*run]);
    let mut step = Step { work, rows: Vec::new(), index: HashMap::new(), stretches: Vec::new() };
    for (run, w) in by_run {
        let start = runs[run].len;
        for (at, &token) in work[w].tokens.iter().enumerate() {
            let row = NewRow { run, position: start + at, token, work: w, at };
            step.index.insert((run, row.position), step.rows.len() as u32);
            step.rows.push(row);
        }
    }
    let mut numbers: Vec<Number> = step.rows.iter().map(|r| hash(&(r.token, r.position))).collect();
    for (s, stretch) in program.stretches.iter().enumerate() {
        let before = numbers.clone();
        if !stretch.edits.is_empty() {
            for (i, row) in step.rows.iter().enumerate() {
                for &edit in &stretch.edits {
                    if !step.active(runs, row, edit) {
                        continue;
                    }
                    let e = &runs[row.run].run.edits[runs[row.run].edit_at[&edit]];
                    let bits: Vec<u32> = e.params.iter().map(|p| p.to_bits()).collect();
                    let donor = match e.donor {
                        None => 0,
                        Some(_) => match step.donor(runs, row, edit) {
                            Some(d) => before[d as usize],
                            None => return Err(super::broken("a patch's donor has no such row in this step")),
                        },
                    };
                    numbers[i] =
                        if layout.whole[s].contains(&edit) { donor } else { hash(&(numbers[i], edit, bits, donor)) };
                }
            }
        }
        // What a row reads of earlier rows belongs to its number, from the first instruction on.
        if layout.mixes[s] {
            for (i, row) in step.rows.iter().enumerate() {
                let prefix = &mut runs[row.run].prefix[s];
                *prefix = hash(&(*prefix, numbers[i]));
                numbers[i] = *prefix;
            }
        }
        let mut distinct = RowsOf { map: vec![NONE; step.rows.len()], first: Vec::new() };
        let mut seen: HashMap<(Number, usize), u32> = HashMap::new();
        for (i, row) in step.rows.iter().enumerate() {
            if !needed(s, row) {
                continue;
            }
            let key = (numbers[i], if share { usize::MAX } else { row.run });
            let next = distinct.first.len() as u32;
            let at = *seen.entry(key).or_insert(next);
            if at == next {
                distinct.first.push(i as u32);
            }
            distinct.map[i] = at;
        }
        step.stretches.push(distinct);
    }
    Ok(step)
}

/// Two independent 64-bit hashes of a value.
fn hash(value: &impl Hash) -> Number {
    let mut a = Fnv(0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);
    let mut b = Fnv(0x9e37_79b9_7f4a_7c15, 0xff51_afd7_ed55_8ccd);
    value.hash(&mut a);
    value.hash(&mut b);
    (u128::from(a.finish()) << 64) | u128::from(b.finish())
}

/// FNV-1a over words, with a final mix: the same on every machine and in every run.
struct Fnv(u64, u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0 ^ u64::from_le_bytes(word) ^ chunk.len() as u64).wrapping_mul(self.1);
            self.0 ^= self.0 >> 29;
        }
    }

    fn finish(&self) -> u64 {
        let mut x = self.0;
        x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    }
}
