//! The interpreter of kernels as a backend: slow, and the meaning that every other one is tested against.

use super::{RowBackend, RowKernels};
use crate::kernel::{Kernel, interpret};
use crate::program::KernelId;
use std::ops::Range;
use steer_kernels::Isa;
use steer_lang::Diagnostic;

pub struct Interp;

impl RowBackend for Interp {
    fn name(&self) -> &'static str {
        "interp"
    }

    fn compile(&self, kernels: &[Kernel], _: Isa) -> Result<Box<dyn RowKernels>, Diagnostic> {
        Ok(Box::new(Interpreted(kernels.to_vec())))
    }
}

struct Interpreted(Vec<Kernel>);

impl RowKernels for Interpreted {
    unsafe fn call(&self, kernel: KernelId, args: &[*mut f32], rows: Range<usize>, keys: usize, scratch: &mut [f32]) {
        // SAFETY: the caller's promise is the one that the interpreter asks for.
        unsafe { interpret(&self.0[kernel.0 as usize], args, rows, keys, scratch) }
    }

    fn scratch_len(&self, kernel: KernelId, keys: usize) -> usize {
        self.0[kernel.0 as usize].scratch_len(keys)
    }
}
