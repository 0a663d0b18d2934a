//! Computes a convolution from the rows before, in place of a window that each row carries on.

use super::rewrite::{live, readers};
use super::{By, Changes, Rule};
use crate::plan::ir::*;
use std::sync::Arc;

pub(super) const RULE: Rule = Rule {
    name: "stream_window",
    doc: "Convolves over the rows before where nothing reads or changes the window that they carry on.",
    // A body may fuse a product and the sum that it goes into, which a convolution does not.
    exact: false,
    by: By::Rewrite(apply),
};

fn apply(plan: &mut Plan) -> Changes {
    let live = live(plan);
    let readers = readers(plan, &live);
    let mut count = 0;
    for id in plan.region(MAIN).order.clone() {
        if let Some((x, w)) = convolution(plan, id, &readers) {
            plan.nodes[id.0 as usize].op = Op::Conv1d { x, w };
            count += 1;
        }
    }
    Changes::of(count, "convolutions without a window:")
}

/// What a scan convolves with which filters `[channel, tap]`, if its state is a window that moves on by the row's own
/// value, and its result the sum over the taps: what [`crate::plan::Builder::convolve`] builds and no edit changed.
fn convolution(plan: &Plan, id: NodeId, readers: &[Vec<Option<NodeId>>]) -> Option<(NodeId, NodeId)> {
    let Op::Scan { body } = plan.node(id).op else { return None };
    let region = plan.region(body);
    let (&[state], &[window, sum]) = (&region.args[..], &region.results[..]) else { return None };
    let Op::Concat(kept, own, axis) = &plan.node(window).op else { return None };
    let Op::Slice { of, axis: along, start: 1, .. } = &plan.node(*kept).op else { return None };
    let Op::Reshape(x) = plan.node(*own).op else { return None };
    let Op::Reduce(Reduce::Sum, product, over) = &plan.node(sum).op else { return None };
    let Op::Binary(Binary::Mul, a, taps) = plan.node(*product).op else { return None };
    let Op::Permute(w) = plan.node(taps).op else { return None };
    let only = |n: NodeId, reader: Option<NodeId>| readers[n.0 as usize] == [reader];
    let moves = *of == state && along == axis && **over == [Arc::clone(axis)] && a == window;
    let unseen = only(sum, None)
        && only(*product, Some(sum))
        && only(state, Some(*kept))
        && readers[window.0 as usize].len() == 2
        && readers[window.0 as usize].contains(&Some(*product));
    let fits = plan.ty(w).axes.last().is_some_and(|a| a.name == *axis) && plan.ty(x) == plan.ty(id);
    (moves && unseen && fits).then_some((x, w))
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
