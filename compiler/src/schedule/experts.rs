//! Sums over experts as one instruction: the products of chosen experts, what is made of them element by element, and the sum
//! with the gates, where nothing else reads the values in between. Then nothing is stored for experts that no row chose.

use super::consts;
use super::emit::Emitter;
use super::fuse::Store;
use super::graph::{Form, Graph, Pattern};
use super::legalize::{LinearAxes, linear_axes};
use crate::plan::{Axis, MAIN, Node, NodeId, Op, Reduce, Type};
use crate::program::{self, BufId, Instr};
use std::collections::{HashMap, HashSet};
use steer_lang::Diagnostic;

/// A sum over experts.
#[derive(Clone)]
pub struct Experts {
    pub x: NodeId,
    pub gates: NodeId,
    /// The matrices of what reads `x`, with the axes of their products.
    pub first: Vec<(NodeId, LinearAxes)>,
    pub second: (NodeId, LinearAxes),
    /// Stand for the products of `first`, in one row of one expert.
    given: Vec<NodeId>,
    /// What is made of them, the last one read by `second`.
    made: Vec<NodeId>,
}

impl Experts {
    /// What has to be there before.
    pub fn inputs(&self) -> Vec<NodeId> {
        let matrices = self.first.iter().chain([&self.second]).map(|(w, _)| *w);
        [self.x, self.gates].into_iter().chain(matrices).collect()
    }
}

/// Finds all of them.
pub fn find(g: &mut Graph) -> Result<(), Diagnostic> {
    let live = g.live();
    let sums: Vec<NodeId> =
        live.iter().copied().filter(|n| matches!(g.node(*n).op, Op::Reduce(Reduce::Sum, ..)) && g.is_row(*n)).collect();
    if sums.is_empty() || !live.iter().any(|n| matches!(g.node(*n).op, Op::Linear { active: Some(_), .. })) {
        return Ok(());
    }
    let mut readers: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    for &n in &live {
        for input in g.inputs(n) {
            readers.entry(input).or_default().push(n);
        }
    }
    for n in sums {
        if let Some(found) = Found::of(g, n)
            && found.is_alone(g, n, &readers)
        {
            found.replace(g, n)?;
        }
    }
    Ok(())
}

/// What a sum over experts is made of in the Plan.
struct Found {
    x: NodeId,
    gates: NodeId,
    first: Vec<NodeId>,
    /// In an order of execution.
    between: Vec<NodeId>,
    second: NodeId,
}

impl Found {
    fn of(g: &Graph, sum: NodeId) -> Option<Found> {
        let (Pattern::Dot(a, b), Op::Reduce(_, _, over)) = (g.pattern[sum.0 as usize], &g.node(sum).op) else {
            return None;
        };
        let mut found = None;
        for (gates, second) in [(a, b), (b, a)] {
            let Op::Linear { x, active: Some(active), .. } = &g.node(second).op else { continue };
            let [expert] = &g.ty(gates).axes[..] else { continue };
            if *active == gates && over.len() == 1 && over[0] == expert.name && is_of_experts(g, second, expert, true) {
                found = Some((gates, second, expert.clone(), *x));
            }
        }
        let (gates, second, expert, act) = found?;
        let mut this = Found { x: act, gates, first: Vec::new(), between: Vec::new(), second };
        let shape = g.ty(act).axes.clone();
        let fits = shape == linear_axes(g, second).ok()?.operand() && shape.first() == Some(&expert);
        let plain = g.ty(sum).axes == linear_axes(g, second).ok()?.out;
        (fits && plain && this.collect(g, act, &shape)? && !this.between.is_empty() && !this.first.is_empty())
            .then_some(this)
    }

    /// The products and operations that a value is made of; `None` or false where something else is among them.
    fn collect(&mut self, g: &Graph, n: NodeId, shape: &[Axis]) -> Option<bool> {
        if g.number(n).is_some() || self.between.contains(&n) || self.first.contains(&n) {
            return Some(true);
        }
        if g.ty(n).axes != shape || g.region[n.0 as usize] != MAIN || g.pattern[n.0 as usize] != Pattern::Plain {
            return None;
        }
        match &g.node(n).op {
            Op::Linear { x, active: Some(active), .. } => {
                let same = self.first.is_empty() || *x == self.x;
                self.x = *x;
                self.first.push(n);
                Some(same && *active == self.gates && is_of_experts(g, n, &shape[0], false) && g.is_whole(n))
            }
            Op::Unary(..) | Op::Binary(..) | Op::Select(..) => {
                let mut all = true;
                for input in g.inputs(n) {
                    all &= self.collect(g, input, shape)?;
                }
                self.between.push(n);
                Some(all)
            }
            _ => None,
        }
    }

    /// Whether nothing else reads what is between `x` and the sum.
    fn is_alone(&self, g: &Graph, sum: NodeId, readers: &HashMap<NodeId, Vec<NodeId>>) -> bool {
        let inner: HashSet<NodeId> = self.first.iter().chain(&self.between).copied().chain([self.second]).collect();
        let inside = |n: &NodeId| inner.contains(n) || *n == sum;
        let read = inner.iter().flat_map(|n| readers.get(n).into_iter().flatten()).all(inside);
        read && !g.outputs.iter().any(|o| inner.contains(o))
    }

    fn replace(self, g: &mut Graph, sum: NodeId) -> Result<(), Diagnostic> {
        let of_one = |g: &Graph, n: NodeId| {
            let ty = g.ty(n);
            Type { axes: ty.axes[1..].to_vec(), ..ty.clone() }
        };
        let mut copies: HashMap<NodeId, NodeId> = HashMap::new();
        let mut given = Vec::new();
        for (i, &n) in self.first.iter().enumerate() {
            let node = Node { op: Op::Arg(i as u32), ty: of_one(g, n), ..g.node(n).clone() };
            let put = g.put(node, n, MAIN, Form::Leaf)?;
            copies.insert(n, put);
            given.push(put);
        }
        let mut made = Vec::new();
        for &n in &self.between {
            let mut node = Node { ty: of_one(g, n), ..g.node(n).clone() };
            node.op.for_each_input_mut(&mut |o| *o = copies.get(o).copied().unwrap_or(*o));
            let put = g.put(node, n, MAIN, Form::Fused)?;
            copies.insert(n, put);
            made.push(put);
        }
        let matrix = |g: &Graph, n: NodeId| -> Result<(NodeId, LinearAxes), Diagnostic> {
            match &g.node(n).op {
                Op::Linear { w, .. } => Ok((*w, linear_axes(g, n)?)),
                _ => Err(g.unsupported(n, "this operation")),
            }
        };
        let first = self.first.iter().map(|n| matrix(g, *n)).collect::<Result<_, _>>()?;
        let second = matrix(g, self.second)?;
        g.form[sum.0 as usize] = Form::Library;
        g.pattern[sum.0 as usize] = Pattern::Plain;
        g.experts.insert(sum, Experts { x: self.x, gates: self.gates, first, second, given, made });
        Ok(())
    }
}

/// Whether a product has experts and nothing else as its batch.
fn is_of_experts(g: &Graph, n: NodeId, expert: &Axis, x_has_batch: bool) -> bool {
    linear_axes(g, n).is_ok_and(|axes| {
        axes.extra.is_empty() && axes.batch == std::slice::from_ref(expert) && axes.x_has_batch == x_has_batch
    })
}

impl Emitter<'_, '_> {
    pub fn experts(&mut self, experts: &Experts, y: BufId, layer: Option<u32>) -> Result<Instr, Diagnostic> {
        let g = self.g;
        let view = |e: &Self, (w, axes): &(NodeId, LinearAxes)| consts::matrix_view(g, *w, axes, e.source(*w)?, None);
        let first = experts.first.iter().map(|w| view(self, w)).collect::<Result<_, _>>()?;
        let second = view(self, &experts.second)?;
        let mut stores: HashMap<NodeId, Store> = HashMap::new();
        stores.extend(experts.given.iter().enumerate().map(|(i, n)| (*n, Store::Given(i as u32))));
        stores.extend(experts.made.last().map(|n| (*n, Store::Result(0))));
        let mut call = self.kernel(&experts.made, &stores, false)?;
        call.layer = layer;
        let (x, gates) = (self.buffer(experts.x)?, self.buffer(experts.gates)?);
        Ok(Instr::Experts(program::Experts { x, gates, first, call, second, y }))
    }
}
