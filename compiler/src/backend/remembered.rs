//! A backend that compiles each kernel once: another Plan mostly has the kernels of the one before.

use super::{RowBackend, RowKernels};
use crate::kernel::Kernel;
use crate::program::KernelId;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use steer_kernels::Isa;
use steer_lang::Diagnostic;

/// Kernels that are compiled, with their place in what was compiled together.
type Known = HashMap<Kernel, (Arc<dyn RowKernels>, KernelId)>;

/// See the module. What is known belongs to one backend and instruction set.
pub struct Remembered<'a> {
    pub backend: &'a dyn RowBackend,
    pub known: &'a Mutex<Known>,
}

/// What a [`Remembered`] knows.
#[derive(Default)]
pub struct CompiledKernels(pub Mutex<Known>);

/// Kernels that were compiled at different times.
struct Joined(Vec<(Arc<dyn RowKernels>, KernelId)>);

impl RowBackend for Remembered<'_> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn compile(&self, kernels: &[Kernel], isa: Isa) -> Result<Box<dyn RowKernels>, Diagnostic> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<Kernel> = Vec::new();
        for kernel in kernels {
            if !known.contains_key(kernel) && !new.contains(kernel) {
                new.push(kernel.clone());
            }
        }
        if !new.is_empty() {
            let compiled: Arc<dyn RowKernels> = self.backend.compile(&new, isa)?.into();
            for (at, kernel) in new.into_iter().enumerate() {
                known.insert(kernel, (Arc::clone(&compiled), KernelId(at as u32)));
            }
        }
        let joined = kernels.iter().filter_map(|k| known.get(k)).map(|(k, id)| (Arc::clone(k), *id)).collect();
        Ok(Box::new(Joined(joined)))
    }
}

impl RowKernels for Joined {
    unsafe fn call(&self, kernel: KernelId, args: &[*mut f32], rows: Range<usize>, keys: usize, scratch: &mut [f32]) {
        let (kernels, id) = &self.0[kernel.0 as usize];
        // SAFETY: the caller's, for the same kernel under its other number.
        unsafe { kernels.call(*id, args, rows, keys, scratch) };
    }

    fn scratch_len(&self, kernel: KernelId, keys: usize) -> usize {
        let (kernels, id) = &self.0[kernel.0 as usize];
        kernels.scratch_len(*id, keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts what it is asked to compile.
    struct Counting(AtomicUsize);

    impl RowBackend for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }

        fn compile(&self, kernels: &[Kernel], isa: Isa) -> Result<Box<dyn RowKernels>, Diagnostic> {
            self.0.fetch_add(kernels.len(), Ordering::Relaxed);
            super::super::interp::Interp.compile(kernels, isa)
        }
    }

    #[test]
    fn a_kernel_is_compiled_once() {
        let kernel = |temps: usize| Kernel {
            params: Vec::new(),
            temps: vec![crate::kernel::Lin::fixed(16); temps],
            body: Vec::new(),
        };
        let (counting, known) = (Counting(AtomicUsize::new(0)), CompiledKernels::default());
        let remembered = Remembered { backend: &counting, known: &known.0 };
        for (kernels, compiled) in
            [([kernel(0), kernel(1)], 2), ([kernel(1), kernel(1)], 2), ([kernel(2), kernel(0)], 3)]
        {
            assert!(remembered.compile(&kernels, Isa::Portable).is_ok());
            assert_eq!(counting.0.load(Ordering::Relaxed), compiled);
        }
    }
}
