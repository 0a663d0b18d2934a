//! The last loop of a group: vectors of elements through all of its statements, and reductions beside them.

use super::emit::Emit;
use super::formula;
use super::group::{Group, Home};
use super::ir::{Fault, Made};
use super::sum;
use crate::kernel::depend::{is_sequential, reduces};
use crate::kernel::{Base, Lin, Operand, Ref, VecOp, Vector};
use inkwell::IntPredicate;
use inkwell::values::{IntValue, PointerValue, VectorValue};
use std::collections::HashMap;
use steer_kernels::{Binary, Unary};

/// Where the elements of an operand are along the last loop.
#[derive(Clone, Copy)]
enum Way<'c> {
    /// One for all, already loaded.
    Same(VectorValue<'c>),
    Next(PointerValue<'c>),
    Far(PointerValue<'c>, IntValue<'c>),
}

pub(super) struct Line<'g, 'k, 'c> {
    pub group: &'g Group<'k>,
    /// Lanes of a vector.
    pub width: u32,
    ways: HashMap<&'k Ref, Way<'c>>,
    outer: Vec<IntValue<'c>>,
}

/// Elements that are worked on at once.
pub(super) struct Chunk<'c> {
    pub at: IntValue<'c>,
    /// The lanes that there are; `None`: all of them.
    pub mask: Option<VectorValue<'c>>,
}

/// What a group costs for each vector, in simple instructions.
pub(super) fn weight(group: &Group) -> u32 {
    let of = |v: &&Vector| match v.op {
        VecOp::Unary(op) if formula::calls(op) => 60,
        VecOp::Binary(Binary::Pow) => 60,
        VecOp::Unary(op) => match op {
            Unary::Neg | Unary::Abs | Unary::Sqrt | Unary::Round | Unary::Floor | Unary::Relu => 1,
            Unary::Sign | Unary::Rsqrt | Unary::Recip | Unary::Not | Unary::IsFinite => 3,
            Unary::Exp => 16,
            Unary::Gelu | Unary::GeluTanh | Unary::Softplus => 45,
            _ => 25,
        },
        VecOp::Binary(Binary::Min | Binary::Max | Binary::And | Binary::Or) => 3,
        _ => 1,
    };
    group.steps.iter().map(of).sum()
}

pub(super) fn emit<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    group: &Group<'k>,
    inner: Lin,
    outer: &[IntValue<'c>],
) -> Made<()> {
    if let [v] = group.steps[..]
        && v.op == VecOp::TopK
    {
        return super::search::top_k(e, v, inner, outer);
    }
    let line = Line::new(e, group, outer)?;
    if group.loops.is_empty() {
        let at = e.ir.word(0);
        return line.chunk(e, &Chunk { at, mask: None }, &mut |_, _, _, _| Ok(()));
    }
    if group.steps.iter().any(|s| reduces(s)) { sum::emit(e, &line, inner) } else { maps(e, &line, inner) }
}

/// Every element through all statements.
fn maps<'k, 'c>(e: &mut Emit<'_, 'k, 'c>, line: &Line<'_, 'k, 'c>, inner: Lin) -> Made<()> {
    let (w, weight) = (line.width as usize, weight(line.group) as usize);
    let unroll = match weight {
        0..=4 => 4,
        5..=10 => 2,
        _ => 1,
    };
    let Some(n) = inner.known() else {
        let (start, end) = (e.ir.word(0), e.lin(inner)?);
        let (at, _) = e.repeat(start, end, (w, w), &[], &mut |e, at, _| {
            line.chunk(e, &Chunk { at, mask: None }, &mut |_, _, _, _| Ok(()))?;
            Ok(Vec::new())
        })?;
        if w == 1 {
            return Ok(());
        }
        let rest = e.ir.b.build_int_compare(IntPredicate::ULT, at, end, "")?;
        e.only_if(rest, &[], &mut |e, _| {
            let mask = Some(below(e, at, end, line.width)?);
            line.chunk(e, &Chunk { at, mask }, &mut |_, _, _, _| Ok(()))?;
            Ok(Vec::new())
        })?;
        return Ok(());
    };
    let full = n / w;
    let looped = if full <= unroll { 0 } else { full / unroll * unroll };
    if looped > 0 {
        let (start, end) = (e.ir.word(0), e.ir.word(looped * w));
        e.repeat(start, end, (unroll * w, unroll * w), &[], &mut |e, i, _| {
            for u in 0..unroll {
                let at = e.ir.b.build_int_add(i, e.ir.word(u * w), "")?;
                line.chunk(e, &Chunk { at, mask: None }, &mut |_, _, _, _| Ok(()))?;
            }
            Ok(Vec::new())
        })?;
    }
    for c in looped..full {
        line.chunk(e, &Chunk { at: e.ir.word(c * w), mask: None }, &mut |_, _, _, _| Ok(()))?;
    }
    if n % w > 0 {
        let mask = Some(e.ir.truths((0..w).map(|i| i < n % w)));
        line.chunk(e, &Chunk { at: e.ir.word(full * w), mask }, &mut |_, _, _, _| Ok(()))?;
    }
    Ok(())
}

/// The lanes `at`, `at + 1`, ... that are below `end`.
pub(super) fn below<'c>(e: &Emit<'_, '_, 'c>, at: IntValue<'c>, end: IntValue<'c>, w: u32) -> Made<VectorValue<'c>> {
    let ir = e.ir;
    let left = ir.b.build_int_sub(end, at, "")?;
    let small = ir.context.i32_type();
    // Signed, so that there are none where `at` is beyond the end.
    let most = ir.context.i64_type().const_int(u64::from(w), false);
    let above = ir.b.build_int_compare(IntPredicate::SGT, left, most, "")?;
    let left = ir.b.build_select(above, most, left, "")?.into_int_value();
    let left = ir.b.build_int_truncate(left, small, "")?;
    let one = ir.b.build_insert_element(small.vec_type(1).get_poison(), left, ir.word(0), "")?;
    let left = ir.lanes(one, (0..w).map(|_| 0))?;
    let count: Vec<_> = (0..w).map(|i| small.const_int(u64::from(i), false)).collect();
    ir.compare_int(IntPredicate::SLT, inkwell::types::VectorType::const_vector(&count), left)
}

/// What is done with the operands of a reduction, by its number among those of the group.
type Take<'t, 'c> = &'t mut dyn FnMut(&Emit<'_, '_, 'c>, usize, &Vector, &[VectorValue<'c>]) -> Made<()>;

impl<'g, 'k, 'c> Line<'g, 'k, 'c> {
    fn new(e: &Emit<'_, 'k, 'c>, group: &'g Group<'k>, outer: &[IntValue<'c>]) -> Made<Line<'g, 'k, 'c>> {
        let sequential = group.steps.iter().any(|s| is_sequential(s));
        let width = if group.loops.is_empty() || sequential { 1 } else { e.ir.target.width };
        let mut line = Line { group, width, ways: HashMap::new(), outer: outer.to_vec() };
        for &step in &group.steps {
            let read = step.srcs.iter().filter_map(|s| s.as_ref());
            let written = if reduces(step) { None } else { Some(&step.dst) };
            for r in read.chain(written) {
                if !line.ways.contains_key(r)
                    && let Some(way) = line.way(e, r, sequential)?
                {
                    line.ways.insert(r, way);
                }
            }
        }
        Ok(line)
    }

    fn way(&self, e: &Emit<'_, 'k, 'c>, r: &'k Ref, sequential: bool) -> Made<Option<Way<'c>>> {
        if let Base::Temp(t) = r.base {
            match e.home(t) {
                Home::Pass => return Ok(None),
                // Numbers of this group are not there yet.
                Home::Number => {
                    let known = e.numbers.get(&t);
                    return known.map(|v| Ok(Way::Same(e.ir.spread(*v, self.width)?))).transpose();
                }
                Home::Memory(_) | Home::Output(_) => {}
            }
        }
        let at = e.address(r, &self.outer)?;
        Ok(Some(match r.strides.last() {
            None => Way::Next(at),
            Some(&s) if s == Lin::ONE => Way::Next(at),
            Some(&s) if s == Lin::ZERO && !sequential => Way::Same(e.ir.spread(e.ir.load(at, 1, None)?, self.width)?),
            Some(&s) => Way::Far(at, e.lin(s)?),
        }))
    }

    /// A chunk of an operand from memory.
    pub fn read(&self, e: &Emit<'_, 'k, 'c>, operand: &'k Operand, chunk: &Chunk<'c>) -> Made<VectorValue<'c>> {
        let r = match operand {
            Operand::Number(x) => return Ok(e.ir.splat(x.value(), self.width)),
            Operand::Ref(r) => r,
        };
        match self.ways.get(r) {
            Some(Way::Same(v)) => Ok(*v),
            Some(Way::Next(at)) => e.ir.load(e.ir.advanced(*at, chunk.at)?, self.width, chunk.mask),
            Some(Way::Far(at, stride)) => {
                let offset = e.ir.b.build_int_mul(chunk.at, *stride, "")?;
                e.ir.gather(e.ir.advanced(*at, offset)?, *stride, self.width, chunk.mask)
            }
            None => Err(Fault("a value is read before it is there".into())),
        }
    }

    /// One chunk through all statements.
    pub fn chunk(&self, e: &mut Emit<'_, 'k, 'c>, chunk: &Chunk<'c>, take: Take<'_, 'c>) -> Made<()> {
        let mut values: HashMap<&'k Ref, VectorValue<'c>> = HashMap::new();
        let keeps = !self.group.alone;
        let mut reduction = 0;
        for &v in &self.group.steps {
            let mut args = Vec::with_capacity(v.srcs.len());
            for operand in &v.srcs {
                if let Operand::Ref(r) = operand {
                    if let Base::Temp(t) = r.base
                        && self.group.loops.is_empty()
                        && let Some(number) = e.numbers.get(&t)
                    {
                        args.push(*number);
                        continue;
                    }
                    if let Some(known) = values.get(r) {
                        args.push(*known);
                        continue;
                    }
                }
                let value = self.read(e, operand, chunk)?;
                if let (Operand::Ref(r), true) = (operand, keeps) {
                    values.insert(r, value);
                }
                args.push(value);
            }
            if reduces(v) {
                take(e, reduction, v, &args)?;
                reduction += 1;
                continue;
            }
            let value = self.value(e, v, &args, chunk)?;
            if keeps {
                values.insert(&v.dst, value);
            }
            self.write(e, &v.dst, value, chunk)?;
        }
        Ok(())
    }

    fn write(&self, e: &mut Emit<'_, 'k, 'c>, r: &'k Ref, value: VectorValue<'c>, chunk: &Chunk<'c>) -> Made<()> {
        if let Base::Temp(t) = r.base {
            match e.home(t) {
                Home::Pass => return Ok(()),
                Home::Number => {
                    e.numbers.insert(t, value);
                    return Ok(());
                }
                Home::Memory(_) | Home::Output(_) => {}
            }
        }
        match self.ways.get(r) {
            Some(Way::Next(at)) => e.ir.store(e.ir.advanced(*at, chunk.at)?, value, chunk.mask),
            Some(Way::Far(at, stride)) => {
                let offset = e.ir.b.build_int_mul(chunk.at, *stride, "")?;
                e.ir.scatter(e.ir.advanced(*at, offset)?, *stride, value, chunk.mask)
            }
            // A loop of one element.
            Some(Way::Same(_)) => e.ir.store(e.address(r, &self.outer)?, e.ir.lanes(value, std::iter::once(0))?, None),
            None => Err(Fault("a value has no place".into())),
        }
    }

    /// The value of a statement that is no reduction.
    fn value(
        &self,
        e: &Emit<'_, 'k, 'c>,
        v: &Vector,
        args: &[VectorValue<'c>],
        chunk: &Chunk<'c>,
    ) -> Made<VectorValue<'c>> {
        let ir = e.ir;
        match (v.op, args) {
            (VecOp::Copy, &[a]) => Ok(a),
            (VecOp::Unary(op), &[a]) => ir.unary(op, a),
            (VecOp::Binary(op), &[a, b]) => ir.binary(op, a, b),
            (VecOp::Select, &[c, a, b]) => {
                let zero = ir.splat(0.0, self.width);
                ir.select(ir.compare(inkwell::FloatPredicate::OEQ, c, zero)?, b, a)
            }
            (VecOp::Axpy, &[a, s, x]) => ir.fma(s, x, a),
            (VecOp::Iota, &[first]) => {
                let index = ir.b.build_int_add(ir.spread_word(chunk.at, self.width)?, ir.counting(self.width), "")?;
                let index = ir.b.build_int_truncate(index, ir.ints(self.width), "")?;
                ir.add(first, ir.b.build_signed_int_to_float(index, ir.floats(self.width), "")?)
            }
            _ => Err(Fault(format!("`{v}` is no elementwise statement"))),
        }
    }

    /// Writes a number that a reduction gives.
    pub fn give(&self, e: &mut Emit<'_, 'k, 'c>, v: &'k Vector, value: VectorValue<'c>) -> Made<()> {
        if let Base::Temp(t) = v.dst.base
            && e.home(t) == Home::Number
        {
            e.numbers.insert(t, value);
            return Ok(());
        }
        e.ir.store(e.address(&v.dst, &self.outer)?, value, None)
    }
}
