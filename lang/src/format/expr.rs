//! Expressions.

use super::doc::Doc;
use super::{Element, Printer};
use crate::ast::*;
use crate::lex::{Comment, hidden};
use crate::source::Span;

/// Strength of what needs no parentheses as an operand.
const TIGHT: u8 = 10;
/// Of `-a` and `!a`: between products and powers.
const PREFIX: u8 = 7;

fn strength(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Binary(op, ..) => op.strength(),
        ExprKind::Unary(..) => PREFIX,
        ExprKind::If { .. } | ExprKind::Lambda(..) => 0,
        _ => TIGHT,
    }
}

impl<'a> Printer<'a> {
    pub(super) fn expr(&mut self, expr: &Expr) -> Doc {
        match &expr.kind {
            ExprKind::Number(value) => Doc::text(self.number(*value, expr.span)),
            ExprKind::Text(value) => Doc::text(quoted(value)),
            ExprKind::Bool(value) => Doc::text(value.to_string()),
            ExprKind::None => Doc::text("none"),
            ExprKind::Name(name) => Doc::text(name),
            ExprKind::Field(inner, name) => {
                Doc::concat([self.operand(inner, TIGHT), Doc::Text(format!(".{}", name.name))])
            }
            ExprKind::Index(inner, args) => {
                let callee = self.operand(inner, TIGHT);
                let elements = args.iter().map(|a| Element::new(index_arg_span(a), move |p| p.index_arg(a))).collect();
                let bounds = (inner.span.end as usize, expr.span.end as usize - 1);
                Doc::concat([callee, self.bracketed(("[", "]"), bounds, false, elements)])
            }
            ExprKind::Call(inner, args) => {
                let callee = self.operand(inner, TIGHT);
                Doc::concat([callee, self.args(args, inner.span.end as usize, expr.span.end as usize - 1)])
            }
            ExprKind::Unary(op, inner) => {
                let operand = match &inner.kind {
                    ExprKind::Unary(..) => self.expr(inner),
                    _ => self.operand(inner, BinaryOp::Pow.strength()),
                };
                Doc::concat([Doc::text(op.symbol()), operand])
            }
            ExprKind::Binary(op, left, right) => self.chain(*op, left, right),
            ExprKind::List(elements) => self.list(elements, expr.span),
            ExprKind::Axes(parts) => {
                let mut docs = Vec::new();
                for (n, part) in parts.iter().enumerate() {
                    docs.push(Doc::text(if n > 0 { " " } else { "(" }));
                    docs.push(self.axis_part(part, true));
                }
                docs.push(Doc::text(")"));
                Doc::Concat(docs)
            }
            ExprKind::If { cond, then, otherwise } => self.branches("if", cond, then, otherwise.as_ref(), expr.span),
            ExprKind::Lambda(params, body) => {
                let params: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
                Doc::concat([Doc::Text(format!("|{}| ", params.join(", "))), self.block(body)])
            }
        }
    }

    /// In parentheses where it binds less than `min`.
    fn operand(&mut self, expr: &Expr, min: u8) -> Doc {
        let doc = self.expr(expr);
        if strength(expr) >= min {
            return doc;
        }
        Doc::group([Doc::text("("), doc, Doc::text(")")])
    }

    /// As the author wrote it, where that is still to be seen.
    fn number(&self, value: f64, span: Span) -> String {
        let source = self.slice(span).trim_matches(|c: char| matches!(c, '(' | ')') || c.is_whitespace());
        if source.replace('_', "").parse() == Ok(value) && source.starts_with(|c: char| c.is_ascii_digit()) {
            return source.to_owned();
        }
        if value.fract() == 0.0 && value < 1e15 { format!("{value:.0}") } else { format!("{value:?}") }
    }

    /// Operators of one strength, grouped from the left, on one line or each before its operand.
    fn chain(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> Doc {
        let level = op.strength();
        let from_left = op != BinaryOp::Pow && !op.is_comparison();
        let mut links = vec![(op, right)];
        let mut first = left;
        while let ExprKind::Binary(inner, l, r) = &first.kind {
            if !from_left || inner.strength() != level {
                break;
            }
            links.push((*inner, &**r));
            first = l;
        }
        links.reverse();
        let mut docs = vec![self.operand(first, level + u8::from(!from_left))];
        let mut rest = Vec::new();
        let mut end = first.span.end as usize;
        for (op, right) in links {
            let start = right.span.start as usize;
            rest.extend(self.trailing(end, start));
            rest.push(Doc::Line);
            rest.extend(self.leading(start));
            let min = if op == BinaryOp::Pow { level } else { level + 1 };
            rest.push(Doc::Text(format!("{} ", op.symbol())));
            // A prefix operator needs no parentheses on the right.
            let prefix = matches!(right.kind, ExprKind::Unary(..));
            rest.push(if prefix { self.expr(right) } else { self.operand(right, min) });
            end = right.span.end as usize;
        }
        docs.push(Doc::nest(rest));
        Doc::group(docs)
    }

    pub(super) fn list(&mut self, elements: &[Expr], span: Span) -> Doc {
        let parts = elements
            .iter()
            .map(|e| {
                Element::new(e.span, move |p: &mut Printer<'a>| match &e.kind {
                    ExprKind::Axes(parts) if parts.len() == 1 => p.axis_part(&parts[0], false),
                    _ => p.expr(e),
                })
            })
            .collect();
        self.bracketed(("[", "]"), (span.start as usize, span.end as usize - 1), false, parts)
    }

    /// `qkv = 3`. Beside other parts only a size without operators can stand bare.
    fn axis_part(&mut self, part: &AxisPart, beside: bool) -> Doc {
        let Some(size) = &part.size else {
            return Doc::text(&part.name.name);
        };
        let size = self.operand(size, if beside { TIGHT } else { 0 });
        Doc::concat([Doc::Text(format!("{} = ", part.name.name)), size])
    }

    /// The arguments of a call. One list or function at the end keeps its brackets next to those of
    /// the call.
    pub(super) fn args(&mut self, args: &[Arg], from: usize, to: usize) -> Doc {
        if let Some(doc) = self.hugging(args, to) {
            return doc;
        }
        let elements = args.iter().map(|a| Element::new(arg_span(a), move |p| p.arg(a))).collect();
        self.bracketed(("(", ")"), (from, to), false, elements)
    }

    fn hugging(&mut self, args: &[Arg], to: usize) -> Option<Doc> {
        let (last, init) = args.split_last()?;
        let hugs = match &last.value.kind {
            ExprKind::List(_) => init.is_empty(),
            ExprKind::Lambda(_, body) => !self.one_line(body.span),
            _ => false,
        };
        let inside = last.value.span;
        let in_last = |c: &Comment| c.start >= inside.start as usize && c.end <= inside.end as usize;
        let comment_between = self.comments[self.next..].iter().take_while(|c| c.start < to).any(|c| !in_last(c));
        let head: usize = init.iter().map(|a| arg_span(a).len()).sum();
        if !hugs || head > 60 || comment_between || init.iter().any(|a| !self.simple(&a.value)) {
            return None;
        }
        let mut docs = vec![Doc::text("(")];
        for arg in init {
            docs.extend([self.arg(arg), Doc::text(", ")]);
        }
        docs.extend([self.arg(last), Doc::text(")")]);
        Some(Doc::Concat(docs))
    }

    /// Short and certainly on one line.
    fn simple(&self, expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Number(_) | ExprKind::Bool(_) | ExprKind::None | ExprKind::Name(_) => true,
            ExprKind::Text(text) => text.len() < 40,
            ExprKind::Field(inner, _) => self.simple(inner),
            ExprKind::List(elements) => elements.iter().all(|e| self.simple(e)),
            _ => false,
        }
    }

    fn arg(&mut self, arg: &Arg) -> Doc {
        let value = self.expr(&arg.value);
        match &arg.name {
            Some(name) => Doc::concat([Doc::Text(format!("{} = ", name.name)), value]),
            None => value,
        }
    }

    fn index_arg(&mut self, arg: &IndexArg) -> Doc {
        let item = self.index_item(&arg.item);
        match &arg.axis {
            Some(axis) => Doc::concat([Doc::Text(format!("{} = ", axis.name)), item]),
            None => item,
        }
    }

    pub(super) fn index_item(&mut self, item: &IndexItem) -> Doc {
        match item {
            IndexItem::All(_) => Doc::text("*"),
            IndexItem::At(at) => self.expr(at),
            IndexItem::Range { start, end, inclusive, .. } => {
                let start = start.as_ref().map(|e| self.expr(e));
                let dots = Doc::text(if *inclusive { "..=" } else { ".." });
                let end = end.as_ref().map(|e| self.expr(e));
                Doc::concat(start.into_iter().chain([dots]).chain(end))
            }
        }
    }

    /// `if a { } else if b { } else { }`, and the same with `when`. On one line where the author
    /// wrote it so and it fits.
    pub(super) fn branches(
        &mut self,
        word: &str,
        cond: &Expr,
        then: &Block,
        otherwise: Option<&Block>,
        span: Span,
    ) -> Doc {
        let flat = self.one_line(span);
        let mut docs = vec![self.condition(word, cond), self.body(then, flat)];
        let mut next = otherwise;
        while let Some(block) = next.take() {
            docs.push(Doc::text(" else "));
            let chained = match block.stmts.as_slice() {
                [stmt] if !self.slice(block.span).starts_with('{') => Some(stmt),
                _ => None,
            };
            let link = match chained.map(|s| &s.kind) {
                Some(StmtKind::When { cond, then, otherwise }) => Some(("when", cond, then, otherwise)),
                Some(StmtKind::Expr(Expr { kind: ExprKind::If { cond, then, otherwise }, .. })) => {
                    Some(("if", &**cond, then, otherwise))
                }
                _ => None,
            };
            match link {
                Some((word, cond, then, otherwise)) => {
                    docs.extend([self.condition(word, cond), self.body(then, flat)]);
                    next = otherwise.as_ref();
                }
                None => docs.push(self.body(block, flat)),
            }
        }
        Doc::group(docs)
    }

    /// Where the condition takes several lines, the brace has one of its own.
    fn condition(&mut self, word: &str, cond: &Expr) -> Doc {
        Doc::group([Doc::Text(format!("{word} ")), self.expr(cond), Doc::Line])
    }
}

fn arg_span(arg: &Arg) -> Span {
    arg.name.as_ref().map_or(arg.value.span, |name| name.span.to(arg.value.span))
}

pub(super) fn index_span(item: &IndexItem) -> Span {
    match item {
        IndexItem::All(span) | IndexItem::Range { span, .. } => *span,
        IndexItem::At(at) => at.span,
    }
}

fn index_arg_span(arg: &IndexArg) -> Span {
    let item = index_span(&arg.item);
    arg.axis.as_ref().map_or(item, |axis| axis.span.to(item))
}

/// A text between quotes, with no more escapes than it needs.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if hidden(c) => out.push_str(&format!("\\u{{{:X}}}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
