//! What patches inside of a body take: values of other rows of the same instruction.

use super::broken;
use super::runs::Users;
use super::share::{NONE, NewRow, RowsOf, Step};
use crate::error::Error;
use steer_compiler::plan::Plan;
use steer_compiler::program::{Body, BodyPatch};
use steer_lang::codes;

/// Which rows of one instruction give values of its body to which others.
pub struct Given<'b> {
    patches: &'b [BodyPatch],
    /// By patch, by distinct row: the row that it takes from, or [`NONE`].
    from: Vec<Vec<u32>>,
    /// By patch, by distinct row: its value, empty until it is computed. None where no row takes it.
    values: Vec<Vec<Option<Vec<f32>>>>,
    /// What a row is handed that takes nothing: as many zeros as any row may read.
    nothing: Vec<f32>,
    bytes: u64,
}

impl<'b> Given<'b> {
    /// `keys` is the number of keys of a row.
    pub fn new(
        plan: &Plan,
        body: &'b Body,
        users: &Users,
        step: &Step,
        rows: &RowsOf,
        keys: &dyn Fn(&NewRow) -> usize,
    ) -> Result<Self, Error> {
        let n = rows.first.len();
        let patches = &body.patches[..];
        let (mut from, mut values) = (vec![vec![NONE; n]; patches.len()], vec![vec![None; n]; patches.len()]);
        let (mut widest, mut bytes) = (0, 0);
        for (p, patch) in patches.iter().enumerate() {
            let ty = plan.ty(patch.node);
            for u in users.of(patch.edit) {
                for row in step.active(*u).filter(|row| rows.map[*row as usize] != NONE) {
                    let donor = step.donor(*u, row)?;
                    let (to, at) = (rows.map[row as usize], rows.map[donor as usize]);
                    if at == NONE {
                        return Err(broken("a row that gives to another is not computed"));
                    }
                    // Those that give stand before those that take, since runs and rows are in order.
                    if at >= to {
                        return Err(broken("a row would take what is computed after it"));
                    }
                    let [wanted, have] = [row, donor].map(|r| &step.rows[r as usize]);
                    if ty.has_keys() && keys(wanted) != keys(have) {
                        return Err(other_keys(plan, patch, [wanted, have], keys));
                    }
                    from[p][to as usize] = at;
                    if values[p][at as usize].is_none() {
                        values[p][at as usize] = Some(Vec::new());
                        bytes += ty.len_with(keys(have)) as u64 * 4;
                    }
                }
            }
            let longest = rows.first.iter().map(|i| keys(&step.rows[*i as usize])).max();
            widest = widest.max(longest.map_or(0, |keys| ty.len_with(keys)));
        }
        Ok(Given { patches, from, values, nothing: vec![0.0; widest], bytes })
    }

    /// The memory of the values that are kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The rows in turns: each takes only from rows of earlier ones.
    pub fn turns(&self, rows: usize) -> Vec<Vec<usize>> {
        let mut turn_of = vec![0; rows];
        let mut turns: Vec<Vec<usize>> = vec![Vec::new(); usize::from(rows > 0)];
        for j in 0..rows {
            let from = self.from.iter().map(|f| f[j]).filter(|f| *f != NONE);
            turn_of[j] = from.map(|f| turn_of[f as usize] + 1).max().unwrap_or(0);
            if turns.len() <= turn_of[j] {
                turns.push(Vec::new());
            }
            turns[turn_of[j]].push(j);
        }
        turns
    }

    /// Whether a row takes this result of another.
    pub fn is_asked(&self, result: u32, row: usize) -> bool {
        self.patches.iter().zip(&self.values).any(|(p, v)| p.result == result && v[row].is_some())
    }

    /// Keeps a result of a row where another takes it.
    pub fn keep(&mut self, result: u32, row: usize, value: &[f32]) {
        for (patch, values) in self.patches.iter().zip(&mut self.values) {
            if let Some(kept) = values[row].as_mut().filter(|_| patch.result == result) {
                kept.extend_from_slice(value);
            }
        }
    }

    /// What a row is handed for a patch.
    pub fn taken(&self, edit: steer_compiler::plan::EditId, row: usize) -> &[f32] {
        let patch = self.patches.iter().position(|p| p.edit == edit);
        let value = patch.and_then(|p| self.values[p].get(*self.from[p].get(row)? as usize)?.as_deref());
        value.unwrap_or(&self.nothing)
    }
}

fn other_keys(plan: &Plan, patch: &BodyPatch, at: [&NewRow; 2], keys: &dyn Fn(&NewRow) -> usize) -> Error {
    let edit = &plan.edits[patch.edit.0 as usize];
    let [to, from] = at;
    let message = format!(
        "`{}` takes {} of position {}, which has {} keys, for position {}, which has {}",
        edit.name,
        edit.site,
        from.position,
        keys(from),
        to.position,
        keys(to),
    );
    Error::new(codes::AXIS_MISMATCH, message).help("patch rows that have as many keys as those they take from")
}
