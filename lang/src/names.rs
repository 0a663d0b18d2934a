//! The names that a body mentions.

use crate::ast::*;
use std::collections::BTreeSet;

impl Block {
    /// Every name that is read or assigned to, whatever it stands for.
    pub fn names(&self) -> BTreeSet<&str> {
        let mut out = BTreeSet::new();
        block(self, &mut out);
        out
    }
}

impl Expr {
    /// The same of an expression.
    pub fn names(&self) -> BTreeSet<&str> {
        let mut out = BTreeSet::new();
        expr(self, &mut out);
        out
    }
}

fn block<'a>(b: &'a Block, out: &mut BTreeSet<&'a str>) {
    for s in &b.stmts {
        match &s.kind {
            StmtKind::Let(_, e) | StmtKind::Axis(_, e) | StmtKind::Require(e, _) | StmtKind::Expr(e) => expr(e, out),
            StmtKind::Experts { experts, by, .. } => experts.iter().chain(by).for_each(|e| expr(e, out)),
            StmtKind::Site { value, .. } | StmtKind::Write { value, .. } => expr(value, out),
            StmtKind::Assign { target, value, .. } => {
                expr(target, out);
                expr(value, out);
            }
            StmtKind::When { cond, then, otherwise } => {
                expr(cond, out);
                block(then, out);
                otherwise.iter().for_each(|o| block(o, out));
            }
            StmtKind::Blocks { start, end, body, .. } => {
                expr(start, out);
                expr(end, out);
                block(body, out);
            }
        }
    }
}

fn expr<'a>(e: &'a Expr, out: &mut BTreeSet<&'a str>) {
    match &e.kind {
        ExprKind::Name(n) => {
            out.insert(n);
        }
        ExprKind::Field(of, _) => expr(of, out),
        ExprKind::Index(of, args) => {
            expr(of, out);
            args.iter().for_each(|a| item(&a.item, out));
        }
        ExprKind::Call(f, args) => {
            expr(f, out);
            args.iter().for_each(|a| expr(&a.value, out));
        }
        ExprKind::Unary(_, a) => expr(a, out),
        ExprKind::Binary(_, a, b) => {
            expr(a, out);
            expr(b, out);
        }
        ExprKind::List(items) => items.iter().for_each(|i| expr(i, out)),
        ExprKind::Axes(parts) => parts.iter().filter_map(|p| p.size.as_ref()).for_each(|s| expr(s, out)),
        ExprKind::If { cond, then, otherwise } => {
            expr(cond, out);
            block(then, out);
            otherwise.iter().for_each(|o| block(o, out));
        }
        ExprKind::Lambda(_, body) => block(body, out),
        ExprKind::Number(_) | ExprKind::Text(_) | ExprKind::Bool(_) | ExprKind::None => {}
    }
}

fn item<'a>(i: &'a IndexItem, out: &mut BTreeSet<&'a str>) {
    match i {
        IndexItem::All(_) => {}
        IndexItem::At(e) => expr(e, out),
        IndexItem::Range { start, end, .. } => start.iter().chain(end).for_each(|e| expr(e, out)),
    }
}
