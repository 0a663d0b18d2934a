//! Direct logit attribution: what a value adds to a token's logit by itself.

use super::check::Checker;
use super::scope::{Eval, Res, fail};
use super::value::{Scope, Value};
use crate::plan::{Binary, NodeId};
use steer_lang::ast::{Expr, ExprKind, IndexArg, IndexItem};
use steer_lang::{Span, codes};

/// The function of metrics that attributes.
pub const DIRECT: &str = "direct_logit";

/// How the end of the model is evaluated on another value than its own residual stream.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub value: NodeId,
    /// Whether the last norm is applied.
    pub norm: bool,
    /// For a direct effect: the model's own residual stream, at whose scale the last norm is held.
    pub held: Option<NodeId>,
}

impl Checker<'_> {
    /// The same expression with the tokens of direct effects as numbers.
    pub(super) fn with_tokens(&mut self, e: &Expr, scope: &Scope) -> Res<Expr> {
        let mut e = e.clone();
        self.put_tokens(&mut e, scope)?;
        Ok(e)
    }

    fn put_tokens(&mut self, e: &mut Expr, scope: &Scope) -> Res<()> {
        match &mut e.kind {
            ExprKind::Call(f, args) => {
                let direct = matches!(&f.kind, ExprKind::Name(n) if n == DIRECT);
                for (i, a) in args.iter_mut().enumerate() {
                    if direct && i == 1 {
                        let token = self.metric_token(&a.value, scope)?;
                        a.value.kind = ExprKind::Number(f64::from(token));
                    } else {
                        self.put_tokens(&mut a.value, scope)?;
                    }
                }
                Ok(())
            }
            ExprKind::Field(of, _) | ExprKind::Unary(_, of) => self.put_tokens(of, scope),
            ExprKind::Index(of, args) => {
                for IndexArg { item, .. } in args {
                    if let IndexItem::At(e) = item {
                        self.put_tokens(e, scope)?;
                    }
                }
                self.put_tokens(of, scope)
            }
            ExprKind::Binary(_, a, b) => {
                self.put_tokens(a, scope)?;
                self.put_tokens(b, scope)
            }
            _ => Ok(()),
        }
    }
}

impl Eval<'_> {
    /// The model's last norm and unembedding on a value in place of the residual stream.
    pub(super) fn seen(&mut self, seen: Seen, span: Span) -> Res<NodeId> {
        let Some(rest) = self.behind_the_blocks().map(<[_]>::to_vec) else {
            return fail(codes::WRONG_KIND, "this model has no unembedding behind its blocks", span, "here");
        };
        let resid = self.resid.replace(seen.value);
        let before = self.lens.replace(seen);
        self.scopes.push(Scope::new());
        let mut logits = Ok(Value::None);
        for stmt in &rest {
            logits = self.stmt(stmt);
            if logits.is_err() {
                break;
            }
        }
        self.scopes.pop();
        self.lens = before;
        self.resid = resid;
        let logits = logits?;
        self.node(&logits, span)
    }

    /// The logit of a token as a linear function of a value with the axis `d_model`: the last norm keeps the scale
    /// that it has on this row, and biases are left out. Other axes of the value are kept. The direct effects of
    /// all that is written to the residual stream sum to the logit without biases (direct logit attribution,
    /// Elhage et al., 2021).
    pub(super) fn direct_logit(&mut self, value: NodeId, token: u32, span: Span) -> Res<NodeId> {
        let (Some(resid), true, None) = (self.resid, self.reads_sites, &self.hook) else {
            return fail(codes::WRONG_KIND, format!("`{DIRECT}` is for metrics"), span, "not here");
        };
        let ty = self.plan().ty(value).clone();
        if ty.position_of("d_model").is_none() {
            return fail(
                codes::AXIS_MISMATCH,
                format!("`{DIRECT}` takes a value with the axis `d_model`"),
                span,
                ty.to_string(),
            );
        }
        let seen = |value| Seen { value, norm: true, held: Some(resid) };
        let zero = self.b.number(0.0);
        let zero = self.typed(zero, span)?;
        let nothing = self.b.binary(Binary::Mul, resid, zero);
        let nothing = self.typed(nothing, span)?;
        let of = |s: &mut Self, value| -> Res<NodeId> {
            let own = std::mem::replace(&mut s.scopes, s.model_scopes.clone());
            let logits = s.seen(seen(value), span);
            s.scopes = own;
            let logits = logits?;
            let one = s.b.at(logits, "vocab", token as usize);
            s.typed(one, span)
        };
        // What is the same for every value: biases.
        let (all, fixed) = (of(self, value)?, of(self, nothing)?);
        if !self.plan().is_linear(nothing, fixed) {
            return fail(
                codes::WRONG_KIND,
                format!("`{DIRECT}` is for models whose logits are linear behind the last norm"),
                span,
                "this model's are capped, or go through an activation",
            );
        }
        let r = self.b.binary(Binary::Sub, all, fixed);
        self.typed(r, span)
    }
}
