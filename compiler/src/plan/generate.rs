//! Small well-typed Plans by chance, for the tests of everything that reads one.

use super::build::Builder;
use super::error::TypeError;
use super::ir::*;
use std::sync::Arc;

/// A linear congruential generator: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Lcg(pub u64);

impl Lcg {
    fn step(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.step() as usize % n.max(1)
    }

    /// In [-0.5, 0.5).
    pub fn unit(&mut self) -> f32 {
        (self.step() % 65_536) as f32 / 65_536.0 - 0.5
    }
}

/// The entries of the axis `vocab`: tokens of a generated Plan are below it.
pub const VOCAB: usize = 11;
const D: usize = 8;

/// A Plan of two layers. Its values stay small, and it is discontinuous only in positions and in the
/// choices of `top_k`.
pub fn plan(seed: u64) -> Result<Plan, TypeError> {
    let mut g = Generator { b: Builder::default(), lcg: Lcg(seed), pool: Vec::new(), names: 0 };
    g.b.plan.arch = format!("Generated{seed}");
    let table = g.b.weight("embed", vec![vec![Axis::new("vocab", VOCAB)], vec![Axis::new("d", D)]])?;
    let token = g.b.token()?;
    let mut h = g.b.lookup(table, token)?;
    g.pool.push(h);
    for layer in 0..2 {
        g.b.layer = Some(layer);
        g.b.enter("block");
        for _ in 0..3 {
            let update = g.mixed(h)?;
            h = g.b.binary(Binary::Add, h, update)?;
            h = g.edited(h)?;
            g.pool.push(h);
            for _ in 0..3 {
                g.elementwise()?;
            }
        }
        g.b.leave();
    }
    g.b.layer = None;
    let logits = g.b.linear(h, table, &["d"], None)?;
    let cap = g.b.number(3.0)?;
    let logits = g.b.binary(Binary::Div, logits, cap)?;
    let logits = g.b.unary(Unary::Tanh, logits)?;
    for _ in 0..1 + g.lcg.below(3) {
        let entry = g.lcg.below(VOCAB);
        let read = g.b.at(logits, "vocab", entry)?;
        g.output("logit", read);
    }
    if g.lcg.below(2) == 0 {
        g.output("logits", logits);
    }
    for _ in 0..2 {
        let node = g.any();
        g.output("value", node);
    }
    Ok(g.b.finish())
}

struct Generator {
    b: Builder,
    lcg: Lcg,
    /// Values of rows, outside of bodies.
    pool: Vec<NodeId>,
    names: usize,
}

impl Generator {
    fn any(&mut self) -> NodeId {
        self.pool[self.lcg.below(self.pool.len())]
    }

    fn output(&mut self, name: &str, node: NodeId) {
        let name = format!("{name}{}", self.b.plan.outputs.len());
        self.b.plan.outputs.push(Output { name, node });
    }

    fn weight(&mut self, axes: &[(&str, usize)]) -> Result<NodeId, TypeError> {
        self.names += 1;
        let dims = axes.iter().map(|(n, s)| vec![Axis::new(n, *s)]).collect();
        self.b.weight(&format!("w{}", self.names), dims)
    }

    /// An axis of a value.
    fn axis(&mut self, of: NodeId) -> Option<Axis> {
        let axes = &self.b.ty(of).axes;
        if axes.is_empty() { None } else { Some(axes[self.lcg.below(axes.len())].clone()) }
    }

    fn small(&mut self, x: NodeId) -> Result<NodeId, TypeError> {
        self.b.unary(Unary::Tanh, x)
    }

    /// A value `[d]` from `h`, mostly by an op that reads other rows or weights.
    fn mixed(&mut self, h: NodeId) -> Result<NodeId, TypeError> {
        let y = match self.lcg.below(4) {
            0 => self.attention(h)?,
            1 => self.scan(h)?,
            2 => {
                let w = self.weight(&[("d", D), ("tap", 3)])?;
                self.b.conv1d(h, w)?
            }
            _ => self.experts(h)?,
        };
        self.small(y)
    }

    fn attention(&mut self, h: NodeId) -> Result<NodeId, TypeError> {
        let kv = 1 + self.lcg.below(2);
        let (wq, wk, wv) = (
            self.weight(&[("head", 2), ("d_head", 4), ("d", D)])?,
            self.weight(&[("kv_head", kv), ("d_head", 4), ("d", D)])?,
            self.weight(&[("d", D), ("kv_head", kv), ("d_head", 4)])?,
        );
        let q = self.b.linear(h, wq, &["d"], None)?;
        let k = self.b.linear(h, wk, &["d"], None)?;
        let v = self.b.linear(h, wv, &["d"], None)?;
        let window = if self.lcg.below(2) == 0 { Some(3) } else { None };
        let own = self.b.position()?;
        let open = self.b.attention_begin(q, k, v, 0.5, window)?;
        let mut s = open.scores;
        match self.lcg.below(4) {
            0 => {
                let (key, far) = (self.b.iota(Axis::key())?, self.b.number(0.25)?);
                let distance = self.b.binary(Binary::Sub, own, key)?;
                let bias = self.b.binary(Binary::Mul, distance, far)?;
                s = self.b.binary(Binary::Sub, s, bias)?;
            }
            1 => {
                let mean = self.b.mean(s, &[KEY])?;
                s = self.b.binary(Binary::Sub, s, mean)?;
            }
            2 => s = self.edited(s)?,
            _ => {}
        }
        if self.lcg.below(3) == 0 {
            s = self.edited(s)?;
        }
        let max = self.b.reduce(Reduce::Max, s, &[KEY])?;
        let s = self.b.binary(Binary::Sub, s, max)?;
        let e = self.b.unary(Unary::Exp, s)?;
        let sum = self.b.reduce(Reduce::Sum, e, &[KEY])?;
        let mut pattern = self.b.binary(Binary::Div, e, sum)?;
        if self.lcg.below(3) == 0 {
            let k = self.b.number(2.0)?;
            let best = self.b.top_k(pattern, KEY, k)?;
            pattern = self.b.binary(Binary::Mul, pattern, best)?;
        }
        if self.lcg.below(3) == 0 {
            pattern = self.edited(pattern)?;
        }
        if self.lcg.below(2) == 0 {
            self.output("pattern", pattern);
        }
        let z = self.b.attention_end(open, pattern)?;
        let wo = self.weight(&[("d", D), ("head", 2), ("d_head", 4)])?;
        self.b.linear(z, wo, &["head", "d_head"], None)
    }

    fn scan(&mut self, h: NodeId) -> Result<NodeId, TypeError> {
        let b = self.weight(&[("d", D), ("n", 3)])?;
        let input = self.b.binary(Binary::Mul, h, b)?;
        let open = self.b.scan_begin(vec![Axis::new("d", D), Axis::new("n", 3)])?;
        let forget = self.b.unary(Unary::Sigmoid, h)?;
        let kept = self.b.binary(Binary::Mul, open.state, forget)?;
        let state = self.b.binary(Binary::Add, kept, input)?;
        let state = self.edited(state)?;
        let result = self.b.reduce(Reduce::Sum, state, &["n"])?;
        if self.lcg.below(2) == 0 {
            self.output("state", state);
        }
        self.b.scan_end(open, state, result)
    }

    fn experts(&mut self, h: NodeId) -> Result<NodeId, TypeError> {
        let router = self.weight(&[("expert", 4), ("d", D)])?;
        let scores = self.b.linear(h, router, &["d"], None)?;
        let k = self.b.number(2.0)?;
        let active = self.b.top_k(scores, "expert", k)?;
        let (up, down) =
            (self.weight(&[("expert", 4), ("f", 5), ("d", D)])?, self.weight(&[("expert", 4), ("d", D), ("f", 5)])?);
        let a = self.b.linear(h, up, &["d"], Some(active))?;
        let a = self.b.unary(Unary::Silu, a)?;
        let y = self.b.linear(a, down, &["f"], Some(active))?;
        let gate = self.b.unary(Unary::Sigmoid, scores)?;
        let y = self.b.binary(Binary::Mul, y, gate)?;
        self.b.reduce(Reduce::Sum, y, &["expert"])
    }

    /// Perhaps an edit of a value, with a site and receipts.
    fn edited(&mut self, base: NodeId) -> Result<NodeId, TypeError> {
        let kind = self.lcg.below(3);
        if kind == 0 {
            return Ok(base);
        }
        let (name, layer) = (format!("edit{}", self.b.plan.edits.len()), self.b.layer);
        let site = format!("site{}", self.b.plan.edits.len());
        let params = vec!["alpha".to_owned()];
        let span = self.b.span;
        let edit = self.b.edit(Edit { name, site: site.clone(), layer, route: None, params, span });
        let value = if kind == 1 {
            let donor = self.b.donor(edit, base)?;
            if self.lcg.below(2) == 0 { donor } else { self.part(donor, base)? }
        } else {
            let alpha = self.b.param(edit, 0)?;
            self.b.binary(Binary::Mul, base, alpha)?
        };
        let after = self.b.overlay(edit, base, value)?;
        self.b.receipts(edit, base, value)?;
        let region = self.b.region();
        let contract: Arc<str> = "made by chance".into();
        self.b.plan.sites.push(Site { name: site, layer, region, before: base, value: after, contract });
        Ok(after)
    }

    /// Some entries of a donor's value, the others as they are.
    fn part(&mut self, donor: NodeId, base: NodeId) -> Result<NodeId, TypeError> {
        let Some(first) = self.b.ty(base).axes.first().cloned() else { return Ok(donor) };
        let (index, one) = (self.b.iota(first)?, self.b.number(1.0)?);
        let late = self.b.binary(Binary::Ge, index, one)?;
        self.b.select(late, donor, base)
    }

    /// Adds to the pool; an op that does not fit adds nothing.
    fn elementwise(&mut self) -> Result<(), TypeError> {
        let (x, y) = (self.any(), self.any());
        let axis = self.axis(x);
        let made = match (self.lcg.below(9), &axis) {
            (0, _) => {
                let ops = [
                    Unary::Neg,
                    Unary::Abs,
                    Unary::Sigmoid,
                    Unary::Silu,
                    Unary::Relu,
                    Unary::Gelu,
                    Unary::GeluTanh,
                    Unary::Softplus,
                    Unary::Sin,
                    Unary::Cos,
                ];
                let op = ops[self.lcg.below(ops.len())];
                self.b.unary(op, x)
            }
            (1, _) => {
                let ops = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max];
                let op = ops[self.lcg.below(ops.len())];
                self.b.binary(op, x, y)
            }
            (2, _) => {
                let (own, third) = (self.b.position()?, self.b.number(2.0)?);
                let late = self.b.binary(Binary::Gt, own, third)?;
                self.b.select(late, x, y)
            }
            (3, Some(a)) => {
                let ops = [Reduce::Sum, Reduce::Max, Reduce::Min, Reduce::SumSq];
                let op = ops[self.lcg.below(ops.len())];
                self.b.reduce(op, x, &[&a.name])
            }
            (4, Some(Axis { name, size: Size::Fixed(n) })) => {
                let (start, keep) = (self.lcg.below(*n), self.lcg.below(2));
                if keep == 0 { self.b.at(x, name, start) } else { self.b.slice(x, name, start, n - start) }
            }
            (5, Some(Axis { name, size: Size::Fixed(n) })) if n % 2 == 0 => {
                let mut axes = self.b.ty(x).axes.clone();
                let at = self.b.ty(x).position_of(name).unwrap_or(0);
                axes.splice(at..=at, [Axis::new("half", 2), Axis::new("rest", n / 2)]);
                self.b.reshape(x, axes)
            }
            (6, Some(_)) => {
                let names: Vec<Arc<str>> = self.b.ty(x).axes.iter().rev().map(|a| a.name.clone()).collect();
                let names: Vec<&str> = names.iter().map(|n| &**n).collect();
                self.b.permute(x, &names)
            }
            (7, Some(a)) => self.b.concat(x, y, &a.name),
            (_, Some(Axis { name, size: Size::Fixed(n) })) => {
                let out = format!("out{}", self.names);
                let w = self.weight(&[(&out, 3), (name, *n)])?;
                self.b.linear(x, w, &[name], None)
            }
            _ => return Ok(()),
        };
        if let Ok(made) = made {
            let made = self.small(made)?;
            self.pool.push(made);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::plan;
    use crate::plan::rules::{Options, optimize};
    use crate::plan::{parse, print, verify};

    #[test]
    fn generated_plans_are_sound_and_round_trip() {
        for seed in 0..200 {
            let plan = plan(seed).unwrap();
            assert_eq!(verify(&plan), Vec::<String>::new(), "{}", print(&plan));
            let text = print(&plan);
            assert_eq!(parse(&text).unwrap(), plan, "{text}");
        }
    }

    #[test]
    fn rules_leave_generated_plans_sound() {
        for seed in 0..200 {
            let mut plan = plan(seed).unwrap();
            let mut before = print(&plan);
            let result = optimize(&mut plan, &Options::default(), &mut |_, plan, _| before = print(plan));
            assert_eq!(result, Ok(()), "{before}");
            let text = print(&plan);
            assert_eq!(parse(&text).unwrap(), plan, "{text}");
            // Once more changes little, and breaks nothing.
            assert_eq!(optimize(&mut plan, &Options::default(), &mut |_, _, _| {}), Ok(()), "{text}");
        }
    }
}
