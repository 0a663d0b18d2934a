//! Erases what no output depends on. A model is thereby cut after the last layer that anything needs.

use super::rewrite::live;
use super::{By, Changes, Rule};
use crate::plan::ir::*;

pub(super) const RULE: Rule = Rule {
    name: "erase_unused",
    doc: "Erases values that no output, and no receipt of an edit that something reads, depends on.",
    exact: true,
    by: By::Rewrite(apply),
};

fn apply(plan: &mut Plan) -> Changes {
    let live = live(plan);
    let mut changes = report(plan, &live);
    // Renumbered in execution order, a body before its owner.
    let mut order = Vec::new();
    walk(plan, MAIN, &live, &mut order);
    let mut nodes = vec![0; plan.nodes.len()];
    for (new, old) in order.iter().enumerate() {
        nodes[old.0 as usize] = new as u32;
    }
    let mut region_live = vec![false; plan.regions.len()];
    let mut weight_live = vec![false; plan.weights.len()];
    let mut tensor_live = vec![false; plan.tensors.len()];
    region_live[MAIN.0 as usize] = true;
    for (node, _) in plan.nodes.iter().zip(&live).filter(|(_, live)| **live) {
        match &node.op {
            Op::Attention { body, .. } | Op::Scan { body } => region_live[body.0 as usize] = true,
            Op::Weight(w) => weight_live[w.0 as usize] = true,
            Op::Tensor(t) => tensor_live[t.0 as usize] = true,
            _ => {}
        }
    }
    let (regions, weights, tensors) = (renumber(&region_live), renumber(&weight_live), renumber(&tensor_live));
    let node = |n: &mut NodeId| n.0 = nodes[n.0 as usize];

    plan.nodes = order.iter().map(|&n| plan.node(n).clone()).collect();
    keep(&mut plan.regions, &region_live);
    keep(&mut plan.weights, &weight_live);
    keep(&mut plan.tensors, &tensor_live);
    for n in &mut plan.nodes {
        n.op.for_each_input_mut(&mut |x| node(x));
        match &mut n.op {
            Op::Attention { body, .. } | Op::Scan { body } => body.0 = regions[body.0 as usize],
            Op::Weight(w) => w.0 = weights[w.0 as usize],
            Op::Tensor(t) => t.0 = tensors[t.0 as usize],
            _ => {}
        }
    }
    for region in &mut plan.regions {
        region.order.retain(|n| live[n.0 as usize]);
        region.order.iter_mut().chain(&mut region.args).chain(&mut region.results).for_each(node);
    }
    plan.sites.retain(|s| live[s.value.0 as usize]);
    for site in &mut plan.sites {
        if !live[site.before.0 as usize] {
            site.before = site.value;
        }
        node(&mut site.before);
        node(&mut site.value);
        site.region.0 = regions[site.region.0 as usize];
    }
    for output in &mut plan.outputs {
        node(&mut output.node);
    }
    changes.count = live.iter().filter(|l| !**l).count();
    changes
}

fn report(plan: &Plan, live: &[bool]) -> Changes {
    let mut changes = Changes::default();
    let alive = live.iter().filter(|l| **l).count();
    if alive < live.len() {
        changes.notes.push(format!("{alive} of {} nodes are left", live.len()));
    }
    let sites = plan.sites.iter().filter(|s| !live[s.value.0 as usize]);
    changes.erased_sites = sites.map(|s| s.name.clone()).collect();
    if !changes.erased_sites.is_empty() {
        changes.notes.push(format!("{} sites are not computed", changes.erased_sites.len()));
    }
    let mut read = vec![false; plan.edits.len()];
    let (mut last, mut needed) = (None, None);
    for (node, live) in plan.nodes.iter().zip(live) {
        last = last.max(node.layer);
        // A number or a weight may belong to any layer.
        if *live && node.ty.per_row {
            needed = needed.max(node.layer);
            if let Op::Overlay { edit, .. } = node.op {
                read[edit.0 as usize] = true;
            }
        }
    }
    if needed < last {
        changes.last_layer = needed;
        changes.notes.push(match needed {
            Some(needed) => format!("nothing is needed after layer {needed} of 0..={}", last.unwrap_or(0)),
            None => "no layer is needed".to_owned(),
        });
    }
    for (i, edit) in plan.edits.iter().enumerate().filter(|(i, _)| !read[*i]) {
        changes.unread_edits.push(EditId(i as u32));
        changes.notes.push(format!("nothing reads what `{}` changes at {}", edit.name, edit.site));
    }
    changes
}

fn walk(plan: &Plan, region: RegionId, live: &[bool], order: &mut Vec<NodeId>) {
    for &n in plan.region(region).order.iter().filter(|n| live[n.0 as usize]) {
        if let Some(body) = plan.node(n).op.body() {
            walk(plan, body, live, order);
        }
        order.push(n);
    }
}

/// The new number of everything that is kept.
fn renumber(live: &[bool]) -> Vec<u32> {
    let mut next = 0;
    live.iter()
        .map(|&live| {
            next += u32::from(live);
            next.saturating_sub(1)
        })
        .collect()
}

fn keep<T>(items: &mut Vec<T>, live: &[bool]) {
    let mut live = live.iter();
    items.retain(|_| live.next().copied().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use crate::plan::ir::EditId;
    use crate::plan::print;
    use crate::plan::rules::tests::{check, read};

    const PLAN: &str = "weight w0 \"e\" [vocab=9, d=4]
        weight w1 \"unused\" [d=4]
        edit e0 \"live\" at \"a\" layer 0
        edit e1 \"dead\" at \"b\" layer 1
        region r0 () -> () {
          n0 = weight w0
          n1 = weight w1
          n2 = token
          n3 = lookup n0, n2 layer 0
          n4 = neg n3 layer 0
          n5 = overlay e0 n3, n4 layer 0
          n6 = reduce sum_sq n4 over [d] layer 0
          n7 = receipt e0 moved n6 layer 0
          n8 = exp n5 layer 1
          n9 = overlay e1 n5, n8 layer 1
          n10 = reduce sum_sq n8 over [d] layer 1
          n11 = receipt e1 moved n10 layer 1
        }
        site \"a\" layer 0 in r0 before n3 value n5 is \"first\"
        site \"b\" layer 1 in r0 before n5 value n9 is \"second\"
        output \"y\" n5";

    #[test]
    fn receipts_live_with_their_edit() {
        check(
            "erase_unused",
            PLAN,
            "weight w0 \"e\" [vocab=9, d=4]
             edit e0 \"live\" at \"a\" layer 0
             edit e1 \"dead\" at \"b\" layer 1
             region r0 () -> () {
               n0 = weight w0
               n1 = token
               n2 = lookup n0, n1 layer 0
               n3 = neg n2 layer 0
               n4 = overlay e0 n2, n3 layer 0
               n5 = reduce sum_sq n3 over [d] layer 0
               n6 = receipt e0 moved n5 layer 0
             }
             site \"a\" layer 0 in r0 before n2 value n4 is \"first\"
             output \"y\" n4",
        );
    }

    #[test]
    fn the_report_says_what_is_gone() {
        let mut plan = read(PLAN);
        let changes = super::apply(&mut plan);
        assert_eq!(changes.erased_sites, ["b"]);
        assert_eq!(changes.unread_edits, [EditId(1)]);
        assert_eq!(changes.last_layer, Some(0));
        assert_eq!(changes.count, 5, "{}", print(&plan));
    }

    #[test]
    fn an_output_inside_of_a_body_keeps_its_owner() {
        let text = "tensor t0 \"v\" [d=4]
          region r0 () -> () {
            n0 = tensor t0
            n1 = position
            n2 = mul n0, n1
            n7 [d=4] row = scan body r1
            region r1 (n3) -> (n4, n5) {
              n3 [d=4] row = arg 0
              n4 = add n3, n2
              n5 = neg n4
              n6 = exp n4
            }
          }
          output \"state\" n6";
        check("erase_unused", text, text);
    }
}
