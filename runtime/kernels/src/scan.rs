//! The recurrence of state space layers, over rows in order, and the convolution before it.
//!
//! Each number has the bits that the row operations of [`crate::rows`] give, one after another: what is computed here
//! and there is the same.

use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::{Lanes, Wide};
use crate::math;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Units that are worked on at once where they share what they write and read.
const TOGETHER: usize = 2;
/// States that are kept close while the rows go by.
const CLOSE: usize = 2048;

/// Numbers of rows: those of row `r`, head `h` and channel `c` begin at `at + r * row + h * head + c * channel`.
#[derive(Clone, Copy, Debug)]
pub struct Of {
    pub at: *const f32,
    pub row: usize,
    pub head: usize,
    pub channel: usize,
}

/// `new = exp(dt * rate) * state + (dt * x) * b` for each head, channel and state, and `y = sum of new * c` over the
/// states: elementwise operations, and a sum in the order of [`crate::rows::dot`].
#[derive(Clone, Debug)]
pub struct Scan {
    pub heads: usize,
    /// Of each head. A channel of a head is a unit.
    pub channels: usize,
    pub states: usize,
    /// One number.
    pub dt: Of,
    /// One number, or as many as states where each state has its own (then a head is one channel).
    pub rate: Of,
    pub each: bool,
    /// One number.
    pub x: Of,
    /// As many numbers as states.
    pub b: Of,
    /// As many numbers as states.
    pub c: Of,
    /// One number a unit, `heads * channels` a row.
    pub y: *mut f32,
}

/// What a call does with each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The new state, and what is read of it.
    Both,
    /// The new state alone.
    State,
    /// What is read of a state, which stays as it is.
    Read,
}

type ScanFn = unsafe fn(&Scan, &[u32], Range<usize>, *mut f32);
type ConvFn = unsafe fn(*mut f32, &[(*const f32, *const f32)], Range<usize>);

struct Table {
    /// By [`Part`], with one rate a head and with one a state.
    scan: [[ScanFn; 2]; 3],
    conv: ConvFn,
}

/// Carries `state`, that of all units one after another, through `rows`, for these units; so threads can share a scan
/// by units.
///
/// # Safety
/// All that the scan names is readable for these rows and units, `y` writable, and nothing else uses the states and
/// results of these units meanwhile.
///
/// # Panics
/// When this processor lacks `isa`.
pub unsafe fn scan(isa: Isa, what: Part, scan: &Scan, rows: &[u32], units: Range<usize>, state: *mut f32) {
    debug_assert!(!scan.each || scan.channels == 1);
    let f = table(isa).scan[what as usize][usize::from(scan.each)];
    // SAFETY: the caller's.
    unsafe { f(scan, rows, units, state) }
}

/// `dst[i] = w0[i] * x0[i] + w1[i] * x1[i] + ...` from zero on, each product and sum rounded, for `i` of `channels`.
///
/// # Safety
/// Each pointer is valid for these channels.
///
/// # Panics
/// When this processor lacks `isa`.
pub unsafe fn convolve(isa: Isa, dst: *mut f32, taps: &[(*const f32, *const f32)], channels: Range<usize>) {
    // SAFETY: the caller's.
    unsafe { (table(isa).conv)(dst, taps, channels) }
}

const BOTH: usize = Part::Both as usize;
const STATE: usize = Part::State as usize;
const READ: usize = Part::Read as usize;

#[inline(always)]
unsafe fn run<V: Wide, const WHAT: usize, const EACH: bool>(
    s: &Scan,
    rows: &[u32],
    units: Range<usize>,
    state: *mut f32,
) {
    let width = s.heads * s.channels;
    let close = (CLOSE / s.states.max(1)).clamp(16, 128) / 16 * 16;
    for first in units.clone().step_by(close) {
        let last = (first + close).min(units.end);
        // Of one row it would take as long to look.
        let common = if EACH && rows.len() > 1 { unsafe { common_steps(s, first..last) } } else { 0.0 };
        for (i, &row) in rows.iter().enumerate() {
            if let (1, Some(&next)) = (s.channels, rows.get(i + 1)) {
                // Rows are far apart: what the next one reads is asked for.
                for unit in (first..last).step_by(16) {
                    V::prefetch(s.dt.at.wrapping_add(next as usize * s.dt.row + unit * s.dt.head));
                    V::prefetch(s.x.at.wrapping_add(next as usize * s.x.row + unit * s.x.head));
                    V::prefetch(s.y.wrapping_add(next as usize * width + unit));
                }
            }
            let mut unit = first;
            while unit < last {
                let (head, channel) = (unit / s.channels, unit % s.channels);
                // Units that follow one another at one distance.
                let (count, by_head) = match s.channels {
                    1 => (last - unit, true),
                    channels => ((channels - channel).min(last - unit), false),
                };
                let at = |of: &Of| Walk {
                    at: of.at.wrapping_add(row as usize * of.row + head * of.head + channel * of.channel),
                    step: if by_head { of.head } else { of.channel },
                };
                let rate = Walk { at: s.rate.at.wrapping_add(head * s.rate.head), step: s.rate.head };
                let (dt, x, b, c) = (at(&s.dt), at(&s.x), at(&s.b), at(&s.c));
                let line = Line { n: s.states, dt, x, b, c, rate, by_head, common };
                unsafe {
                    let (state, y) = (state.add(unit * s.states), s.y.add(row as usize * width + unit));
                    line.run::<V, WHAT, EACH>(count, state, y);
                }
                unit += count;
            }
        }
    }
}

/// Up to which size of a step from zero on the products with the rates of some units are within -87 and 0, which is the
/// rule; not above zero where there is none.
unsafe fn common_steps(s: &Scan, units: Range<usize>) -> f32 {
    let mut least = 0.0f32;
    for unit in units {
        // SAFETY: as many rates as states.
        let rates = unsafe { std::slice::from_raw_parts(s.rate.at.add(unit * s.rate.head), s.states) };
        for &rate in rates {
            if !(f32::MIN..=0.0).contains(&rate) {
                return -1.0;
            }
            least = least.min(rate);
        }
    }
    (86.0 / least.abs()).min(f32::MAX)
}

/// Numbers at one distance from another.
#[derive(Clone, Copy)]
struct Walk {
    at: *const f32,
    step: usize,
}

impl Walk {
    #[inline(always)]
    fn to(self, i: usize) -> *const f32 {
        self.at.wrapping_add(i * self.step)
    }
}

/// Units of one row that follow one another.
struct Line {
    n: usize,
    dt: Walk,
    x: Walk,
    b: Walk,
    c: Walk,
    rate: Walk,
    /// Each is a head of its own; else all are of one head.
    by_head: bool,
    /// See [`common_steps`].
    common: f32,
}

impl Line {
    #[inline(always)]
    unsafe fn run<V: Wide, const WHAT: usize, const EACH: bool>(&self, count: usize, state: *mut f32, y: *mut f32) {
        const { assert!(V::WIDTH == 16) }
        unsafe {
            let zero = V::splat(0.0);
            let mut i = 0;
            // Sixteen sums at once, their lanes as rows: in the order that each alone would have.
            while EACH && self.n == 16 && i + 16 <= count {
                let mut sums = MaybeUninit::<[V; 16]>::uninit();
                let to = sums.as_mut_ptr().cast::<V>();
                let common = self.common > 0.0 && self.dt.step == 1 && {
                    let dt = V::load(self.dt.to(i));
                    V::first(V::not(V::and(zero.le(dt), dt.le(V::splat(self.common))))) == 16
                };
                for k in 0..16 {
                    let at = self.at::<V, WHAT, EACH>(i + k, state.add((i + k) * 16), zero);
                    to.add(k).write(match common {
                        true => group::<V, WHAT, EACH, true, true>(&at, 0, 16, zero),
                        false => group::<V, WHAT, EACH, true, false>(&at, 0, 16, zero),
                    });
                }
                if WHAT != STATE {
                    // The other lanes are zeros, which make a zero below zero one above it.
                    (V::sums(sums.assume_init()) + zero).store(y.add(i));
                }
                i += 16;
            }
            let mut same = zero;
            if !EACH && WHAT != READ && !self.by_head {
                same = V::splat(math::exp(*self.dt.at * *self.rate.at));
            }
            // Some at a time, where they share what they write and read.
            let shared = !EACH && !self.by_head && self.b.step == 0 && self.c.step == 0;
            while shared && self.n.is_multiple_of(64) && i + TOGETHER <= count {
                self.several::<V, WHAT>(i, state, same, y);
                i += TOGETHER;
            }
            while i < count {
                if !EACH && WHAT != READ && self.by_head {
                    same = V::splat(math::exp(*self.dt.to(i) * *self.rate.to(i)));
                }
                let at = self.at::<V, WHAT, EACH>(i, state.add(i * self.n), same);
                let sum = all::<V, WHAT, EACH>(&at, self.n);
                if WHAT != STATE {
                    *y.add(i) = sum;
                }
                i += 1;
            }
        }
    }

    /// Units of one head from `i` on, with the sums that [`all`] gives.
    #[inline(always)]
    unsafe fn several<V: Wide, const WHAT: usize>(&self, i: usize, state: *mut f32, same: V, y: *mut f32) {
        unsafe {
            let zero = V::splat(0.0);
            let mut dx = [zero; TOGETHER];
            for (u, dx) in dx.iter_mut().enumerate() {
                if WHAT != READ {
                    *dx = V::splat(*self.dt.at * *self.x.to(i + u));
                }
            }
            let (mut left, mut right) = ([zero; TOGETHER], [zero; TOGETHER]);
            for k in 0..4 {
                let mut acc = [zero; TOGETHER];
                for j in (16 * k..self.n).step_by(64) {
                    let (b, c) = (V::load(self.b.at.add(j)), V::load(self.c.at.add(j)));
                    for u in 0..TOGETHER {
                        let at = state.add((i + u) * self.n + j);
                        let mut h = V::load(at);
                        if WHAT != READ {
                            h = same * h + dx[u] * b;
                            h.store(at);
                        }
                        if WHAT != STATE {
                            acc[u] = h.fma(c, acc[u]);
                        }
                    }
                }
                for u in 0..TOGETHER {
                    match k {
                        0 => left[u] = acc[u],
                        1 => left[u] = left[u] + acc[u],
                        2 => right[u] = acc[u],
                        _ => right[u] = right[u] + acc[u],
                    }
                }
            }
            if WHAT != STATE {
                for u in 0..TOGETHER {
                    *y.add(i + u) = (left[u] + right[u]).sum();
                }
            }
        }
    }

    /// What unit `i` reads.
    #[inline(always)]
    unsafe fn at<V: Lanes, const WHAT: usize, const EACH: bool>(&self, i: usize, state: *mut f32, same: V) -> At<V> {
        let (mut dt, mut dx) = (same, same);
        if WHAT != READ {
            let step = unsafe { *self.dt.to(i) };
            dx = V::splat(step * unsafe { *self.x.to(i) });
            if EACH {
                dt = V::splat(step);
            }
        }
        At { state, rate: self.rate.to(i), b: self.b.to(i), c: self.c.to(i), dt, dx, same }
    }
}

/// What one unit of one row reads: numbers by state, and the same for all states.
struct At<V> {
    state: *mut f32,
    rate: *const f32,
    b: *const f32,
    c: *const f32,
    dt: V,
    dx: V,
    /// The decay, where states have no rates of their own.
    same: V,
}

/// States `i` up to `i + n`, where all 16 are a `FULL` group; what is read of them is added to `acc`. `NEAR` where products
/// of steps and rates are what [`math::exp_near`] takes.
#[inline(always)]
unsafe fn group<V: Lanes, const WHAT: usize, const EACH: bool, const FULL: bool, const NEAR: bool>(
    at: &At<V>,
    i: usize,
    n: usize,
    acc: V,
) -> V {
    unsafe {
        let mut h = some::<V, FULL>(at.state.add(i), n);
        if WHAT != READ {
            let decay = match EACH {
                true if NEAR => math::exp_near(at.dt * some::<V, FULL>(at.rate.add(i), n)),
                true => math::exp(at.dt * some::<V, FULL>(at.rate.add(i), n)),
                false => at.same,
            };
            h = decay * h + at.dx * some::<V, FULL>(at.b.add(i), n);
            match FULL {
                true => h.store(at.state.add(i)),
                false => {
                    h.store_part(at.state.add(i), n);
                    // Zeros beyond the end, whatever the decay.
                    h = V::load_part(at.state.add(i), n);
                }
            }
        }
        if WHAT == STATE { acc } else { h.fma(some::<V, FULL>(at.c.add(i), n), acc) }
    }
}

#[inline(always)]
unsafe fn some<V: Lanes, const FULL: bool>(p: *const f32, n: usize) -> V {
    unsafe { if FULL { V::load(p) } else { V::load_part(p, n) } }
}

/// All states of a unit.
#[inline(always)]
unsafe fn all<V: Lanes, const WHAT: usize, const EACH: bool>(at: &At<V>, n: usize) -> f32 {
    unsafe {
        let mut acc = [V::splat(0.0); 4];
        let mut i = 0;
        while i + 64 <= n {
            for (k, acc) in acc.iter_mut().enumerate() {
                *acc = group::<V, WHAT, EACH, true, false>(at, i + 16 * k, 16, *acc);
            }
            i += 64;
        }
        for acc in &mut acc {
            if i + 16 <= n {
                *acc = group::<V, WHAT, EACH, true, false>(at, i, 16, *acc);
            } else if i < n {
                *acc = group::<V, WHAT, EACH, false, false>(at, i, n - i, *acc);
            }
            i += 16;
        }
        ((acc[0] + acc[1]) + (acc[2] + acc[3])).sum()
    }
}

#[inline(always)]
unsafe fn convolution<V: Lanes>(dst: *mut f32, taps: &[(*const f32, *const f32)], channels: Range<usize>) {
    unsafe {
        let mut i = channels.start;
        while i + V::WIDTH <= channels.end {
            let mut sum = V::splat(0.0);
            for (w, x) in taps {
                sum = sum + V::load(w.add(i)) * V::load(x.add(i));
            }
            sum.store(dst.add(i));
            i += V::WIDTH;
        }
        for i in i..channels.end {
            let mut sum = 0.0;
            for (w, x) in taps {
                sum += *w.add(i) * *x.add(i);
            }
            *dst.add(i) = sum;
        }
    }
}

macro_rules! table {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{BOTH, READ, STATE, Scan, Table};
            use std::ops::Range;
            type V = $lanes;

            pub(super) static TABLE: Table = Table {
                scan: [
                    [scan::<BOTH, false>, scan::<BOTH, true>],
                    [scan::<STATE, false>, scan::<STATE, true>],
                    [scan::<READ, false>, scan::<READ, true>],
                ],
                conv,
            };

            #[$attribute]
            unsafe fn scan<const WHAT: usize, const EACH: bool>(
                s: &Scan,
                rows: &[u32],
                units: Range<usize>,
                state: *mut f32,
            ) {
                unsafe { super::run::<V, WHAT, EACH>(s, rows, units, state) }
            }
            #[$attribute]
            unsafe fn conv(dst: *mut f32, taps: &[(*const f32, *const f32)], channels: Range<usize>) {
                unsafe { super::convolution::<V>(dst, taps, channels) }
            }
        }
    };
}
for_each_isa!(table);

#[track_caller]
fn table(isa: Isa) -> &'static Table {
    isa.require();
    by_isa!(isa, TABLE)
}
