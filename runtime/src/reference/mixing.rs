//! The ops that read other rows.

use super::eval::{Eval, Failure, Place, failed};
use super::ops;
use crate::error::Error;
use candle_core::{DType, Device, Tensor};
use std::collections::{HashMap, HashSet};
use steer_compiler::plan::{Axis, NodeId, Op, RegionId, Size};
use steer_kernels::attention::CacheFormat;

impl Eval<'_> {
    pub fn conv1d(&self, x: &Tensor, w: &Tensor) -> Result<Tensor, Failure> {
        let (_, channels, taps) = w.dims3()?;
        let rows = self.rows();
        let x = x.broadcast_as((rows, channels))?;
        let padded =
            Tensor::cat(&[Tensor::zeros((taps - 1, channels), DType::F32, &Device::Cpu)?, x.contiguous()?], 0)?;
        let mut y = Tensor::zeros((rows, channels), DType::F32, &Device::Cpu)?;
        for t in 0..taps {
            y = (y + padded.narrow(0, t, rows)?.broadcast_mul(&w.narrow(2, t, 1)?.squeeze(2)?)?)?;
        }
        Ok(y)
    }

    /// Scores of every row with every row; those that are no keys are left out wherever the body looks
    /// along `key`.
    pub fn attention(&mut self, id: NodeId, needed: &HashSet<NodeId>) -> Result<(), Error> {
        let plan = self.plan;
        let Op::Attention { q, k, v, scale, body, .. } = &plan.node(id).op else { return Ok(()) };
        let sight = plan.node(id).op.sight().unwrap_or_default();
        let (rows, none) = (self.rows(), HashMap::new());
        let full = |n: NodeId| -> Result<Tensor, Error> {
            let x = self.value(n, None, &none)?;
            let mut shape = x.dims().to_vec();
            shape[0] = rows;
            // [head, rows, d_head]
            x.broadcast_as(shape).and_then(|x| x.transpose(0, 1)).and_then(|x| x.contiguous()).map_err(failed)
        };
        let (q, k, v) = (full(*q)?, self.stored(full(*k)?)?, self.stored(full(*v)?)?);
        let heads = q.dims()[0];
        let repeat = |x: &Tensor| -> candle_core::Result<Tensor> {
            let (kv, t, d) = x.dims3()?;
            x.unsqueeze(1)?.broadcast_as((kv, heads / kv, t, d))?.contiguous()?.reshape((heads, t, d))
        };
        let (k, v) = (repeat(&k).map_err(failed)?, repeat(&v).map_err(failed)?);
        let scores = || -> candle_core::Result<Tensor> {
            let scores = q.matmul(&k.transpose(1, 2)?.contiguous()?)?.affine(f64::from(*scale), 0.0)?;
            scores.transpose(0, 1)?.contiguous()
        };
        let keys: Vec<f32> = (0..rows * rows)
            .map(|i| {
                let (row, key) = (i / rows, i % rows);
                f32::from(u8::from(sight.of(row, rows).contains(&key)))
            })
            .collect();
        let keys = Tensor::from_vec(keys, (rows, rows), &Device::Cpu).map_err(failed)?;
        let region = plan.region(*body);
        self.values.insert(region.args[0], scores().map_err(failed)?);
        let place = Place { row: None, keys: Some(&keys) };
        for &n in &region.order {
            if needed.contains(&n) && plan.ty(n).per_row && n != region.args[0] {
                let value = self.node(n, place, &HashMap::new())?;
                self.values.insert(n, value);
            }
        }
        let pattern = self.value(region.results[0], None, &HashMap::new())?;
        let z = || -> candle_core::Result<Tensor> {
            let keys = keys.reshape((rows, 1, rows))?;
            let pattern = ops::masked(&pattern.broadcast_as((rows, heads, rows))?, &keys, 0.0)?;
            pattern.transpose(0, 1)?.contiguous()?.matmul(&v)?.transpose(0, 1)?.contiguous()
        };
        let z = z().map_err(failed)?;
        self.values.insert(id, z);
        Ok(())
    }

    /// Keys or values `[head, rows, d_head]` as they are read once they were stored.
    fn stored(&self, x: Tensor) -> Result<Tensor, Error> {
        if self.rounding.cache == CacheFormat::F32 {
            return Ok(x);
        }
        let rounded = || -> candle_core::Result<Tensor> {
            let (shape, d_head) = (x.dims().to_vec(), x.dim(2)?);
            let mut numbers: Vec<f32> = x.flatten_all()?.to_vec1()?;
            self.rounding.cache.rounded(d_head, &mut numbers);
            Tensor::from_vec(numbers, shape, &Device::Cpu)
        };
        rounded().map_err(failed)
    }

    /// What the state reaches row after row, the rest at once.
    pub fn scan(&mut self, id: NodeId, body: RegionId, needed: &HashSet<NodeId>) -> Result<(), Error> {
        let plan = self.plan;
        let region = plan.region(body);
        let state = region.args[0];
        let mut carried = vec![state];
        for &n in region.order.iter().filter(|n| needed.contains(n) && **n != state && plan.ty(**n).per_row) {
            let mut reached = false;
            plan.node(n).op.for_each_input(&mut |x| reached |= carried.contains(&x));
            if reached {
                carried.push(n);
            } else {
                let value = self.node(n, Place { row: None, keys: None }, &HashMap::new())?;
                self.values.insert(n, value);
            }
        }
        let size = |a: &Axis| if let Size::Fixed(n) = a.size { n } else { 1 };
        let shape: Vec<usize> = [1].into_iter().chain(plan.ty(state).axes.iter().map(size)).collect();
        let mut now = Tensor::zeros(shape, DType::F32, &Device::Cpu).map_err(failed)?;
        let mut rows: HashMap<NodeId, Vec<Tensor>> = HashMap::new();
        for row in 0..self.rows() {
            let mut local = HashMap::from([(state, now)]);
            for &n in &carried[1..] {
                let value = self.node(n, Place { row: Some(row), keys: None }, &local)?;
                local.insert(n, value);
            }
            now = self.value(region.results[0], Some(row), &local)?;
            for (n, value) in local {
                rows.entry(n).or_default().push(value);
            }
        }
        for (n, values) in rows {
            self.values.insert(n, Tensor::cat(&values, 0).map_err(failed)?);
        }
        let result = self.value(region.results[1], None, &HashMap::new())?;
        self.values.insert(id, result);
        Ok(())
    }
}
