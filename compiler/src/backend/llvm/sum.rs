//! Reductions over the last loop of a group, in the order of [`Reduce`]: 64 lanes, then pairs of lanes.
//!
//! With too many lanes for the registers the loop is gone through several times, each for a part of the lanes;
//! every element is still visited once.

use super::emit::Emit;
use super::ir::{Fault, Made, width};
use super::line::{Chunk, Line, below, weight};
use crate::kernel::depend::reduces;
use crate::kernel::{Lin, VecOp, Vector};
use inkwell::IntPredicate;
use inkwell::values::{IntValue, VectorValue};
use steer_kernels::{Binary, Reduce};

/// Lanes of a sum.
const LANES: usize = 64;
/// Code beyond this many simple instructions a turn is not unrolled.
const HEAVY: usize = 96;

type V<'c> = VectorValue<'c>;

fn start(op: VecOp) -> f32 {
    match op {
        VecOp::Reduce(Reduce::Max | Reduce::ArgMax) => f32::NEG_INFINITY,
        VecOp::Reduce(Reduce::Min) => f32::INFINITY,
        _ => 0.0,
    }
}

/// An element's value into its lane.
fn step<'c>(e: &Emit<'_, '_, 'c>, op: VecOp, sum: V<'c>, args: &[V<'c>]) -> Made<V<'c>> {
    match (op, args) {
        (VecOp::Dot, &[a, b]) => e.ir.fma(a, b, sum),
        (VecOp::Reduce(Reduce::Sum), &[a]) => e.ir.add(sum, a),
        (VecOp::Reduce(Reduce::SumSq), &[a]) => e.ir.fma(a, a, sum),
        (VecOp::Reduce(Reduce::Max | Reduce::ArgMax), &[a]) => e.ir.binary(Binary::Max, sum, a),
        (VecOp::Reduce(Reduce::Min), &[a]) => e.ir.binary(Binary::Min, sum, a),
        _ => Err(Fault("no reduction".into())),
    }
}

/// Two lanes as one.
fn join<'c>(e: &Emit<'_, '_, 'c>, op: VecOp, a: V<'c>, b: V<'c>) -> Made<V<'c>> {
    match op {
        VecOp::Reduce(Reduce::Max | Reduce::ArgMax) => e.ir.binary(Binary::Max, a, b),
        VecOp::Reduce(Reduce::Min) => e.ir.binary(Binary::Min, a, b),
        _ => e.ir.add(a, b),
    }
}

/// The number that 64 lanes make; lanes that nothing was added to are left out.
fn total<'c>(e: &Emit<'_, '_, 'c>, op: VecOp, lanes: &[Option<V<'c>>]) -> Made<V<'c>> {
    let both = |a: Option<V<'c>>, b: Option<V<'c>>| match (a, b) {
        (Some(a), Some(b)) => join(e, op, a, b).map(Some),
        (one, other) => Ok(one.or(other)),
    };
    // Groups of 16 lanes.
    let n = lanes.len() / 4;
    let mut sixteen = Vec::new();
    for i in 0..n {
        let low = both(lanes[i], lanes[i + n])?;
        let high = both(lanes[i + 2 * n], lanes[i + 3 * n])?;
        sixteen.push(both(low, high)?);
    }
    let w = (16 / n) as u32;
    let mut vectors = Vec::new();
    for v in sixteen {
        vectors.push(v.unwrap_or_else(|| e.ir.splat(start(op), w)));
    }
    while vectors.len() > 1 {
        let half = vectors.len() / 2;
        let mut next = Vec::new();
        for i in 0..half {
            next.push(join(e, op, vectors[i], vectors[i + half])?);
        }
        vectors = next;
    }
    let mut v = vectors.pop().ok_or_else(|| Fault("no lanes".into()))?;
    while width(v) > 1 {
        let half = width(v) / 2;
        let (low, high) = (e.ir.lanes(v, 0..half)?, e.ir.lanes(v, half..2 * half)?);
        v = join(e, op, low, high)?;
    }
    Ok(v)
}

/// A chunk through the group; the sums of `at` are changed.
fn add<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    chunk: &Chunk<'c>,
    sums: &mut [V<'c>],
    at: impl Fn(usize) -> usize,
) -> Made<()> {
    let mask = chunk.mask;
    line.chunk(e, chunk, &mut |e, number, v, args| {
        let sum = &mut sums[at(number)];
        let new = step(e, v.op, *sum, args)?;
        *sum = match mask {
            Some(mask) => e.ir.select(mask, new, *sum)?,
            None => new,
        };
        Ok(())
    })
}

/// The group's statements over the last loop, and what its reductions give.
pub(super) fn emit<'k, 'c>(e: &mut Emit<'_, 'k, 'c>, line: &Line<'_, 'k, 'c>, inner: Lin) -> Made<()> {
    let reductions: Vec<&'k Vector> = line.group.steps.iter().copied().filter(|s| reduces(s)).collect();
    let lanes =
        if line.width == 1 { one_by_one(e, line, inner, &reductions)? } else { in_lanes(e, line, inner, &reductions)? };
    for (v, lanes) in reductions.iter().zip(lanes) {
        let value = total(e, v.op, &lanes)?;
        let value = match v.op {
            VecOp::Reduce(Reduce::ArgMax) => super::search::first(e, line, inner, v, value)?,
            _ => value,
        };
        line.give(e, v, value)?;
    }
    Ok(())
}

type Lanes<'c> = Vec<Vec<Option<V<'c>>>>;

fn in_lanes<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    inner: Lin,
    reductions: &[&'k Vector],
) -> Made<Lanes<'c>> {
    let (w, count, heavy) = (line.width as usize, reductions.len(), weight(line.group) as usize);
    let fits = |lanes: usize| {
        let vectors = inner.known().map_or(lanes, |n| n.min(lanes)).div_ceil(w);
        count * vectors <= e.ir.target.sums as usize && (heavy * vectors <= HEAVY || vectors == 1)
    };
    match [LANES, LANES / 2].into_iter().find(|l| fits(*l)) {
        Some(LANES) => at_once(e, line, inner, reductions),
        Some(lanes) => in_turns(e, line, inner, reductions, lanes),
        None => in_turns(e, line, inner, reductions, LANES / 4),
    }
}

fn fresh<'c>(e: &Emit<'_, '_, 'c>, reductions: &[&Vector], w: usize, vectors: usize) -> Vec<V<'c>> {
    reductions.iter().flat_map(|v| vec![e.ir.splat(start(v.op), w as u32); vectors]).collect()
}

/// All 64 lanes in registers.
fn at_once<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    inner: Lin,
    reductions: &[&'k Vector],
) -> Made<Lanes<'c>> {
    let w = line.width as usize;
    let vectors = LANES / w;
    let mut sums = fresh(e, reductions, w, vectors);
    let mut touched = vectors;
    let (start, end) = (e.ir.word(0), e.lin(inner)?);
    let turn = |e: &mut Emit<'_, 'k, 'c>, i: IntValue<'c>, sums: &[V<'c>]| {
        let mut sums = sums.to_vec();
        for c in 0..vectors {
            let at = e.ir.b.build_int_add(i, e.ir.word(c * w), "")?;
            add(e, line, &Chunk { at, mask: None }, &mut sums, |r| r * vectors + c)?;
        }
        Ok(sums)
    };
    match inner.known() {
        Some(n) => {
            if n >= 2 * LANES {
                (_, sums) =
                    e.repeat(start, e.ir.word(n / LANES * LANES), (LANES, LANES), &sums, &mut |e, i, s| turn(e, i, s))?;
            } else if n >= LANES {
                sums = turn(e, start, &sums)?;
            } else {
                touched = n.div_ceil(w);
            }
            let (done, rest) = (n / LANES * LANES, n % LANES);
            for c in 0..rest.div_ceil(w) {
                let left = rest - c * w;
                let mask = (left < w).then(|| e.ir.truths((0..w).map(|i| i < left)));
                let at = e.ir.word(done + c * w);
                add(e, line, &Chunk { at, mask }, &mut sums, |r| r * vectors + c)?;
            }
        }
        None => {
            let (i, main) = e.repeat(start, end, (LANES, LANES), &sums, &mut |e, i, s| turn(e, i, s))?;
            sums = rest(e, line, (i, end), &main, vectors)?;
        }
    }
    Ok(sums.chunks(vectors).map(|s| s.iter().enumerate().map(|(c, v)| (c < touched).then_some(*v)).collect()).collect())
}

/// What is left of the row beyond `at`, into as many vectors of lanes.
fn rest<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    (at, end): (IntValue<'c>, IntValue<'c>),
    sums: &[V<'c>],
    vectors: usize,
) -> Made<Vec<V<'c>>> {
    let w = line.width as usize;
    let some = e.ir.b.build_int_compare(IntPredicate::ULT, at, end, "")?;
    e.only_if(some, sums, &mut |e, sums| {
        let mut sums = sums.to_vec();
        for c in 0..vectors {
            let at = e.ir.b.build_int_add(at, e.ir.word(c * w), "")?;
            let mask = Some(below(e, at, end, line.width)?);
            add(e, line, &Chunk { at, mask }, &mut sums, |r| r * vectors + c)?;
        }
        Ok(sums)
    })
}

/// Elements that are gone through for one part of the lanes before the next: they stay in the nearest cache.
const TILE: usize = 1024;

/// So many lanes after another, each part over a tile of the row.
fn in_turns<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    inner: Lin,
    reductions: &[&'k Vector],
    lanes: usize,
) -> Made<Lanes<'c>> {
    let w = line.width as usize;
    let vectors = lanes / w;
    let memory = e.sums.ok_or_else(|| Fault("no memory for sums".into()))?;
    let (zero, all, end) = (e.ir.word(0), e.ir.word(LANES), e.lin(inner)?);
    let even = inner.known().is_some_and(|n| n % LANES == 0);
    let tiles = inner.known().is_none_or(|n| n > TILE);
    let part = &mut |e: &mut Emit<'_, 'k, 'c>, first: IntValue<'c>, from: IntValue<'c>, end: IntValue<'c>| {
        let mut sums = fresh(e, reductions, w, vectors);
        if tiles {
            for (n, sum) in sums.iter_mut().enumerate() {
                let at = e.ir.b.build_int_add(first, e.ir.word(n / vectors * LANES + n % vectors * w), "")?;
                *sum = e.ir.load(e.ir.advanced(memory, at)?, line.width, None)?;
            }
        }
        let from = e.ir.b.build_int_add(from, first, "")?;
        let (i, mut sums) = e.repeat(from, end, (lanes, LANES), &sums, &mut |e, i, sums| {
            let mut sums = sums.to_vec();
            for c in 0..vectors {
                let at = e.ir.b.build_int_add(i, e.ir.word(c * w), "")?;
                add(e, line, &Chunk { at, mask: None }, &mut sums, |r| r * vectors + c)?;
            }
            Ok(sums)
        })?;
        if !even {
            sums = rest(e, line, (i, end), &sums, vectors)?;
        }
        for r in 0..reductions.len() {
            for c in 0..vectors {
                let at = e.ir.b.build_int_add(first, e.ir.word(r * LANES + c * w), "")?;
                e.ir.store(e.ir.advanced(memory, at)?, sums[r * vectors + c], None)?;
            }
        }
        Ok(Vec::new())
    };
    if !tiles {
        e.repeat(zero, all, (lanes, lanes), &[], &mut |e, first, _| part(e, first, zero, end))?;
        return stored(e, reductions.len(), w);
    }
    for (n, v) in fresh(e, reductions, w, LANES / w).into_iter().enumerate() {
        e.ir.store(e.ir.advanced(memory, e.ir.word(n * w))?, v, None)?;
    }
    // The last tile is a part of one.
    let most = e.ir.b.build_int_add(end, e.ir.word(TILE - 1), "")?;
    e.repeat(zero, most, (TILE, TILE), &[], &mut |e, from, _| {
        let next = e.ir.b.build_int_add(from, e.ir.word(TILE), "")?;
        let short = e.ir.b.build_int_compare(IntPredicate::UGT, next, end, "")?;
        let until = e.ir.b.build_select(short, end, next, "")?.into_int_value();
        e.repeat(zero, all, (lanes, lanes), &[], &mut |e, first, _| part(e, first, from, until))?;
        Ok(Vec::new())
    })?;
    stored(e, reductions.len(), w)
}

fn stored<'c>(e: &Emit<'_, '_, 'c>, count: usize, w: usize) -> Made<Lanes<'c>> {
    let memory = e.sums.ok_or_else(|| Fault("no memory for sums".into()))?;
    let mut out = Vec::new();
    for r in 0..count {
        let mut lanes = Vec::new();
        for c in 0..LANES / w {
            lanes.push(Some(e.ir.load(e.ir.advanced(memory, e.ir.word(r * LANES + c * w))?, w as u32, None)?));
        }
        out.push(lanes);
    }
    Ok(out)
}

/// Element by element, with the lanes in memory.
fn one_by_one<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    inner: Lin,
    reductions: &[&'k Vector],
) -> Made<Lanes<'c>> {
    let memory = e.sums.ok_or_else(|| Fault("no memory for sums".into()))?;
    for (r, v) in reductions.iter().enumerate() {
        for c in 0..LANES / 4 {
            e.ir.store(e.ir.advanced(memory, e.ir.word(r * LANES + c * 4))?, e.ir.splat(start(v.op), 4), None)?;
        }
    }
    let (zero, end) = (e.ir.word(0), e.lin(inner)?);
    e.repeat(zero, end, (1, 1), &[], &mut |e, at, _| {
        let lane = e.ir.b.build_and(at, e.ir.word(LANES - 1), "")?;
        line.chunk(e, &Chunk { at, mask: None }, &mut |e, number, v, args| {
            let place = e.ir.b.build_int_add(lane, e.ir.word(number * LANES), "")?;
            let place = e.ir.advanced(memory, place)?;
            e.ir.store(place, step(e, v.op, e.ir.load(place, 1, None)?, args)?, None)
        })?;
        Ok(Vec::new())
    })?;
    stored(e, reductions.len(), 4)
}
