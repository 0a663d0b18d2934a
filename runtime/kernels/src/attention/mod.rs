//! Attention of query rows over an explicit list of key rows.
//!
//! For a query and a head: score `j` is `scale` times one chain of fused multiply-adds over the
//! head's coordinates in ascending order, beginning at zero; the pattern is the scores'
//! [`crate::rows::softmax_scaled`], where the head has a sink [`crate::rows::softmax_sink`];
//! coordinate `d` of the result is one chain over the keys in the order of their list, beginning at
//! zero. [`Row`] has these steps, for threads that share them and for edits in between; [`attend`]
//! and [`attend_block`] do all of them, with the same bits.

mod block;
mod format;
mod loops;
mod row;

pub use format::CacheFormat;
pub use row::Row;

use crate::gemm::even;
use crate::isa::Isa;
use crate::pack::PANEL;
use crate::rows;
use crate::tile::tiles;
use loops::{Loops, Mix, loops};
use std::ops::Range;

/// Keys worked on at a time.
const BLOCK_KEYS: usize = 64;

/// The shape of an attention's heads. Query head `h` reads key and value head
/// `h / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads, a divisor of `heads`.
    pub kv_heads: usize,
    /// Coordinates of a head.
    pub d_head: usize,
}

impl Heads {
    /// Query heads of one key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// What makes a pattern of scores: the softmax of them times a number.
#[derive(Clone, Copy, Debug)]
pub struct Softmax<'a> {
    /// Scores are multiplied by it first.
    pub scale: f32,
    /// By query head: one more score, not scaled, which takes part in the sum and has no value. Empty without sinks.
    pub sinks: &'a [f32],
}

impl Softmax<'_> {
    /// Of one query head's scores, in place.
    unsafe fn pattern(&self, isa: Isa, head: usize, scores: *mut f32, keys: usize) {
        // SAFETY: one row, in place.
        unsafe {
            match self.sinks.get(head) {
                None => rows::softmax_scaled(isa)(scores, scores, self.scale, keys),
                Some(sink) => rows::softmax_sink(isa)(scores, scores, self.scale, *sink, keys),
            }
        }
    }
}

/// Where keys and values lie, in words of four bytes: head `h` of slot `s` at `s * stride + h * head`. They are read
/// fastest where the slots of a head follow one another.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues {
    /// Slot 0 of the keys.
    pub keys: *const f32,
    /// From one slot's keys to the next one's.
    pub key_stride: usize,
    /// From one head's keys to the next one's.
    pub key_head: usize,
    /// Slot 0 of the values.
    pub values: *const f32,
    /// From one slot's values to the next one's.
    pub value_stride: usize,
    /// From one head's values to the next one's.
    pub value_head: usize,
    /// How both are stored.
    pub format: CacheFormat,
}

/// Memory for attention, to be kept from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    scores: Vec<f32>,
    keys: Vec<f32>,
    queries: Vec<f32>,
    results: Vec<f32>,
    values: Vec<f32>,
}

impl Scratch {
    /// None yet; it grows as needed.
    pub const fn new() -> Scratch {
        Scratch { scores: Vec::new(), keys: Vec::new(), queries: Vec::new(), results: Vec::new(), values: Vec::new() }
    }
}

fn room(v: &mut Vec<f32>, len: usize) -> *mut f32 {
    if v.len() < len {
        v.resize(len, 0.0);
    }
    v.as_mut_ptr()
}

/// The first block of keys as columns, in panels of 16 as weights are; the next block is asked
/// for.
unsafe fn pack_keys(loops: &Loops, keys: *const f32, stride: usize, slots: &[u32], d_head: usize, dst: *mut f32) {
    let block = &slots[..slots.len().min(BLOCK_KEYS)];
    for (p, of_panel) in block.chunks(PANEL).enumerate() {
        // A short panel repeats its first key; those columns are not used.
        let mut from = [unsafe { keys.add(of_panel[0] as usize * stride) }; PANEL];
        for (row, &slot) in from.iter_mut().zip(of_panel) {
            *row = unsafe { keys.add(slot as usize * stride) };
        }
        let later = slots.get(p * PANEL + BLOCK_KEYS..).unwrap_or(&[]);
        let mut next = from;
        for (row, &slot) in next.iter_mut().zip(later) {
            *row = unsafe { keys.add(slot as usize * stride) };
        }
        let next = &next[..later.len().min(PANEL)];
        unsafe { (loops.pack)(&from, next, d_head, dst.add(p * PANEL * d_head)) };
    }
}

/// Rows of weights over the same keys, and where their results are added up.
struct Pattern {
    at: *const f32,
    stride: usize,
    out: *mut f32,
    out_stride: usize,
}

/// The values to be mixed, and those to be asked for meanwhile.
struct Values<'a> {
    at: *const f32,
    stride: usize,
    slots: &'a [u32],
    next: &'a [u32],
}

/// The chains of some rows over `values`.
unsafe fn mix_rows(loops: &Loops, pattern: &Pattern, count: usize, values: &Values<'_>, d_head: usize) {
    for (first, len) in even(count, loops.mix.len()) {
        unsafe {
            loops.mix[len - 1](&Mix {
                weights: pattern.at.add(first * pattern.stride),
                weights_row: pattern.stride,
                values: values.at,
                stride: values.stride,
                slots: values.slots.as_ptr(),
                count: values.slots.len(),
                next_values: values.at,
                next: values.next.as_ptr(),
                asks: values.next.len(),
                d_head,
                from: 0,
                to: d_head,
                out: pattern.out.add(first * pattern.out_stride),
                out_row: pattern.out_stride,
            });
        }
    }
}

/// Attention of one query row over all of `slots`, every head: `q` and `out` are
/// `[heads, d_head]`.
///
/// # Safety
/// `q` is readable and `out` writable for every head, and the slots of `cache` are readable.
///
/// # Panics
/// When this processor lacks `isa`.
#[allow(clippy::too_many_arguments)]
pub unsafe fn attend(
    isa: Isa,
    shape: &Heads,
    softmax: Softmax,
    q: *const f32,
    cache: &KeyValues,
    slots: &[u32],
    out: *mut f32,
    scratch: &mut Scratch,
) {
    let queries = Queries { q, q_stride: 0, out, out_stride: 0 };
    // SAFETY: the caller.
    unsafe {
        attend_block(
            isa,
            shape,
            softmax,
            &queries,
            std::slice::from_ref(&(0..slots.len())),
            cache,
            slots,
            0..shape.kv_heads,
            scratch,
        );
    }
}

/// Query rows and their results: row `i` of `[heads, d_head]` at `i` times the stride.
#[derive(Clone, Copy, Debug)]
pub struct Queries {
    /// Row 0 of the queries.
    pub q: *const f32,
    /// From row to row.
    pub q_stride: usize,
    /// Row 0 of the results.
    pub out: *mut f32,
    /// From row to row.
    pub out_stride: usize,
}

/// [`attend`] for several query rows that share a list of keys: row `i` sees
/// `slots[seen[i]]` (the first `n` of them in causal attention, the last `w` of these in a sliding
/// window). Only the query heads of `kv_heads` are done, so that threads can share the work by
/// heads and by rows. The same bits as [`attend`] row by row.
///
/// # Safety
/// The queries of these rows and heads are readable and their results writable, nothing else uses
/// the results meanwhile, and the slots seen are readable in `cache`.
///
/// # Panics
/// When a range of `seen` goes beyond `slots`, the heads are no multiple of the key heads, some of them have no sink and
/// others do, or this processor lacks `isa`.
#[allow(clippy::too_many_arguments)]
pub unsafe fn attend_block(
    isa: Isa,
    shape: &Heads,
    softmax: Softmax,
    queries: &Queries,
    seen: &[Range<usize>],
    cache: &KeyValues,
    slots: &[u32],
    kv_heads: Range<usize>,
    scratch: &mut Scratch,
) {
    let tiles = tiles(isa);
    assert!(shape.heads.is_multiple_of(shape.kv_heads), "{shape:?}");
    assert!([0, shape.heads].contains(&softmax.sinks.len()), "{} sinks of {shape:?}", softmax.sinks.len());
    assert!(kv_heads.end <= shape.kv_heads, "key heads {kv_heads:?} of {shape:?}");
    assert!(seen.iter().all(|r| r.start <= r.end && r.end <= slots.len()), "rows see {} keys", slots.len());
    if let [seen] = seen {
        // SAFETY: as below.
        return unsafe { one(isa, shape, softmax, queries, cache, &slots[seen.clone()], kv_heads, scratch) };
    }
    let (loops, plain) = (loops(isa, cache.format), loops(isa, CacheFormat::F32));
    let mut block = block::Block { tiles, loops, plain, isa, shape, softmax, queries, cache, slots, scratch };
    // SAFETY: the asserts above, and the caller.
    unsafe { block.run(seen, kv_heads) }
}

/// One row, some heads at a time so that their scores stay near.
#[allow(clippy::too_many_arguments)]
unsafe fn one(
    isa: Isa,
    shape: &Heads,
    softmax: Softmax,
    queries: &Queries,
    cache: &KeyValues,
    slots: &[u32],
    kv_heads: Range<usize>,
    scratch: &mut Scratch,
) {
    let row = Row::new(isa, shape, cache, slots);
    let of_head = shape.group() * row.stride();
    let together = (block::BLOCK_SCORES / of_head.max(1)).max(1);
    for head in kv_heads.clone().step_by(together) {
        let heads = head..kv_heads.end.min(head + together);
        let scores = room(&mut scratch.scores, heads.len() * of_head);
        // SAFETY: the caller.
        unsafe {
            row.scores(queries.q, heads.clone(), 0..slots.len(), scores);
            for i in 0..heads.len() * shape.group() {
                row.pattern(&softmax, heads.start * shape.group() + i, scores.add(i * row.stride()));
            }
            row.results(heads, 0..shape.d_head, scores, queries.out);
        }
    }
}
