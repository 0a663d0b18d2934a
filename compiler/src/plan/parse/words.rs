//! The words of one line.

use super::Parsed;
use crate::plan::ir::*;
use crate::plan::print;
use std::sync::Arc;
use steer_lang::{FileId, Span};

/// What is left of a line.
pub(super) struct Words<'a> {
    pub rest: &'a str,
}

impl Words<'_> {
    /// Whether only a comment is left.
    pub fn done(&mut self) -> bool {
        self.rest = self.rest.trim_start();
        self.rest.is_empty() || self.rest.starts_with('#')
    }

    /// A word or sign, if it is the next.
    pub fn eat(&mut self, text: &str) -> bool {
        self.rest = self.rest.trim_start();
        let Some(after) = self.rest.strip_prefix(text) else { return false };
        let word = text.ends_with(is_word);
        if word && after.starts_with(is_word) {
            return false;
        }
        self.rest = after;
        true
    }

    pub fn want(&mut self, text: &str) -> Parsed<()> {
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

    pub fn number<T: std::str::FromStr>(&mut self) -> Parsed<T> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("`{word}` is not a number of this kind"))
    }

    fn float(&mut self) -> Parsed<f32> {
        let word = self.word()?;
        let bits = word.strip_prefix("0x").map(|hex| u32::from_str_radix(hex, 16).map(f32::from_bits).ok());
        bits.unwrap_or_else(|| word.parse().ok()).ok_or_else(|| format!("`{word}` is not a number"))
    }

    /// `n12`
    pub fn id(&mut self, prefix: &str) -> Parsed<u32> {
        let word = self.word()?;
        let id = word.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
        id.ok_or_else(|| format!("expected `{prefix}` with a number, found `{word}`"))
    }

    pub fn next_id(&mut self, prefix: &str, next: usize) -> Parsed<()> {
        let id = self.id(prefix)?;
        if id as usize == next { Ok(()) } else { Err(format!("expected {prefix}{next}, found {prefix}{id}")) }
    }

    /// A bare word or a string.
    pub fn name(&mut self) -> Parsed<String> {
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

    pub fn axes(&mut self) -> Parsed<Vec<Axis>> {
        self.list("[", "]", Words::axis)
    }

    pub fn dims(&mut self) -> Parsed<Vec<Vec<Axis>>> {
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

    pub fn ids(&mut self) -> Parsed<Vec<NodeId>> {
        self.list("(", ")", |w| Ok(NodeId(w.id("n")?)))
    }

    pub fn layer(&mut self) -> Parsed<Option<u32>> {
        if self.eat("layer") { self.number().map(Some) } else { Ok(None) }
    }

    pub fn span(&mut self) -> Parsed<Span> {
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

    pub fn op(&mut self) -> Parsed<Op> {
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
                Op::Slice {
                    of,
                    axis,
                    start: self.after("start", Words::number)?,
                    len: self.after("len", Words::number)?,
                }
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
                let whole = self.eat("whole");
                Op::Attention { q, k, v, scale, window, whole, body: self.body()? }
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
