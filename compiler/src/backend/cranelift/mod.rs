//! Kernels as machine code: Cranelift emits the row loop, the branches, the loops around vectors and
//! the scalar arithmetic, and calls the row primitives of the processor's instruction set.
//!
//! A kernel becomes one function of the C calling convention:
//!
//! ```c
//! void kernel(float *const *args, size_t start, size_t end, size_t keys, float *scratch);
//! ```
//!
//! `args[i]` is the base of parameter `i`. Row `r` of a parameter that has rows lies at `r * len`
//! floats from it; the length is a constant of the code. Rows `start` up to `end` are worked on in
//! order; the scratch memory is used anew by each of them.

mod emit;
mod passes;
mod prim;
mod vector;

use super::{RowBackend, RowKernels};
use crate::kernel::{Kernel, Lin};
use crate::program::KernelId;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};
use passes::Passes;
use prim::Prims;
use std::ops::Range;
use steer_kernels::Isa;
use steer_lang::{Diagnostic, codes};

/// The default backend, which needs nothing installed.
pub struct Cranelift;

impl RowBackend for Cranelift {
    fn name(&self) -> &'static str {
        "cranelift"
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

/// Compiled kernels, with the memory that holds their code.
pub struct Compiled {
    functions: Vec<Function>,
    module: Option<JITModule>,
}

// SAFETY: after compilation the module is only kept for its memory, which is read and executed; it
// is touched again when the last reference is dropped.
unsafe impl Send for Compiled {}
unsafe impl Sync for Compiled {}

impl Drop for Compiled {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the functions are reachable through `self` only.
            unsafe { module.free_memory() }
        }
    }
}

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
    Diagnostic::error(codes::BACKEND, format!("cannot compile kernels on this machine: {what}"))
        .help("use `--backend interp`, which needs no compiler")
}

fn target() -> Result<OwnedTargetIsa, Diagnostic> {
    let mut flags = settings::builder();
    let options = [
        ("use_colocated_libcalls", "false"),
        ("is_pic", "false"),
        ("opt_level", "none"),
        ("regalloc_algorithm", "single_pass"),
    ];
    for (name, value) in options.into_iter().chain([("enable_verifier", verifier())]) {
        flags.set(name, value).map_err(failure)?;
    }
    cranelift_native::builder().map_err(failure)?.finish(settings::Flags::new(flags)).map_err(failure)
}

const fn verifier() -> &'static str {
    if cfg!(debug_assertions) { "true" } else { "false" }
}

fn module(isa: Isa) -> Result<JITModule, Diagnostic> {
    if !isa.is_supported() {
        return Err(failure(format_args!("this processor has no {}", isa.name())));
    }
    let mut builder = JITBuilder::with_isa(target()?, default_libcall_names());
    let addresses = prim::addresses(isa);
    builder.symbol_lookup_fn(Box::new(move |name| addresses.get(name).map(|&a| a as *const u8)));
    Ok(JITModule::new(builder))
}

/// Compiles verified kernels for this machine.
pub fn compile(kernels: &[Kernel], isa: Isa) -> Result<Compiled, Diagnostic> {
    let mut module = module(isa)?;
    let mut prims = Prims::default();
    let mut context = module.make_context();
    let mut builders = FunctionBuilderContext::new();
    let mut ids = Vec::with_capacity(kernels.len());
    for kernel in kernels {
        context.func.signature = emit::signature(&module);
        let passes = Passes::of(kernel);
        emit::function(&mut context.func, &mut builders, kernel, &passes, &mut module, &mut prims).map_err(|e| *e)?;
        let id = module.declare_anonymous_function(&context.func.signature).map_err(failure)?;
        module.define_function(id, &mut context).map_err(|e| failure(format_args!("{e:?}")))?;
        module.clear_context(&mut context);
        ids.push((id, passes.layout.total));
    }
    module.finalize_definitions().map_err(failure)?;
    let functions = ids.into_iter().zip(kernels).map(|((id, scratch), kernel)| {
        let code = module.get_finalized_function(id);
        // SAFETY: the function was declared with this signature, and its code lives as long as the module.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(code) };
        Function { entry, params: kernel.params.len(), scratch }
    });
    let functions = functions.collect();
    Ok(Compiled { functions, module: Some(module) })
}

/// A kernel in the intermediate language of Cranelift, with the names of the primitives.
pub fn clif(kernel: &Kernel) -> Result<String, Diagnostic> {
    let mut module = module(Isa::Portable)?;
    let mut prims = Prims::default();
    let mut context = module.make_context();
    context.func.signature = emit::signature(&module);
    let mut builders = FunctionBuilderContext::new();
    let passes = Passes::of(kernel);
    emit::function(&mut context.func, &mut builders, kernel, &passes, &mut module, &mut prims).map_err(|e| *e)?;
    Ok(prims.named(&context.func.display().to_string()))
}

#[cfg(test)]
mod tests;
