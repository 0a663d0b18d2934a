//! Statements.

use pest::iterators::Pair;

use super::{Build, Parts, Rule, doc_above, words};
use crate::ast::{AssignOp, Block, Expr, ExprKind, Ident, Stmt, StmtKind, Verb};
use crate::codes;
use crate::diagnostic::{Diagnostic, nearest};
use crate::source::Span;

impl Build<'_> {
    pub(super) fn block(&mut self, pair: Pair<Rule>, depth: usize) -> Block {
        let span = self.span(&pair);
        let stmts: Vec<Stmt> = Parts::of(pair).map(|p| self.stmt(p, depth + 1)).collect();
        // One report where several stand on one line.
        let crowded = stmts.windows(2).find(|pair| self.same_line(&pair[0], &pair[1]));
        if let Some(pair) = crowded {
            self.one_line(&pair[0], &pair[1]);
        }
        Block { stmts, span }
    }

    fn same_line(&self, stmt: &Stmt, next: &Stmt) -> bool {
        !self.text[stmt.span.end as usize..next.span.start as usize].contains('\n')
    }

    /// Each statement begins on a line of its own. Two on one line are most likely a misspelt keyword
    /// or an operator that the language does not have.
    fn one_line(&mut self, stmt: &Stmt, next: &Stmt) {
        let source = &self.text[stmt.span.start as usize..stmt.span.end as usize];
        let last = source.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or("");
        let begins = self.text[next.span.start as usize..].chars().next().unwrap_or(' ');
        let word = match &next.kind {
            StmtKind::Expr(Expr { kind: ExprKind::Name(word), .. }) => word.as_str(),
            _ => "",
        };
        let bare = matches!(&stmt.kind, StmtKind::Expr(Expr { kind: ExprKind::Name(_), .. }));
        let diag = if last == "not" {
            Diagnostic::error(codes::SYNTAX, "there is no operator `not`")
                .at(Span { start: stmt.span.end - 3, ..stmt.span }, "not an operator")
                .help("negation is written `!`")
        } else if let ("and" | "or", operator) | (operator, "and" | "or") =
            if matches!(last, "and" | "or") { (last, last) } else { (word, word) }
        {
            let symbols = if operator == "and" { "`&&`" } else { "`||`" };
            Diagnostic::error(codes::SYNTAX, format!("there is no operator `{operator}`"))
                .at(next.span, "not an operator")
                .help(format!("write {symbols}"))
        } else if bare {
            Diagnostic::error(codes::SYNTAX, format!("`{last}` does not begin a statement"))
                .at(stmt.span, "expected a statement such as `let x = 1` or `h += x`")
                .maybe_help(near_statement(last))
        } else {
            let spaced = matches!(begins, '(' | '[') && !last.is_empty();
            let help = if spaced {
                format!("the `{begins}` of a call or an index directly follows the name, without a space")
            } else {
                "begin each statement on a line of its own".to_owned()
            };
            Diagnostic::error(codes::SYNTAX, "expected an operator or the end of the line")
                .at(next.span, "a second statement on the same line")
                .help(help)
        };
        self.diags.push(diag);
    }

    fn stmt(&mut self, pair: Pair<Rule>, depth: usize) -> Stmt {
        let span = self.span(&pair);
        let doc = doc_above(self.text, span.start as usize);
        let inner = Parts::of(pair).need();
        let rule = inner.as_rule();
        if let Rule::when_stmt | Rule::route_when | Rule::route_if = rule {
            return Stmt { kind: self.chain(inner, rule != Rule::route_if, depth), doc, span };
        }
        let mut parts = Parts::of(inner);
        let kind = match rule {
            Rule::let_stmt => {
                let name = self.ident(&parts.need());
                StmtKind::Let(name, self.expr(parts.need(), depth))
            }
            Rule::experts_stmt => {
                let verb = parts.need();
                let verb = Verb::ALL.into_iter().find(|v| v.word() == verb.as_str()).unwrap_or(Verb::Mask);
                let experts = Parts::of(parts.need()).map(|e| self.expr(e, depth)).collect();
                let by = parts.next().map(|e| self.expr(e, depth));
                StmtKind::Experts { verb, experts, by }
            }
            Rule::site_stmt => {
                let path = self.site_name(parts.need());
                StmtKind::Site { path, value: self.expr(parts.need(), depth) }
            }
            Rule::write_stmt => {
                let path = self.site_name(parts.need());
                StmtKind::Write { path, value: self.expr(parts.need(), depth) }
            }
            Rule::axis_stmt => {
                let name = self.ident(&parts.need());
                StmtKind::Axis(name, self.expr(parts.need(), depth))
            }
            Rule::blocks_stmt => {
                let var = self.ident(&parts.need());
                let start = self.expr(parts.need(), depth);
                let end = self.expr(parts.need(), depth);
                let under = self.text(&parts.need());
                StmtKind::Blocks { var, start, end, under, body: self.block(parts.need(), depth) }
            }
            Rule::require_stmt => {
                let cond = self.expr(parts.need(), depth);
                StmtKind::Require(cond, self.text(&parts.need()))
            }
            _ => self.assign(parts, depth),
        };
        Stmt { kind, doc, span }
    }

    fn assign(&mut self, mut parts: Parts, depth: usize) -> StmtKind {
        let target = self.expr(parts.need(), depth);
        let Some(op) = parts.next() else {
            return StmtKind::Expr(target);
        };
        let op = AssignOp::from_symbol(op.as_str()).unwrap_or(AssignOp::Set);
        let named = |e: &Expr| matches!(e.kind, ExprKind::Name(_));
        let fits = match &target.kind {
            ExprKind::Index(inner, _) => named(inner),
            _ => named(&target),
        };
        if !fits {
            self.diags.push(
                Diagnostic::error(codes::BAD_TARGET, format!("`{}` cannot assign to this", op.symbol()))
                    .at(target.span, "not a name or an indexed name")
                    .help("assign to `h`, to a part of it such as `h[head = 3]`, or to a name made by `let`"),
            );
        }
        StmtKind::Assign { target, op, value: self.expr(parts.need(), depth) }
    }

    fn site_name(&mut self, pair: Pair<Rule>) -> Vec<Ident> {
        Parts::of(pair).map(|p| self.ident(&p)).collect()
    }
}

/// Advice on a word that should begin a statement.
fn near_statement(word: &str) -> Option<String> {
    if words::DECLARATIONS.contains(&word) {
        return Some(format!("`{word}` stands at the top level of a file, not in a body"));
    }
    if Verb::ALL.iter().any(|v| v.word() == word) {
        return Some(format!("`{word}` stands in the body of a `route`"));
    }
    if word == "return" {
        return Some("there is no `return`: the value of a body is its last statement".to_owned());
    }
    let known = words::STATEMENTS.iter().copied().chain(Verb::ALL.map(Verb::word));
    let near = nearest(word, known).filter(|_| word.len() > 2)?;
    Some(format!("did you mean `{near}`?"))
}
