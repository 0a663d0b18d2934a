//! Executes programs without mixing ops, and plans node by node, to compare the two.

use crate::backend::RowKernels;
use crate::plan::*;
use crate::program::*;
use std::collections::HashMap;

/// What a test computes on.
pub(super) struct World {
    pub tokens: Vec<usize>,
    pub tensors: Vec<Vec<f32>>,
    /// By edit: the guard of each row, and the parameters.
    pub guards: Vec<Vec<f32>>,
    pub params: Vec<Vec<f32>>,
    /// By edit: the row that a row takes values from.
    pub donors: Vec<usize>,
}

/// What a receipt holds that no kernel took.
pub(super) const UNTAKEN: f32 = -1.0;

/// The outputs by row, and the receipts by edit.
pub(super) type Values = (Vec<Vec<f32>>, Vec<Vec<f32>>);

pub(super) fn execute(plan: &Plan, program: &Program, kernels: &dyn RowKernels, world: &World) -> Values {
    let rows = world.tokens.len();
    let mut m = Machine {
        program,
        world,
        kernels,
        buffers: program.buffers.iter().map(|b| vec![f32::NAN; b.len * if b.per_row { rows } else { 1 }]).collect(),
        lens: program.buffers.iter().map(|b| (b.len, b.per_row)).collect(),
        receipts: vec![vec![UNTAKEN; rows * Stat::COUNT]; plan.edits.len()],
        donors: vec![Vec::new(); plan.edits.len()],
    };
    for instr in &program.prelude {
        m.instr(instr, 1);
    }
    for stretch in &program.stretches {
        for patch in &stretch.patches {
            let (len, _) = m.lens[patch.base.0 as usize];
            let edit = patch.edit.0 as usize;
            let from = world.donors[edit];
            let row = m.buffers[patch.base.0 as usize][from * len..(from + 1) * len].to_vec();
            if patch.whole {
                for r in (0..rows).filter(|r| world.guards[edit][*r] != 0.0) {
                    m.buffers[patch.base.0 as usize][r * len..(r + 1) * len].copy_from_slice(&row);
                }
            } else {
                m.donors[edit] = row.repeat(rows);
            }
        }
        for instr in &stretch.instrs {
            m.instr(instr, rows);
        }
    }
    let outputs = program.outputs.iter().map(|o| match o {
        OutputPlace::Buffer { buffer, .. } => m.buffers[buffer.0 as usize].clone(),
        OutputPlace::Body { .. } => panic!("no bodies here"),
    });
    (outputs.collect(), m.receipts)
}

struct Machine<'a> {
    program: &'a Program,
    world: &'a World,
    kernels: &'a dyn RowKernels,
    buffers: Vec<Vec<f32>>,
    lens: Vec<(usize, bool)>,
    receipts: Vec<Vec<f32>>,
    donors: Vec<Vec<f32>>,
}

impl Machine<'_> {
    fn constant(&self, source: ConstSource) -> &[f32] {
        match source {
            ConstSource::Tensor(t) => &self.world.tensors[t.0 as usize],
            ConstSource::Computed(b) => &self.buffers[b.0 as usize],
            ConstSource::Weight(_) => panic!("no weights here"),
        }
    }

    fn view(&self, view: &ConstView) -> Vec<f32> {
        let dims: Vec<Dim> =
            view.dims.iter().map(|(a, s)| (if let Size::Fixed(n) = a.size { n } else { 1 }, *s)).collect();
        offsets(&dims).into_iter().map(|o| self.constant(view.source)[view.offset + o]).collect()
    }

    fn instr(&mut self, instr: &Instr, rows: usize) {
        match instr {
            Instr::Kernel(call) => self.kernel(call, rows),
            Instr::Lookup { table, index: LookupIndex::Token, y } => {
                let (table, len) = (self.view(table), self.lens[y.0 as usize].0);
                for r in 0..rows {
                    let t = self.world.tokens[r];
                    self.buffers[y.0 as usize][r * len..(r + 1) * len].copy_from_slice(&table[t * len..(t + 1) * len]);
                }
            }
            Instr::Linear { x, w, y, extra, x_has_batch, active: None, .. } => {
                let source = self.constant(w.source).to_vec();
                let (batch, out, inner) = (offsets(&w.batch), offsets(&w.out), offsets(&w.inner));
                let x_len = self.lens[x.0 as usize].0;
                let mut result = Vec::new();
                for r in 0..rows {
                    let x = &self.buffers[x.0 as usize][r * x_len..(r + 1) * x_len];
                    for e in 0..*extra {
                        for (b, batch_at) in batch.iter().enumerate() {
                            let block = if *x_has_batch { e * batch.len() + b } else { e };
                            for o in &out {
                                let w = |i: &usize| source[w.offset + batch_at + o + i];
                                let terms = inner.iter().enumerate().map(|(i, at)| w(at) * x[block * inner.len() + i]);
                                result.push(terms.sum());
                            }
                        }
                    }
                }
                self.buffers[y.0 as usize] = result;
            }
            other => panic!("not executed here: {other}"),
        }
    }

    fn kernel(&mut self, call: &KernelCall, rows: usize) {
        let mut own: Vec<Vec<f32>> = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            own.push(match arg {
                KernelArg::Buffer(_) | KernelArg::Receipt(_) => Vec::new(),
                KernelArg::Const(view) => self.view(view),
                KernelArg::Table(numbers) => numbers.to_vec(),
                KernelArg::Numbers(numbers) => numbers.clone(),
                KernelArg::Token => self.world.tokens.iter().map(|t| *t as f32).collect(),
                KernelArg::Position => (0..rows).map(|r| r as f32).collect(),
                KernelArg::Guard(e) => self.world.guards[e.0 as usize].clone(),
                KernelArg::Params(e) => self.world.params[e.0 as usize].clone(),
                KernelArg::Donor(e) => self.donors[e.0 as usize].clone(),
                KernelArg::Body(_) | KernelArg::Result(_) | KernelArg::FirstKey => panic!("no bodies here"),
            });
        }
        let mut pointers: Vec<*mut f32> = Vec::new();
        let params = &self.program.kernels[call.kernel.0 as usize].params;
        for ((arg, own), param) in call.args.iter().zip(&mut own).zip(params) {
            let have = match arg {
                KernelArg::Buffer(b) => self.buffers[b.0 as usize].len(),
                KernelArg::Receipt(e) => self.receipts[e.0 as usize].len(),
                _ => own.len(),
            };
            assert_eq!(have, param.len.fixed * if param.kind.per_row() { rows } else { 1 }, "{arg}");
            pointers.push(match arg {
                KernelArg::Buffer(b) => self.buffers[b.0 as usize].as_mut_ptr(),
                KernelArg::Receipt(e) => self.receipts[e.0 as usize].as_mut_ptr(),
                _ => own.as_mut_ptr(),
            });
        }
        let mut scratch = vec![f32::NAN; self.kernels.scratch_len(call.kernel, 1)];
        // SAFETY: every buffer holds `rows` rows of the length that the program says.
        unsafe { self.kernels.call(call.kernel, &pointers, 0..rows, 1, &mut scratch) }
    }
}

fn offsets(dims: &[Dim]) -> Vec<usize> {
    let mut all = vec![0];
    for (n, stride) in dims {
        all = all.iter().flat_map(|o| (0..*n).map(move |i| o + i * stride)).collect();
    }
    all
}

/// The plan itself, one node of one row at a time.
pub(super) struct Naive<'a> {
    pub plan: &'a Plan,
    pub world: &'a World,
    memo: HashMap<(NodeId, usize), Vec<f32>>,
}

impl<'a> Naive<'a> {
    pub fn new(plan: &'a Plan, world: &'a World) -> Self {
        Naive { plan, world, memo: HashMap::new() }
    }

    pub fn value(&mut self, n: NodeId, row: usize) -> Vec<f32> {
        if let Some(v) = self.memo.get(&(n, row)) {
            return v.clone();
        }
        let v = self.compute(n, row);
        self.memo.insert((n, row), v.clone());
        v
    }

    /// The operand's element for each element of the result, matched by axis names.
    fn spread(&mut self, n: NodeId, row: usize, ty: &Type) -> Vec<f32> {
        let value = self.value(n, row);
        let from = &self.plan.ty(n).axes;
        indices(ty).into_iter().map(|index| value[flat(from, |a| index[ty.position_of(a).unwrap()])]).collect()
    }

    fn compute(&mut self, n: NodeId, row: usize) -> Vec<f32> {
        let node = self.plan.node(n).clone();
        let ty = &node.ty;
        match &node.op {
            Op::Number(x) => vec![*x],
            Op::Token => vec![self.world.tokens[row] as f32],
            Op::Position => vec![row as f32],
            Op::Layer => vec![node.layer.unwrap_or(0) as f32],
            Op::Table(numbers) => numbers.to_vec(),
            Op::Tensor(t) => self.world.tensors[t.0 as usize].clone(),
            Op::Param { edit, slot } => {
                let count = self.plan.edits[edit.0 as usize].params.len();
                vec![self.world.params[edit.0 as usize][row * count + *slot as usize]]
            }
            Op::Donor(edit) => {
                let base = self.plan.nodes.iter().find_map(|n| match n.op {
                    Op::Overlay { edit: e, base, .. } if e == *edit => Some(base),
                    _ => None,
                });
                let from = self.world.donors[edit.0 as usize];
                self.value(base.unwrap(), from)
            }
            Op::Unary(op, a) => self.spread(*a, row, ty).into_iter().map(|x| op.apply(x)).collect(),
            Op::Binary(op, a, b) => {
                let (a, b) = (self.spread(*a, row, ty), self.spread(*b, row, ty));
                a.into_iter().zip(b).map(|(x, y)| op.apply(x, y)).collect()
            }
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.spread(*c, row, ty), self.spread(*a, row, ty), self.spread(*b, row, ty));
                (0..c.len()).map(|i| if c[i] != 0.0 { a[i] } else { b[i] }).collect()
            }
            Op::Permute(a) => self.spread(*a, row, ty),
            Op::Reshape(a) => self.value(*a, row),
            Op::Reduce(op, a, _) => {
                let from = self.plan.ty(*a).clone();
                let value = self.value(*a, row);
                let mut groups: Vec<Vec<f32>> = vec![Vec::new(); ty.len().unwrap()];
                for (index, x) in indices(&from).into_iter().zip(value) {
                    groups[flat(&ty.axes, |a| index[from.position_of(a).unwrap()])].push(x);
                }
                groups.iter().map(|g| op.apply(g)).collect()
            }
            Op::TopK { of, axis, k } => {
                let (value, k) = (self.value(*of, row), self.value(*k, row)[0]);
                let at = ty.position_of(axis).unwrap();
                let all = indices(ty);
                let beats = |i: usize, j: usize| value[j] > value[i] || (value[j] == value[i] && j < i);
                let same_line = |i: usize, j: usize| (0..ty.axes.len()).all(|d| d == at || all[i][d] == all[j][d]);
                let better = |i: usize| (0..all.len()).filter(|j| same_line(i, *j) && beats(i, *j)).count();
                (0..all.len()).map(|i| if better(i) < k as usize { 1.0 } else { 0.0 }).collect()
            }
            Op::Slice { of, axis, start, .. } => self.indexed(*of, row, ty, axis, |i| i + start),
            Op::Pick { of, axis, entries } => self.indexed(*of, row, ty, axis, |i| entries[i] as usize),
            Op::At { of, axis, index } => {
                let (value, from) = (self.value(*of, row), self.plan.ty(*of).clone());
                let at = |a: &str, ix: &[usize]| if a == &**axis { *index } else { ix[ty.position_of(a).unwrap()] };
                indices(ty).into_iter().map(|ix| value[flat(&from.axes, |a| at(a, &ix))]).collect()
            }
            Op::Concat(a, b, axis) => {
                let (x, y) = (self.value(*a, row), self.value(*b, row));
                let (ta, tb) = (self.plan.ty(*a).clone(), self.plan.ty(*b).clone());
                let at = ty.position_of(axis).unwrap();
                let split = match ta.axes[ta.position_of(axis).unwrap()].size {
                    Size::Fixed(n) => n,
                    Size::Keys => panic!("no keys here"),
                };
                let pick = |mut ix: Vec<usize>| {
                    let (value, from) = if ix[at] < split { (&x, &ta) } else { (&y, &tb) };
                    if ix[at] >= split {
                        ix[at] -= split;
                    }
                    value[flat(&from.axes, |a| ix[ty.position_of(a).unwrap()])]
                };
                indices(ty).into_iter().map(pick).collect()
            }
            Op::Lookup { table, .. } => {
                let len = ty.len().unwrap();
                self.value(*table, row)[self.world.tokens[row] * len..][..len].to_vec()
            }
            Op::Linear { x, w, over, .. } => {
                let (xv, wv) = (self.value(*x, row), self.value(*w, row));
                let (xt, wt) = (self.plan.ty(*x).clone(), self.plan.ty(*w).clone());
                let summed: Vec<Axis> = xt.axes.iter().filter(|a| over.contains(&a.name)).cloned().collect();
                let summed = Type { axes: summed, ..xt.clone() };
                let one = |ix: &[usize]| -> f32 {
                    let terms = indices(&summed).into_iter().map(|s| {
                        let at =
                            |a: &str| summed.position_of(a).map_or_else(|| ix[ty.position_of(a).unwrap()], |d| s[d]);
                        xv[flat(&xt.axes, at)] * wv[flat(&wt.axes, at)]
                    });
                    terms.sum()
                };
                indices(ty).iter().map(|ix| one(ix)).collect()
            }
            Op::Overlay { edit, base, value } => {
                let active = self.world.guards[edit.0 as usize][row] != 0.0;
                let chosen = if active { *value } else { *base };
                self.spread(chosen, row, ty)
            }
            Op::Receipt { value, .. } => self.value(*value, row),
            other => panic!("not executed here: {other:?}"),
        }
    }

    fn indexed(&mut self, of: NodeId, row: usize, ty: &Type, axis: &str, f: impl Fn(usize) -> usize) -> Vec<f32> {
        let (value, from) = (self.value(of, row), self.plan.ty(of).clone());
        let at = |a: &str, ix: &[usize]| {
            let i = ix[ty.position_of(a).unwrap()];
            if a == axis { f(i) } else { i }
        };
        indices(ty).into_iter().map(|ix| value[flat(&from.axes, |a| at(a, &ix))]).collect()
    }
}

fn sizes(axes: &[Axis]) -> Vec<usize> {
    axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { panic!("no keys here") }).collect()
}

fn indices(ty: &Type) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for n in sizes(&ty.axes) {
        all = all.into_iter().flat_map(|ix| (0..n).map(move |i| [&ix[..], &[i]].concat())).collect();
    }
    all
}

fn flat(axes: &[Axis], at: impl Fn(&str) -> usize) -> usize {
    axes.iter().zip(sizes(axes)).fold(0, |i, (a, n)| i * n + at(&a.name))
}
