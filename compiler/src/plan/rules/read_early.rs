//! Reads single entries before elementwise operations instead of after them, so that `slice_logits`
//! sees through a cap or a scaling of the logits.

use super::rewrite::{SingleReads, insert_before, live, readers, regions, single_reads};
use super::{By, Changes, Rule};
use crate::plan::ir::*;

pub(super) const RULE: Rule = Rule {
    name: "read_early",
    doc: "Reads single entries before elementwise operations instead of after them.",
    exact: true,
    by: By::Rewrite(apply),
};

fn apply(plan: &mut Plan) -> Changes {
    let mut count = 0;
    // One step up each time; each step ends at a node that comes earlier.
    loop {
        let step = step(plan);
        if step == 0 {
            return Changes::of(count, "entries that are read earlier:");
        }
        count += step;
    }
}

fn step(plan: &mut Plan) -> usize {
    let live = live(plan);
    let readers = readers(plan, &live);
    let region = regions(plan);
    let mut count = 0;
    for id in (0..plan.nodes.len() as u32).map(NodeId).filter(|n| live[n.0 as usize]) {
        if !matches!(plan.node(id).op, Op::Unary(..) | Op::Binary(..) | Op::Select(..)) {
            continue;
        }
        let Some(SingleReads { axis, reads }) = single_reads(plan, id, &readers) else { continue };
        if reads.iter().any(|(r, _)| region[r.0 as usize] != region[id.0 as usize]) {
            continue;
        }
        if !keeps_order(plan, id) {
            continue;
        }
        for (reader, index) in reads {
            let node = plan.node(reader).clone();
            let mut op = plan.node(id).op.clone();
            for operand in inputs(&op) {
                let mut ty = plan.ty(operand).clone();
                let Some(at) = ty.position_of(&axis) else { continue };
                ty.axes.remove(at);
                let read = Op::At { of: operand, axis: axis.clone(), index };
                let read =
                    insert_before(plan, region[reader.0 as usize], reader, Node { op: read, ty, ..node.clone() });
                op.for_each_input_mut(&mut |x| {
                    if *x == operand {
                        *x = read;
                    }
                });
            }
            plan.nodes[reader.0 as usize].op = op;
            count += 1;
        }
    }
    count
}

/// Whether the axes of the result stand in the same order when one of them is taken from all operands:
/// each has all axes or none, or there are but two.
fn keeps_order(plan: &Plan, id: NodeId) -> bool {
    let result = &plan.ty(id).axes;
    let operands: Vec<&Type> = inputs(&plan.node(id).op).into_iter().map(|n| plan.ty(n)).collect();
    result.len() <= 2 || operands.iter().all(|t| t.axes.is_empty() || t.axes == *result)
}

/// The operands, each once.
fn inputs(op: &Op) -> Vec<NodeId> {
    let mut inputs = Vec::new();
    op.for_each_input(&mut |x| {
        if !inputs.contains(&x) {
            inputs.push(x);
        }
    });
    inputs
}

#[cfg(test)]
mod tests {
    use crate::plan::rules::tests::check;

    #[test]
    fn before_a_cap() {
        let head = "weight w0 \"e\" [vocab=9, d=4]\n region r0 () -> () {\n n0 = weight w0\n n1 = token\n n2 = lookup n0, n1\n n3 = linear n2, n0 over [d]\n n4 = number 30.0\n";
        check(
            "read_early",
            &format!(
                "{head} n5 = div n3, n4\n n6 = tanh n5\n n7 = mul n6, n4\n n8 = at n7 along vocab index 3\n }}\n output \"y\" n8"
            ),
            &format!(
                "{head} n5 = at n3 along vocab index 3\n n6 = div n5, n4\n n7 = tanh n6\n n8 = mul n7, n4\n }}\n output \"y\" n8"
            ),
        );
    }

    #[test]
    fn not_where_all_is_read() {
        let text = "weight w0 \"e\" [vocab=2, d=4]\n region r0 () -> () {\n n0 = weight w0\n n1 = token\n n2 = lookup n0, n1\n n3 = linear n2, n0 over [d]\n n4 = tanh n3\n n5 = at n4 along vocab index 0\n n6 = at n4 along vocab index 1\n n7 = sub n5, n6\n }\n output \"y\" n7";
        check("read_early", text, text);
    }
}
