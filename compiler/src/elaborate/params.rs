//! Parameters of scripts, metrics, hooks and functions: their types and bounds.

use super::scope::{Eval, Res, fail};
use super::script::EditParam;
use super::value::Value;
use steer_lang::ast::{Expr, Param, ParamType};
use steer_lang::{Span, codes};

impl Eval<'_> {
    /// Whether a value is what a parameter says that it is. A value of the model is a number, whose
    /// bounds nobody knows before it is computed.
    pub fn fits(&mut self, p: &Param, value: &Value, span: Span) -> Res<()> {
        let bounds = self.bounds(p)?;
        let Some(ty) = p.ty.map(|(t, _)| t).or(bounds.map(|_| ParamType::Number)) else { return Ok(()) };
        let computed = matches!(value, Value::Node(_) | Value::Tensor(_));
        let fits = match (value, ty) {
            (Value::Text(_), ParamType::Text) | (Value::Bool(_), ParamType::Bool) => true,
            (v, ParamType::Number) => v.as_number().is_some() || computed && bounds.is_none(),
            (v, ParamType::Integer) => v.as_number().is_some_and(|n| n.fract() == 0.0),
            _ => false,
        };
        if !fits {
            let this = value.as_number().map_or_else(|| value.kind().to_owned(), |n| n.to_string());
            let within = if computed && bounds.is_some() { " within bounds, known before the model runs" } else { "" };
            return fail(
                codes::BAD_PARAMETER,
                format!("`{}` is {}{within}", p.name.name, type_name(ty)),
                span,
                format!("this is {this}"),
            );
        }
        match (bounds, value.as_number()) {
            (Some((lo, hi)), Some(n)) if !(lo..=hi).contains(&n) => fail(
                codes::BAD_PARAMETER,
                format!("{n} is outside of the bounds of `{}`", p.name.name),
                span,
                format!("from {lo} to {hi}"),
            ),
            _ => Ok(()),
        }
    }

    pub fn bounds(&mut self, p: &Param) -> Res<Option<(f64, f64)>> {
        let Some((lo, hi)) = &p.bounds else { return Ok(None) };
        if let Some((ty @ (ParamType::Bool | ParamType::Text), _)) = p.ty {
            return fail(
                codes::BAD_PARAMETER,
                format!("only numbers have bounds, and `{}` is {}", p.name.name, type_name(ty)),
                lo.span.to(hi.span),
                "the bounds",
            );
        }
        let (a, b) = (self.plain_number(lo)?, self.plain_number(hi)?);
        if a > b {
            return fail(
                codes::BAD_PARAMETER,
                format!("nothing lies between {a} and {b}"),
                lo.span.to(hi.span),
                "the bounds",
            );
        }
        Ok(Some((a, b)))
    }

    /// A number that the compiler knows.
    pub fn plain_number(&mut self, e: &Expr) -> Res<f64> {
        let v = self.expr(e)?;
        match v.as_number() {
            Some(n) => Ok(n),
            None => fail(codes::WRONG_KIND, format!("a number is wanted, not {}", v.kind()), e.span, "this"),
        }
    }
}

/// Whether the argument of an edit is what its parameter says that it is.
pub(super) fn check_value(p: &EditParam, v: f64, span: Span) -> Res<()> {
    if p.integer && v.fract() != 0.0 {
        return fail(codes::BAD_PARAMETER, format!("`{}` is a whole number", p.name), span, format!("this is {v}"));
    }
    if p.boolean && v != 0.0 && v != 1.0 {
        return fail(codes::BAD_PARAMETER, format!("`{}` is true or false", p.name), span, format!("this is {v}"));
    }
    if let Some((lo, hi)) = p.bounds
        && !(lo..=hi).contains(&v)
    {
        return fail(
            codes::BAD_PARAMETER,
            format!("{v} is outside of the bounds of `{}`", p.name),
            span,
            format!("from {lo} to {hi}"),
        );
    }
    Ok(())
}

pub fn type_name(ty: ParamType) -> &'static str {
    match ty {
        ParamType::Number => "a number",
        ParamType::Integer => "a whole number",
        ParamType::Bool => "true or false",
        ParamType::Text => "a text",
    }
}

/// What `--set name=text` gives.
pub fn parse_value(text: &str, ty: ParamType) -> Option<Value> {
    match ty {
        ParamType::Text => Some(Value::text(text)),
        ParamType::Bool => text.parse().ok().map(Value::Bool),
        ParamType::Number => text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::Number),
        ParamType::Integer => text.parse::<i64>().ok().map(|n| Value::Number(n as f64)),
    }
}
