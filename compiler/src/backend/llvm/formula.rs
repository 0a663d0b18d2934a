//! Each operation as the formula that the row primitives have for it, operation for operation: the same bits.

use super::ir::{Ir, Made, Outside, width};
use inkwell::FloatPredicate as P;
use inkwell::values::VectorValue;
use steer_kernels::{Binary, Isa, Unary, rows};

type V<'c> = VectorValue<'c>;

const LN2_HIGH: f32 = std::f32::consts::LN_2;
const LN2_LOW: f32 = -1.904_654_2e-9;

/// Whether an operation calls a function of the process for each lane.
pub(super) fn calls(op: Unary) -> bool {
    matches!(op, Unary::Sin | Unary::Cos)
}

impl<'c> Ir<'c> {
    pub fn unary(&self, op: Unary, x: V<'c>) -> Made<V<'c>> {
        let w = width(x);
        let (zero, one) = (self.splat(0.0, w), self.splat(1.0, w));
        match op {
            Unary::Neg => self.neg(x),
            Unary::Abs => self.abs(x),
            Unary::Sign => {
                let below = self.select(self.compare(P::OLT, x, zero)?, self.splat(-1.0, w), x)?;
                self.select(self.compare(P::OLT, zero, x)?, one, below)
            }
            Unary::Exp => self.exp(x),
            Unary::Log => self.log(x),
            Unary::Sqrt => self.sqrt(x),
            Unary::Rsqrt => self.div(one, self.sqrt(x)?),
            Unary::Recip => self.div(one, x),
            Unary::Tanh => self.tanh(x),
            Unary::Sigmoid => {
                let e = self.exp(self.neg(self.abs(x)?)?)?;
                let above = self.select(self.compare(P::OLT, x, zero)?, e, one)?;
                self.div(above, self.add(one, e)?)
            }
            Unary::Silu => {
                let t = self.below(self.splat(200.0, w), self.abs(x)?)?;
                let e = self.exp(self.neg(t)?)?;
                self.mirror(x, self.mul(t, self.div(e, self.add(one, e)?)?)?)
            }
            Unary::Relu => self.above(zero, x),
            Unary::Gelu => self.gelu(x),
            Unary::GeluTanh => self.gelu_tanh(x),
            Unary::Softplus => {
                let tail = self.log1p(self.exp(self.neg(self.abs(x)?)?)?)?;
                self.add(self.above(zero, x)?, tail)
            }
            // The primitive is the same for every instruction set.
            Unary::Sin | Unary::Cos => self.each(Outside::One(rows::scalar_unary(Isa::Portable, op)), &[x]),
            Unary::Round => self.round(x),
            Unary::Floor => self.floor(x),
            Unary::Not => self.truth(self.compare(P::OEQ, x, zero)?),
            Unary::IsFinite => self.truth(self.compare(P::OLT, self.abs(x)?, self.splat(f32::INFINITY, w))?),
        }
    }

    pub fn binary(&self, op: Binary, a: V<'c>, b: V<'c>) -> Made<V<'c>> {
        let zero = self.splat(0.0, width(a));
        let compared = |p, a, b| self.truth(self.compare(p, a, b)?);
        match op {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::Mul => self.mul(a, b),
            Binary::Div => self.div(a, b),
            Binary::Min => self.select(self.compare(P::OEQ, b, b)?, self.below(a, b)?, a),
            Binary::Max => self.select(self.compare(P::OEQ, b, b)?, self.above(a, b)?, a),
            Binary::Pow => self.each(Outside::Two(rows::scalar_binary(Isa::Portable, op)), &[a, b]),
            Binary::Lt => compared(P::OLT, a, b),
            Binary::Le => compared(P::OLE, a, b),
            Binary::Gt => compared(P::OLT, b, a),
            Binary::Ge => compared(P::OLE, b, a),
            Binary::Eq => compared(P::OEQ, a, b),
            Binary::Ne => compared(P::UNE, a, b),
            Binary::And => {
                let (x, y) = (self.compare(P::UNE, a, zero)?, self.compare(P::UNE, b, zero)?);
                self.truth(self.b.build_and(x, y, "")?)
            }
            Binary::Or => {
                let (x, y) = (self.compare(P::UNE, a, zero)?, self.compare(P::UNE, b, zero)?);
                self.truth(self.b.build_or(x, y, "")?)
            }
        }
    }

    /// 1 and 0.
    fn truth(&self, m: V<'c>) -> Made<V<'c>> {
        let w = width(m);
        self.select(m, self.splat(1.0, w), self.splat(0.0, w))
    }

    fn polynomial(&self, x: V<'c>, c: &[f32]) -> Made<V<'c>> {
        let mut highest_first = c.iter().rev().map(|k| self.splat(*k, width(x)));
        let mut y = highest_first.next().unwrap_or_else(|| self.splat(0.0, width(x)));
        for k in highest_first {
            y = self.fma(y, x, k)?;
        }
        Ok(y)
    }

    fn mirror(&self, x: V<'c>, tail: V<'c>) -> Made<V<'c>> {
        let negative = self.compare(P::OLT, x, self.splat(0.0, width(x)))?;
        self.select(negative, self.neg(tail)?, self.sub(x, tail)?)
    }

    fn exp(&self, x: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(x));
        let x = self.below(of(89.0), self.above(of(-104.0), x)?)?;
        let n = self.round(self.mul(x, of(std::f32::consts::LOG2_E))?)?;
        let r = self.fma(n, of(-LN2_HIGH), x)?;
        let r = self.fma(n, of(-LN2_LOW), r)?;
        let c = [0.5, 0.166_666_66, 0.041_666_288, 0.008_333_5, 0.001_394_520_2, 0.000_197_898_28];
        let p = self.polynomial(r, &c)?;
        let near = self.fma(p, self.mul(r, r)?, r)?;
        self.scale2(self.add(of(1.0), near)?, n)
    }

    fn log_near(&self, e: V<'c>, f: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(f));
        let s = self.mul(f, f)?;
        let c = [
            0.333_333_12,
            -0.250_000_1,
            0.200_021_36,
            -0.166_680_13,
            0.142_191_88,
            -0.124_050_25,
            0.118_904_58,
            -0.116_802_68,
            0.067_470_17,
        ];
        let q = self.polynomial(f, &c)?;
        let t = self.fma(q, self.mul(f, s)?, self.mul(of(-0.5), s)?)?;
        let t = self.fma(e, of(LN2_LOW), t)?;
        self.fma(e, of(LN2_HIGH), self.add(f, t)?)
    }

    fn log(&self, x: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(x));
        let small = self.compare(P::OLT, x, of(f32::MIN_POSITIVE))?;
        let (m, e) = self.split(self.select(small, self.mul(x, of(8_388_608.0))?, x)?)?;
        let e = self.sub(e, self.select(small, of(23.0), of(0.0))?)?;
        let y = self.log_near(e, self.sub(m, of(1.0))?)?;
        let y = self.select(self.compare(P::OLT, x, of(f32::INFINITY))?, y, x)?;
        let below = self.select(self.compare(P::OEQ, x, of(0.0))?, of(f32::NEG_INFINITY), of(f32::NAN))?;
        self.select(self.compare(P::OLE, x, of(0.0))?, below, y)
    }

    fn log1p(&self, u: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(u));
        let low = self.compare(P::OLT, u, of(0.414))?;
        let f = self.select(low, u, self.mul(self.sub(u, of(1.0))?, of(0.5))?)?;
        let y = self.log_near(self.select(low, of(0.0), of(1.0))?, f)?;
        self.select(self.compare(P::OEQ, u, u)?, y, u)
    }

    fn tanh(&self, x: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(x));
        let s = self.mul(x, x)?;
        let c = [-0.333_333_3, 0.133_332_04, -0.053_946_52, 0.021_699_32, -0.008_173_859, 0.002_139_619_7];
        let p = self.polynomial(s, &c)?;
        let near = self.fma(p, self.mul(x, s)?, x)?;
        let t = self.abs(x)?;
        let more = self.add(self.exp(self.add(t, t)?)?, of(1.0))?;
        let far = self.sub(of(1.0), self.div(of(2.0), more)?)?;
        let far = self.select(self.compare(P::OLT, x, of(0.0))?, self.neg(far)?, far)?;
        self.select(self.compare(P::OLT, t, of(0.625))?, near, far)
    }

    fn exp_minus(&self, v: V<'c>, low: V<'c>) -> Made<V<'c>> {
        let e = self.exp(self.neg(v)?)?;
        self.fma(self.neg(e)?, low, e)
    }

    fn gelu(&self, x: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(x));
        let t = self.below(of(14.5), self.abs(x)?)?;
        let c = [
            0.472_053_2,
            -0.096_703_47,
            0.013_999_596,
            0.028_599_98,
            -0.032_197_27,
            0.017_940_203,
            -0.005_004_379,
            -0.000_303_755_44,
            0.000_692_855_6,
            -6.056_553_4e-5,
            -7.161_513e-5,
        ];
        let q = self.polynomial(self.div(self.sub(t, of(4.0))?, self.add(t, of(4.0))?)?, &c)?;
        let s = self.mul(t, t)?;
        let low = self.fma(t, t, self.neg(s)?)?;
        let e = self.exp_minus(self.mul(s, of(0.5))?, self.mul(low, of(0.5))?)?;
        let share = self.div(q, self.add(of(1.0), t)?)?;
        self.mirror(x, self.mul(t, self.mul(e, share)?)?)
    }

    fn gelu_tanh(&self, x: V<'c>) -> Made<V<'c>> {
        let of = |k| self.splat(k, width(x));
        let (a, a_low) = (of(1.595_769_2), of(-4.534_068e-8));
        let (b, b_low) = (of(0.071_354_814), of(2.398_832_5e-9));
        let t = self.below(of(11.0), self.abs(x)?)?;
        let s = self.mul(t, t)?;
        let s_low = self.fma(t, t, self.neg(s)?)?;
        let p = self.mul(b, s)?;
        let p_low = self.fma(b, s, self.neg(p)?)?;
        let w = self.add(a, p)?;
        let back = self.sub(w, p)?;
        let lost = self.add(self.sub(p, self.sub(w, back)?)?, self.sub(a, back)?)?;
        let tail = self.fma(b, s_low, self.fma(b_low, s, a_low)?)?;
        let w_low = self.add(self.add(lost, p_low)?, tail)?;
        let v = self.mul(t, w)?;
        let v_low = self.add(self.fma(t, w, self.neg(v)?)?, self.mul(t, w_low)?)?;
        let e = self.exp_minus(v, v_low)?;
        self.mirror(x, self.mul(t, self.div(e, self.add(of(1.0), e)?)?)?)
    }
}
