//! One vector statement: a primitive for the last loop where one fits, else scalars.

use super::emit::Emit;
use super::prim::Prim;
use crate::kernel::{Lin, Operand, Pass, VecOp, Vector};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};
use steer_kernels::{Binary, Reduce, Stored, Summed, Unary};

/// How an operand moves along the last loop.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// The same element, or a number.
    Same,
    Next,
    Far(Lin),
}

fn step(strides: &[Lin]) -> Step {
    match strides.last() {
        None => Step::Same,
        Some(&s) if s == Lin::ZERO => Step::Same,
        Some(&s) if s == Lin::ONE => Step::Next,
        Some(&s) => Step::Far(s),
    }
}

fn step_of(operand: &Operand) -> Step {
    operand.as_ref().map_or(Step::Same, |r| step(&r.strides))
}

impl Emit<'_> {
    pub(super) fn pass(&mut self, pass: &Pass) {
        let Some((&inner, outer)) = pass.loops.split_last() else {
            for v in pass.statements() {
                let value = self.element(v, &[]);
                self.write(&v.dst, &[], value);
            }
            return;
        };
        self.nest(outer, &[], &mut |emit, index| match &pass.condition {
            None => emit.list(&pass.lists[0], inner, index),
            Some(condition) => {
                let number = emit.read(condition, index);
                let holds = emit.compare(FloatCC::NotEqual, number, 0.0);
                emit.either(holds, &mut |emit, arm| emit.list(&pass.lists[arm], inner, index));
            }
        });
    }

    /// Statements in order, where a sum follows what it sums by one primitive for both.
    fn list(&mut self, list: &[Vector], inner: Lin, index: &[Value]) {
        let mut rest = list;
        while let Some((v, after)) = rest.split_first() {
            rest = after;
            match after.split_first() {
                Some((sum, beyond)) if self.store_sum(v, sum, inner, index) => rest = beyond,
                _ => self.line(v, inner, index),
            }
        }
    }

    /// A statement's last loop.
    fn line(&mut self, v: &Vector, inner: Lin, index: &[Value]) {
        match v.op {
            VecOp::Copy if self.is_there(v) => {}
            VecOp::Iota => self.iota(v, inner, index),
            VecOp::Reduce(_) | VecOp::Dot => {
                let value = self.reduced(v, inner, index);
                self.write(&v.dst, index, value);
            }
            VecOp::TopK => {
                let (dst, n) = (self.address(&v.dst, index), self.lin(inner));
                let (a, k) = (self.pointer(&v.srcs[0], index), self.read(&v.srcs[1], index));
                let k = self.b.ins().fcvt_to_uint_sat(I64, k);
                self.call(Prim::TopK, &[dst, a, n, k]);
            }
            _ => {
                if !self.map(v, inner, index) {
                    self.nest(&[inner], index, &mut |emit, index| {
                        let value = emit.element(v, index);
                        emit.write(&v.dst, index, value);
                    });
                }
            }
        }
    }

    /// Whether a copy's source and destination are one memory.
    fn is_there(&self, v: &Vector) -> bool {
        v.srcs[0].as_ref().is_some_and(|s| s.strides == v.dst.strides && self.place(s) == self.place(&v.dst))
    }

    /// The address of an operand that the verifier knows to be in memory.
    fn pointer(&mut self, operand: &Operand, index: &[Value]) -> Value {
        match operand {
            Operand::Ref(r) => self.address(r, index),
            Operand::Number(_) => self.word(0),
        }
    }

    fn iota(&mut self, v: &Vector, inner: Lin, index: &[Value]) {
        let first = self.read(&v.srcs[0], index);
        let (zero, end) = (self.word(0), self.lin(inner));
        self.count(zero, end, &mut |emit, i| {
            let steps = emit.b.ins().fcvt_from_uint(F32, i);
            let value = emit.b.ins().fadd(first, steps);
            let mut at = index.to_vec();
            at.push(i);
            emit.write(&v.dst, &at, value);
        });
    }

    fn reduced(&mut self, v: &Vector, inner: Lin, index: &[Value]) -> Value {
        let n = self.lin(inner);
        let a = self.pointer(&v.srcs[0], index);
        let VecOp::Reduce(op) = v.op else {
            let b = self.pointer(&v.srcs[1], index);
            return self.number(Prim::Dot, &[a, b, n]);
        };
        match step_of(&v.srcs[0]) {
            Step::Next => self.number(Prim::Reduce(op), &[a, n]),
            Step::Same => {
                let stride = self.word(0);
                self.number(Prim::ReduceStrided(op), &[a, n, stride])
            }
            Step::Far(s) => {
                let stride = self.lin(s);
                self.number(Prim::ReduceStrided(op), &[a, n, stride])
            }
        }
    }

    /// The last loop as one call; false where no primitive fits.
    fn map(&mut self, v: &Vector, inner: Lin, index: &[Value]) -> bool {
        use Step::{Far, Next, Same};
        let steps: Vec<Step> = v.srcs.iter().map(step_of).collect();
        let out = step(&v.dst.strides);
        let prim = match (v.op, out, steps.as_slice()) {
            (VecOp::Copy, Next, [Same]) => Prim::Fill,
            (VecOp::Copy, Next, [Next]) => Prim::Copy,
            (VecOp::Copy, Next, [Far(_)]) => Prim::Gather,
            (VecOp::Copy, Far(_), [Next]) => Prim::Scatter,
            (VecOp::Unary(op), Next, [Next]) => Prim::Unary(op),
            (VecOp::Binary(op), Next, [Next, Next]) => Prim::Binary(op),
            (VecOp::Binary(op), Next, [Next, Same]) => Prim::BinaryVs(op),
            (VecOp::Binary(op), Next, [Same, Next]) => Prim::BinarySv(op),
            (VecOp::Select, Next, [Next, a @ (Next | Same), b @ (Next | Same)]) => {
                Prim::Select([*a == Next, *b == Next])
            }
            (VecOp::Axpy, Next, [Next, Same, Next]) => Prim::Axpy,
            _ => return false,
        };
        let mut args = vec![self.address(&v.dst, index)];
        for (src, step) in v.srcs.iter().zip(&steps) {
            args.push(if *step == Same { self.read(src, index) } else { self.pointer(src, index) });
        }
        args.push(self.lin(inner));
        if let (Far(s), _) | (_, &[Far(s)]) = (out, steps.as_slice()) {
            args.push(self.lin(s));
        }
        self.call(prim, &args);
        true
    }

    /// Two statements' last loop as one call, where the second sums what the first stores; false where no primitive
    /// fits.
    fn store_sum(&mut self, v: &Vector, sum: &Vector, inner: Lin, index: &[Value]) -> bool {
        use Step::{Next, Same};
        let steps: Vec<Step> = v.srcs.iter().map(step_of).collect();
        let stored = match (v.op, step(&v.dst.strides), steps.as_slice()) {
            // What is there already is summed alone.
            (VecOp::Copy, Next, [Next]) if !self.is_there(v) => Stored::Copy,
            (VecOp::Axpy, Next, [Next, Same, Next]) => Stored::Axpy,
            (VecOp::Binary(Binary::Add), Next, [Next, Next]) => Stored::Add,
            (VecOp::Binary(Binary::Sub), Next, [Next, Next]) => Stored::Sub,
            (VecOp::Binary(Binary::Mul), Next, [Next, Next]) => Stored::Mul,
            (VecOp::Binary(Binary::Add), Next, [Next, Same]) => Stored::AddVs,
            (VecOp::Binary(Binary::Sub), Next, [Next, Same]) => Stored::SubVs,
            (VecOp::Binary(Binary::Mul), Next, [Next, Same]) => Stored::MulVs,
            _ => return false,
        };
        let is_stored = |i: usize| sum.srcs[i].as_ref() == Some(&v.dst);
        let (summed, with) = match sum.op {
            VecOp::Reduce(Reduce::Sum) if is_stored(0) => (Summed::Sum, 0),
            VecOp::Reduce(Reduce::SumSq) if is_stored(0) => (Summed::SumSq, 0),
            VecOp::Dot if is_stored(0) => (Summed::Dot, 1),
            VecOp::Dot if is_stored(1) => (Summed::Dot, 0),
            _ => return false,
        };
        let (dst, a) = (self.address(&v.dst, index), self.pointer(&v.srcs[0], index));
        let (mut s, mut x) = (None, a);
        for (src, step) in v.srcs.iter().zip(&steps).skip(1) {
            match step {
                Same => s = Some(self.read(src, index)),
                _ => x = self.pointer(src, index),
            }
        }
        let s = s.unwrap_or_else(|| self.b.ins().f32const(0.0));
        let (y, n) = (self.pointer(&sum.srcs[with], index), self.lin(inner));
        let value = self.number(Prim::StoreSum(stored, summed), &[dst, a, s, x, y, n]);
        self.write(&sum.dst, index, value);
        true
    }

    /// One element of a map.
    fn element(&mut self, v: &Vector, index: &[Value]) -> Value {
        let srcs: Vec<Value> = v.srcs.iter().map(|s| self.read(s, index)).collect();
        match (v.op, srcs.as_slice()) {
            (VecOp::Unary(op), &[a]) => self.unary(op, a),
            (VecOp::Binary(op), &[a, b]) => self.binary(op, a, b),
            (VecOp::Select, &[c, a, b]) => {
                let truth = self.compare(FloatCC::NotEqual, c, 0.0);
                self.b.ins().select(truth, a, b)
            }
            (VecOp::Axpy, &[a, s, x]) => self.b.ins().fma(s, x, a),
            (_, srcs) => srcs[0],
        }
    }

    fn compare(&mut self, cc: FloatCC, a: Value, b: f32) -> Value {
        let b = self.b.ins().f32const(b);
        self.b.ins().fcmp(cc, a, b)
    }

    /// 1 and 0.
    fn truth(&mut self, holds: Value) -> Value {
        let (one, zero) = (self.b.ins().f32const(1.0), self.b.ins().f32const(0.0));
        self.b.ins().select(holds, one, zero)
    }

    fn unary(&mut self, op: Unary, a: Value) -> Value {
        match op {
            Unary::Neg => self.b.ins().fneg(a),
            Unary::Abs => self.b.ins().fabs(a),
            Unary::Sqrt => self.b.ins().sqrt(a),
            Unary::Rsqrt | Unary::Recip => {
                let one = self.b.ins().f32const(1.0);
                let root = if op == Unary::Rsqrt { self.b.ins().sqrt(a) } else { a };
                self.b.ins().fdiv(one, root)
            }
            Unary::Not => {
                let holds = self.compare(FloatCC::Equal, a, 0.0);
                self.truth(holds)
            }
            _ => self.number(Prim::ScalarUnary(op), &[a]),
        }
    }

    fn binary(&mut self, op: Binary, a: Value, b: Value) -> Value {
        let cc = match op {
            Binary::Add => return self.b.ins().fadd(a, b),
            Binary::Sub => return self.b.ins().fsub(a, b),
            Binary::Mul => return self.b.ins().fmul(a, b),
            Binary::Div => return self.b.ins().fdiv(a, b),
            Binary::Lt => FloatCC::LessThan,
            Binary::Le => FloatCC::LessThanOrEqual,
            Binary::Gt => FloatCC::GreaterThan,
            Binary::Ge => FloatCC::GreaterThanOrEqual,
            Binary::Eq => FloatCC::Equal,
            Binary::Ne => FloatCC::NotEqual,
            Binary::And | Binary::Or => {
                let (x, y) = (self.compare(FloatCC::NotEqual, a, 0.0), self.compare(FloatCC::NotEqual, b, 0.0));
                let holds = if op == Binary::And { self.b.ins().band(x, y) } else { self.b.ins().bor(x, y) };
                return self.truth(holds);
            }
            Binary::Min | Binary::Max | Binary::Pow => return self.number(Prim::ScalarBinary(op), &[a, b]),
        };
        let holds = self.b.ins().fcmp(cc, a, b);
        self.truth(holds)
    }
}
