//! Where the temporaries of a kernel lie in its scratch memory.

use super::{Base, Kernel, Lin, Vector};

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
    pub fn of(kernel: &Kernel) -> Layout {
        let mut statements: Vec<&Vector> = Vec::new();
        kernel.for_each(&mut |v, _| statements.push(v));
        let mut last = vec![0; kernel.temps.len()];
        for (at, v) in statements.iter().enumerate() {
            for_each_temp(v, &mut |t| last[t] = at);
        }

        // Slots by size, given out in order of first use. Those of a fixed size come first in memory.
        let mut place: Vec<Option<usize>> = vec![None; kernel.temps.len()];
        let mut slots: Vec<Lin> = Vec::new();
        let mut free: Vec<usize> = Vec::new();
        for (at, v) in statements.iter().enumerate() {
            if let Base::Temp(t) = v.dst.base
                && let t = t as usize
                && t < place.len()
                && place[t].is_none()
            {
                if let Some(source) = in_place(v, kernel, &last, at)
                    && let Some(slot) = place[source]
                {
                    // The source ends here: its slot passes on and is not freed below.
                    place[t] = Some(slot);
                } else {
                    let size = rounded(kernel.temps[t]);
                    let found = free.iter().position(|&s| slots[s] == size);
                    place[t] = Some(match found {
                        Some(i) => free.swap_remove(i),
                        None => {
                            slots.push(size);
                            slots.len() - 1
                        }
                    });
                }
            }
            let kept = match v.dst.base {
                Base::Temp(t) if last.get(t as usize) != Some(&at) => place.get(t as usize).copied().flatten(),
                _ => None,
            };
            let mut ended: Vec<usize> = Vec::new();
            for_each_temp(v, &mut |t| {
                if last[t] == at
                    && let Some(slot) = place[t]
                    && Some(slot) != kept
                    && !ended.contains(&slot)
                {
                    ended.push(slot);
                }
            });
            free.extend(ended);
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

fn for_each_temp(v: &Vector, f: &mut dyn FnMut(usize)) {
    let srcs = v.srcs.iter().filter_map(|s| s.as_ref());
    for r in srcs.chain([&v.dst]) {
        if let Base::Temp(t) = r.base {
            f(t as usize);
        }
    }
}

/// A temporary that ends at this statement and that the result may overwrite element by element.
fn in_place(v: &Vector, kernel: &Kernel, last: &[usize], at: usize) -> Option<usize> {
    let Base::Temp(dst) = v.dst.base else { return None };
    if !v.op.is_map() {
        return None;
    }
    let len = kernel.temps[dst as usize];
    let covers = v.loops.iter().try_fold(Lin::ONE, |n, l| n.times(*l)) == Some(len);
    v.srcs.iter().filter_map(|s| s.as_ref()).find_map(|r| match r.base {
        Base::Temp(t)
            if covers
                && last[t as usize] == at
                && kernel.temps[t as usize] == len
                && r.offset == v.dst.offset
                && r.strides == v.dst.strides
                && v.srcs.iter().filter_map(|s| s.as_ref()).filter(|o| o.base == r.base).all(|o| o == r) =>
        {
            Some(t as usize)
        }
        _ => None,
    })
}
