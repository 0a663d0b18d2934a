//! Kernels as machine code by LLVM: one loop for all statements over the same elements, in vectors of the processor,
//! with the values between them in registers. The bits are those of the row primitives.
//!
//! A kernel becomes a function of the C calling convention, as with [Cranelift](super::cranelift).

mod emit;
mod formula;
mod group;
mod ir;
mod line;
mod object;
mod search;
mod sum;

pub use object::{ObjectArg, ObjectHook, ObjectLayer, object, outside};

use super::{RowBackend, RowKernels};
use crate::kernel::{Kernel, Lin};
use crate::program::KernelId;
use group::{group, simplified};
use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::execution_engine::ExecutionEngine;
use inkwell::llvm_sys::support::LLVMParseCommandLineOptions;
use inkwell::targets::{InitializationConfig, Target as Machine, TargetMachine};
use ir::{Ir, Target};
use std::ops::Range;
use std::sync::OnceLock;
use steer_kernels::Isa;
use steer_lang::{Diagnostic, codes};

/// The default backend where it is compiled in.
pub struct Llvm;

impl RowBackend for Llvm {
    fn name(&self) -> &'static str {
        "llvm"
    }

    fn compile(&self, kernels: &[Kernel], isa: Isa) -> Result<Box<dyn RowKernels>, Diagnostic> {
        Ok(Box::new(compile(kernels, isa)?))
    }
}

type Entry = unsafe extern "C" fn(*const *mut f32, usize, usize, usize, *mut f32);

struct Function {
    entry: Entry,
    params: usize,
    scratch: Lin,
}

/// Compiled kernels, with what holds their code. The engine is dropped before the context that it lives in.
pub struct Compiled {
    functions: Vec<Function>,
    _engine: Option<ExecutionEngine<'static>>,
    _context: Box<Context>,
}

// SAFETY: after compilation engine and context are only kept for their memory, which is read and executed; they are
// touched again when the last reference is dropped.
unsafe impl Send for Compiled {}
unsafe impl Sync for Compiled {}

impl RowKernels for Compiled {
    unsafe fn call(&self, kernel: KernelId, args: &[*mut f32], rows: Range<usize>, keys: usize, scratch: &mut [f32]) {
        let f = &self.functions[kernel.0 as usize];
        assert!(args.len() == f.params && scratch.len() >= f.scratch.at(keys), "arguments do not fit the kernel");
        // SAFETY: the caller's promise; the code stays within the lengths that the kernel was verified for.
        unsafe { (f.entry)(args.as_ptr(), rows.start, rows.end, keys, scratch.as_mut_ptr()) }
    }

    fn scratch_len(&self, kernel: KernelId, keys: usize) -> usize {
        self.functions[kernel.0 as usize].scratch.at(keys)
    }
}

fn failure(what: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(codes::BACKEND, format!("cannot compile kernels by LLVM on this machine: {what}"))
        .help("use `--backend cranelift`")
}

/// Prepares LLVM for this processor, once.
fn start() -> Result<(), Diagnostic> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    let started = STARTED.get_or_init(|| {
        // Addresses are simple already: the pass finds nothing better, and takes half of the time.
        let options = [c"steer".as_ptr(), c"-disable-lsr".as_ptr()];
        // SAFETY: two texts that end with a zero, before anything else is asked of LLVM.
        unsafe { LLVMParseCommandLineOptions(options.len() as i32, options.as_ptr(), std::ptr::null()) };
        Machine::initialize_native(&InitializationConfig::default())
    });
    started.clone().map_err(failure)
}

/// The processor of this machine, as far as an instruction set goes.
fn target(isa: Isa) -> Target {
    let text = |s: inkwell::support::LLVMString| s.to_string_lossy().into_owned();
    let own = (text(TargetMachine::get_host_cpu_name()), text(TargetMachine::get_host_cpu_features()));
    let named = |(processor, features): (&str, &str)| (processor.to_string(), features.to_string());
    let x86 = cfg!(target_arch = "x86_64");
    let (processor, features) = match isa {
        _ if isa == Isa::detect() => own,
        Isa::Avx512 => named(("x86-64-v4", "")),
        Isa::Avx2 => named(("x86-64-v3", "")),
        Isa::Portable if x86 => named(("x86-64", "")),
        Isa::Neon | Isa::Portable => own,
    };
    let (width, sums) = match isa {
        Isa::Avx512 => (16, 16),
        Isa::Avx2 => (8, 8),
        // Of aarch64 with 32 registers, whatever its name.
        Isa::Neon | Isa::Portable => (4, if x86 { 8 } else { 16 }),
    };
    Target { width, processor, features, native: !x86 || isa != Isa::Portable, scales: isa == Isa::Avx512, sums }
}

/// How many reductions share a loop.
fn reductions(target: &Target) -> usize {
    target.sums as usize / 2
}

fn module<'c>(context: &'c Context, isa: Isa, here: bool) -> Result<Ir<'c>, Diagnostic> {
    if !isa.is_supported() {
        return Err(failure(format_args!("this processor has no {}", isa.name())));
    }
    start()?;
    let module = context.create_module("steer");
    Ok(Ir { context, module, b: context.create_builder(), target: target(isa), here })
}

/// Compiles verified kernels for this machine.
pub fn compile(kernels: &[Kernel], isa: Isa) -> Result<Compiled, Diagnostic> {
    let owner = Box::new(Context::create());
    // SAFETY: what borrows the context is dropped before it, see `Compiled`; the box does not move its contents.
    let context: &'static Context = unsafe { std::mem::transmute::<&Context, &'static Context>(&owner) };
    let ir = module(context, isa, true)?;
    let scratch = emit_all(&ir, kernels)?;
    check(&ir)?;
    let engine =
        ir.module.create_jit_execution_engine(OptimizationLevel::Default).map_err(|e| failure(e.to_string_lossy()))?;
    let mut functions = Vec::with_capacity(kernels.len());
    for (i, (kernel, scratch)) in kernels.iter().zip(scratch).enumerate() {
        let address = engine.get_function_address(&name(i)).map_err(failure)?;
        // SAFETY: the function was declared with this signature, and its code lives as long as the engine.
        let entry = unsafe { std::mem::transmute::<usize, Entry>(address) };
        functions.push(Function { entry, params: kernel.params.len(), scratch });
    }
    // The code stays; what it was made from takes ten times its memory.
    engine.remove_module(&ir.module).map_err(failure)?;
    Ok(Compiled { functions, _engine: Some(engine), _context: owner })
}

/// Emits kernels by their numbers; gives the scratch memory that each needs.
fn emit_all(ir: &Ir, kernels: &[Kernel]) -> Result<Vec<Lin>, Diagnostic> {
    let one = |(i, kernel): (usize, &Kernel)| {
        let kernel = simplified(kernel);
        let grouped = group(&kernel, reductions(&ir.target));
        emit::kernel(ir, &name(i), &kernel, &grouped, true).map_err(failure)?;
        Ok(grouped.scratch)
    };
    kernels.iter().enumerate().map(one).collect()
}

fn name(i: usize) -> String {
    format!("kernel{i}")
}

/// LLVM's own check; code that passes it is compiled without an error that ends the process.
fn check(ir: &Ir) -> Result<(), Diagnostic> {
    ir.module
        .verify()
        .map_err(|e| failure(e.to_string_lossy()).help("this is a bug in steer; use `--backend cranelift`"))
}

/// Kernels in LLVM's intermediate language, for this machine.
pub fn llvm_ir(kernels: &[Kernel]) -> Result<String, Diagnostic> {
    let context = Context::create();
    let ir = module(&context, Isa::detect(), true)?;
    emit_all(&ir, kernels)?;
    Ok(ir.module.print_to_string().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
