//! What edits are given on each row, and what they leave behind.

use super::RowsEngine;
use super::exec::Frame;
use super::number::{ByNumber, Kind, mixed};
use super::share::NONE;
use crate::engine::{Did, RowReceipt, StepResult};
use steer_compiler::plan::{EditId, Stat};
use steer_compiler::program::{Instr, KernelArg, Program, Stretch};

/// By stretch, the edits that its instructions ask about: those that begin there, and earlier ones whose
/// work is spread over several kernels.
pub fn acting(program: &Program) -> Vec<Vec<EditId>> {
    by_stretch(program, |arg| match arg {
        KernelArg::Guard(e) | KernelArg::Params(e) | KernelArg::Receipt(e) => Some(*e),
        _ => None,
    })
}

/// By stretch, the edits of which it leaves receipts: of the parts of a route, and of an edit whose work begins before the
/// value that it changes is there, not every one.
pub fn told(program: &Program) -> Vec<Vec<EditId>> {
    by_stretch(program, |arg| if let KernelArg::Receipt(e) = arg { Some(*e) } else { None })
}

fn by_stretch(program: &Program, edit: impl Fn(&KernelArg) -> Option<EditId>) -> Vec<Vec<EditId>> {
    let of = |stretch: &Stretch| {
        let mut edits = Vec::new();
        for e in stretch.instrs.iter().flat_map(args).filter_map(&edit) {
            if !edits.contains(&e) {
                edits.push(e);
            }
        }
        edits
    };
    program.stretches.iter().map(of).collect()
}

fn args(instr: &Instr) -> &[KernelArg] {
    match instr {
        Instr::Kernel(call) => &call.args,
        Instr::Attention { body: Some(body), .. } | Instr::Scan { body: Some(body), .. } => &body.call.args,
        _ => &[],
    }
}

/// What one edit is given, and what it leaves behind, by row.
pub struct Asked {
    pub edit: EditId,
    pub guard: Vec<f32>,
    pub params: Vec<f32>,
    pub receipts: Vec<f32>,
}

/// Guards and parameters of edits, by row.
pub fn edit_inputs(engine: &RowsEngine, frame: &mut Frame) {
    for &edit in &engine.acting[frame.stretch] {
        let slots = engine.plan.edits[edit.0 as usize].params.len();
        let n = frame.count();
        let (mut guard, mut params) = (vec![0.0; n], vec![0.0; n * slots]);
        for u in engine.users.of(edit) {
            let given = &engine.runs[u.run].run.edits[u.place].params;
            for row in frame.step.active(*u) {
                let j = frame.rows.map[row as usize];
                if j == NONE {
                    continue;
                }
                let j = j as usize;
                guard[j] = 1.0;
                for (slot, p) in params[j * slots..(j + 1) * slots].iter_mut().zip(given) {
                    *slot = *p;
                }
            }
        }
        frame.asked.push(Asked { edit, guard, params, receipts: vec![0.0; n * Stat::COUNT] });
    }
}

/// Where the receipts of a step stand, by edit and row: an edit's numbers may come from several stretches.
#[derive(Default)]
pub struct Taken {
    at: ByNumber<usize>,
}

/// Adds what the kernels of a stretch stored.
pub fn receipts(engine: &RowsEngine, frame: &Frame, taken: &mut Taken, result: &mut StepResult) {
    for &edit in &engine.told[frame.stretch] {
        let Some(asked) = frame.asked(edit) else { continue };
        for u in engine.users.of(edit) {
            for row in frame.step.active(*u) {
                let j = frame.rows.map[row as usize];
                if j == NONE {
                    continue;
                }
                let did: Did = std::array::from_fn(|k| asked.receipts[j as usize * Stat::COUNT + k]);
                let next = result.receipts.len();
                let place = mixed(Kind::Edited, u128::from(edit.0) << 32 | u128::from(row));
                let known = *taken.at.entry(place).or_insert(next);
                match result.receipts.get_mut(known) {
                    Some(r) => r.did.iter_mut().zip(did).for_each(|(sum, more)| *sum += more),
                    None => {
                        let (run, position) = (u.run, frame.step.rows[row as usize].position);
                        result.receipts.push(RowReceipt { run, edit, position, did });
                    }
                }
            }
        }
    }
}
