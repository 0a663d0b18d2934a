//! Attentions whose pattern is the softmax of their scores, which the library computes by itself.

use super::graph::{Graph, extents};
use super::recurrence::unedited;
use crate::kernel::Lin;
use crate::plan::{Binary, KEY, NodeId, Op, Reduce, RegionId, Unary};

/// The softmax of the scores over the keys.
#[derive(Clone, Copy)]
pub struct Found {
    pub sinks: Option<NodeId>,
    /// Whether the body is nothing else; otherwise edits are in it, and this is what it is where none of them acts.
    pub alone: bool,
}

/// The softmax that a body is, edits passed over.
pub fn of(g: &Graph, body: RegionId) -> Option<Found> {
    // What is kept of every row, the body computes in every row.
    if g.outputs.iter().any(|o| g.is_inside(*o, body)) {
        return None;
    }
    let under = |n: NodeId| unedited(g, body, n);
    let [result] = g.results.get(&body)?[..] else { return None };
    let op = |n: NodeId| match g.node(under(n)).op.clone() {
        Op::Binary(f, a, b) => Op::Binary(f, under(a), under(b)),
        Op::Unary(f, a) => Op::Unary(f, under(a)),
        Op::Reduce(f, a, over) => Op::Reduce(f, under(a), over),
        other => other,
    };
    let (div, rest) = match op(result) {
        Op::Binary(Binary::Mul, div, rest) => (div, Some(rest)),
        _ => (under(result), None),
    };
    let Op::Binary(Binary::Div, exp, sum) = op(div) else { return None };
    let Op::Unary(Unary::Exp, sub) = op(exp) else { return None };
    let Op::Binary(Binary::Sub, scores, max) = op(sub) else { return None };
    let over = |n: NodeId, by: Reduce, of: NodeId| match op(n) {
        Op::Reduce(r, a, axes) => r == by && a == of && axes.len() == 1 && &*axes[0] == KEY,
        _ => false,
    };
    let (sinks, nodes) = match rest {
        None => (None, 5),
        // 1 - sigmoid(sinks - max - log(sum))
        Some(rest) => {
            let Op::Binary(Binary::Sub, one, own) = op(rest) else { return None };
            let Op::Unary(Unary::Sigmoid, gap) = op(own) else { return None };
            let Op::Binary(Binary::Sub, above, log) = op(gap) else { return None };
            let Op::Binary(Binary::Sub, sinks, most) = op(above) else { return None };
            let of_head = !g.ty(sinks).per_row && g.ty(sinks).axes == g.ty(max).axes;
            let fits = matches!(op(one), Op::Number(n) if n == 1.0) && op(log) == Op::Unary(Unary::Log, sum);
            if !of_head || !fits || most != max {
                return None;
            }
            (Some(sinks), 11)
        }
    };
    let fits = matches!(op(scores), Op::Arg(0))
        && over(max, Reduce::Max, scores)
        && over(sum, Reduce::Sum, exp)
        && extents(g.ty(div)).last() == Some(&Lin::KEYS)
        && g.ty(result).axes == g.ty(scores).axes;
    let alone = g.body_order(body).into_iter().filter(|n| g.is_unit(*n)).count() == nodes;
    fits.then_some(Found { sinks, alone })
}
