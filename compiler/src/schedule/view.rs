//! Where the elements of a value lie within another's.

use crate::kernel::Lin;
pub use crate::kernel::build::row_major;
use crate::plan::NodeId;

/// Strided indexing into the storage of a root.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub root: NodeId,
    pub offset: Lin,
    /// By axis of the viewing node's type.
    pub strides: Vec<Lin>,
}

impl Default for View {
    fn default() -> Self {
        View { root: NodeId(0), offset: Lin::ZERO, strides: Vec::new() }
    }
}

impl View {
    /// The same view from entry `by` of an axis on.
    pub fn advanced(&self, axis: usize, by: usize) -> Option<View> {
        let step = self.strides.get(axis)?.scaled(by);
        Some(View { offset: self.offset.plus(step), ..self.clone() })
    }
}

/// Whether elements follow one another; strides along axes with one entry do not matter.
pub fn is_row_major(extents: &[Lin], strides: &[Lin]) -> bool {
    let mut next = Lin::ONE;
    for (extent, stride) in extents.iter().zip(strides).rev() {
        if *extent != Lin::ONE && *stride != next {
            return false;
        }
        match next.times(*extent) {
            Some(n) => next = n,
            None => return false,
        }
    }
    true
}

/// The quotient, where it is a whole number of entries for any number of keys.
fn divided(a: Lin, b: Lin) -> Option<Lin> {
    match (a.keys, b.keys) {
        (0, 0) if b.fixed != 0 && a.fixed.is_multiple_of(b.fixed) => Some(Lin::fixed(a.fixed / b.fixed)),
        (k, 0) if k != 0 && a.fixed == 0 && b.fixed != 0 && k.is_multiple_of(b.fixed) => {
            Some(Lin { fixed: 0, keys: k / b.fixed })
        }
        (k, l) if l != 0 && a.fixed == 0 && b.fixed == 0 && k.is_multiple_of(l) => Some(Lin::fixed(k / l)),
        _ => None,
    }
}

/// The strides of the same elements in the same order under other extents, unless they have to be moved.
pub fn reshaped(from: &[Lin], strides: &[Lin], to: &[Lin]) -> Option<Vec<Lin>> {
    // Runs of axes that are one axis in memory, innermost first.
    let mut runs: Vec<(Lin, Lin)> = Vec::new();
    for (&extent, &stride) in from.iter().zip(strides).rev() {
        if extent == Lin::ONE {
            continue;
        }
        match runs.last_mut() {
            Some((length, step)) if length.times(*step) == Some(stride) && length.times(extent).is_some() => {
                *length = length.times(extent)?;
            }
            _ => runs.push((extent, stride)),
        }
    }
    let mut runs = runs.into_iter();
    let mut run = (Lin::ONE, Lin::ONE);
    let mut result = vec![Lin::ONE; to.len()];
    for (i, &extent) in to.iter().enumerate().rev() {
        if extent == Lin::ONE {
            continue;
        }
        if run.0 == Lin::ONE {
            run = runs.next()?;
        }
        result[i] = run.1;
        run = (divided(run.0, extent)?, run.1.times(extent)?);
    }
    (run.0 == Lin::ONE && runs.next().is_none()).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(ns: &[usize]) -> Vec<Lin> {
        ns.iter().map(|n| Lin::fixed(*n)).collect()
    }

    #[test]
    fn reshape_splits_and_merges_runs() {
        let case =
            |from: &[usize], strides: &[usize], to: &[usize]| reshaped(&fixed(from), &fixed(strides), &fixed(to));
        assert_eq!(case(&[12], &[1], &[3, 4]), Some(fixed(&[4, 1])));
        assert_eq!(case(&[3, 4], &[4, 1], &[12]), Some(fixed(&[1])));
        assert_eq!(case(&[3, 4], &[8, 1], &[12]), None);
        assert_eq!(case(&[3, 4], &[8, 1], &[3, 2, 2]), Some(fixed(&[8, 2, 1])));
        assert_eq!(case(&[4, 3], &[1, 4], &[2, 2, 3]), Some(fixed(&[2, 1, 4])));
        assert_eq!(case(&[1, 4], &[9, 2], &[4, 1]), Some(vec![Lin::fixed(2), Lin::ONE]));
    }

    #[test]
    fn reshape_keeps_keys_apart() {
        let heads = [Lin::fixed(8), Lin::KEYS];
        let to = [Lin::fixed(2), Lin::fixed(4), Lin::KEYS];
        let strides = reshaped(&heads, &[Lin::KEYS, Lin::ONE], &to);
        assert_eq!(strides, Some(vec![Lin { fixed: 0, keys: 4 }, Lin::KEYS, Lin::ONE]));
    }
}
