//! The loops over keys and values as they are stored: a set for each format and instruction set.

use super::format::{CacheFormat, Eighth, Element, Half, Single, Stored};
use crate::gemm::even;
use crate::isa::{Isa, by_isa, for_each_isa};
use std::mem::MaybeUninit;
use std::ops::Range;

/// The scores of some queries with at most 16 keys, before the scale.
pub(super) struct Scores {
    /// Of query 0, and from query to query.
    pub q: *const f32,
    pub q_row: usize,
    pub queries: usize,
    /// The heads of the keys; where there are fewer, one of them again.
    pub keys: [*const f32; 16],
    /// The heads of keys that come later, to be asked for; so many of them.
    pub next: [*const f32; 16],
    pub asks: usize,
    pub d_head: usize,
    /// Sixteen numbers for each query are written.
    pub out: *mut f32,
    pub out_row: usize,
}

/// `out[r][c] += sum over j ascending of weights[r][j] * values[slots[j]][c]`, for the coordinates `from..to`, of which
/// the first is a multiple of 16.
pub(super) struct Mix {
    pub weights: *const f32,
    pub weights_row: usize,
    /// The head in slot 0, and from slot to slot.
    pub values: *const f32,
    pub stride: usize,
    pub slots: *const u32,
    pub count: usize,
    /// Slots of values that come later, of this head or another, to be asked for; so many of them.
    pub next_values: *const f32,
    pub next: *const u32,
    pub asks: usize,
    pub d_head: usize,
    pub from: usize,
    pub to: usize,
    /// Coordinate 0 of row 0.
    pub out: *mut f32,
    pub out_row: usize,
}

type MixFn = unsafe fn(&Mix);
type CopyFn = unsafe fn((*const f32, usize), &[u32], &[u32], usize, *mut f32);

pub(super) struct Loops {
    pub scores: unsafe fn(&Scores),
    /// By the number of rows less 1.
    pub mix: &'static [MixFn],
    /// Rows to columns: `dst[k * 16 + r]` is number `k` of head `r`; the heads `next` are asked for.
    pub pack: unsafe fn(&[*const f32; 16], &[*const f32], usize, *mut f32),
    /// The heads of slots one after another: that of slot 0, from slot to slot, and those to be asked for.
    pub copy: CopyFn,
}

/// Coordinates that are turned to columns at a time.
const DEEP: usize = 256;
/// Queries at a time, and rows of weights: two registers each of sixteen, where there are no more.
const MOST: usize = 6;

#[inline(always)]
unsafe fn scores<V: Stored, E: Element>(p: &Scores) {
    let mut buffer = MaybeUninit::<[V; DEEP]>::uninit();
    let columns_at = buffer.as_mut_ptr().cast::<f32>();
    for from in (0..p.d_head).step_by(DEEP) {
        let deep = (p.d_head - from).min(DEEP);
        for k in (0..deep).step_by(16) {
            unsafe { columns::<V, E>(&p.keys, &p.next[..p.asks], p.d_head, from + k, columns_at.add(k * 16)) };
        }
        for (first, len) in even(p.queries, MOST) {
            unsafe {
                let (q, out) = (p.q.add(first * p.q_row + from), p.out.add(first * p.out_row));
                let part = (p, q, columns_at.cast_const(), from..from + deep, out);
                match len {
                    1 => chains::<V, 1>(part),
                    2 => chains::<V, 2>(part),
                    3 => chains::<V, 3>(part),
                    4 => chains::<V, 4>(part),
                    5 => chains::<V, 5>(part),
                    _ => chains::<V, MOST>(part),
                }
            }
        }
    }
}

/// The chains of some queries through some coordinates; from the first ones on they begin at zero.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn chains<V: Stored, const R: usize>(
    (p, q, columns, deep, out): (&Scores, *const f32, *const f32, Range<usize>, *mut f32),
) {
    unsafe {
        let mut acc = [V::splat(0.0); R];
        if deep.start > 0 {
            for r in 0..R {
                acc[r] = V::load(out.add(r * p.out_row));
            }
        }
        for k in 0..deep.len() {
            let column = V::load(columns.add(k * 16));
            for r in 0..R {
                acc[r] = V::splat(*q.add(r * p.q_row + k)).fma(column, acc[r]);
            }
        }
        for r in 0..R {
            acc[r].store(out.add(r * p.out_row));
        }
    }
}

/// Coordinates `k..k + 16`, or as many as there are, of 16 heads as columns at `dst`.
#[inline(always)]
unsafe fn columns<V: Stored, E: Element>(
    heads: &[*const f32; 16],
    next: &[*const f32],
    d_head: usize,
    k: usize,
    dst: *mut f32,
) {
    unsafe {
        // Head by head: lines that follow one another are asked for in order.
        let (part, parts) = (k / 16, d_head.div_ceil(16));
        for &head in &next[next.len() * part / parts..next.len() * (part + 1) / parts] {
            for k in (0..d_head).step_by(16) {
                V::prefetch(E::place(head, d_head, k));
            }
        }
        match d_head - k {
            m @ 0..16 => {
                let mut rows = [0.0; 256];
                let at = rows.as_mut_ptr();
                for (r, head) in heads.iter().enumerate() {
                    E::load_part::<V>(*head, d_head, k, m).store(at.add(r * 16));
                }
                for i in 0..m {
                    for r in 0..16 {
                        *dst.add(i * 16 + r) = *at.add(r * 16 + i);
                    }
                }
            }
            _ => E::turn::<V>(heads, d_head, k, dst),
        }
    }
}

#[inline(always)]
unsafe fn pack<V: Stored, E: Element>(heads: &[*const f32; 16], next: &[*const f32], d_head: usize, dst: *mut f32) {
    for k in (0..d_head).step_by(16) {
        unsafe { columns::<V, E>(heads, next, d_head, k, dst.add(k * 16)) };
    }
}

#[inline(always)]
unsafe fn copy<V: Stored, E: Element>(
    (values, stride): (*const f32, usize),
    slots: &[u32],
    next: &[u32],
    d_head: usize,
    dst: *mut f32,
) {
    for (j, &slot) in slots.iter().enumerate() {
        let next = next.get(j).map(|&slot| values.wrapping_add(slot as usize * stride));
        unsafe {
            let (head, dst) = (values.add(slot as usize * stride), dst.add(j * d_head));
            for k in (0..d_head).step_by(16) {
                if let Some(next) = next {
                    V::prefetch(E::place(next, d_head, k));
                }
                match d_head - k {
                    n @ 0..16 => E::load_part::<V>(head, d_head, k, n).store_part(dst.add(k), n),
                    _ => E::load::<V>(head, d_head, k).store(dst.add(k)),
                }
            }
        }
    }
}

/// Few rows have several vectors at a time, so that none waits for the one before.
#[inline(always)]
unsafe fn mix<V: Stored, E: Element, const R: usize>(m: &Mix) {
    unsafe {
        let mut k = m.from;
        while R == 1 && k + 64 <= m.to {
            mix_columns::<V, E, R, 4>(m, k);
            k += 64;
        }
        while R <= 2 && k + 32 <= m.to {
            mix_columns::<V, E, R, 2>(m, k);
            k += 32;
        }
        while k + 16 <= m.to {
            mix_columns::<V, E, R, 1>(m, k);
            k += 16;
        }
        if k < m.to {
            mix_part::<V, E, R>(m, k, m.to - k);
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn mix_columns<V: Stored, E: Element, const R: usize, const N: usize>(m: &Mix, k: usize) {
    unsafe {
        let mut acc = [[V::splat(0.0); N]; R];
        for r in 0..R {
            for n in 0..N {
                acc[r][n] = V::load(m.out.add(r * m.out_row + k + 16 * n));
            }
        }
        // These columns' part of the lines to be asked for, in order.
        let parts = m.to.div_ceil(16) - m.from / 16;
        let (mut asked, asks) = (m.asks * (k - m.from) / 16 / parts, m.asks * ((k - m.from) / 16 + N) / parts);
        let mut line = m.from;
        for j in 0..m.count {
            if asked < asks {
                let next = m.next_values.wrapping_add(*m.next.add(asked) as usize * m.stride);
                for _ in 0..N {
                    V::prefetch(E::place(next, m.d_head, line));
                    line += 16;
                }
                if line >= m.to {
                    (line, asked) = (m.from, asked + 1);
                }
            }
            let head = m.values.add(*m.slots.add(j) as usize * m.stride);
            let mut v = [V::splat(0.0); N];
            for n in 0..N {
                v[n] = E::load(head, m.d_head, k + 16 * n);
            }
            for r in 0..R {
                let weight = V::splat(*m.weights.add(r * m.weights_row + j));
                for n in 0..N {
                    acc[r][n] = weight.fma(v[n], acc[r][n]);
                }
            }
        }
        for r in 0..R {
            for n in 0..N {
                acc[r][n].store(m.out.add(r * m.out_row + k + 16 * n));
            }
        }
    }
}

/// The last `n < 16` coordinates.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn mix_part<V: Stored, E: Element, const R: usize>(m: &Mix, k: usize, n: usize) {
    unsafe {
        let mut acc = [V::splat(0.0); R];
        for r in 0..R {
            acc[r] = V::load_part(m.out.add(r * m.out_row + k), n);
        }
        for j in 0..m.count {
            let head = m.values.add(*m.slots.add(j) as usize * m.stride);
            let v = E::load_part::<V>(head, m.d_head, k, n);
            for r in 0..R {
                acc[r] = V::splat(*m.weights.add(r * m.weights_row + j)).fma(v, acc[r]);
            }
        }
        for r in 0..R {
            acc[r].store_part(m.out.add(r * m.out_row + k), n);
        }
    }
}

macro_rules! loops {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{Eighth, Element, Half, Loops, Mix, Scores, Single};
            type V = $lanes;

            pub(super) static LOOPS: [Loops; 3] = [of!(Single), of!(Half), of!(Eighth)];

            #[$attribute]
            unsafe fn scores<E: Element>(p: &Scores) {
                unsafe { super::scores::<V, E>(p) }
            }
            #[$attribute]
            unsafe fn mix<E: Element, const R: usize>(m: &Mix) {
                unsafe { super::mix::<V, E, R>(m) }
            }
            #[$attribute]
            unsafe fn pack<E: Element>(heads: &[*const f32; 16], next: &[*const f32], d_head: usize, dst: *mut f32) {
                unsafe { super::pack::<V, E>(heads, next, d_head, dst) }
            }
            #[$attribute]
            unsafe fn copy<E: Element>(
                values: (*const f32, usize),
                slots: &[u32],
                next: &[u32],
                d_head: usize,
                dst: *mut f32,
            ) {
                unsafe { super::copy::<V, E>(values, slots, next, d_head, dst) }
            }
        }
    };
}

macro_rules! of {
    ($element:ty) => {
        Loops {
            scores: scores::<$element>,
            mix: &[
                mix::<$element, 1>,
                mix::<$element, 2>,
                mix::<$element, 3>,
                mix::<$element, 4>,
                mix::<$element, 5>,
                mix::<$element, { super::MOST }>,
            ],
            pack: pack::<$element>,
            copy: copy::<$element>,
        }
    };
}

for_each_isa!(loops);

/// The loops of `isa` for a format.
#[track_caller]
pub(super) fn loops(isa: Isa, format: CacheFormat) -> &'static Loops {
    isa.require();
    &by_isa!(isa, LOOPS)[format as usize]
}
