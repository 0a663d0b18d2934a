//! What earlier rows left behind: keys and values, convolution inputs, scan states.

use super::exec_instr::Shared;
use super::team;
use crate::error::Error;
use crate::memory;
use std::collections::HashMap;
use steer_compiler::plan::Reads;
use steer_compiler::program::{BufId, Instr, Program};
use steer_kernels::Area;
use steer_kernels::attention::CacheFormat;

/// An instruction by its stretch and place.
pub type Place = (usize, usize);

/// Numbers that one task stores.
const STORE: usize = 1 << 16;

/// Rows beyond the needed ones that are no reason to forget any.
pub const SPARE: usize = 64;

/// Rows of one buffer that an instruction keeps, by slot. The slots of each head follow one another.
pub struct Stored {
    area: Area,
    heads: usize,
    /// Numbers of a head.
    width: usize,
    format: CacheFormat,
    slots: usize,
    /// Slots that there is room for.
    room: usize,
}

impl Stored {
    fn new(heads: usize, width: usize, format: CacheFormat) -> Self {
        Stored { area: Area::default(), heads, width, format, slots: 0, room: 0 }
    }

    /// Puts rows behind those that are there, in room for half as many again where it is not enough.
    pub fn append(&mut self, rows: &[f32]) -> Result<(), Error> {
        let (width, of_row, words) = (self.width, self.heads * self.width, self.stride());
        let new = rows.len() / of_row.max(1);
        let need = self.slots + new;
        if need > self.room {
            let more = need.max(self.slots + self.slots / 2).max(self.room + self.room / 8);
            let found =
                [more, need].into_iter().find_map(|room| Some((Area::together(self.heads * room * words)?, room)));
            let refused = || memory::refused(self.heads * need * words, "what later tokens read of earlier ones");
            let (mut area, room) = found.ok_or_else(refused)?;
            let old = self.area.chunks_exact((self.room * words).max(1));
            for (to, from) in area.chunks_exact_mut(room * words).zip(old) {
                let there = self.slots * words;
                copy(&from[..there], &mut to[..there]);
            }
            (self.area, self.room) = (area, room);
        }
        let (first, format) = (self.slots * words, self.format);
        let (heads, all) = (self.room * words, Shared(self.area.as_mut_ptr()));
        let store = |head: usize| {
            // SAFETY: the slots of this head are this call's own.
            let to = unsafe { std::slice::from_raw_parts_mut(all.get().add(head * heads), heads) };
            let slots = to[first..].chunks_exact_mut(words);
            for (row, slot) in rows.chunks_exact(of_row).zip(slots) {
                format.store(width, &row[head * width..(head + 1) * width], slot);
            }
        };
        match rows.len() > STORE {
            true => team::each(self.heads, store),
            false => (0..self.heads).for_each(store),
        }
        self.slots = need;
        Ok(())
    }

    /// Keeps the rows at these places, which ascend, and moves them together.
    fn keep_only(&mut self, places: &[usize]) {
        let words = self.stride();
        for head in self.area.chunks_exact_mut((self.room * words).max(1)) {
            for (to, from) in places.iter().enumerate() {
                head.copy_within(from * words..(from + 1) * words, to * words);
            }
        }
        self.slots = places.len();
    }

    pub fn as_ptr(&self) -> *const f32 {
        self.area.as_ptr()
    }

    /// Words from slot to slot.
    pub fn stride(&self) -> usize {
        self.format.words(self.width)
    }

    /// And from head to head.
    pub fn head(&self) -> usize {
        self.room * self.stride()
    }

    pub fn format(&self) -> CacheFormat {
        self.format
    }
}

/// Of the same length.
fn copy(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "rows that move");
    let at = Shared(to.as_mut_ptr());
    team::each(from.len().div_ceil(STORE), |i| {
        let from = &from[i * STORE..from.len().min((i + 1) * STORE)];
        // SAFETY: this piece is this call's own.
        unsafe { at.get().add(i * STORE).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    });
}

/// What an instruction keeps: keys and values of an attention, inputs of a convolution.
pub struct Kept {
    pub keys: Stored,
    pub values: Option<Stored>,
    /// Where not all rows are kept: the slots of those that are, in order.
    some: Option<Vec<u32>>,
}

impl Kept {
    /// Where the row of a slot is.
    pub fn place(&self, slot: u32) -> Option<usize> {
        match &self.some {
            None => Some(slot as usize),
            Some(slots) => slots.binary_search(&slot).ok(),
        }
    }

    /// Puts rows behind those that are there, of the slots before `end`.
    pub fn append(&mut self, keys: &[f32], values: Option<&[f32]>, end: u32) -> Result<(), Error> {
        let before = self.keys.slots;
        self.keys.append(keys)?;
        if let (Some(kept), Some(values)) = (&mut self.values, values) {
            kept.append(values)?;
        }
        let new = (self.keys.slots - before) as u32;
        self.some.iter_mut().for_each(|slots| slots.extend(end - new..end));
        Ok(())
    }

    /// Forgets all but some slots, once there are twice as many as these can be.
    pub fn keep_only<I: Iterator<Item = u32>>(&mut self, most: usize, needed: impl FnOnce() -> I) {
        let Some(slots) = self.some.as_mut().filter(|slots| slots.len() > 2 * most + SPARE) else { return };
        let mut needed: Vec<u32> = needed().collect();
        needed.sort_unstable();
        needed.dedup();
        let places: Vec<usize> = needed.iter().filter_map(|slot| slots.binary_search(slot).ok()).collect();
        self.keys.keep_only(&places);
        *slots = places.iter().map(|place| slots[*place]).collect();
    }

    fn clear(&mut self) {
        self.keys.slots = 0;
        self.values.iter_mut().for_each(|values| values.slots = 0);
        self.some.iter_mut().for_each(Vec::clear);
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
    pub stored: HashMap<Place, Kept>,
    /// How keys and values are stored; all else stays as it is.
    pub format: CacheFormat,
    pub states: HashMap<Place, States>,
    /// By stretch: slots taken.
    pub slots: Vec<u32>,
}

impl Caches {
    pub fn new(program: &Program, format: CacheFormat) -> Self {
        let slots = vec![0; program.stretches.len()];
        let mut c = Caches { stored: HashMap::new(), format, states: HashMap::new(), slots };
        for (place, instr) in instructions(program) {
            match instr {
                Instr::Attention { kv_heads, d_head, .. } => {
                    let of = || Stored::new(*kv_heads, *d_head, format);
                    c.stored.insert(place, Kept { keys: of(), values: Some(of()), some: None });
                }
                Instr::Conv1d { channels, .. } => {
                    let keys = Stored::new(1, *channels, CacheFormat::F32);
                    c.stored.insert(place, Kept { keys, values: None, some: Some(Vec::new()) });
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
        self.stored.values_mut().for_each(Kept::clear);
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

#[cfg(test)]
mod tests {
    use super::{CacheFormat, Kept, SPARE, Stored};

    #[test]
    fn rows_that_are_kept_are_found_by_their_slots() {
        let mut kept = Kept { keys: Stored::new(1, 3, CacheFormat::F32), values: None, some: Some(Vec::new()) };
        let row = |slot: u32| [slot as f32, 0.5, -(slot as f32)];
        for slot in 0..500 {
            kept.append(&row(slot), None, slot + 1).unwrap();
            // A run that stopped at slot 100, and one that goes on.
            let needed = [slot.min(100), slot.saturating_sub(1), slot];
            kept.keep_only(needed.len(), || needed.into_iter());
            assert!(kept.keys.slots <= 2 * needed.len() + SPARE + 1, "{} rows after {slot}", kept.keys.slots);
            for slot in needed {
                let place = kept.place(slot).unwrap();
                // SAFETY: a row that is there.
                let there = unsafe { std::slice::from_raw_parts(kept.keys.as_ptr().add(place * 3), 3) };
                assert_eq!(there, row(slot));
            }
        }
        assert_eq!(kept.place(3), None);
        kept.clear();
        assert_eq!((kept.place(499), kept.keys.slots), (None, 0));
    }
}
