//! Puts in copies where a library call, an output, a patch or a body's owner needs elements in an
//! order of its own.

use super::graph::{Form, Graph};
use crate::plan::{Axis, MAIN, NodeId, Op, RegionId, Type};
use steer_lang::Diagnostic;

/// The axes of a product with weights, by what becomes of them.
#[derive(Clone)]
pub struct LinearAxes {
    /// Only in `x`.
    pub extra: Vec<Axis>,
    /// In both, or in `w` and `active`, and kept.
    pub batch: Vec<Axis>,
    /// Only in `w`.
    pub out: Vec<Axis>,
    /// Summed over.
    pub inner: Vec<Axis>,
    /// Whether `x` differs along `batch`.
    pub x_has_batch: bool,
}

impl LinearAxes {
    /// The axes of the result as it is stored.
    pub fn result(&self) -> Vec<Axis> {
        [&self.extra[..], &self.batch, &self.out].concat()
    }

    /// The axes of `x` as it is read.
    pub fn operand(&self) -> Vec<Axis> {
        let batch: &[Axis] = if self.x_has_batch { &self.batch } else { &[] };
        [&self.extra[..], batch, &self.inner].concat()
    }
}

/// Sorts the axes of a `Linear`. The order depends on types alone.
pub fn linear_axes(g: &Graph, n: NodeId) -> Result<LinearAxes, Diagnostic> {
    let Op::Linear { x, w, over, active } = &g.node(n).op else {
        return Err(g.unsupported(n, "this operation"));
    };
    let (x, w) = (g.ty(*x), g.ty(*w));
    if w.per_row || w.has_keys() || x.has_keys() {
        return Err(g.unsupported(n, "a product whose matrix differs by row or by key"));
    }
    let has = |ty: &Type, a: &Axis| ty.position_of(&a.name).is_some();
    let summed = |a: &Axis| over.contains(&a.name);
    let gated = |a: &Axis| active.is_some_and(|m| has(g.ty(m), a));
    let inner = x.axes.iter().filter(|a| summed(a)).cloned().collect();
    let extra = x.axes.iter().filter(|a| !summed(a) && !has(w, a)).cloned().collect();
    let mut batch: Vec<Axis> = x.axes.iter().filter(|a| !summed(a) && has(w, a)).cloned().collect();
    let x_has_batch = !batch.is_empty();
    let (gates, out): (Vec<Axis>, Vec<Axis>) = w.axes.iter().filter(|a| !has(x, a)).cloned().partition(|a| gated(a));
    batch.extend(gates);
    Ok(LinearAxes { extra, batch, out, inner, x_has_batch })
}

/// Puts in every copy that is needed.
pub fn legalize(g: &mut Graph) -> Result<(), Diagnostic> {
    if g.fuses {
        super::experts::find(g)?;
    }
    for n in g.live() {
        if let Some(body) = g.node(n).op.body() {
            bodies(g, n, body)?;
        }
        operands(g, n)?;
    }
    patches(g)?;
    for i in 0..g.outputs.len() {
        let o = g.outputs[i];
        let region = g.region[o.0 as usize];
        if (region == MAIN || !g.is_row(o)) && !g.is_whole(o) {
            let (ty, row) = (g.ty(o).clone(), g.is_row(o));
            g.outputs[i] = g.copy(o, ty, MAIN, row)?;
        }
    }
    Ok(())
}

/// Replaces an operand by a copy, unless it is stored under these axes already.
fn stored(g: &mut Graph, operand: NodeId, axes: Vec<Axis>, row: bool) -> Result<NodeId, Diagnostic> {
    let ty = g.ty(operand).clone();
    if g.is_whole(operand) && ty.axes == axes {
        return Ok(operand);
    }
    // A view whose own order is wrong may be the right one under another type.
    g.copy(operand, Type { axes, ..ty }, MAIN, row)
}

/// A constant that a library call reads lies in a file, in the script or in a computed buffer.
fn sourced(g: &mut Graph, operand: NodeId) -> Result<NodeId, Diagnostic> {
    let root = g.view(operand).root;
    if g.is_row(root) {
        return Err(g.unsupported(operand, "a matrix, table or filter that differs by row"));
    }
    if g.is_unit(root) || matches!(g.node(root).op, Op::Weight(_) | Op::Tensor(_)) {
        return Ok(operand);
    }
    let ty = g.ty(operand).clone();
    g.copy(operand, ty, MAIN, false)
}

fn operands(g: &mut Graph, n: NodeId) -> Result<(), Diagnostic> {
    let row = g.is_row(n);
    if let Some(mut experts) = g.experts.get(&n).cloned() {
        let [first, ..] = &experts.first[..] else { return Ok(()) };
        experts.x = stored(g, experts.x, first.1.operand(), row)?;
        experts.gates = stored(g, experts.gates, first.1.batch.clone(), row)?;
        for constant in experts.sources_mut() {
            *constant = sourced(g, *constant)?;
        }
        g.experts.insert(n, experts);
        return Ok(());
    }
    let mut op = g.node(n).op.clone();
    match &mut op {
        Op::Linear { x, w, active, .. } => {
            let axes = linear_axes(g, n)?;
            if let Op::Pick { of, axis, entries } = g.node(*w).op.clone()
                && axes.out.len() == 1
                && axes.out[0].name == axis
            {
                *w = of;
                g.select.insert(n, entries);
            }
            *w = sourced(g, *w)?;
            *x = stored(g, *x, axes.operand(), row)?;
            if let Some(active) = active {
                *active = stored(g, *active, axes.batch.clone(), row)?;
            }
        }
        Op::Lookup { table, index } => {
            *table = sourced(g, *table)?;
            if !matches!(g.node(*index).op, Op::Token | Op::Position) {
                let axes = g.ty(*index).axes.clone();
                *index = stored(g, *index, axes, row)?;
            }
        }
        Op::Attention { q, k, v, .. } => {
            for operand in [q, k, v] {
                let axes = g.ty(*operand).axes.clone();
                *operand = stored(g, *operand, axes, row)?;
            }
        }
        Op::Conv1d { x, w } => {
            *w = sourced(g, *w)?;
            let axes = g.ty(*x).axes.clone();
            *x = stored(g, *x, axes, row)?;
        }
        _ => {}
    }
    g.nodes[n.0 as usize].op = op;
    Ok(())
}

/// Every result and output of a body is a value of its own that the body computes.
fn bodies(g: &mut Graph, owner: NodeId, body: RegionId) -> Result<(), Diagnostic> {
    let results = g.results.get(&body).cloned().unwrap_or_default();
    let wanted = if matches!(g.node(owner).op, Op::Scan { .. }) { 2 } else { 1 };
    if results.len() != wanted {
        return Err(g.unsupported(owner, "a body with another number of results"));
    }
    let mut taken: Vec<NodeId> = Vec::new();
    let mut own = |g: &mut Graph, n: NodeId| -> Result<NodeId, Diagnostic> {
        let mut n = n;
        if !(g.is_whole(n) && g.is_inside(g.view(n).root, body) && g.view(n).root == n) || taken.contains(&n) {
            let ty = g.ty(n).clone();
            n = g.copy(n, ty, body, true)?;
        }
        taken.push(n);
        Ok(n)
    };
    let mut kept = Vec::new();
    for r in &results {
        kept.push(own(g, *r)?);
    }
    g.results.insert(body, kept.clone());
    for i in 0..g.outputs.len() {
        let o = g.outputs[i];
        if g.is_inside(o, body) {
            g.outputs[i] = own(g, o)?;
        }
    }
    Ok(())
}

/// Finds the values whose rows come from donors. They are stored as they are before the patch; where
/// nothing else reads that, a patch of the whole value is a matter of the runtime alone.
fn patches(g: &mut Graph) -> Result<(), Diagnostic> {
    let live = g.live();
    let mut donors = Vec::new();
    for &n in &live {
        if let Some(body) = g.node(n).op.body() {
            given(g, body)?;
        }
        for input in g.inputs(n) {
            if let Op::Donor(edit) = g.node(input).op
                && !donors.contains(&edit)
            {
                donors.push(edit);
            }
        }
    }
    for edit in donors {
        let overlays =
            live.iter().copied().filter(|n| matches!(g.node(*n).op, Op::Overlay { edit: e, .. } if e == edit));
        let overlays: Vec<NodeId> = overlays.collect();
        // Of several the first is the model's own; what receipts compare with stands behind it.
        let Some(first) = overlays.iter().copied().min() else { continue };
        let Op::Overlay { base, value, .. } = g.node(first).op else { continue };
        let readers = |g: &Graph, of: NodeId| live.iter().filter(|n| g.inputs(**n).contains(&of)).count();
        let is_whole = matches!(g.node(value).op, Op::Donor(e) if e == edit)
            && overlays.len() == 1
            && readers(g, value) == 1
            && !live.iter().any(|n| matches!(g.node(*n).op, Op::Receipt { edit: e, .. } if e == edit));
        // The redirected rows may be seen by nothing but the patch: what else reads the value before it
        // reads it from elsewhere.
        let root = g.view(base).root;
        let shared = live.iter().filter(|n| g.deps(**n).contains(&root)).count() > 1
            || g.outputs.iter().any(|o| g.view(*o).root == root)
            || !g.is_row(root);
        let mut stored = base;
        if !g.is_whole(base) || (is_whole && shared) || !g.is_row(root) {
            let ty = g.ty(base).clone();
            stored = g.copy(base, ty, MAIN, true)?;
            for &n in &overlays {
                if let Op::Overlay { base: b, .. } = &mut g.nodes[n.0 as usize].op
                    && *b == base
                {
                    *b = stored;
                }
            }
        }
        if is_whole {
            g.form[first.0 as usize] = Form::Redirect;
        }
        let root = g.view(stored).root;
        g.patched.insert(edit, root);
    }
    Ok(())
}

/// Finds the values of a body that patches take from donors: each is a result that the body hands back.
fn given(g: &mut Graph, body: RegionId) -> Result<(), Diagnostic> {
    for n in g.body_order(body) {
        let Op::Overlay { edit, base, .. } = g.node(n).op else { continue };
        let takes = |n: &NodeId| g.inputs(*n).iter().any(|i| g.node(*i).op == Op::Donor(edit));
        if g.given.contains_key(&edit) || !g.body_order(body).iter().any(takes) {
            continue;
        }
        let own = g.is_whole(base) && g.is_inside(base, body) && g.view(base).root == base;
        let result = g.results.get(&body).is_some_and(|r| r.contains(&base));
        let stored = if own && !result {
            base
        } else {
            let ty = g.ty(base).clone();
            g.copy(base, ty, body, true)?
        };
        g.given.insert(edit, stored);
    }
    Ok(())
}
