//! `--emit`: a stage of the compiler as text.

use super::Emit;
use crate::experiment::{PhaseOptions, Session, prepare_all};
use crate::{files, report};
use std::path::Path;
use steer_compiler::backend::cranelift::clif;
use steer_compiler::kernel::Kernel;
use steer_lang::{Diagnostics, Sources};

/// The syntax tree of a script.
pub fn ast(path: &Path, sources: &mut Sources) -> Result<(), Diagnostics> {
    let text = files::read_text(path).map_err(|e| vec![*e.0])?;
    let id = sources.add(path.display().to_string(), text.as_str());
    let (tree, diagnostics) = steer_lang::parse(id, &text);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    report::print(&format!("{tree:#?}\n")).map_err(|e| vec![*e.0])
}

/// A later stage of the phase that a script's statements make.
pub fn stage(session: &Session, options: &PhaseOptions, stage: Emit) -> Result<(), Diagnostics> {
    let experiment = prepare_all(session, options)?;
    let text = match stage {
        Emit::Llvm => llvm(&experiment.prepared.program.kernels)?,
        Emit::Ast => String::new(),
        Emit::Plan => experiment.prepared.plan.to_string(),
        Emit::Kir => experiment.prepared.program.to_string(),
        Emit::Clif => {
            let mut text = String::new();
            for kernel in &experiment.prepared.program.kernels {
                text.push_str(&clif(kernel).map_err(|d| vec![d])?);
                text.push('\n');
            }
            text
        }
    };
    report::print(&text).map_err(|e| vec![*e.0])
}

#[cfg(feature = "llvm")]
fn llvm(kernels: &[Kernel]) -> Result<String, Diagnostics> {
    steer_compiler::backend::llvm::llvm_ir(kernels).map_err(|d| vec![d])
}

#[cfg(not(feature = "llvm"))]
fn llvm(_: &[Kernel]) -> Result<String, Diagnostics> {
    Err(vec![*super::options::without_llvm("print LLVM's form of the kernels").0])
}
