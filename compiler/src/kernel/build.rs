//! Statements over strided operands from operations over named axes.

use super::{Base, Bits, Kernel, Lin, Operand, Param, ParamKind, Ref, Stmt, VecOp, Vector};
use std::sync::Arc;

/// One axis of a value in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct StridedAxis {
    pub name: Arc<str>,
    pub extent: Lin,
    pub stride: Lin,
}

/// A value in memory, its axes in the order of its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Strided {
    pub base: Base,
    pub offset: Lin,
    pub axes: Vec<StridedAxis>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Number(f32),
    Memory(Strided),
}

/// Row-major strides; `None` where a stride would be of the second degree.
pub fn row_major(extents: &[Lin]) -> Option<Vec<Lin>> {
    let mut strides = vec![Lin::ONE; extents.len()];
    for i in (1..extents.len()).rev() {
        strides[i - 1] = strides[i].times(extents[i])?;
    }
    Some(strides)
}

impl Source {
    /// The stride along an axis; 0 where it has no such axis.
    fn stride(&self, name: &str) -> Lin {
        match self {
            Source::Number(_) => Lin::ZERO,
            Source::Memory(m) => m.axes.iter().find(|a| &*a.name == name).map_or(Lin::ZERO, |a| a.stride),
        }
    }

    fn operand(&self, strides: Vec<Lin>) -> Operand {
        match self {
            Source::Number(x) => Operand::Number(Bits::of(*x)),
            Source::Memory(m) => Operand::Ref(Ref { base: m.base, offset: m.offset, strides }),
        }
    }
}

/// A kernel under construction.
#[derive(Default)]
pub struct Builder {
    params: Vec<Param>,
    temps: Vec<Lin>,
    /// Each statement with the guards that it stands under.
    statements: Vec<(Vec<u32>, Vector)>,
    /// The guards of the statements to come.
    pub guards: Vec<u32>,
}

/// A loop that is not yet part of a statement: its extent, and the strides of the result and the operands.
struct Loop {
    extent: Lin,
    strides: Vec<Lin>,
}

impl Builder {
    pub fn param(&mut self, kind: ParamKind, len: Lin) -> u32 {
        self.params.push(Param { kind, len, out: false });
        self.params.len() as u32 - 1
    }

    /// Marks a parameter as stored to.
    pub fn set_out(&mut self, param: u32) {
        if let Some(p) = self.params.get_mut(param as usize) {
            p.out = true;
        }
    }

    /// A new temporary, row-major over these axes; `None` where that is of the second degree in the keys.
    pub fn temp(&mut self, axes: &[(Arc<str>, Lin)]) -> Option<Strided> {
        let extents: Vec<Lin> = axes.iter().map(|a| a.1).collect();
        let len = extents.iter().try_fold(Lin::ONE, |n, e| n.times(*e))?;
        let strides = row_major(&extents)?;
        self.temps.push(len);
        let axes = axes.iter().zip(strides).map(|((name, extent), stride)| StridedAxis {
            name: name.clone(),
            extent: *extent,
            stride,
        });
        Some(Strided { base: Base::Temp(self.temps.len() as u32 - 1), offset: Lin::ZERO, axes: axes.collect() })
    }

    fn push(&mut self, op: VecOp, loops: Vec<Loop>, dst: &Strided, srcs: &[Source]) {
        let strides = |i: usize| loops.iter().map(|l| l.strides[i]).collect::<Vec<_>>();
        let vector = Vector {
            op,
            dst: Ref { base: dst.base, offset: dst.offset, strides: strides(0) },
            srcs: srcs.iter().enumerate().map(|(i, s)| s.operand(strides(i + 1))).collect(),
            loops: loops.iter().map(|l| l.extent).collect(),
        };
        self.statements.push((self.guards.clone(), vector));
    }

    /// Loops over these axes, as few as the strides allow.
    fn loops(axes: &[(Arc<str>, Lin)], dst: &Strided, srcs: &[Source]) -> Vec<Loop> {
        let dst = Source::Memory(dst.clone());
        let loops = axes.iter().filter(|a| a.1 != Lin::ONE).map(|(name, extent)| {
            let strides = [&dst].into_iter().chain(srcs).map(|s| s.stride(name)).collect();
            Loop { extent: *extent, strides }
        });
        let mut merged: Vec<Loop> = Vec::new();
        for inner in loops {
            if let Some(outer) = merged.last_mut()
                && let Some(extent) = outer.extent.times(inner.extent)
                && outer.strides.iter().zip(&inner.strides).all(|(o, i)| Some(*o) == inner.extent.times(*i))
            {
                *outer = Loop { extent, strides: inner.strides };
            } else {
                merged.push(inner);
            }
        }
        merged
    }

    /// An elementwise operation over the axes of the result.
    pub fn map(&mut self, op: VecOp, dst: &Strided, srcs: &[Source]) {
        let axes: Vec<(Arc<str>, Lin)> = dst.axes.iter().map(|a| (a.name.clone(), a.extent)).collect();
        let loops = Self::loops(&axes, dst, srcs);
        self.push(op, loops, dst, srcs);
    }

    /// A copy into new memory, its axes in this order.
    fn packed(&mut self, source: &Strided, order: &[(Arc<str>, Lin)]) -> Option<Strided> {
        let packed = self.temp(order)?;
        self.map(VecOp::Copy, &packed, &[Source::Memory(source.clone())]);
        Some(packed)
    }

    /// One loop over these axes of every source, in this order, if their strides allow it.
    fn line(over: &[(Arc<str>, Lin)], srcs: &[Source], dst: &Strided) -> Option<Loop> {
        let mut none = dst.clone();
        none.axes.clear();
        let mut loops = Self::loops(over, &none, srcs);
        match loops.len() {
            0 => {
                let strides = [Lin::ZERO].into_iter().chain(srcs.iter().map(|_| Lin::ONE)).collect();
                Some(Loop { extent: Lin::ONE, strides })
            }
            1 => loops.pop(),
            _ => None,
        }
    }

    /// `Reduce`, or `Dot` of two sources, over the axes that the result lacks.
    pub fn reduce(&mut self, op: VecOp, dst: &Strided, srcs: &[Strided], over: &[(Arc<str>, Lin)]) -> Option<()> {
        let kept: Vec<(Arc<str>, Lin)> = dst.axes.iter().map(|a| (a.name.clone(), a.extent)).collect();
        let mut memory: Vec<Source> = srcs.iter().cloned().map(Source::Memory).collect();
        let contiguous = |line: &Option<Loop>| {
            line.as_ref().is_some_and(|l| op != VecOp::Dot || l.strides[1..].iter().all(|s| *s == Lin::ONE))
        };
        let mut line = Self::line(over, &memory, dst);
        if !contiguous(&line) {
            for (source, out) in srcs.iter().zip(&mut memory) {
                let has = |a: &&(Arc<str>, Lin)| source.axes.iter().any(|s| s.name == a.0);
                let order: Vec<_> = kept.iter().filter(has).chain(over).cloned().collect();
                *out = Source::Memory(self.packed(source, &order)?);
            }
            line = Self::line(over, &memory, dst);
        }
        let mut loops = Self::loops(&kept, dst, &memory);
        loops.push(line?);
        self.push(op, loops, dst, &memory);
        Some(())
    }

    /// A mask of the `k` largest along an axis.
    pub fn top_k(&mut self, dst: &Strided, of: &Strided, axis: &str, k: &Source) -> Option<()> {
        let at = dst.axes.iter().position(|a| &*a.name == axis)?;
        let mut order: Vec<(Arc<str>, Lin)> = dst.axes.iter().map(|a| (a.name.clone(), a.extent)).collect();
        let line = order.remove(at);
        let outer = order.clone();
        order.push(line.clone());
        let next = |s: &Strided| s.axes.iter().any(|a| a.name == line.0 && a.stride == Lin::ONE);
        let source = if next(of) { of.clone() } else { self.packed(of, &order)? };
        let result = if next(dst) { dst.clone() } else { self.temp(&order)? };
        let srcs = [Source::Memory(source), k.clone()];
        let mut loops = Self::loops(&outer, &result, &srcs);
        loops.push(Loop { extent: line.1, strides: vec![Lin::ONE, Lin::ONE, Lin::ZERO] });
        self.push(VecOp::TopK, loops, &result, &srcs);
        if !next(dst) {
            self.map(VecOp::Copy, dst, &[Source::Memory(result)]);
        }
        Some(())
    }

    /// `first, first + 1, ...` along the only axis of the result.
    pub fn iota(&mut self, dst: &Strided, first: &Source) {
        let loops = dst.axes.iter().map(|a| Loop { extent: a.extent, strides: vec![a.stride, Lin::ZERO] }).collect();
        self.push(VecOp::Iota, loops, dst, std::slice::from_ref(first));
    }

    /// The kernel; neighbours under the same guards share a branch.
    pub fn finish(self) -> Kernel {
        let mut body: Vec<Stmt> = Vec::new();
        for (guards, vector) in self.statements {
            if guards.is_empty() {
                body.push(Stmt::Vector(vector));
                continue;
            }
            match body.last_mut() {
                Some(Stmt::If { guards: open, body }) if *open == guards => body.push(Stmt::Vector(vector)),
                _ => body.push(Stmt::If { guards, body: vec![Stmt::Vector(vector)] }),
            }
        }
        Kernel { params: self.params, temps: self.temps, body }
    }
}
