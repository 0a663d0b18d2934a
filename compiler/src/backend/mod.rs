//! What executes row kernels in this process.

pub mod cranelift;
mod interp;
#[cfg(feature = "llvm")]
pub mod llvm;
mod remembered;

use crate::kernel::Kernel;
use crate::program::KernelId;
use remembered::Remembered;
use std::ops::Range;
use std::sync::LazyLock;
use steer_kernels::Isa;
use steer_lang::Diagnostic;

/// A way to execute row kernels.
pub trait RowBackend: Send + Sync {
    /// The name by which a user chooses it.
    fn name(&self) -> &'static str;

    /// Makes verified kernels ready to be called, with the row primitives of an instruction set.
    fn compile(&self, kernels: &[Kernel], isa: Isa) -> Result<Box<dyn RowKernels>, Diagnostic>;
}

/// Kernels that are ready to be called, from any number of threads at once.
pub trait RowKernels: Send + Sync {
    /// Executes a kernel on the rows `rows` of its arguments. `keys` is the number of keys of the one
    /// row that a body works on, and of no meaning to other kernels.
    ///
    /// # Safety
    /// `args` holds one pointer for each parameter of the kernel, aligned for `f32`. A parameter whose
    /// kind is [per row](crate::kernel::ParamKind::per_row) is valid for `len` floats at `r * len` for
    /// each row `r` of `rows`; any other for `len` floats. Parameters marked `out` are writable, and
    /// overlap no other one. `keys` is at least 1, `scratch` holds at least
    /// [`RowKernels::scratch_len`] floats at any alignment, whose contents do not matter, and no other
    /// thread uses it.
    unsafe fn call(&self, kernel: KernelId, args: &[*mut f32], rows: Range<usize>, keys: usize, scratch: &mut [f32]);

    /// The floats of scratch that a call of a kernel needs.
    fn scratch_len(&self, kernel: KernelId, keys: usize) -> usize;
}

/// Every row backend, the default first.
pub const ROW_BACKENDS: &[&dyn RowBackend] = &[
    #[cfg(feature = "llvm")]
    &llvm::Llvm,
    &cranelift::Cranelift,
    &interp::Interp,
];

/// The name of the backend that is used where nobody chooses one.
pub const DEFAULT: &str = if cfg!(feature = "llvm") { "llvm" } else { "cranelift" };

/// The row backend of a name; it compiles no kernel twice in this process.
pub fn row_backend(name: &str) -> Option<&'static dyn RowBackend> {
    static REMEMBERED: LazyLock<Vec<Remembered>> =
        LazyLock::new(|| ROW_BACKENDS.iter().map(|b| Remembered::new(*b)).collect());
    REMEMBERED.iter().find(|b| b.name() == name).map(|b| b as &dyn RowBackend)
}
