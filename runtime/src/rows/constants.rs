//! What a program reads that belongs to no row: packed matrices, contiguous views, computed values.

use super::cache::Place;
use super::matrices::{Matrices, Parts, offsets};
use super::memory::Held;
use super::stored;
use crate::engine::{TensorSource, WeightSource};
use crate::error::Error;
use crate::progress::{Bar, Unit};
use crate::{interrupt, memory};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use steer_compiler::backend::RowKernels;
use steer_compiler::plan::{Axis, Plan, Size, WeightId};
use steer_compiler::program::{Body, BufId, ConstSource, ConstView, Dim, Instr, KernelArg, MatrixView, Program};
use steer_kernels::{Format, Packed};
use steer_lang::codes;

/// The constants among the arguments of a kernel.
pub type Args = Vec<Option<Arc<Vec<f32>>>>;

/// What one instruction reads that belongs to no row.
#[derive(Clone, Default)]
pub struct Fixed {
    /// The matrix of a product or the table of a lookup, one for each batch entry.
    pub matrix: Option<Arc<Matrices>>,
    /// The products of experts: those of what a row is, and the one of what their kernel makes of them.
    pub experts: Vec<Arc<Matrices>>,
    /// By argument of its kernel; of a convolution the one is its filters, one tap after another.
    pub args: Args,
    /// Of an attention, by head.
    pub sinks: Option<Arc<Vec<f32>>>,
    /// The kernels of experts: their arguments, and what differs by expert.
    pub of_expert: Vec<(Args, Vec<Arc<Vec<f32>>>)>,
    /// By operand of a recurrence.
    pub operands: Vec<Option<Arc<Vec<f32>>>>,
}

/// Matrices of weights, by the weight's name and the view of it.
pub type PackedWeights = HashMap<String, Arc<Matrices>>;

/// The constants of a program, by stretch and instruction.
pub struct Constants {
    fixed: Vec<Vec<Fixed>>,
    /// Those that are read when they are first needed.
    later: Vec<Arc<Matrices>>,
    packed: PackedWeights,
}

/// Constants while they are loaded, by the view that asks for them: equal views share memory.
#[derive(Default)]
struct Loading {
    matrices: HashMap<String, Arc<Matrices>>,
    views: HashMap<String, Arc<Vec<f32>>>,
    computed: HashMap<BufId, Arc<Vec<f32>>>,
}

/// Reads whole sources, keeping the last one: neighbouring views mostly share it.
struct Reader<'a> {
    plan: &'a Plan,
    weights: &'a Arc<dyn WeightSource>,
    tensors: &'a dyn TensorSource,
    last: Option<(ConstSource, Arc<Vec<f32>>)>,
    /// How many views of each weight are still to be read.
    views: HashMap<WeightId, usize>,
}

impl Reader<'_> {
    fn read(&mut self, source: ConstSource, computed: &HashMap<BufId, Arc<Vec<f32>>>) -> Result<Arc<Vec<f32>>, Error> {
        if let Some((s, data)) = &self.last
            && *s == source
        {
            return Ok(Arc::clone(data));
        }
        // Two of them at once may be too much.
        self.last = None;
        let data = match source {
            ConstSource::Weight(id) => Arc::new(self.weights.read(&self.plan.weights[id.0 as usize])?),
            ConstSource::Tensor(id) => Arc::new(self.tensors.read(&self.plan.tensors[id.0 as usize])?.to_vec()),
            ConstSource::Computed(b) => match computed.get(&b) {
                Some(v) => Arc::clone(v),
                None => return Err(super::broken("a value is used before the prelude computes it")),
            },
        };
        self.last = Some((source, Arc::clone(&data)));
        Ok(data)
    }
}

impl Constants {
    /// Reads and packs everything that the program names, and runs its prelude. Matrices of the same weights that other
    /// programs have are its own, too.
    pub fn load(
        plan: &Plan,
        program: &Program,
        kernels: &dyn RowKernels,
        weights: &Arc<dyn WeightSource>,
        tensors: &dyn TensorSource,
        others: &PackedWeights,
    ) -> Result<Self, Error> {
        let mut loading = Loading::default();
        for view in
            instrs(program).flat_map(wanted).filter_map(|w| if let Wanted::Matrix(v) = w { Some(v) } else { None })
        {
            let there = of_weight(plan, &view).and_then(|key| others.get(&key));
            loading.matrices.extend(there.map(|m| (matrix_key(&view), Arc::clone(m))));
        }
        let mut views: HashMap<WeightId, usize> = HashMap::new();
        let mut seen: HashSet<String> = loading.matrices.keys().cloned().collect();
        for wanted in instrs(program).flat_map(wanted) {
            if let ConstSource::Weight(id) = wanted.source()
                && seen.insert(wanted.key())
            {
                *views.entry(id).or_default() += 1;
            }
        }
        let mut reader = Reader { plan, weights, tensors, last: None, views };
        let bar = Bar::new("loading weights", Unit::Bytes(Held::of(plan, program, weights.as_ref()).bytes()));
        for instr in &program.prelude {
            loading.load(instr, &mut reader, &bar)?;
            loading.compute(instr, program, kernels)?;
        }
        for instr in program.stretches.iter().flat_map(|s| &s.instrs) {
            loading.load(instr, &mut reader, &bar)?;
        }
        let fixed = |instr: &Instr| loading.fixed(instr, program);
        let fixed = program.stretches.iter().map(|s| s.instrs.iter().map(fixed).collect::<Result<_, _>>());
        let fixed = fixed.collect::<Result<_, _>>()?;
        let later = loading.matrices.values().filter(|m| m.is_later()).map(Arc::clone).collect();
        let matrices = instrs(program).flat_map(wanted).filter_map(|w| match w {
            Wanted::Matrix(view) => Some((of_weight(plan, &view)?, loading.matrices.get(&matrix_key(&view))?.clone())),
            Wanted::View(_) => None,
        });
        let packed = matrices.collect();
        Ok(Constants { fixed, later, packed })
    }

    /// The matrices of weights.
    pub fn packed(&self) -> &PackedWeights {
        &self.packed
    }

    pub fn experts_read(&self) -> (usize, usize) {
        let read = self.later.iter().map(|m| m.count_read()).sum();
        (read, self.later.iter().map(|m| m.len()).sum())
    }

    /// What the instruction at a place reads.
    pub fn of(&self, (stretch, instr): Place) -> &Fixed {
        &self.fixed[stretch][instr]
    }
}

impl Loading {
    fn fixed(&self, instr: &Instr, program: &Program) -> Result<Fixed, Error> {
        let args = |args: &[KernelArg]| -> Result<Args, Error> {
            let one = |arg: &KernelArg| match arg {
                KernelArg::Const(v) => self.view(v).cloned().map(Some),
                KernelArg::Buffer(b) if !program.buffers[b.0 as usize].per_row => self.computed(*b).cloned().map(Some),
                _ => Ok(None),
            };
            args.iter().map(one).collect()
        };
        let mut fixed = Fixed::default();
        match instr {
            Instr::Kernel(call) => fixed.args = args(&call.args)?,
            Instr::Linear { w, .. } => fixed.matrix = Some(self.matrix(w)?),
            Instr::Experts(experts) => {
                for kernel in experts.kernels() {
                    let own = kernel.constants.iter().map(|v| self.view(v).cloned());
                    fixed.of_expert.push((args(&kernel.call.args)?, own.collect::<Result<_, _>>()?));
                }
                fixed.experts = experts.matrices().map(|w| self.matrix(w)).collect::<Result<_, _>>()?;
            }
            Instr::Lookup { table, .. } => fixed.matrix = Some(self.matrix(&table_view(table))?),
            Instr::Conv1d { w, channels, taps, .. } => {
                let w = self.view(w)?;
                let by_tap = (0..*taps).flat_map(|t| (0..*channels).map(move |c| w[c * taps + t]));
                fixed.args.push(Some(Arc::new(by_tap.collect())));
            }
            Instr::Attention { body, softmax, .. } => {
                fixed.args = args(args_of(body))?;
                if let Some(sinks) = softmax.as_ref().and_then(|s| s.sinks.as_ref()) {
                    fixed.sinks = Some(self.view(sinks)?.clone());
                }
            }
            Instr::Scan { body, recurrence, .. } => {
                fixed.args = args(args_of(body))?;
                for operand in recurrence.iter().flat_map(|r| r.operands()) {
                    fixed.operands.extend(args(std::slice::from_ref(&operand.arg))?);
                }
            }
        }
        Ok(fixed)
    }

    fn load(&mut self, instr: &Instr, reader: &mut Reader, bar: &Bar) -> Result<(), Error> {
        for wanted in wanted(instr) {
            let key = wanted.key();
            let known = match &wanted {
                Wanted::Matrix(_) => self.matrices.contains_key(&key),
                Wanted::View(_) => self.views.contains_key(&key),
            };
            if known {
                continue;
            }
            interrupt::check()?;
            match &wanted {
                Wanted::Matrix(view) => self.matrix_of(key, view, chooses(instr), reader)?,
                Wanted::View(view) => self.view_of(key, view, reader)?,
            }
            if let ConstSource::Weight(id) = wanted.source()
                && let Some(views) = reader.views.get_mut(&id)
            {
                *views -= 1;
                if *views == 0 {
                    reader.weights.let_go(&reader.plan.weights[id.0 as usize], 0..usize::MAX);
                }
            }
            bar.inc(wanted.bytes(wanted.format(reader.plan, reader.weights.as_ref()).unwrap_or_default()));
        }
        Ok(())
    }

    fn view_of(&mut self, key: String, view: &ConstView, reader: &mut Reader) -> Result<(), Error> {
        let data = reader.read(view.source, &self.computed)?;
        let mut dims: Vec<Dim> = Vec::new();
        for (axis, stride) in &view.dims {
            match axis.size {
                Size::Fixed(n) => dims.push((n, *stride)),
                Size::Keys => return Err(super::broken("a constant with keys")),
            }
        }
        let offsets = offsets(&dims);
        let mut values = memory::room(offsets.len(), "a weight")?;
        values.extend(offsets.iter().map(|o| data[view.offset + o]));
        self.views.insert(key, Arc::new(values));
        Ok(())
    }

    fn matrix_of(&mut self, key: String, view: &MatrixView, chosen: bool, reader: &mut Reader) -> Result<(), Error> {
        let parts = Parts::of(view);
        let mut matrices = None;
        if let ConstSource::Weight(id) = view.source {
            let weight = &reader.plan.weights[id.0 as usize];
            if chosen {
                matrices = Matrices::later(&parts, reader.weights, weight);
            }
            if matrices.is_none() {
                matrices = Matrices::stored(&parts, reader.weights.as_ref(), weight)?;
            }
        }
        let matrices = match matrices {
            Some(matrices) => matrices,
            None => Matrices::packed(&parts, &reader.read(view.source, &self.computed)?)?,
        };
        self.matrices.insert(key, Arc::new(matrices));
        Ok(())
    }

    fn compute(&mut self, instr: &Instr, program: &Program, kernels: &dyn RowKernels) -> Result<(), Error> {
        let Instr::Kernel(call) = instr else {
            return Err(super::broken("the prelude has more than kernels"));
        };
        let params = &program.kernels[call.kernel.0 as usize].params;
        let mut results: Vec<(BufId, Vec<f32>)> = Vec::new();
        for (arg, param) in call.args.iter().zip(params) {
            if let KernelArg::Buffer(b) = arg
                && param.out
            {
                results.push((*b, memory::zeros(program.buffers[b.0 as usize].len, "a computed constant")?));
            }
        }
        let mut pointers: Vec<*mut f32> = Vec::new();
        for arg in &call.args {
            pointers.push(match arg {
                KernelArg::Buffer(b) => match results.iter_mut().find(|(r, _)| r == b) {
                    Some((_, v)) => v.as_mut_ptr(),
                    None => self.computed(*b)?.as_ptr().cast_mut(),
                },
                KernelArg::Const(v) => self.view(v)?.as_ptr().cast_mut(),
                KernelArg::Table(t) => t.as_ptr().cast_mut(),
                KernelArg::Numbers(n) => n.as_ptr().cast_mut(),
                _ => return Err(super::broken("the prelude reads a row")),
            });
        }
        let mut scratch = vec![0.0; kernels.scratch_len(call.kernel, 1)];
        // SAFETY: one pointer a parameter, each as long as its constant or buffer; results are their own.
        unsafe { kernels.call(call.kernel, &pointers, 0..1, 1, &mut scratch) };
        for (b, v) in results {
            self.computed.insert(b, Arc::new(v));
        }
        Ok(())
    }

    fn matrix(&self, view: &MatrixView) -> Result<Arc<Matrices>, Error> {
        self.matrices.get(&matrix_key(view)).cloned().ok_or_else(|| super::broken("a matrix was not loaded"))
    }

    fn view(&self, view: &ConstView) -> Result<&Arc<Vec<f32>>, Error> {
        self.views.get(&view_key(view)).ok_or_else(|| super::broken("a constant was not loaded"))
    }

    fn computed(&self, buffer: BufId) -> Result<&Arc<Vec<f32>>, Error> {
        self.computed.get(&buffer).ok_or_else(|| super::broken("a computed value is missing"))
    }
}

/// A table is a matrix whose output rows are looked up: a tied unembedding then shares its memory.
fn table_view(view: &ConstView) -> MatrixView {
    let dim = |(axis, stride): &(steer_compiler::plan::Axis, usize)| match axis.size {
        Size::Fixed(n) => (n, *stride),
        Size::Keys => (0, *stride),
    };
    let mut dims = view.dims.iter().map(dim);
    let out = dims.next().into_iter().collect();
    MatrixView { source: view.source, offset: view.offset, batch: Vec::new(), out, inner: dims.collect(), select: None }
}

/// A constant that an instruction reads.
pub enum Wanted<'i> {
    Matrix(Cow<'i, MatrixView>),
    View(&'i ConstView),
}

/// The constants that an instruction reads, apart from computed ones.
pub fn wanted(instr: &Instr) -> Vec<Wanted<'_>> {
    fn args<'i>(args: impl IntoIterator<Item = &'i KernelArg>) -> Vec<Wanted<'i>> {
        let view = |arg: &'i KernelArg| if let KernelArg::Const(v) = arg { Some(Wanted::View(v)) } else { None };
        args.into_iter().filter_map(view).collect()
    }
    match instr {
        Instr::Kernel(call) => args(&call.args),
        Instr::Linear { w, .. } => vec![Wanted::Matrix(Cow::Borrowed(w))],
        Instr::Experts(experts) => {
            let mut all: Vec<Wanted> = experts.matrices().map(|w| Wanted::Matrix(Cow::Borrowed(w))).collect();
            all.extend(experts.kernels().flat_map(|k| args(&k.call.args)));
            all.extend(experts.kernels().flat_map(|k| &k.constants).map(Wanted::View));
            all
        }
        Instr::Lookup { table, .. } => vec![Wanted::Matrix(Cow::Owned(table_view(table)))],
        Instr::Conv1d { w, .. } => vec![Wanted::View(w)],
        Instr::Attention { body, softmax, .. } => {
            let mut all = args(args_of(body));
            all.extend(softmax.iter().flat_map(|s| &s.sinks).map(Wanted::View));
            all
        }
        Instr::Scan { body, recurrence, .. } => {
            let operands = recurrence.iter().flat_map(|r| r.operands().map(|o| &o.arg));
            args(args_of(body).iter().chain(operands))
        }
    }
}

fn args_of(body: &Option<Body>) -> &[KernelArg] {
    body.as_ref().map_or(&[], |b| &b.call.args)
}

impl Wanted<'_> {
    /// The same for equal views.
    pub fn key(&self) -> String {
        match self {
            Wanted::Matrix(view) => matrix_key(view),
            Wanted::View(view) => view_key(view),
        }
    }

    /// Where its elements come from.
    pub fn source(&self) -> ConstSource {
        match self {
            Wanted::Matrix(view) => view.source,
            Wanted::View(view) => view.source,
        }
    }

    /// The format that it is packed in as its file has it; what has none is read as f32.
    pub fn format(&self, plan: &Plan, weights: &dyn WeightSource) -> Option<Format> {
        match (self, self.source()) {
            (Wanted::Matrix(view), ConstSource::Weight(id)) => {
                let weight = &plan.weights[id.0 as usize];
                // Where there is none, offsets need not be known.
                weights.piece(weight, 0)?;
                stored::format_of(&Parts::of(view), 0, weights, weight)
            }
            _ => None,
        }
    }

    /// The memory that it takes in a format.
    pub fn bytes(&self, format: Format) -> u64 {
        let count = |dims: &[Dim]| dims.iter().map(|d| d.0).product::<usize>();
        match self {
            Wanted::Matrix(view) => {
                let out = view.select.as_ref().map_or(count(&view.out), |s| s.len());
                let one = Packed::memory_of(format, out, count(&view.inner).max(1));
                one as u64 * count(&view.batch) as u64
            }
            Wanted::View(view) => {
                let size = |axis: &Axis| if let Size::Fixed(n) = axis.size { n as u64 } else { 1 };
                view.dims.iter().map(|(axis, _)| size(axis)).product::<u64>() * 4
            }
        }
    }
}

/// All instructions of a program.
pub fn instrs(program: &Program) -> impl Iterator<Item = &Instr> {
    program.prelude.iter().chain(program.stretches.iter().flat_map(|s| &s.instrs))
}

/// Whether of the matrices of an instruction those are needed that rows choose.
pub fn chooses(instr: &Instr) -> bool {
    matches!(instr, Instr::Linear { active: Some(_), .. } | Instr::Experts(_))
}

fn view_key(v: &ConstView) -> String {
    format!("{v:?}")
}

fn matrix_key(v: &MatrixView) -> String {
    format!("{v:?}")
}

/// A view of a weight by the weight's name: numbers of weights are a Plan's own.
fn of_weight(plan: &Plan, v: &MatrixView) -> Option<String> {
    let ConstSource::Weight(id) = v.source else { return None };
    let MatrixView { offset, batch, out, inner, select, .. } = v;
    Some(format!("{} {:?}", plan.weights[id.0 as usize].name, (offset, batch, out, inner, select)))
}

/// A table index beyond the table.
pub fn beyond(index: f32, entries: usize, position: bool) -> Error {
    if position {
        Error::new(codes::POSITION_RANGE, format!("position {index} is beyond the model's {entries} positions"))
            .help("use a shorter prompt, or generate fewer tokens")
    } else {
        Error::new(codes::BAD_TOKENIZER, format!("token {index} is beyond the model's {entries} tokens"))
            .help("the tokenizer does not belong to this model")
    }
}
