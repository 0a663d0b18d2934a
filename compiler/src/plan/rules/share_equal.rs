//! Computes equal nodes of a region once.

use super::rewrite::{Rewrite, rewrite};
use super::{By, Changes, Rule};
use crate::plan::ir::*;
use std::collections::HashMap;

pub(super) const RULE: Rule =
    Rule { name: "share_equal", doc: "Computes equal values of a region once.", exact: true, by: By::Rewrite(apply) };

fn apply(plan: &mut Plan) -> Changes {
    let mut seen: HashMap<String, NodeId> = HashMap::new();
    let count = rewrite(plan, &mut |plan, region, id| {
        let node = plan.node(id);
        let layer = match node.op {
            Op::Arg(_) | Op::Receipt { .. } | Op::Attention { .. } | Op::Scan { .. } => return None,
            Op::Layer => node.layer,
            _ => None,
        };
        let first = *seen.entry(format!("{} {layer:?} {:?} {:?}", region.0, node.op, node.ty)).or_insert(id);
        (first != id).then_some(Rewrite::Replace(first))
    });
    Changes::of(count, "equal nodes that are computed once:")
}

#[cfg(test)]
mod tests {
    use crate::plan::rules::tests::check;

    #[test]
    fn equal_sums_are_one() {
        check(
            "share_equal",
            "region r0 () -> () {
               n0 = token
               n1 = position
               n2 = add n0, n1
               n3 = add n0, n1
               n4 = add n1, n0
               n5 = mul n2, n3
               n6 = mul n4, n5
             }
             output \"y\" n6",
            "region r0 () -> () {
               n0 = token
               n1 = position
               n2 = add n0, n1
               n3 = add n1, n0
               n4 = mul n2, n2
               n5 = mul n3, n4
             }
             output \"y\" n5",
        );
    }

    #[test]
    fn numbers_of_layers_differ() {
        let text = "region r0 () -> () {
               n0 = layer layer 0
               n1 = layer layer 1
               n2 = add n0, n1
             }
             output \"y\" n2";
        check("share_equal", text, text);
    }
}
