//! Attention of query rows over an explicit list of key rows.
//!
//! For a query and a head: score `j` is `scale` times one chain of fused multiply-adds over the
//! head's coordinates in ascending order, beginning at zero; the pattern is the scores'
//! [`crate::rows::softmax`]; coordinate `d` of the result is one chain over the keys in the order
//! of their list, beginning at zero. [`scores`], [`softmax_in_place`] and [`mix`] are these steps
//! for edits in between; [`attend`] and [`attend_block`] do all of them, with the same bits.

mod block;

use crate::gemm::{even, groups};
use crate::isa::Isa;
use crate::ops::Binary;
use crate::pack::PANEL;
use crate::rows;
use crate::tile::{Mix, Tile, Tiles, tiles};
use std::cell::RefCell;
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

/// Where keys and values lie: in slot `s`, head `h`, coordinate `d` at
/// `s * stride + h * d_head + d`.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues {
    /// Slot 0 of the keys.
    pub keys: *const f32,
    /// From one slot's keys to the next one's.
    pub key_stride: usize,
    /// Slot 0 of the values.
    pub values: *const f32,
    /// From one slot's values to the next one's.
    pub value_stride: usize,
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

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch::new())
    };
}

fn room(v: &mut Vec<f32>, len: usize) -> *mut f32 {
    if v.len() < len {
        v.resize(len, 0.0);
    }
    v.as_mut_ptr()
}

/// `out[j] = scale * dot(q, keys[slots[j]])` for one query of one head; `keys` is the head's
/// coordinate 0 in slot 0.
///
/// # Safety
/// `q` is readable for `d_head` numbers, and so is every slot of `keys`.
///
/// # Panics
/// When `out` and `slots` differ in length or this processor lacks `isa`.
#[allow(clippy::too_many_arguments)]
pub unsafe fn scores(
    isa: Isa,
    q: *const f32,
    keys: *const f32,
    key_stride: usize,
    slots: &[u32],
    d_head: usize,
    scale: f32,
    out: &mut [f32],
) {
    let tiles = tiles(isa);
    assert_eq!(slots.len(), out.len(), "a score for each key");
    SCRATCH.with_borrow_mut(|scratch| {
        let packed = room(&mut scratch.keys, BLOCK_KEYS * d_head + 16);
        for (i, out) in out.chunks_mut(BLOCK_KEYS).enumerate() {
            // SAFETY: the caller; `packed` has room for the block.
            unsafe {
                pack_keys(tiles, keys, key_stride, &slots[i * BLOCK_KEYS..], d_head, packed);
                let widest = tiles.direct.len() - 1;
                for (p, n, cols) in groups(0..out.len().div_ceil(PANEL), out.len(), widest) {
                    tiles.direct[n][0](&Tile {
                        a: q,
                        a_row: 0,
                        b: packed.add(p * PANEL * d_head),
                        b_panel: PANEL * d_head,
                        inputs: d_head,
                        c: out.as_mut_ptr().add(p * PANEL),
                        c_row: 0,
                        cols,
                        begin: true,
                        next: std::ptr::null(),
                        early: 0,
                    });
                }
            }
        }
    });
    // SAFETY: one row, in place.
    unsafe { rows::binary_vs(isa, Binary::Mul)(out.as_mut_ptr(), out.as_ptr(), scale, out.len()) }
}

/// The first block of keys as columns, in panels of 16 as weights are; the next block is asked
/// for.
unsafe fn pack_keys(tiles: &Tiles, keys: *const f32, stride: usize, slots: &[u32], d_head: usize, dst: *mut f32) {
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
        unsafe { (tiles.transpose)(&from, next, d_head, dst.add(p * PANEL * d_head)) };
    }
}

/// [`crate::rows::softmax`] of one row, in place.
///
/// # Panics
/// When this processor lacks `isa`.
pub fn softmax_in_place(isa: Isa, row: &mut [f32]) {
    // SAFETY: one row, in place.
    unsafe { rows::softmax(isa)(row.as_mut_ptr(), row.as_ptr(), row.len()) }
}

/// `out[d] = sum over j of p[j] * values[slots[j]][d]` for one query of one head; `values` is the
/// head's coordinate 0 in slot 0 and `out` holds `d_head` numbers.
///
/// # Safety
/// Every slot of `values` is readable for `out.len()` numbers.
///
/// # Panics
/// When `p` and `slots` differ in length or this processor lacks `isa`.
pub unsafe fn mix(isa: Isa, p: &[f32], values: *const f32, value_stride: usize, slots: &[u32], out: &mut [f32]) {
    let tiles = tiles(isa);
    assert_eq!(p.len(), slots.len(), "a weight for each key");
    out.fill(0.0);
    let pattern = Pattern { at: p.as_ptr(), stride: 0, out: out.as_mut_ptr(), out_stride: 0 };
    let values = Values { at: values, stride: value_stride, slots, next: &[] };
    // SAFETY: the caller.
    unsafe { mix_rows(tiles, &pattern, 1, &values, out.len()) }
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
unsafe fn mix_rows(tiles: &Tiles, pattern: &Pattern, count: usize, values: &Values<'_>, d_head: usize) {
    let lists = tiles.mix;
    for (first, len) in even(count, lists[0].len()) {
        let widest = (0..lists.len()).rev().find(|&n| lists[n].len() >= len).unwrap_or(0);
        for (p, n, cols) in groups(0..d_head.div_ceil(PANEL), d_head, widest) {
            unsafe {
                lists[n][len - 1](&Mix {
                    a: pattern.at.add(first * pattern.stride),
                    a_row: pattern.stride,
                    rows: values.at.add(p * PANEL),
                    stride: values.stride,
                    slots: values.slots.as_ptr(),
                    count: values.slots.len(),
                    next: values.next.as_ptr(),
                    early: values.next.len(),
                    c: pattern.out.add(first * pattern.out_stride + p * PANEL),
                    c_row: pattern.out_stride,
                    cols,
                });
            }
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
    scale: f32,
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
            scale,
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
/// When a range of `seen` goes beyond `slots`, the heads are no multiple of the key heads, or this
/// processor lacks `isa`.
#[allow(clippy::too_many_arguments)]
pub unsafe fn attend_block(
    isa: Isa,
    shape: &Heads,
    scale: f32,
    queries: &Queries,
    seen: &[Range<usize>],
    cache: &KeyValues,
    slots: &[u32],
    kv_heads: Range<usize>,
    scratch: &mut Scratch,
) {
    let tiles = tiles(isa);
    assert!(shape.heads.is_multiple_of(shape.kv_heads), "{shape:?}");
    assert!(kv_heads.end <= shape.kv_heads, "key heads {kv_heads:?} of {shape:?}");
    assert!(seen.iter().all(|r| r.start <= r.end && r.end <= slots.len()), "rows see {} keys", slots.len());
    let mut block = block::Block { tiles, isa, shape, scale, queries, cache, slots, scratch };
    // SAFETY: the asserts above, and the caller.
    unsafe { block.run(seen, kv_heads) }
}
