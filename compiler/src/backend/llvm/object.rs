//! Hooks as an object file: functions that edit rows of other programs.
//!
//! ```c
//! int steer_NAME(int64_t layer, float *rows, size_t count, size_t stride,
//!                const int64_t *position, const uint8_t *active, const float *params);
//! ```

use super::ir::{Fault, Ir, Made, Target};
use super::{check, emit, failure, group, reductions, simplified, start};
use crate::kernel::{Kernel, VecOp};
use inkwell::attributes::AttributeLoc;
use inkwell::context::Context;
use inkwell::module::Linkage;
use inkwell::targets::{CodeModel, FileType, RelocMode, Target as Machine, TargetMachine};
use inkwell::values::{FunctionValue, GlobalValue, IntValue, PointerValue};
use inkwell::{IntPredicate, OptimizationLevel};
use std::sync::Arc;
use steer_kernels::{Binary, Isa, Unary};
use steer_lang::Diagnostic;

/// A hook, for all layers that it is at.
pub struct ObjectHook {
    /// The name of its function.
    pub name: String,
    pub layers: Vec<ObjectLayer>,
    /// What its parameters are where the caller hands in none.
    pub params: Vec<f32>,
    /// Whether it reads positions.
    pub position: bool,
}

pub struct ObjectLayer {
    pub layer: i64,
    pub kernel: Kernel,
    /// By parameter of the kernel.
    pub args: Vec<ObjectArg>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ObjectArg {
    Rows,
    /// 1: rows that are not active are passed over.
    Active,
    Params,
    Position,
    Data(Arc<Vec<f32>>),
    Unused,
}

/// What the functions return.
const DONE: u64 = 0;
const NO_LAYER: u64 = 1;
const NO_MEMORY: u64 = 2;
const NO_POSITIONS: u64 = 3;

/// The operation of a kernel, if any, that an object file has no code for.
pub fn outside(kernel: &Kernel) -> Option<&'static str> {
    let mut found = None;
    kernel.for_each(&mut |v, _| match v.op {
        VecOp::Unary(op @ (Unary::Sin | Unary::Cos)) => found = Some(op.name()),
        VecOp::Binary(op @ Binary::Pow) => found = Some(op.name()),
        _ => {}
    });
    found
}

/// An object file with a function for each hook, for processors of an instruction set.
pub fn object(hooks: &[ObjectHook], isa: Isa) -> Result<Vec<u8>, Diagnostic> {
    start()?;
    let context = Context::create();
    let target = target(isa).map_err(failure)?;
    let machine = machine(&target).map_err(failure)?;
    let module = context.create_module("steer");
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    let ir = Ir { context: &context, module, b: context.create_builder(), target, here: false };
    let mut made = Shared { kernels: Vec::new(), data: Vec::new() };
    for hook in hooks {
        define(&ir, hook, &mut made).map_err(failure)?;
    }
    check(&ir)?;
    let buffer = machine.write_to_memory_buffer(&ir.module, FileType::Object);
    Ok(buffer.map_err(|e| failure(e.to_string_lossy()))?.as_slice().to_vec())
}

/// Any processor that has the instruction set.
fn target(isa: Isa) -> Made<Target> {
    if !isa.is_buildable() {
        return Err(Fault(format!("no object file can be built for {}", isa.name())));
    }
    let processor = match isa {
        Isa::Avx512 => "x86-64-v4",
        Isa::Avx2 => "x86-64-v3",
        Isa::Neon | Isa::Portable => "generic",
    };
    Ok(Target { processor: processor.into(), features: String::new(), ..super::target(isa) })
}

fn machine(target: &Target) -> Made<TargetMachine> {
    let triple = TargetMachine::get_default_triple();
    let kind = Machine::from_triple(&triple).map_err(|e| Fault(e.to_string_lossy().into_owned()))?;
    let level = OptimizationLevel::Default;
    let made = kind.create_target_machine(
        &triple,
        &target.processor,
        &target.features,
        level,
        RelocMode::PIC,
        CodeModel::Default,
    );
    made.ok_or_else(|| Fault(format!("LLVM has no code for {}", target.processor)))
}

/// What hooks share.
struct Shared<'c> {
    kernels: Vec<(Kernel, FunctionValue<'c>, usize)>,
    data: Vec<(Arc<Vec<f32>>, GlobalValue<'c>)>,
}

fn data<'c>(ir: &Ir<'c>, made: &mut Shared<'c>, values: &Arc<Vec<f32>>) -> PointerValue<'c> {
    let same =
        |v: &Arc<Vec<f32>>| v.len() == values.len() && v.iter().zip(&**values).all(|(a, b)| a.to_bits() == b.to_bits());
    if let Some((_, global)) = made.data.iter().find(|(v, _)| same(v)) {
        return global.as_pointer_value();
    }
    let float = ir.context.f32_type();
    let numbers: Vec<_> = values.iter().map(|x| float.const_float(f64::from(*x))).collect();
    let array = float.const_array(&numbers);
    let global = ir.module.add_global(array.get_type(), None, &format!("steer.data{}", made.data.len()));
    global.set_initializer(&array);
    global.set_constant(true);
    global.set_linkage(Linkage::Private);
    global.set_alignment(64);
    made.data.push((Arc::clone(values), global));
    global.as_pointer_value()
}

fn kernel<'c>(ir: &Ir<'c>, made: &mut Shared<'c>, kernel: &Kernel) -> Made<(FunctionValue<'c>, usize)> {
    if let Some((_, f, scratch)) = made.kernels.iter().find(|(k, ..)| k == kernel) {
        return Ok((*f, *scratch));
    }
    let simple = simplified(kernel);
    let grouped = group(&simple, reductions(&ir.target));
    let f = emit::kernel(ir, &format!("steer.kernel{}", made.kernels.len()), &simple, &grouped, false)?;
    let scratch = grouped.scratch.at(1);
    made.kernels.push((kernel.clone(), f, scratch));
    Ok((f, scratch))
}

/// The arguments of a hook's function.
struct Given<'c> {
    layer: IntValue<'c>,
    rows: PointerValue<'c>,
    count: IntValue<'c>,
    stride: IntValue<'c>,
    position: PointerValue<'c>,
    active: PointerValue<'c>,
    params: PointerValue<'c>,
}

fn define<'c>(ir: &Ir<'c>, hook: &ObjectHook, made: &mut Shared<'c>) -> Made<()> {
    let (int, word, pointer) = (ir.context.i32_type(), ir.context.i64_type(), ir.context.ptr_type(Default::default()));
    let mut layers = Vec::new();
    for layer in &hook.layers {
        layers.push((layer, kernel(ir, made, &layer.kernel)?));
    }
    let scratch = layers.iter().map(|(_, (_, n))| *n).max().unwrap_or(0);
    let ty = [word.into(), pointer.into(), word.into(), word.into(), pointer.into(), pointer.into(), pointer.into()];
    let f = ir.module.add_function(&hook.name, int.fn_type(&ty, false), None);
    ir.attributes(f);
    let missing = || Fault("a function lacks a parameter".into());
    let arg = |i| f.get_nth_param(i).ok_or_else(missing);
    let block = || ir.context.append_basic_block(f, "");
    let (entry, ready) = (block(), block());
    ir.b.position_at_end(entry);
    let mut given = Given {
        layer: arg(0)?.into_int_value(),
        rows: arg(1)?.into_pointer_value(),
        count: arg(2)?.into_int_value(),
        stride: arg(3)?.into_int_value(),
        position: arg(4)?.into_pointer_value(),
        active: arg(5)?.into_pointer_value(),
        params: arg(6)?.into_pointer_value(),
    };
    // What a row's kernel reads that the caller has in another form.
    let most = hook.layers.iter().map(|l| l.args.len()).max().unwrap_or(0);
    let pointers = ir.b.build_alloca(pointer.array_type(most as u32), "")?;
    let (one, at) = (ir.b.build_alloca(ir.context.f32_type(), "")?, ir.b.build_alloca(ir.context.f32_type(), "")?);
    ir.b.build_store(one, ir.context.f32_type().const_float(1.0))?;
    if !hook.params.is_empty() {
        let defaults = data(ir, made, &Arc::new(hook.params.clone()));
        let none = ir.b.build_is_null(given.params, "")?;
        given.params = ir.b.build_select(none, defaults, given.params, "")?.into_pointer_value();
    }
    if hook.position {
        let (bad, good) = (block(), block());
        ir.b.build_conditional_branch(ir.b.build_is_null(given.position, "")?, bad, good)?;
        ir.b.position_at_end(bad);
        ir.b.build_return(Some(&int.const_int(NO_POSITIONS, false)))?;
        ir.b.position_at_end(good);
    }
    let memory = match scratch {
        0 => pointer.const_null(),
        n => {
            let malloc = outer(ir, "malloc", pointer.fn_type(&[word.into()], false));
            let bytes = ir.word(n * size_of::<f32>());
            let memory = ir.call(malloc, &[bytes.into()])?.ok_or_else(missing)?.into_pointer_value();
            let (bad, good) = (block(), block());
            ir.b.build_conditional_branch(ir.b.build_is_null(memory, "")?, bad, good)?;
            ir.b.position_at_end(bad);
            ir.b.build_return(Some(&int.const_int(NO_MEMORY, false)))?;
            ir.b.position_at_end(good);
            memory
        }
    };
    let (unknown, done) = (block(), block());
    ir.b.build_unconditional_branch(ready)?;
    let mut cases = Vec::new();
    for (layer, (kernel, _)) in layers {
        let inside = block();
        cases.push((word.const_int(layer.layer as u64, true), inside));
        ir.b.position_at_end(inside);
        for (i, arg) in layer.args.iter().enumerate() {
            let fixed = match arg {
                ObjectArg::Data(values) => data(ir, made, values),
                ObjectArg::Params => given.params,
                ObjectArg::Active => one,
                ObjectArg::Position => at,
                ObjectArg::Rows | ObjectArg::Unused => pointer.const_null(),
            };
            // SAFETY: there is a place for each argument.
            let place = unsafe { ir.b.build_gep(pointer, pointers, &[ir.word(i)], "")? };
            ir.b.build_store(place, fixed)?;
        }
        rows(ir, f, layer, kernel, &given, (pointers, at, memory))?;
        ir.b.build_unconditional_branch(done)?;
    }
    ir.b.position_at_end(ready);
    ir.b.build_switch(given.layer, unknown, &cases)?;
    let free = |memory: PointerValue<'c>| -> Made<()> {
        if scratch > 0 {
            let free = outer(ir, "free", ir.context.void_type().fn_type(&[pointer.into()], false));
            ir.call(free, &[memory.into()])?;
        }
        Ok(())
    };
    for (end, code) in [(unknown, NO_LAYER), (done, DONE)] {
        ir.b.position_at_end(end);
        free(memory)?;
        ir.b.build_return(Some(&int.const_int(code, false)))?;
    }
    Ok(())
}

/// A function of the C library.
fn outer<'c>(ir: &Ir<'c>, name: &str, ty: inkwell::types::FunctionType<'c>) -> FunctionValue<'c> {
    ir.module.get_function(name).unwrap_or_else(|| {
        let f = ir.module.add_function(name, ty, None);
        let kind = inkwell::attributes::Attribute::get_named_enum_kind_id("nounwind");
        f.add_attribute(AttributeLoc::Function, ir.context.create_enum_attribute(kind, 0));
        f
    })
}

/// The loop over rows: each active one through the kernel.
fn rows<'c>(
    ir: &Ir<'c>,
    f: FunctionValue<'c>,
    layer: &ObjectLayer,
    kernel: FunctionValue<'c>,
    given: &Given<'c>,
    (pointers, at, memory): (PointerValue<'c>, PointerValue<'c>, PointerValue<'c>),
) -> Made<()> {
    let (word, byte, pointer) = (ir.context.i64_type(), ir.context.i8_type(), ir.context.ptr_type(Default::default()));
    let block = || ir.context.append_basic_block(f, "");
    let before = ir.b.get_insert_block().ok_or_else(|| Fault("no block is open".into()))?;
    let (head, body, ask, work, next, after) = (block(), block(), block(), block(), block(), block());
    ir.b.build_unconditional_branch(head)?;
    ir.b.position_at_end(head);
    let index = ir.b.build_phi(word, "")?;
    index.add_incoming(&[(&ir.word(0), before)]);
    let row = index.as_basic_value().into_int_value();
    let more = ir.b.build_int_compare(IntPredicate::ULT, row, given.count, "")?;
    ir.b.build_conditional_branch(more, body, after)?;
    ir.b.position_at_end(body);
    ir.b.build_conditional_branch(ir.b.build_is_null(given.active, "")?, work, ask)?;
    ir.b.position_at_end(ask);
    // SAFETY: the caller has an entry for each row.
    let mask = unsafe { ir.b.build_gep(byte, given.active, &[row], "")? };
    let mask = ir.b.build_load(byte, mask, "")?.into_int_value();
    let passed = ir.b.build_int_compare(IntPredicate::EQ, mask, byte.const_zero(), "")?;
    ir.b.build_conditional_branch(passed, next, work)?;
    ir.b.position_at_end(work);
    for (i, arg) in layer.args.iter().enumerate() {
        match arg {
            ObjectArg::Rows => {
                let start = ir.advanced(given.rows, ir.b.build_int_mul(row, given.stride, "")?)?;
                // SAFETY: there is a place for each argument.
                let place = unsafe { ir.b.build_gep(pointer, pointers, &[ir.word(i)], "")? };
                ir.b.build_store(place, start)?;
            }
            ObjectArg::Position => {
                // SAFETY: the caller has a position for each row.
                let place = unsafe { ir.b.build_gep(word, given.position, &[row], "")? };
                let position = ir.b.build_load(word, place, "")?.into_int_value();
                ir.b.build_store(at, ir.b.build_signed_int_to_float(position, ir.context.f32_type(), "")?)?;
            }
            _ => {}
        }
    }
    let args = [pointers.into(), ir.word(0).into(), ir.word(1).into(), ir.word(1).into(), memory.into()];
    ir.call(kernel, &args)?;
    ir.b.build_unconditional_branch(next)?;
    ir.b.position_at_end(next);
    let following = ir.b.build_int_add(row, ir.word(1), "")?;
    index.add_incoming(&[(&following, next)]);
    ir.b.build_unconditional_branch(head)?;
    ir.b.position_at_end(after);
    Ok(())
}
