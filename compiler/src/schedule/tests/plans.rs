//! A builder of small plans.

use crate::plan::*;
use std::sync::Arc;
use steer_lang::Span;

/// A linear congruential generator.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n.max(1)
    }

    /// Between -2 and 2.
    pub(crate) fn number(&mut self) -> f32 {
        self.below(4001) as f32 / 1000.0 - 2.0
    }
}

/// A plan under construction; types follow from operands.
#[derive(Default)]
pub(crate) struct Plans {
    pub plan: Plan,
    pub region: u32,
    pub layer: Option<u32>,
}

impl Plans {
    pub fn push(&mut self, op: Op, axes: Vec<Axis>, per_row: bool) -> NodeId {
        let ty = Type { axes, elem: Elem::F32, per_row };
        let node = Node { op, ty, layer: self.layer, origin: None, span: Span::default() };
        self.plan.push(RegionId(self.region), node)
    }

    fn rows(&self, nodes: &[NodeId]) -> bool {
        nodes.iter().any(|n| self.plan.ty(*n).per_row)
    }

    fn joined(&self, nodes: &[NodeId]) -> Vec<Axis> {
        let mut axes: Vec<Axis> = Vec::new();
        for n in nodes {
            for a in &self.plan.ty(*n).axes {
                if !axes.contains(a) {
                    axes.push(a.clone());
                }
            }
        }
        axes
    }

    pub fn unary(&mut self, op: Unary, a: NodeId) -> NodeId {
        self.push(Op::Unary(op, a), self.joined(&[a]), self.rows(&[a]))
    }

    pub fn binary(&mut self, op: Binary, a: NodeId, b: NodeId) -> NodeId {
        self.push(Op::Binary(op, a, b), self.joined(&[a, b]), self.rows(&[a, b]))
    }

    pub fn select(&mut self, c: NodeId, a: NodeId, b: NodeId) -> NodeId {
        self.push(Op::Select(c, a, b), self.joined(&[c, a, b]), self.rows(&[c, a, b]))
    }

    pub fn reduce(&mut self, op: Reduce, a: NodeId, over: &[&str]) -> NodeId {
        let axes = self.joined(&[a]).into_iter().filter(|x| !over.contains(&&*x.name)).collect();
        let names = over.iter().map(|n| Arc::from(*n)).collect();
        self.push(Op::Reduce(op, a, names), axes, self.rows(&[a]))
    }

    pub fn number(&mut self, x: f32) -> NodeId {
        self.push(Op::Number(x), vec![], false)
    }

    pub fn tensor(&mut self, name: &str, axes: Vec<Axis>) -> NodeId {
        self.plan.tensors.push(Tensor { name: name.into(), axes: axes.clone() });
        let id = TensorId(self.plan.tensors.len() as u32 - 1);
        self.push(Op::Tensor(id), axes, false)
    }

    pub fn linear(&mut self, x: NodeId, w: NodeId, over: &[&str]) -> NodeId {
        let summed = |a: &Axis| over.contains(&&*a.name);
        let (xt, wt) = (self.plan.ty(x).axes.clone(), self.plan.ty(w).axes.clone());
        let kept = xt.iter().filter(|a| !summed(a)).cloned();
        let new = wt.iter().filter(|a| !xt.contains(a)).cloned();
        let axes = kept.chain(new).collect();
        let over = over.iter().map(|n| Arc::from(*n)).collect();
        self.push(Op::Linear { x, w, over, active: None }, axes, self.rows(&[x]))
    }

    pub fn embed(&mut self, vocab: usize, axes: Vec<Axis>) -> NodeId {
        let mut all = vec![Axis::new("vocab", vocab)];
        all.extend(axes.clone());
        let table = self.tensor("embed", all);
        let index = self.push(Op::Token, vec![], true);
        self.push(Op::Lookup { table, index }, axes, true)
    }

    pub fn edit(&mut self, params: usize) -> EditId {
        let name = format!("edit{}", self.plan.edits.len());
        let params = (0..params).map(|i| format!("p{i}")).collect();
        let edit = Edit { name, site: "site".into(), layer: None, route: None, params, span: Span::default() };
        self.plan.edits.push(edit);
        EditId(self.plan.edits.len() as u32 - 1)
    }

    pub fn param(&mut self, edit: EditId, slot: u32) -> NodeId {
        self.push(Op::Param { edit, slot }, vec![], true)
    }

    pub fn overlay(&mut self, edit: EditId, base: NodeId, value: NodeId) -> NodeId {
        self.push(Op::Overlay { edit, base, value }, self.joined(&[base]), true)
    }

    /// The three numbers of an edit's receipt.
    pub fn receipts(&mut self, edit: EditId, base: NodeId, value: NodeId) {
        let names: Vec<Arc<str>> = self.joined(&[base]).iter().map(|a| a.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(|n| &**n).collect();
        let change = self.binary(Binary::Sub, value, base);
        let differs = self.binary(Binary::Ne, value, base);
        let changed = self.reduce(Reduce::Sum, differs, &names);
        let moved = self.reduce(Reduce::SumSq, change, &names);
        let before = self.reduce(Reduce::SumSq, base, &names);
        for (stat, value) in Stat::ALL.into_iter().zip([changed, moved, before]) {
            self.push(Op::Receipt { edit, stat, value }, vec![], true);
        }
    }

    pub fn output(&mut self, node: NodeId) {
        let name = format!("out{}", self.plan.outputs.len());
        self.plan.outputs.push(Output { name, node });
    }

    pub fn norm(&mut self, x: NodeId, axis: &str, gain: NodeId) -> NodeId {
        let squares = self.reduce(Reduce::SumSq, x, &[axis]);
        let count = self.plan.ty(x).len().unwrap_or(1) as f32;
        let (count, eps) = (self.number(1.0 / count), self.number(1e-5));
        let mean = self.binary(Binary::Mul, squares, count);
        let safe = self.binary(Binary::Add, mean, eps);
        let inverse = self.unary(Unary::Rsqrt, safe);
        let unit = self.binary(Binary::Mul, x, inverse);
        self.binary(Binary::Mul, unit, gain)
    }

    /// An attention whose body `f` makes of the scores; the softmax of them follows.
    pub fn attention(&mut self, qkv: [NodeId; 3], f: impl FnOnce(&mut Self, NodeId) -> NodeId) -> (NodeId, NodeId) {
        self.attention_with(qkv, None, f)
    }

    /// The same, with one more score for each head.
    pub fn attention_with(
        &mut self,
        [q, k, v]: [NodeId; 3],
        sinks: Option<NodeId>,
        f: impl FnOnce(&mut Self, NodeId) -> NodeId,
    ) -> (NodeId, NodeId) {
        let body = RegionId(self.plan.regions.len() as u32);
        self.plan.regions.push(Region::default());
        let outer = std::mem::replace(&mut self.region, body.0);
        let head = self.plan.ty(q).axes[0].clone();
        let scores = self.push(Op::Arg(0), vec![head, Axis::key()], true);
        let changed = f(self, scores);
        let max = self.reduce(Reduce::Max, changed, &[KEY]);
        let shifted = self.binary(Binary::Sub, changed, max);
        let e = self.unary(Unary::Exp, shifted);
        let total = self.reduce(Reduce::Sum, e, &[KEY]);
        let mut pattern = self.binary(Binary::Div, e, total);
        if let Some(sinks) = sinks {
            let (above, log) = (self.binary(Binary::Sub, sinks, max), self.unary(Unary::Log, total));
            let gap = self.binary(Binary::Sub, above, log);
            let (one, own) = (self.number(1.0), self.unary(Unary::Sigmoid, gap));
            let rest = self.binary(Binary::Sub, one, own);
            pattern = self.binary(Binary::Mul, pattern, rest);
        }
        let region = &mut self.plan.regions[body.0 as usize];
        region.args = vec![scores];
        region.results = vec![pattern];
        self.region = outer;
        let axes = self.plan.ty(q).axes.clone();
        (self.push(Op::Attention { q, k, v, scale: 0.5, window: None, whole: false, body }, axes, true), pattern)
    }
}
