//! Expressions: precedence, postfixes and primaries.

use pest::iterators::{Pair, Pairs};

use super::{Build, Parts, Rule};
use crate::ast::{Arg, AxisPart, BinaryOp, Block, Expr, ExprKind, IndexArg, IndexItem, Stmt, StmtKind, UnaryOp};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

impl Build<'_> {
    /// `depth`: how deep in the tree this expression stands.
    pub(super) fn expr(&mut self, pair: Pair<Rule>, depth: usize) -> Expr {
        let span = self.span(&pair);
        let mut parts = pair.into_inner();
        let operators = parts.clone().filter(|p| is_operator(p.as_rule())).count();
        let depth = depth + operators + 1;
        if !self.fits(depth, span) {
            return Expr { kind: ExprKind::None, span };
        }
        self.binary(&mut parts, 0, depth)
    }

    /// Operators of at least the strength `min`, by precedence climbing.
    fn binary(&mut self, parts: &mut Pairs<Rule>, min: u8, depth: usize) -> Expr {
        let mut left = self.unary(parts, depth);
        let mut compared: Vec<Span> = Vec::new();
        while let Some(next) = parts.peek() {
            let Some(op) = BinaryOp::from_symbol(next.as_str()) else {
                break;
            };
            let strength = op.strength();
            if strength < min {
                break;
            }
            if op.is_comparison() {
                compared.push(self.span(&next));
            }
            parts.next();
            let right = self.binary(parts, if op == BinaryOp::Pow { strength } else { strength + 1 }, depth);
            let span = left.span.to(right.span);
            left = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(right)), span };
        }
        if let [first, second, ..] = compared[..] {
            self.chained(first, second);
        }
        left
    }

    fn chained(&mut self, first: Span, second: Span) {
        self.diags.push(
            Diagnostic::error(codes::SYNTAX, "comparisons cannot be chained")
                .at(second, "the second comparison")
                .at(first, "the first one gives true or false")
                .help("say both: `a < b && b < c`"),
        );
    }

    fn unary(&mut self, parts: &mut Pairs<Rule>, depth: usize) -> Expr {
        let pair = parts.next().expect("the grammar has an operand here");
        if pair.as_rule() == Rule::prefix {
            let op = if pair.as_str() == "-" { UnaryOp::Neg } else { UnaryOp::Not };
            let start = self.span(&pair);
            let operand = self.binary(parts, BinaryOp::Pow.strength(), depth);
            let span = start.to(operand.span);
            return Expr { kind: ExprKind::Unary(op, Box::new(operand)), span };
        }
        let mut expr = self.primary(pair, depth);
        while parts.peek().is_some_and(|p| matches!(p.as_rule(), Rule::field | Rule::index | Rule::call)) {
            let Some(postfix) = parts.next() else { break };
            let span = expr.span.to(self.span(&postfix));
            let inner = Box::new(expr);
            let kind = match postfix.as_rule() {
                Rule::field => ExprKind::Field(inner, self.ident(&Parts::of(postfix).need())),
                Rule::index => ExprKind::Index(inner, Parts::of(postfix).map(|p| self.index_arg(p, depth)).collect()),
                _ => ExprKind::Call(inner, self.args(postfix, depth)),
            };
            expr = Expr { kind, span };
        }
        expr
    }

    fn primary(&mut self, pair: Pair<Rule>, depth: usize) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::number => ExprKind::Number(self.number(pair.as_str(), span)),
            Rule::string => ExprKind::Text(self.text(&pair).value),
            Rule::constant => match pair.as_str() {
                "none" => ExprKind::None,
                word => ExprKind::Bool(word == "true"),
            },
            Rule::if_expr => self.branches(pair, depth),
            Rule::lambda => {
                let mut params = Vec::new();
                let mut parts = Parts::of(pair);
                while let Some(name) = parts.take_if(Rule::name) {
                    params.push(self.ident(&name));
                }
                ExprKind::Lambda(params, self.block(parts.need(), depth))
            }
            Rule::axes => ExprKind::Axes(Parts::of(pair).map(|p| self.axis_part(p, depth)).collect()),
            Rule::list => ExprKind::List(self.list(pair, depth)),
            Rule::paren => self.expr(Parts::of(pair).need(), depth).kind,
            _ => ExprKind::Name(pair.as_str().to_owned()),
        };
        Expr { kind, span }
    }

    fn number(&mut self, literal: &str, span: Span) -> f64 {
        let value = literal.replace('_', "").parse().unwrap_or(f64::INFINITY);
        if !f64::is_finite(value) {
            self.diags.push(
                Diagnostic::error(codes::SYNTAX, format!("the number `{literal}` is too large"))
                    .at(span, "beyond what a number can hold")
                    .help("the largest number is about 1.8e308"),
            );
            return 0.0;
        }
        value
    }

    /// The elements of `[a, b, feature = 512]`.
    pub(super) fn list(&mut self, pair: Pair<Rule>, depth: usize) -> Vec<Expr> {
        let mut elements = Vec::new();
        for element in Parts::of(pair) {
            elements.push(match element.as_rule() {
                Rule::axis_element => {
                    let span = self.span(&element);
                    let mut parts = Parts::of(element);
                    let name = self.ident(&parts.need());
                    let size = Some(self.expr(parts.need(), depth));
                    Expr { kind: ExprKind::Axes(vec![AxisPart { name, size }]), span }
                }
                _ => self.expr(element, depth),
            });
        }
        elements
    }

    fn axis_part(&mut self, pair: Pair<Rule>, depth: usize) -> AxisPart {
        let mut parts = Parts::of(pair);
        let name = self.ident(&parts.need());
        AxisPart { name, size: parts.next().map(|size| self.expr(size, depth)) }
    }

    pub(super) fn args(&mut self, pair: Pair<Rule>, depth: usize) -> Vec<Arg> {
        let mut args = Vec::new();
        for arg in Parts::of(pair) {
            let mut parts = Parts::of(arg);
            let name = parts.take_if(Rule::field_name).map(|n| self.ident(&n));
            args.push(Arg { name, value: self.expr(parts.need(), depth) });
        }
        args
    }

    fn index_arg(&mut self, pair: Pair<Rule>, depth: usize) -> IndexArg {
        let mut parts = Parts::of(pair);
        let axis = parts.take_if(Rule::field_name).map(|n| self.ident(&n));
        IndexArg { axis, item: self.index_item(parts.need(), depth) }
    }

    pub(super) fn index_item(&mut self, pair: Pair<Rule>, depth: usize) -> IndexItem {
        let span = self.span(&pair);
        match pair.as_rule() {
            Rule::star => IndexItem::All(span),
            Rule::open_range => {
                let mut parts = Parts::of(pair);
                let inclusive = parts.need().as_str() == "..=";
                let end = parts.next().map(|end| self.expr(end, depth));
                self.range(None, end, inclusive, span)
            }
            _ => {
                let mut parts = Parts::of(pair);
                let start = self.expr(parts.need(), depth);
                let Some(dots) = parts.next() else {
                    return IndexItem::At(start);
                };
                let inclusive = dots.as_str() == "..=";
                let end = parts.next().map(|end| self.expr(end, depth));
                self.range(Some(start), end, inclusive, span)
            }
        }
    }

    fn range(&mut self, start: Option<Expr>, end: Option<Expr>, inclusive: bool, span: Span) -> IndexItem {
        if inclusive && end.is_none() {
            self.diags.push(
                Diagnostic::error(codes::SYNTAX, "`..=` needs an end to include")
                    .at(span, "no end")
                    .help("write `a..` for everything from `a` on"),
            );
        }
        IndexItem::Range { start, end, inclusive, span }
    }

    /// `if a { } else if b { } else { }`
    fn branches(&mut self, pair: Pair<Rule>, depth: usize) -> ExprKind {
        match self.chain(pair, false, depth) {
            StmtKind::Expr(Expr { kind, .. }) => kind,
            _ => unreachable!("a chain that begins with `if` is an expression"),
        }
    }

    /// A chain of branches as nested blocks, the last one innermost.
    pub(super) fn chain(&mut self, pair: Pair<Rule>, rows: bool, depth: usize) -> StmtKind {
        let span = self.span(&pair);
        let links =
            pair.clone().into_inner().filter(|p| matches!(p.as_rule(), Rule::else_branch | Rule::route_else)).count();
        let depth = depth + 2 * links + 1;
        if !self.fits(depth, span) {
            return StmtKind::Expr(Expr { kind: ExprKind::None, span });
        }
        let mut parts = Parts::of(pair);
        let mut branches = vec![(rows, span, self.expr(parts.need(), depth), self.block(parts.need(), depth))];
        let mut otherwise = None;
        for part in parts {
            let mut inner = part.clone().into_inner();
            inner.next();
            if let Rule::last_else | Rule::route_last = part.as_rule() {
                otherwise = inner.next().map(|block| self.block(block, depth));
                continue;
            }
            let word = inner.next().expect("a branch has a keyword");
            let rows = word.as_rule() == Rule::kw_when;
            let span = Span { start: self.span(&word).start, ..span };
            let cond = self.expr(inner.next().expect("a branch has a condition"), depth);
            let then = self.block(inner.next().expect("a branch has a body"), depth);
            branches.push((rows, span, cond, then));
        }
        while let Some((rows, span, cond, then)) = branches.pop() {
            let kind = branch(rows, span, cond, then, otherwise.take());
            if branches.is_empty() {
                return kind;
            }
            otherwise = Some(Block { stmts: vec![Stmt { kind, doc: None, span }], span });
        }
        unreachable!("a chain has a first branch")
    }
}

fn branch(rows: bool, span: Span, cond: Expr, then: Block, otherwise: Option<Block>) -> StmtKind {
    if rows {
        return StmtKind::When { cond, then, otherwise };
    }
    StmtKind::Expr(Expr { kind: ExprKind::If { cond: Box::new(cond), then, otherwise }, span })
}

fn is_operator(rule: Rule) -> bool {
    matches!(rule, Rule::prefix | Rule::infix | Rule::field | Rule::index | Rule::call)
}
