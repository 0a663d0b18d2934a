//! Attention of one row, whose keys and values are read where they lie, once for all queries of a group.

use super::loops::{Loops, Mix, Scores, loops};
use super::{Heads, KeyValues, Softmax};
use crate::gemm::even;
use crate::isa::Isa;
use crate::pack::PANEL;
use std::ops::Range;

/// How many keys before they are read keys are asked for.
const AHEAD: usize = 2 * PANEL;
/// Values that are mixed at a time: they and those that come next fit into the innermost cache.
const BLOCK: usize = 32;

/// One row's attention in three steps, each of which threads can share: scores by keys, the pattern by query heads,
/// results by coordinates. The bits are the same however they are shared.
pub struct Row<'a> {
    loops: &'static Loops,
    isa: Isa,
    shape: &'a Heads,
    cache: &'a KeyValues,
    slots: &'a [u32],
}

impl<'a> Row<'a> {
    /// Of a row that sees all of `slots`.
    ///
    /// # Panics
    /// When the heads are no multiple of the key heads, or this processor lacks `isa`.
    pub fn new(isa: Isa, shape: &'a Heads, cache: &'a KeyValues, slots: &'a [u32]) -> Row<'a> {
        assert!(shape.heads.is_multiple_of(shape.kv_heads), "{shape:?}");
        Row { loops: loops(isa, cache.format), isa, shape, cache, slots }
    }

    /// From one query head's scores to the next one's.
    pub fn stride(&self) -> usize {
        self.slots.len().next_multiple_of(PANEL)
    }

    fn key(&self, head: usize, j: usize) -> *const f32 {
        let at = self.slots[j] as usize * self.cache.key_stride + head * self.cache.key_head;
        self.cache.keys.wrapping_add(at)
    }

    fn value(&self, head: usize, j: usize) -> *const f32 {
        let at = self.slots[j] as usize * self.cache.value_stride + head * self.cache.value_head;
        self.cache.values.wrapping_add(at)
    }

    /// The scores, before the scale, of the query heads of `heads` with the keys `keys`, of which the first is a multiple
    /// of 16. `q` is query head 0, `scores` that of key head `heads.start`.
    ///
    /// # Safety
    /// The queries are readable, the slots too, and `scores` is writable at `stride` for each query head; nobody else
    /// uses the scores of these keys meanwhile.
    pub unsafe fn scores(&self, q: *const f32, heads: Range<usize>, keys: Range<usize>, scores: *mut f32) {
        let (group, d_head, stride) = (self.shape.group(), self.shape.d_head, self.stride());
        // Behind the keys of all heads, the values of the first one come next.
        let later = |place: usize| {
            let (head, j) = (heads.start + place / keys.len(), keys.start + place % keys.len());
            if head < heads.end { self.key(head, j) } else { self.value(heads.start, j) }
        };
        for (i, head) in heads.clone().enumerate() {
            for first in keys.clone().step_by(PANEL) {
                let count = (keys.end - first).min(PANEL);
                let mut panel = [self.key(head, first); PANEL];
                let mut next = panel;
                for (j, key) in panel.iter_mut().enumerate().take(count) {
                    *key = self.key(head, first + j);
                }
                for (j, key) in next.iter_mut().enumerate() {
                    *key = later(i * keys.len() + first - keys.start + AHEAD + j);
                }
                // SAFETY: the caller; rows of scores have room for whole panels.
                unsafe {
                    (self.loops.scores)(&Scores {
                        q: q.add(head * group * d_head),
                        q_row: d_head,
                        queries: group,
                        keys: panel,
                        next,
                        asks: count,
                        d_head,
                        out: scores.add(i * group * stride + first),
                        out_row: stride,
                    });
                }
            }
        }
    }

    /// Makes the pattern of query head `head` of its scores, at `scores`.
    ///
    /// # Safety
    /// The scores are readable and writable.
    pub unsafe fn pattern(&self, softmax: &Softmax, head: usize, scores: *mut f32) {
        // SAFETY: the caller.
        unsafe { softmax.pattern(self.isa, head, scores, self.slots.len()) }
    }

    /// Coordinates `columns` of the results of the query heads of `heads`: the first is a multiple of 16. `out` is query
    /// head 0, `scores` the pattern of key head `heads.start`.
    ///
    /// # Safety
    /// The pattern and the slots are readable, these coordinates are writable, and nobody else uses them meanwhile.
    pub unsafe fn results(&self, heads: Range<usize>, columns: Range<usize>, scores: *const f32, out: *mut f32) {
        let (group, d_head, stride) = (self.shape.group(), self.shape.d_head, self.stride());
        for head in heads.start * group..heads.end * group {
            // SAFETY: the caller.
            unsafe { out.add(head * d_head + columns.start).write_bytes(0, columns.len()) };
        }
        for (i, head) in heads.clone().enumerate() {
            let values = self.cache.values.wrapping_add(head * self.cache.value_head);
            for first in (0..self.slots.len()).step_by(BLOCK) {
                let slots = &self.slots[first..(first + BLOCK).min(self.slots.len())];
                let (next_values, next) = match &self.slots[first + slots.len()..] {
                    [] if i + 1 == heads.len() => (values, &[][..]),
                    [] => (values.wrapping_add(self.cache.value_head), self.slots),
                    next => (values, next),
                };
                for (n, (query, len)) in even(group, self.loops.mix.len()).enumerate() {
                    // SAFETY: the caller.
                    unsafe {
                        self.loops.mix[len - 1](&Mix {
                            weights: scores.add((i * group + query) * stride + first),
                            weights_row: stride,
                            values,
                            stride: self.cache.value_stride,
                            slots: slots.as_ptr(),
                            count: slots.len(),
                            next_values,
                            next: next.as_ptr(),
                            asks: if n == 0 { next.len().min(slots.len()) } else { 0 },
                            d_head,
                            from: columns.start,
                            to: columns.end,
                            out: out.add((head * group + query) * d_head),
                            out_row: d_head,
                        });
                    }
                }
            }
        }
    }
}
