//! Scans whose step is the one of state space models: the runtime has a loop for it, and leaves to the body what edits
//! do to the new state.

use super::consts::{self, Origin};
use super::emit::Emitter;
use super::fuse::Store;
use super::graph::{Graph, Pattern, named};
use crate::plan::{Binary, NodeId, Op, Reduce, RegionId, Unary};
use crate::program::{Body, ConstSource, KernelArg, Recurrence, Strided};
use std::sync::Arc;
use steer_lang::Diagnostic;

/// A body with that step in it.
pub struct Recognized {
    pub recurrence: Recurrence,
    /// The new state, before edits.
    pub new: NodeId,
    /// What the loop computes instead of the body.
    pub computes: Vec<NodeId>,
}

/// The axes of a state: those of the heads, those of the channels of each, and the states.
struct Axes {
    heads: Vec<(Arc<str>, usize)>,
    channels: Vec<(Arc<str>, usize)>,
    states: (Arc<str>, usize),
}

/// The factors of a product that stands for nothing else.
fn product(g: &Graph, n: NodeId) -> Option<[NodeId; 2]> {
    match (g.pattern[n.0 as usize], &g.node(n).op) {
        (Pattern::Plain, Op::Binary(Binary::Mul, a, b)) => Some([*a, *b]),
        _ => None,
    }
}

/// A value as it is where no edit of the body acts. Edits outside of it act before it is executed.
pub fn unedited(g: &Graph, body: RegionId, n: NodeId) -> NodeId {
    let mut n = n;
    while let Op::Overlay { base, .. } = g.node(n).op
        && g.is_inside(n, body)
    {
        n = base;
    }
    n
}

fn either(pair: [NodeId; 2]) -> [[NodeId; 2]; 2] {
    [pair, [pair[1], pair[0]]]
}

impl Emitter<'_, '_> {
    /// The recurrence of a body, if that is what it computes: in this order of operations, with nothing in between that
    /// something else reads.
    pub fn recurrence(&self, body: RegionId) -> Option<Recognized> {
        self.recognized(body, false)
    }

    /// The recurrence that a body computes on rows where none of its edits acts, wherever in it they are.
    pub fn recurrence_without_edits(&self, body: RegionId) -> Option<Recurrence> {
        let g = self.g;
        // What is kept of every row, the body computes in every row.
        if g.outputs.iter().any(|o| g.is_inside(*o, body)) {
            return None;
        }
        Some(Recurrence { instead: true, ..self.recognized(body, true)?.recurrence })
    }

    /// Where `through` is set, edits are passed over, and what else is read does not matter.
    fn recognized(&self, body: RegionId, through: bool) -> Option<Recognized> {
        let g = self.g;
        let under = |n: NodeId| if through { unedited(g, body, n) } else { n };
        let product = |n: NodeId| product(g, under(n)).map(|factors| factors.map(under));
        let &[after, read] = g.results.get(&body)?.as_slice() else { return None };
        let Pattern::Dot(a, b) = g.pattern[read.0 as usize] else { return None };
        let Op::Reduce(Reduce::Sum, _, over) = &g.node(read).op else { return None };
        let [[_, c]] = either([a, b]).into_iter().filter(|p| p[0] == after).collect::<Vec<_>>().try_into().ok()?;
        let state = named(g.ty(after));
        let ((last, _), _) = state.split_last()?;
        if over.len() != 1 || over[0] != *last || g.ty(read).axes[..] != g.ty(after).axes[..state.len() - 1] {
            return None;
        }
        // Edits stand between the new state and the one that is carried on.
        let new = unedited(g, body, after);
        let whole = |n: NodeId| g.is_inside(n, body) && g.view(n).root == n && g.is_whole(n);
        let (Pattern::Plain, Op::Binary(Binary::Add, p, q)) = (g.pattern[new.0 as usize], &g.node(new).op) else {
            return None;
        };
        if !whole(new) || g.ty(new).axes != g.ty(after).axes {
            return None;
        }
        for [kept, added] in either([*p, *q].map(under)) {
            for [decay, carried] in product(kept).into_iter().flat_map(either) {
                let (Op::Unary(Unary::Exp, exponent), Op::Arg(0)) = (&g.node(decay).op, &g.node(carried).op) else {
                    continue;
                };
                if g.ty(carried).axes != g.ty(new).axes {
                    continue;
                }
                let exponent = under(*exponent);
                for [dt, rate] in product(exponent).into_iter().flat_map(either) {
                    for [dx, b] in product(added).into_iter().flat_map(either) {
                        for [again, x] in product(dx).into_iter().flat_map(either) {
                            let computes = vec![exponent, decay, kept, dx, added, new, read];
                            if again == dt
                                && computes.iter().all(|n| whole(*n))
                                && (through || self.is_alone(body, &computes[..5], carried))
                                && let Some(recurrence) = self.loops(after, [dt, rate, x, b, c], body)
                            {
                                return Some(Recognized { recurrence, new, computes });
                            }
                        }
                    }
                }
            }
        }
        None
    }

    /// Whether each of these is read once, and kept for nothing; and so the carried state.
    fn is_alone(&self, body: RegionId, inner: &[NodeId], carried: NodeId) -> bool {
        let g = self.g;
        let order = g.body_order(body);
        let reads = |of: NodeId| order.iter().flat_map(|n| g.inputs(*n)).filter(|i| g.view(*i).root == of).count();
        let kept = |n: &NodeId| g.outputs.contains(n) || g.given.values().any(|v| v == n);
        inner.iter().all(|n| reads(*n) == 1 && !kept(n)) && reads(g.view(carried).root) == 1
    }

    fn loops(&self, state: NodeId, [dt, rate, x, b, c]: [NodeId; 5], body: RegionId) -> Option<Recurrence> {
        let g = self.g;
        let axes: Option<Vec<_>> = named(g.ty(state)).into_iter().map(|(n, len)| Some((n, len.known()?))).collect();
        let mut axes = axes?;
        let states = axes.pop()?;
        // A head is what has a step of its own.
        let heads = axes.iter().take_while(|a| g.ty(dt).position_of(&a.0).is_some()).count();
        let channels = axes.split_off(heads);
        let axes = Axes { heads: axes, channels, states };
        let outside = [dt, rate, x, b, c].iter().all(|n| !g.is_inside(g.view(*n).root, body));
        if !outside || g.is_row(rate) || [dt, x, b, c].iter().any(|n| !g.is_row(*n)) {
            return None;
        }
        let each = g.ty(rate).position_of(&axes.states.0).is_some();
        let size = |axes: &[(Arc<str>, usize)]| axes.iter().map(|a| a.1).product::<usize>();
        let recurrence = Recurrence {
            heads: size(&axes.heads),
            channels: size(&axes.channels),
            states: axes.states.1,
            dt: self.strided(dt, &axes, false)?,
            rate: self.strided(rate, &axes, each)?,
            each,
            x: self.strided(x, &axes, false)?,
            b: self.strided(b, &axes, true)?,
            c: self.strided(c, &axes, true)?,
            new: None,
            instead: false,
        };
        let by_head = recurrence.dt.channel == 0 && recurrence.rate.channel == 0;
        (by_head && (!each || recurrence.channels == 1)).then_some(recurrence)
    }

    /// Where an operand lies; with the states side by side, or without any.
    fn strided(&self, n: NodeId, axes: &Axes, by_state: bool) -> Option<Strided> {
        let g = self.g;
        let view = g.view(n);
        let (arg, offset, strides) = match (g.is_row(n), self.stores.get(&view.root)) {
            (true, Some(Store::Buffer(buffer))) => {
                let strides = view.strides.iter().map(|s| s.known()).collect::<Option<Vec<_>>>()?;
                (KernelArg::Buffer(*buffer), view.offset.known()?, strides)
            }
            (true, _) => return None,
            (false, _) => {
                let source = match consts::origin(g, n) {
                    Origin::Source(source) => source,
                    Origin::Computed(root) => ConstSource::Computed(self.buffer(root).ok()?),
                };
                let view = consts::const_view(g, n, source).ok()?;
                let mut strides: Vec<usize> = vec![1; view.dims.len()];
                for i in (1..strides.len()).rev() {
                    strides[i - 1] = strides[i] * named(g.ty(n))[i].1.known()?;
                }
                (KernelArg::Const(view), 0, strides)
            }
        };
        let own = named(g.ty(n));
        let stride = |name: &str| own.iter().position(|a| *a.0 == *name).map_or(0, |i| strides[i]);
        let all = axes.heads.iter().chain(&axes.channels).chain([&axes.states]);
        if own.iter().any(|a| !all.clone().any(|b| a.0 == b.0)) {
            return None;
        }
        // The stride of several axes as one.
        let merged = |axes: &[(Arc<str>, usize)]| {
            let long: Vec<(usize, usize)> = axes.iter().filter(|a| a.1 != 1).map(|a| (a.1, stride(&a.0))).collect();
            let fits = long.windows(2).all(|w| w[0].1 == w[1].0 * w[1].1);
            fits.then(|| long.last().map_or(0, |l| l.1))
        };
        let states = if axes.states.1 == 1 { usize::from(by_state) } else { stride(&axes.states.0) };
        let (head, channel) = (merged(&axes.heads)?, merged(&axes.channels)?);
        (states == usize::from(by_state)).then_some(Strided { arg, offset, head, channel })
    }

    /// What is left of a body: nothing, or what edits and outputs do with the new state. Also which of its results is
    /// that state itself.
    pub fn around_recurrence(
        &mut self,
        owner: NodeId,
        body: RegionId,
        found: &Recognized,
    ) -> Result<(Option<Body>, Option<u32>), Diagnostic> {
        if self.g.body_order(body).iter().all(|n| !self.g.is_unit(*n) || found.computes.contains(n)) {
            return Ok((None, None));
        }
        let left = self.body(owner, body, Some(found))?;
        let at = self.bodies.get(&body).and_then(|(_, _, results)| results.get(&found.new)).copied();
        let new = at.filter(|result| {
            left.outputs.iter().map(|o| o.0).chain(left.patches.iter().map(|p| p.result)).any(|r| r == *result)
        });
        Ok((Some(left), new))
    }
}
