//! Whether a value is a linear function of another.

use super::ir::*;

impl Plan {
    /// Whether `to` is a linear function of `from` (or does not depend on it), all else being held.
    pub fn is_linear(&self, from: NodeId, to: NodeId) -> bool {
        let mut depends: Vec<Option<bool>> = vec![None; self.nodes.len()];
        depends[from.0 as usize] = Some(true);
        // Depth first, without recursion: a node is looked at again when what it reads is known.
        let mut open = vec![to];
        while let Some(&at) = open.last() {
            if depends[at.0 as usize].is_some() {
                open.pop();
                continue;
            }
            let op = &self.node(at).op;
            let before = open.len();
            op.for_each_input(&mut |x| {
                if depends[x.0 as usize].is_none() {
                    open.push(x);
                }
            });
            if open.len() > before {
                continue;
            }
            let on = |x: NodeId| depends[x.0 as usize] == Some(true);
            let mut any = false;
            op.for_each_input(&mut |x| any |= on(x));
            let linear = match op {
                Op::Unary(u, _) => *u == Unary::Neg,
                Op::Binary(Binary::Add | Binary::Sub, ..) => true,
                Op::Binary(Binary::Mul, a, b) => !(on(*a) && on(*b)),
                Op::Binary(Binary::Div, _, b) => !on(*b),
                Op::Select(c, ..) => !on(*c),
                Op::Reduce(r, ..) => *r == Reduce::Sum,
                Op::Linear { w, active, .. } => !on(*w) && !active.is_some_and(on),
                Op::Slice { .. } | Op::At { .. } | Op::Pick { .. } | Op::Concat(..) => true,
                Op::Reshape(_) | Op::Permute(_) => true,
                _ => false,
            };
            if any && !linear {
                return false;
            }
            depends[at.0 as usize] = Some(any);
            open.pop();
        }
        true
    }
}
