//! What earlier rows left behind: keys and values, convolution inputs, scan states.

use crate::error::Error;
use crate::memory;
use rayon::prelude::*;
use std::collections::HashMap;
use steer_compiler::plan::Reads;
use steer_compiler::program::{BufId, Instr, Program};
use steer_kernels::Area;

/// An instruction by its stretch and place.
pub type Place = (usize, usize);

/// Keys and values of one attention, or inputs of one convolution, by slot.
#[derive(Default)]
pub struct Stored {
    pub keys: Area,
    pub values: Area,
}

/// Floats that one task copies.
const COPY: usize = 1 << 16;

/// Puts rows behind those that are there, in room for half as many again where it is not enough.
pub fn append(to: &mut Area, rows: &[f32]) -> Result<(), Error> {
    let (len, need) = (to.len(), to.len() + rows.len());
    if need > to.capacity() {
        let more = (len + len / 2).max(to.capacity() + to.capacity() / 8);
        let new = Area::with_capacity(need.max(more)).or_else(|| Area::with_capacity(need));
        let mut new = new.ok_or_else(|| memory::refused(need, "what later tokens read of earlier ones"))?;
        new.show(len);
        copy(to, &mut new);
        *to = new;
    }
    to.show(need);
    copy(rows, &mut to[len..]);
    Ok(())
}

fn copy(from: &[f32], to: &mut [f32]) {
    match from.len() > COPY {
        true => to.par_chunks_mut(COPY).zip(from.par_chunks(COPY)).for_each(|(to, from)| to.copy_from_slice(from)),
        false => to.copy_from_slice(from),
    }
}

/// States of one scan, by slot: only those that a later row can start from.
#[derive(Default)]
pub struct States {
    pub at: HashMap<u32, Vec<f32>>,
    /// Buffers to use again.
    pub free: Vec<Vec<f32>>,
}

pub struct Caches {
    pub stored: HashMap<Place, Stored>,
    pub states: HashMap<Place, States>,
    /// By stretch: slots taken.
    pub slots: Vec<u32>,
}

impl Caches {
    pub fn new(program: &Program) -> Self {
        let mut c = Caches { stored: HashMap::new(), states: HashMap::new(), slots: vec![0; program.stretches.len()] };
        for (place, instr) in instructions(program) {
            match instr {
                Instr::Attention { .. } | Instr::Conv1d { .. } => {
                    c.stored.insert(place, Stored::default());
                }
                Instr::Scan { .. } => {
                    c.states.insert(place, States::default());
                }
                _ => {}
            }
        }
        c
    }

    /// Forgets all rows, and keeps the memory for others.
    pub fn clear(&mut self) {
        for stored in self.stored.values_mut() {
            stored.keys.show(0);
            stored.values.show(0);
        }
        for states in self.states.values_mut() {
            states.free.extend(states.at.drain().map(|(_, state)| state));
        }
        self.slots.fill(0);
    }
}

/// An instruction that keeps rows of buffers.
#[derive(Clone, Copy, Debug)]
pub struct Keeps {
    pub place: Place,
    pub keys: BufId,
    pub values: Option<BufId>,
}

/// Under the rows of which stretch each cached instruction keeps what it reads of earlier rows.
///
/// Keys, values and inputs of a convolution are complete before the instruction, where more rows may be
/// one than from it on: they are kept under the rows of the stretch before one that it begins. Where it
/// works only on rows that are read, that is the last stretch with all rows.
pub struct Homes {
    of: HashMap<Place, usize>,
    /// By stretch: instructions of later ones that keep its rows.
    later: Vec<Vec<Keeps>>,
    slots: Vec<bool>,
}

impl Homes {
    pub fn new(program: &Program) -> Self {
        let n = program.stretches.len();
        let narrow = program.stretches.iter().position(|s| s.narrow).unwrap_or(usize::MAX);
        let mut homes = Homes { of: HashMap::new(), later: vec![Vec::new(); n], slots: vec![false; n] };
        for (place, instr) in instructions(program) {
            let (s, i) = place;
            let home = match (kept(place, instr), instr) {
                (None, Instr::Scan { .. }) => s,
                (None, _) => continue,
                (Some(_), _) if s >= narrow => narrow.saturating_sub(1),
                (Some(_), _) if i == 0 && program.stretches[s].reads != Reads::Own => s.saturating_sub(1),
                (Some(_), _) => s,
            };
            homes.of.insert(place, home);
            homes.slots[home] = true;
            if let Some(keeps) = kept(place, instr)
                && home < s
            {
                homes.later[home].push(keeps);
            }
        }
        homes
    }

    pub fn of(&self, place: Place) -> usize {
        self.of.get(&place).copied().unwrap_or(place.0)
    }

    /// The instructions of later stretches that keep the rows of this one.
    pub fn later(&self, stretch: usize) -> &[Keeps] {
        &self.later[stretch]
    }

    /// Whether caches hold rows of a stretch.
    pub fn has_slots(&self, stretch: usize) -> bool {
        self.slots[stretch]
    }
}

/// What an instruction keeps of buffers.
pub fn kept(place: Place, instr: &Instr) -> Option<Keeps> {
    match instr {
        Instr::Attention { k, v, .. } => Some(Keeps { place, keys: *k, values: Some(*v) }),
        Instr::Conv1d { x, .. } => Some(Keeps { place, keys: *x, values: None }),
        _ => None,
    }
}

fn instructions(program: &Program) -> impl Iterator<Item = (Place, &Instr)> {
    let of = |s: usize| program.stretches[s].instrs.iter().enumerate().map(move |(i, instr)| ((s, i), instr));
    (0..program.stretches.len()).flat_map(of)
}
