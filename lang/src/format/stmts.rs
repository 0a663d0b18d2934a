//! Statements and bodies.

use super::doc::Doc;
use super::expr::quoted;
use super::{Element, Printer};
use crate::ast::{Block, Expr, Ident, Stmt, StmtKind};
use crate::source::Span;

impl<'a> Printer<'a> {
    /// A body in braces; on one line where the author wrote it so and it fits.
    pub(super) fn block(&mut self, block: &Block) -> Doc {
        let flat = self.one_line(block.span);
        Doc::group([self.body(block, flat)])
    }

    /// A body that breaks together with the group in which it stands.
    pub(super) fn body(&mut self, block: &Block, flat: bool) -> Doc {
        let spans: Vec<Span> = block.stmts.iter().map(|s| s.span).collect();
        self.braced(block.span, &spans, flat, |p, n| p.stmt(&block.stmts[n]))
    }

    /// Parts in braces, each on a line of its own unless a single one may stand beside the braces.
    pub(super) fn braced(
        &mut self,
        braces: Span,
        spans: &[Span],
        flat: bool,
        print: impl FnMut(&mut Self, usize) -> Doc,
    ) -> Doc {
        let (from, to) = (braces.start as usize + 1, braces.end as usize - 1);
        let first = spans.first().map_or(to, |s| s.start as usize);
        let pending = self.comments.get(self.next).is_some_and(|c| c.start < to);
        let trailing = match self.comments.get(self.next) {
            Some(c) if c.start >= from => self.trailing(from, first),
            _ => None,
        };
        if spans.is_empty() && !pending {
            return Doc::text("{}");
        }
        let edge = || {
            if flat && spans.len() < 2 && !pending { Doc::Line } else { Doc::Hard }
        };
        let open = Doc::concat([Doc::text("{")].into_iter().chain(trailing));
        // After a comment behind the brace there may be nothing left.
        let empty = spans.is_empty() && self.comments.get(self.next).is_none_or(|c| c.start >= to);
        if empty {
            return Doc::concat([open, Doc::Hard, Doc::text("}")]);
        }
        let lines = self.sequence(spans, from, to, print);
        Doc::concat([open, Doc::nest([edge(), lines]), edge(), Doc::text("}")])
    }

    fn stmt(&mut self, stmt: &Stmt) -> Doc {
        match &stmt.kind {
            StmtKind::Let(name, value) => self.set(format!("let {} =", name.name), value),
            StmtKind::Axis(name, value) => self.set(format!("axis {} =", name.name), value),
            StmtKind::Site { path, value } => self.set(format!("site {} =", dotted(path)), value),
            StmtKind::Write { path, value } => self.set(format!("write {} =", dotted(path)), value),
            StmtKind::Assign { target, op, value } => {
                let target = self.expr(target);
                Doc::concat([target, Doc::Text(format!(" {} ", op.symbol())), self.expr(value)])
            }
            StmtKind::Experts { verb, experts, by } => {
                let experts = match &experts[..] {
                    [one] => self.expr(one),
                    all => {
                        let all = all.iter().map(|e| Element::new(e.span, move |p: &mut Printer<'a>| p.expr(e)));
                        self.listed(all.collect())
                    }
                };
                let mut docs = vec![Doc::Text(format!("{} ", verb.word())), experts];
                if let Some(by) = by {
                    docs.extend([Doc::text(" by "), self.expr(by)]);
                }
                Doc::Concat(docs)
            }
            StmtKind::When { cond, then, otherwise } => {
                self.branches("when", cond, then, otherwise.as_ref(), stmt.span)
            }
            StmtKind::Blocks { var, start, end, under, body } => {
                let head = Doc::Text(format!("blocks {} in ", var.name));
                let (start, end) = (self.expr(start), self.expr(end));
                let under = Doc::Text(format!(" under {} ", quoted(&under.value)));
                Doc::concat([head, start, Doc::text(".."), end, under, self.block(body)])
            }
            StmtKind::Require(cond, message) => {
                let cond = self.expr(cond);
                let rest = Doc::nest([Doc::Line, Doc::Text(quoted(&message.value))]);
                Doc::group([Doc::text("require "), cond, Doc::text(","), rest])
            }
            StmtKind::Expr(value) => self.expr(value),
        }
    }

    fn set(&mut self, head: String, value: &Expr) -> Doc {
        Doc::concat([Doc::Text(head + " "), self.expr(value)])
    }
}

fn dotted(path: &[Ident]) -> String {
    path.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(".")
}
