//! A backend that compiles each kernel once in a process: another phase, Plan or engine mostly has the kernels of the one
//! before.

use super::{RowBackend, RowKernels};
use crate::kernel::Kernel;
use crate::program::KernelId;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use steer_kernels::Isa;
use steer_lang::Diagnostic;

/// Kernels that are kept, of each instruction set: more than an experiment has, and by LLVM, where one that was compiled
/// alone takes half a megabyte, not too much to hold. One more forgets them all; engines hold those that they use.
const MOST: usize = 512;

/// A compiled kernel: its number among those that were compiled together.
type Place = (Arc<dyn RowKernels>, KernelId);

/// See the module.
pub struct Remembered {
    backend: &'static dyn RowBackend,
    known: Mutex<BTreeMap<Isa, HashMap<Kernel, Place>>>,
}

/// Kernels that were compiled at different times.
struct Joined(Vec<Place>);

impl Remembered {
    pub fn new(backend: &'static dyn RowBackend) -> Self {
        Remembered { backend, known: Mutex::default() }
    }

    /// Calls `f` with the kernels of an instruction set that are known.
    fn with<T>(&self, isa: Isa, f: impl FnOnce(&mut HashMap<Kernel, Place>) -> T) -> T {
        f(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(isa).or_default())
    }
}

impl RowBackend for Remembered {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn compile(&self, kernels: &[Kernel], isa: Isa) -> Result<Box<dyn RowKernels>, Diagnostic> {
        let mut places: HashMap<&Kernel, Place> = self.with(isa, |known| {
            let place = |k| Some((k, known.get(k)?.clone()));
            kernels.iter().filter_map(place).collect()
        });
        let mut new: Vec<Kernel> = Vec::new();
        for kernel in kernels {
            if !places.contains_key(kernel) && !new.contains(kernel) {
                new.push(kernel.clone());
            }
        }
        if !new.is_empty() {
            // Others need not wait; what two threads compile at once, one of them keeps.
            let compiled: Arc<dyn RowKernels> = self.backend.compile(&new, isa)?.into();
            let place = |at: usize| (Arc::clone(&compiled), KernelId(at as u32));
            for kernel in kernels {
                if let Some(at) = new.iter().position(|n| n == kernel) {
                    places.insert(kernel, place(at));
                }
            }
            self.with(isa, |known| {
                if known.len() + new.len() > MOST {
                    known.clear();
                }
                known.extend(new.into_iter().enumerate().map(|(at, kernel)| (kernel, place(at))));
            });
        }
        Ok(Box::new(Joined(kernels.iter().filter_map(|k| places.get(k).cloned()).collect())))
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
    use crate::kernel::Lin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static COMPILED: AtomicUsize = AtomicUsize::new(0);

    /// Counts what it is asked to compile.
    struct Counting;

    impl RowBackend for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }

        fn compile(&self, kernels: &[Kernel], isa: Isa) -> Result<Box<dyn RowKernels>, Diagnostic> {
            COMPILED.fetch_add(kernels.len(), Ordering::Relaxed);
            super::super::interp::Interp.compile(kernels, isa)
        }
    }

    /// Kernels that differ in their number.
    fn kernel(n: usize) -> Kernel {
        Kernel { params: Vec::new(), temps: vec![Lin::fixed(n + 1)], body: Vec::new() }
    }

    #[test]
    fn a_kernel_is_compiled_once_for_an_instruction_set() {
        let remembered = Remembered::new(&Counting);
        let compiled = |kernels: Vec<Kernel>, isa| {
            let before = COMPILED.load(Ordering::Relaxed);
            let made = remembered.compile(&kernels, isa).unwrap();
            // Each is itself, whatever was compiled with it.
            for (i, k) in kernels.iter().enumerate() {
                let alone = super::super::interp::Interp.compile(std::slice::from_ref(k), isa).unwrap();
                let id = KernelId(i as u32);
                assert_eq!(made.scratch_len(id, 1), alone.scratch_len(KernelId(0), 1));
            }
            COMPILED.load(Ordering::Relaxed) - before
        };
        assert_eq!(compiled(vec![kernel(0), kernel(1)], Isa::Portable), 2);
        assert_eq!(compiled(vec![kernel(1), kernel(1)], Isa::Portable), 0);
        assert_eq!(compiled(vec![kernel(2), kernel(0), kernel(2)], Isa::Portable), 1);
        assert_eq!(compiled(vec![kernel(2), kernel(1)], Isa::Avx2), 2);
        // Past the most that is kept all are forgotten, but for those that were compiled last.
        assert_eq!(compiled((3..MOST).map(kernel).collect(), Isa::Portable), MOST - 3);
        assert_eq!(compiled(vec![kernel(0), kernel(MOST)], Isa::Portable), 1);
        assert_eq!(compiled(vec![kernel(MOST), kernel(0)], Isa::Portable), 1);
    }
}
