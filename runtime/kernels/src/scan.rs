//! The recurrence of state space layers, over rows in order, and the convolution before it.
//!
//! Each number has the bits that the row operations of [`crate::rows`] give, one after another: what is computed here
//! and there is the same.

use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Lanes;
use crate::math;
use std::ops::Range;

/// Units whose states are kept near while the rows go by.
const NEAR: usize = 16;

/// Numbers of rows: those of row `r`, head `h` and channel `c` begin at `at + r * row + h * head + c * channel`.
#[derive(Clone, Copy, Debug)]
pub struct Of {
    pub at: *const f32,
    pub row: usize,
    pub head: usize,
    pub channel: usize,
}

impl Of {
    #[inline(always)]
    unsafe fn of(&self, row: usize, head: usize, channel: usize) -> *const f32 {
        unsafe { self.at.add(row * self.row + head * self.head + channel * self.channel) }
    }
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
unsafe fn run<V: Lanes, const WHAT: usize, const EACH: bool>(
    s: &Scan,
    rows: &[u32],
    units: Range<usize>,
    state: *mut f32,
) {
    let width = s.heads * s.channels;
    for first in units.clone().step_by(NEAR) {
        let near = first..(first + NEAR).min(units.end);
        for &row in rows {
            let row = row as usize;
            let (mut head, mut channel) = (first / s.channels, first % s.channels);
            let mut decay = None;
            for unit in near.clone() {
                unsafe {
                    let at = state.add(unit * s.states);
                    let sum = one::<V, WHAT, EACH>(s, row, head, channel, at, &mut decay);
                    if WHAT != STATE {
                        *s.y.add(row * width + unit) = sum;
                    }
                }
                channel += 1;
                if channel == s.channels {
                    (head, channel, decay) = (head + 1, 0, None);
                }
            }
        }
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

/// States `i` up to `i + n`, where all 16 are a `FULL` group; what is read of them is added to `acc`.
#[inline(always)]
unsafe fn group<V: Lanes, const WHAT: usize, const EACH: bool, const FULL: bool>(
    at: &At<V>,
    i: usize,
    n: usize,
    acc: V,
) -> V {
    unsafe {
        let mut h = some::<V, FULL>(at.state.add(i), n);
        if WHAT != READ {
            let decay = if EACH { math::exp(at.dt * some::<V, FULL>(at.rate.add(i), n)) } else { at.same };
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

/// One unit of one row. `decay` is that of the head, once it is known.
#[inline(always)]
unsafe fn one<V: Lanes, const WHAT: usize, const EACH: bool>(
    s: &Scan,
    row: usize,
    head: usize,
    channel: usize,
    state: *mut f32,
    decay: &mut Option<f32>,
) -> f32 {
    const { assert!(V::WIDTH == 16) }
    unsafe {
        let zero = V::splat(0.0);
        let n = s.states;
        let (b, c) = (s.b.of(row, head, channel), s.c.of(row, head, channel));
        let rate = s.rate.of(0, head, channel);
        let (mut dt, mut dx, mut same) = (zero, zero, zero);
        if WHAT != READ {
            let step = *s.dt.of(row, head, channel);
            dx = V::splat(step * *s.x.of(row, head, channel));
            match EACH {
                true => dt = V::splat(step),
                false => {
                    let known = match *decay {
                        Some(known) => known,
                        None => math::exp(step * *rate),
                    };
                    *decay = Some(known);
                    same = V::splat(known);
                }
            }
        }
        let at = At { state, rate, b, c, dt, dx, same };
        if n == 16 {
            return (group::<V, WHAT, EACH, true>(&at, 0, 16, zero) + zero).sum();
        }
        let mut acc = [zero; 4];
        let mut i = 0;
        while i + 64 <= n {
            for (k, acc) in acc.iter_mut().enumerate() {
                *acc = group::<V, WHAT, EACH, true>(&at, i + 16 * k, 16, *acc);
            }
            i += 64;
        }
        for acc in &mut acc {
            if i + 16 <= n {
                *acc = group::<V, WHAT, EACH, true>(&at, i, 16, *acc);
            } else if i < n {
                *acc = group::<V, WHAT, EACH, false>(&at, i, n - i, *acc);
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
