//! Metrics: numbers read from a model's output.

use super::check::Checker;
use super::data::{Record, record_value};
use super::edits::given_twice;
use super::functions::OF_METRICS;
use super::positions::{Interval, RowSet};

use super::reads::{Lens, RowRead, SitePath, site_path, visit};
use super::runs::whole_text;
use super::scope::{Res, counted, fail, silent};
use super::script::{Metric, MetricExpr, RunSpec};
use super::value::{Scope, Value};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use steer_lang::ast::{Arg, BinaryOp, Expr, ExprKind, MetricDecl, UnaryOp};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// The name under which a metric knows the example that it measures; no script can write it.
const EXAMPLE: &str = "the example";

/// A metric has at most so many parts, and is made from others at most so deep.
const PARTS: usize = 1 << 14;
const DEPTH: usize = 100;

/// Functions of numbers.
const PLAIN: &[&str] = &["exp", "log", "sqrt", "abs"];

/// A function as it is called.
fn how_to_call(name: &str) -> Option<&'static str> {
    Some(match name {
        "logit" => "logit(\" Mary\")",
        "log_prob" => "log_prob(\" Mary\")",
        "prob" => "prob(\" Mary\")",
        "rank" => "rank(\" Mary\")",
        "kl" => "kl(run)",
        "cross_entropy" => "cross_entropy()",
        _ => return None,
    })
}

impl Checker<'_> {
    /// An entry of `measure`: a declared metric, a call of one with parameters, or an expression. A
    /// parameter that is not given is the example that is measured.
    pub fn metric(&mut self, e: &Expr, record: Option<&Record>) -> Res<Metric> {
        self.parts = 0;
        let mut scope: Scope = self.locals.iter().cloned().collect();
        if let Some(r) = record {
            scope.insert(EXAMPLE.to_owned(), record_value(r));
        }
        let metric = self.metric_in(e, &scope);
        let metric = self.not_too_long(metric, e.span)?;
        if self.plan.is_whole() && !self.is_placed(e) && metric.value.reads_logits() {
            return Err(Box::new(
                Diagnostic::error(
                    codes::WHOLE_TEXT,
                    "of a model that reads its text as a whole no position stands for the next token",
                )
                .at(e.span, "at which position?")
                .help(format!("say it, as in `metric m = {} at matching \"[MASK]\"`", self.text_of(e.span))),
            ));
        }
        let mut reads = false;
        metric.value.visit(&mut |part| {
            let plain = matches!(
                part,
                MetricExpr::Number(_) | MetricExpr::Neg(_) | MetricExpr::Call(..) | MetricExpr::Binary(..)
            );
            reads |= !plain;
        });
        if !reads {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "nothing of the model is measured here")
                    .at(e.span, "the same number for every run")
                    .help("`print` shows a number"),
            ));
        }
        Ok(metric)
    }

    /// Whether an entry of `measure` is a metric that says where it is taken.
    fn is_placed(&self, e: &Expr) -> bool {
        let name = match &e.kind {
            ExprKind::Call(f, _) => &f.kind,
            other => other,
        };
        let ExprKind::Name(name) = name else { return false };
        self.metrics.get(name).is_some_and(|m| m.at.is_some())
    }

    /// The error where a metric has too many parts, which counting them ended with.
    pub(super) fn not_too_long<T>(&self, found: Res<T>, span: Span) -> Res<T> {
        if self.parts <= PARTS {
            return found;
        }
        Err(Box::new(
            Diagnostic::error(codes::WRONG_KIND, format!("this metric has more than {PARTS} parts"))
                .at(span, "with those of the metrics that it is made from")
                .help("write what occurs twice as a factor: `2 * m` in place of `m + m`"),
        ))
    }

    /// The same where arguments of an outer metric have names.
    fn metric_in(&mut self, e: &Expr, outer: &Scope) -> Res<Metric> {
        let (name, args): (&str, &[steer_lang::ast::Arg]) = match &e.kind {
            ExprKind::Name(n) => (n, &[]),
            ExprKind::Call(f, args) => match &f.kind {
                ExprKind::Name(n) => (n, args),
                _ => ("", &[]),
            },
            _ => ("", &[]),
        };
        if self.broken(name) && self.metrics.contains_key(name) {
            return Err(silent());
        }
        if let Some(decl) = self.metrics.get(name).cloned() {
            let scope = self.metric_args(&decl, args, outer, e.span)?;
            if self.resolving.iter().any(|r| r == name) {
                return fail(codes::UNKNOWN_NAME, format!("the metric `{name}` is made from itself"), e.span, "here");
            }
            if self.resolving.len() >= DEPTH {
                return fail(
                    codes::WRONG_KIND,
                    format!("metrics are made from one another more than {DEPTH} deep"),
                    e.span,
                    "here",
                );
            }
            self.resolving.push(name.to_owned());
            let value = self.metric_expr(&decl.value, &scope);
            self.resolving.pop();
            let value = value?;
            let at = match &decl.at {
                Some(s) => self.with_names(&scope, |c| c.selection(Some(s)))?,
                None => default_positions(&value),
            };
            let name = self.text_of(e.span);
            let maybe = decl.at.as_ref().is_some_and(|s| s.maybe);
            let by_end = at.from_the_end();
            let at = if reads_next(&value) && decl.at.is_some() { with_next(at) } else { at };
            return Ok(Metric { name, value: aligned(value, by_end), at, maybe });
        }
        if let ExprKind::Name(n) = &e.kind
            && !self.reads_a_site(e, outer)
        {
            if let Some(call) = how_to_call(n) {
                return Err(Box::new(
                    Diagnostic::error(
                        codes::BAD_ARGUMENTS,
                        format!("`{n}` is a function, and is called with parentheses"),
                    )
                    .at(e.span, "not called")
                    .help(format!("write `{call}`")),
                ));
            }
            let near = nearest(n, self.metrics.keys().map(String::as_str).chain(OF_METRICS.iter().copied()));
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no metric `{n}`"))
                    .at(e.span, "not declared")
                    .help(match near {
                        Some(m) => format!("did you mean `{}`?", how_to_call(m).unwrap_or(m)),
                        None => format!("declare it: `metric {n} = logit(\" Mary\") - logit(\" John\") at seq[-1]`"),
                    }),
            ));
        }
        let value = self.metric_expr(e, outer)?;
        let at = default_positions(&value);
        Ok(Metric { name: self.text_of(e.span), value: aligned(value, at.from_the_end()), at, maybe: false })
    }

    fn metric_args(
        &mut self,
        decl: &MetricDecl,
        args: &[steer_lang::ast::Arg],
        outer: &Scope,
        span: Span,
    ) -> Res<Scope> {
        let mut scope = HashMap::new();
        for (i, a) in args.iter().enumerate() {
            let param = match &a.name {
                Some(n) => decl.params.iter().find(|p| p.name.name == n.name),
                None => decl.params.get(i),
            };
            let Some(p) = param else {
                return fail(
                    codes::BAD_ARGUMENTS,
                    format!("the metric `{}` takes {}", decl.name.name, counted(decl.params.len(), "argument")),
                    a.value.span,
                    "not expected",
                );
            };
            let v = self.value_in(&a.value, outer)?;
            self.fits(p, &v, a.value.span)?;
            if scope.insert(p.name.name.clone(), v).is_some() {
                return Err(given_twice(&p.name.name, a.value.span));
            }
        }
        if let Some(example) = outer.get(EXAMPLE) {
            scope.insert(EXAMPLE.to_owned(), example.clone());
        }
        for p in &decl.params {
            if scope.contains_key(&p.name.name) {
                continue;
            }
            let Some(default) = &p.default else {
                if let Some(example) = outer.get(EXAMPLE) {
                    scope.insert(p.name.name.clone(), example.clone());
                    continue;
                }
                return fail(
                    codes::BAD_ARGUMENTS,
                    format!("the metric `{}` needs the argument `{}`", decl.name.name, p.name.name),
                    span,
                    "missing",
                );
            };
            let v = self.value_in(default, &Scope::new())?;
            self.fits(p, &v, default.span)?;
            scope.insert(p.name.name.clone(), v);
        }
        Ok(scope)
    }

    pub fn metric_expr(&mut self, e: &Expr, scope: &Scope) -> Res<MetricExpr> {
        self.parts += 1;
        if self.parts > PARTS {
            return Err(silent());
        }
        match &e.kind {
            ExprKind::Number(n) => Ok(MetricExpr::Number(*n)),
            _ if self.reads_a_site(e, scope) => self.row_metric(e, scope),
            ExprKind::Name(n) => {
                if let Some(v) = scope.get(n).cloned().or_else(|| self.globals.get(n).cloned()) {
                    return match v.as_number() {
                        Some(x) => Ok(MetricExpr::Number(x)),
                        None if matches!(v, Value::Broken) => Err(silent()),
                        None => {
                            fail(codes::WRONG_KIND, format!("a number is wanted, not {}", v.kind()), e.span, "this")
                        }
                    };
                }
                self.metric_in(e, scope).map(|m| m.value)
            }
            ExprKind::Field(..) => match self.value_in(e, scope)? {
                Value::Absent(path) => {
                    fail(codes::UNKNOWN_NAME, format!("{path} is not there"), e.span, "no such field")
                }
                v => match v.as_number() {
                    Some(x) => Ok(MetricExpr::Number(x)),
                    None => fail(codes::WRONG_KIND, format!("a number is wanted, not {}", v.kind()), e.span, "this"),
                },
            },
            ExprKind::Unary(UnaryOp::Neg, a) => Ok(MetricExpr::Neg(Box::new(self.metric_expr(a, scope)?))),
            ExprKind::Binary(op, a, b) if is_of_numbers(*op) => {
                let a = self.metric_expr(a, scope)?;
                let b = self.metric_expr(b, scope)?;
                Ok(MetricExpr::Binary(*op, Box::new(a), Box::new(b)))
            }
            ExprKind::Call(f, args) => {
                let ExprKind::Name(name) = &f.kind else {
                    return fail(codes::WRONG_KIND, "only a function can be called", f.span, "this is none");
                };
                if self.metrics.contains_key(name) {
                    return self.metric_in(e, scope).map(|m| m.value);
                }
                if name == "cross_entropy" && self.plan.is_whole() {
                    return Err(whole_text("`cross_entropy` is of the next token", e.span));
                }
                if name == "cross_entropy" && args.is_empty() {
                    return Ok(MetricExpr::CrossEntropy);
                }
                let known = OF_METRICS.contains(&name.as_str()) || PLAIN.contains(&name.as_str());
                if !known {
                    let all = OF_METRICS.iter().chain(PLAIN).copied();
                    return Err(Box::new(
                        Diagnostic::error(codes::UNKNOWN_FUNCTION, format!("a metric has no function `{name}`"))
                            .at(f.span, "not known here")
                            .help(match nearest(name, all) {
                                Some(n) => format!("did you mean `{n}`?"),
                                None => format!("there are {}", OF_METRICS.join(", ")),
                            }),
                    ));
                }
                if name == "cross_entropy" {
                    return fail(
                        codes::BAD_ARGUMENTS,
                        "`cross_entropy` takes no argument",
                        e.span,
                        "it reads the text",
                    );
                }
                let (named, args): (Vec<&Arg>, Vec<&Arg>) = args.iter().partition(|a| a.name.is_some());
                let [arg] = &args[..] else {
                    return fail(codes::BAD_ARGUMENTS, format!("`{name}` takes one argument"), e.span, "here");
                };
                let lens = self.lens_of(name, &named, scope)?;
                if let Some(plain) = PLAIN.iter().find(|p| *p == name) {
                    return Ok(MetricExpr::Call(plain, Box::new(self.metric_expr(&arg.value, scope)?)));
                }
                if name == "kl" {
                    let run = self.with_names(scope, |c| c.one_run(&arg.value))?;
                    return Ok(MetricExpr::Kl(Box::new(run), false));
                }
                let token = self.metric_token(&arg.value, scope)?;
                Ok(match name.as_str() {
                    "logit" => MetricExpr::Logit(token, lens),
                    "log_prob" => MetricExpr::LogProb(token, lens),
                    "prob" => MetricExpr::Prob(token, lens),
                    _ => MetricExpr::Rank(token, lens),
                })
            }
            _ => fail(codes::WRONG_KIND, "a metric is arithmetic over what the model gives", e.span, "not in a metric"),
        }
    }

    /// `of = site` and `norm = false` of a function of the logits.
    fn lens_of(&mut self, function: &str, args: &[&Arg], scope: &Scope) -> Res<Option<Rc<Lens>>> {
        let mut lens: Option<Lens> = None;
        let mut norm = None;
        for a in args {
            let name = a.name.as_ref().map_or("", |n| n.name.as_str());
            match name {
                "of" => {
                    let read = RowRead::new(a.value.clone(), self.names_of(&a.value, scope));
                    lens = Some(Lens { read, norm: true });
                }
                "norm" => match self.value_in(&a.value, scope)? {
                    Value::Bool(b) => norm = Some((b, a.value.span)),
                    v => {
                        let kind = v.kind();
                        return fail(
                            codes::WRONG_KIND,
                            "`norm` is true or false",
                            a.value.span,
                            format!("this is {kind}"),
                        );
                    }
                },
                _ => {
                    return fail(
                        codes::BAD_ARGUMENTS,
                        format!("`{function}` has no argument `{name}`"),
                        a.value.span,
                        "it has `of` and `norm`",
                    );
                }
            }
        }
        match (lens, norm) {
            (Some(l), n) => Ok(Some(Rc::new(Lens { norm: n.is_none_or(|n| n.0), ..l }))),
            (None, Some((_, span))) => fail(codes::BAD_ARGUMENTS, "`norm` goes with `of`", span, "of which site?"),
            (None, None) => Ok(None),
        }
    }

    /// Whether an expression is one over sites and nothing else that only a metric knows.
    fn reads_a_site(&self, e: &Expr, scope: &Scope) -> bool {
        let (mut site, mut other) = (false, false);
        visit(e, &mut |e| {
            match site_path(e) {
                Some(SitePath::Block(..) | SitePath::Foreign(_)) => {
                    site = true;
                    return false;
                }
                Some(SitePath::Dotted(root, rest)) if matches!(scope.get(root), Some(Value::Block(_))) => {
                    site |= !rest.is_empty();
                    return false;
                }
                Some(SitePath::Dotted(root, rest)) if !scope.contains_key(root) => {
                    let block = match self.globals.get(root) {
                        Some(Value::Block(_)) => !rest.is_empty(),
                        Some(Value::Record(..)) => rest == "site",
                        _ => false,
                    };
                    let name = if rest.is_empty() { root.to_owned() } else { format!("{root}.{rest}") };
                    let known = self.globals.contains_key(root) || self.metrics.contains_key(root);
                    site |= block || (!known && self.site_names.contains(&name));
                    other |= rest.is_empty() && self.metrics.contains_key(root);
                    return false;
                }
                _ => {}
            }
            if let ExprKind::Call(f, _) = &e.kind
                && let ExprKind::Name(n) = &f.kind
            {
                other |= OF_METRICS.contains(&n.as_str()) || self.metrics.contains_key(n);
            }
            true
        });
        site && !other
    }

    fn row_metric(&mut self, e: &Expr, scope: &Scope) -> Res<MetricExpr> {
        let names = self.names_of(e, scope);
        Ok(MetricExpr::Row(Rc::new(RowRead::new(self.with_tokens(e, scope)?, names))))
    }

    /// What the names of an expression stand for, as far as they are not the model's or the script's own.
    fn names_of(&self, e: &Expr, scope: &Scope) -> BTreeMap<String, Value> {
        let mut names = BTreeMap::new();
        visit(e, &mut |e| {
            if let ExprKind::Name(n) = &e.kind
                && let Some(v) = scope.get(n)
            {
                names.insert(n.clone(), v.clone());
            }
            true
        });
        names
    }

    pub(super) fn one_run(&mut self, e: &Expr) -> Res<RunSpec> {
        let runs = self.subject(e, &[])?;
        match <[RunSpec; 1]>::try_from(runs.runs) {
            Ok([run]) => Ok(run),
            Err(_) => fail(codes::WRONG_KIND, "one run is wanted, not a data set", e.span, "this is a data set"),
        }
    }

    /// A value that may name arguments of a metric.
    fn value_in(&mut self, e: &Expr, scope: &Scope) -> Res<Value> {
        self.with_names(scope, |c| c.value(e))
    }

    /// Runs `f` where these names are known and no others but the script's own.
    fn with_names<T>(&mut self, scope: &Scope, f: impl FnOnce(&mut Self) -> T) -> T {
        let names = scope.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let outer = std::mem::replace(&mut self.locals, names);
        let result = f(self);
        self.locals = outer;
        result
    }

    /// A token by its text or number.
    pub(super) fn metric_token(&mut self, e: &Expr, scope: &Scope) -> Res<u32> {
        if let ExprKind::Name(n) = &e.kind
            && !scope.contains_key(n)
            && !self.globals.contains_key(n)
            && self.host.single_token(&format!(" {n}")).is_some_and(|t| t.is_ok())
            && self.value(e).is_err()
        {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_NAME, format!("nothing here is called `{n}`"))
                    .at(e.span, "not declared")
                    .help(format!("a token is a text: write `\" {n}\"`")),
            ));
        }
        let v = self.value_in(e, scope)?;
        match &v {
            Value::Text(text) => match self.host.single_token(text) {
                None => Ok(0),
                Some(Ok(t)) => self.token_in_vocab(f64::from(t), e.span),
                Some(Err(pieces)) => Err(self.not_one_token(text, &pieces, e.span)),
            },
            Value::Absent(path) => fail(codes::UNKNOWN_NAME, format!("{path} is not there"), e.span, "no such field"),
            _ => {
                let n = v.as_number();
                match n {
                    Some(n) => self.token_in_vocab(n, e.span),
                    None => fail(
                        codes::WRONG_KIND,
                        format!("a token is a text or a number, not {}", v.kind()),
                        e.span,
                        "this",
                    ),
                }
            }
        }
    }

    fn not_one_token(&self, text: &str, pieces: &[String], span: Span) -> Box<Diagnostic> {
        let shown: Vec<String> = pieces.iter().take(8).map(|p| format!("{p:?}")).collect();
        let more = if pieces.len() > shown.len() { " ..." } else { "" };
        // A piece of a character has no text of its own.
        let partial = pieces.iter().all(|p| p.contains(char::REPLACEMENT_CHARACTER));
        let label = match pieces {
            [] => "it has no tokens".to_owned(),
            [one] => format!("it is read as {one:?}, which stands for all that the vocabulary lacks"),
            _ if partial => format!("it is {} tokens, each a part of a character", pieces.len()),
            _ => format!("it is {} tokens: {}{more}", pieces.len(), shown.join(" ")),
        };
        let spaced = format!(" {text}");
        let help = match (self.host.single_token(&spaced), pieces) {
            (Some(Ok(_)), _) => Some(format!("inside of a text words mostly begin with a space: try {spaced:?}")),
            (_, [_, _, ..]) if partial => {
                Some("a token that is no text of its own is named by its number: `steer tokens` shows it".to_owned())
            }
            (_, [first, _, ..]) => Some(format!("name one of them, such as the first: {first:?}")),
            _ => None,
        };
        Box::new(
            Diagnostic::error(codes::NOT_ONE_TOKEN, format!("{text:?} is not one token"))
                .at(span, label)
                .maybe_help(help),
        )
    }

    fn token_in_vocab(&self, n: f64, span: Span) -> Res<u32> {
        let vocab = self.vocab();
        if n < 0.0 || n.fract() != 0.0 || vocab.is_some_and(|v| n >= v as f64) {
            return fail(
                codes::OUT_OF_RANGE,
                format!("there is no token {n}"),
                span,
                format!("the model has {}", vocab.unwrap_or(0)),
            );
        }
        Ok(n as u32)
    }
}

/// Operators that metrics know: those of numbers.
fn is_of_numbers(op: BinaryOp) -> bool {
    use BinaryOp::{Add, Div, Eq, Ge, Gt, Le, Lt, Mul, Ne, Pow, Sub};
    matches!(op, Add | Sub | Mul | Div | Pow | Lt | Le | Gt | Ge | Eq | Ne)
}

/// A metric whose comparisons with other runs are at the same position, or at the one as far from the end.
fn aligned(value: MetricExpr, by_end: bool) -> MetricExpr {
    let one = |a: Box<MetricExpr>| Box::new(aligned(*a, by_end));
    match value {
        MetricExpr::Kl(run, _) => MetricExpr::Kl(run, by_end),
        MetricExpr::Neg(a) => MetricExpr::Neg(one(a)),
        MetricExpr::Call(f, a) => MetricExpr::Call(f, one(a)),
        MetricExpr::Binary(op, a, b) => MetricExpr::Binary(op, one(a), one(b)),
        other => other,
    }
}

/// The last position; for a cross-entropy all that have a next token.
fn default_positions(value: &MetricExpr) -> RowSet {
    if reads_next(value) { with_next(RowSet::All) } else { RowSet::Seq(vec![Interval::At(-1)]) }
}

/// Whether it is of the sequence's own next token.
fn reads_next(value: &MetricExpr) -> bool {
    let mut next = false;
    value.visit(&mut |m| next |= matches!(m, MetricExpr::CrossEntropy));
    next
}

/// Those of some positions that have a next token.
fn with_next(at: RowSet) -> RowSet {
    let have = RowSet::Seq(vec![Interval::Range(None, Some(-1))]);
    if at == RowSet::All { have } else { RowSet::And(Box::new(at), Box::new(have)) }
}
