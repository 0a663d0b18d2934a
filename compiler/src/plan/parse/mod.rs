//! Reads the text form of a Plan. A type may be left out where the op gives it.

mod words;

use super::ir::*;
use super::types;
use std::sync::Arc;
use steer_lang::Span;
use words::Words;

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
            p.line(&mut words).map_err(|message| ParseError { line: i + 1, message })?;
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

    fn line(&mut self, w: &mut Words) -> Parsed<()> {
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
            let site = w.name()?;
            let route = if w.eat("of") { Some(w.name()?) } else { None };
            let layer = w.layer()?;
            let mut params = Vec::new();
            if w.eat("params") {
                params.push(w.name()?);
                while w.eat(",") {
                    params.push(w.name()?);
                }
            }
            self.plan.edits.push(Edit { name, site, layer, route, params, span: w.span()? });
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
        let empty = Node {
            op: Op::Token,
            ty: Type::scalar(Elem::Index, true),
            layer: None,
            origin: None,
            span: Span::default(),
        };
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
