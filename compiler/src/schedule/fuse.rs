//! One kernel from the nodes that are executed together.

use super::consts::{self, Origin};
use super::graph::{Form, Graph, Need, Pattern, extents, named};
use super::view;
use crate::kernel::build::{Builder, Source, Strided, StridedAxis};
use crate::kernel::{Base, Kernel, Lin, ParamKind, VecOp};
use crate::plan::{EditId, MAIN, NodeId, Op, Stat, Unary};
use crate::program::{BufId, ConstSource, KernelArg};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use steer_lang::Diagnostic;

/// Where a value that something outside of the kernel reads is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Store {
    Buffer(BufId),
    Result(u32),
    /// Handed in by the owner of the body.
    Given(u32),
}

/// What a kernel needs to know of the program around it.
pub struct Around<'a> {
    pub stores: &'a HashMap<NodeId, Store>,
    /// Whether it is a part of the prelude, in which constants may be unfinished.
    pub prelude: bool,
}

struct Fuser<'a, 'p> {
    g: &'a Graph<'p>,
    around: Around<'a>,
    inside: HashSet<NodeId>,
    /// The value in whose storage an overlay ends, by value.
    becomes: HashMap<NodeId, NodeId>,
    builder: Builder,
    args: Vec<KernelArg>,
    places: HashMap<NodeId, Base>,
}

/// The kernel of these nodes, which stand in an order of execution.
pub fn fuse(g: &Graph, nodes: &[NodeId], around: Around) -> Result<(Kernel, Vec<KernelArg>), Diagnostic> {
    let inside: HashSet<NodeId> = nodes.iter().copied().collect();
    let order = ordered(g, nodes, &inside);
    let becomes = in_place(g, &order, &inside, around.stores);
    let mut fuser =
        Fuser { g, around, inside, becomes, builder: Builder::default(), args: Vec::new(), places: HashMap::new() };
    for n in order {
        if fuser.node(n)?.is_none() {
            return Err(g.unsupported(n, "this operation on a value with an axis over keys"));
        }
    }
    Ok((fuser.builder.finish(), fuser.args))
}

/// Puts what an edit reads of its base before the edit, so that the edit can be made in place.
fn ordered(g: &Graph, nodes: &[NodeId], inside: &HashSet<NodeId>) -> Vec<NodeId> {
    let deps: HashMap<NodeId, Vec<NodeId>> =
        nodes.iter().map(|n| (*n, g.deps(*n).into_iter().filter(|d| inside.contains(d)).collect())).collect();
    let depends = |n: NodeId, on: &HashSet<NodeId>| {
        let (mut stack, mut seen) = (vec![n], HashSet::new());
        while let Some(n) = stack.pop() {
            if on.contains(&n) {
                return true;
            }
            if seen.insert(n) {
                stack.extend(&deps[&n]);
            }
        }
        false
    };
    let mut own: HashMap<EditId, Vec<NodeId>> = HashMap::new();
    for &n in nodes {
        if let Some(edit) = g.need(n).only() {
            own.entry(edit).or_default().push(n);
        }
    }
    let mut order = Vec::with_capacity(nodes.len());
    let mut seen = HashSet::new();
    // What waits for others that come before it: whatever needs one of these comes later.
    let mut waiting = HashSet::new();
    for &n in nodes {
        let mut stack = vec![(n, false)];
        while let Some((n, done)) = stack.pop() {
            if done {
                order.push(n);
                waiting.remove(&n);
                continue;
            }
            if !seen.insert(n) {
                continue;
            }
            stack.push((n, true));
            waiting.insert(n);
            if let Op::Overlay { edit, base, .. } = g.node(n).op {
                let root = g.view(base).root;
                let early = |u: &NodeId| deps[u].contains(&root) && !depends(*u, &waiting);
                let own = own.get(&edit).into_iter().flatten();
                stack.extend(own.rev().copied().filter(early).map(|u| (u, false)));
            }
            stack.extend(deps[&n].iter().rev().map(|d| (*d, false)));
        }
    }
    order
}

/// The edits that can overwrite their base because nothing reads it any more.
fn in_place(
    g: &Graph,
    order: &[NodeId],
    inside: &HashSet<NodeId>,
    stores: &HashMap<NodeId, Store>,
) -> HashMap<NodeId, NodeId> {
    let mut becomes: HashMap<NodeId, NodeId> = HashMap::new();
    let mut storage: HashMap<NodeId, NodeId> = HashMap::new();
    let mut last_read: HashMap<NodeId, usize> = HashMap::new();
    for (at, &n) in order.iter().enumerate() {
        last_read.extend(g.deps(n).into_iter().map(|d| (d, at)));
    }
    for (at, &n) in order.iter().enumerate() {
        storage.insert(n, n);
        let Op::Overlay { base, value, .. } = g.node(n).op else { continue };
        let (root, new) = (g.view(base).root, g.view(value).root);
        let fits = inside.contains(&root)
            && g.form(root) == Form::Fused
            && g.is_whole(base)
            && !stores.contains_key(&root)
            && g.need(root) == g.need(n)
            && storage.get(&new) != storage.get(&root)
            && last_read.get(&root).is_none_or(|last| *last <= at);
        if fits {
            becomes.insert(root, n);
            let shared = storage[&root];
            storage.insert(n, shared);
        }
    }
    becomes
}

impl Fuser<'_, '_> {
    fn param(&mut self, kind: ParamKind, arg: KernelArg, len: Lin) -> u32 {
        match self.args.iter().position(|a| *a == arg) {
            Some(at) => at as u32,
            None => {
                self.args.push(arg);
                self.builder.param(kind, len)
            }
        }
    }

    fn guards(&mut self, edits: &[EditId]) -> Vec<u32> {
        edits.iter().map(|e| self.param(ParamKind::Guard, KernelArg::Guard(*e), Lin::ONE)).collect()
    }

    fn len(&self, n: NodeId) -> Result<Lin, Diagnostic> {
        let len = extents(self.g.ty(n)).iter().try_fold(Lin::ONE, |l, e| l.times(*e));
        len.ok_or_else(|| self.g.unsupported(n, "a value with several axes over keys"))
    }

    fn buffer(&mut self, root: NodeId, buffer: BufId) -> Result<u32, Diagnostic> {
        let kind = if self.g.is_row(root) { ParamKind::Rows } else { ParamKind::Once };
        let len = self.len(root)?;
        Ok(self.param(kind, KernelArg::Buffer(buffer), len))
    }

    fn strided(&self, n: NodeId, base: Base, offset: Lin, strides: &[Lin]) -> Strided {
        let axes = named(self.g.ty(n)).into_iter().zip(strides);
        let axes = axes.map(|((name, extent), stride)| StridedAxis { name, extent, stride: *stride });
        Strided { base, offset, axes: axes.collect() }
    }

    /// A view that was made contiguous before the kernel is called.
    fn constant(&mut self, n: NodeId, source: ConstSource) -> Result<Source, Diagnostic> {
        let (view, len) = (consts::const_view(self.g, n, source)?, self.len(n)?);
        let param = self.param(ParamKind::Const, KernelArg::Const(view), len);
        let strides = view::row_major(&extents(self.g.ty(n))).unwrap_or_default();
        Ok(Source::Memory(self.strided(n, Base::Param(param), Lin::ZERO, &strides)))
    }

    /// A value where this kernel reads it.
    fn source(&mut self, n: NodeId) -> Result<Source, Diagnostic> {
        let g = self.g;
        if let Some(x) = g.number(n) {
            return Ok(Source::Number(x));
        }
        let view = g.view(n).clone();
        let root = view.root;
        let base = if let Some(base) = self.places.get(&root) {
            *base
        } else if let Some(Store::Buffer(buffer)) = self.around.stores.get(&root).copied() {
            if !g.is_row(root) && !self.around.prelude && !g.is_whole(n) {
                return self.constant(n, ConstSource::Computed(buffer));
            }
            Base::Param(self.buffer(root, buffer)?)
        } else if let Some(Store::Given(i)) = self.around.stores.get(&root).copied() {
            let len = self.len(root)?;
            Base::Param(self.param(ParamKind::Body, KernelArg::Body(i), len))
        } else {
            let len = self.len(root)?;
            let (kind, arg) = match (g.number(root), &g.node(root).op) {
                (Some(x), _) => (ParamKind::Table, KernelArg::Table(Arc::from([x]))),
                (_, Op::Weight(_) | Op::Tensor(_)) => match consts::origin(g, root) {
                    Origin::Source(source) => return self.constant(n, source),
                    Origin::Computed(_) => return Err(g.unsupported(n, "this value")),
                },
                (_, Op::Table(numbers)) => (ParamKind::Table, KernelArg::Table(numbers.clone())),
                (_, Op::Iota) => {
                    let count = len.known().unwrap_or(0);
                    (ParamKind::Table, KernelArg::Table((0..count).map(|i| i as f32).collect()))
                }
                (_, Op::Token) => (ParamKind::Token, KernelArg::Token),
                (_, Op::Position) => (ParamKind::Position, KernelArg::Position),
                (_, Op::Layer) => {
                    let layer = g.node(root).layer.unwrap_or(0) as f32;
                    (ParamKind::Numbers, KernelArg::Numbers(vec![layer]))
                }
                (_, Op::Param { edit, slot }) => {
                    let count = g.plan.edits.get(edit.0 as usize).map_or(0, |e| e.params.len());
                    let count = count.max(*slot as usize + 1);
                    let param = self.param(ParamKind::Params, KernelArg::Params(*edit), Lin::fixed(count));
                    let offset = view.offset.plus(Lin::fixed(*slot as usize));
                    return Ok(Source::Memory(self.strided(n, Base::Param(param), offset, &view.strides)));
                }
                (_, Op::Donor(edit)) if g.region[root.0 as usize] != MAIN => (ParamKind::Body, KernelArg::Donor(*edit)),
                (_, Op::Donor(edit)) => (ParamKind::Donor, KernelArg::Donor(*edit)),
                (_, Op::Arg(i)) => (ParamKind::Body, KernelArg::Body(*i)),
                _ => return Err(g.unsupported(n, "a value that nothing computes")),
            };
            Base::Param(self.param(kind, arg, len))
        };
        Ok(Source::Memory(self.strided(n, base, view.offset, &view.strides)))
    }

    fn memory(&mut self, n: NodeId) -> Result<Strided, Diagnostic> {
        match self.source(n)? {
            Source::Memory(m) => Ok(m),
            number => {
                let temp = self.builder.temp(&[]);
                let temp = temp.ok_or_else(|| self.g.unsupported(n, "this value"))?;
                self.builder.map(VecOp::Copy, &temp, &[number]);
                Ok(temp)
            }
        }
    }

    /// The storage of a value of this kernel, row-major.
    fn place(&mut self, n: NodeId) -> Result<Strided, Diagnostic> {
        let strides = view::row_major(&extents(self.g.ty(n))).unwrap_or_default();
        let mut owner = n;
        while let Some(next) = self.becomes.get(&owner) {
            owner = *next;
        }
        let base = match self.places.get(&owner).copied() {
            Some(base) => base,
            None => match self.around.stores.get(&owner).copied() {
                Some(Store::Buffer(buffer)) => Base::Param(self.buffer(owner, buffer)?),
                Some(Store::Result(i)) => {
                    let len = self.len(owner)?;
                    Base::Param(self.param(ParamKind::Result, KernelArg::Result(i), len))
                }
                Some(Store::Given(_)) | None => {
                    let temp = self.builder.temp(&named(self.g.ty(owner)));
                    temp.ok_or_else(|| self.g.unsupported(n, "a value with several axes over keys"))?.base
                }
            },
        };
        if let Base::Param(p) = base {
            self.builder.set_out(p);
        }
        self.places.insert(owner, base);
        self.places.insert(n, base);
        Ok(self.strided(n, base, Lin::ZERO, &strides))
    }

    /// The statements of one node; `None` where lengths would be of the second degree in the keys.
    fn node(&mut self, n: NodeId) -> Result<Option<()>, Diagnostic> {
        let g = self.g;
        let edits = match g.need(n) {
            Need::Edits(edits) => edits.clone(),
            _ => Vec::new(),
        };
        // Statements outside of branches first find their arguments, so that these have an order.
        self.builder.guards = self.guards(&edits);
        match (g.pattern[n.0 as usize], &g.node(n).op) {
            (Pattern::Dot(a, b), Op::Reduce(_, _, over)) => {
                let srcs = [self.memory(a)?, self.memory(b)?];
                let dst = self.place(n)?;
                let over: Vec<_> = named(g.ty(a)).into_iter().filter(|x| over.contains(&x.0)).collect();
                return Ok(self.builder.reduce(VecOp::Dot, &dst, &srcs, &over));
            }
            (Pattern::Axpy { a, s, x, minus }, _) => {
                let (a, mut s, x) = (self.source(a)?, self.source(s)?, self.source(x)?);
                if minus {
                    s = match s {
                        Source::Number(s) => Source::Number(-s),
                        s => {
                            let Some(negated) = self.builder.temp(&[]) else { return Ok(None) };
                            self.builder.map(VecOp::Unary(Unary::Neg), &negated, &[s]);
                            Source::Memory(negated)
                        }
                    };
                }
                let dst = self.place(n)?;
                self.builder.map(VecOp::Axpy, &dst, &[a, s, x]);
                return Ok(Some(()));
            }
            _ => {}
        }
        let (op, inputs): (VecOp, Vec<NodeId>) = match &g.node(n).op {
            Op::Unary(op, a) => (VecOp::Unary(*op), vec![*a]),
            Op::Binary(op, a, b) => (VecOp::Binary(*op), vec![*a, *b]),
            Op::Select(c, a, b) => (VecOp::Select, vec![*c, *a, *b]),
            Op::Permute(a) => (VecOp::Copy, vec![*a]),
            Op::Reduce(op, a, over) => {
                let (source, dst) = (self.memory(*a)?, self.place(n)?);
                let over: Vec<_> = named(g.ty(*a)).into_iter().filter(|x| over.contains(&x.0)).collect();
                return Ok(self.builder.reduce(VecOp::Reduce(*op), &dst, &[source], &over));
            }
            Op::TopK { of, axis, k } => {
                let (source, k, dst) = (self.memory(*of)?, self.source(*k)?, self.place(n)?);
                return Ok(self.builder.top_k(&dst, &source, axis, &k));
            }
            Op::Reshape(a) => {
                let source = self.source(*a)?;
                let dst = self.place(n)?;
                // The same elements in the same order: the result under the axes of the operand.
                let strides = view::row_major(&extents(g.ty(*a))).unwrap_or_default();
                let dst = self.strided(*a, dst.base, Lin::ZERO, &strides);
                self.builder.map(VecOp::Copy, &dst, &[source]);
                return Ok(Some(()));
            }
            Op::Concat(a, b, axis) => {
                let (first, second, dst) = (self.source(*a)?, self.source(*b)?, self.place(n)?);
                let Some(at) = g.ty(n).position_of(axis) else { return Ok(None) };
                let parts = [(*a, first), (*b, second)];
                let mut start = Lin::ZERO;
                for (part, source) in parts {
                    let mut window = dst.clone();
                    let axis_at = g.ty(part).position_of(axis);
                    let Some(len) = axis_at.map(|i| extents(g.ty(part))[i]) else { return Ok(None) };
                    let Some(skip) = start.times(window.axes[at].stride) else { return Ok(None) };
                    window.offset = skip;
                    window.axes[at].extent = len;
                    self.builder.map(VecOp::Copy, &window, &[source]);
                    start = start.plus(len);
                }
                return Ok(Some(()));
            }
            Op::Pick { of, axis, entries } => {
                let (source, dst) = (self.memory(*of)?, self.place(n)?);
                return Ok(self.pick(&dst, &source, axis, entries));
            }
            Op::Iota => {
                let first = self.param(ParamKind::FirstKey, KernelArg::FirstKey, Lin::ONE);
                let first = Strided { base: Base::Param(first), offset: Lin::ZERO, axes: Vec::new() };
                let dst = self.place(n)?;
                self.builder.iota(&dst, &Source::Memory(first));
                return Ok(Some(()));
            }
            Op::Overlay { edit, base, value } => return self.overlay(n, *edit, *base, *value).map(Some),
            Op::Receipt { edit, stat, value } => {
                let source = self.source(*value)?;
                let param = self.param(ParamKind::Receipt, KernelArg::Receipt(*edit), Lin::fixed(Stat::COUNT));
                self.builder.set_out(param);
                let dst = Strided { base: Base::Param(param), offset: Lin::fixed(*stat as usize), axes: Vec::new() };
                self.builder.map(VecOp::Copy, &dst, &[source]);
                return Ok(Some(()));
            }
            _ => return Err(g.unsupported(n, "this operation")),
        };
        let sources = inputs.iter().map(|i| self.source(*i)).collect::<Result<Vec<_>, _>>()?;
        let dst = self.place(n)?;
        self.builder.map(op, &dst, &sources);
        Ok(Some(()))
    }

    /// Copies of runs of neighbouring entries.
    fn pick(&mut self, dst: &Strided, source: &Strided, axis: &str, entries: &[u32]) -> Option<()> {
        let at = |s: &Strided| s.axes.iter().position(|a| &*a.name == axis);
        let (into, from) = (at(dst)?, at(source)?);
        let mut start = 0;
        while start < entries.len() {
            let mut len = 1;
            while entries.get(start + len) == Some(&(entries[start] + len as u32)) {
                len += 1;
            }
            let (mut window, mut run) = (dst.clone(), source.clone());
            window.offset = window.offset.plus(window.axes[into].stride.scaled(start));
            run.offset = run.offset.plus(run.axes[from].stride.scaled(entries[start] as usize));
            window.axes[into].extent = Lin::fixed(len);
            run.axes[from].extent = Lin::fixed(len);
            self.builder.map(VecOp::Copy, &window, &[Source::Memory(run)]);
            start += len;
        }
        Some(())
    }

    fn overlay(&mut self, n: NodeId, edit: EditId, base: NodeId, value: NodeId) -> Result<(), Diagnostic> {
        let root = self.g.view(base).root;
        let before = self.source(base)?;
        let after = self.source(value)?;
        let dst = self.place(n)?;
        if self.becomes.get(&root) != Some(&n) {
            self.builder.map(VecOp::Copy, &dst, &[before]);
        }
        // An edit that gives what is there is no reason to need it where the edit acts.
        if value == base {
            return Ok(());
        }
        self.builder.guards = self.guards(&[edit]);
        debug_assert!(self.inside.contains(&n));
        self.builder.map(VecOp::Copy, &dst, &[after]);
        Ok(())
    }
}
