//! Computes at compile time what depends on numbers alone.

use super::rewrite::{Rewrite, rewrite};
use super::{By, Changes, Rule};
use crate::plan::ir::*;

pub(super) const RULE: Rule = Rule {
    name: "fold_constants",
    doc: "Computes elementwise operations and views of numbers and tables.",
    exact: true,
    by: By::Rewrite(apply),
};

/// The longest table that is made.
const LIMIT: usize = 4096;

fn apply(plan: &mut Plan) -> Changes {
    let count = rewrite(plan, &mut |plan, _, id| {
        let node = plan.node(id);
        if node.ty.per_row || matches!(node.op, Op::Number(_) | Op::Table(_)) {
            return None;
        }
        if node.ty.len()? > LIMIT {
            return None;
        }
        let values = folded(plan, node)?;
        Some(Rewrite::Op(if node.ty.axes.is_empty() { Op::Number(*values.first()?) } else { Op::Table(values.into()) }))
    });
    Changes::of(count, "operations on numbers that are computed here:")
}

fn folded(plan: &Plan, node: &Node) -> Option<Vec<f32>> {
    let numbers = |id: NodeId| match &plan.node(id).op {
        Op::Number(x) => Some(std::slice::from_ref(x)),
        Op::Table(values) => Some(&values[..]),
        _ => None,
    };
    // An operand under the axes of the result.
    let spread = |id: NodeId| Some(gather(numbers(id)?, plan.ty(id), &node.ty, &|_| 0));
    match &node.op {
        Op::Unary(op, a) => Some(numbers(*a)?.iter().map(|&x| op.apply(x)).collect()),
        Op::Binary(op, a, b) => {
            let (a, b) = (spread(*a)?, spread(*b)?);
            Some(a.iter().zip(&b).map(|(&x, &y)| op.apply(x, y)).collect())
        }
        Op::Reshape(a) => Some(numbers(*a)?.to_vec()),
        Op::Permute(a) => spread(*a),
        Op::Slice { of, axis, start, .. } => {
            Some(gather(numbers(*of)?, plan.ty(*of), &node.ty, &|name| if name == &**axis { *start } else { 0 }))
        }
        Op::At { of, axis, index } => {
            Some(gather(numbers(*of)?, plan.ty(*of), &node.ty, &|name| if name == &**axis { *index } else { 0 }))
        }
        _ => None,
    }
}

/// The elements of a value `from` under the axes `to`, matched by name; `first` is added to the index
/// along an axis.
fn gather(values: &[f32], from: &Type, to: &Type, first: &dyn Fn(&str) -> usize) -> Vec<f32> {
    let size = |a: &Axis| if let Size::Fixed(n) = a.size { n } else { 1 };
    let mut strides = vec![0; to.axes.len()];
    let (mut stride, mut offset) = (1, 0);
    for axis in from.axes.iter().rev() {
        offset += first(&axis.name) * stride;
        if let Some(at) = to.position_of(&axis.name) {
            strides[at] = stride;
        }
        stride *= size(axis);
    }
    let len = to.axes.iter().map(size).product();
    (0..len)
        .map(|mut i| {
            let mut at = offset;
            for (axis, stride) in to.axes.iter().zip(&strides).rev() {
                at += i % size(axis) * stride;
                i /= size(axis);
            }
            values[at]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::plan::rules::tests::check;

    #[test]
    fn numbers_and_tables() {
        check(
            "fold_constants",
            "region r0 () -> () {
               n0 = number 2.0
               n1 [x=3] = table [1.0, 2.0, 3.0]
               n2 [y=2] = table [10.0, 20.0]
               n3 = mul n1, n0
               n4 = add n3, n2
               n5 [y=2, x=3] = permute n4
               n6 = slice n5 along x start 1 len 2
               n7 = at n6 along y index 1
               n8 = neg n7
               n9 = position
               n10 = mul n6, n9
               n11 = add n10, n8
             }
             output \"y\" n11",
            "region r0 () -> () {
               n0 [y=2, x=2] = table [14.0, 16.0, 24.0, 26.0]
               n1 [x=2] = table [-24.0, -26.0]
               n2 = position
               n3 = mul n0, n2
               n4 = add n3, n1
             }
             output \"y\" n4",
        );
    }
}
