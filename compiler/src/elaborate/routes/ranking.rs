//! Entries of a tensor or a family by their rank over all of its values: `top(10, relevance)`.
//!
//! The ranks are tensors of their own, made from the values before the model runs. So how many entries are meant is a
//! number like any other, and may be another one in each run.

use crate::elaborate::call::Args;
use crate::elaborate::scope::{Eval, Res, fail};
use crate::elaborate::script::PrintItem;
use crate::elaborate::value::Value;
use crate::plan::{Binary, Size};
use steer_lang::ast::{Expr, ExprKind};
use steer_lang::{Diagnostic, codes};

/// What the first entries of a ranking are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The largest.
    Top,
    /// The smallest.
    Bottom,
    /// Any, by this seed.
    Random(u32),
}

impl Order {
    /// Of a function of this name; the seed is to follow.
    pub fn of(function: &str) -> Option<Order> {
        Some(match function {
            "top" => Order::Top,
            "bottom" => Order::Bottom,
            "random" => Order::Random(0),
            _ => return None,
        })
    }
}

/// The ranks of a tensor's entries, of a family those in one layer among those in all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    pub order: Order,
    pub of: String,
    pub layer: Option<u32>,
}

impl Ranking {
    /// The name of the tensor that holds them; no script can declare it.
    pub fn name(&self) -> String {
        let order = match self.order {
            Order::Top => "top".to_owned(),
            Order::Bottom => "bottom".to_owned(),
            Order::Random(seed) => format!("random {seed}"),
        };
        let layer = self.layer.map_or(String::new(), |l| format!("[{l}]"));
        format!("{order}({}){layer}", self.of)
    }

    /// The ranking that a tensor of this name holds, if it holds one.
    pub fn named(name: &str) -> Option<Ranking> {
        let (head, rest) = name.split_once('(')?;
        let order = match head.split_once(' ') {
            Some(("random", seed)) => Order::Random(seed.parse().ok()?),
            Some(_) => return None,
            None => Order::of(head)?,
        };
        let (of, layer) = rest.split_once(')')?;
        let layer = match layer.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(number) => Some(number.parse().ok()?),
            None => None,
        };
        Some(Ranking { order, of: of.to_owned(), layer })
    }

    /// The name of the ranked tensor itself.
    pub fn source(&self, layer: Option<u32>) -> String {
        layer.map_or_else(|| self.of.clone(), |l| format!("{}[{l}]", self.of))
    }
}

/// The numbers of the entries of a list from first to last; of equals the one that comes first.
pub fn ranked(order: Order, values: &[f32]) -> Vec<usize> {
    let mut entries: Vec<usize> = (0..values.len()).collect();
    match order {
        Order::Top => entries.sort_by(|a, b| values[*b].total_cmp(&values[*a])),
        Order::Bottom => entries.sort_by(|a, b| values[*a].total_cmp(&values[*b])),
        Order::Random(seed) => entries.sort_by_key(|i| drawn(seed, *i as u64)),
    }
    entries
}

/// A number for an entry (splitmix64).
fn drawn(seed: u32, entry: u64) -> u64 {
    let mut z = (u64::from(seed) << 32 | entry).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Eval<'_> {
    /// `top(n, family)`, `bottom(n, family)`, `random(n, family, seed)`: a condition over the entries of the family's tensor
    /// of this layer.
    pub fn among(&mut self, args: &mut Args) -> Res<Value> {
        let span = args.span;
        let (n, at) = args.need(0, "n")?;
        let (order, of) = self.ranked_tensor(args)?;
        let Some(ty) = self.tensors.get(&of).cloned() else { return Err(self.unknown(&of, span)) };
        if self.hook.is_none() || self.derive.is_some() {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, format!("`{}` selects entries in a route or hook", args.function))
                    .at(span, "not here")
                    .help(format!("`print {}(10, {of})` shows them", args.function)),
            ));
        }
        let layer = match (ty.family, self.layer) {
            (true, Some(l)) if ty.layers.contains(&l) => Some(l),
            (true, Some(l)) => {
                return fail(codes::OUT_OF_RANGE, format!("`{of}` has no value for layer {l}"), span, "of this block");
            }
            (true, None) => {
                return fail(
                    codes::WRONG_KIND,
                    format!("`{of}` has one value for every layer"),
                    span,
                    "of no layer here",
                );
            }
            (false, _) => None,
        };
        if let Some(n) = n.as_number().filter(|n| *n < 0.0 || n.fract() != 0.0) {
            return fail(codes::WRONG_KIND, format!("a whole number of entries is wanted, not {n}"), at, "this");
        }
        let n = self.node(&n, at)?;
        if !self.plan().ty(n).axes.is_empty() {
            return fail(codes::WRONG_KIND, "a number of entries is wanted", at, "this has axes");
        }
        let ranks = self.b.tensor(&Ranking { order, of, layer }.name(), ty.axes);
        let ranks = self.typed(ranks, span)?;
        let r = self.b.binary(Binary::Lt, ranks, n);
        Ok(Value::Node(self.typed(r, span)?))
    }

    /// What `print top(3, relevance)` shows: the entries themselves.
    pub fn printed_ranking(&mut self, e: &Expr) -> Res<Option<PrintItem>> {
        let ExprKind::Call(f, args) = &e.kind else { return Ok(None) };
        let ExprKind::Name(name) = &f.kind else { return Ok(None) };
        if Order::of(name).is_none() || self.library.function(name, f.span).is_some() {
            return Ok(None);
        }
        let mut args = self.evaluated(name, args, e.span)?;
        let (n, at) = args.need(0, "n")?;
        let n = self.number(&n, at)?;
        if n < 0.0 || n.fract() != 0.0 || n > 1e6 {
            return fail(codes::WRONG_KIND, format!("a whole number of entries is wanted, not {n}"), at, "this");
        }
        let (order, of) = self.ranked_tensor(&mut args)?;
        args.finish()?;
        let Some(ty) = self.tensors.get(&of) else { return Err(self.unknown(&of, e.span)) };
        let shape = ty.axes.iter().map(|a| if let Size::Fixed(n) = a.size { n } else { 1 }).collect();
        let layers = ty.family.then(|| ty.layers.clone());
        Ok(Some(PrintItem::Ranked { ranking: Ranking { order, of, layer: None }, n: n as usize, layers, shape }))
    }

    /// The order that a call means, and the name of the tensor or family.
    pub fn ranked_tensor(&mut self, args: &mut Args) -> Res<(Order, String)> {
        let (of, at) = args.need(1, "of")?;
        let Value::Tensor(of) = of else {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, format!("`{}` takes a declared tensor or family", args.function))
                    .at(at, format!("this is {}", of.kind()))
                    .help(format!(
                        "declare `tensor relevance[layer] = ...`, and write `{}(10, relevance)` without a layer",
                        args.function
                    )),
            ));
        };
        let order = match Order::of(&args.function) {
            Some(Order::Random(_)) => {
                let seed = match args.get(2, "seed") {
                    Some((v, at)) => {
                        let n = self.number(&v, at)?;
                        if n.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&n) {
                            return fail(
                                codes::BAD_ARGUMENTS,
                                format!("{n} is no seed"),
                                at,
                                "a whole number from 0 on",
                            );
                        }
                        n as u32
                    }
                    None => 0,
                };
                Order::Random(seed)
            }
            Some(order) => order,
            None => Order::Top,
        };
        Ok((order, of.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_names() {
        for order in [Order::Top, Order::Bottom, Order::Random(7)] {
            for layer in [None, Some(12)] {
                let r = Ranking { order, of: "relevance".into(), layer };
                assert_eq!(Ranking::named(&r.name()), Some(r));
            }
        }
        assert_eq!(Ranking::named("mood[3]"), None);
    }

    #[test]
    fn of_equals_the_first_comes_first() {
        let values = [1.0, 3.0, 3.0, -2.0];
        assert_eq!(ranked(Order::Top, &values), [1, 2, 0, 3]);
        assert_eq!(ranked(Order::Bottom, &values), [3, 0, 1, 2]);
        let mut drawn = ranked(Order::Random(3), &[0.0; 64]);
        assert_ne!(drawn, ranked(Order::Random(4), &[0.0; 64]));
        drawn.sort_unstable();
        assert_eq!(drawn, (0..64).collect::<Vec<_>>());
    }
}
