//! Random plans: the program computes what the plan says, and every backend the same bits.

use super::run::{Naive, UNTAKEN, Values, World, execute};
use super::{Plans, Random};
use crate::backend::ROW_BACKENDS;
use crate::kernel;
use crate::plan::rules::{FUSE, NARROW, Options};
use crate::plan::*;
use crate::schedule::schedule;
use std::sync::Arc;
use steer_kernels::Isa;

const AXES: [(&str, usize); 4] = [("head", 3), ("dim", 20), ("one", 1), ("tap", 5)];

fn axes(random: &mut Random) -> Vec<Axis> {
    let mut all: Vec<usize> = (0..AXES.len()).collect();
    let mut axes = Vec::new();
    for _ in 0..1 + random.below(3) {
        let (name, n) = AXES[all.remove(random.below(all.len()))];
        axes.push(Axis::new(name, n));
    }
    axes
}

/// Grows a plan by one random node and returns it; `None` where the choice does not fit.
fn grow(p: &mut Plans, random: &mut Random, pool: &[NodeId]) -> Option<NodeId> {
    let a = pool[random.below(pool.len())];
    let b = pool[random.below(pool.len())];
    let c = pool[random.below(pool.len())];
    let ty = p.plan.ty(a).clone();
    let axis = (!ty.axes.is_empty()).then(|| ty.axes[random.below(ty.axes.len())].clone());
    let smooth = [Unary::Tanh, Unary::Sigmoid, Unary::Neg, Unary::Abs, Unary::Relu, Unary::Cos, Unary::Not];
    let plain = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max, Binary::Lt, Binary::Or];
    Some(match random.below(14) {
        0 | 1 => p.unary(smooth[random.below(smooth.len())], a),
        2..=4 => p.binary(plain[random.below(plain.len())], a, b),
        5 => p.select(a, b, c),
        6 | 7 => {
            let over = [&*axis?.name];
            p.reduce([Reduce::Sum, Reduce::Max, Reduce::SumSq, Reduce::Sum][random.below(4)], a, &over)
        }
        8 => {
            let mut axes = ty.axes.clone();
            let by = random.below(axes.len());
            axes.rotate_left(by);
            p.push(Op::Permute(a), axes, ty.per_row)
        }
        9 => {
            let (axis, mut axes) = (axis?, ty.axes.clone());
            let Size::Fixed(n) = axis.size else { return None };
            let at = ty.position_of(&axis.name)?;
            axes.remove(at);
            p.push(Op::At { of: a, axis: axis.name, index: random.below(n) }, axes, ty.per_row)
        }
        10 => {
            // Half of an axis, put back together the other way round.
            let (axis, at) = (axis.clone()?, ty.position_of(&axis?.name)?);
            let Size::Fixed(n) = axis.size else { return None };
            if n < 2 {
                return None;
            }
            let part = |p: &mut Plans, start: usize, len: usize| {
                let mut axes = ty.axes.clone();
                axes[at] = Axis::new(&axis.name, len);
                p.push(Op::Slice { of: a, axis: axis.name.clone(), start, len }, axes, ty.per_row)
            };
            let (low, high) = (part(p, 0, n / 2), part(p, n / 2, n - n / 2));
            p.push(Op::Concat(high, low, axis.name.clone()), ty.axes.clone(), ty.per_row)
        }
        11 => {
            let axis = axis?;
            let k = p.number(2.0);
            p.push(Op::TopK { of: a, axis: axis.name, k }, ty.axes.clone(), ty.per_row)
        }
        12 => {
            // A reshape to one axis and a view of it as two.
            let n = ty.len()?;
            let flat = p.push(Op::Reshape(a), vec![Axis::new("flat", n)], ty.per_row);
            p.push(Op::Reshape(flat), ty.axes.clone(), ty.per_row)
        }
        _ => {
            if !ty.per_row {
                return None;
            }
            let axis = axis?;
            let mut w = vec![Axis::new("tap", 5), axis.clone()];
            w.retain(|x| x.name == axis.name || !ty.axes.contains(x));
            w.dedup();
            let by = random.below(w.len());
            w.rotate_left(by);
            let name = format!("w{}", p.plan.tensors.len());
            let w = p.tensor(&name, w);
            p.linear(a, w, &[&axis.name])
        }
    })
}

/// An edit of a value: a few random nodes under a guard, with or without a receipt.
fn edit(p: &mut Plans, random: &mut Random, pool: &[NodeId]) -> Option<NodeId> {
    let rows: Vec<NodeId> = pool.iter().copied().filter(|n| p.plan.ty(*n).per_row).collect();
    let base = rows[random.below(rows.len())];
    let edit = p.edit(1);
    if random.below(4) == 0 {
        let ty = p.plan.ty(base).clone();
        let donor = p.push(Op::Donor(edit), ty.axes, true);
        let donor = if random.below(2) == 0 { donor } else { p.binary(Binary::Add, donor, base) };
        let after = p.overlay(edit, base, donor);
        if random.below(2) == 0 {
            p.receipts(edit, base, donor);
        }
        return Some(after);
    }
    let alpha = p.param(edit, 0);
    let mut value = base;
    for _ in 0..1 + random.below(3) {
        let other = pool[random.below(pool.len())];
        let fits = p.plan.ty(other).axes.iter().all(|a| p.plan.ty(base).axes.contains(a));
        let other = if fits { other } else { alpha };
        let scaled = p.binary(Binary::Mul, alpha, other);
        value = match random.below(3) {
            0 => p.binary(Binary::Add, value, scaled),
            1 => p.binary(Binary::Sub, value, scaled),
            _ => p.binary(Binary::Mul, value, alpha),
        };
    }
    if p.plan.ty(value).axes != p.plan.ty(base).axes {
        let axes = p.plan.ty(base).axes.clone();
        value = p.push(Op::Permute(value), axes, true);
    }
    let after = p.overlay(edit, base, value);
    if random.below(2) == 0 {
        p.receipts(edit, base, value);
    }
    Some(after)
}

fn plan(random: &mut Random) -> Plan {
    let mut p = Plans::default();
    let mut pool = Vec::new();
    for _ in 0..2 {
        let axes = axes(random);
        pool.push(p.embed(7, axes));
    }
    let first = axes(random);
    pool.push(p.tensor("c", first));
    pool.push(p.push(Op::Position, vec![], true));
    let number = p.number(0.5);
    pool.push(number);
    let table: Arc<[f32]> = (0..20).map(|i| i as f32 / 8.0).collect();
    pool.push(p.push(Op::Table(table), vec![Axis::new("dim", 20)], false));
    for _ in 0..10 + random.below(20) {
        let made = if random.below(5) == 0 { edit(&mut p, random, &pool) } else { grow(&mut p, random, &pool) };
        if let Some(n) = made.filter(|n| p.plan.ty(*n).len().is_some_and(|l| l <= 2000)) {
            pool.push(n);
        }
    }
    for i in 0..3 {
        let n = pool[pool.len() - 1 - i * random.below(3)];
        p.output(n);
    }
    p.plan
}

fn world(plan: &Plan, random: &mut Random) -> World {
    let rows = 6;
    let params = plan.edits.iter().map(|e| (0..rows * e.params.len()).map(|_| random.number()).collect());
    World {
        params: params.collect(),
        tokens: (0..rows).map(|_| random.below(7)).collect(),
        tensors: plan
            .tensors
            .iter()
            .map(|t| {
                (0..Type { axes: t.axes.clone(), elem: Elem::F32, per_row: false }.len().unwrap())
                    .map(|_| random.number())
                    .collect()
            })
            .collect(),
        guards: plan.edits.iter().map(|_| (0..rows).map(|_| random.below(2) as f32).collect()).collect(),
        donors: plan.edits.iter().map(|_| 0).collect(),
    }
}

fn bits(values: &Values) -> Vec<Vec<u32>> {
    let canonical = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    values.0.iter().chain(&values.1).map(|v| v.iter().map(canonical).collect()).collect()
}

#[test]
fn programs_compute_their_plans_on_every_backend() {
    for seed in 0..400 {
        let random = &mut Random(seed);
        let plan = plan(random);
        let mut world = world(&plan, random);
        // A donor is never patched itself.
        for guard in &mut world.guards {
            guard[0] = 0.0;
        }
        let mut expected: Option<Vec<Vec<u32>>> = None;
        let mut got = None;
        for disable in [vec![], vec![NARROW.name], vec![FUSE.name], vec![NARROW.name, FUSE.name]] {
            let disable = disable.into_iter().map(str::to_owned).collect();
            let options = Options { disable, stop_after: None };
            let (program, _) = schedule(&plan, &options).unwrap_or_else(|e| panic!("seed {seed}: {}", e.message));
            for kernel in &program.kernels {
                let text = kernel.to_string();
                assert_eq!(kernel::parse(&text).as_ref(), Ok(kernel), "seed {seed}: {text}");
            }
            for backend in ROW_BACKENDS {
                for isa in Isa::supported() {
                    let kernels = backend.compile(&program.kernels, isa).unwrap();
                    let values = execute(&plan, &program, &*kernels, &world);
                    let bits = bits(&values);
                    let expected = expected.get_or_insert_with(|| bits.clone());
                    let about = || format!("{} {} without {:?}", backend.name(), isa.name(), options.disable);
                    assert_eq!(*expected, bits, "seed {seed}: {}\n{program}", about());
                    got = Some(values);
                }
            }
        }
        let (outputs, receipts) = got.unwrap();
        let mut naive = Naive::new(&plan, &world);
        let close = |a: f32, b: f32| {
            (a - b).abs() <= 2e-3 * (1.0 + a.abs().max(b.abs())) || (a.is_nan() && b.is_nan()) || a == b
        };
        for (i, output) in plan.outputs.iter().enumerate() {
            let rows = if program_is_row(&plan, output.node, outputs[i].len()) { world.tokens.len() } else { 1 };
            let len = outputs[i].len() / rows;
            for row in 0..rows {
                let want = naive.value(output.node, row);
                let have = &outputs[i][row * len..(row + 1) * len];
                let fits = want.len() == len && want.iter().zip(have).all(|(a, b)| close(*a, *b));
                assert!(fits, "seed {seed}: output {i} of row {row}: {want:?} is {have:?}");
            }
        }
        for node in &plan.nodes {
            if let Op::Receipt { edit, stat, value } = node.op {
                for row in 0..world.tokens.len() {
                    if world.guards[edit.0 as usize][row] != 0.0 {
                        let (want, have) =
                            (naive.value(value, row)[0], receipts[edit.0 as usize][row * Stat::COUNT + stat as usize]);
                        // A count of changes depends on every bit of the two sides.
                        let taken = have != UNTAKEN && stat != Stat::Changed;
                        assert!(!taken || close(want, have), "seed {seed}: {want} is {have}");
                    }
                }
            }
        }
    }
}

fn program_is_row(plan: &Plan, node: NodeId, len: usize) -> bool {
    plan.ty(node).len() != Some(len)
}
