//! Functions that mix the rows of a sequence, whose bodies may declare sites.

use super::builtins::{function_of, single_axis};
use super::call::Args;
use super::scope::{Eval, Res, fail};
use super::value::Value;
use crate::plan::NodeId;
use steer_lang::{Span, codes};

impl Eval<'_> {
    pub(super) fn attend(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (q, _) = self.arg_node(args, 0, "q")?;
        let (k, _) = self.arg_node(args, 1, "k")?;
        let (v, _) = self.arg_node(args, 2, "v")?;
        let (scale, at) = args.need(3, "scale")?;
        let scale = self.number(&scale, at)? as f32;
        let window = match args.need(4, "window")? {
            (Value::None, _) => None,
            (v, at) => Some(self.number(&v, at)?.max(1.0) as usize),
        };
        let (body, at) = args.need(5, "body")?;
        let body = function_of(body, "attend", "scores", at)?;
        let causal = match args.get(6, "causal") {
            None => true,
            Some((Value::Bool(causal), _)) => causal,
            Some((other, at)) => {
                return fail(codes::WRONG_KIND, format!("`causal` is true or false, not {}", other.kind()), at, "this");
            }
        };
        if window.is_some() && !causal {
            return fail(codes::WRONG_KIND, "a window is of causal attention", span, "this sees all rows");
        }
        let begun = self.b.attention_over((q, k, v), scale, window, !causal);
        let open = self.typed(begun, span)?;
        let pattern = self.apply(&body, vec![Value::Node(open.scores)], span)?;
        let pattern = self.node(&pattern, span)?;
        let r = self.b.attention_end(open, pattern);
        Ok(Value::Node(self.typed(r, span)?))
    }

    pub(super) fn scan(&mut self, args: &mut Args, span: Span) -> Res<Value> {
        let (axes, at) = args.need(0, "state")?;
        let Value::List(items) = axes else {
            return fail(codes::WRONG_KIND, "the state's axes are a list", at, "this is none");
        };
        let mut state = Vec::new();
        for i in items.iter() {
            state.push(single_axis(i, at)?);
        }
        let (body, at) = args.need(1, "body")?;
        let body = function_of(body, "scan", "state", at)?;
        let begun = self.b.scan_begin(state);
        let open = self.typed(begun, span)?;
        let (new, out) = match self.apply(&body, vec![Value::Node(open.state)], span)? {
            Value::List(items) if items.len() == 2 => (self.node(&items[0], span)?, self.node(&items[1], span)?),
            other => {
                return fail(
                    codes::WRONG_KIND,
                    "the body of `scan` gives [new state, result]",
                    at,
                    format!("this gives {}", other.kind()),
                );
            }
        };
        let r = self.b.scan_end(open, new, out);
        Ok(Value::Node(self.typed(r, span)?))
    }

    /// A convolution with a function of the window that each row sees.
    pub(super) fn convolve(&mut self, x: NodeId, w: NodeId, body: Value, at: Span, span: Span) -> Res<Value> {
        let body = function_of(body, "conv1d", "window", at)?;
        let Some(tap) = self.plan().ty(w).axes.last().cloned() else {
            return fail(codes::WRONG_KIND, "filters have the taps as their last axis", span, "these have no axis");
        };
        let begun = self.b.convolve_begin(x, tap);
        let open = self.typed(begun, span)?;
        let seen = self.apply(&body, vec![Value::Node(open.window)], span)?;
        let seen = self.node(&seen, at)?;
        let r = self.b.convolve_end(open, seen, w);
        Ok(Value::Node(self.typed(r, span)?))
    }
}
