//! The ops that only see their own row, on candle tensors. Every value has the rows as its first
//! dimension, or 1 there where it is the same for all rows; the axes of its type follow.

use candle_core::{D, DType, Device, Result, Tensor};
use std::sync::Arc;
use steer_compiler::plan::{Axis, Binary, Reduce, Type, Unary};

/// `x` under the axes `to`, matched by name; absent ones have one entry.
pub(super) fn align(x: &Tensor, from: &[Axis], to: &[Axis]) -> Result<Tensor> {
    let mut order = vec![0];
    let mut shape = vec![x.dims()[0]];
    for axis in to {
        match from.iter().position(|a| a.name == axis.name) {
            Some(at) => {
                order.push(at + 1);
                shape.push(x.dims()[at + 1]);
            }
            None => shape.push(1),
        }
    }
    x.permute(order)?.contiguous()?.reshape(shape)
}

/// The shape that these aligned values have together.
fn common(values: &[&Tensor]) -> Vec<usize> {
    let rank = values[0].rank();
    (0..rank).map(|d| values.iter().map(|v| v.dims()[d]).max().unwrap_or(1)).collect()
}

fn truth(x: Tensor) -> Result<Tensor> {
    x.to_dtype(DType::F32)
}

/// Element by element, where candle has no such op or another meaning of it.
fn map(x: &Tensor, f: impl Fn(f32) -> f32) -> Result<Tensor> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f).collect();
    Tensor::from_vec(values, x.shape(), &Device::Cpu)
}

pub(super) fn unary(op: Unary, x: &Tensor) -> Result<Tensor> {
    match op {
        Unary::Neg => x.neg(),
        Unary::Abs => x.abs(),
        Unary::Sign => x.sign(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => x.sqrt()?.recip(),
        Unary::Recip => x.recip(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
        Unary::Silu => x.silu(),
        Unary::Relu => x.relu(),
        Unary::Gelu => x.gelu_erf(),
        Unary::GeluTanh => x.gelu(),
        Unary::Softplus => x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?,
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Round => map(x, f32::round_ties_even),
        Unary::Floor => x.floor(),
        Unary::Not => truth(x.eq(0.0)?),
        Unary::IsFinite => map(x, |x| f32::from(u8::from(x.is_finite()))),
    }
}

/// Of aligned operands.
pub(super) fn binary(op: Binary, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match op {
        Binary::Add => a.broadcast_add(b),
        Binary::Sub => a.broadcast_sub(b),
        Binary::Mul => a.broadcast_mul(b),
        Binary::Div => a.broadcast_div(b),
        Binary::Min => a.broadcast_minimum(b),
        Binary::Max => a.broadcast_maximum(b),
        Binary::Pow => {
            let shape = common(&[a, b]);
            let values = |x: &Tensor| x.broadcast_as(&shape[..])?.flatten_all()?.to_vec1::<f32>();
            let powers = values(a)?.into_iter().zip(values(b)?).map(|(a, b)| a.powf(b)).collect();
            Tensor::from_vec(powers, &shape[..], &Device::Cpu)
        }
        Binary::Lt => truth(a.broadcast_lt(b)?),
        Binary::Le => truth(a.broadcast_le(b)?),
        Binary::Gt => truth(a.broadcast_gt(b)?),
        Binary::Ge => truth(a.broadcast_ge(b)?),
        Binary::Eq => truth(a.broadcast_eq(b)?),
        Binary::Ne => truth(a.broadcast_ne(b)?),
        Binary::And => truth(a.ne(0.0)?.broadcast_mul(&b.ne(0.0)?)?),
        Binary::Or => truth(a.ne(0.0)?.broadcast_maximum(&b.ne(0.0)?)?),
    }
}

/// Of aligned operands.
pub(super) fn select(condition: &Tensor, then: &Tensor, other: &Tensor) -> Result<Tensor> {
    let shape = common(&[condition, then, other]);
    let spread = |x: &Tensor| x.broadcast_as(&shape[..])?.contiguous();
    spread(&condition.ne(0.0)?)?.where_cond(&spread(then)?, &spread(other)?)
}

/// `x` where the mask is set, else `fill`.
pub(super) fn masked(x: &Tensor, mask: &Tensor, fill: f32) -> Result<Tensor> {
    let fill = Tensor::full(fill, vec![1; x.rank()], &Device::Cpu)?;
    select(mask, x, &fill)
}

/// What an absent key counts as.
pub(super) fn neutral(op: Reduce) -> f32 {
    match op {
        Reduce::Sum | Reduce::SumSq => 0.0,
        Reduce::Max | Reduce::ArgMax => f32::NEG_INFINITY,
        Reduce::Min => f32::INFINITY,
    }
}

pub(super) fn reduce(op: Reduce, x: &Tensor, ty: &Type, over: &[Arc<str>]) -> Result<Tensor> {
    let mut dims: Vec<usize> = over.iter().filter_map(|n| ty.position_of(n)).map(|d| d + 1).collect();
    dims.sort_unstable();
    match op {
        Reduce::Sum => x.sum(dims),
        Reduce::SumSq => x.sqr()?.sum(dims),
        Reduce::Max => dims.iter().rev().try_fold(x.clone(), |x, &d| x.contiguous()?.max(d)),
        Reduce::Min => dims.iter().rev().try_fold(x.clone(), |x, &d| x.contiguous()?.min(d)),
        Reduce::ArgMax => {
            let d = dims.first().copied().unwrap_or(0);
            let found = lines(x, d, |line, _| {
                let best = (0..line.len()).fold(0, |best, i| if line[i] > line[best] { i } else { best });
                vec![best as f32]
            })?;
            found.squeeze(d)
        }
    }
}

/// 1 for the `k` greatest along the dimension `d`, the first ones of equals; a NaN is beyond all numbers. Where there is a
/// mask (aligned with `x`) only entries in it count.
pub(super) fn top_k(x: &Tensor, d: usize, k: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let k: Vec<f32> = k.to_vec1()?;
    let mut dims = x.dims().to_vec();
    dims[0] = dims[0].max(k.len()).max(mask.map_or(1, |m| m.dims()[0]));
    let seen = match mask {
        Some(mask) => {
            let mask = mask.broadcast_as(dims.clone())?.transpose(d, D::Minus1)?.contiguous()?;
            Some(mask.flatten_all()?.to_vec1::<f32>()?)
        }
        None => None,
    };
    let x = x.broadcast_as(dims)?.contiguous()?;
    lines(&x, d, |line, (number, row)| {
        let k = k[row.min(k.len() - 1)] as usize;
        let rank = |i: usize| if line[i].is_nan() { f32::NAN.abs() } else { line[i] + 0.0 };
        let counts = |i: &usize| seen.as_ref().is_none_or(|seen| seen[number * line.len() + i] != 0.0);
        let mut order: Vec<usize> = (0..line.len()).filter(counts).collect();
        order.sort_by(|&i, &j| rank(j).total_cmp(&rank(i)));
        let mut chosen = vec![0.0; line.len()];
        order.iter().take(k).for_each(|&i| chosen[i] = 1.0);
        chosen
    })
}

/// Applies `f` to each line of numbers along `d`, with its own number and that of the row that it is of.
fn lines(x: &Tensor, d: usize, f: impl Fn(&[f32], (usize, usize)) -> Vec<f32>) -> Result<Tensor> {
    let x = x.transpose(d, D::Minus1)?.contiguous()?;
    let mut dims = x.dims().to_vec();
    let len = dims[dims.len() - 1];
    let per_row: usize = dims[1..].iter().product::<usize>() / len;
    let out: Vec<f32> = x
        .flatten_all()?
        .to_vec1::<f32>()?
        .chunks(len)
        .enumerate()
        .flat_map(|(i, line)| f(line, (i, i / per_row)))
        .collect();
    if let Some(last) = dims.last_mut() {
        *last = out.len() * *last / x.elem_count();
    }
    Tensor::from_vec(out, dims, &Device::Cpu)?.transpose(d, D::Minus1)?.contiguous()
}

/// How a product's axes are laid out as one batch of matrices.
pub(super) struct Product<'a> {
    pub x: &'a Type,
    pub w: &'a Type,
    pub result: &'a Type,
    pub over: &'a [Arc<str>],
}

/// What is done to a row before it is multiplied.
pub(super) type Round<'a> = dyn Fn(&mut [f32]) + 'a;

impl Product<'_> {
    fn batch(&self) -> Vec<Axis> {
        let shared = |a: &&Axis| !self.over.contains(&a.name) && self.w.position_of(&a.name).is_some();
        self.x.axes.iter().filter(shared).cloned().collect()
    }

    fn only<'b>(&self, of: &'b Type, other: &Type) -> Vec<&'b Axis> {
        of.axes.iter().filter(|a| other.position_of(&a.name).is_none()).collect()
    }

    fn sizes(axes: &[&Axis], of: &Type, tensor: &Tensor) -> Vec<usize> {
        axes.iter().map(|a| of.position_of(&a.name).map_or(1, |at| tensor.dims()[at + 1])).collect()
    }

    /// The weight as `[batch, inner, out]`.
    pub fn weight(&self, w: &Tensor) -> Result<Tensor> {
        let (batch, out) = (self.batch(), self.only(self.w, self.x));
        let names =
            batch.iter().map(|a| &*a.name).chain(self.over.iter().map(|o| &**o)).chain(out.iter().map(|a| &*a.name));
        let order: Vec<usize> =
            [0].into_iter().chain(names.filter_map(|n| self.w.position_of(n)).map(|d| d + 1)).collect();
        let w_dims = w.dims().to_vec();
        let size = |names: &mut dyn Iterator<Item = &str>| {
            names.filter_map(|n| self.w.position_of(n)).map(|d| w_dims[d + 1]).product::<usize>()
        };
        let shape = (
            size(&mut batch.iter().map(|a| &*a.name)),
            size(&mut self.over.iter().map(|o| &**o)),
            size(&mut out.iter().map(|a| &*a.name)),
        );
        w.permute(order)?.contiguous()?.reshape(shape)
    }

    /// With a weight from [`Product::weight`]; of each row it reads what `round` leaves.
    pub fn apply(&self, x: &Tensor, w: &Tensor, round: Option<&Round>) -> Result<Tensor> {
        let rows = x.dims()[0];
        let batch = self.batch();
        let batch: Vec<&Axis> = batch.iter().collect();
        let extra = self.only(self.x, self.w);
        let out = self.only(self.w, self.x);
        // [batch.., rows, extra.., inner..]
        let dim = |n: &str| self.x.position_of(n).map(|d| d + 1);
        let order: Vec<usize> = batch
            .iter()
            .filter_map(|a| dim(&a.name))
            .chain([0])
            .chain(extra.iter().filter_map(|a| dim(&a.name)))
            .chain(self.over.iter().filter_map(|o| dim(o)))
            .collect();
        let (b, inner, n) = w.dims3()?;
        let moved = x.permute(order)?.contiguous()?;
        let m = moved.elem_count() / (b * inner);
        let moved = match round {
            Some(round) => {
                let mut numbers: Vec<f32> = moved.flatten_all()?.to_vec1()?;
                numbers.chunks_exact_mut(inner.max(1)).for_each(round);
                Tensor::from_vec(numbers, moved.dims(), &Device::Cpu)?
            }
            None => moved,
        };
        let y = moved.reshape((b, m, inner))?.matmul(w)?;
        // [batch.., rows, extra.., out..], then into the order of the result.
        let (batch_sizes, extra_sizes) = (Self::sizes(&batch, self.x, x), Self::sizes(&extra, self.x, x));
        let out_sizes: Vec<usize> =
            out.iter().map(|a| if let steer_compiler::plan::Size::Fixed(n) = a.size { n } else { 1 }).collect();
        debug_assert_eq!(out_sizes.iter().product::<usize>(), n);
        let shape: Vec<usize> =
            batch_sizes.iter().chain(&[rows]).chain(&extra_sizes).chain(&out_sizes).copied().collect();
        let names: Vec<&str> =
            batch.iter().map(|a| &*a.name).chain([""]).chain(extra.iter().chain(&out).map(|a| &*a.name)).collect();
        let order: Vec<usize> = [""]
            .into_iter()
            .chain(self.result.axes.iter().map(|a| &*a.name))
            .filter_map(|n| names.iter().position(|m| *m == n))
            .collect();
        y.reshape(shape)?.permute(order)?.contiguous()
    }
}
