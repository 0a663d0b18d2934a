//! Reads the text form of a Plan. A type may be left out where the op gives it.

use super::ir::*;
use super::{print, types};
use std::sync::Arc;
use steer_lang::{FileId, Span};

/// Why a text is no Plan.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

type Parsed<T> = Result<T, String>;

/// The Plan of a text. It is well-formed only as text: `verify` says what it breaks.
pub fn parse(text: &str) -> Result<Plan, ParseError> {
    let limit = text.lines().count();
    let mut p = Parser { plan: Plan::default(), seen: Vec::new(), open: Vec::new(), limit, regions: 0 };
    let mut last = 0;
    for (i, line) in text.lines().enumerate() {
        last = i + 1;
        let mut words = Words { rest: line };
        if !words.done() {
            p.line(&mut words, i).map_err(|message| ParseError { line: i + 1, message })?;
        }
    }
    p.finish().map_err(|message| ParseError { line: last, message })
}

struct Parser {
    plan: Plan,
    /// Which nodes have had their line.
    seen: Vec<bool>,
    open: Vec<RegionId>,
    /// No number in a text is greater than its lines.
    limit: usize,
    regions: usize,
}

impl Parser {
    fn finish(mut self) -> Parsed<Plan> {
        if !self.open.is_empty() {
            return Err("a region is not closed".to_owned());
        }
        if let Some(at) = self.seen.iter().position(|s| !s) {
            return Err(format!("there is no node n{at}"));
        }
        if self.regions < self.plan.regions.len() && self.regions > 0 {
            return Err("a region is missing".to_owned());
        }
        self.plan.nodes.truncate(self.seen.len());
        Ok(self.plan)
    }

    fn line(&mut self, w: &mut Words, number: usize) -> Parsed<()> {
        if w.eat("}") {
            self.open.pop().ok_or("there is no region to close")?;
        } else if w.eat("plan") {
            let version = w.number::<u32>()?;
            if version != VERSION {
                return Err(format!("this is version {version} of the text form; this compiler reads {VERSION}"));
            }
            self.plan.arch = w.name()?;
        } else if w.eat("weight") {
            w.next_id("w", self.plan.weights.len())?;
            let (name, dims, span) = (w.name()?, w.dims()?, w.span()?);
            self.plan.weights.push(Weight { name, dims, span });
        } else if w.eat("tensor") {
            w.next_id("t", self.plan.tensors.len())?;
            self.plan.tensors.push(Tensor { name: w.name()?, axes: w.axes()? });
        } else if w.eat("edit") {
            w.next_id("e", self.plan.edits.len())?;
            let name = w.name()?;
            w.want("at")?;
            let (site, layer) = (w.name()?, w.layer()?);
            let mut params = Vec::new();
            if w.eat("params") {
                params.push(w.name()?);
                while w.eat(",") {
                    params.push(w.name()?);
                }
            }
            self.plan.edits.push(Edit { name, site, layer, params, span: w.span()? });
        } else if w.eat("region") {
            self.region(w)?;
        } else if w.eat("site") {
            let (name, layer) = (w.name()?, w.layer()?);
            w.want("in")?;
            let region = RegionId(w.id("r")?);
            w.want("before")?;
            let before = NodeId(w.id("n")?);
            w.want("value")?;
            let value = NodeId(w.id("n")?);
            w.want("is")?;
            let contract: Arc<str> = w.name()?.into();
            self.plan.sites.push(Site { name, layer, region, before, value, contract });
        } else if w.eat("output") {
            self.plan.outputs.push(Output { name: w.name()?, node: NodeId(w.id("n")?) });
        } else {
            self.node(w)?;
        }
        let _ = number;
        if w.done() { Ok(()) } else { Err(format!("unexpected `{}`", w.rest.trim())) }
    }

    fn region(&mut self, w: &mut Words) -> Parsed<()> {
        let id = w.id("r")?;
        let at = self.index(id)?;
        while self.plan.regions.len() <= at {
            self.plan.regions.push(Region::default());
        }
        let args = w.ids()?;
        w.want("->")?;
        let results = w.ids()?;
        w.want("{")?;
        self.plan.regions[at] = Region { args, order: Vec::new(), results };
        self.open.push(RegionId(id));
        self.regions += 1;
        Ok(())
    }

    fn node(&mut self, w: &mut Words) -> Parsed<()> {
        let region = *self.open.last().ok_or("a node stands in a region")?;
        let id = w.id("n")?;
        let at = self.index(id)?;
        let ty = if w.eat("=") {
            None
        } else {
            let axes = w.axes()?;
            let elem = match (w.eat("bool"), w.eat("index")) {
                (true, _) => Elem::Bool,
                (_, true) => Elem::Index,
                _ => Elem::F32,
            };
            let per_row = w.eat("row");
            w.want("=")?;
            Some(Type { axes, elem, per_row })
        };
        let op = w.op()?;
        let layer = w.layer()?;
        let origin = if w.eat("from") { Some(w.name()?.into()) } else { None };
        let span = w.span()?;
        let ty = match ty {
            Some(ty) => ty,
            None => types::infer(&self.plan, &op, &Type::scalar(Elem::F32, false)).map_err(|e| e.to_string())?,
        };
        let empty = Node { op: Op::Token, ty: Type::scalar(Elem::Index, true), layer: None, origin: None, span: Span::default() };
        while self.plan.nodes.len() <= at {
            self.plan.nodes.push(empty.clone());
            self.seen.push(false);
        }
        if std::mem::replace(&mut self.seen[at], true) {
            return Err(format!("there is a second n{id}"));
        }
        self.plan.nodes[at] = Node { op, ty, layer, origin, span };
        self.plan.regions[region.0 as usize].order.push(NodeId(id));
        Ok(())
    }

    fn index(&self, id: u32) -> Parsed<usize> {
        if (id as usize) < self.limit { Ok(id as usize) } else { Err(format!("{id} is more than there are lines")) }
    }
}

/// What is left of a line.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// Whether only a comment is left.
    fn done(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty() || self.rest.starts_with('#')
    }

    /// A word or sign, if it is the next.
    fn eat(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        let Some(after) = self.rest.strip_prefix(text) else { return false };
        let word = text.ends_with(is_word);
        if word && after.starts_with(is_word) {
            return false;
        }
        self.rest = after;
        true
    }

    fn want(&mut self, text: &str) -> Parsed<()> {
        if self.eat(text) { Ok(()) } else { Err(format!("expected `{text}` before `{}`", self.rest)) }
    }

    /// Up to the next sign that belongs to no word or number.
    fn word(&mut self) -> Parsed<&str> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c| !is_word(c) && c != '-' && c != '+' && c != '.').unwrap_or(self.rest.len());
        // `1..2` are two words.
        let end = self.rest[..end].find("..").unwrap_or(end);
        if end == 0 {
            return Err(format!("expected a word before `{}`", self.rest));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Parsed<T> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("`{word}` is not a number of this kind"))
    }

    fn float(&mut self) -> Parsed<f32> {
        let word = self.word()?;
        let bits = word.strip_prefix("0x").map(|hex| u32::from_str_radix(hex, 16).map(f32::from_bits).ok());
        bits.unwrap_or_else(|| word.parse().ok()).ok_or_else(|| format!("`{word}` is not a number"))
    }

    /// `n12`
    fn id(&mut self, prefix: &str) -> Parsed<u32> {
        let word = self.word()?;
        let id = word.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
        id.ok_or_else(|| format!("expected `{prefix}` with a number, found `{word}`"))
    }

    fn next_id(&mut self, prefix: &str, next: usize) -> Parsed<()> {
        let id = self.id(prefix)?;
        if id as usize == next { Ok(()) } else { Err(format!("expected {prefix}{next}, found {prefix}{id}")) }
    }

    /// A bare word or a string.
    fn name(&mut self) -> Parsed<String> {
        self.rest = self.rest.trim_start();
        if !self.rest.starts_with('"') {
            return self.word().map(str::to_owned);
        }
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[i + 1..];
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, 'r')) => out.push('\r'),
                    Some((_, c)) => out.push(c),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err("a string is not closed".to_owned())
    }

    fn axis(&mut self) -> Parsed<Axis> {
        let name: Arc<str> = self.name()?.into();
        let size = if self.eat("=") { Size::Fixed(self.number()?) } else { Size::Keys };
        Ok(Axis { name, size })
    }

    /// Things in brackets with commas between.
    fn list<T>(&mut self, open: &str, close: &str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.want(open)?;
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if !self.eat(",") {
                break;
            }
        }
        self.want(close)?;
        Ok(items)
    }

    fn axes(&mut self) -> Parsed<Vec<Axis>> {
        self.list("[", "]", Words::axis)
    }

    fn dims(&mut self) -> Parsed<Vec<Vec<Axis>>> {
        self.list("[", "]", |w| {
            if !w.eat("(") {
                return Ok(vec![w.axis()?]);
            }
            let mut dim = Vec::new();
            while !w.eat(")") {
                dim.push(w.axis()?);
            }
            Ok(dim)
        })
    }

    fn names(&mut self) -> Parsed<Vec<Arc<str>>> {
        self.list("[", "]", |w| Ok(w.name()?.into()))
    }

    fn ids(&mut self) -> Parsed<Vec<NodeId>> {
        self.list("(", ")", |w| Ok(NodeId(w.id("n")?)))
    }

    fn layer(&mut self) -> Parsed<Option<u32>> {
        if self.eat("layer") { self.number().map(Some) } else { Ok(None) }
    }

    fn span(&mut self) -> Parsed<Span> {
        if !self.eat("@") {
            return Ok(Span::default());
        }
        let file = FileId(self.number()?);
        self.want(":")?;
        let start = self.number()?;
        self.want("..")?;
        Ok(Span { file, start, end: self.number()? })
    }

    fn node(&mut self) -> Parsed<NodeId> {
        self.id("n").map(NodeId)
    }

    fn next_node(&mut self) -> Parsed<NodeId> {
        self.want(",")?;
        self.node()
    }

    /// What follows a keyword.
    fn after<T>(&mut self, keyword: &str, item: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.want(keyword)?;
        item(self)
    }

    fn along(&mut self) -> Parsed<Arc<str>> {
        self.after("along", |w| w.name().map(Into::into))
    }

    fn edit(&mut self) -> Parsed<EditId> {
        self.id("e").map(EditId)
    }

    fn op(&mut self) -> Parsed<Op> {
        let word = self.word()?.to_owned();
        Ok(match word.as_str() {
            "token" => Op::Token,
            "position" => Op::Position,
            "layer" => Op::Layer,
            "number" => Op::Number(self.float()?),
            "table" => Op::Table(self.list("[", "]", Words::float)?.into()),
            "iota" => Op::Iota,
            "weight" => Op::Weight(WeightId(self.id("w")?)),
            "tensor" => Op::Tensor(TensorId(self.id("t")?)),
            "param" => Op::Param { edit: self.edit()?, slot: self.after("slot", Words::number)? },
            "donor" => Op::Donor(self.edit()?),
            "arg" => Op::Arg(self.number()?),
            "select" => Op::Select(self.node()?, self.next_node()?, self.next_node()?),
            "reduce" => {
                let name = self.word()?;
                let op = Reduce::from_name(name).ok_or_else(|| format!("there is no reduction `{name}`"))?;
                Op::Reduce(op, self.node()?, self.after("over", Words::names)?)
            }
            "top_k" => Op::TopK { of: self.node()?, axis: self.along()?, k: self.after("count", Words::node)? },
            "slice" => {
                let (of, axis) = (self.node()?, self.along()?);
                Op::Slice { of, axis, start: self.after("start", Words::number)?, len: self.after("len", Words::number)? }
            }
            "at" => Op::At { of: self.node()?, axis: self.along()?, index: self.after("index", Words::number)? },
            "pick" => {
                let (of, axis) = (self.node()?, self.along()?);
                let entries = self.after("entries", |w| w.list("[", "]", Words::number))?;
                Op::Pick { of, axis, entries: entries.into() }
            }
            "reshape" => Op::Reshape(self.node()?),
            "permute" => Op::Permute(self.node()?),
            "concat" => Op::Concat(self.node()?, self.next_node()?, self.along()?),
            "linear" => {
                let (x, w) = (self.node()?, self.next_node()?);
                let over = self.after("over", Words::names)?;
                let active = if self.eat("active") { Some(self.node()?) } else { None };
                Op::Linear { x, w, over, active }
            }
            "lookup" => Op::Lookup { table: self.node()?, index: self.next_node()? },
            "attention" => {
                let (q, k, v) = (self.node()?, self.next_node()?, self.next_node()?);
                let scale = self.after("scale", Words::float)?;
                let window = if self.eat("window") { Some(self.number()?) } else { None };
                Op::Attention { q, k, v, scale, window, body: self.body()? }
            }
            "conv1d" => Op::Conv1d { x: self.node()?, w: self.next_node()? },
            "scan" => Op::Scan { body: self.body()? },
            "overlay" => Op::Overlay { edit: self.edit()?, base: self.node()?, value: self.next_node()? },
            "receipt" => {
                let edit = self.edit()?;
                let name = self.word()?;
                let stat = Stat::ALL.into_iter().find(|s| print::stat_name(*s) == name);
                let stat = stat.ok_or_else(|| format!("there is no receipt `{name}`"))?;
                Op::Receipt { edit, stat, value: self.node()? }
            }
            _ => match (Unary::from_name(&word), Binary::from_name(&word)) {
                (Some(op), _) => Op::Unary(op, self.node()?),
                (_, Some(op)) => Op::Binary(op, self.node()?, self.next_node()?),
                _ => return Err(format!("there is no op `{word}`")),
            },
        })
    }

    fn body(&mut self) -> Parsed<RegionId> {
        self.after("body", |w| w.id("r")).map(RegionId)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
