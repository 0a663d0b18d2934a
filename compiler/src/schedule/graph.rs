//! The Plan as the scheduler sees it: which nodes are mere indexing, which can be fused, which are
//! calls of a library, and what is still needed.

use super::experts::Experts;
use super::view::{self, View};
use crate::kernel::Lin;
use crate::plan::{Axis, EditId, MAIN, Node, NodeId, Op, Plan, RegionId, Size, Type};
use std::collections::{BTreeMap, HashMap, HashSet};
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
    pub fn join(&mut self, other: &Need) {
        match (&mut *self, other) {
            (Need::Always, _) | (_, Need::Never) => {}
            (_, Need::Always) => *self = Need::Always,
            (Need::Never, other) => *self = other.clone(),
            (Need::Edits(mine), Need::Edits(theirs)) => {
                if mine.as_slice() != theirs.as_slice() {
                    mine.extend(theirs);
                    mine.sort();
                    mine.dedup();
                }
            }
        }
    }

    /// The edit, where one alone needs it.
    pub fn only(&self) -> Option<EditId> {
        match self {
            Need::Edits(e) if e.len() == 1 => e.first().copied(),
            _ => None,
        }
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
    /// The same inside of bodies: results that these hand back where something takes them.
    pub given: BTreeMap<EditId, NodeId>,
    /// The entries of the only `out` axis that a product is limited to.
    pub select: HashMap<NodeId, Arc<[u32]>>,
    /// The values that sites name.
    pub declared: HashSet<NodeId>,
    /// Sums over experts that are one instruction.
    pub experts: HashMap<NodeId, Experts>,
    /// Whether operations may be executed together.
    pub fuses: bool,
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
            given: BTreeMap::new(),
            select: HashMap::new(),
            experts: HashMap::new(),
            fuses: true,
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
    pub fn plan_order(&self) -> Vec<NodeId> {
        let mut order = Vec::with_capacity(self.nodes.len());
        for &n in &self.plan.region(MAIN).order {
            if let Some(body) = self.plan.node(n).op.body() {
                order.extend(&self.plan.region(body).order);
            }
            order.push(n);
        }
        order
    }

    /// Appends a copy of a value under a type whose axes may stand in another order, or be more.
    pub fn copy(&mut self, of: NodeId, ty: Type, region: RegionId, row: bool) -> Result<NodeId, Diagnostic> {
        let node = Node { op: Op::Permute(of), ty: Type { per_row: row, ..ty }, ..self.node(of).clone() };
        self.put(node, of, region, Form::Fused)
    }

    /// Appends a node that is computed by itself, in place of another.
    pub fn put(&mut self, node: Node, of: NodeId, region: RegionId, form: Form) -> Result<NodeId, Diagnostic> {
        let id = NodeId(self.nodes.len() as u32);
        let row = node.ty.per_row;
        self.nodes.push(node);
        self.original.push(self.original[of.0 as usize]);
        self.region.push(region);
        self.row.push(row);
        self.form.push(form);
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
        if let Some(experts) = self.experts.get(&n) {
            return experts.inputs();
        }
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
}
