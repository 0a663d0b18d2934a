//! Where the temporaries of a kernel lie in its scratch memory.

use super::{Base, Kernel, Lin, Operand, Ref, Vector};

/// Statements with the same loops that are executed together: for every index of the outer loops, each statement's last
/// loop in order.
pub struct Pass {
    pub loops: Vec<Lin>,
    /// Chooses among two lists: the first where the number is not 0, else the second. Without it there is one.
    pub condition: Option<Operand>,
    pub lists: Vec<Vec<Vector>>,
}

impl Pass {
    pub fn of(v: &Vector) -> Pass {
        Pass { loops: v.loops.clone(), condition: None, lists: vec![vec![v.clone()]] }
    }

    pub fn statements(&self) -> impl Iterator<Item = &Vector> {
        self.lists.iter().flatten()
    }

    fn temps(&self) -> impl Iterator<Item = usize> {
        let condition = self.condition.iter().filter_map(|c| c.as_ref());
        condition.chain(self.statements().flat_map(accessed)).filter_map(temp)
    }
}

/// The places of the temporaries. Those that are never needed at once share one.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// In floats from the start of the scratch memory, by temporary.
    pub offsets: Vec<Lin>,
    /// The floats of scratch memory that the kernel needs.
    pub total: Lin,
}

/// Temporaries of a fixed length begin at cache lines.
const LINE: usize = 16;

impl Layout {
    /// For the statements one after another.
    pub fn of(kernel: &Kernel) -> Layout {
        let mut passes: Vec<Pass> = Vec::new();
        kernel.for_each(&mut |v, _| passes.push(Pass::of(v)));
        Layout::of_passes(&kernel.temps, &passes.iter().collect::<Vec<_>>())
    }

    /// For passes in order.
    pub fn of_passes(temps: &[Lin], passes: &[&Pass]) -> Layout {
        let mut last = vec![0; temps.len()];
        for (at, pass) in passes.iter().enumerate() {
            pass.temps().for_each(|t| last[t] = at);
        }

        // Slots by size, given out in order of first use. Those of a fixed size come first in memory.
        let mut place: Vec<Option<usize>> = vec![None; temps.len()];
        let mut slots: Vec<Lin> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        for (at, pass) in passes.iter().enumerate() {
            // Slots that pass on to a temporary that begins here.
            let mut kept: Vec<usize> = Vec::new();
            for v in pass.statements() {
                let Some(t) = temp(&v.dst).filter(|t| place.get(*t) == Some(&None)) else { continue };
                let handed = in_place(v, pass, temps, &last, at).and_then(|source| place[source]);
                place[t] = handed.filter(|slot| !kept.contains(slot));
                if let Some(slot) = place[t] {
                    if last[t] != at {
                        kept.push(slot);
                    }
                    continue;
                }
                let size = rounded(temps[t]);
                let found = free.iter().position(|&s| slots[s] == size);
                place[t] = Some(found.map_or(slots.len(), |i| free.swap_remove(i)));
                if found.is_none() {
                    slots.push(size);
                }
            }
            for t in pass.temps().filter(|t| last[*t] == at) {
                if let Some(slot) = place[t]
                    && !kept.contains(&slot)
                    && !free.contains(&slot)
                {
                    free.push(slot);
                }
            }
        }

        let fixed: usize = slots.iter().filter(|s| s.keys == 0).map(|s| s.fixed).sum();
        let mut starts = Vec::with_capacity(slots.len());
        let (mut low, mut high) = (Lin::ZERO, Lin::fixed(fixed));
        for size in &slots {
            let next = if size.keys == 0 { &mut low } else { &mut high };
            starts.push(*next);
            *next = next.plus(*size);
        }
        let offsets = place.iter().map(|p| p.map_or(Lin::ZERO, |slot| starts[slot])).collect();
        Layout { offsets, total: high }
    }
}

fn rounded(len: Lin) -> Lin {
    if len.keys == 0 { Lin::fixed(len.fixed.max(1).next_multiple_of(LINE)) } else { len }
}

fn temp(r: &Ref) -> Option<usize> {
    match r.base {
        Base::Temp(t) => Some(t as usize),
        Base::Param(_) => None,
    }
}

fn accessed(v: &Vector) -> impl Iterator<Item = &Ref> {
    v.srcs.iter().filter_map(|s| s.as_ref()).chain([&v.dst])
}

/// A temporary that ends at this pass and that the result may overwrite element by element.
fn in_place(v: &Vector, pass: &Pass, temps: &[Lin], last: &[usize], at: usize) -> Option<usize> {
    let dst = temp(&v.dst)?;
    let len = temps[dst];
    let covers = v.loops.iter().try_fold(Lin::ONE, |n, l| n.times(*l)) == Some(len);
    if !v.op.is_map() || !covers {
        return None;
    }
    // In each list, only the elements that are about to be overwritten, and none of them later.
    let ends = |list: &Vec<Vector>, old: &Ref| {
        let uses = |v: &Vector| accessed(v).any(|r| r.base == old.base);
        let begin = list.iter().position(|o| o.dst.base == v.dst.base).unwrap_or(list.len());
        let (before, after) = list.split_at(list.len().min(begin + 1));
        let same = before.iter().flat_map(accessed).filter(|r| r.base == old.base).all(|r| r == old);
        same && !after.iter().any(uses)
    };
    v.srcs.iter().filter_map(|s| s.as_ref()).find_map(|r| {
        let t = temp(r)?;
        let fits = last[t] == at && temps[t] == len && r.offset == v.dst.offset && r.strides == v.dst.strides;
        let free = pass.condition.as_ref().and_then(|c| c.as_ref()).is_none_or(|c| c.base != r.base);
        (fits && free && pass.lists.iter().all(|list| ends(list, r))).then_some(t)
    })
}
