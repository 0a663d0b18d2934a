//! Calls: functions of the library are inlined, the others are the language's own.

use super::scope::{Eval, Res, counted, fail};
use super::value::{Closure, Scope, Value};
use crate::plan::NodeId;
use std::collections::HashMap;
use std::rc::Rc;
use steer_lang::ast::{Arg, Expr, ExprKind, FnDecl, Param};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// Evaluated arguments of a call of the language's own functions, taken by name or position.
pub struct Args {
    pub function: String,
    pub span: Span,
    values: Vec<(Option<String>, Value, Span, bool)>,
}

impl Args {
    /// The argument of this name, or else at this place among the unnamed ones.
    pub fn get(&mut self, place: usize, name: &str) -> Option<(Value, Span)> {
        let by_name = self.values.iter().position(|(n, ..)| n.as_deref() == Some(name));
        let found = by_name
            .or_else(|| self.values.iter().enumerate().filter(|(_, (n, ..))| n.is_none()).nth(place).map(|(i, _)| i))?;
        let (_, value, span, used) = &mut self.values[found];
        *used = true;
        Some((value.clone(), *span))
    }

    pub fn need(&mut self, place: usize, name: &str) -> Res<(Value, Span)> {
        let function = self.function.clone();
        let span = self.span;
        self.get(place, name).map_or_else(
            || {
                fail(
                    codes::BAD_ARGUMENTS,
                    format!("`{function}` needs the argument `{name}`"),
                    span,
                    format!("`{name}` is missing"),
                )
            },
            Ok,
        )
    }

    /// An error for what no parameter took.
    pub fn finish(&self) -> Res<()> {
        match self.values.iter().find(|(.., used)| !used) {
            None => Ok(()),
            Some((name, _, span, _)) => fail(
                codes::BAD_ARGUMENTS,
                match name {
                    Some(n) => format!("`{}` has no argument `{n}`", self.function),
                    None => format!("`{}` takes fewer arguments", self.function),
                },
                *span,
                "not expected",
            ),
        }
    }
}

impl Eval<'_> {
    pub fn call(&mut self, callee: &Expr, args: &[Arg], span: Span) -> Res<Value> {
        let ExprKind::Name(name) = &callee.kind else {
            return fail(codes::WRONG_KIND, "only a function can be called", callee.span, "this is no function");
        };
        if let Some(Value::Closure(c)) = self.local(name).cloned() {
            let values = args.iter().map(|a| self.expr(&a.value)).collect::<Res<Vec<_>>>()?;
            return self.apply(&c, values, span);
        }
        let library = self.library;
        if let Some(f) = library.function(name, callee.span) {
            return self.inline(&Rc::clone(f), args, span);
        }
        if name == "chat" {
            return self.chat(args, span);
        }
        let mut args = self.evaluated(name, args, span)?;
        match self.builtin(name, &mut args)? {
            Some(v) => {
                args.finish()?;
                Ok(v)
            }
            None => Err(self.unknown_function(name, callee.span)),
        }
    }

    /// The arguments of a call of one of the language's own functions.
    pub(super) fn evaluated(&mut self, function: &str, args: &[Arg], span: Span) -> Res<Args> {
        let mut values = Vec::with_capacity(args.len());
        for a in args {
            let v = self.expr(&a.value)?;
            let v = self.settled(v);
            values.push((a.name.as_ref().map(|n| n.name.clone()), v, a.value.span, false));
        }
        Ok(Args { function: function.to_owned(), span, values })
    }

    fn unknown_function(&self, name: &str, span: Span) -> Box<Diagnostic> {
        let known = self.library.names(span).chain(super::functions::NAMES.iter().copied());
        let elsewhere = super::functions::OF_METRICS.contains(&name);
        Box::new(
            Diagnostic::error(codes::UNKNOWN_FUNCTION, format!("there is no function `{name}` here"))
                .at(span, if elsewhere { "only in a metric" } else { "not known" })
                .maybe_help(if elsewhere {
                    Some(format!(
                        "`{name}` reads the model's output: declare `metric m = {name}(...)` and `measure m on ...`"
                    ))
                } else {
                    nearest(name, known).map(|n| format!("did you mean `{n}`?"))
                }),
        )
    }

    /// Calls a closure in the scopes where it was written.
    pub fn apply(&mut self, c: &Closure, values: Vec<Value>, span: Span) -> Res<Value> {
        if values.len() != c.params.len() {
            return fail(
                codes::BAD_ARGUMENTS,
                format!("this function takes {}, not {}", counted(c.params.len(), "argument"), values.len()),
                span,
                "here",
            );
        }
        let mut scopes = c.scopes.clone();
        scopes.push(c.params.iter().map(|p| p.name.clone()).zip(values).collect());
        self.isolated(scopes, |s| s.block(&c.body))
    }

    /// Inlines a function of the library; the nodes keep its name as their origin.
    fn inline(&mut self, f: &FnDecl, args: &[Arg], span: Span) -> Res<Value> {
        let mut scope: Scope = HashMap::new();
        let mut place = 0;
        let mut given = Vec::new();
        for a in args {
            let param = match &a.name {
                Some(n) => {
                    f.params.iter().find(|p| p.name.name == n.name).ok_or_else(|| no_param(f, &n.name, n.span))?
                }
                None => {
                    place += 1;
                    f.params.get(place - 1).ok_or_else(|| {
                        Box::new(
                            Diagnostic::error(
                                codes::BAD_ARGUMENTS,
                                format!("`{}` takes {}", f.name.name, counted(f.params.len(), "argument")),
                            )
                            .at(a.value.span, "one too many")
                            .help(format!("it is declared as `{}`", signature(f))),
                        )
                    })?
                }
            };
            let v = self.expr(&a.value)?;
            self.fits(param, &v, a.value.span)?;
            given.push((v.clone(), a.value.span));
            if scope.insert(param.name.name.clone(), v).is_some() {
                return fail(
                    codes::BAD_ARGUMENTS,
                    format!("`{}` is given twice", param.name.name),
                    a.value.span,
                    "again here",
                );
            }
        }
        // Within one file a function is part of another.
        if f.name.span.file != span.file {
            self.other_site(&given);
        }
        for p in &f.params {
            if scope.contains_key(&p.name.name) {
                continue;
            }
            let Some(default) = &p.default else {
                return Err(Box::new(
                    Diagnostic::error(
                        codes::BAD_ARGUMENTS,
                        format!("`{}` needs the argument `{}`", f.name.name, p.name.name),
                    )
                    .at(span, format!("`{}` is missing", p.name.name))
                    .help(format!("it is declared as `{}`", signature(f))),
                ));
            };
            // A default knows the parameters before it, and nothing of the caller.
            let v = self.isolated(vec![scope.clone()], |s| s.expr(default))?;
            self.fits(p, &v, default.span)?;
            scope.insert(p.name.name.clone(), v);
        }
        self.b.enter(&f.name.name);
        let result = self.isolated(vec![scope], |s| s.block(&f.body));
        self.b.leave();
        // An error inside of a library function is the caller's, at the caller's place.
        result.map_err(|mut d| {
            if d.labels.iter().all(|l| l.span.file != span.file)
                && d.code != codes::REFUSED_CONFIG
                && d.code != codes::MISSING_KEY
            {
                d.labels.insert(
                    0,
                    steer_lang::diagnostic::Label { span, text: format!("in this call of `{}`", f.name.name) },
                );
                d.labels.truncate(1);
            }
            d
        })
    }

    /// The node of an argument.
    pub fn arg_node(&mut self, args: &mut Args, place: usize, name: &str) -> Res<(NodeId, Span)> {
        let (v, span) = args.need(place, name)?;
        Ok((self.node(&v, span)?, span))
    }
}

/// How a function is declared, for a diagnostic.
pub fn signature(f: &FnDecl) -> String {
    format!("{}({})", f.name.name, params_text(&f.params))
}

pub fn params_text(params: &[Param]) -> String {
    let one = |p: &Param| match &p.default {
        Some(_) => format!("{} = ...", p.name.name),
        None => p.name.name.clone(),
    };
    params.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn no_param(f: &FnDecl, name: &str, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{}` has no argument `{name}`", f.name.name))
            .at(span, "not expected")
            .help(match nearest(name, f.params.iter().map(|p| p.name.name.as_str())) {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("it is declared as `{}`", signature(f)),
            }),
    )
}
