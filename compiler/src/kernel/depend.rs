//! What a statement needs of the ones before it: which elements it reads and writes.

use super::{Lin, Ref, VecOp, Vector};

pub fn reduces(v: &Vector) -> bool {
    matches!(v.op, VecOp::Reduce(_) | VecOp::Dot)
}

/// Whether the elements of a statement may depend on one another, so that they are taken one by one.
pub fn is_sequential(v: &Vector) -> bool {
    let overlaps = |s: &Ref| s.base == v.dst.base && s != &v.dst && !disjoint(&v.loops, s, &v.loops, &v.dst);
    let stays =
        !reduces(v) && v.loops.last().is_some_and(|n| *n != Lin::ONE) && v.dst.strides.last() == Some(&Lin::ZERO);
    stays || v.srcs.iter().filter_map(|s| s.as_ref()).any(overlaps)
}

/// What orders a statement behind an earlier one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dependence {
    None,
    /// Each element on the same element.
    SameElement,
    All,
}

pub fn dependence(a: &Vector, b: &Vector) -> Dependence {
    let mut found = Dependence::None;
    for (x, x_written) in accesses(a) {
        for (y, y_written) in accesses(b) {
            if x.base != y.base || !(x_written || y_written) || disjoint(&a.loops, x, &b.loops, y) {
                continue;
            }
            let whole = (x_written && reduces(a)) || (y_written && reduces(b));
            if whole || a.loops != b.loops || x != y || !one_to_one(&a.loops, x) {
                return Dependence::All;
            }
            found = Dependence::SameElement;
        }
    }
    found
}

pub fn accesses(v: &Vector) -> impl Iterator<Item = (&Ref, bool)> {
    let read = v.srcs.iter().filter_map(|s| s.as_ref()).map(|r| (r, false));
    [(&v.dst, true)].into_iter().chain(read)
}

/// Extents and strides of the loops that move, the widest stride first; `None` where keys are among them.
fn moving(loops: &[Lin], r: &Ref) -> Option<Vec<(usize, usize)>> {
    let mut out = Vec::new();
    for (extent, stride) in loops.iter().zip(&r.strides) {
        match (extent.known()?, stride.known()?) {
            (1, _) | (_, 0) => {}
            pair => out.push(pair),
        }
    }
    out.sort_by_key(|(_, stride)| std::cmp::Reverse(*stride));
    Some(out)
}

/// The floats from the first to the last element.
fn span(moving: &[(usize, usize)]) -> usize {
    1 + moving.iter().map(|(n, s)| n.saturating_sub(1).saturating_mul(*s)).sum::<usize>()
}

/// Whether two references to the same base surely have no element in common.
pub fn disjoint(a_loops: &[Lin], a: &Ref, b_loops: &[Lin], b: &Ref) -> bool {
    if a_loops.contains(&Lin::ZERO) || b_loops.contains(&Lin::ZERO) {
        return true;
    }
    let (Some(x), Some(y)) = (moving(a_loops, a), moving(b_loops, b)) else { return false };
    let (Some(i), Some(j)) = (a.offset.known(), b.offset.known()) else { return false };
    if i + span(&x) <= j || j + span(&y) <= i {
        return true;
    }
    // Interleaved: the same shape at another offset within a period.
    let mut between = i.abs_diff(j);
    if x != y {
        return false;
    }
    for (at, (_, stride)) in x.iter().enumerate() {
        let inner = span(&x[at + 1..]);
        if inner > *stride {
            return false;
        }
        between %= stride;
        if between >= inner && between + inner <= *stride {
            return true;
        }
        if between + inner > *stride {
            return false;
        }
    }
    false
}

/// Whether every index has an element of its own.
pub fn one_to_one(loops: &[Lin], r: &Ref) -> bool {
    if loops.iter().zip(&r.strides).any(|(n, s)| *n != Lin::ONE && *s == Lin::ZERO) {
        return false;
    }
    if let Some(moving) = moving(loops, r) {
        return moving.iter().enumerate().all(|(at, (_, stride))| span(&moving[at + 1..]) <= *stride);
    }
    // Row-major over axes of keys.
    let mut expected = Some(Lin::ONE);
    for (extent, stride) in loops.iter().zip(&r.strides).rev().filter(|(n, _)| **n != Lin::ONE) {
        if expected != Some(*stride) {
            return false;
        }
        expected = stride.times(*extent);
    }
    true
}
