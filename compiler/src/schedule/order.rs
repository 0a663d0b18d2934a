//! The order of execution: kernels of all that is ready, then the library calls that are ready.

use super::graph::{Form, Graph};
use crate::plan::{NodeId, Op};
use std::collections::{HashMap, HashSet};
use steer_lang::{Diagnostic, codes};

/// One kernel and the calls that follow it.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Patches of whole values that take effect before the kernel.
    pub redirects: Vec<NodeId>,
    pub kernel: Vec<NodeId>,
    pub calls: Vec<NodeId>,
}

pub struct Order {
    /// What has no rows.
    pub consts: Vec<Step>,
    /// What later rows may read, directly or not: computed for every row.
    pub wide: Vec<Step>,
    /// What only its own row reads.
    pub narrow: Vec<Step>,
    /// Where each unit stands among the steps of all three.
    pub step: HashMap<NodeId, usize>,
}

/// Where `narrows` is false every row is computed to the end; where `fuses` is false each operation is a kernel
/// of its own.
pub fn order(g: &Graph, live: &[NodeId], narrows: bool, fuses: bool) -> Result<Order, Diagnostic> {
    let units: Vec<NodeId> = live.iter().copied().filter(|n| g.is_unit(*n)).collect();
    let deps: HashMap<NodeId, Vec<NodeId>> = units.iter().map(|n| (*n, all_deps(g, *n))).collect();
    let wide = if narrows { wide(g, &units, &deps) } else { units.iter().copied().collect() };
    let part = |row: bool, in_wide: bool| -> Vec<NodeId> {
        let belongs = |n: &NodeId| g.is_row(*n) == row && (!row || wide.contains(n) == in_wide);
        units.iter().copied().filter(belongs).collect()
    };
    let donors = units.iter().map(|n| (*n, donor_deps(g, *n))).filter(|(_, d)| !d.is_empty()).collect();
    let mut placing = Placing { g, deps: &deps, donors, fuses, step: HashMap::new(), next: 0 };
    let (consts, wide, narrow) = (part(false, false), part(true, true), part(true, false));
    let ends = [placing.place(&consts)?, placing.place(&wide)?, placing.place(&narrow)?];
    if fuses {
        placing.delay(&wide);
        placing.delay(&narrow);
    }
    let step = placing.step;
    let steps = |nodes: &[NodeId], from: usize, to: usize| -> Vec<Step> {
        let mut steps = vec![Step::default(); to - from];
        for n in nodes {
            let into = &mut steps[step[n] - from];
            match g.form(*n) {
                Form::Redirect => into.redirects.push(*n),
                Form::Library => into.calls.push(*n),
                _ => into.kernel.push(*n),
            }
        }
        steps
    };
    Ok(Order {
        consts: steps(&consts, 0, ends[0]),
        wide: steps(&wide, ends[0], ends[1]),
        narrow: steps(&narrow, ends[1], ends[2]),
        step,
    })
}

/// The values that a node takes from a donor: they must be complete before. What is only done where a patch
/// is active, such as its receipts, begins together with it.
fn donor_deps(g: &Graph, n: NodeId) -> Vec<NodeId> {
    let taken = g.inputs(n).into_iter().filter_map(|i| match g.node(g.view(i).root).op {
        Op::Donor(edit) => Some(edit),
        _ => None,
    });
    let edits = taken.chain(g.need(n).edits().iter().copied());
    edits.filter_map(|edit| g.patched.get(&edit).copied()).filter(|base| *base != n).collect()
}

fn all_deps(g: &Graph, n: NodeId) -> Vec<NodeId> {
    let mut deps = g.deps(n);
    deps.extend(donor_deps(g, n));
    deps
}

/// Everything that the rows after it read of a row.
fn wide(g: &Graph, units: &[NodeId], deps: &HashMap<NodeId, Vec<NodeId>>) -> HashSet<NodeId> {
    let mut wide: HashSet<NodeId> = HashSet::new();
    let mut stack: Vec<NodeId> = Vec::new();
    for &n in units {
        match g.node(n).op {
            Op::Attention { k, v, .. } => stack.extend([g.view(k).root, g.view(v).root]),
            // What they carry on passes through every row.
            Op::Conv1d { .. } | Op::Scan { .. } => stack.push(n),
            _ => {}
        }
    }
    let mut receipts: Vec<(crate::plan::EditId, NodeId)> = Vec::new();
    for &n in units {
        if let Op::Receipt { edit, .. } = g.node(n).op {
            receipts.push((edit, n));
        }
    }
    while let Some(n) = stack.pop() {
        if !g.is_row(n) || !deps.contains_key(&n) || !wide.insert(n) {
            continue;
        }
        stack.extend(&deps[&n]);
        // The receipts of an edit are taken wherever the edit is computed.
        if let Op::Overlay { edit, .. } = g.node(n).op {
            stack.extend(receipts.iter().filter(|r| r.0 == edit).map(|r| r.1));
        }
    }
    wide
}

struct Placing<'g, 'p> {
    g: &'g Graph<'p>,
    deps: &'g HashMap<NodeId, Vec<NodeId>>,
    /// The bases of the patches that a node reads.
    donors: HashMap<NodeId, Vec<NodeId>>,
    fuses: bool,
    step: HashMap<NodeId, usize>,
    /// The first step of the next part.
    next: usize,
}

impl Placing<'_, '_> {
    /// Gives each of these nodes the first step in which it is ready, and returns where the steps end.
    fn place(&mut self, nodes: &[NodeId]) -> Result<usize, Diagnostic> {
        let mut pending = nodes.to_vec();
        while !pending.is_empty() {
            let now = self.next;
            let before = pending.len();
            for form in [Form::Redirect, Form::Fused, Form::Library] {
                let mut full = false;
                pending.retain(|&n| {
                    let ready = !full && self.g.form(n) == form && self.is_ready(n, now);
                    if ready {
                        self.step.insert(n, now);
                        full = form == Form::Fused && !self.fuses;
                    }
                    !ready
                });
            }
            if pending.len() == before {
                let n = pending[0];
                let message = format!("the plan has a cycle at {}", self.g.name(n));
                return Err(Diagnostic::error(codes::WRONG_KIND, message));
            }
            self.next += 1;
        }
        Ok(self.next)
    }

    fn is_ready(&self, n: NodeId, now: usize) -> bool {
        let complete = |d: &NodeId| match self.step.get(d) {
            None => false,
            // A redirect, like a kernel that reads a donor, needs its base complete before the stretch.
            Some(at) => *at < now || !(self.g.form(n) == Form::Redirect || self.takes(n, *d)),
        };
        self.deps[&n].iter().all(complete)
    }

    /// Whether a node takes rows of this value from a donor.
    fn takes(&self, n: NodeId, base: NodeId) -> bool {
        self.donors.get(&n).is_some_and(|d| d.contains(&base))
    }

    /// Moves what is needed only later next to what needs it.
    fn delay(&mut self, nodes: &[NodeId]) {
        let inside: HashSet<NodeId> = nodes.iter().copied().collect();
        let mut users: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        for &n in nodes {
            for d in &self.deps[&n] {
                if inside.contains(d) {
                    users.entry(*d).or_default().push(n);
                }
            }
        }
        let kept: HashSet<NodeId> =
            self.g.outputs.iter().map(|o| self.g.view(*o).root).chain(self.g.patched.values().copied()).collect();
        for &n in nodes.iter().rev() {
            if self.g.form(n) != Form::Fused || kept.contains(&n) {
                continue;
            }
            let latest = users.get(&n).into_iter().flatten().map(|u| {
                let early = self.g.form(*u) == Form::Redirect || self.takes(*u, n);
                self.step[u] - usize::from(early)
            });
            if let Some(latest) = latest.min()
                && latest > self.step[&n]
            {
                self.step.insert(n, latest);
            }
        }
    }
}
