//! The Plan as the scheduler sees it: which nodes are mere indexing, which can be fused, which are
//! calls of a library, and what is still needed.

use super::view::{self, View};
use crate::kernel::Lin;
use crate::plan::{Axis, Binary, EditId, MAIN, Node, NodeId, Op, Plan, Reduce, RegionId, Size, Type};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use steer_lang::{Diagnostic, codes};

/// How a node is executed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Read where it is used: an argument of kernels.
    Leaf,
    /// Another node's elements in another order.
    View,
    /// Part of a kernel.
    Fused,
    /// An instruction of its own.
    Library,
    /// A patch of a whole value: the runtime redirects rows.
    Redirect,
}

/// Operations over two nodes that are one primitive. Chosen from the Plan's structure alone, so that
/// what else reads a value never changes its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    Plain,
    /// The sum of this product.
    Dot(NodeId, NodeId),
    /// `a + s * x`, or `a - s * x`.
    Axpy {
        a: NodeId,
        s: NodeId,
        x: NodeId,
        minus: bool,
    },
}

/// The rows on which a value is needed: all, or those where one of some edits is active.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Need {
    #[default]
    Never,
    Edits(Vec<EditId>),
    Always,
}

impl Need {
    fn join(&mut self, other: &Need) {
        match (&mut *self, other) {
            (Need::Always, _) | (_, Need::Never) => {}
            (_, Need::Always) => *self = Need::Always,
            (Need::Never, other) => *self = other.clone(),
            (Need::Edits(mine), Need::Edits(theirs)) => {
                for e in theirs {
                    if !mine.contains(e) {
                        mine.push(*e);
                    }
                }
                mine.sort();
            }
        }
    }

    pub fn is_only(&self, edit: EditId) -> bool {
        matches!(self, Need::Edits(e) if e.as_slice() == [edit])
    }

    pub fn edits(&self) -> &[EditId] {
        match self {
            Need::Edits(e) => e,
            _ => &[],
        }
    }
}

pub struct Graph<'p> {
    pub plan: &'p Plan,
    /// The Plan's nodes, and copies that were put in.
    pub nodes: Vec<Node>,
    /// The node of the Plan that a copy is of.
    pub original: Vec<NodeId>,
    pub region: Vec<RegionId>,
    /// Whether it differs by row; otherwise it is computed once.
    pub row: Vec<bool>,
    pub form: Vec<Form>,
    pub view: Vec<View>,
    pub pattern: Vec<Pattern>,
    /// Known at compile time.
    pub number: Vec<Option<f32>>,
    pub need: Vec<Need>,
    /// The owner of each body.
    pub owner: HashMap<RegionId, NodeId>,
    /// What each output of the Plan reads.
    pub outputs: Vec<NodeId>,
    /// What each body hands back.
    pub results: HashMap<RegionId, Vec<NodeId>>,
    /// Values whose rows are taken from a donor, by edit.
    pub patched: HashMap<EditId, NodeId>,
    /// The entries of the only `out` axis that a product is limited to.
    pub select: HashMap<NodeId, Arc<[u32]>>,
    declared: HashSet<NodeId>,
}

pub fn extent(axis: &Axis) -> Lin {
    match axis.size {
        Size::Fixed(n) => Lin::fixed(n),
        Size::Keys => Lin::KEYS,
    }
}

pub fn extents(ty: &Type) -> Vec<Lin> {
    ty.axes.iter().map(extent).collect()
}

pub fn named(ty: &Type) -> Vec<(Arc<str>, Lin)> {
    ty.axes.iter().map(|a| (a.name.clone(), extent(a))).collect()
}

impl<'p> Graph<'p> {
    pub fn new(plan: &'p Plan) -> Result<Self, Diagnostic> {
        let count = plan.nodes.len();
        let mut g = Graph {
            plan,
            nodes: plan.nodes.clone(),
            original: (0..count as u32).map(NodeId).collect(),
            region: vec![MAIN; count],
            row: vec![false; count],
            form: vec![Form::Leaf; count],
            view: vec![View::default(); count],
            pattern: vec![Pattern::Plain; count],
            number: vec![None; count],
            need: vec![Need::Never; count],
            owner: HashMap::new(),
            outputs: plan.outputs.iter().map(|o| o.node).collect(),
            results: HashMap::new(),
            patched: HashMap::new(),
            select: HashMap::new(),
            declared: plan.sites.iter().flat_map(|s| [s.before, s.value]).collect(),
        };
        for (i, region) in plan.regions.iter().enumerate() {
            let id = RegionId(i as u32);
            for &n in &region.order {
                g.region[n.0 as usize] = id;
                if let Some(body) = plan.node(n).op.body() {
                    if id != MAIN {
                        return Err(g.unsupported(n, "an attention or a scan inside of the body of another"));
                    }
                    g.owner.insert(body, n);
                    g.results.insert(body, plan.region(body).results.clone());
                }
            }
        }
        let order: Vec<NodeId> = g.plan_order();
        for n in order {
            g.classify(n)?;
        }
        Ok(g)
    }

    pub fn node(&self, n: NodeId) -> &Node {
        &self.nodes[n.0 as usize]
    }

    pub fn ty(&self, n: NodeId) -> &Type {
        &self.node(n).ty
    }

    pub fn form(&self, n: NodeId) -> Form {
        self.form[n.0 as usize]
    }

    pub fn is_row(&self, n: NodeId) -> bool {
        self.row[n.0 as usize]
    }

    pub fn view(&self, n: NodeId) -> &View {
        &self.view[n.0 as usize]
    }

    pub fn need(&self, n: NodeId) -> &Need {
        &self.need[n.0 as usize]
    }

    pub fn number(&self, n: NodeId) -> Option<f32> {
        self.number[n.0 as usize]
    }

    pub fn unsupported(&self, n: NodeId, what: &str) -> Diagnostic {
        let span = self.nodes[n.0 as usize].span;
        Diagnostic::error(codes::WRONG_KIND, format!("{what} cannot be compiled")).at(span, "this value")
    }

    /// A name for a value in printed programs.
    pub fn name(&self, n: NodeId) -> String {
        let n = self.original[n.0 as usize];
        let site = self.plan.sites.iter().find(|s| s.value == n || s.before == n);
        let node = self.node(n);
        match (site, &node.origin) {
            (Some(site), _) => site.name.clone(),
            (None, Some(origin)) => format!("{origin}#{}", n.0),
            (None, None) => format!("#{}", n.0),
        }
    }

    /// The Plan's nodes, each after all that it reads; those of bodies before the owner.
    fn plan_order(&self) -> Vec<NodeId> {
        let mut order = Vec::with_capacity(self.nodes.len());
        for &n in &self.plan.region(MAIN).order {
            if let Some(body) = self.plan.node(n).op.body() {
                order.extend(&self.plan.region(body).order);
            }
            order.push(n);
        }
        order
    }

    /// Finds out how a node is executed and where its elements lie.
    fn classify(&mut self, n: NodeId) -> Result<(), Diagnostic> {
        let i = n.0 as usize;
        let node = self.nodes[i].clone();
        let mut row = node.ty.per_row || node.ty.has_keys();
        node.op.for_each_input(&mut |o| row |= self.row[o.0 as usize]);
        row |= node.op.body().is_some();
        row |= matches!(
            node.op,
            Op::Token | Op::Position | Op::Param { .. } | Op::Donor(_) | Op::Arg(_) | Op::Overlay { .. } | Op::Receipt { .. }
        );
        self.row[i] = row;
        self.number[i] = self.fold(&node.op);
        let own = |g: &Self| match view::row_major(&extents(&g.nodes[i].ty)) {
            Some(strides) => Ok(View { root: n, offset: Lin::ZERO, strides }),
            None => Err(g.unsupported(n, "a value with several axes over keys")),
        };
        self.view[i] = own(self)?;
        self.form[i] = match &node.op {
            _ if self.number[i].is_some() => Form::Leaf,
            Op::Iota if node.ty.has_keys() => Form::Fused,
            Op::Token | Op::Position | Op::Layer | Op::Number(_) | Op::Table(_) | Op::Iota | Op::Donor(_) | Op::Arg(_) => {
                Form::Leaf
            }
            Op::Param { .. } if node.ty.axes.is_empty() => Form::Leaf,
            Op::Param { .. } => return Err(self.unsupported(n, "a parameter that is no number")),
            Op::Weight(w) => {
                let axes = self.plan.weights.get(w.0 as usize).map(|w| w.axes()).unwrap_or_default();
                self.view[i] = self.stored_as(n, &axes)?;
                Form::Leaf
            }
            Op::Tensor(t) => {
                let axes = self.plan.tensors.get(t.0 as usize).map(|t| t.axes.clone()).unwrap_or_default();
                self.view[i] = self.stored_as(n, &axes)?;
                Form::Leaf
            }
            Op::Slice { .. } | Op::At { .. } | Op::Permute(_) | Op::Reshape(_) => match self.viewed(&node) {
                Some(view) => {
                    self.view[i] = view;
                    Form::View
                }
                None => Form::Fused,
            },
            Op::Linear { .. } => {
                if self.region[i] != MAIN && row {
                    return Err(self.unsupported(n, "a product with weights inside of the body of an attention or scan"));
                }
                let stored = super::legalize::linear_axes(self, n)?.result();
                self.view[i] = self.stored_as(n, &stored)?;
                Form::Library
            }
            Op::Lookup { .. } | Op::Conv1d { .. } if self.region[i] != MAIN && row => {
                return Err(self.unsupported(n, "this operation inside of the body of an attention or scan"));
            }
            Op::Lookup { .. } | Op::Attention { .. } | Op::Conv1d { .. } | Op::Scan { .. } => Form::Library,
            _ => Form::Fused,
        };
        if self.form[i] == Form::Fused {
            self.pattern[i] = self.matched(&node);
        }
        Ok(())
    }

    /// The view of a root whose elements lie row-major over `axes`, which are the type's in another order.
    fn stored_as(&self, n: NodeId, axes: &[Axis]) -> Result<View, Diagnostic> {
        let extents: Vec<Lin> = axes.iter().map(extent).collect();
        let stored = view::row_major(&extents);
        let strides = stored.and_then(|stored| {
            let find = |a: &Axis| axes.iter().position(|b| b.name == a.name).map(|i| stored[i]);
            self.ty(n).axes.iter().map(find).collect::<Option<Vec<Lin>>>()
        });
        match strides {
            Some(strides) if axes.len() == self.ty(n).axes.len() => Ok(View { root: n, offset: Lin::ZERO, strides }),
            _ => Err(self.unsupported(n, "a value whose axes differ from those of its source")),
        }
    }

    /// Where the elements of an indexing node lie, unless they have to be moved.
    fn viewed(&self, node: &Node) -> Option<View> {
        match &node.op {
            Op::Slice { of, axis, start, .. } => self.view(*of).advanced(self.ty(*of).position_of(axis)?, *start),
            Op::At { of, axis, index } => {
                let at = self.ty(*of).position_of(axis)?;
                let mut view = self.view(*of).advanced(at, *index)?;
                view.strides.remove(at);
                Some(view)
            }
            Op::Permute(of) => {
                let from = self.view(*of);
                let strides = node.ty.axes.iter().map(|a| self.ty(*of).position_of(&a.name).map(|i| from.strides[i]));
                let strides = strides.collect::<Option<_>>()?;
                (node.ty.axes.len() == from.strides.len()).then_some(View { strides, ..from.clone() })
            }
            Op::Reshape(of) => {
                let from = self.view(*of);
                let strides = view::reshaped(&extents(self.ty(*of)), &from.strides, &extents(&node.ty))?;
                Some(View { strides, ..from.clone() })
            }
            _ => None,
        }
    }

    /// The value of arithmetic on numbers.
    fn fold(&self, op: &Op) -> Option<f32> {
        match op {
            Op::Number(x) => Some(*x),
            Op::Unary(op, a) => Some(op.apply(self.number(*a)?)),
            Op::Binary(op, a, b) => Some(op.apply(self.number(*a)?, self.number(*b)?)),
            _ => None,
        }
    }

    fn matched(&self, node: &Node) -> Pattern {
        // A declared value may become the target of an edit: its product stays a value of its own.
        let product = |n: NodeId| match self.node(n).op {
            Op::Binary(Binary::Mul, a, b) if !self.declared.contains(&n) && self.number(n).is_none() => Some((a, b)),
            _ => None,
        };
        let scalar = |n: NodeId| self.ty(n).axes.is_empty();
        match &node.op {
            Op::Reduce(Reduce::Sum, of, over) => match product(*of) {
                Some((a, b)) if [a, b].iter().all(|f| over.iter().all(|x| self.ty(*f).position_of(x).is_some())) => {
                    Pattern::Dot(a, b)
                }
                _ => Pattern::Plain,
            },
            Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) if !node.ty.axes.is_empty() => {
                let scaled = |n: NodeId| match product(n) {
                    Some((s, x)) if scalar(s) && !scalar(x) => Some((s, x)),
                    Some((x, s)) if scalar(s) && !scalar(x) => Some((s, x)),
                    _ => None,
                };
                let minus = *op == Binary::Sub;
                match (scaled(*b), scaled(*a)) {
                    (Some((s, x)), _) => Pattern::Axpy { a: *a, s, x, minus },
                    (None, Some((s, x))) if !minus => Pattern::Axpy { a: *b, s, x, minus },
                    _ => Pattern::Plain,
                }
            }
            _ => Pattern::Plain,
        }
    }

    /// Appends a copy of a value under a type whose axes may stand in another order, or be more.
    pub fn copy(&mut self, of: NodeId, ty: Type, region: RegionId, row: bool) -> Result<NodeId, Diagnostic> {
        let id = NodeId(self.nodes.len() as u32);
        let from = self.node(of).clone();
        self.nodes.push(Node { op: Op::Permute(of), ty: Type { per_row: row, ..ty }, ..from });
        self.original.push(self.original[of.0 as usize]);
        self.region.push(region);
        self.row.push(row);
        self.form.push(Form::Fused);
        self.pattern.push(Pattern::Plain);
        self.number.push(None);
        self.need.push(Need::Never);
        let Some(strides) = view::row_major(&extents(self.ty(id))) else {
            return Err(self.unsupported(of, "a value with several axes over keys"));
        };
        self.view.push(View { root: id, offset: Lin::ZERO, strides });
        Ok(id)
    }

    /// Whether a node is the whole of a buffer, or of a temporary, in order.
    pub fn is_whole(&self, n: NodeId) -> bool {
        let view = self.view(n);
        let len = |n: NodeId| extents(self.ty(n)).iter().try_fold(Lin::ONE, |l, e| l.times(*e));
        matches!(self.form(view.root), Form::Fused | Form::Library | Form::Redirect)
            && view.offset == Lin::ZERO
            && view::is_row_major(&extents(self.ty(n)), &view.strides)
            && len(n) == len(view.root)
    }

    /// What a node reads once patterns are applied; for a mixing op what its body reads from outside, too.
    pub fn inputs(&self, n: NodeId) -> Vec<NodeId> {
        let mut inputs = Vec::new();
        match self.pattern[n.0 as usize] {
            Pattern::Dot(a, b) => inputs.extend([a, b]),
            Pattern::Axpy { a, s, x, .. } => inputs.extend([a, s, x]),
            Pattern::Plain => self.node(n).op.for_each_input(&mut |o| inputs.push(o)),
        }
        if let Some(body) = self.node(n).op.body() {
            for inner in self.body_order(body) {
                inputs.extend(self.inputs(inner).into_iter().filter(|o| !self.is_inside(*o, body)));
            }
        }
        inputs
    }

    /// Whether a node is executed as a part of a body.
    pub fn is_inside(&self, n: NodeId, body: RegionId) -> bool {
        self.region[n.0 as usize] == body && self.is_row(n)
    }

    /// The live nodes of a body, each after all that it reads.
    pub fn body_order(&self, body: RegionId) -> Vec<NodeId> {
        let outputs = self.outputs.iter().copied().filter(|o| self.is_inside(*o, body));
        let results = self.results.get(&body).cloned().unwrap_or_default();
        let roots: Vec<NodeId> = results.into_iter().chain(outputs).collect();
        self.with_receipts(roots, &self.plan.region(body).order, &|n| self.is_inside(n, body))
    }

    /// What `roots` need, and the receipts of the edits among it.
    fn with_receipts(&self, mut roots: Vec<NodeId>, region: &[NodeId], within: &dyn Fn(NodeId) -> bool) -> Vec<NodeId> {
        let receipts: Vec<(EditId, NodeId)> = region
            .iter()
            .filter_map(|n| match self.node(*n).op {
                Op::Receipt { edit, .. } => Some((edit, *n)),
                _ => None,
            })
            .collect();
        loop {
            let order = self.sorted(&roots, within);
            let edits: HashSet<EditId> = order
                .iter()
                .filter_map(|n| match self.node(*n).op {
                    Op::Overlay { edit, .. } => Some(edit),
                    _ => None,
                })
                .collect();
            let before = roots.len();
            for (edit, n) in &receipts {
                if edits.contains(edit) && !roots.contains(n) {
                    roots.push(*n);
                }
            }
            if roots.len() == before {
                return order;
            }
        }
    }

    /// Everything that `roots` need and `within` holds for, each after all that it reads.
    pub fn sorted(&self, roots: &[NodeId], within: &dyn Fn(NodeId) -> bool) -> Vec<NodeId> {
        let mut order = Vec::new();
        let mut seen: HashSet<NodeId> = HashSet::new();
        let mut stack: Vec<(NodeId, bool)> = Vec::new();
        for &root in roots {
            stack.push((root, false));
            while let Some((n, done)) = stack.pop() {
                if done {
                    order.push(n);
                } else if within(n) && seen.insert(n) {
                    stack.push((n, true));
                    stack.extend(self.inputs(n).into_iter().rev().map(|i| (i, false)));
                }
            }
        }
        order
    }

    /// What has to be executed before a node.
    pub fn deps(&self, n: NodeId) -> Vec<NodeId> {
        let mut deps: Vec<NodeId> = Vec::new();
        for input in self.inputs(n) {
            let root = self.view(input).root;
            if self.is_unit(root) && !deps.contains(&root) {
                deps.push(root);
            }
        }
        deps
    }

    /// Whether a node is executed, rather than read where it is used.
    pub fn is_unit(&self, n: NodeId) -> bool {
        matches!(self.form(n), Form::Fused | Form::Library | Form::Redirect)
    }

    /// The live nodes outside of bodies, each after all that it reads, in the Plan's order.
    pub fn live(&self) -> Vec<NodeId> {
        let mut roots: Vec<NodeId> = Vec::new();
        for &o in &self.outputs {
            let owner = self.owner.get(&self.region[o.0 as usize]).filter(|_| self.is_row(o));
            roots.push(owner.copied().unwrap_or(o));
        }
        let outside = |n: NodeId| !self.is_row(n) || self.region[n.0 as usize] == MAIN;
        let wanted = self.with_receipts(roots, &self.plan.region(MAIN).order, &outside);
        let wanted: HashSet<NodeId> = wanted.into_iter().collect();
        // A copy follows what it is of, where it is first read.
        let copies = (self.plan.nodes.len() as u32..self.nodes.len() as u32).map(NodeId);
        let order: Vec<NodeId> = self.plan_order().into_iter().chain(copies).filter(|n| wanted.contains(n)).collect();
        self.sorted(&order, &|n| wanted.contains(&n))
    }

    /// Finds the rows on which each value is needed, and lets what is only needed where an edit is
    /// active read the edited value itself.
    pub fn find_needs(&mut self, live: &[NodeId]) {
        let mut all = Vec::with_capacity(live.len());
        for &n in live {
            if let Some(body) = self.node(n).op.body() {
                all.extend(self.body_order(body));
            }
            all.push(n);
        }
        for o in self.outputs.clone() {
            self.need[o.0 as usize] = Need::Always;
        }
        for results in self.results.values() {
            for r in results {
                self.need[r.0 as usize] = Need::Always;
            }
        }
        for base in self.patched.values() {
            self.need[base.0 as usize] = Need::Always;
        }
        for &n in all.iter().rev() {
            let own = match &self.node(n).op {
                Op::Receipt { edit, .. } => Need::Edits(vec![*edit]),
                _ if self.form(n) == Form::Library || !self.is_row(n) => Need::Always,
                _ => self.need(n).clone(),
            };
            self.need[n.0 as usize] = own.clone();
            let edited = match self.node(n).op {
                Op::Overlay { edit, base, value } => Some((edit, base, value)),
                _ => None,
            };
            for input in self.inputs(n) {
                let outer = self.region[input.0 as usize] != self.region[n.0 as usize];
                let need = match edited {
                    Some((edit, base, value)) if input == value && value != base => Need::Edits(vec![edit]),
                    _ if outer => Need::Always,
                    _ => own.clone(),
                };
                self.need[input.0 as usize].join(&need);
            }
        }
        for &n in &all {
            let Need::Edits(edits) = self.need(n).clone() else { continue };
            let [only] = edits[..] else { continue };
            let mut op = self.node(n).op.clone();
            let through = |o: NodeId| match self.node(o).op {
                Op::Overlay { edit, value, .. } if edit == only => value,
                _ => o,
            };
            let pattern = match self.pattern[n.0 as usize] {
                Pattern::Plain => Pattern::Plain,
                Pattern::Dot(a, b) => Pattern::Dot(through(a), through(b)),
                Pattern::Axpy { a, s, x, minus } => Pattern::Axpy { a: through(a), s: through(s), x: through(x), minus },
            };
            op.for_each_input_mut(&mut |o| *o = through(*o));
            self.nodes[n.0 as usize].op = op;
            self.pattern[n.0 as usize] = pattern;
            if self.form(n) == Form::View {
                match self.viewed(self.node(n)) {
                    Some(view) => self.view[n.0 as usize] = view,
                    None => self.form[n.0 as usize] = Form::Fused,
                }
                if self.form(n) == Form::Fused
                    && let Some(strides) = view::row_major(&extents(self.ty(n)))
                {
                    self.view[n.0 as usize] = View { root: n, offset: Lin::ZERO, strides };
                }
            }
        }
    }
}
