//! A kernel as a function: the row loop, the branches, the nests of loops, and addresses.

use super::group::{Group, Grouped, Home, Region};
use super::ir::{Fault, Ir, Made};
use crate::kernel::depend::reduces;
use crate::kernel::{Base, Kernel, Lin, Ref};
use inkwell::basic_block::BasicBlock;
use inkwell::values::{BasicValue, FunctionValue, IntValue, PointerValue, VectorValue};
use inkwell::{FloatPredicate, IntPredicate};
use std::collections::HashMap;

/// The values that go on from a loop or a branch.
pub(super) type Values<'c> = Made<Vec<VectorValue<'c>>>;

pub(super) struct Emit<'e, 'k, 'c> {
    pub ir: &'e Ir<'c>,
    kernel: &'k Kernel,
    grouped: &'e Grouped<'k>,
    function: FunctionValue<'c>,
    /// The bases of the parameters, and the current row's part of them.
    params: Vec<PointerValue<'c>>,
    rows: Vec<PointerValue<'c>>,
    keys: IntValue<'c>,
    scratch: PointerValue<'c>,
    /// Partial sums of 64 lanes for each reduction of a group.
    pub sums: Option<PointerValue<'c>>,
    /// The temporaries that are one number.
    pub numbers: HashMap<u32, VectorValue<'c>>,
}

/// Emits a verified kernel under a name.
pub(super) fn kernel<'c>(
    ir: &Ir<'c>,
    name: &str,
    kernel: &Kernel,
    grouped: &Grouped,
    external: bool,
) -> Made<FunctionValue<'c>> {
    let function = ir.function(name, 3, external);
    let entry = ir.context.append_basic_block(function, "");
    ir.b.position_at_end(entry);
    let missing = || Fault("a function lacks a parameter".into());
    let pointer = |i| function.get_nth_param(i).map(|p| p.into_pointer_value()).ok_or_else(missing);
    let word = |i| function.get_nth_param(i).map(|p| p.into_int_value()).ok_or_else(missing);
    let (args, start, end, keys, scratch) = (pointer(0)?, word(1)?, word(2)?, word(3)?, pointer(4)?);
    let mut params = Vec::new();
    for i in 0..kernel.params.len() {
        let ty = ir.context.ptr_type(Default::default());
        // SAFETY: the caller hands in a pointer for each parameter.
        let at = unsafe { ir.b.build_gep(ty, args, &[ir.word(i)], "")? };
        params.push(ir.b.build_load(ty, at, "")?.into_pointer_value());
    }
    let most = grouped.regions.iter().flat_map(|r| &r.groups);
    let most = most.map(|g| g.steps.iter().filter(|s| reduces(s)).count()).max().unwrap_or(0);
    let sums = match most {
        0 => None,
        n => {
            let at = ir.b.build_alloca(ir.context.f32_type().array_type(64 * n as u32), "")?;
            if let Some(i) = at.as_instruction_value() {
                i.set_alignment(64).map_err(|e| Fault(e.to_string()))?;
            }
            Some(at)
        }
    };
    let mut emit =
        Emit { ir, kernel, grouped, function, params, rows: Vec::new(), keys, scratch, sums, numbers: HashMap::new() };
    emit.repeat(start, end, (1, 1), &[], &mut |emit, row, _| {
        emit.row(row)?;
        Ok(Vec::new())
    })?;
    ir.b.build_return(None)?;
    Ok(function)
}

impl<'k, 'c> Emit<'_, 'k, 'c> {
    pub fn block(&self) -> BasicBlock<'c> {
        self.ir.context.append_basic_block(self.function, "")
    }

    pub fn here(&self) -> Made<BasicBlock<'c>> {
        self.ir.b.get_insert_block().ok_or_else(|| Fault("no block is open".into()))
    }

    /// A loop from `start` while the next `need` elements are there, with values that go through it. Gives where it
    /// ended, and the values.
    pub fn repeat(
        &mut self,
        start: IntValue<'c>,
        end: IntValue<'c>,
        (need, step): (usize, usize),
        carried: &[VectorValue<'c>],
        body: &mut dyn FnMut(&mut Self, IntValue<'c>, &[VectorValue<'c>]) -> Values<'c>,
    ) -> Made<(IntValue<'c>, Vec<VectorValue<'c>>)> {
        let ir = self.ir;
        let (before, head, inside, after) = (self.here()?, self.block(), self.block(), self.block());
        ir.b.build_unconditional_branch(head)?;
        ir.b.position_at_end(head);
        let index = ir.b.build_phi(ir.context.i64_type(), "")?;
        index.add_incoming(&[(&start, before)]);
        let mut phis = Vec::new();
        for v in carried {
            let phi = ir.b.build_phi(v.get_type(), "")?;
            phi.add_incoming(&[(v, before)]);
            phis.push(phi);
        }
        let i = index.as_basic_value().into_int_value();
        let values: Vec<VectorValue> = phis.iter().map(|p| p.as_basic_value().into_vector_value()).collect();
        let reached = ir.b.build_int_add(i, ir.word(need), "")?;
        let more = ir.b.build_int_compare(IntPredicate::ULE, reached, end, "")?;
        ir.b.build_conditional_branch(more, inside, after)?;
        ir.b.position_at_end(inside);
        let next = body(self, i, &values)?;
        let i_next = ir.b.build_int_add(i, ir.word(step), "")?;
        let last = self.here()?;
        index.add_incoming(&[(&i_next, last)]);
        for (phi, v) in phis.iter().zip(&next) {
            phi.add_incoming(&[(v, last)]);
        }
        ir.b.build_unconditional_branch(head)?;
        ir.b.position_at_end(after);
        Ok((i, values))
    }

    /// Executes `body` only where a condition holds; otherwise the values stay.
    pub fn only_if(
        &mut self,
        condition: IntValue<'c>,
        carried: &[VectorValue<'c>],
        body: &mut dyn FnMut(&mut Self, &[VectorValue<'c>]) -> Values<'c>,
    ) -> Made<Vec<VectorValue<'c>>> {
        let ir = self.ir;
        let (before, inside, after) = (self.here()?, self.block(), self.block());
        ir.b.build_conditional_branch(condition, inside, after)?;
        ir.b.position_at_end(inside);
        let changed = body(self, carried)?;
        let last = self.here()?;
        ir.b.build_unconditional_branch(after)?;
        ir.b.position_at_end(after);
        let mut out = Vec::new();
        for (old, new) in carried.iter().zip(&changed) {
            let phi = ir.b.build_phi(old.get_type(), "")?;
            phi.add_incoming(&[(old, before), (new, last)]);
            out.push(phi.as_basic_value().into_vector_value());
        }
        Ok(out)
    }

    fn row(&mut self, row: IntValue<'c>) -> Made<()> {
        let (kernel, grouped) = (self.kernel, self.grouped);
        self.rows.clear();
        self.numbers.clear();
        for (param, base) in kernel.params.iter().zip(&self.params) {
            let at = match (param.kind.per_row(), param.len.known()) {
                (true, Some(len)) => self.ir.advanced(*base, self.ir.b.build_int_mul(row, self.ir.word(len), "")?)?,
                _ => *base,
            };
            self.rows.push(at);
        }
        for region in &grouped.regions {
            if region.guards.is_empty() {
                self.region(region)?;
            } else {
                let mut active: Option<IntValue> = None;
                for g in region.guards {
                    let guard = self.ir.load(self.param(*g)?, 1, None)?;
                    let holds = self.ir.compare(FloatPredicate::UNE, guard, self.ir.splat(0.0, 1))?;
                    let holds = self.ir.b.build_extract_element(holds, self.ir.word(0), "")?.into_int_value();
                    active = Some(match active {
                        None => holds,
                        Some(others) => self.ir.b.build_or(others, holds, "")?,
                    });
                }
                let Some(active) = active else { continue };
                self.only_if(active, &[], &mut |emit, _| {
                    emit.region(region)?;
                    Ok(Vec::new())
                })?;
            }
        }
        Ok(())
    }

    fn param(&self, i: u32) -> Made<PointerValue<'c>> {
        self.rows.get(i as usize).copied().ok_or_else(|| Fault(format!("there is no p{i}")))
    }

    fn region(&mut self, region: &Region<'k>) -> Made<()> {
        for group in &region.groups {
            match group.loops.split_last() {
                None => self.line(group, Lin::ONE, &[])?,
                Some((&inner, outer)) => {
                    self.nest(outer, &[], &mut |emit, index| emit.line(group, inner, index))?;
                }
            }
        }
        Ok(())
    }

    /// A nest of loops from 0; the body is given the indices, outermost first.
    fn nest(
        &mut self,
        extents: &[Lin],
        outer: &[IntValue<'c>],
        body: &mut dyn FnMut(&mut Self, &[IntValue<'c>]) -> Made<()>,
    ) -> Made<()> {
        let Some((&extent, rest)) = extents.split_first() else { return body(self, outer) };
        let end = self.lin(extent)?;
        let zero = self.ir.word(0);
        self.repeat(zero, end, (1, 1), &[], &mut |emit, i, _| {
            let mut index = outer.to_vec();
            index.push(i);
            emit.nest(rest, &index, body)?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// The value of `fixed + keys * K`.
    pub fn lin(&self, l: Lin) -> Made<IntValue<'c>> {
        let fixed = self.ir.word(l.fixed);
        match (l.fixed, l.keys) {
            (_, 0) => Ok(fixed),
            (0, 1) => Ok(self.keys),
            (_, k) => {
                let product = self.ir.b.build_int_mul(self.keys, self.ir.word(k), "")?;
                Ok(self.ir.b.build_int_add(product, fixed, "")?)
            }
        }
    }

    /// The address of an element; the strides beyond `index` are taken at 0.
    pub fn address(&self, r: &Ref, index: &[IntValue<'c>]) -> Made<PointerValue<'c>> {
        let (base, mut offset) = match r.base {
            Base::Param(i) => (self.param(i)?, self.lin(r.offset)?),
            Base::Temp(t) => match self.home(t) {
                Home::Memory(start) => (self.scratch, self.lin(start.plus(r.offset))?),
                Home::Output(p) => (self.param(p)?, self.lin(r.offset)?),
                _ => return Err(Fault(format!("t{t} is in no memory"))),
            },
        };
        for (&stride, &i) in r.strides.iter().zip(index) {
            if stride != Lin::ZERO {
                let step = self.ir.b.build_int_mul(i, self.lin(stride)?, "")?;
                offset = self.ir.b.build_int_add(offset, step, "")?;
            }
        }
        self.ir.advanced(base, offset)
    }

    pub fn home(&self, temp: u32) -> Home {
        self.grouped.homes.get(temp as usize).copied().unwrap_or(Home::Memory(Lin::ZERO))
    }

    /// Statements of one group for one index of its outer loops.
    fn line(&mut self, group: &Group<'k>, inner: Lin, outer: &[IntValue<'c>]) -> Made<()> {
        super::line::emit(self, group, inner, outer)
    }
}
