//! Sums over experts as one instruction: the products of chosen experts, what is made of them element by element (with
//! constants that may differ by expert), and the sum with the gates, where nothing else reads the values in between. Then
//! nothing is computed or stored for experts that no row chose.

use super::consts;
use super::emit::Emitter;
use super::fuse::Store;
use super::graph::{Form, Graph, Pattern};
use super::legalize::{LinearAxes, linear_axes};
use crate::plan::{Axis, Binary, MAIN, Node, NodeId, Op, Reduce, Type};
use crate::program::{self, BufId, Instr, OfExpert};
use std::collections::{HashMap, HashSet};
use steer_lang::Diagnostic;

/// A sum over experts.
#[derive(Clone)]
pub struct Experts {
    pub x: NodeId,
    pub gates: NodeId,
    /// The matrices of what reads `x`, with the axes of their products.
    pub first: Vec<(NodeId, LinearAxes)>,
    /// What is made of their products, and read by `second`.
    pub between: Made,
    pub second: (NodeId, LinearAxes),
    /// What is made of its product, and summed; nothing where that is the product itself.
    pub after: Option<Made>,
}

/// What is made of products element by element, in one row of one expert.
#[derive(Clone)]
pub struct Made {
    /// Stand for the products, and behind them for `constants`.
    given: Vec<NodeId>,
    /// Those that differ by expert.
    pub constants: Vec<NodeId>,
    /// Those that do not.
    shared: Vec<NodeId>,
    /// The last one is the result.
    nodes: Vec<NodeId>,
}

impl Experts {
    /// What has to be there before.
    pub fn inputs(&self) -> Vec<NodeId> {
        let matrices = self.first.iter().chain([&self.second]).map(|(w, _)| *w);
        let made = [&self.between].into_iter().chain(&self.after);
        let constants = made.flat_map(|m| m.constants.iter().chain(&m.shared)).copied();
        [self.x, self.gates].into_iter().chain(matrices).chain(constants).collect()
    }

    /// Everything that has to lie in a source of constants.
    pub fn sources_mut(&mut self) -> impl Iterator<Item = &mut NodeId> {
        let matrices = self.first.iter_mut().chain([&mut self.second]).map(|(w, _)| w);
        let made = [&mut self.between].into_iter().chain(&mut self.after);
        matrices.chain(made.flat_map(|m| m.constants.iter_mut()))
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
    between: Parts,
    second: NodeId,
    after: Option<Parts>,
}

/// The values of the Plan that something is made of, from products on.
#[derive(Default)]
struct Parts {
    products: Vec<NodeId>,
    constants: Vec<NodeId>,
    shared: Vec<NodeId>,
    /// In an order of execution.
    nodes: Vec<NodeId>,
    /// Choices of a value where a gate is not 0, and that value: the same where anything is computed.
    chosen: HashMap<NodeId, NodeId>,
}

impl Found {
    fn of(g: &Graph, sum: NodeId) -> Option<Found> {
        let (Pattern::Dot(a, b), Op::Reduce(_, _, over)) = (g.pattern[sum.0 as usize], &g.node(sum).op) else {
            return None;
        };
        [(a, b), (b, a)].into_iter().find_map(|(gates, value)| {
            let [expert] = &g.ty(gates).axes[..] else { return None };
            (over.len() == 1 && over[0] == expert.name).then(|| Self::with(g, sum, gates, expert, value))?
        })
    }

    fn with(g: &Graph, sum: NodeId, gates: NodeId, expert: &Axis, value: NodeId) -> Option<Found> {
        let mut after = None;
        let second = if let Op::Linear { .. } = g.node(value).op {
            value
        } else {
            // Elsewhere than in chosen experts it is 0, as the product would be.
            chosen(g, gates, value)?;
            let mut parts = Parts::default();
            parts.collect(g, gates, value, g.ty(value).axes.as_slice(), true)?;
            let [second] = parts.products[..] else { return None };
            after = Some(parts).filter(|p| !p.nodes.is_empty());
            second
        };
        let Op::Linear { x: act, active: Some(active), .. } = g.node(second).op else { return None };
        let axes = linear_axes(g, second).ok()?;
        let fits = active == gates && is_of_experts(g, second, expert, true) && g.ty(sum).axes == axes.out;
        let shape = g.ty(act).axes.as_slice();
        if !fits || shape != axes.operand() || shape.first() != Some(expert) {
            return None;
        }
        let mut between = Parts::default();
        between.collect(g, gates, act, shape, false)?;
        let Op::Linear { x, .. } = g.node(*between.products.first()?).op else { return None };
        (!between.nodes.is_empty()).then_some(Found { x, gates, between, second, after })
    }

    /// Whether nothing else reads what is between `x` and the sum.
    fn is_alone(&self, g: &Graph, sum: NodeId, readers: &HashMap<NodeId, Vec<NodeId>>) -> bool {
        let parts = [&self.between].into_iter().chain(&self.after);
        let inner = parts.flat_map(|p| p.products.iter().chain(&p.nodes).chain(p.chosen.keys()));
        // A choice may be all that there is behind the second product.
        let inner: HashSet<NodeId> = inner.copied().chain([self.second, self.summed(g, sum)]).collect();
        let inside = |n: &NodeId| inner.contains(n) || *n == sum;
        let read = inner.iter().flat_map(|n| readers.get(n).into_iter().flatten()).all(inside);
        read && !g.outputs.iter().any(|o| inner.contains(o))
    }

    /// What is summed, times the gates.
    fn summed(&self, g: &Graph, sum: NodeId) -> NodeId {
        match g.pattern[sum.0 as usize] {
            Pattern::Dot(a, b) if a == self.gates => b,
            Pattern::Dot(a, _) => a,
            _ => self.second,
        }
    }

    fn replace(self, g: &mut Graph, sum: NodeId) -> Result<(), Diagnostic> {
        let matrix = |g: &Graph, n: NodeId| -> Result<(NodeId, LinearAxes), Diagnostic> {
            match &g.node(n).op {
                Op::Linear { w, .. } => Ok((*w, linear_axes(g, n)?)),
                _ => Err(g.unsupported(n, "this operation")),
            }
        };
        let first = self.between.products.iter().map(|n| matrix(g, *n)).collect::<Result<_, _>>()?;
        let second = matrix(g, self.second)?;
        let between = self.between.of_one(g)?;
        let after = self.after.map(|parts| parts.of_one(g)).transpose()?;
        g.form[sum.0 as usize] = Form::Library;
        g.pattern[sum.0 as usize] = Pattern::Plain;
        g.experts.insert(sum, Experts { x: self.x, gates: self.gates, first, between, second, after });
        Ok(())
    }
}

impl Parts {
    /// Finds what a value is made of; `None` where something is among it that is not done element by element.
    fn collect(&mut self, g: &Graph, gates: NodeId, n: NodeId, shape: &[Axis], x_has_batch: bool) -> Option<()> {
        let known = [&self.products, &self.constants, &self.shared, &self.nodes];
        if g.number(n).is_some() || known.iter().any(|k| k.contains(&n)) || self.chosen.contains_key(&n) {
            return Some(());
        }
        let axes = g.ty(n).axes.as_slice();
        let expert = shape.first()?;
        if !g.is_row(n) {
            let own = if axes.first() == Some(expert) { &mut self.constants } else { &mut self.shared };
            own.push(n);
            let apart = axes.iter().skip(1).all(|a| a.name != expert.name);
            return (apart && axes.iter().all(|a| shape.contains(a))).then_some(());
        }
        if axes != shape || g.region[n.0 as usize] != MAIN || g.pattern[n.0 as usize] != Pattern::Plain {
            return None;
        }
        if let Some(value) = chosen(g, gates, n) {
            self.collect(g, gates, value, shape, x_has_batch)?;
            self.chosen.insert(n, value);
            return Some(());
        }
        match &g.node(n).op {
            Op::Linear { x, active: Some(active), .. } => {
                let with = |p: &NodeId| matches!(g.node(*p).op, Op::Linear { x: other, .. } if other == *x);
                let same = self.products.iter().all(with);
                self.products.push(n);
                (same && *active == gates && is_of_experts(g, n, expert, x_has_batch) && g.is_whole(n)).then_some(())
            }
            Op::Unary(..) | Op::Binary(..) | Op::Select(..) => {
                for input in g.inputs(n) {
                    self.collect(g, gates, input, shape, x_has_batch)?;
                }
                self.nodes.push(n);
                Some(())
            }
            _ => None,
        }
    }

    /// The same in one row of one expert, as nodes of their own.
    fn of_one(self, g: &mut Graph) -> Result<Made, Diagnostic> {
        let of_one = |g: &Graph, n: NodeId, per_row: bool| {
            let ty = g.ty(n);
            Type { axes: ty.axes[1..].to_vec(), per_row, ..ty.clone() }
        };
        let mut copies: HashMap<NodeId, NodeId> = HashMap::new();
        let mut given = Vec::new();
        for (i, &n) in self.products.iter().chain(&self.constants).enumerate() {
            let node = Node { op: Op::Arg(i as u32), ty: of_one(g, n, true), ..g.node(n).clone() };
            let put = g.put(node, n, MAIN, Form::Leaf)?;
            copies.insert(n, put);
            given.push(put);
        }
        let mut nodes = Vec::new();
        for &n in &self.nodes {
            let mut node = Node { ty: of_one(g, n, true), ..g.node(n).clone() };
            node.op.for_each_input_mut(&mut |o| {
                while let Some(value) = self.chosen.get(o) {
                    *o = *value;
                }
                *o = copies.get(o).copied().unwrap_or(*o);
            });
            let put = g.put(node, n, MAIN, Form::Fused)?;
            copies.insert(n, put);
            nodes.push(put);
        }
        Ok(Made { given, constants: self.constants, shared: self.shared, nodes })
    }
}

/// The value of `select(gates != 0, value, 0)`.
fn chosen(g: &Graph, gates: NodeId, n: NodeId) -> Option<NodeId> {
    let Op::Select(cond, value, other) = g.node(n).op else { return None };
    let Op::Binary(Binary::Ne, a, b) = g.node(cond).op else { return None };
    let zero = |n: NodeId| g.number(n) == Some(0.0);
    let by_gate = (a == gates && zero(b)) || (b == gates && zero(a));
    (by_gate && zero(other) && g.ty(value).axes == g.ty(n).axes).then_some(value)
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
        let between = self.of_expert(&experts.between, layer)?;
        let after = experts.after.as_ref().map(|made| self.of_expert(made, layer)).transpose()?;
        let (x, gates) = (self.buffer(experts.x)?, self.buffer(experts.gates)?);
        Ok(Instr::Experts(program::Experts { x, gates, first, between, second, after, y }))
    }

    fn of_expert(&mut self, made: &Made, layer: Option<u32>) -> Result<OfExpert, Diagnostic> {
        let mut stores: HashMap<NodeId, Store> = HashMap::new();
        let roots = made.shared.iter().map(|n| self.g.view(*n).root);
        stores.extend(roots.filter_map(|root| Some((root, *self.stores.get(&root)?))));
        stores.extend(made.given.iter().enumerate().map(|(i, n)| (*n, Store::Given(i as u32))));
        stores.extend(made.nodes.last().map(|n| (*n, Store::Result(0))));
        let mut call = self.kernel(&made.nodes, &stores, false)?;
        call.layer = layer;
        let constants = made.constants.iter().map(|n| self.const_view(*n)).collect::<Result<_, _>>()?;
        Ok(OfExpert { call, constants })
    }
}
