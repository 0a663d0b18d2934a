//! How many experts a row chooses at most, and the memory that their matrices take.

use super::constants::{Wanted, chooses, instrs, wanted};
use super::matrices::Parts;
use crate::engine::WeightSource;
use std::collections::{HashMap, HashSet};
use steer_compiler::plan::{Binary, NodeId, Op, Plan, Unary};
use steer_compiler::program::{ConstSource, Instr, MatrixView, Program};

/// Matrices of which each row chooses some: they are read when a row first does.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The same for equal views.
    pub key: String,
    /// How many there are, the bytes of each, and of what is read for it.
    pub count: u64,
    pub bytes: u64,
    pub reading: u64,
    /// How many of them a row chooses at most.
    pub by_row: u64,
}

impl Chosen {
    /// The memory that they take when so many rows have chosen, at most.
    pub fn of_rows(&self, rows: u64) -> u64 {
        self.bytes.saturating_mul(self.count.min(rows.saturating_mul(self.by_row)))
    }
}

/// All of them in a program, equal ones once.
pub fn chosen(plan: &Plan, program: &Program, weights: &dyn WeightSource) -> Vec<Chosen> {
    let mut found: HashMap<String, Chosen> = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    let all: HashSet<String> = instrs(program).filter(|i| !chooses(i)).flat_map(wanted).map(|w| w.key()).collect();
    for instr in instrs(program).filter(|i| chooses(i)) {
        let gates = match instr {
            Instr::Experts(experts) => experts.gates,
            Instr::Linear { active: Some(active), .. } => *active,
            _ => continue,
        };
        let by_row = most(plan, program.buffers[gates.0 as usize].node);
        for one in wanted(instr) {
            let Wanted::Matrix(view) = &one else { continue };
            let (ConstSource::Weight(_), Some(count), Some(span)) = (view.source, entries(view), later(view)) else {
                continue;
            };
            // What is stored as it is computed with is not read apart.
            let stored = one.format(plan, weights);
            let reading = if stored.is_some() { 0 } else { span };
            let key = one.key();
            if all.contains(&key) {
                continue;
            }
            let chosen = found.entry(key.clone()).or_insert_with(|| {
                order.push(key.clone());
                let bytes = one.bytes(stored.unwrap_or_default()) / count.max(1);
                Chosen { key, count, bytes, reading, by_row: 0 }
            });
            chosen.by_row = chosen.by_row.max(by_row);
        }
    }
    order.iter().filter_map(|key| found.remove(key)).collect()
}

fn entries(view: &MatrixView) -> Option<u64> {
    view.batch.iter().try_fold(1u64, |n, d| n.checked_mul(d.0 as u64))
}

/// The bytes that are read of a weight for one matrix, if they are read one by one.
fn later(view: &MatrixView) -> Option<u64> {
    Parts::of(view).apart().map(|span| 4 * span.len() as u64)
}

/// How many entries of a value differ from 0 in a row, at most.
fn most(plan: &Plan, n: NodeId) -> u64 {
    nonzero(plan, n, &mut HashMap::new())
}

fn nonzero(plan: &Plan, n: NodeId, known: &mut HashMap<NodeId, u64>) -> u64 {
    if let Some(count) = known.get(&n) {
        return *count;
    }
    let len = |n: NodeId| plan.ty(n).len().unwrap_or(usize::MAX) as u64;
    let all = len(n);
    let is = |n: NodeId, x: f32| matches!(plan.node(n).op, Op::Number(y) if y == x);
    let mut of = |m: NodeId| match plan.node(m).op {
        Op::Number(0.0) => 0,
        _ if len(m) == all => nonzero(plan, m, known),
        _ => all,
    };
    let count = match plan.node(n).op {
        Op::TopK { of, k, .. } if len(of) == all && plan.ty(n).axes.len() == 1 => largest(plan, k).unwrap_or(all),
        Op::Binary(Binary::Mul | Binary::And, a, b) => of(a).min(of(b)),
        Op::Binary(Binary::Div, a, _) => of(a),
        Op::Binary(Binary::Gt | Binary::Ne, a, zero) if is(zero, 0.0) => of(a),
        Op::Binary(Binary::Add | Binary::Sub | Binary::Min | Binary::Max | Binary::Or, a, b) => {
            of(a).saturating_add(of(b))
        }
        Op::Unary(Unary::Neg | Unary::Abs, a) | Op::Permute(a) | Op::Reshape(a) => of(a),
        Op::Select(cond, a, b) => of(cond).min(of(a)).saturating_add(of(b)),
        Op::Overlay { base, value, .. } => of(base).max(of(value)),
        _ => all,
    };
    let count = count.min(all);
    known.insert(n, count);
    count
}

/// The largest that a number may be, where the compiler knows it.
fn largest(plan: &Plan, n: NodeId) -> Option<u64> {
    match plan.node(n).op {
        // As many as are counted before the number is reached.
        Op::Number(x) => Some(x.max(0.0).ceil() as u64),
        Op::Overlay { base, value, .. } => Some(largest(plan, base)?.max(largest(plan, value)?)),
        _ => None,
    }
}
