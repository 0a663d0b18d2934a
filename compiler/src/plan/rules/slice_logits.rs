//! Computes only those entries of a product that something reads.

use super::rewrite::{SingleReads, insert_before, live, readers, single_reads};
use super::{By, Changes, Rule};
use crate::plan::ir::*;

pub(super) const RULE: Rule = Rule {
    name: "slice_logits",
    doc: "Computes only the vocabulary entries that something reads.",
    exact: true,
    by: By::Rewrite(apply),
};

fn apply(plan: &mut Plan) -> Changes {
    let live = live(plan);
    let readers = readers(plan, &live);
    let mut changes = Changes::default();
    for id in plan.region(MAIN).order.clone() {
        let node = plan.node(id);
        let Op::Linear { x, w, over, active: None } = node.op.clone() else { continue };
        let Some(SingleReads { axis, reads }) = single_reads(plan, id, &readers) else { continue };
        // The weight has the axes summed over and this one, which `x` lacks.
        if plan.ty(w).axes.len() != over.len() + 1 || plan.ty(x).position_of(&axis).is_some() {
            continue;
        }
        let mut entries: Vec<u32> = reads.iter().map(|r| r.1 as u32).collect();
        entries.sort_unstable();
        entries.dedup();
        let shrink = |ty: &Type| {
            let mut ty = ty.clone();
            for a in ty.axes.iter_mut().filter(|a| a.name == axis) {
                a.size = Size::Fixed(entries.len());
            }
            ty
        };
        let (full, ty, w_ty) = (node.clone(), shrink(&node.ty), shrink(plan.ty(w)));
        let pick = Op::Pick { of: w, axis: axis.clone(), entries: entries.clone().into() };
        let w = insert_before(plan, MAIN, id, Node { op: pick, ty: w_ty, ..full.clone() });
        let product = Op::Linear { x, w, over, active: None };
        let all = full.ty.axes.iter().find(|a| a.name == axis).map(|a| a.size);
        let product = insert_before(plan, MAIN, id, Node { op: product, ty, ..full });
        for (reader, index) in &reads {
            let index = entries.binary_search(&(*index as u32)).unwrap_or(0);
            plan.nodes[reader.0 as usize].op = Op::At { of: product, axis: axis.clone(), index };
        }
        changes.count += 1;
        if let Some(Size::Fixed(all)) = all {
            changes.notes.push(format!("{} of {all} entries along `{axis}` are computed", entries.len()));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use crate::plan::rules::tests::check;

    const HEAD: &str =
        "weight w0 \"e\" [vocab=9, d=4]\n region r0 () -> () {\n n0 = weight w0\n n1 = token\n n2 = lookup n0, n1\n";

    fn case(before: &str, after: &str) {
        check("slice_logits", &format!("{HEAD}{before}"), &format!("{HEAD}{after}"));
    }

    #[test]
    fn a_difference_of_two() {
        case(
            "n3 = linear n2, n0 over [d]\n n4 = at n3 along vocab index 7\n n5 = at n3 along vocab index 2\n n6 = sub n4, n5\n }\n output \"y\" n6",
            "n3 = pick n0 along vocab entries [2, 7]\n n4 = linear n2, n3 over [d]\n n5 = at n4 along vocab index 1\n n6 = at n4 along vocab index 0\n n7 = sub n5, n6\n }\n output \"y\" n7",
        );
    }

    #[test]
    fn all_are_read() {
        let text = "n3 = linear n2, n0 over [d]\n n4 = at n3 along vocab index 7\n n5 = reduce sum n3 over [vocab]\n n6 = sub n4, n5\n }\n output \"y\" n6";
        case(text, text);
    }
}
