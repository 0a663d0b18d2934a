//! Scores, pattern and result of many query rows at a time.

use super::{BLOCK_KEYS, Heads, KeyValues, Pattern, Queries, Scratch, mix_rows, pack_keys, room};
use crate::gemm::{even, groups};
use crate::isa::Isa;
use crate::pack::PANEL;
use crate::rows;
use crate::tile::{Tile, Tiles};
use std::ops::Range;

/// Scores held at a time, about: 2 MiB of them.
const BLOCK_SCORES: usize = 1 << 19;
/// Query rows times heads of a group that are worth turning the keys to columns for.
const FEWEST: usize = 56;

/// One call of [`super::attend_block`].
pub(super) struct Block<'a> {
    pub tiles: &'static Tiles,
    pub isa: Isa,
    pub shape: &'a Heads,
    pub scale: f32,
    pub queries: &'a Queries,
    pub cache: &'a KeyValues,
    pub slots: &'a [u32],
    pub scratch: &'a mut Scratch,
}

/// Some query rows, for one key head after another. A pair is a row and a head of the group.
struct Part<'a> {
    first_row: usize,
    seen: &'a [Range<usize>],
    /// The keys that some of the rows see.
    keys: Range<usize>,
    /// From one pair's scores to the next one's.
    stride: usize,
}

impl Part<'_> {
    /// The keys seen by every one, and by some one, of the rows of `pairs`.
    fn common(&self, pairs: Range<usize>, group: usize) -> (Range<usize>, Range<usize>) {
        let rows = &self.seen[pairs.start / group..pairs.end.div_ceil(group)];
        let starts = rows.iter().map(|r| r.start);
        let ends = rows.iter().map(|r| r.end);
        let all = starts.clone().max().unwrap_or(0)..ends.clone().min().unwrap_or(0);
        (all, starts.min().unwrap_or(0)..ends.max().unwrap_or(0))
    }
}

impl Block<'_> {
    pub(super) unsafe fn run(&mut self, seen: &[Range<usize>], kv_heads: Range<usize>) {
        let group = self.shape.group();
        let widest = seen.iter().map(|r| r.end).max().unwrap_or(0).max(1);
        let rows = (BLOCK_SCORES / widest).max(FEWEST).div_ceil(group);
        for (i, seen) in seen.chunks(rows).enumerate() {
            let start = seen.iter().map(|r| r.start).min().unwrap_or(0);
            let end = seen.iter().map(|r| r.end).max().unwrap_or(0);
            let stride = (end - start).next_multiple_of(PANEL) + PANEL;
            let part = Part { first_row: i * rows, seen, keys: start..end, stride };
            for head in kv_heads.clone() {
                unsafe {
                    self.scores(&part, head);
                    self.softmax(&part);
                    self.results(&part, head);
                }
            }
        }
    }

    /// Coordinate 0 of a pair's query.
    unsafe fn query(&self, part: &Part<'_>, head: usize, pair: usize) -> *const f32 {
        let group = self.shape.group();
        let (row, member) = (part.first_row + pair / group, pair % group);
        unsafe { self.queries.q.add(row * self.queries.q_stride + (head * group + member) * self.shape.d_head) }
    }

    /// The scores of every pair, before the scale; a strip of pairs skips panels it does not see.
    unsafe fn scores(&mut self, part: &Part<'_>, head: usize) {
        let (group, d_head) = (self.shape.group(), self.shape.d_head);
        let pairs = part.seen.len() * group;
        let scores = room(&mut self.scratch.scores, pairs * part.stride);
        let keys = room(&mut self.scratch.keys, BLOCK_KEYS * d_head + 16);
        let queries = room(&mut self.scratch.queries, pairs * d_head + 16);
        // The heads of one row lie side by side: a few of them are read where they lie.
        let in_place = part.seen.len() == 1 && group <= self.tiles.direct[0].len();
        let lists = if in_place { self.tiles.direct } else { self.tiles.packed };
        let most = lists[0].len();
        let widest = (0..lists.len()).rev().find(|&n| lists[n].len() >= most.min(pairs)).unwrap_or(0);
        unsafe {
            if !in_place {
                for (first, len) in even(pairs, most) {
                    let mut from = [self.queries.q; PANEL];
                    for (i, p) in from.iter_mut().enumerate().take(len) {
                        *p = self.query(part, head, first + i);
                    }
                    (self.tiles.transpose)(&from[..len], d_head, queries.add(first * d_head));
                }
            }
            let cache = self.cache.keys.add(head * d_head);
            for begin in part.keys.clone().step_by(BLOCK_KEYS) {
                let end = part.keys.end.min(begin + BLOCK_KEYS);
                pack_keys(self.tiles, cache, self.cache.key_stride, &self.slots[begin..end], d_head, keys);
                for (first, len) in even(pairs, most) {
                    let some = part.common(first..first + len, group).1;
                    let from = some.start.max(begin);
                    let to = some.end.min(end);
                    if from >= to {
                        continue;
                    }
                    let panels = (from - begin) / PANEL..(to - begin).div_ceil(PANEL);
                    for (p, n, cols) in groups(panels, usize::MAX / PANEL * PANEL, widest) {
                        let a = if in_place { self.query(part, head, 0) } else { queries.add(first * d_head) };
                        lists[n][len - 1](&Tile {
                            a,
                            a_row: d_head,
                            b: keys.add(p * PANEL * d_head),
                            b_panel: PANEL * d_head,
                            inputs: d_head,
                            c: scores.add(first * part.stride + begin - part.keys.start + p * PANEL),
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

    unsafe fn softmax(&mut self, part: &Part<'_>) {
        let softmax = rows::softmax_scaled(self.isa);
        let group = self.shape.group();
        let scores = self.scratch.scores.as_mut_ptr();
        for pair in 0..part.seen.len() * group {
            let seen = &part.seen[pair / group];
            unsafe {
                let row = scores.add(pair * part.stride + seen.start - part.keys.start);
                softmax(row, row, self.scale, seen.len());
            }
        }
    }

    /// The keys that all pairs of a strip see are mixed together, those before and after for each
    /// pair: one chain over the keys in order, through memory.
    unsafe fn results(&mut self, part: &Part<'_>, head: usize) {
        let (group, d_head) = (self.shape.group(), self.shape.d_head);
        let pairs = part.seen.len() * group;
        let scores = self.scratch.scores.as_ptr();
        let results = room(&mut self.scratch.results, pairs * d_head);
        unsafe { results.write_bytes(0, pairs * d_head) };
        let values = unsafe { self.cache.values.add(head * d_head) };
        let mix = |first: usize, count: usize, keys: Range<usize>| unsafe {
            if keys.is_empty() {
                return;
            }
            let pattern = Pattern {
                at: scores.add(first * part.stride + keys.start - part.keys.start),
                stride: part.stride,
                out: results.add(first * d_head),
                out_stride: d_head,
            };
            mix_rows(self.tiles, &pattern, count, values, self.cache.value_stride, &self.slots[keys], d_head);
        };
        for (first, len) in even(pairs, self.tiles.mix[0].len()) {
            let all = part.common(first..first + len, group).0;
            if all.is_empty() {
                for pair in first..first + len {
                    mix(pair, 1, part.seen[pair / group].clone());
                }
                continue;
            }
            for pair in first..first + len {
                mix(pair, 1, part.seen[pair / group].start..all.start);
            }
            mix(first, len, all.clone());
            for pair in first..first + len {
                mix(pair, 1, all.end..part.seen[pair / group].end);
            }
        }
        for pair in 0..pairs {
            let (row, member) = (part.first_row + pair / group, pair % group);
            unsafe {
                let to = self.queries.out.add(row * self.queries.out_stride + (head * group + member) * d_head);
                std::ptr::copy_nonoverlapping(results.add(pair * d_head), to, d_head);
            }
        }
    }
}
