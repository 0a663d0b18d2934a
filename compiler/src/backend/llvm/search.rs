//! Searches over a row: where its greatest element is, and which are the greatest.

use super::emit::Emit;
use super::ir::{Fault, Ir, Made};
use super::line::{Chunk, Line, below};
use crate::kernel::{Lin, Operand, Vector};
use inkwell::values::{FunctionValue, IntValue, PointerValue, VectorValue};
use inkwell::{FloatPredicate, IntPredicate};

/// The index of the first element that equals `greatest`, as a number; 0 where none does.
pub(super) fn first<'k, 'c>(
    e: &mut Emit<'_, 'k, 'c>,
    line: &Line<'_, 'k, 'c>,
    inner: Lin,
    v: &'k Vector,
    greatest: VectorValue<'c>,
) -> Made<VectorValue<'c>> {
    let (ir, w) = (e.ir, line.width);
    let (end, wanted) = (e.lin(inner)?, ir.spread(greatest, w)?);
    let (before, head, inside, found, after) = (e.here()?, e.block(), e.block(), e.block(), e.block());
    let (word, number) = (ir.context.i64_type(), ir.floats(1));
    ir.b.build_unconditional_branch(head)?;
    ir.b.position_at_end(head);
    let index = ir.b.build_phi(word, "")?;
    index.add_incoming(&[(&ir.word(0), before)]);
    let i = index.as_basic_value().into_int_value();
    let more = ir.b.build_int_compare(IntPredicate::ULT, i, end, "")?;
    ir.b.build_conditional_branch(more, inside, after)?;
    ir.b.position_at_end(inside);
    let mask = below(e, i, end, w)?;
    let operand = v.srcs.first().ok_or_else(|| Fault("no operand".into()))?;
    let x = line.read(e, operand, &Chunk { at: i, mask: Some(mask) })?;
    let equal = ir.b.build_and(ir.compare(FloatPredicate::OEQ, x, wanted)?, mask, "")?;
    let narrow = std::num::NonZero::new(w).ok_or_else(|| Fault("no lanes".into()))?;
    let bits = ir.context.custom_width_int_type(narrow).map_err(|e| Fault(e.to_string()))?;
    let equal = ir.b.build_bit_cast(equal, bits, "")?.into_int_value();
    let any = ir.b.build_int_compare(IntPredicate::NE, equal, bits.const_zero(), "")?;
    let next = ir.b.build_int_add(i, ir.word(w as usize), "")?;
    let last = e.here()?;
    index.add_incoming(&[(&next, last)]);
    ir.b.build_conditional_branch(any, found, head)?;
    ir.b.position_at_end(found);
    let wide = ir.b.build_int_z_extend_or_bit_cast(equal, word, "")?;
    let count = ir.intrinsic("llvm.cttz", &[word.into()])?;
    let lane = ir.call(count, &[wide.into(), ir.context.bool_type().const_int(1, false).into()])?;
    let lane = lane.ok_or_else(|| Fault("cttz gives nothing".into()))?.into_int_value();
    let at = ir.b.build_int_add(i, lane, "")?;
    let at = ir.b.build_signed_int_to_float(at, ir.context.f32_type(), "")?;
    let at = ir.b.build_insert_element(number.get_poison(), at, ir.word(0), "")?;
    ir.b.build_unconditional_branch(after)?;
    ir.b.position_at_end(after);
    let result = ir.b.build_phi(number, "")?;
    result.add_incoming(&[(&number.const_zero(), head), (&at, found)]);
    Ok(result.as_basic_value().into_vector_value())
}

const NAME: &str = "steer.top_k";

/// A mask of the greatest of a row.
pub(super) fn top_k<'k, 'c>(e: &mut Emit<'_, 'k, 'c>, v: &'k Vector, inner: Lin, outer: &[IntValue<'c>]) -> Made<()> {
    let ir = e.ir;
    let [Operand::Ref(a), k] = &v.srcs[..] else { return Err(Fault("top_k without a row".into())) };
    let k = match k {
        Operand::Number(k) => ir.splat(k.value(), 1),
        Operand::Ref(r) => match r.base {
            crate::kernel::Base::Temp(t) if e.numbers.contains_key(&t) => e.numbers[&t],
            _ => ir.load(e.address(r, outer)?, 1, None)?,
        },
    };
    let word = ir.context.i64_type();
    let k = ir.b.build_extract_element(k, ir.word(0), "")?;
    let whole = ir.intrinsic("llvm.fptoui.sat", &[word.into(), ir.context.f32_type().into()])?;
    let k = ir.call(whole, &[k.into_float_value().into()])?;
    let k = k.ok_or_else(|| Fault("a conversion gives nothing".into()))?.into_int_value();
    let (dst, a, n) = (e.address(&v.dst, outer)?, e.address(a, outer)?, e.lin(inner)?);
    let f = match ir.module.get_function(NAME) {
        Some(f) => f,
        None => {
            let open = e.here()?;
            let f = define(ir)?;
            ir.b.position_at_end(open);
            f
        }
    };
    ir.call(f, &[dst.into(), a.into(), n.into(), k.into()])?;
    Ok(())
}

/// `(dst, a, n, k)`: finds the least rank that is taken bit by bit, then the ones above it and the first of its equals.
fn define<'c>(ir: &Ir<'c>) -> Made<FunctionValue<'c>> {
    let f = ir.function(NAME, 4, false);
    let missing = || Fault("a function lacks a parameter".into());
    let pointer = |i| f.get_nth_param(i).map(|p| p.into_pointer_value()).ok_or_else(missing);
    let word = |i| f.get_nth_param(i).map(|p| p.into_int_value()).ok_or_else(missing);
    let (dst, a, n, k) = (pointer(0)?, pointer(1)?, word(2)?, word(3)?);
    let small = ir.context.i32_type();
    let entry = ir.context.append_basic_block(f, "");
    ir.b.position_at_end(entry);
    let top = small.const_int(1 << 31, false);

    // For each bit from the top: is it in the least rank of the k greatest?
    let (bits, bits_body, bits_next, write) = (block(ir, f), block(ir, f), block(ir, f), block(ir, f));
    ir.b.build_unconditional_branch(bits)?;
    ir.b.position_at_end(bits);
    let (bit, least) = (ir.b.build_phi(small, "")?, ir.b.build_phi(small, "")?);
    bit.add_incoming(&[(&top, entry)]);
    least.add_incoming(&[(&small.const_zero(), entry)]);
    let (bit_value, least_value) = (bit.as_basic_value().into_int_value(), least.as_basic_value().into_int_value());
    let more = ir.b.build_int_compare(IntPredicate::NE, bit_value, small.const_zero(), "")?;
    ir.b.build_conditional_branch(more, bits_body, write)?;
    ir.b.position_at_end(bits_body);
    let tried = ir.b.build_or(least_value, bit_value, "")?;
    let count = counted(ir, f, (a, n), IntPredicate::UGE, tried)?;
    ir.b.build_unconditional_branch(bits_next)?;
    ir.b.position_at_end(bits_next);
    let enough = ir.b.build_int_compare(IntPredicate::UGE, count, k, "")?;
    let kept = ir.b.build_select(enough, tried, least_value, "")?.into_int_value();
    let shifted = ir.b.build_right_shift(bit_value, small.const_int(1, false), false, "")?;
    bit.add_incoming(&[(&shifted, bits_next)]);
    least.add_incoming(&[(&kept, bits_next)]);
    ir.b.build_unconditional_branch(bits)?;

    // The ones above it, and so many of its equals as are left; none where more are asked for than there are.
    ir.b.position_at_end(write);
    let above = counted(ir, f, (a, n), IntPredicate::UGT, least_value)?;
    let left = ir.b.build_int_sub(k, above, "")?;
    let nothing = ir.b.build_int_compare(IntPredicate::EQ, least_value, small.const_zero(), "")?;
    let left = ir.b.build_select(nothing, ir.word(0), left, "")?.into_int_value();
    let (from, head, body, done) = (open(ir)?, block(ir, f), block(ir, f), block(ir, f));
    ir.b.build_unconditional_branch(head)?;
    ir.b.position_at_end(head);
    let word = ir.context.i64_type();
    let (index, remaining) = (ir.b.build_phi(word, "")?, ir.b.build_phi(word, "")?);
    index.add_incoming(&[(&ir.word(0), from)]);
    remaining.add_incoming(&[(&left, from)]);
    let (i, left) = (index.as_basic_value().into_int_value(), remaining.as_basic_value().into_int_value());
    let more = ir.b.build_int_compare(IntPredicate::ULT, i, n, "")?;
    ir.b.build_conditional_branch(more, body, done)?;
    ir.b.position_at_end(body);
    let r = rank(ir, ir.load(ir.advanced(a, i)?, 1, None)?)?;
    let r = ir.b.build_extract_element(r, ir.word(0), "")?.into_int_value();
    let equal = ir.b.build_int_compare(IntPredicate::EQ, r, least_value, "")?;
    let some = ir.b.build_int_compare(IntPredicate::NE, left, ir.word(0), "")?;
    let tie = ir.b.build_and(equal, some, "")?;
    let greater = ir.b.build_int_compare(IntPredicate::UGT, r, least_value, "")?;
    let taken = ir.b.build_or(greater, tie, "")?;
    let float = ir.context.f32_type();
    let value = ir.b.build_select(taken, float.const_float(1.0), float.const_float(0.0), "")?;
    ir.b.build_store(ir.advanced(dst, i)?, value)?;
    let used = ir.b.build_int_z_extend(tie, word, "")?;
    let left_next = ir.b.build_int_sub(left, used, "")?;
    let next = ir.b.build_int_add(i, ir.word(1), "")?;
    index.add_incoming(&[(&next, body)]);
    remaining.add_incoming(&[(&left_next, body)]);
    ir.b.build_unconditional_branch(head)?;
    ir.b.position_at_end(done);
    ir.b.build_return(None)?;
    Ok(f)
}

fn block<'c>(ir: &Ir<'c>, f: FunctionValue<'c>) -> inkwell::basic_block::BasicBlock<'c> {
    ir.context.append_basic_block(f, "")
}

fn open<'c>(ir: &Ir<'c>) -> Made<inkwell::basic_block::BasicBlock<'c>> {
    ir.b.get_insert_block().ok_or_else(|| Fault("no block is open".into()))
}

/// Numbers in their order, the two zeros as one; what is no number is beyond all of them, and nothing is 0.
fn rank<'c>(ir: &Ir<'c>, x: VectorValue<'c>) -> Made<VectorValue<'c>> {
    let w = super::ir::width(x);
    let bits = ir.bits(ir.add(x, ir.splat(0.0, w))?)?;
    let top = ir.splat_int(i32::MIN, w);
    let positive = ir.b.build_or(bits, top, "")?;
    let negative = ir.b.build_not(bits, "")?;
    let below = ir.compare_int(IntPredicate::SLT, bits, ir.splat_int(0, w))?;
    let order = ir.b.build_select(below, negative, positive, "")?.into_vector_value();
    let number = ir.compare(FloatPredicate::ORD, x, x)?;
    Ok(ir.b.build_select(number, order, ir.splat_int(-1, w), "")?.into_vector_value())
}

/// How many of a row have a rank so related to another.
fn counted<'c>(
    ir: &Ir<'c>,
    f: FunctionValue<'c>,
    (a, n): (PointerValue<'c>, IntValue<'c>),
    relation: IntPredicate,
    to: IntValue<'c>,
) -> Made<IntValue<'c>> {
    let (word, w) = (ir.context.i64_type(), ir.target.width);
    let one = ir.b.build_insert_element(ir.ints(1).get_poison(), to, ir.word(0), "")?;
    let many = ir.lanes(one, (0..w).map(|_| 0))?;
    let mut total = ir.word(0);
    let mut start = ir.word(0);
    // Whole vectors, then the rest one by one.
    for (w, to) in [(w, many), (1, one)] {
        let (from, head, body, after) = (open(ir)?, block(ir, f), block(ir, f), block(ir, f));
        ir.b.build_unconditional_branch(head)?;
        ir.b.position_at_end(head);
        let (index, sums) = (ir.b.build_phi(word, "")?, ir.b.build_phi(ir.ints(w), "")?);
        index.add_incoming(&[(&start, from)]);
        sums.add_incoming(&[(&ir.splat_int(0, w), from)]);
        let (i, sum) = (index.as_basic_value().into_int_value(), sums.as_basic_value().into_vector_value());
        let next = ir.b.build_int_add(i, ir.word(w as usize), "")?;
        let more = ir.b.build_int_compare(IntPredicate::ULE, next, n, "")?;
        ir.b.build_conditional_branch(more, body, after)?;
        ir.b.position_at_end(body);
        let ranks = rank(ir, ir.load(ir.advanced(a, i)?, w, None)?)?;
        let holds = ir.compare_int(relation, ranks, to)?;
        let holds = ir.b.build_int_z_extend(holds, ir.ints(w), "")?;
        let more = ir.b.build_int_add(sum, holds, "")?;
        index.add_incoming(&[(&next, body)]);
        sums.add_incoming(&[(&more, body)]);
        ir.b.build_unconditional_branch(head)?;
        ir.b.position_at_end(after);
        let sum_up = ir.intrinsic("llvm.vector.reduce.add", &[ir.ints(w).into()])?;
        let part = ir.call(sum_up, &[sum.into()])?.ok_or_else(|| Fault("a sum gives nothing".into()))?;
        let part = ir.b.build_int_z_extend(part.into_int_value(), word, "")?;
        total = ir.b.build_int_add(total, part, "")?;
        start = i;
    }
    Ok(total)
}
