//! What a runtime executes: library calls and fused row kernels in order, over buffers of rows.
//!
//! A program is cut into stretches, at whose start the set of rows may change: where an edit begins to
//! tell runs apart, where rows begin to depend on earlier ones that differ, and where only the rows that
//! something reads are left. Inside of a stretch every instruction works on the same rows.

use crate::kernel::Kernel;
use crate::plan::{Axis, EditId, NodeId, Reads, TensorId, WeightId};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelId(pub u32);

/// A materialized value: `len` floats for every row, or once where `per_row` is false (then it is
/// computed by the prelude).
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub node: NodeId,
    pub len: usize,
    pub per_row: bool,
    pub name: String,
}

/// Where the elements of a value without rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConstSource {
    /// As one array: the tensors that a spread name stands for follow one another.
    Weight(WeightId),
    Tensor(TensorId),
    /// The result of the prelude.
    Computed(BufId),
}

/// One strided dimension: `(entries, distance of neighbours in elements)`.
pub type Dim = (usize, usize);

/// A view of a value without rows: pure indexing, no copy.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstView {
    pub source: ConstSource,
    pub offset: usize,
    pub dims: Vec<(Axis, usize)>,
}

/// A matrix, or one for each of `batch`, in a value without rows.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixView {
    pub source: ConstSource,
    pub offset: usize,
    pub batch: Vec<Dim>,
    pub out: Vec<Dim>,
    pub inner: Vec<Dim>,
    /// Only these rows of `out`, flattened; `None`: all.
    pub select: Option<Arc<[u32]>>,
}

/// An argument of a kernel, in the order of `Kernel::params`.
#[derive(Clone, Debug, PartialEq)]
pub enum KernelArg {
    /// A buffer of rows, or a computed one without rows.
    Buffer(BufId),
    /// A contiguous copy of a view, made once.
    Const(ConstView),
    Table(Arc<[f32]>),
    /// Numbers of this call, such as the layer.
    Numbers(Vec<f32>),
    /// `[rows]`: the token, as f32.
    Token,
    /// `[rows]`: the position, as f32.
    Position,
    /// `[rows]`: 1 where the edit is active.
    Guard(EditId),
    /// `[rows, params]`
    Params(EditId),
    /// `[rows, len of the site]`; inside of a body for the one row, where the edit is active.
    Donor(EditId),
    /// `[rows, 3]`, in the order of `Stat::ALL`; the kernel stores it where the edit is active.
    Receipt(EditId),
    /// What the owner of a body hands it for the one row that it works on: for an attention 0 is the
    /// scores `[head, key]`, for a scan the carried state, and 1 the new one where its `recurrence` computes that.
    Body(u32),
    /// What the body hands back for the one row: for an attention 0 is the pattern `[head, key]`, for a
    /// scan 0 is the new state and 1 the result. Further ones are outputs and what patches take.
    Result(u32),
    /// The absolute position of the first key, one number (a window does not begin at 0).
    FirstKey,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KernelCall {
    pub kernel: KernelId,
    pub args: Vec<KernelArg>,
    pub layer: Option<u32>,
}

/// The body of an attention or scan as a kernel, called for one row at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub call: KernelCall,
    /// Values inside of the body that are outputs of the Plan: the index of `KernelArg::Result` and the node.
    pub outputs: Vec<(u32, NodeId)>,
    pub patches: Vec<BodyPatch>,
}

/// A patch of a value inside of a body: the row that it is active on is handed the result of its donor's row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BodyPatch {
    pub edit: EditId,
    /// The index of `KernelArg::Result`: the value before the patch.
    pub result: u32,
    /// That value in the Plan.
    pub node: NodeId,
}

/// The softmax of the scores over the keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    /// One more score for each head, which takes part in the sum and has no value.
    pub sinks: Option<ConstView>,
}

/// `new = exp(dt * rate) * state + (dt * x) * b` by head, channel and state, and `y` is the sum of `new * c` over the
/// states: what the runtime has a loop for.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrence {
    pub heads: usize,
    /// Of each head.
    pub channels: usize,
    pub states: usize,
    /// By head.
    pub dt: Strided,
    /// By head; and by state where `each` is set, which then has one channel a head.
    pub rate: Strided,
    pub each: bool,
    /// By head and channel.
    pub x: Strided,
    /// By state, and maybe by head and channel.
    pub b: Strided,
    pub c: Strided,
    /// The result of the body that is the new state itself, as it is before any edit.
    pub new: Option<u32>,
    /// Whether the body computes all of it, and does so on rows where one of its edits acts; the loop is for the others.
    pub instead: bool,
}

impl Recurrence {
    /// What it reads, in this order: dt, rate, x, b, c.
    pub fn operands(&self) -> [&Strided; 5] {
        [&self.dt, &self.rate, &self.x, &self.b, &self.c]
    }
}

/// Elements of an argument: those of head `h` and channel `c` begin at `offset + h * head + c * channel`.
#[derive(Clone, Debug, PartialEq)]
pub struct Strided {
    pub arg: KernelArg,
    pub offset: usize,
    pub head: usize,
    pub channel: usize,
}

/// `y = sum over experts of gate * after(second(between(first0(x), first1(x), ...)))`, for the experts whose gate is not 0: the
/// sum is one over all experts, in the order of `Reduce::Sum`, each product rounded once into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Experts {
    /// What each product of `first` reads.
    pub x: BufId,
    /// `[experts]`
    pub gates: BufId,
    pub first: Vec<MatrixView>,
    /// From the products of `first` to what `second` reads.
    pub between: OfExpert,
    pub second: MatrixView,
    /// From the product of `second` to what is summed, where that is not the product itself.
    pub after: Option<OfExpert>,
    pub y: BufId,
}

/// A kernel that is called for one row of one expert: `Body(i)` are products, behind them what is the expert's own of
/// `constants`, and `Result(0)` is what it makes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct OfExpert {
    pub call: KernelCall,
    /// Each with the experts first.
    pub constants: Vec<ConstView>,
}

impl Experts {
    /// Those of `first`, then `second`.
    pub fn matrices(&self) -> impl Iterator<Item = &MatrixView> {
        self.first.iter().chain([&self.second])
    }

    /// `between`, then `after`.
    pub fn kernels(&self) -> impl Iterator<Item = &OfExpert> {
        [&self.between].into_iter().chain(&self.after)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Instr {
    Kernel(KernelCall),
    /// `y[batch, out] = sum over inner of w[batch, out, inner] * x[batch?, inner]`. `x` has `extra` such
    /// blocks one after another (axes that the weight lacks), and so has `y`. Where `x_has_batch` is
    /// false every batch entry reads the same `x`. Where `active [batch]` is 0, `y` is 0.
    Linear {
        x: BufId,
        w: MatrixView,
        y: BufId,
        extra: usize,
        x_has_batch: bool,
        active: Option<BufId>,
        layer: Option<u32>,
    },
    Experts(Experts),
    /// `y = table[index]`; an index beyond the table is an error of the run.
    Lookup {
        table: ConstView,
        index: LookupIndex,
        y: BufId,
    },
    /// `q [heads, d_head]`, `k`, `v` `[kv_heads, d_head]`, `z [heads, d_head]`; head h reads kv head
    /// `h / (heads / kv_heads)`. The pattern is the body's; the softmax where there is no body, or it does nothing on a row.
    Attention {
        q: BufId,
        k: BufId,
        v: BufId,
        z: BufId,
        heads: usize,
        kv_heads: usize,
        d_head: usize,
        scale: f32,
        window: Option<usize>,
        /// Whether a row sees those behind it, too.
        whole: bool,
        softmax: Option<Softmax>,
        body: Option<Body>,
        layer: Option<u32>,
    },
    /// `y[c] = sum over t of w[c, t] * x[c] of the row taps-1-t before`, absent rows 0.
    Conv1d {
        x: BufId,
        w: ConstView,
        y: BufId,
        channels: usize,
        taps: usize,
        layer: Option<u32>,
    },
    /// The state has `state` floats and is 0 before the first row; `y` is the result for the row. At least one of
    /// `body` and `recurrence` is there; with both, the body is what is done to the new state before it is read, or
    /// where the recurrence says so, what is done instead.
    Scan {
        body: Option<Body>,
        recurrence: Option<Box<Recurrence>>,
        state: usize,
        y: BufId,
        layer: Option<u32>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LookupIndex {
    Token,
    Position,
    Buffer(BufId),
}

/// Instructions that work on one set of rows.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Stretch {
    /// The edits that begin to act here: rows that they treat differently part at the start.
    pub edits: Vec<EditId>,
    /// The patches among them, each with the buffer that holds the value it is about (the overlay's
    /// base), complete before this stretch: a patched row takes its donor's row of that buffer. A
    /// patch of whole values is nothing but that; the kernel sees it as its base.
    pub patches: Vec<Patch>,
    /// Nothing from here on mixes rows: only rows that some output reads are needed.
    pub narrow: bool,
    /// What the first instruction reads of earlier rows, where the stretches before may count rows as one
    /// that differ in it: from here on such rows are told apart. `Own` where there is nothing new to tell
    /// apart, `Prefix` for every attention.
    ///
    /// Edits of such a stretch are those in the body of that instruction.
    pub reads: Reads,
    pub instrs: Vec<Instr>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    pub edit: EditId,
    pub base: BufId,
    /// The whole value is replaced (`Overlay` of `Donor` itself): the runtime redirects the row and no
    /// kernel does anything. Otherwise the kernel reads `KernelArg::Donor`.
    pub whole: bool,
}

/// Where an output of the Plan is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutputPlace {
    /// A buffer, complete after this stretch.
    Buffer { buffer: BufId, stretch: usize },
    /// A result of the body of this instruction; `[head, key]` values are as long as the row has keys.
    Body { stretch: usize, instr: usize, result: u32 },
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct Program {
    /// Each kernel once, however many layers call it.
    pub kernels: Vec<Kernel>,
    pub buffers: Vec<Buffer>,
    /// Computes the buffers without rows, once, after loading.
    pub prelude: Vec<Instr>,
    pub stretches: Vec<Stretch>,
    /// In the order of `Plan::outputs`.
    pub outputs: Vec<OutputPlace>,
}
