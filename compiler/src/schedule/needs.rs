//! What is needed of a Plan, in which order, and on which rows.

use super::graph::{Form, Graph, Need, Pattern, extents};
use super::view::{self, View};
use crate::kernel::Lin;
use crate::plan::{EditId, MAIN, NodeId, Op, RegionId};
use std::collections::HashSet;

impl Graph<'_> {
    /// The live nodes of a body, each after all that it reads.
    pub fn body_order(&self, body: RegionId) -> Vec<NodeId> {
        let handed = self.outputs.iter().chain(self.given.values());
        let handed = handed.copied().filter(|o| self.is_inside(*o, body));
        let results = self.results.get(&body).cloned().unwrap_or_default();
        let roots: Vec<NodeId> = results.into_iter().chain(handed).collect();
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
        for base in self.patched.values().chain(self.given.values()) {
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
                Pattern::Axpy { a, s, x, minus } => {
                    Pattern::Axpy { a: through(a), s: through(s), x: through(x), minus }
                }
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
