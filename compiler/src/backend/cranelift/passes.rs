//! Which statements of a kernel go through a row together.
//!
//! A primitive is a pass over memory, so there should be few. A sum joins the statement that writes what it sums. A
//! selection by one number for the whole row is a branch: each side computes what it alone needs, straight to where the
//! selection stores.

use crate::kernel::depend::{Dependence, accesses, dependence, is_sequential, one_to_one, reduces};
use crate::kernel::{Base, Kernel, Layout, Lin, Operand, Pass, Ref, Stmt, VecOp, Vector};

/// Passes in order, under the same guards; without guards on every row.
pub(super) struct Region {
    pub guards: Vec<u32>,
    pub passes: Vec<Pass>,
}

/// A statement by itself, or a selection as a branch.
fn pass(v: &Vector) -> Pass {
    let mut pass = Pass::of(v);
    if selects_rows(v) {
        let copy = |from: &Operand| vec![Vector { op: VecOp::Copy, srcs: vec![from.clone()], ..v.clone() }];
        pass.condition = Some(v.srcs[0].clone());
        pass.lists = v.srcs[1..].iter().map(copy).collect();
    }
    pass
}

fn is_condition(pass: &Pass, base: Base) -> bool {
    pass.condition.as_ref().and_then(|c| c.as_ref()).is_some_and(|r| r.base == base)
}

/// Whether a statement may be executed with a pass, line by line.
fn agrees(pass: &Pass, v: &Vector) -> bool {
    pass.loops == v.loops
        && !is_condition(pass, v.dst.base)
        && pass.statements().all(|s| dependence(s, v) != Dependence::All && dependence(v, s) != Dependence::All)
}

/// Whether a statement may be executed before or after a pass.
fn is_independent(pass: &Pass, v: &Vector) -> bool {
    !is_condition(pass, v.dst.base) && pass.statements().all(|s| dependence(s, v) == Dependence::None)
}

/// Whether a statement is a selection by the same number along the last loop.
fn selects_rows(v: &Vector) -> bool {
    let same = match v.srcs.first() {
        Some(Operand::Ref(r)) => r.strides.last() == Some(&Lin::ZERO),
        _ => true,
    };
    v.op == VecOp::Select && !v.loops.is_empty() && same && !is_sequential(v)
}

/// A kernel's statements as they are executed, and where its temporaries then lie.
pub(super) struct Passes {
    pub regions: Vec<Region>,
    pub layout: Layout,
}

impl Passes {
    pub fn of(kernel: &Kernel) -> Passes {
        let regions = regions(kernel);
        let layout = Layout::of_passes(&kernel.temps, &regions.iter().flat_map(|r| &r.passes).collect::<Vec<_>>());
        Passes { regions, layout }
    }
}

fn regions(kernel: &Kernel) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for stmt in &kernel.body {
        match stmt {
            Stmt::Vector(v) => match regions.last_mut() {
                Some(Region { guards, passes }) if guards.is_empty() => passes.push(pass(v)),
                _ => regions.push(Region { guards: Vec::new(), passes: vec![pass(v)] }),
            },
            Stmt::If { guards, body } => {
                let passes = body.iter().filter_map(|s| match s {
                    Stmt::Vector(v) => Some(pass(v)),
                    Stmt::If { .. } => None,
                });
                regions.push(Region { guards: guards.clone(), passes: passes.collect() });
            }
        }
    }
    let uses = uses(kernel);
    for region in &mut regions {
        join_sums(&mut region.passes);
        sink(&mut region.passes, &uses);
    }
    regions
}

/// How often each temporary is written and read.
fn uses(kernel: &Kernel) -> Vec<(usize, usize)> {
    let mut uses = vec![(0, 0); kernel.temps.len()];
    kernel.for_each(&mut |v, _| {
        for (r, written) in accesses(v) {
            if let Base::Temp(t) = r.base {
                let (writes, reads) = &mut uses[t as usize];
                *if written { writes } else { reads } += 1;
            }
        }
    });
    uses
}

/// The statement of a pass that has but one.
fn alone(pass: &Pass) -> Option<&Vector> {
    match &pass.lists[..] {
        [list] if list.len() == 1 => list.first(),
        _ => None,
    }
}

/// Lets reductions join the pass that stores what they reduce.
fn join_sums(passes: &mut Vec<Pass>) {
    let mut at = 0;
    while at < passes.len() {
        let sum = alone(&passes[at]).filter(|v| reduces(v) && !is_sequential(v)).cloned();
        match sum.and_then(|v| Some((stores(&passes[..at], &v)?, v))) {
            Some((pass, v)) => {
                passes.remove(at);
                passes[pass].lists.iter_mut().for_each(|list| list.push(v.clone()));
            }
            None => at += 1,
        }
    }
}

/// The pass that a reduction may join.
fn stores(passes: &[Pass], v: &Vector) -> Option<usize> {
    let stores = |list: &Vec<Vector>| {
        let stored = list.iter().rfind(|s| !reduces(s));
        stored.is_some_and(|s| {
            let reduced = v.srcs.iter().any(|src| src.as_ref() == Some(&s.dst));
            s.op.is_map() && reduced && !is_sequential(s) && one_to_one(&s.loops, &s.dst)
        })
    };
    for (i, pass) in passes.iter().enumerate().rev() {
        if agrees(pass, v) && pass.lists.iter().all(stores) {
            return Some(i);
        }
        if !is_independent(pass, v) {
            return None;
        }
    }
    None
}

/// Moves what only one side of a branch needs into it.
fn sink(passes: &mut Vec<Pass>, uses: &[(usize, usize)]) {
    let mut at = 0;
    while at < passes.len() {
        while let Some((from, arm)) = sinks(passes, at, uses) {
            let list = passes.remove(from).lists.swap_remove(0);
            at -= 1;
            let arm = &mut passes[at].lists[arm];
            arm.splice(0..0, list);
            straight(arm, uses);
        }
        at += 1;
    }
}

/// A pass before the branch `at` that only one of its sides needs, and which.
fn sinks(passes: &[Pass], at: usize, uses: &[(usize, usize)]) -> Option<(usize, usize)> {
    let branch = &passes[at];
    branch.condition.as_ref()?;
    passes[..at].iter().enumerate().rev().find_map(|(from, pass)| {
        let v = alone(pass).filter(|v| v.op.is_map() && !is_sequential(v) && one_to_one(&v.loops, &v.dst))?;
        let Base::Temp(t) = v.dst.base else { return None };
        let reads = |list: &Vec<Vector>| list.iter().flat_map(accesses).filter(|(r, _)| **r == v.dst).count();
        let arm = branch.lists.iter().position(|list| (1, reads(list)) == uses[t as usize])?;
        let moves = passes[from + 1..at].iter().all(|p| is_independent(p, v)) && agrees(branch, v);
        moves.then_some((from, arm))
    })
}

/// Stores the first statement's result where the copy behind it would bring it.
fn straight(list: &mut Vec<Vector>, uses: &[(usize, usize)]) {
    let [v, copy, ..] = &list[..] else { return };
    let Base::Temp(t) = v.dst.base else { return };
    let copies = copy.op == VecOp::Copy && copy.srcs[0].as_ref() == Some(&v.dst) && uses[t as usize].1 == 1;
    let result = Vector { dst: copy.dst.clone(), ..v.clone() };
    let keeps = |r: &Ref| r.base != result.dst.base || *r == result.dst;
    if copies && result.srcs.iter().filter_map(|s| s.as_ref()).all(keeps) {
        list.splice(..2, [result]);
    }
}
