//! What must hold of every Plan. A message is a bug of the compiler, never of the user.

use super::ir::*;
use super::types;
use std::collections::{HashMap, HashSet};

/// Everything that is wrong; empty for a sound Plan.
pub fn verify(plan: &Plan) -> Vec<String> {
    let mut v = Verifier { plan, wrong: Vec::new(), place: HashMap::new(), owner: HashMap::new() };
    v.places();
    if v.wrong.is_empty() {
        v.regions();
        v.tables();
    }
    v.wrong
}

struct Verifier<'a> {
    plan: &'a Plan,
    wrong: Vec<String>,
    /// The region of each node and its place there.
    place: HashMap<NodeId, (RegionId, usize)>,
    owner: HashMap<RegionId, NodeId>,
}

impl Verifier<'_> {
    fn wrong(&mut self, message: String) {
        self.wrong.push(message);
    }

    /// Each node stands once in one region, each region has one owner, all ids exist.
    fn places(&mut self) {
        let plan = self.plan;
        let known = |id: NodeId| (id.0 as usize) < plan.nodes.len();
        for (r, region) in plan.regions.iter().enumerate() {
            for (i, &n) in region.order.iter().enumerate() {
                if !known(n) {
                    self.wrong(format!("r{r} holds n{}, which is no node", n.0));
                } else if self.place.insert(n, (RegionId(r as u32), i)).is_some() {
                    self.wrong(format!("n{} stands twice", n.0));
                }
            }
        }
        for (i, node) in plan.nodes.iter().enumerate() {
            let id = NodeId(i as u32);
            if !self.place.contains_key(&id) {
                self.wrong(format!("n{i} stands in no region"));
            }
            node.op.for_each_input(&mut |x| {
                if !known(x) {
                    self.wrong.push(format!("n{i} reads n{}, which is no node", x.0));
                }
            });
            if let Some(body) = node.op.body() {
                if body == MAIN || body.0 as usize >= plan.regions.len() {
                    self.wrong(format!("n{i} has the body r{}, which is none", body.0));
                } else if self.owner.insert(body, id).is_some() {
                    self.wrong(format!("r{} has two owners", body.0));
                }
            }
        }
        if plan.regions.is_empty() {
            self.wrong("there is no region r0".to_owned());
        }
        for r in 1..plan.regions.len() {
            if !self.owner.contains_key(&RegionId(r as u32)) {
                self.wrong(format!("r{r} has no owner"));
            }
        }
        let ends = plan.regions.iter().flat_map(|r| r.args.iter().chain(&r.results).copied());
        let named = plan.sites.iter().flat_map(|s| [s.before, s.value]).chain(plan.outputs.iter().map(|o| o.node));
        for n in ends.chain(named) {
            if !known(n) {
                self.wrong(format!("there is no n{}", n.0));
            }
        }
    }

    fn regions(&mut self) {
        for r in 0..self.plan.regions.len() as u32 {
            let id = RegionId(r);
            let region = self.plan.region(id);
            for &n in &region.order {
                self.node(n, id);
            }
            match self.owner.get(&id) {
                None if !region.args.is_empty() || !region.results.is_empty() => {
                    self.wrong("r0 has arguments or results".to_owned());
                }
                None => {}
                Some(&owner) => self.body(id, owner),
            }
        }
    }

    fn node(&mut self, id: NodeId, region: RegionId) {
        let (plan, n) = (self.plan, id.0);
        let node = plan.node(id);
        let (_, at) = self.place[&id];
        node.op.for_each_input(&mut |x| {
            if !self.sees(region, at, x) {
                self.wrong.push(format!("n{n} reads n{}, which does not come before it", x.0));
            }
            if matches!(plan.node(x).op, Op::Receipt { .. }) {
                self.wrong.push(format!("n{n} reads the receipt n{}", x.0));
            }
        });
        match types::infer(plan, &node.op, &node.ty) {
            Err(e) => self.wrong(format!("n{n}: {e}")),
            Ok(ty) if ty != node.ty => self.wrong(format!("n{n} has the type {:?}, not {:?}", ty, node.ty)),
            Ok(_) => {}
        }
        if node.ty.has_keys() && !self.in_attention(region) {
            self.wrong(format!("n{n} has the axis `{KEY}` outside of an attention"));
        }
        if node.op == Op::Layer && node.layer.is_none() {
            self.wrong(format!("n{n} is the number of a layer and has none"));
        }
        if region != MAIN && (node.op.body().is_some() || matches!(node.op, Op::Conv1d { .. })) {
            self.wrong(format!("n{n} mixes rows inside of a body"));
        }
        match &node.op {
            Op::Arg(i) if plan.region(region).args.get(*i as usize) != Some(&id) => {
                self.wrong(format!("n{n} is not argument {i} of its region"));
            }
            Op::Overlay { edit, .. } | Op::Receipt { edit, .. } if edit.0 as usize >= plan.edits.len() => {
                self.wrong(format!("n{n} belongs to e{}, which is no edit", edit.0));
            }
            _ => {}
        }
    }

    /// Whether a node at this place may read `x`: earlier in its region, or before the region's owner.
    fn sees(&self, mut region: RegionId, mut at: usize, x: NodeId) -> bool {
        let (of, where_) = self.place[&x];
        // A body that owns itself is as deep as there are regions.
        for _ in 0..=self.plan.regions.len() {
            if region == of {
                return where_ < at;
            }
            match self.owner.get(&region) {
                Some(owner) => (region, at) = self.place[owner],
                None => return false,
            }
        }
        false
    }

    fn in_attention(&self, region: RegionId) -> bool {
        self.owner.get(&region).is_some_and(|&o| matches!(self.plan.node(o).op, Op::Attention { .. }))
    }

    /// The arguments and results that the owner hands over and takes.
    fn body(&mut self, id: RegionId, owner: NodeId) {
        let (plan, r) = (self.plan, id.0);
        let region = plan.region(id);
        let results = if matches!(plan.node(owner).op, Op::Scan { .. }) { 2 } else { 1 };
        if region.args.len() != 1 || region.results.len() != results {
            return self.wrong(format!("r{r} has not one argument and {results} results"));
        }
        for &n in region.args.iter().chain(&region.results) {
            if !self.sees(id, region.order.len(), n) {
                self.wrong(format!("n{} is not known in r{r}", n.0));
            }
        }
        let arg = region.args[0];
        if plan.node(arg).op != Op::Arg(0) || self.place[&arg].0 != id {
            self.wrong(format!("n{} is no argument of r{r}", arg.0));
        }
        if let Op::Attention { q, .. } = &plan.node(owner).op {
            let want = types::scores(plan.ty(*q));
            if *plan.ty(arg) != want {
                self.wrong(format!("the scores of r{r} are {}, not {want}", plan.ty(arg)));
            }
            if plan.ty(region.results[0]).axes != want.axes {
                self.wrong(format!("the pattern of r{r} is {}, not {want}", plan.ty(region.results[0])));
            }
        }
    }

    /// Sites and outputs, and one donor a patch.
    fn tables(&mut self) {
        let plan = self.plan;
        for site in &plan.sites {
            for n in [site.before, site.value] {
                if site.region.0 as usize >= plan.regions.len() || !self.sees(site.region, usize::MAX, n) {
                    self.wrong(format!("the site {} is not in r{}", site.name, site.region.0));
                }
            }
            if plan.ty(site.before).axes != plan.ty(site.value).axes {
                self.wrong(format!("the edits of {} change its axes", site.name));
            }
        }
        for output in &plan.outputs {
            if matches!(plan.node(output.node).op, Op::Receipt { .. }) {
                self.wrong(format!("the output {} is a receipt", output.name));
            }
        }
        let mut donors: HashMap<EditId, &Type> = HashMap::new();
        let mut bases: HashMap<EditId, HashSet<NodeId>> = HashMap::new();
        for node in &plan.nodes {
            match &node.op {
                Op::Donor(edit) => {
                    donors.insert(*edit, &node.ty);
                }
                Op::Overlay { edit, base, .. } => {
                    bases.entry(*edit).or_default().insert(*base);
                }
                _ => {}
            }
        }
        for (edit, ty) in donors {
            let bases = bases.get(&edit).map(|b| b.iter().copied().collect::<Vec<_>>()).unwrap_or_default();
            match bases[..] {
                [] => self.wrong(format!("the patch e{} has a donor and changes nothing", edit.0)),
                // Others than the first are of what receipts compare with.
                _ if bases.iter().all(|b| plan.ty(*b).axes == ty.axes) => {}
                _ => self.wrong(format!("the patch e{} has a donor with other axes", edit.0)),
            }
        }
    }
}
