//! Scripts by chance: hooks from a grammar of statements on the sites of a model, patches between runs,
//! selections of all kinds, prompts that share beginnings.

use crate::script::words;
use std::collections::BTreeMap;
use std::path::Path;
use steer::tensors::{Named, write_safetensors};
use steer_compiler::elaborate::{Model, Scope};
use steer_compiler::plan::Size;
use steer_compiler::plan::generate::Lcg;

/// A site with its axes; `None` is as many as the row has keys.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    /// Without the block.
    pub short: String,
    pub layer: Option<u32>,
    pub axes: Vec<(String, Option<usize>)>,
}

/// What scripts can be about in one model.
pub struct Surroundings {
    pub places: Vec<Place>,
    pub layers: u32,
    pub vocab: usize,
}

impl Surroundings {
    pub fn of(model: &Model) -> Self {
        let built = model.build(&[], &[], &Default::default(), &Scope::new()).unwrap_or_else(|d| panic!("{d:?}"));
        let size = |s: Size| if let Size::Fixed(n) = s { Some(n) } else { None };
        let place = |s: &steer_compiler::plan::Site| Place {
            name: s.name.clone(),
            short: s.name.split_once("].").map_or(s.name.as_str(), |(_, r)| r).to_owned(),
            layer: s.layer,
            axes: built.plan.ty(s.value).axes.iter().map(|a| (a.name.to_string(), size(a.size))).collect(),
        };
        // One number a row has no parts to write of.
        let places = built.plan.sites.iter().map(place).filter(|p| p.axes.iter().any(|a| a.1.is_some()));
        let places: Vec<Place> = places.collect();
        let logits = places.iter().find(|p| p.name == "logits").expect("logits");
        let vocab = logits.axes[0].1.expect("a size");
        Surroundings { vocab, layers: built.layers, places }
    }

    /// The file `v.safetensors` with a tensor of every site's fixed axes.
    pub fn write_tensors(&self, folder: &Path) {
        let mut values = BTreeMap::new();
        let mut lcg = Lcg(11);
        for p in &self.places {
            let (name, shape) = tensor_of(p);
            let n: usize = shape.iter().product();
            let scale = 2.0 / (n as f32).sqrt();
            values.entry(name).or_insert_with(|| (shape, (0..n).map(|_| lcg.unit() * scale).collect::<Vec<f32>>()));
            if let [(_, Some(d))] = p.axes[..] {
                let w = format!("W{d}");
                let scale = 2.0 / (d as f32).sqrt();
                values.entry(w).or_insert_with(|| (vec![3, d], (0..3 * d).map(|_| lcg.unit() * scale).collect()));
            }
        }
        let named: Vec<Named> = values.iter().map(|(name, (shape, data))| Named { name, shape, data }).collect();
        write_safetensors(&folder.join("v.safetensors"), &named, &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
    }
}

fn tensor_of(p: &Place) -> (String, Vec<usize>) {
    let shape: Vec<usize> = p.axes.iter().filter_map(|a| a.1).collect();
    let name = format!("v{}", shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
    (name, shape)
}

/// A script with what is read of it.
#[derive(Clone, Debug)]
pub struct Generated {
    pub text: String,
    /// Sites to read beside the logits.
    pub reads: Vec<String>,
    /// Tokens that follow each prompt.
    pub later: Vec<u32>,
}

/// What a script may have.
#[derive(Clone, Copy, Debug)]
pub struct Kinds {
    /// Only edits whose result hardly changes where their input hardly does.
    pub continuous: bool,
    pub prompt: usize,
    pub later: usize,
}

struct Writer<'a> {
    at: &'a Surroundings,
    lcg: Lcg,
    kinds: Kinds,
    /// Tokens that follow each prompt.
    later: Vec<u32>,
    /// Declarations of tensors in use.
    tensors: BTreeMap<String, String>,
}

/// The script of a seed.
pub fn script(at: &Surroundings, seed: u64, kinds: Kinds) -> Generated {
    let mut w =
        Writer { at, lcg: Lcg(seed.wrapping_mul(0x9e37_79b9) + 1), kinds, tensors: BTreeMap::new(), later: Vec::new() };
    w.later = w.tokens(kinds.later);
    for _ in 0..4 {
        w.lcg.below(2);
    }
    w.script()
}

impl Writer<'_> {
    fn one<'s>(&mut self, of: &[&'s str]) -> &'s str {
        of[self.lcg.below(of.len())]
    }

    fn chance(&mut self, of: usize) -> bool {
        self.lcg.below(of) == 0
    }

    fn tokens(&mut self, n: usize) -> Vec<u32> {
        (0..n).map(|_| self.lcg.below(self.at.vocab) as u32).collect()
    }

    fn script(&mut self) -> Generated {
        // Prompts: one, a beginning of it, one that differs late, another.
        let base = self.tokens(self.kinds.prompt);
        let shorter = base[..1 + self.lcg.below(base.len())].to_vec();
        let mut differs = base.clone();
        let place = self.lcg.below(base.len());
        differs[place] = self.lcg.below(self.at.vocab) as u32;
        let n = 2 + self.lcg.below(self.kinds.prompt);
        let other = self.tokens(n);
        let prompts = [base, differs, shorter, other];
        let mut body = String::new();
        for (i, p) in prompts.iter().enumerate() {
            body.push_str(&format!("prompt p{i} = \"{}\"\n", words(p)));
        }
        body.push_str("fn blend(a, b, share = 0.25) = share * a + (1 - share) * b\n");
        let mut edits: Vec<(String, bool)> = Vec::new();
        let hooks = 1 + self.lcg.below(4);
        for i in 0..hooks {
            let (text, takes) = self.hook(&format!("e{i}"), &prompts);
            body.push_str(&text);
            edits.push((format!("e{i}"), takes));
        }
        let mixed = self.at.places.iter().any(|p| p.short == "moe.gates");
        for i in 0..if mixed { self.lcg.below(3) } else { 0 } {
            if let Some((text, takes)) = self.route(&format!("r{i}"), &prompts) {
                body.push_str(&text);
                edits.push((format!("r{i}"), takes));
            }
        }
        let before = edits.clone();
        let patches = self.lcg.below(3);
        for i in 0..patches {
            let donor = self.lcg.below(2);
            let place = self.place();
            let site = self.path(&place);
            let len = prompts.iter().map(Vec::len).min().unwrap_or(1);
            let on = match self.lcg.below(3) {
                0 => format!("[{}]", self.lcg.below(len)),
                1 => format!("[..{}]", 1 + self.lcg.below(len)),
                _ => format!("maybe prompt[{}]", self.lcg.below(prompts[donor].len())),
            };
            let with = if self.chance(2) { self.with(&before) } else { String::new() };
            body.push_str(&if self.chance(3) {
                let (axis, n) = self.entry(&place);
                let (a, b) = (self.lcg.below(n), self.lcg.below(n));
                let part = format!("{axis} = {}..={}", a.min(b), a.max(b));
                format!("hook x{i} at {site} on {on} from p{donor}{with} {{\n    h[{part}] = donor[{part}]\n}}\n")
            } else {
                format!("patch x{i} at {site} on {on} from p{donor}{with}\n")
            });
            edits.push((format!("x{i}"), false));
        }
        let runs = 2 + self.lcg.below(3);
        for _ in 0..runs {
            let with = self.with(&edits);
            let prompt = self.lcg.below(prompts.len());
            body.push_str(&format!("generate p{prompt}{with} {{ max: 4, stop: false }}\n"));
        }
        let mut reads = Vec::new();
        for _ in 0..2 {
            let p = self.place();
            if !reads.contains(&p.name) && p.name != "logits" {
                reads.push(p.name);
            }
        }
        let tensors: String = self.tensors.values().cloned().collect();
        let later = std::mem::take(&mut self.later);
        Generated { text: tensors + &body, reads, later }
    }

    /// Some of the edits, in any order.
    fn with(&mut self, edits: &[(String, bool)]) -> String {
        let mut left: Vec<(String, bool)> = edits.to_vec();
        let mut out = Vec::new();
        for _ in 0..1 + self.lcg.below(edits.len()) {
            let (name, takes) = left.remove(self.lcg.below(left.len()));
            out.push(if takes && self.chance(2) {
                format!("{name}(alpha = {})", self.one(&["0.1", "-0.3", "0.7"]))
            } else {
                name
            });
        }
        format!(" with {}", out.join(", "))
    }

    /// Any kind of site is as likely as any other.
    fn place(&mut self) -> Place {
        let mut kinds: Vec<&str> = self.at.places.iter().map(|p| p.short.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let kind = kinds[self.lcg.below(kinds.len())];
        let of: Vec<&Place> = self.at.places.iter().filter(|p| p.short == kind).collect();
        of[self.lcg.below(of.len())].clone()
    }

    /// A path that names this place, perhaps with others.
    fn path(&mut self, p: &Place) -> String {
        if p.layer.is_none() {
            return p.name.clone();
        }
        let from = self.lcg.below(self.at.layers as usize) as u32;
        // Not every block has every site.
        let has = |l: u32| self.at.places.iter().any(|q| q.short == p.short && q.layer == Some(l));
        match self.lcg.below(4) {
            0 => format!("blocks[*].{}", p.short),
            1 if (from..self.at.layers).all(has) => format!("blocks[{from}..].{}", p.short),
            _ => p.name.clone(),
        }
    }

    fn positions(&mut self, prompts: &[Vec<u32>], depth: usize) -> String {
        let token = prompts[0][self.lcg.below(prompts[0].len())];
        match self.lcg.below(if depth > 1 { 8 } else { 11 }) {
            0 => "all".into(),
            1 => "prompt".into(),
            2 => "generated".into(),
            3 => format!("prompt[{}]", self.one(&["-1", "0", "-2..", "..3", "1..=2"])),
            4 => format!("[{}..]", self.lcg.below(6)),
            5 => format!("matching \"{}\"", self.some_text(prompts)),
            6 => format!("after \"t{token}\""),
            7 => format!("generated[{}]", self.one(&["0", "1..", "0..2"])),
            8 => format!("({} | {})", self.positions(prompts, depth + 1), self.positions(prompts, depth + 1)),
            9 => format!("({} & {})", self.positions(prompts, depth + 1), self.positions(prompts, depth + 1)),
            _ => format!("!({})", self.positions(prompts, depth + 1)),
        }
    }

    /// A token, or a few in a row: in a prompt, across its end, or behind it.
    fn some_text(&mut self, prompts: &[Vec<u32>]) -> String {
        let all: Vec<u32> = prompts[0].iter().chain(&self.later).copied().collect();
        let start = self.lcg.below(all.len());
        let end = (start + 1 + self.lcg.below(3)).min(all.len());
        words(&all[start..end])
    }

    /// The text of a hook and whether it takes `alpha`.
    fn hook(&mut self, name: &str, prompts: &[Vec<u32>]) -> (String, bool) {
        let p = self.place();
        let path = self.path(&p);
        let on = if self.chance(4) { String::new() } else { format!(" on maybe {}", self.positions(prompts, 0)) };
        let takes = self.chance(2);
        let mut body: Vec<String> = (0..1 + self.lcg.below(3)).map(|_| self.statement(&p)).collect();
        if takes {
            let v = self.vector(&p);
            // A state that is carried on must not grow, and a step size not fall below 0.
            body.push(match p.short.as_str() {
                "ssm.state" => format!("h += 0.1 * alpha * {v}"),
                "ssm.dt" => "h *= abs(alpha)".into(),
                _ => format!("h += alpha * {v}"),
            });
        }
        let params = if takes { "(alpha = 0.4 in -1..1)" } else { "" };
        (format!("hook {name}{params} at {path}{on} {{\n    {}\n}}\n", body.join("\n    ")), takes)
    }

    /// The text of a route and whether it takes `alpha`; nothing in a model without experts.
    fn route(&mut self, name: &str, prompts: &[Vec<u32>]) -> Option<(String, bool)> {
        let gated: Vec<Place> = self.at.places.iter().filter(|p| p.short == "moe.gates").cloned().collect();
        if gated.is_empty() {
            return None;
        }
        let p = gated[self.lcg.below(gated.len())].clone();
        let path = self.path(&p).replace(".gates", "");
        let on = if self.chance(4) { String::new() } else { format!(" on maybe {}", self.positions(prompts, 0)) };
        let takes = self.chance(2);
        let n = p.axes[0].1.unwrap_or(1);
        let mut body: Vec<String> = (0..1 + self.lcg.below(3)).map(|_| self.route_statement(n)).collect();
        if takes {
            body.push(
                self.one(&["bias 0 by alpha", "gates *= 1 + 0.5 * alpha", "when alpha > 0.5 { top_k = 1 }"]).into(),
            );
        }
        let params = if takes { "(alpha = 0.4 in -1..1)" } else { "" };
        Some((format!("route {name}{params} at {path}{on} {{\n    {}\n}}\n", body.join("\n    ")), takes))
    }

    fn route_statement(&mut self, n: usize) -> String {
        let (i, j) = (self.lcg.below(n), self.lcg.below(n));
        match self.lcg.below(15) {
            // What is named by number on every row is checked over all routes of a run.
            0 => format!("mask index(expert) == {i}"),
            1 => format!("when position > 3 {{ mask {i} }}"),
            2 => format!("drop {i}, {j}"),
            3 => format!("mute {i}"),
            4 => format!("when position >= 0 {{ force {i} }}"),
            5 => format!("when position >= 0 {{ force {i} by max }}"),
            6 => format!("force index(expert) == {i} by 0.3"),
            7 => format!("bias {i} by -0.2"),
            8 => format!("top_k = {}", 1 + self.lcg.below(n)),
            9 => format!("drop index(expert) == {i}"),
            10 => format!("let x = 0.5 + sigmoid(sum(router, expert))\n    gates[expert = {i}] *= x"),
            11 => format!("when scores[expert = {i}] > 0.3 && position > 1 {{ drop {j} }} else {{ mute {i} }}"),
            12 => format!("mask router < -0.5 && index(expert) != {i}"),
            13 => format!("drop scores < 0.05 && index(expert) != {i}"),
            _ => "scores = sigmoid(router)".into(),
        }
    }

    /// The tensor with the site's own axes.
    fn vector(&mut self, p: &Place) -> String {
        let (key, _) = tensor_of(p);
        let axes: Vec<String> = p.axes.iter().filter_map(|(n, s)| s.map(|s| format!("{n} = {s}"))).collect();
        // In some models axes of one name have several sizes.
        let name = format!("v_{}", axes.iter().map(|a| a.replace(" = ", "")).collect::<Vec<_>>().join("_"));
        let declared = format!("tensor {name}: [{}] = load(\"v.safetensors\", \"{key}\")\n", axes.join(", "));
        self.tensors.insert(name.clone(), declared);
        name
    }

    fn entry(&mut self, p: &Place) -> (String, usize) {
        let fixed: Vec<(String, usize)> = p.axes.iter().filter_map(|(n, s)| s.map(|s| (n.clone(), s))).collect();
        fixed[self.lcg.below(fixed.len())].clone()
    }

    fn statement(&mut self, p: &Place) -> String {
        let v = self.vector(p);
        let (axis, n) = self.entry(p);
        let i = self.lcg.below(n);
        let (a, b) = (self.lcg.below(n), self.lcg.below(n));
        let (a, b) = (a.min(b), a.max(b) + 1);
        let keyed = p.axes.iter().any(|a| a.1.is_none());
        let over = if keyed { "key".to_owned() } else { axis.clone() };
        let tame = matches!(p.short.as_str(), "ssm.state" | "ssm.dt");
        if keyed && self.chance(3) {
            return match self.lcg.below(4) {
                0 => format!("h[{axis} = {i}] = 1 / (position + 1)"),
                1 => "h[key = 0] *= 0.5".into(),
                2 => "h /= sum(abs(h), key) + 0.01".into(),
                _ => format!("h[{axis} = {i}, key = 0..] *= 0.75"),
            };
        }
        let choice = self.lcg.below(if tame {
            6
        } else if self.kinds.continuous {
            20
        } else {
            24
        });
        match choice {
            0 => format!("h *= {}", self.one(&["0.5", "0.9", "0.75"])),
            1 => format!("h[{axis} = {i}] = 0"),
            2 => format!("h[{axis} = {a}..{b}] = clamp(h[{axis} = {a}..{b}], 0.01, 0.5)"),
            3 => format!("h[{axis} = [{i}, {a}]] *= 0.5"),
            4 => "when h < 0 { h *= 0.5 }".into(),
            5 => "h = min(h, 0.5 + 0.5 * h0)".into(),
            6 => format!("h += 0.3 * {v}"),
            7 => format!("h -= dot(h, {v}) * {v}"),
            8 => format!("when dot(h, {v}) < 0.5 {{ h += (0.5 - dot(h, {v})) * {v} }} else {{ h *= 1 }}"),
            9 => "let m = mean(h)\n    h -= 0.5 * m".into(),
            10 => format!("h -= 0.5 * mean(h, {over})"),
            11 => "h = 0.5 * h0 + 0.5 * tanh(h)".into(),
            12 => "h *= norm(h0) / (norm(h) + 0.01)".into(),
            13 => format!("h += 0.1 * softmax(h, {over})"),
            14 => "h += 0.05 * sigmoid(h) * position / (position + 1)".into(),
            15 => "h = blend(h, gelu(h))".into(),
            16 => "h = clamp(h, -2, 2) + 0.1 * exp(-abs(h))".into(),
            17 => format!(
                "h += 0.1 * log(1 + abs(h)) * {}",
                if p.layer.is_some() { "(layer + 1)" } else { "(token / 50)" }
            ),
            18 => format!("h = blend(h, max(h, {over}), share = 0.9)"),
            19 => match p.axes[..] {
                [(ref axis, Some(d))] => {
                    let name = format!("W_{axis}");
                    let declared =
                        format!("tensor {name}: [feature = 3, {axis} = {d}] = load(\"v.safetensors\", \"W{d}\")\n");
                    self.tensors.insert(name.clone(), declared);
                    format!("let f = relu({name} @ h)\n    h += 0.2 * sum(f * {name}, feature)")
                }
                _ => "h += 0.1 * silu(h)".into(),
            },
            20 => "when h > 0.1 { h = 0.05 }".into(),
            21 => format!("h = select(top_k(h, {over}, 2), h, 0.5 * h)"),
            22 => "h = round(4 * h) / 4".into(),
            _ => format!("h += 0.01 * argmax(h, {over}) * {v}"),
        }
    }
}
