//! Views of values without rows: weights, tensors and what the prelude computed.

use super::graph::Graph;
use super::legalize::LinearAxes;
use crate::kernel::Lin;
use crate::plan::{Axis, NodeId, Op};
use crate::program::{ConstSource, ConstView, Dim, MatrixView};
use std::sync::Arc;
use steer_lang::Diagnostic;

/// What a constant node views: its source, or the node that computes it.
pub enum Origin {
    Source(ConstSource),
    Computed(NodeId),
}

pub fn origin(g: &Graph, n: NodeId) -> Origin {
    let root = g.view(n).root;
    match g.node(root).op {
        Op::Weight(w) => Origin::Source(ConstSource::Weight(w)),
        Op::Tensor(t) => Origin::Source(ConstSource::Tensor(t)),
        _ => Origin::Computed(root),
    }
}

fn known(g: &Graph, n: NodeId, l: Lin) -> Result<usize, Diagnostic> {
    l.known().ok_or_else(|| g.unsupported(n, "a constant with an axis over keys"))
}

/// The view that a node is of its source.
pub fn const_view(g: &Graph, n: NodeId, source: ConstSource) -> Result<ConstView, Diagnostic> {
    let view = g.view(n);
    let dims = g.ty(n).axes.iter().zip(&view.strides).map(|(a, s)| Ok((a.clone(), known(g, n, *s)?)));
    Ok(ConstView { source, offset: known(g, n, view.offset)?, dims: dims.collect::<Result<_, Diagnostic>>()? })
}

/// The weights of a product, their axes in the order of the call.
pub fn matrix_view(
    g: &Graph,
    w: NodeId,
    axes: &LinearAxes,
    source: ConstSource,
    select: Option<Arc<[u32]>>,
) -> Result<MatrixView, Diagnostic> {
    let view = const_view(g, w, source)?;
    let dims = |wanted: &[Axis]| -> Vec<Dim> {
        let find = |a: &Axis| view.dims.iter().find(|(b, _)| b.name == a.name);
        let dims = wanted.iter().filter_map(find).filter_map(|(a, stride)| match a.size {
            crate::plan::Size::Fixed(n) => Some((n, *stride)),
            crate::plan::Size::Keys => None,
        });
        merged(dims)
    };
    Ok(MatrixView {
        batch: dims(&axes.batch),
        out: dims(&axes.out),
        inner: dims(&axes.inner),
        source,
        offset: view.offset,
        select,
    })
}

/// Dimensions that follow one another in memory as one.
fn merged(dims: impl Iterator<Item = Dim>) -> Vec<Dim> {
    let mut result: Vec<Dim> = Vec::new();
    for (entries, stride) in dims.filter(|d| d.0 != 1) {
        match result.last_mut() {
            Some(last) if last.1 == entries * stride => *last = (last.0 * entries, stride),
            _ => result.push((entries, stride)),
        }
    }
    result
}
