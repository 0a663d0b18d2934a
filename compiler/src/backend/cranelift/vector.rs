//! One vector statement: a primitive for the last loop where one fits, else scalars.

use super::emit::Emit;
use super::prim::Prim;
use crate::kernel::{Lin, Operand, VecOp, Vector};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32, I64};
use cranelift_codegen::ir::{InstBuilder, Value};
use steer_kernels::{Binary, Unary};

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
    pub(super) fn vector(&mut self, v: &Vector) {
        let Some((&inner, outer)) = v.loops.split_last() else {
            let value = self.element(v, &[]);
            return self.write(&v.dst, &[], value);
        };
        self.nest(outer, &[], &mut |emit, index| match v.op {
            VecOp::Iota => emit.iota(v, inner, index),
            VecOp::Reduce(_) | VecOp::Dot => {
                let value = emit.reduced(v, inner, index);
                emit.write(&v.dst, index, value);
            }
            VecOp::TopK => {
                let (dst, n) = (emit.address(&v.dst, index), emit.lin(inner));
                let (a, k) = (emit.pointer(&v.srcs[0], index), emit.read(&v.srcs[1], index));
                let k = emit.b.ins().fcvt_to_uint_sat(I64, k);
                emit.call(Prim::TopK, &[dst, a, n, k]);
            }
            _ => {
                if !emit.map(v, inner, index) {
                    emit.nest(&[inner], index, &mut |emit, index| {
                        let value = emit.element(v, index);
                        emit.write(&v.dst, index, value);
                    });
                }
            }
        });
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
            (VecOp::Select, Next, [Next, Next, Next]) => Prim::Select,
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
