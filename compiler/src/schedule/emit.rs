//! The program: buffers, instructions, stretches.

use super::fuse::{Around, Store, fuse};
use super::graph::{Form, Graph};
use super::order::{Order, Step};
use crate::kernel::{self, Kernel};
use crate::plan::{EditId, NodeId, Op, Reads, RegionId, Size};
use crate::program::{BodyPatch, BufId, Buffer, Instr, KernelCall, KernelId, OutputPlace, Patch, Program, Stretch};
use std::collections::{HashMap, HashSet};
use steer_lang::{Diagnostic, codes};

/// Where an edit ended up.
#[derive(Clone, Debug, PartialEq)]
pub struct EditPlace {
    pub edit: EditId,
    /// The stretch that begins with it; `None` where nothing needs it.
    pub stretch: Option<usize>,
    /// The instructions that carry it out, as `(stretch, instruction)`. None for a patch of whole
    /// values, which redirects rows.
    pub instrs: Vec<(usize, usize)>,
    pub whole: bool,
    /// Buffers that exist because of it.
    pub buffers: Vec<BufId>,
    /// A value inside of a body that is kept because of it, on rows that give it.
    pub given: Option<String>,
}

/// A value that an instruction computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    pub name: String,
    /// The only edit that needs it, if one alone does.
    pub only: Option<EditId>,
}

/// What `steer explain` says of a program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explain {
    pub edits: Vec<EditPlace>,
    /// The values of instructions that carry out edits, by `(stretch, instruction)`.
    pub computed: HashMap<(usize, usize), Vec<Computed>>,
    /// Buffers that exist only because an output of the Plan reads them, by output.
    pub outputs: Vec<(usize, BufId)>,
}

impl Explain {
    /// The values that share an instruction with an edit: sites and the functions that they come from.
    pub fn beside(&self, edit: EditId, instr: (usize, usize)) -> impl Iterator<Item = &str> {
        let computed = self.computed.get(&instr).into_iter().flatten();
        computed.filter(move |c| c.only != Some(edit)).map(|c| c.name.as_str())
    }
}

pub fn emit(g: &Graph, live: &[NodeId], order: &Order) -> Result<(Program, Explain), Diagnostic> {
    let mut e = Emitter {
        g,
        program: Program::default(),
        explain: Explain::default(),
        stores: HashMap::new(),
        kernels: HashMap::new(),
        begun: HashSet::new(),
        patches: HashSet::new(),
        together: true,
        whole: false,
        stretch_of: HashMap::new(),
        bodies: HashMap::new(),
    };
    e.explain.edits = (0..g.plan.edits.len() as u32)
        .map(|i| EditPlace {
            edit: EditId(i),
            stretch: None,
            instrs: Vec::new(),
            whole: false,
            buffers: Vec::new(),
            given: None,
        })
        .collect();
    let components = components(g, &order.consts);
    e.buffers(live, order, &components)?;
    e.prelude(&order.consts, &components)?;
    e.program.stretches.push(Stretch::default());
    for (steps, narrow) in [(&order.wide, false), (&order.narrow, true)] {
        if narrow && !steps.is_empty() {
            e.narrow();
        }
        for step in steps {
            e.step(step)?;
        }
    }
    e.outputs()?;
    Ok((e.program, e.explain))
}

/// The parts of each step of the prelude that have nothing to do with one another, so that the same
/// computation for another layer is another call and not another kernel.
fn components(g: &Graph, steps: &[Step]) -> HashMap<NodeId, usize> {
    let mut of: HashMap<NodeId, usize> = HashMap::new();
    let mut count = 0;
    for step in steps {
        for &n in &step.kernel {
            let mut mine = count;
            count += 1;
            let near: Vec<usize> = g.deps(n).iter().filter(|d| step.kernel.contains(d)).map(|d| of[d]).collect();
            for other in near {
                let (from, to) = (mine.max(other), mine.min(other));
                for component in of.values_mut().filter(|c| **c == from) {
                    *component = to;
                }
                mine = to;
            }
            of.insert(n, mine);
        }
    }
    of
}

pub struct Emitter<'g, 'p> {
    pub g: &'g Graph<'p>,
    pub program: Program,
    explain: Explain,
    pub stores: HashMap<NodeId, Store>,
    kernels: HashMap<Kernel, KernelId>,
    begun: HashSet<EditId>,
    patches: HashSet<EditId>,
    /// Whether rows may still count as one that differ in the rows before them.
    together: bool,
    /// Whether the last of them told rows apart by their whole sequences.
    whole: bool,
    stretch_of: HashMap<NodeId, usize>,
    /// The place of an owner's instruction, and the results of its body.
    pub bodies: HashMap<RegionId, (usize, usize, HashMap<NodeId, u32>)>,
}

impl Emitter<'_, '_> {
    /// Gives a buffer to everything that another instruction or an output reads.
    fn buffers(
        &mut self,
        live: &[NodeId],
        order: &Order,
        components: &HashMap<NodeId, usize>,
    ) -> Result<(), Diagnostic> {
        let g = self.g;
        let unit = |n: NodeId| (order.step.get(&n), components.get(&n));
        let mut read: HashSet<NodeId> = HashSet::new();
        for &n in live.iter().filter(|n| g.is_unit(**n)) {
            for d in g.deps(n) {
                if [n, d].iter().any(|u| g.form(*u) != Form::Fused) || unit(n) != unit(d) {
                    read.insert(d);
                }
            }
        }
        let roots: Vec<NodeId> = g.outputs.iter().map(|o| g.view(*o).root).collect();
        for &n in live.iter().filter(|n| g.is_unit(**n)) {
            let by_output = roots.iter().position(|r| *r == n);
            let by_patch: Vec<EditId> = g.patched.iter().filter(|(_, base)| **base == n).map(|(e, _)| *e).collect();
            let needed = read.contains(&n) || g.form(n) == Form::Library;
            if !needed && by_output.is_none() && by_patch.is_empty() {
                continue;
            }
            if let (Form::Redirect, Op::Overlay { base, .. }) = (g.form(n), &g.node(n).op) {
                if let Some(store) = self.stores.get(&g.view(*base).root).copied() {
                    self.stores.insert(n, store);
                }
                continue;
            }
            let Some(len) = g.ty(n).len() else {
                return Err(g.unsupported(n, "a value with an axis over keys outside of an attention"));
            };
            let id = BufId(self.program.buffers.len() as u32);
            let (node, per_row) = (g.original[n.0 as usize], g.is_row(n));
            self.program.buffers.push(Buffer { node, len, per_row, name: g.name(n) });
            self.stores.insert(n, Store::Buffer(id));
            if let (false, Some(output)) = (needed, by_output) {
                self.explain.outputs.push((output, id));
            }
            for edit in by_patch.into_iter().filter(|_| !read.contains(&n) || g.form(n) == Form::Fused) {
                if let Some(place) = self.explain.edits.get_mut(edit.0 as usize) {
                    place.buffers.push(id);
                }
            }
        }
        Ok(())
    }

    pub fn buffer(&self, n: NodeId) -> Result<BufId, Diagnostic> {
        match self.stores.get(&self.g.view(n).root) {
            Some(Store::Buffer(id)) => Ok(*id),
            _ => Err(self.g.unsupported(n, "a value that is stored nowhere")),
        }
    }

    pub fn kernel(
        &mut self,
        nodes: &[NodeId],
        stores: &HashMap<NodeId, Store>,
        prelude: bool,
    ) -> Result<KernelCall, Diagnostic> {
        let (kernel, args) = fuse(self.g, nodes, Around { stores, prelude })?;
        let id = match self.kernels.get(&kernel) {
            Some(id) => *id,
            None => {
                if let Err(what) = kernel::verify(&kernel) {
                    let message = format!("the compiler made a kernel that is not valid: {what}");
                    return Err(Diagnostic::error(codes::BACKEND, message).help("this is a bug of the compiler"));
                }
                let id = KernelId(self.program.kernels.len() as u32);
                self.program.kernels.push(kernel.clone());
                self.kernels.insert(kernel, id);
                id
            }
        };
        let layer = nodes.iter().find_map(|n| self.g.node(*n).layer);
        Ok(KernelCall { kernel: id, args, layer })
    }

    fn prelude(&mut self, steps: &[Step], components: &HashMap<NodeId, usize>) -> Result<(), Diagnostic> {
        let stores = self.stores.clone();
        for step in steps {
            let mut done: HashSet<usize> = HashSet::new();
            for n in &step.kernel {
                if done.insert(components[n]) {
                    let part: Vec<NodeId> =
                        step.kernel.iter().copied().filter(|m| components[m] == components[n]).collect();
                    let call = self.kernel(&part, &stores, true)?;
                    self.program.prelude.push(Instr::Kernel(call));
                }
            }
            for &n in &step.calls {
                let instr = self.call(n)?;
                self.program.prelude.push(instr);
            }
        }
        Ok(())
    }

    pub fn current(&mut self) -> &mut Stretch {
        if self.program.stretches.is_empty() {
            self.program.stretches.push(Stretch::default());
        }
        let last = self.program.stretches.len() - 1;
        &mut self.program.stretches[last]
    }

    /// From here on only rows that are read are needed.
    fn narrow(&mut self) {
        if *self.current() != Stretch::default() {
            self.program.stretches.push(Stretch::default());
        }
        self.current().narrow = true;
    }

    /// Lets edits begin, in a new stretch unless the current one has not begun itself.
    fn begin(&mut self, edits: Vec<EditId>, patches: Vec<Patch>) {
        let edits: Vec<EditId> = edits.into_iter().filter(|e| self.begun.insert(*e)).collect();
        let patches: Vec<Patch> = patches.into_iter().filter(|p| self.patches.insert(p.edit)).collect();
        if edits.is_empty() && patches.is_empty() {
            return;
        }
        let current = self.current();
        let chained = patches.iter().any(|p| current.patches.iter().any(|q| q.base == p.base));
        if !current.instrs.is_empty() || chained {
            self.next();
        }
        self.together = true;
        self.starts(&edits);
        for patch in &patches {
            if let Some(place) = self.explain.edits.get_mut(patch.edit.0 as usize) {
                place.whole = patch.whole;
            }
        }
        self.current().patches.extend(patches);
    }

    /// Lets an instruction that reads earlier rows tell apart what the stretches so far may count as one,
    /// and the edits of its body begin.
    fn mix(&mut self, n: NodeId, edits: &[EditId]) {
        let reads = match &self.g.node(n).op {
            Op::Attention { whole: true, .. } => Reads::Whole,
            Op::Attention { .. } => Reads::Prefix,
            Op::Conv1d { w, .. } => match self.g.ty(*w).axes.last().map(|a| a.size) {
                Some(Size::Fixed(taps)) => Reads::Window(taps),
                _ => Reads::Prefix,
            },
            Op::Scan { .. } => Reads::State,
            _ => return,
        };
        let edits: Vec<EditId> = edits.iter().copied().filter(|e| self.begun.insert(*e)).collect();
        let known = reads != Reads::Whole || self.whole;
        if edits.is_empty() && !self.together && known {
            return;
        }
        let narrow = self.current().narrow;
        if *self.current() != (Stretch { narrow, ..Stretch::default() }) {
            self.next();
        }
        self.current().reads = reads;
        self.whole = reads == Reads::Whole;
        // An edit of a pattern is one of its own row; what a scan carries on, later rows are told apart by.
        self.together = match reads {
            Reads::Prefix | Reads::Whole => !edits.is_empty(),
            Reads::Window(_) => true,
            Reads::Own | Reads::State => false,
        };
        self.starts(&edits);
    }

    /// A new stretch.
    fn next(&mut self) {
        let narrow = self.current().narrow;
        self.program.stretches.push(Stretch { narrow, ..Stretch::default() });
    }

    /// Notes that edits begin with the current stretch.
    fn starts(&mut self, edits: &[EditId]) {
        let stretch = self.program.stretches.len().saturating_sub(1);
        for edit in edits {
            if let Some(place) = self.explain.edits.get_mut(edit.0 as usize) {
                place.stretch = Some(stretch);
            }
        }
        self.current().edits.extend(edits);
    }

    fn patch(&self, edit: EditId, whole: bool) -> Result<Option<Patch>, Diagnostic> {
        match self.g.patched.get(&edit) {
            Some(base) => Ok(Some(Patch { edit, base: self.buffer(*base)?, whole })),
            None => Ok(None),
        }
    }

    /// The edits that nodes have to do with, and the patches among them.
    fn edits_of(&self, nodes: &[NodeId]) -> Result<(Vec<EditId>, Vec<Patch>), Diagnostic> {
        let (mut edits, mut patches): (Vec<EditId>, Vec<Patch>) = (Vec::new(), Vec::new());
        for &n in nodes {
            edits.extend(self.g.need(n).edits());
            if let Op::Overlay { edit, .. } | Op::Receipt { edit, .. } = self.g.node(n).op {
                edits.push(edit);
            }
            for input in self.g.inputs(n) {
                match self.g.node(self.g.view(input).root).op {
                    Op::Param { edit, .. } => edits.push(edit),
                    Op::Donor(edit) => {
                        edits.push(edit);
                        patches.extend(self.patch(edit, false)?);
                    }
                    _ => {}
                }
            }
        }
        edits.sort();
        edits.dedup();
        patches.sort_by_key(|p| p.edit);
        patches.dedup();
        Ok((edits, patches))
    }

    fn step(&mut self, step: &Step) -> Result<(), Diagnostic> {
        for &n in &step.redirects {
            let Op::Overlay { edit, .. } = self.g.node(n).op else { continue };
            let patch = self.patch(edit, true)?;
            self.begin(vec![edit], patch.into_iter().collect());
            self.stretch_of.insert(n, self.program.stretches.len() - 1);
        }
        if !step.kernel.is_empty() {
            let (edits, patches) = self.edits_of(&step.kernel)?;
            self.begin(edits.clone(), patches);
            let stores = std::mem::take(&mut self.stores);
            let call = self.kernel(&step.kernel, &stores, false);
            self.stores = stores;
            let call = call?;
            let (stretch, instr) = (self.program.stretches.len() - 1, self.current().instrs.len());
            self.placed(&edits, &step.kernel, (stretch, instr));
            self.current().instrs.push(Instr::Kernel(call));
            for &n in &step.kernel {
                self.stretch_of.insert(n, stretch);
            }
        }
        for &n in &step.calls {
            let inside = self.g.node(n).op.body().map(|b| self.g.body_order(b)).unwrap_or_default();
            let (edits, _) = self.edits_of(&inside)?;
            self.mix(n, &edits);
            let at = (self.program.stretches.len() - 1, self.current().instrs.len());
            self.placed(&edits, &inside, at);
            let instr = self.call(n)?;
            let stretch = self.program.stretches.len() - 1;
            self.stretch_of.insert(n, stretch);
            self.current().instrs.push(instr);
        }
        Ok(())
    }

    /// Notes what a body hands back because of patches.
    pub fn gives(&mut self, patches: &[BodyPatch]) {
        for patch in patches {
            if let Some(place) = self.explain.edits.get_mut(patch.edit.0 as usize) {
                place.given = Some(self.g.name(patch.node));
            }
        }
    }

    /// Notes that an instruction carries out edits.
    fn placed(&mut self, edits: &[EditId], nodes: &[NodeId], at: (usize, usize)) {
        if edits.is_empty() {
            return;
        }
        let value = |n: &NodeId| Computed { name: self.g.name(*n), only: self.g.need(*n).only() };
        self.explain.computed.insert(at, nodes.iter().map(value).collect());
        for edit in edits {
            if let Some(place) = self.explain.edits.get_mut(edit.0 as usize) {
                place.instrs.push(at);
            }
        }
    }

    fn outputs(&mut self) -> Result<(), Diagnostic> {
        for &o in &self.g.outputs {
            let region = self.g.region[o.0 as usize];
            let place = match self.bodies.get(&region) {
                Some((stretch, instr, results)) if self.g.is_inside(o, region) => {
                    let Some(&result) = results.get(&o) else { return Err(self.g.unsupported(o, "this output")) };
                    OutputPlace::Body { stretch: *stretch, instr: *instr, result }
                }
                _ => {
                    let stretch = self.stretch_of.get(&self.g.view(o).root).copied().unwrap_or(0);
                    OutputPlace::Buffer { buffer: self.buffer(o)?, stretch }
                }
            };
            self.program.outputs.push(place);
        }
        Ok(())
    }
}
