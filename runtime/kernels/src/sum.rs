//! Sums of a few rows out of many, in the order of the sum over all of them.

use crate::isa::{Isa, by_isa, for_each_isa};
use crate::lanes::Lanes;

/// One row with its weight; `at` is its place among all.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    pub at: usize,
    pub by: f32,
    pub row: *const f32,
}

/// Lanes of a sum.
const LANES: usize = 64;
/// The bits of a lane by which lanes become one, the last of these steps first.
const STEPS: [usize; 6] = [0, 1, 2, 3, 5, 4];

/// What is done with a stack of partial sums.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// A product begins a lane.
    Begin(u32),
    /// A product is added to the lane on top.
    Go(u32),
    /// The two on top become one.
    Join,
}

type SumFn = unsafe fn(*mut f32, &[Leaf], &[Step], usize);

/// `dst[i]` is the sum of `by * row[i]`, each product rounded once into it: the bits of [`crate::rows::dot`] over all
/// places, where those that are not listed hold zeros. The leaves are put in another order.
///
/// # Safety
/// `dst` is writable and the rows are readable for `n` numbers.
///
/// # Panics
/// When this processor lacks `isa`.
pub unsafe fn sum_of(isa: Isa, dst: *mut f32, leaves: &mut [Leaf], n: usize) {
    isa.require();
    let key = |leaf: &Leaf| STEPS.iter().fold(0, |key, bit| key * 2 + (((leaf.at % LANES) >> bit) & 1));
    leaves.sort_unstable_by_key(|leaf| (key(leaf), leaf.at));
    let mut steps = Vec::with_capacity(2 * leaves.len());
    order(leaves, 0, 0, &mut steps);
    // SAFETY: the caller's.
    unsafe { (*by_isa!(isa, SUM))(dst, leaves, &steps, n) }
}

/// The steps of leaves that are alike in all lanes' bits before `level`; the first is number `from`.
fn order(leaves: &[Leaf], from: u32, level: usize, steps: &mut Vec<Step>) {
    if leaves.is_empty() {
        return;
    }
    let Some(bit) = STEPS.get(level) else {
        steps.push(Step::Begin(from));
        steps.extend((1..leaves.len() as u32).map(|i| Step::Go(from + i)));
        return;
    };
    let (low, high) = leaves.split_at(leaves.partition_point(|leaf| (leaf.at >> bit) & 1 == 0));
    order(low, from, level + 1, steps);
    order(high, from + low.len() as u32, level + 1, steps);
    if !low.is_empty() && !high.is_empty() {
        steps.push(Step::Join);
    }
}

#[inline(always)]
unsafe fn run<V: Lanes>(dst: *mut f32, leaves: &[Leaf], steps: &[Step], n: usize) {
    let mut i = 0;
    while i < n {
        let m = (n - i).min(V::WIDTH);
        let sum = unsafe { column::<V>(leaves, steps, i, m) };
        match m == V::WIDTH {
            true => unsafe { sum.store(dst.add(i)) },
            false => unsafe { sum.store_part(dst.add(i), m) },
        }
        i += m;
    }
}

#[inline(always)]
unsafe fn column<V: Lanes>(leaves: &[Leaf], steps: &[Step], i: usize, m: usize) -> V {
    let mut stack = [V::splat(0.0); STEPS.len() + 2];
    let mut top = 0;
    for step in steps {
        match *step {
            Step::Begin(leaf) => {
                top += 1;
                stack[top] = unsafe { product(&leaves[leaf as usize], i, m, V::splat(0.0)) };
            }
            Step::Go(leaf) => stack[top] = unsafe { product(&leaves[leaf as usize], i, m, stack[top]) },
            Step::Join => {
                top -= 1;
                stack[top] = stack[top] + stack[top + 1];
            }
        }
    }
    // The zeros of all other places make a negative zero positive.
    stack[1] + V::splat(0.0)
}

#[inline(always)]
unsafe fn product<V: Lanes>(leaf: &Leaf, i: usize, m: usize, sum: V) -> V {
    let row = leaf.row.wrapping_add(i);
    let row = unsafe { if m == V::WIDTH { V::load(row) } else { V::load_part(row, m) } };
    V::splat(leaf.by).fma(row, sum)
}

macro_rules! sums {
    ($isa:ident, $lanes:ty, $attribute:meta) => {
        mod $isa {
            use super::{Leaf, Step, SumFn};

            pub(super) static SUM: SumFn = sum;

            #[$attribute]
            unsafe fn sum(dst: *mut f32, leaves: &[Leaf], steps: &[Step], n: usize) {
                unsafe { super::run::<$lanes>(dst, leaves, steps, n) }
            }
        }
    };
}
for_each_isa!(sums);
