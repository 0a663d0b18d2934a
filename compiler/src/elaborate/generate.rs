//! What `generate` says: which runs grow, and how their tokens are chosen.

use super::check::Checker;
use super::data::Record;
use super::edits::given_twice;
use super::runs::whole_text;
use super::scope::{Res, fail};
use super::script::{GenerateOptions, Metric, StatementKind};
use super::value::Value;
use std::rc::Rc;
use steer_lang::ast::{Expr, ExprKind, Generate};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

const NAMES: &[&str] =
    &["max", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "n", "score", "seed", "stop"];

/// Texts of one prompt at most.
const SAMPLES: f64 = 10_000.0;

impl Checker<'_> {
    pub(super) fn generate(&mut self, g: &Generate) -> Res<StatementKind> {
        let mut o = GenerateOptions::default();
        let mut score: Option<&Expr> = None;
        let mut samples: Option<Span> = None;
        let mut drawn: Option<(&str, Span)> = None;
        for (i, (name, value)) in g.options.iter().enumerate() {
            if g.options[..i].iter().any(|(n, _)| n.name == name.name) {
                return Err(given_twice(&name.name, name.span));
            }
            if name.name == "stop" {
                self.stop(value, &mut o)?;
                continue;
            }
            if name.name == "score" {
                score = Some(value);
                continue;
            }
            if !NAMES.contains(&name.name.as_str()) {
                return Err(unknown(&name.name, name.span));
            }
            let n = self.plain_number(value)?;
            let want = |ok: bool, what: &str| match ok {
                true => Ok(()),
                false => {
                    fail(codes::BAD_PARAMETER, format!("`{}` is {what}", name.name), value.span, format!("this is {n}"))
                }
            };
            let whole = n.fract() == 0.0;
            if let "top_k" | "top_p" | "min_p" | "seed" = &*name.name {
                drawn.get_or_insert((&name.name, name.span));
            }
            match name.name.as_str() {
                "max" => {
                    want(whole && (1.0..=1e6).contains(&n), "the number of new tokens, at least 1")?;
                    o.max = n as usize;
                }
                "temperature" => {
                    want((0.0..=100.0).contains(&n), "at least 0 (0 is greedy)")?;
                    o.temperature = n;
                }
                "top_k" => {
                    want(whole && n >= 1.0, "a number of tokens, at least 1")?;
                    o.top_k = Some(n as usize);
                }
                "top_p" => {
                    want(n > 0.0 && n <= 1.0, "a probability above 0, at most 1")?;
                    o.top_p = Some(n);
                }
                "min_p" => {
                    want((0.0..=1.0).contains(&n), "a share of the likeliest token's probability, 0 to 1")?;
                    o.min_p = Some(n);
                }
                "repetition_penalty" => {
                    want((0.01..=100.0).contains(&n), "a factor from 0.01 to 100 (1 changes nothing)")?;
                    o.repetition_penalty = Some(n);
                }
                "n" => {
                    want(whole && (1.0..=SAMPLES).contains(&n), "a number of texts, 1 to 10000")?;
                    o.samples = n as usize;
                    samples = Some(value.span);
                }
                _ => {
                    want(whole && (0.0..=9e15).contains(&n), "a whole number of at least 0")?;
                    o.seed = n as u64;
                }
            }
        }
        if let Some(span) = samples.filter(|_| o.samples > 1 && o.temperature == 0.0) {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_PARAMETER, "without a temperature all texts of a prompt are the same")
                    .at(span, format!("{} equal texts", o.samples))
                    .help("give one, such as `temperature: 1`, or leave `n` out"),
            ));
        }
        if let Some((name, span)) = drawn.filter(|_| o.temperature == 0.0) {
            self.diagnostics.push(
                Diagnostic::warning(codes::BAD_PARAMETER, format!("`{name}` changes nothing without a temperature"))
                    .at(span, "the likeliest token is taken each time")
                    .help("give one, such as `temperature: 1`, or leave it out"),
            );
        }
        if self.plan.is_whole() {
            return Err(whole_text("`generate` asks for the next token", g.run.span));
        }
        let found = self.run_expr(&g.run)?;
        self.room(g, o.max, found.runs.iter().map(|r| r.encoded.tokens.len()).max())?;
        let scores = match score {
            Some(e) => found.records.iter().map(|r| self.score(e, r.as_ref())).collect::<Res<_>>()?,
            None => Vec::new(),
        };
        Ok(StatementKind::Generate { runs: found.runs, options: o, scores })
    }

    /// What a finished text is scored by.
    fn score(&mut self, e: &Expr, record: Option<&Record>) -> Res<Rc<Metric>> {
        let metric = self.metric(e, record)?;
        if metric.value.others().is_empty() {
            return Ok(Rc::new(metric));
        }
        Err(Box::new(
            Diagnostic::error(codes::WRONG_KIND, "no other run has the tokens of a text that is still to be generated")
                .at(e.span, "this compares it with one")
                .help("score texts by what their own run gives, such as `cross_entropy()`"),
        ))
    }

    /// Whether the model has room for so many new tokens after the longest prompt.
    fn room(&self, g: &Generate, max: usize, longest: Option<usize>) -> Res<()> {
        let (Some(limit), Some(longest)) = (self.longest(), longest) else { return Ok(()) };
        // The last token that is made is not read again.
        let room = (limit.tokens + 1).saturating_sub(longest);
        if max <= room {
            return Ok(());
        }
        Err(Box::new(
            Diagnostic::error(
                codes::POSITION_RANGE,
                format!("{max} new tokens do not fit after {longest}: {}", limit.why),
            )
            .at(g.run.span, format!("room for {room}"))
            .help(if room == 0 {
                "shorten the text".to_owned()
            } else {
                format!("write `{{ max: {room} }}`, or shorten the text")
            }),
        ))
    }

    /// `true` and `false` are about the model's own ends; texts end beside them.
    fn stop(&mut self, value: &Expr, o: &mut GenerateOptions) -> Res<()> {
        let found = self.value(value)?;
        let span = value.span;
        let texts = match (&found, &value.kind) {
            (Value::Bool(ends), _) => {
                o.stop = *ends;
                return Ok(());
            }
            (Value::Number(n) | Value::Param(_, n), _) => {
                o.stop = *n != 0.0;
                return Ok(());
            }
            (Value::Text(text), _) => vec![(text.to_string(), span)],
            (Value::List(items), kind) => {
                // A list that is written here has places of its own.
                let spans = if let ExprKind::List(written) = kind { Some(written) } else { None };
                let mut texts = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    let span = spans.and_then(|s| s.get(i)).map_or(span, |e| e.span);
                    match item {
                        Value::Text(text) => texts.push((text.to_string(), span)),
                        other => return Err(no_stop(other, span)),
                    }
                }
                texts
            }
            (other, _) => return Err(no_stop(other, span)),
        };
        if let Some((_, span)) = texts.iter().find(|(text, _)| text.is_empty()) {
            return fail(codes::BAD_PARAMETER, "an empty text would end every text at once", *span, "this is empty");
        }
        o.stops = texts.into_iter().map(|(text, _)| text).collect();
        Ok(())
    }
}

fn no_stop(found: &Value, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::BAD_PARAMETER, format!("`stop` is true, false, or texts, not {}", found.kind()))
            .at(span, "no text")
            .help("write `stop: false`, or texts before which to end: `stop: [\"\\n\\n\", \"User:\"]`"),
    )
}

fn unknown(name: &str, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::BAD_ARGUMENTS, format!("`generate` has no option `{name}`"))
            .at(span, "not known")
            .help(match nearest(name, NAMES.iter().copied()) {
                Some(n) => format!("did you mean `{n}`?"),
                None => format!("there are {}", NAMES.join(", ")),
            }),
    )
}
