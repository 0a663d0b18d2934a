//! The meaning of a kernel, executed one scalar at a time.

use super::{Base, Kernel, Layout, Operand, Ref, Stmt, VecOp, Vector};
use std::ops::Range;

/// Executes a kernel on rows, with the bits that compiled code has.
///
/// # Safety
/// The kernel is verified, `args` holds one pointer for each parameter, valid for the rows of `rows`
/// (row `r` at `r * len`) or for `len` floats where rows share it, and no two of them overlap where
/// one is written. `scratch` holds [`Kernel::scratch_len`] floats.
pub unsafe fn interpret(kernel: &Kernel, args: &[*mut f32], rows: Range<usize>, keys: usize, scratch: &mut [f32]) {
    debug_assert!(args.len() == kernel.params.len());
    let layout = Layout::of(kernel);
    debug_assert!(scratch.len() >= layout.total.at(keys));
    for row in rows {
        let frame = Frame { kernel, args, row, keys, layout: &layout, scratch: scratch.as_mut_ptr() };
        for stmt in &kernel.body {
            match stmt {
                Stmt::Vector(v) => unsafe { frame.vector(v) },
                Stmt::If { guards, body } => {
                    let holds = |g: &u32| unsafe { *frame.base(Base::Param(*g)) != 0.0 };
                    if guards.iter().any(holds) {
                        for inner in body {
                            if let Stmt::Vector(v) = inner {
                                unsafe { frame.vector(v) }
                            }
                        }
                    }
                }
            }
        }
    }
}

struct Frame<'k> {
    kernel: &'k Kernel,
    args: &'k [*mut f32],
    row: usize,
    keys: usize,
    layout: &'k Layout,
    scratch: *mut f32,
}

impl Frame<'_> {
    /// The row's part of a base.
    unsafe fn base(&self, base: Base) -> *mut f32 {
        match base {
            Base::Param(i) => {
                let param = self.kernel.params[i as usize];
                let offset = if param.kind.per_row() { self.row * param.len.at(self.keys) } else { 0 };
                unsafe { self.args[i as usize].add(offset) }
            }
            Base::Temp(i) => unsafe { self.scratch.add(self.layout.offsets[i as usize].at(self.keys)) },
        }
    }

    unsafe fn at(&self, r: &Ref, index: &[usize]) -> *mut f32 {
        let steps: usize = r.strides.iter().zip(index).map(|(s, i)| s.at(self.keys) * i).sum();
        unsafe { self.base(r.base).add(r.offset.at(self.keys) + steps) }
    }

    unsafe fn read(&self, operand: &Operand, index: &[usize]) -> f32 {
        match operand {
            Operand::Number(n) => n.value(),
            Operand::Ref(r) => unsafe { *self.at(r, index) },
        }
    }

    unsafe fn vector(&self, v: &Vector) {
        let extents: Vec<usize> = v.loops.iter().map(|l| l.at(self.keys)).collect();
        let outer = if v.op.is_map() { extents.len() } else { extents.len() - 1 };
        if extents[..outer].contains(&0) {
            return;
        }
        let mut index = vec![0; extents.len()];
        loop {
            unsafe { self.element(v, &mut index, extents.get(outer).copied()) };
            // The next index of the outer loops.
            let mut d = outer;
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                index[d] += 1;
                if index[d] < extents[d] {
                    break;
                }
                index[d] = 0;
            }
        }
    }

    /// One element, or one pass of `inner` elements through the last loop.
    unsafe fn element(&self, v: &Vector, index: &mut [usize], inner: Option<usize>) {
        let read = |i: usize, index: &[usize]| unsafe { self.read(&v.srcs[i], index) };
        let n = inner.unwrap_or(0);
        let line = |i: usize, index: &mut [usize]| -> Vec<f32> {
            let last = index.len() - 1;
            let row = (0..n).map(|j| {
                index[last] = j;
                read(i, index)
            });
            let row = row.collect();
            index[last] = 0;
            row
        };
        let value = match v.op {
            VecOp::Copy => read(0, index),
            VecOp::Unary(op) => op.apply(read(0, index)),
            VecOp::Binary(op) => op.apply(read(0, index), read(1, index)),
            VecOp::Select => {
                if read(0, index) != 0.0 {
                    read(1, index)
                } else {
                    read(2, index)
                }
            }
            VecOp::Axpy => read(1, index).mul_add(read(2, index), read(0, index)),
            VecOp::Reduce(op) => op.apply(&line(0, index)),
            VecOp::Dot => dot(&line(0, index), &line(1, index)),
            VecOp::Iota | VecOp::TopK => {
                let values = match v.op {
                    VecOp::Iota => (0..n).map(|j| read(0, index) + j as f32).collect(),
                    _ => top_k(&line(0, index), read(1, index)),
                };
                let last = index.len() - 1;
                for (j, value) in values.into_iter().enumerate() {
                    index[last] = j;
                    unsafe { *self.at(&v.dst, index) = value };
                }
                index[last] = 0;
                return;
            }
        };
        unsafe { *self.at(&v.dst, index) = value };
    }
}

/// In the order of [`steer_kernels::Reduce::Sum`]: 64 lanes, then pairs of lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 64];
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        lanes[i % 64] = x.mul_add(*y, lanes[i % 64]);
    }
    // What pads the last group of 16 adds 0 * 0, which only turns -0 to 0, and no lane is -0.
    let mut v: [f32; 16] = std::array::from_fn(|i| (lanes[i] + lanes[i + 16]) + (lanes[i + 32] + lanes[i + 48]));
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            v[i] += v[i + half];
        }
        half /= 2;
    }
    v[0]
}

/// 1 for the `k` greatest, of equals the first; a NaN is beyond all numbers.
fn top_k(row: &[f32], k: f32) -> Vec<f32> {
    let rank = |i: usize| if row[i].is_nan() { f32::NAN.abs() } else { row[i] + 0.0 };
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&i, &j| rank(j).total_cmp(&rank(i)));
    let mut mask = vec![0.0; row.len()];
    for &i in order.iter().take(k as usize) {
        mask[i] = 1.0;
    }
    mask
}
