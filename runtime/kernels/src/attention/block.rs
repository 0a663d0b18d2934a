//! Scores, pattern and result of many query rows at a time.

use super::{
    BLOCK_KEYS, Heads, KeyValues, Loops, Pattern, Queries, Scratch, Softmax, Values, mix_rows, pack_keys, room,
};
use crate::gemm::{even, groups};
use crate::isa::Isa;
use crate::pack::PANEL;
use crate::tile::{Tile, Tiles};
use std::ops::Range;

/// Scores held at a time, about: 1 MiB of them.
pub(super) const BLOCK_SCORES: usize = 1 << 18;
/// Query rows times heads of a group that are worth turning the keys to columns for.
const FEWEST: usize = 56;

/// Slots of values side by side.
const IN_ORDER: [u32; BLOCK_KEYS] = {
    let mut slots = [0; BLOCK_KEYS];
    let mut i = 0;
    while i < BLOCK_KEYS {
        slots[i] = i as u32;
        i += 1;
    }
    slots
};

/// One call of [`super::attend_block`].
pub(super) struct Block<'a> {
    pub tiles: &'static Tiles,
    /// For keys and values as they are stored, and for copies of them as numbers.
    pub loops: &'static Loops,
    pub plain: &'static Loops,
    pub isa: Isa,
    pub shape: &'a Heads,
    pub softmax: Softmax<'a>,
    pub queries: &'a Queries,
    pub cache: &'a KeyValues,
    pub slots: &'a [u32],
    pub scratch: &'a mut Scratch,
}

/// Some query rows and key heads. A pair is a row and a head of the key head's group.
struct Part<'a> {
    first_row: usize,
    seen: &'a [Range<usize>],
    pairs: usize,
    heads: Range<usize>,
    /// The keys that some of the rows see.
    keys: Range<usize>,
    /// From one pair's scores to the next one's.
    stride: usize,
}

impl Part<'_> {
    /// The keys seen by every one, and by some one, of the rows of `pairs`.
    fn common(&self, pairs: Range<usize>, group: usize) -> (Range<usize>, Range<usize>) {
        let rows = &self.seen[pairs.start / group..pairs.end.div_ceil(group)];
        let (mut all, mut some) = (rows[0].clone(), rows[0].clone());
        for row in rows {
            all = all.start.max(row.start)..all.end.min(row.end);
            some = some.start.min(row.start)..some.end.max(row.end);
        }
        (all, some)
    }

    /// The keys in blocks.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let keys = self.keys.clone();
        keys.clone().step_by(BLOCK_KEYS).map(move |k| k..keys.end.min(k + BLOCK_KEYS))
    }
}

fn both(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

impl Block<'_> {
    pub(super) unsafe fn run(&mut self, seen: &[Range<usize>], kv_heads: Range<usize>) {
        let group = self.shape.group();
        let widest = seen.iter().map(|r| r.end).max().unwrap_or(0).max(1);
        let rows = (BLOCK_SCORES / widest).max(FEWEST).div_ceil(group);
        for (i, seen) in seen.chunks(rows).enumerate() {
            let pairs = seen.len() * group;
            let keys = seen.iter().map(|r| r.start).min().unwrap_or(0)..seen.iter().map(|r| r.end).max().unwrap_or(0);
            let stride = keys.len().next_multiple_of(PANEL) + PANEL;
            // As many heads at a time as there is room for: rows of keys are then read as a whole.
            let together = (BLOCK_SCORES / (pairs * stride)).max(1);
            for head in kv_heads.clone().step_by(together) {
                let heads = head..kv_heads.end.min(head + together);
                let part = Part { first_row: i * rows, seen, pairs, heads, keys: keys.clone(), stride };
                unsafe {
                    self.scores(&part);
                    self.softmax(&part);
                    self.results(&part);
                }
            }
        }
    }

    /// Where a pair's coordinates are in a row of queries or results.
    fn place(&self, part: &Part<'_>, head: usize, pair: usize, stride: usize) -> usize {
        let group = self.shape.group();
        (part.first_row + pair / group) * stride + (head * group + pair % group) * self.shape.d_head
    }

    /// The scores of every pair, before the scale; a strip of pairs skips panels it does not see.
    unsafe fn scores(&mut self, part: &Part<'_>) {
        let (group, d_head) = (self.shape.group(), self.shape.d_head);
        let scores = room(&mut self.scratch.scores, part.heads.len() * part.pairs * part.stride);
        let keys = room(&mut self.scratch.keys, BLOCK_KEYS * d_head + 16);
        let queries = room(&mut self.scratch.queries, part.heads.len() * part.pairs * d_head + 16);
        let query = |head, pair| unsafe { self.queries.q.add(self.place(part, head, pair, self.queries.q_stride)) };
        // The heads of one row lie side by side: a few of them are read where they lie.
        let in_place = part.seen.len() == 1 && group <= self.tiles.direct[0].len();
        let lists = if in_place { self.tiles.direct } else { self.tiles.packed };
        let most = lists[0].len();
        let widest = (0..lists.len()).rev().find(|&n| lists[n].len() >= most.min(part.pairs)).unwrap_or(0);
        if !in_place {
            for (i, head) in part.heads.clone().enumerate() {
                for (first, len) in even(part.pairs, most) {
                    let mut from = [self.queries.q; PANEL];
                    for (j, p) in from.iter_mut().enumerate().take(len) {
                        *p = query(head, first + j);
                    }
                    let to = (i * part.pairs + first) * d_head;
                    unsafe { (self.tiles.transpose)(&from[..len], &[], d_head, queries.add(to)) };
                }
            }
        }
        for block in part.blocks() {
            for (i, head) in part.heads.clone().enumerate() {
                let slots = &self.slots[block.start..part.keys.end];
                let cache = unsafe { self.cache.keys.add(head * self.cache.key_head) };
                unsafe { pack_keys(self.loops, cache, self.cache.key_stride, slots, d_head, keys) };
                for (first, len) in even(part.pairs, most) {
                    let some = both(&block, &part.common(first..first + len, group).1);
                    if some.is_empty() {
                        continue;
                    }
                    let row = i * part.pairs + first;
                    let a = if in_place { query(head, 0) } else { unsafe { queries.add(row * d_head) } };
                    let c = row * part.stride + block.start - part.keys.start;
                    let panels = (some.start - block.start) / PANEL..(some.end - block.start).div_ceil(PANEL);
                    for (p, n, cols) in groups(panels, BLOCK_KEYS, widest) {
                        unsafe {
                            lists[n][len - 1](&Tile {
                                a,
                                a_row: d_head,
                                b: keys.add(p * PANEL * d_head),
                                b_panel: PANEL * d_head,
                                inputs: d_head,
                                c: scores.add(c + p * PANEL),
                                c_row: part.stride,
                                cols,
                                begin: true,
                                next: std::ptr::null(),
                                early: 0,
                            });
                        }
                    }
                }
            }
        }
    }

    unsafe fn softmax(&mut self, part: &Part<'_>) {
        let group = self.shape.group();
        let scores = self.scratch.scores.as_mut_ptr();
        for row in 0..part.heads.len() * part.pairs {
            let (head, pair) = (part.heads.start + row / part.pairs, row % part.pairs);
            let seen = &part.seen[pair / group];
            unsafe {
                let row = scores.add(row * part.stride + seen.start - part.keys.start);
                self.softmax.pattern(self.isa, head * group + pair % group, row, seen.len());
            }
        }
    }

    /// Block by block of the keys: those that all pairs of a strip see are mixed together, those
    /// before and after for each pair. One chain over the keys in order, through memory.
    unsafe fn results(&mut self, part: &Part<'_>) {
        let (group, d_head) = (self.shape.group(), self.shape.d_head);
        let (pairs, total) = (part.pairs, part.heads.len() * part.pairs);
        let scores = self.scratch.scores.as_ptr();
        let results = room(&mut self.scratch.results, total * d_head);
        unsafe { results.write_bytes(0, total * d_head) };
        let most = self.plain.mix.len();
        // Values that several strips mix are copied side by side, into the innermost cache.
        let copied = (pairs > most).then(|| room(&mut self.scratch.values, BLOCK_KEYS * d_head));
        for block in part.blocks() {
            for (i, head) in part.heads.clone().enumerate() {
                let cache = unsafe { self.cache.values.add(head * self.cache.value_head) };
                if let Some(copied) = copied {
                    let (slots, next) = self.slots[block.start..part.keys.end].split_at(block.len());
                    unsafe { (self.loops.copy)((cache, self.cache.value_stride), slots, next, d_head, copied) };
                }
                let mix = |first: usize, count: usize, keys: Range<usize>| {
                    let keys = both(&keys, &block);
                    if keys.is_empty() {
                        return;
                    }
                    let row = i * pairs + first;
                    let pattern = Pattern {
                        at: unsafe { scores.add(row * part.stride + keys.start - part.keys.start) },
                        stride: part.stride,
                        out: unsafe { results.add(row * d_head) },
                        out_stride: d_head,
                    };
                    let (loops, values) = match copied {
                        Some(at) => {
                            let slots = &IN_ORDER[keys.start - block.start..keys.end - block.start];
                            (self.plain, Values { at, stride: d_head, slots, next: &[] })
                        }
                        None => {
                            let next = &self.slots[block.end..part.keys.end];
                            let next = &next[..next.len().min(keys.len())];
                            let stride = self.cache.value_stride;
                            (self.loops, Values { at: cache, stride, slots: &self.slots[keys], next })
                        }
                    };
                    unsafe { mix_rows(loops, &pattern, count, &values, d_head) };
                };
                for (first, len) in even(pairs, most) {
                    let (all, some) = part.common(first..first + len, group);
                    if both(&some, &block).is_empty() {
                        continue;
                    }
                    let each = |keys: &dyn Fn(&Range<usize>) -> Range<usize>| {
                        for pair in first..first + len {
                            mix(pair, 1, keys(&part.seen[pair / group]));
                        }
                    };
                    if all.is_empty() {
                        each(&|seen| seen.clone());
                        continue;
                    }
                    if some.start < all.start {
                        each(&|seen| seen.start..all.start);
                    }
                    mix(first, len, all.clone());
                    if all.end < some.end {
                        each(&|seen| all.end..seen.end);
                    }
                }
            }
        }
        for (i, head) in part.heads.clone().enumerate() {
            for pair in 0..pairs {
                let to = self.place(part, head, pair, self.queries.out_stride);
                unsafe {
                    let from = results.add((i * pairs + pair) * d_head);
                    std::ptr::copy_nonoverlapping(from, self.queries.out.add(to), d_head);
                }
            }
        }
    }
}
