//! The text form of a Plan: one line a node, bodies nested below their owners. `parse` reads it back
//! exactly.

use super::ir::*;
use std::collections::HashMap;
use std::fmt::{self, Write};
use steer_lang::Span;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self))
    }
}

/// The versioned text form.
pub fn print(plan: &Plan) -> String {
    let mut p = Printer { plan, out: String::new(), notes: notes(plan) };
    p.plan();
    p.out
}

struct Printer<'a> {
    plan: &'a Plan,
    out: String,
    notes: HashMap<NodeId, Vec<String>>,
}

/// What a reader wants to know of a node: the sites and outputs that it is.
fn notes(plan: &Plan) -> HashMap<NodeId, Vec<String>> {
    let mut notes: HashMap<NodeId, Vec<String>> = HashMap::new();
    for site in &plan.sites {
        if site.before != site.value {
            notes.entry(site.before).or_default().push(format!("{} before its edits", site.name));
        }
        notes.entry(site.value).or_default().push(site.name.clone());
    }
    for output in &plan.outputs {
        notes.entry(output.node).or_default().push(format!("output {}", output.name));
    }
    notes
}

impl Printer<'_> {
    fn plan(&mut self) {
        let plan = self.plan;
        self.line(0, format!("plan {VERSION} {}", quote(&plan.arch)));
        for (i, w) in plan.weights.iter().enumerate() {
            let dims: Vec<String> = w.dims.iter().map(|d| dim(d)).collect();
            self.line(0, format!("weight w{i} {} [{}]{}", quote(&w.name), dims.join(", "), span(w.span)));
        }
        for (i, t) in plan.tensors.iter().enumerate() {
            self.line(0, format!("tensor t{i} {} {}", quote(&t.name), axes(&t.axes)));
        }
        for (i, e) in plan.edits.iter().enumerate() {
            let params: Vec<String> = e.params.iter().map(|p| quote(p)).collect();
            let params = if params.is_empty() { String::new() } else { format!(" params {}", params.join(", ")) };
            let of = e.route.as_ref().map_or(String::new(), |r| format!(" of {}", quote(r)));
            let (name, site) = (quote(&e.name), quote(&e.site));
            self.line(0, format!("edit e{i} {name} at {site}{of}{}{params}{}", layer(e.layer), span(e.span)));
        }
        self.region(MAIN, 0);
        // Bodies without an owner, which only a damaged Plan has.
        let owned: Vec<RegionId> = plan.nodes.iter().filter_map(|n| n.op.body()).collect();
        for i in 1..plan.regions.len() as u32 {
            if !owned.contains(&RegionId(i)) {
                self.region(RegionId(i), 0);
            }
        }
        for s in &plan.sites {
            let (name, contract) = (quote(&s.name), quote(&s.contract));
            let text = format!(
                "site {name}{} in r{} before n{} value n{} is {contract}",
                layer(s.layer),
                s.region.0,
                s.before.0,
                s.value.0
            );
            self.line(0, text);
        }
        for o in &plan.outputs {
            self.line(0, format!("output {} n{}", quote(&o.name), o.node.0));
        }
    }

    fn line(&mut self, depth: usize, text: String) {
        let _ = writeln!(self.out, "{:indent$}{text}", "", indent = 2 * depth);
    }

    fn region(&mut self, id: RegionId, depth: usize) {
        let Some(region) = self.plan.regions.get(id.0 as usize) else { return };
        self.line(depth, format!("region r{} ({}) -> ({}) {{", id.0, nodes(&region.args), nodes(&region.results)));
        for &n in &region.order {
            self.node(n, depth + 1);
        }
        self.line(depth, "}".to_owned());
    }

    fn node(&mut self, id: NodeId, depth: usize) {
        let Some(node) = self.plan.nodes.get(id.0 as usize) else { return };
        let mut text = format!("n{} {} = {}", id.0, typed(&node.ty), op(&node.op));
        text += &layer(node.layer);
        if let Some(origin) = &node.origin {
            text += &format!(" from {}", quote(origin));
        }
        text += &span(node.span);
        let mut notes = self.notes.get(&id).cloned().unwrap_or_default();
        if let Op::Overlay { edit, .. } | Op::Receipt { edit, .. } | Op::Donor(edit) | Op::Param { edit, .. } = &node.op
        {
            notes.extend(self.plan.edits.get(edit.0 as usize).map(|e| e.name.clone()));
        }
        if let Op::Weight(w) = &node.op {
            notes.extend(self.plan.weights.get(w.0 as usize).map(|w| w.name.clone()));
        }
        if !notes.is_empty() {
            text += &format!("  # {}", notes.join(", ").replace(['\n', '\r'], " "));
        }
        self.line(depth, text);
        if let Some(body) = node.op.body() {
            self.region(body, depth);
        }
    }
}

fn op(op: &Op) -> String {
    match op {
        Op::Token => "token".to_owned(),
        Op::Position => "position".to_owned(),
        Op::Layer => "layer".to_owned(),
        Op::Number(x) => format!("number {}", float(*x)),
        Op::Table(values) => {
            let values: Vec<String> = values.iter().map(|&v| float(v)).collect();
            format!("table [{}]", values.join(", "))
        }
        Op::Iota => "iota".to_owned(),
        Op::Weight(w) => format!("weight w{}", w.0),
        Op::Tensor(t) => format!("tensor t{}", t.0),
        Op::Param { edit, slot } => format!("param e{} slot {slot}", edit.0),
        Op::Donor(edit) => format!("donor e{}", edit.0),
        Op::Arg(i) => format!("arg {i}"),
        Op::Unary(u, a) => format!("{} n{}", u.name(), a.0),
        Op::Binary(b, x, y) => format!("{} n{}, n{}", b.name(), x.0, y.0),
        Op::Select(c, a, b) => format!("select n{}, n{}, n{}", c.0, a.0, b.0),
        Op::Reduce(r, a, over) => format!("reduce {} n{} over [{}]", r.name(), a.0, names(over)),
        Op::TopK { of, axis, k } => format!("top_k n{} along {} count n{}", of.0, name(axis), k.0),
        Op::Slice { of, axis, start, len } => format!("slice n{} along {} start {start} len {len}", of.0, name(axis)),
        Op::At { of, axis, index } => format!("at n{} along {} index {index}", of.0, name(axis)),
        Op::Pick { of, axis, entries } => {
            let entries: Vec<String> = entries.iter().map(u32::to_string).collect();
            format!("pick n{} along {} entries [{}]", of.0, name(axis), entries.join(", "))
        }
        Op::Reshape(a) => format!("reshape n{}", a.0),
        Op::Permute(a) => format!("permute n{}", a.0),
        Op::Concat(a, b, axis) => format!("concat n{}, n{} along {}", a.0, b.0, name(axis)),
        Op::Linear { x, w, over, active } => {
            let active = active.map(|a| format!(" active n{}", a.0)).unwrap_or_default();
            format!("linear n{}, n{} over [{}]{active}", x.0, w.0, names(over))
        }
        Op::Lookup { table, index } => format!("lookup n{}, n{}", table.0, index.0),
        Op::Attention { q, k, v, scale, window, whole, body } => {
            let whole = if *whole { " whole" } else { "" };
            let window = window.map(|w| format!(" window {w}")).unwrap_or_default();
            format!("attention n{}, n{}, n{} scale {}{window}{whole} body r{}", q.0, k.0, v.0, float(*scale), body.0)
        }
        Op::Conv1d { x, w } => format!("conv1d n{}, n{}", x.0, w.0),
        Op::Scan { body } => format!("scan body r{}", body.0),
        Op::Overlay { edit, base, value } => format!("overlay e{} n{}, n{}", edit.0, base.0, value.0),
        Op::Receipt { edit, stat, value } => format!("receipt e{} {} n{}", edit.0, stat_name(*stat), value.0),
    }
}

pub(super) fn stat_name(stat: Stat) -> &'static str {
    match stat {
        Stat::Changed => "changed",
        Stat::Moved => "moved",
        Stat::Before => "before",
        Stat::Chosen => "chosen",
        Stat::Entered => "entered",
        Stat::Left => "left",
    }
}

/// The axes, the element type where it is not f32, and `row` for a row's value.
fn typed(ty: &Type) -> String {
    let elem = match ty.elem {
        Elem::F32 => "",
        Elem::Bool => " bool",
        Elem::Index => " index",
    };
    format!("{}{elem}{}", axes(&ty.axes), if ty.per_row { " row" } else { "" })
}

fn axes(axes: &[Axis]) -> String {
    let axes: Vec<String> = axes.iter().map(axis).collect();
    format!("[{}]", axes.join(", "))
}

fn axis(axis: &Axis) -> String {
    match axis.size {
        Size::Fixed(n) => format!("{}={n}", name(&axis.name)),
        Size::Keys => name(&axis.name),
    }
}

/// One dimension of a weight: an axis, or several in parentheses.
fn dim(axes: &[Axis]) -> String {
    match axes {
        [one] => axis(one),
        _ => format!("({})", axes.iter().map(axis).collect::<Vec<_>>().join(" ")),
    }
}

fn nodes(ids: &[NodeId]) -> String {
    ids.iter().map(|n| format!("n{}", n.0)).collect::<Vec<_>>().join(", ")
}

fn names(names: &[std::sync::Arc<str>]) -> String {
    names.iter().map(|n| name(n)).collect::<Vec<_>>().join(", ")
}

/// A bare word, or a string where it is none.
fn name(text: &str) -> String {
    let bare = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if bare { text.to_owned() } else { quote(text) }
}

fn layer(layer: Option<u32>) -> String {
    layer.map(|l| format!(" layer {l}")).unwrap_or_default()
}

fn span(s: Span) -> String {
    if s == Span::default() { String::new() } else { format!(" @{}:{}..{}", s.file.0, s.start, s.end) }
}

/// The shortest digits that give back the same bits; the bits themselves where there are none.
pub(super) fn float(x: f32) -> String {
    if x.is_finite() { format!("{x:?}") } else { format!("0x{:08x}", x.to_bits()) }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
