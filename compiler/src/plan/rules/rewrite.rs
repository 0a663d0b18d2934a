//! The walk that rules share.

use crate::plan::ir::*;
use std::sync::Arc;

/// What becomes of one node.
pub(super) enum Rewrite {
    /// Whoever reads it reads this one instead, which is known where the node is.
    Replace(NodeId),
    /// Another op of the same type.
    Op(Op),
}

/// Visits every node after all that it reads, with its operands already rewritten; returns how many
/// nodes changed. A replacement of another type is not made.
pub(super) fn rewrite(plan: &mut Plan, f: &mut dyn FnMut(&Plan, RegionId, NodeId) -> Option<Rewrite>) -> usize {
    let mut walk = Walk { to: (0..plan.nodes.len() as u32).map(NodeId).collect(), changed: 0 };
    walk.region(plan, MAIN, f);
    let to = |n: &mut NodeId| *n = walk.to[n.0 as usize];
    for region in &mut plan.regions {
        region.results.iter_mut().for_each(to);
    }
    for site in &mut plan.sites {
        to(&mut site.before);
        to(&mut site.value);
    }
    for output in &mut plan.outputs {
        to(&mut output.node);
    }
    walk.changed
}

struct Walk {
    to: Vec<NodeId>,
    changed: usize,
}

impl Walk {
    fn region(&mut self, plan: &mut Plan, id: RegionId, f: &mut dyn FnMut(&Plan, RegionId, NodeId) -> Option<Rewrite>) {
        for n in plan.region(id).order.clone() {
            if let Some(body) = plan.node(n).op.body() {
                self.region(plan, body, f);
            }
            let at = n.0 as usize;
            plan.nodes[at].op.for_each_input_mut(&mut |x| *x = self.to[x.0 as usize]);
            match f(plan, id, n) {
                Some(Rewrite::Replace(by)) if by != n && plan.ty(by) == plan.ty(n) => self.to[at] = by,
                Some(Rewrite::Op(op)) => plan.nodes[at].op = op,
                _ => continue,
            }
            self.changed += 1;
        }
    }
}

/// The region of each node.
pub(super) fn regions(plan: &Plan) -> Vec<RegionId> {
    let mut of = vec![MAIN; plan.nodes.len()];
    for (r, region) in plan.regions.iter().enumerate() {
        for n in &region.order {
            of[n.0 as usize] = RegionId(r as u32);
        }
    }
    of
}

/// Whether an output, or a receipt of an edit that something reads, depends on each node.
pub(super) fn live(plan: &Plan) -> Vec<bool> {
    let of = regions(plan);
    let mut owner: Vec<Option<NodeId>> = vec![None; plan.regions.len()];
    let mut receipts: Vec<Vec<NodeId>> = vec![Vec::new(); plan.edits.len()];
    for (i, node) in plan.nodes.iter().enumerate() {
        let id = NodeId(i as u32);
        if let Some(body) = node.op.body() {
            owner[body.0 as usize] = Some(id);
        }
        if let Op::Receipt { edit, .. } = node.op {
            receipts[edit.0 as usize].push(id);
        }
    }
    let mut live = vec![false; plan.nodes.len()];
    let mut todo: Vec<NodeId> = plan.outputs.iter().map(|o| o.node).collect();
    while let Some(n) = todo.pop() {
        if std::mem::replace(&mut live[n.0 as usize], true) {
            continue;
        }
        let op = &plan.node(n).op;
        op.for_each_input(&mut |x| todo.push(x));
        if let Some(body) = op.body() {
            let region = plan.region(body);
            todo.extend(region.args.iter().chain(&region.results));
        }
        // What stands in a body is computed by its owner.
        todo.extend(owner[of[n.0 as usize].0 as usize]);
        if let Op::Overlay { edit, .. } = op {
            todo.append(&mut receipts[edit.0 as usize]);
        }
    }
    live
}

/// Who reads each node: live nodes by id; `None` for a result of a body or an output.
pub(super) fn readers(plan: &Plan, live: &[bool]) -> Vec<Vec<Option<NodeId>>> {
    let mut readers = vec![Vec::new(); plan.nodes.len()];
    for (i, node) in plan.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
        node.op.for_each_input(&mut |x| readers[x.0 as usize].push(Some(NodeId(i as u32))));
    }
    let results = plan.regions.iter().flat_map(|r| r.results.iter());
    for n in results.chain(plan.outputs.iter().map(|o| &o.node)) {
        readers[n.0 as usize].push(None);
    }
    readers
}

/// How a node is read that is read entry by entry along one axis.
pub(super) struct SingleReads {
    pub axis: Arc<str>,
    /// The readers, all of them [`Op::At`], with their entries.
    pub reads: Vec<(NodeId, usize)>,
}

/// How a node is read, if that is entry by entry along one axis, fewer times than the axis has entries.
pub(super) fn single_reads(plan: &Plan, id: NodeId, readers: &[Vec<Option<NodeId>>]) -> Option<SingleReads> {
    let mut found: Option<Arc<str>> = None;
    let mut reads = Vec::new();
    for reader in &readers[id.0 as usize] {
        let reader = (*reader)?;
        let Op::At { axis, index, .. } = &plan.node(reader).op else { return None };
        if found.get_or_insert_with(|| axis.clone()) != axis {
            return None;
        }
        reads.push((reader, *index));
    }
    let axis = found?;
    let ty = plan.ty(id);
    match ty.axes[ty.position_of(&axis)?].size {
        Size::Fixed(n) if reads.len() < n => Some(SingleReads { axis, reads }),
        _ => None,
    }
}

/// Puts a new node right before another one.
pub(super) fn insert_before(plan: &mut Plan, region: RegionId, before: NodeId, node: Node) -> NodeId {
    let id = NodeId(plan.nodes.len() as u32);
    plan.nodes.push(node);
    let order = &mut plan.regions[region.0 as usize].order;
    let at = order.iter().position(|&n| n == before).unwrap_or(order.len());
    order.insert(at, id);
    id
}
