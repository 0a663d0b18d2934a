//! Computes a convolution from the rows before, in place of a window that each row carries on.

use super::rewrite::{Rewrite, insert_before, live, readers, rewrite};
use super::{By, Changes, Rule};
use crate::plan::ir::*;
use std::collections::HashMap;

pub(super) const RULE: Rule = Rule {
    name: "stream_window",
    doc: "Convolves over the rows before where nothing reads or changes the window that they carry on.",
    exact: true,
    by: By::Rewrite(apply),
};

fn apply(plan: &mut Plan) -> Changes {
    let live = live(plan);
    let readers = readers(plan, &live);
    let mut by = HashMap::new();
    for id in plan.region(MAIN).order.clone() {
        if let Some((x, w)) = convolution(plan, id, &readers) {
            let node = Node { op: Op::Conv1d { x, w }, ..plan.node(id).clone() };
            by.insert(id, insert_before(plan, MAIN, id, node));
        }
    }
    // The scans stay behind, unread.
    rewrite(plan, &mut |_, _, n| by.get(&n).map(|n| Rewrite::Replace(*n)));
    Changes::of(by.len(), "convolutions without a window:")
}

/// What a scan convolves with which filters `[channel, tap]`, if its state is a window that moves on by the row's own
/// value, and its result the sum over the taps: what [`crate::plan::Builder::convolve_begin`] builds and no edit changed.
fn convolution(plan: &Plan, id: NodeId, readers: &[Vec<Option<NodeId>>]) -> Option<(NodeId, NodeId)> {
    let Op::Scan { body } = plan.node(id).op else { return None };
    let region = plan.region(body);
    let (&[state], &[window, sum]) = (&region.args[..], &region.results[..]) else { return None };
    let Op::Concat(kept, own, axis) = &plan.node(window).op else { return None };
    let Op::Slice { of, axis: along, start: 1, .. } = &plan.node(*kept).op else { return None };
    let Op::Reshape(x) = plan.node(*own).op else { return None };
    let Size::Fixed(taps) = plan.ty(window).axes.first()?.size else { return None };
    let only = |n: NodeId, reader: Option<NodeId>| readers[n.0 as usize] == [reader];
    if *of != state || along != axis || !only(state, Some(*kept)) || readers[window.0 as usize].len() != taps + 1 {
        return None;
    }
    let (mut total, mut reader, mut w) = (sum, None, None);
    for t in (0..taps).rev() {
        let Op::Binary(Binary::Add, rest, product) = plan.node(total).op else { return None };
        let Op::Binary(Binary::Mul, x, filter) = plan.node(product).op else { return None };
        let entry = |n: NodeId| match &plan.node(n).op {
            Op::At { of, axis: along, index } if along == axis && *index == t => Some(*of),
            _ => None,
        };
        let whole = only(total, reader) && only(product, Some(total)) && only(x, Some(product));
        let filters = entry(filter)?;
        if !whole || entry(x) != Some(window) || w.is_some_and(|w| w != filters) {
            return None;
        }
        (total, reader, w) = (rest, Some(total), Some(filters));
    }
    let zero = matches!(plan.node(total).op, Op::Number(x) if x.to_bits() == 0);
    let w = w.filter(|w| plan.ty(*w).axes.last().is_some_and(|a| a.name == *axis))?;
    (zero && plan.ty(x) == plan.ty(id)).then_some((x, w))
}

#[cfg(test)]
mod tests {
    use crate::plan::rules::tests::read;
    use crate::plan::rules::{Options, optimize};
    use crate::plan::{Axis, Builder, NodeId, Output, Plan, print};

    /// A convolution of embeddings, whose window `f` may look at.
    fn convolved(f: impl Fn(&mut Plan, NodeId)) -> String {
        let head = "weight w0 \"e\" [vocab=9, channel=4]\n weight w1 \"c\" [channel=4, tap=3]\n region r0 () -> () {\n n0 = weight w0\n n1 = token\n n2 = lookup n0, n1\n n3 = weight w1\n }\n output \"e\" n2";
        let mut b = Builder::new(read(head));
        let open = b.convolve_begin(NodeId(2), Axis::new("tap", 3)).unwrap();
        let window = open.window;
        let y = b.convolve_end(open, window, NodeId(3)).unwrap();
        let mut plan = b.finish();
        plan.outputs.push(Output { name: "y".into(), node: y });
        f(&mut plan, window);
        optimize(&mut plan, &Options::default(), &mut |_, _, _| {}).unwrap();
        print(&plan)
    }

    #[test]
    fn an_unseen_window_is_not_carried() {
        let text = convolved(|_, _| ());
        assert!(text.contains("conv1d") && !text.contains("scan"), "{text}");
    }

    #[test]
    fn a_window_that_is_read_is_carried() {
        let text = convolved(|plan, window| plan.outputs.push(Output { name: "window".into(), node: window }));
        assert!(text.contains("scan") && !text.contains("conv1d"), "{text}");
    }
}
