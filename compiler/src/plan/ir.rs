//! The Plan: a model and its edits as one SSA graph over named axes.
//!
//! Every value belongs to one row (one token of one sequence) or to no row at all (weights and what
//! is computed from them alone). All shapes are known but two: the number of rows, which is no axis,
//! and `key`, the rows that attention reads.

use std::sync::Arc;

pub use steer_kernels::{Binary, Reduce, Unary};
use steer_lang::Span;

/// The version of the text form.
pub const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EditId(pub u32);

/// The region that holds the model itself.
pub const MAIN: RegionId = RegionId(0);

/// The name of the axis over the rows that an attention reads.
pub const KEY: &str = "key";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    Fixed(usize),
    /// As many as the row has keys: only the axis `key`.
    Keys,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    pub name: Arc<str>,
    pub size: Size,
}

impl Axis {
    pub fn new(name: &str, size: usize) -> Self {
        Axis { name: name.into(), size: Size::Fixed(size) }
    }

    pub fn key() -> Self {
        Axis { name: KEY.into(), size: Size::Keys }
    }
}

/// The element type. On every backend so far all three are stored as f32, booleans as 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elem {
    F32,
    Bool,
    /// A whole number below 2^24: a token, a position, an index.
    Index,
}

/// The type of a value: row-major over its axes, the last one fastest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    pub axes: Vec<Axis>,
    pub elem: Elem,
    /// Whether there is one such value for every row; otherwise one for the whole model.
    pub per_row: bool,
}

impl Type {
    pub fn scalar(elem: Elem, per_row: bool) -> Self {
        Type { axes: Vec::new(), elem, per_row }
    }

    /// The number of elements, with `keys` for the axis `key`.
    pub fn len_with(&self, keys: usize) -> usize {
        self.axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { keys }).product()
    }

    /// The number of elements where no axis is `key`.
    #[allow(clippy::len_without_is_empty)] // No value is empty.
    pub fn len(&self) -> Option<usize> {
        self.axes.iter().map(|a| if let Size::Fixed(n) = a.size { Some(n) } else { None }).product()
    }

    pub fn position_of(&self, axis: &str) -> Option<usize> {
        self.axes.iter().position(|a| &*a.name == axis)
    }

    pub fn has_keys(&self) -> bool {
        self.axes.iter().any(|a| a.size == Size::Keys)
    }
}

/// Which rows of its sequence an op reads besides its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    #[default]
    Own,
    /// Every earlier row.
    Prefix,
    /// So many rows up to its own.
    Window(usize),
    /// Every row, those behind it too.
    Whole,
    /// What the row before carried on.
    State,
}

/// Which rows of a sequence are keys of a row in an attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// No more than these up to its own.
    pub window: Option<usize>,
    /// All of them, those behind it too.
    pub whole: bool,
}

impl Sight {
    /// The keys of the row at a position, in a sequence of so many rows.
    pub fn of(self, position: usize, rows: usize) -> std::ops::Range<usize> {
        if self.whole {
            return 0..rows;
        }
        let end = position + 1;
        end - end.min(self.window.unwrap_or(usize::MAX))..end
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The row's token.
    Token,
    /// The row's position in its sequence, from 0.
    Position,
    /// The layer that the node belongs to (`Node::layer`). An argument of kernels.
    Layer,
    /// A number.
    Number(f32),
    /// Numbers computed from the configuration, in the order of the type's axes.
    Table(Arc<[f32]>),
    /// 0, 1, 2, ... along the type's only axis; along `key`, the absolute position of the key.
    Iota,
    Weight(WeightId),
    /// A tensor of the script.
    Tensor(TensorId),
    /// A parameter of an edit, as the run sets it on the row.
    Param {
        edit: EditId,
        slot: u32,
    },
    /// What another run has at the site of this edit.
    Donor(EditId),
    /// A parameter of the region's owner, such as the scores of an attention.
    Arg(u32),

    /// Elementwise; axes of one name are matched, absent ones repeated.
    Unary(Unary, NodeId),
    Binary(Binary, NodeId, NodeId),
    /// Where the first is true the second, else the third.
    Select(NodeId, NodeId, NodeId),
    /// Over these axes, which the result lacks.
    Reduce(Reduce, NodeId, Vec<Arc<str>>),
    /// True for the `k` largest along an axis; of equals, the first.
    TopK {
        of: NodeId,
        axis: Arc<str>,
        k: NodeId,
    },

    /// `len` entries of an axis from `start`.
    Slice {
        of: NodeId,
        axis: Arc<str>,
        start: usize,
        len: usize,
    },
    /// One entry of an axis, which the result lacks.
    At {
        of: NodeId,
        axis: Arc<str>,
        index: usize,
    },
    /// These entries of an axis, in this order. `of` is no row value.
    Pick {
        of: NodeId,
        axis: Arc<str>,
        entries: Arc<[u32]>,
    },
    /// The same elements in the same order under the type's axes.
    Reshape(NodeId),
    /// The same value with its axes in the type's order.
    Permute(NodeId),
    /// Along an axis that both have.
    Concat(NodeId, NodeId, Arc<str>),

    /// Sums `x * w` over the axes `over`, which both have; other shared axes stay. `w` is no row value.
    /// Where `active` (over a shared axis such as `expert`) is 0, the result is 0 and not computed.
    Linear {
        x: NodeId,
        w: NodeId,
        over: Vec<Arc<str>>,
        active: Option<NodeId>,
    },
    /// The entry of the first axis of `table` that `index` names.
    Lookup {
        table: NodeId,
        index: NodeId,
    },

    /// `q [head, d_head]`, `k` and `v` `[kv_head, d_head]`: the body turns scores `[head, key]`, which are
    /// `scale * q·k`, into the pattern by which the values are summed. Result `[head, d_head]`. Keys are those of the
    /// rows up to the row's own, no more than `window`, or where it is `whole`, of all rows of the sequence.
    Attention {
        q: NodeId,
        k: NodeId,
        v: NodeId,
        scale: f32,
        window: Option<usize>,
        whole: bool,
        body: RegionId,
    },
    /// Causal, one filter a channel: `x [channel]`, `w [channel, tap]`, the last tap the row's own.
    Conv1d {
        x: NodeId,
        w: NodeId,
    },
    /// The body turns the carried state into `[new state, result]`; before the first row it is 0.
    Scan {
        body: RegionId,
    },

    /// On the rows where the edit is active `value`, else `base`.
    Overlay {
        edit: EditId,
        base: NodeId,
        value: NodeId,
    },
    /// A number of the receipt of an edit, taken on the rows where it is active. No value reads it.
    Receipt {
        edit: EditId,
        stat: Stat,
        value: NodeId,
    },
}

/// What a receipt counts and sums, by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stat {
    /// Entries of the first axis (heads, experts; else elements) that changed.
    Changed,
    /// Squared norm of the change.
    Moved,
    /// Squared norm of the value before the edit.
    Before,
    /// Of a route, whose gates are compared with what they are without it: how many experts have a gate without it;
    /// how many that have none get one, and how many lose theirs. [`Stat::Moved`] and [`Stat::Before`] are then sums
    /// of gates: the larger of what is added and what is taken away; and all without it.
    Chosen,
    Entered,
    Left,
}

impl Stat {
    /// How many numbers a receipt has.
    pub const COUNT: usize = 6;
    pub const ALL: [Stat; Stat::COUNT] =
        [Stat::Changed, Stat::Moved, Stat::Before, Stat::Chosen, Stat::Entered, Stat::Left];
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: Op,
    pub ty: Type,
    pub layer: Option<u32>,
    /// The functions it was inlined from, outermost first, as `attention/softmax`.
    pub origin: Option<Arc<str>>,
    pub span: Span,
}

/// The model itself, or the body of a mixing op.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Region {
    /// The nodes `Arg(0)`, `Arg(1)`, ...
    pub args: Vec<NodeId>,
    /// Execution order; a node stands after all that it reads.
    pub order: Vec<NodeId>,
    /// What the owner takes: the pattern of an attention; new state and result of a scan.
    pub results: Vec<NodeId>,
}

/// A tensor of the weight files.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The name in the file. `{expert}` stands for the index along the axis of that name, which is
    /// then spread over as many files' tensors.
    pub name: String,
    /// The dimensions in the file, each one axis or several laid out together, the last one fastest.
    /// An axis that the name spreads over stands first, alone.
    pub dims: Vec<Vec<Axis>>,
    pub span: Span,
}

impl Weight {
    /// All axes, in file order.
    pub fn axes(&self) -> Vec<Axis> {
        self.dims.iter().flatten().cloned().collect()
    }

    /// The axes that the name is spread over.
    pub fn spread(&self) -> impl Iterator<Item = &Axis> {
        self.dims
            .iter()
            .filter(|d| d.len() == 1)
            .map(|d| &d[0])
            .filter(|a| self.name.contains(&format!("{{{}}}", a.name)))
    }
}

/// A tensor of the script, given at run time.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub axes: Vec<Axis>,
}

/// A declared value: where edits, captures and metrics can be.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// `blocks[3].attn.q`, `embed`
    pub name: String,
    pub layer: Option<u32>,
    pub region: RegionId,
    /// Before the edits of this site, and after them.
    pub before: NodeId,
    pub value: NodeId,
    /// What the name means in every architecture.
    pub contract: Arc<str>,
}

/// A hook or patch at one site, or what a route does at one. Which rows it is active on, and its parameters, are data of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The hook's or patch's name.
    pub name: String,
    pub site: String,
    pub layer: Option<u32>,
    /// Of a part of a route: the mixture of experts that it is of, as `blocks[3].moe`.
    pub route: Option<String>,
    /// The names of its parameters, by slot.
    pub params: Vec<String>,
    pub span: Span,
}

/// A value that something outside of the Plan reads: logits of a metric, a capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub name: String,
    pub node: NodeId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub arch: String,
    pub nodes: Vec<Node>,
    /// The first is the model.
    pub regions: Vec<Region>,
    pub weights: Vec<Weight>,
    pub tensors: Vec<Tensor>,
    pub sites: Vec<Site>,
    pub edits: Vec<Edit>,
    pub outputs: Vec<Output>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            arch: String::new(),
            nodes: Vec::new(),
            regions: vec![Region::default()],
            weights: Vec::new(),
            tensors: Vec::new(),
            sites: Vec::new(),
            edits: Vec::new(),
            outputs: Vec::new(),
        }
    }
}

impl Plan {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub fn ty(&self, id: NodeId) -> &Type {
        &self.node(id).ty
    }

    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.0 as usize]
    }

    /// Appends a node to a region.
    pub fn push(&mut self, region: RegionId, node: Node) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        self.regions[region.0 as usize].order.push(id);
        id
    }

    /// Calls `f` on everything that a node reads, what its body reads from outside included.
    pub fn for_each_input(&self, id: NodeId, f: &mut dyn FnMut(NodeId)) {
        let op = &self.node(id).op;
        op.for_each_input(f);
        if let Some(body) = op.body() {
            let region = self.region(body);
            let inside: std::collections::HashSet<NodeId> = region.order.iter().copied().collect();
            for &n in &region.order {
                self.node(n).op.for_each_input(&mut |i| {
                    if !inside.contains(&i) {
                        f(i)
                    }
                });
            }
        }
    }
}

impl Plan {
    /// Whether rows read rows behind them, so that a sequence has to be there as a whole.
    pub fn is_whole(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n.op, Op::Attention { whole: true, .. }))
    }

    /// What a row sees in the attention that a node stands inside of.
    pub fn sight_inside(&self, node: NodeId) -> Option<Sight> {
        let holds = |body: RegionId| self.region(body).order.contains(&node);
        self.nodes.iter().find_map(|n| n.op.sight().filter(|_| n.op.body().is_some_and(holds)))
    }
}

impl Op {
    /// The body of a mixing op.
    pub fn body(&self) -> Option<RegionId> {
        match self {
            Op::Attention { body, .. } | Op::Scan { body } => Some(*body),
            _ => None,
        }
    }

    /// The edit that it is a receipt of.
    pub fn receipt_of(&self) -> Option<EditId> {
        if let Op::Receipt { edit, .. } = self { Some(*edit) } else { None }
    }

    /// The rows it reads besides its own.
    pub fn reads(&self, plan: &Plan) -> Reads {
        match self {
            Op::Attention { whole: true, .. } => Reads::Whole,
            Op::Attention { window: None, .. } => Reads::Prefix,
            Op::Attention { window: Some(n), .. } => Reads::Window(*n),
            Op::Conv1d { w, .. } => match plan.ty(*w).axes.last().map(|a| a.size) {
                Some(Size::Fixed(n)) => Reads::Window(n),
                _ => Reads::Prefix,
            },
            Op::Scan { .. } => Reads::State,
            _ => Reads::Own,
        }
    }

    /// What a row of an attention sees.
    pub fn sight(&self) -> Option<Sight> {
        match self {
            Op::Attention { window, whole, .. } => Some(Sight { window: *window, whole: *whole }),
            _ => None,
        }
    }

    /// Calls `f` on the direct operands.
    pub fn for_each_input(&self, f: &mut dyn FnMut(NodeId)) {
        self.clone().for_each_input_mut(&mut |id| f(*id));
    }

    /// Calls `f` on the direct operands, which it may replace.
    pub fn for_each_input_mut(&mut self, f: &mut dyn FnMut(&mut NodeId)) {
        match self {
            Op::Token
            | Op::Position
            | Op::Layer
            | Op::Number(_)
            | Op::Table(_)
            | Op::Iota
            | Op::Weight(_)
            | Op::Tensor(_)
            | Op::Param { .. }
            | Op::Donor(_)
            | Op::Arg(_)
            | Op::Scan { .. } => {}
            Op::Unary(_, a) | Op::Reduce(_, a, _) | Op::Reshape(a) | Op::Permute(a) => f(a),
            Op::Slice { of, .. } | Op::At { of, .. } | Op::Pick { of, .. } => f(of),
            Op::TopK { of, k, .. } => {
                f(of);
                f(k);
            }
            Op::Binary(_, a, b) | Op::Concat(a, b, _) => {
                f(a);
                f(b);
            }
            Op::Select(a, b, c) => {
                f(a);
                f(b);
                f(c);
            }
            Op::Linear { x, w, active, .. } => {
                f(x);
                f(w);
                if let Some(a) = active {
                    f(a);
                }
            }
            Op::Lookup { table, index } => {
                f(table);
                f(index);
            }
            Op::Attention { q, k, v, .. } => {
                f(q);
                f(k);
                f(v);
            }
            Op::Conv1d { x, w } => {
                f(x);
                f(w);
            }
            Op::Overlay { base, value, .. } => {
                f(base);
                f(value);
            }
            Op::Receipt { value, .. } => f(value),
        }
    }
}
