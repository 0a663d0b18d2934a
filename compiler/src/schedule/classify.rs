//! How each node is executed, and where its elements lie.

use super::graph::{Form, Graph, Pattern, extent, extents};
use super::legalize::linear_axes;
use super::view::{self, View};
use crate::kernel::Lin;
use crate::plan::{Axis, Binary, MAIN, Node, NodeId, Op, Reduce};
use steer_lang::Diagnostic;

impl Graph<'_> {
    /// Finds out how a node is executed and where its elements lie.
    pub fn classify(&mut self, n: NodeId) -> Result<(), Diagnostic> {
        let i = n.0 as usize;
        let node = self.nodes[i].clone();
        let mut row = node.ty.per_row || node.ty.has_keys();
        node.op.for_each_input(&mut |o| row |= self.row[o.0 as usize]);
        row |= node.op.body().is_some();
        row |= matches!(
            node.op,
            Op::Token
                | Op::Position
                | Op::Param { .. }
                | Op::Donor(_)
                | Op::Arg(_)
                | Op::Overlay { .. }
                | Op::Receipt { .. }
        );
        self.row[i] = row;
        self.number[i] = self.fold(&node.op);
        let own = |g: &Self| match view::row_major(&extents(&g.nodes[i].ty)) {
            Some(strides) => Ok(View { root: n, offset: Lin::ZERO, strides }),
            None => Err(g.unsupported(n, "a value with several axes over keys")),
        };
        self.view[i] = own(self)?;
        self.form[i] = match &node.op {
            _ if self.number[i].is_some() => Form::Leaf,
            Op::Iota if node.ty.has_keys() => Form::Fused,
            Op::Token
            | Op::Position
            | Op::Layer
            | Op::Number(_)
            | Op::Table(_)
            | Op::Iota
            | Op::Donor(_)
            | Op::Arg(_) => Form::Leaf,
            Op::Param { .. } if node.ty.axes.is_empty() => Form::Leaf,
            Op::Param { .. } => return Err(self.unsupported(n, "a parameter that is no number")),
            Op::Weight(w) => {
                let axes = self.plan.weights.get(w.0 as usize).map(|w| w.axes()).unwrap_or_default();
                self.view[i] = self.stored_as(n, &axes)?;
                Form::Leaf
            }
            Op::Tensor(t) => {
                let axes = self.plan.tensors.get(t.0 as usize).map(|t| t.axes.clone()).unwrap_or_default();
                self.view[i] = self.stored_as(n, &axes)?;
                Form::Leaf
            }
            Op::Slice { .. } | Op::At { .. } | Op::Permute(_) | Op::Reshape(_) => match self.viewed(&node) {
                Some(view) => {
                    self.view[i] = view;
                    Form::View
                }
                None => Form::Fused,
            },
            Op::Linear { .. } => {
                if self.region[i] != MAIN && row {
                    return Err(
                        self.unsupported(n, "a product with weights inside of the body of an attention or scan")
                    );
                }
                let stored = linear_axes(self, n)?.result();
                self.view[i] = self.stored_as(n, &stored)?;
                Form::Library
            }
            Op::Lookup { .. } | Op::Conv1d { .. } if self.region[i] != MAIN && row => {
                return Err(self.unsupported(n, "this operation inside of the body of an attention or scan"));
            }
            Op::Lookup { .. } | Op::Attention { .. } | Op::Conv1d { .. } | Op::Scan { .. } => Form::Library,
            _ => Form::Fused,
        };
        if self.form[i] == Form::Fused {
            self.pattern[i] = self.matched(&node);
        }
        Ok(())
    }

    /// The view of a root whose elements lie row-major over `axes`, which are the type's in another order.
    fn stored_as(&self, n: NodeId, axes: &[Axis]) -> Result<View, Diagnostic> {
        let extents: Vec<Lin> = axes.iter().map(extent).collect();
        let stored = view::row_major(&extents);
        let strides = stored.and_then(|stored| {
            let find = |a: &Axis| axes.iter().position(|b| b.name == a.name).map(|i| stored[i]);
            self.ty(n).axes.iter().map(find).collect::<Option<Vec<Lin>>>()
        });
        match strides {
            Some(strides) if axes.len() == self.ty(n).axes.len() => Ok(View { root: n, offset: Lin::ZERO, strides }),
            _ => Err(self.unsupported(n, "a value whose axes differ from those of its source")),
        }
    }

    /// Where the elements of an indexing node lie, unless they have to be moved.
    pub fn viewed(&self, node: &Node) -> Option<View> {
        match &node.op {
            Op::Slice { of, axis, start, .. } => self.view(*of).advanced(self.ty(*of).position_of(axis)?, *start),
            Op::At { of, axis, index } => {
                let at = self.ty(*of).position_of(axis)?;
                let mut view = self.view(*of).advanced(at, *index)?;
                view.strides.remove(at);
                Some(view)
            }
            Op::Permute(of) => {
                let from = self.view(*of);
                let strides = node.ty.axes.iter().map(|a| self.ty(*of).position_of(&a.name).map(|i| from.strides[i]));
                let strides = strides.collect::<Option<_>>()?;
                (node.ty.axes.len() == from.strides.len()).then_some(View { strides, ..from.clone() })
            }
            Op::Reshape(of) => {
                let from = self.view(*of);
                let strides = view::reshaped(&extents(self.ty(*of)), &from.strides, &extents(&node.ty))?;
                Some(View { strides, ..from.clone() })
            }
            _ => None,
        }
    }

    /// The value of arithmetic on numbers.
    fn fold(&self, op: &Op) -> Option<f32> {
        match op {
            Op::Number(x) => Some(*x),
            Op::Unary(op, a) => Some(op.apply(self.number(*a)?)),
            Op::Binary(op, a, b) => Some(op.apply(self.number(*a)?, self.number(*b)?)),
            _ => None,
        }
    }

    fn matched(&self, node: &Node) -> Pattern {
        // A declared value may become the target of an edit: its product stays a value of its own.
        let product = |n: NodeId| match self.node(n).op {
            Op::Binary(Binary::Mul, a, b) if !self.declared.contains(&n) && self.number(n).is_none() => Some((a, b)),
            _ => None,
        };
        let scalar = |n: NodeId| self.ty(n).axes.is_empty();
        match &node.op {
            Op::Reduce(Reduce::Sum, of, over) => match product(*of) {
                Some((a, b)) if [a, b].iter().all(|f| over.iter().all(|x| self.ty(*f).position_of(x).is_some())) => {
                    Pattern::Dot(a, b)
                }
                _ => Pattern::Plain,
            },
            Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) if !node.ty.axes.is_empty() => {
                let scaled = |n: NodeId| match product(n) {
                    Some((s, x)) if scalar(s) && !scalar(x) => Some((s, x)),
                    Some((x, s)) if scalar(s) && !scalar(x) => Some((s, x)),
                    _ => None,
                };
                let minus = *op == Binary::Sub;
                match (scaled(*b), scaled(*a)) {
                    (Some((s, x)), _) => Pattern::Axpy { a: *a, s, x, minus },
                    (None, Some((s, x))) if !minus => Pattern::Axpy { a: *b, s, x, minus },
                    _ => Pattern::Plain,
                }
            }
            _ => Pattern::Plain,
        }
    }
}
