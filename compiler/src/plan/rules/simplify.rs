//! Removes what does nothing: `x * 1`, views of views, choices that are always made.

use super::rewrite::{Rewrite, rewrite};
use super::{By, Changes, Rule};
use crate::plan::ir::*;
use crate::plan::types::is_bool;

pub(super) const RULE: Rule = Rule {
    name: "simplify",
    doc: "Removes operations that change no bit, and joins views of views.",
    exact: true,
    by: By::Rewrite(apply),
};

fn apply(plan: &mut Plan) -> Changes {
    let count = rewrite(plan, &mut |plan, _, id| simpler(plan, id));
    Changes::of(count, "operations that did nothing or were joined:")
}

/// Not among them: `x + 0`, which makes 0 of -0, and `x * 0`, which hides a NaN.
fn simpler(plan: &Plan, id: NodeId) -> Option<Rewrite> {
    use Rewrite::{Op as Into, Replace};
    let op = |n: NodeId| &plan.node(n).op;
    let is = |n: NodeId, x: f32| matches!(op(n), Op::Number(y) if y.to_bits() == x.to_bits());
    let bool = |n: NodeId| plan.ty(n).elem == Elem::Bool;
    match op(id) {
        // x * 1 = 1 * x = x / 1 = x - 0 = x + -0 = x
        Op::Binary(Binary::Mul | Binary::Div, x, one) if is(*one, 1.0) => Some(Replace(*x)),
        Op::Binary(Binary::Mul, one, x) if is(*one, 1.0) => Some(Replace(*x)),
        Op::Binary(Binary::Sub, x, zero) if is(*zero, 0.0) => Some(Replace(*x)),
        Op::Binary(Binary::Add, x, zero) if is(*zero, -0.0) => Some(Replace(*x)),
        Op::Binary(Binary::Add, zero, x) if is(*zero, -0.0) => Some(Replace(*x)),
        // b & true = b | false = b
        Op::Binary(Binary::And, b, one) if bool(*b) && is(*one, 1.0) => Some(Replace(*b)),
        Op::Binary(Binary::And, one, b) if bool(*b) && is(*one, 1.0) => Some(Replace(*b)),
        Op::Binary(Binary::Or, b, zero) if bool(*b) && is(*zero, 0.0) => Some(Replace(*b)),
        Op::Binary(Binary::Or, zero, b) if bool(*b) && is(*zero, 0.0) => Some(Replace(*b)),
        // --x = x, !!b = b
        Op::Unary(outer @ (Unary::Neg | Unary::Not), x) => match op(*x) {
            Op::Unary(inner, y) if inner == outer && (*outer == Unary::Neg || bool(*y)) => Some(Replace(*y)),
            _ => None,
        },
        // (c ? 1 : 0) > 0 = c, and so for all numbers and comparisons that say it
        Op::Binary(compare, chosen, x) if is_bool(*compare) => match (op(*chosen), op(*x)) {
            (Op::Select(c, a, b), Op::Number(x)) if plan.ty(*c) == plan.ty(id) => match (op(*a), op(*b)) {
                (Op::Number(a), Op::Number(b)) if compare.apply(*a, *x) != 0.0 && compare.apply(*b, *x) == 0.0 => {
                    Some(Replace(*c))
                }
                _ => None,
            },
            _ => None,
        },
        Op::Select(c, a, b) => match op(*c) {
            _ if a == b => Some(Replace(*a)),
            Op::Number(x) => Some(Replace(if *x != 0.0 { *a } else { *b })),
            _ => None,
        },
        Op::Reshape(x) if plan.ty(*x).axes == plan.ty(id).axes => Some(Replace(*x)),
        Op::Permute(x) if plan.ty(*x).axes == plan.ty(id).axes => Some(Replace(*x)),
        Op::Reshape(x) => match op(*x) {
            Op::Reshape(y) if plan.ty(*y).axes == plan.ty(id).axes => Some(Replace(*y)),
            Op::Reshape(y) => Some(Into(Op::Reshape(*y))),
            _ => None,
        },
        Op::Permute(x) => match op(*x) {
            Op::Permute(y) if plan.ty(*y).axes == plan.ty(id).axes => Some(Replace(*y)),
            Op::Permute(y) => Some(Into(Op::Permute(*y))),
            _ => None,
        },
        Op::Slice { of, axis, start, .. } => match op(*of) {
            _ if plan.ty(*of) == plan.ty(id) => Some(Replace(*of)),
            Op::Slice { of, axis: inner, start: first, .. } if inner == axis => {
                let ty = plan.ty(id);
                let Size::Fixed(len) = ty.axes[ty.position_of(axis)?].size else { return None };
                Some(Into(Op::Slice { of: *of, axis: axis.clone(), start: first + start, len }))
            }
            _ => None,
        },
        Op::At { of, axis, index } => match op(*of) {
            Op::Slice { of, axis: inner, start, .. } if inner == axis => {
                Some(Into(Op::At { of: *of, axis: axis.clone(), index: start + index }))
            }
            Op::Pick { of, axis: inner, entries } if inner == axis => {
                let index = *entries.get(*index)? as usize;
                Some(Into(Op::At { of: *of, axis: axis.clone(), index }))
            }
            Op::Concat(a, b, inner) if inner == axis => {
                let ty = plan.ty(*a);
                let Size::Fixed(first) = ty.axes[ty.position_of(axis)?].size else { return None };
                let (of, index) = if *index < first { (*a, *index) } else { (*b, index - first) };
                // A side without rows, or of another element type, gives another type.
                let same = plan.ty(of).per_row == plan.ty(id).per_row && plan.ty(of).elem == plan.ty(id).elem;
                same.then(|| Into(Op::At { of, axis: axis.clone(), index }))
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::rules::tests::check;

    const HEAD: &str =
        "tensor t0 \"v\" [head=2, d=3]\n region r0 () -> () {\n n0 = tensor t0\n n1 = position\n n2 = mul n0, n1\n";

    fn case(before: &str, after: &str) {
        check("simplify", &format!("{HEAD}{before}"), &format!("{HEAD}{after}"));
    }

    #[test]
    fn one_and_zero() {
        case(
            "n3 = number 1.0\n n4 = mul n3, n2\n n5 = div n4, n3\n n6 = number 0.0\n n7 = sub n5, n6\n }\n output \"y\" n7",
            "}\n output \"y\" n2",
        );
        // -0 + 0 is 0.
        let kept = "n3 = number 0.0\n n4 = add n2, n3\n }\n output \"y\" n4";
        case(kept, kept);
        // A position is an index, its product a number.
        let kept = "n3 = number 1.0\n n4 = mul n1, n3\n n5 = mul n2, n4\n }\n output \"y\" n5";
        case(kept, kept);
    }

    #[test]
    fn views() {
        case(
            "n3 [x=6] row = reshape n2\n n4 [x=3, y=2] row = reshape n3\n n5 [y=2, x=3] row = permute n4\n n6 [x=3, y=2] row = permute n5\n }\n output \"y\" n6",
            "n3 [x=3, y=2] row = reshape n2\n }\n output \"y\" n3",
        );
        case(
            "n3 = slice n2 along d start 1 len 2\n n4 = slice n3 along d start 1 len 1\n n5 = at n4 along d index 0\n }\n output \"y\" n5",
            "n3 = at n2 along d index 2\n }\n output \"y\" n3",
        );
        case(
            "n3 = concat n2, n2 along d\n n4 = at n3 along d index 4\n }\n output \"y\" n4",
            "n3 = at n2 along d index 1\n }\n output \"y\" n3",
        );
    }

    #[test]
    fn choices() {
        case(
            "n3 bool [] = number 1.0\n n4 = not n2\n n5 = not n4\n n6 = not n5\n n7 = select n3, n6, n5\n }\n output \"y\" n7"
                .replace("bool []", "[] bool")
                .as_str(),
            "n3 = not n2\n }\n output \"y\" n3",
        );
        let chosen = |x: &str| {
            format!(
                "n3 = number 0.0\n n4 = number 1.0\n n5 = gt n2, n3\n n6 = select n5, n4, n3\n n7 = gt n6, n{x}\n }}\n output \"y\" n7"
            )
        };
        case(&chosen("3"), "n3 = number 0.0\n n4 = gt n2, n3\n }\n output \"y\" n4");
        // 1 is not more than 1.
        case(&chosen("4"), &chosen("4"));
    }
}
