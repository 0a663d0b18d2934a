//! Runs and statements: which sequences under which edits, and what is done with them.

use super::chat::{ASSISTANT, Prompt, Written, role_misfit};
use super::check::{Checker, check_value};
use super::positions::{Misfit, RowSet, Sequence};
use super::scope::{Eval, Res, fail, silent};
use super::script::{
    EditBody, GenerateOptions, MeasureRuns, MetricExpr, PrintItem, RunSpec, Statement, StatementKind, Use,
};
use super::value::Value;
use crate::plan::{Op, Output, Size};
use std::rc::Rc;
use steer_lang::ast::{EditUse, Expr, ExprKind, Generate, Ident, Item, ItemKind, RunExpr};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

impl Checker<'_> {
    pub(super) fn statement(&mut self, item: &Item) -> Res<Option<StatementKind>> {
        Ok(Some(match &item.kind {
            ItemKind::Generate(g) => self.generate(g)?,
            ItemKind::Measure(m) => {
                let metrics = m.metrics.iter().map(|e| self.metric(e)).collect();
                let metrics = self.gather(metrics);
                let runs = m.on.iter().map(|r| self.run_expr(r)).collect();
                let runs = self.gather(runs);
                let (metrics, runs) = self.both(metrics, runs)?;
                StatementKind::Measure { mean: m.mean, metrics, runs }
            }
            ItemKind::Capture(c) => {
                let mut sites = Vec::new();
                for path in &c.at {
                    sites.extend(self.sites(path, None)?.into_iter().map(|n| n.name));
                }
                let on = self.selection(c.on.as_ref())?;
                let runs = self.run_expr(&c.of)?.runs;
                StatementKind::Capture { sites, before: c.before, on, runs, to: c.to.value.clone() }
            }
            ItemKind::Print(items) => {
                StatementKind::Print(items.iter().map(|e| self.print(e)).collect::<Res<Vec<_>>>()?)
            }
            _ => return Ok(None),
        }))
    }

    /// All of them, or the first error; further ones are reported.
    fn gather<T>(&mut self, found: Vec<Res<T>>) -> Res<Vec<T>> {
        let mut all = Ok(Vec::new());
        for one in found {
            all = match (all, one) {
                (Ok(mut all), Ok(one)) => {
                    all.push(one);
                    Ok(all)
                }
                (Ok(_), Err(d)) => Err(d),
                (Err(d), Ok(_)) => Err(d),
                (Err(d), Err(more)) => {
                    self.diagnostics.push(*more);
                    Err(d)
                }
            };
        }
        all
    }

    /// Both, or the first error; a second one is reported.
    fn both<A, B>(&mut self, a: Res<A>, b: Res<B>) -> Res<(A, B)> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(d), Err(more)) => {
                self.diagnostics.push(*more);
                Err(d)
            }
            (Err(d), _) | (_, Err(d)) => Err(d),
        }
    }

    fn generate(&mut self, g: &Generate) -> Res<StatementKind> {
        let mut o = GenerateOptions::default();
        const NAMES: &[&str] = &["max", "temperature", "top_k", "top_p", "seed", "stop"];
        for (name, value) in &g.options {
            let n = self.plain_or_bool(value)?;
            let span = value.span;
            let want = |ok: bool, what: &str| {
                if ok {
                    Ok(())
                } else {
                    fail(codes::BAD_PARAMETER, format!("`{}` is {what}", name.name), span, format!("this is {n}"))
                }
            };
            let whole = n.fract() == 0.0;
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
                "seed" => {
                    want(whole && (0.0..=9e15).contains(&n), "a whole number of at least 0")?;
                    o.seed = n as u64;
                }
                "stop" => o.stop = n != 0.0,
                other => {
                    return Err(Box::new(
                        Diagnostic::error(codes::BAD_ARGUMENTS, format!("`generate` has no option `{other}`"))
                            .at(name.span, "not known")
                            .help(match nearest(other, NAMES.iter().copied()) {
                                Some(n) => format!("did you mean `{n}`?"),
                                None => format!("there are {}", NAMES.join(", ")),
                            }),
                    ));
                }
            }
        }
        let runs = self.run_expr(&g.run)?.runs;
        if let (Some(places), Some(longest)) = (self.places(), runs.iter().map(|r| r.encoded.tokens.len()).max()) {
            // The last token that is made is not read again.
            let room = (places + 1).saturating_sub(longest);
            if o.max > room {
                return Err(Box::new(
                    Diagnostic::error(
                        codes::POSITION_RANGE,
                        format!("{} new tokens do not fit after {longest}: the model has {places} positions", o.max),
                    )
                    .at(g.run.span, format!("room for {room}"))
                    .help(if room == 0 {
                        "shorten the text".to_owned()
                    } else {
                        format!("write `{{ max: {room} }}`, or shorten the text")
                    }),
                ));
            }
        }
        Ok(StatementKind::Generate { runs, options: o })
    }

    /// How many positions a model has that looks them up in a table.
    fn places(&self) -> Option<usize> {
        self.plan
            .nodes
            .iter()
            .filter_map(|n| match n.op {
                Op::Lookup { table, index } if self.plan.nodes[index.0 as usize].op == Op::Position => self
                    .plan
                    .ty(table)
                    .axes
                    .first()
                    .and_then(|a| if let Size::Fixed(n) = a.size { Some(n) } else { None }),
                _ => None,
            })
            .min()
    }

    fn print(&mut self, e: &Expr) -> Res<PrintItem> {
        if let ExprKind::Text(_) = e.kind
            && let Value::Text(t) = self.value(e)?
        {
            return Ok(PrintItem::Text(t.to_string()));
        }
        let label = self.text_of(e.span);
        if let ExprKind::Name(n) = &e.kind
            && let Some(prompt) = self.prompts.get(n)
        {
            return Ok(PrintItem::Text(self.prompt_text(prompt)?));
        }
        let (model, axes) = (Rc::clone(&self.model), self.axes.clone());
        let mut eval = Eval::new(&model.library, &model.config, &self.tensor_types, &self.globals, "print");
        eval.axes = axes;
        eval.layers = Some(self.layers);
        let v = eval.expr(e)?;
        match &v {
            Value::Text(t) => Ok(PrintItem::Text(t.to_string())),
            Value::Bool(b) => Ok(PrintItem::Text(b.to_string())),
            Value::Chat(_) | Value::Data(_) | Value::List(_) if Self::as_prompts(&v).is_some() => {
                let prompts = Self::as_prompts(&v).unwrap_or_default();
                let texts = prompts.iter().map(|p| self.prompt_text(p)).collect::<Res<Vec<_>>>()?;
                Ok(PrintItem::Text(texts.join("\n")))
            }
            _ => {
                let node = eval.node(&v, e.span)?;
                eval.b.plan.outputs.push(Output { name: label.clone(), node });
                Ok(PrintItem::Value { label, plan: eval.b.finish() })
            }
        }
    }

    pub(super) fn run_expr(&mut self, r: &RunExpr) -> Res<MeasureRuns> {
        self.subject(&r.subject, &r.with)
    }

    /// The runs of a prompt, data set, named run or text, with edits added.
    pub(super) fn subject(&mut self, e: &Expr, with: &[EditUse]) -> Res<MeasureRuns> {
        let uses = with.iter().map(|u| self.edit_use(u)).collect();
        let uses = self.gather(uses);
        let found = self.without_edits(e);
        let (uses, MeasureRuns { mut label, mut runs }) = self.both(uses, found)?;
        for run in &mut runs {
            run.uses.extend(uses.iter().cloned());
        }
        if !with.is_empty() {
            let names: Vec<String> = with.iter().map(|u| self.text_of(u.span)).collect();
            let names = format!(" with {}", names.join(", "));
            runs.iter_mut().for_each(|r| r.label += &names);
            label += &names;
        }
        Ok(MeasureRuns { label, runs })
    }

    fn without_edits(&mut self, e: &Expr) -> Res<MeasureRuns> {
        let mut label = self.text_of(e.span);
        let runs = match &e.kind {
            ExprKind::Name(name) => self.named(name, e.span)?,
            _ => {
                let value = self.value(e)?;
                let several = Self::as_prompts(&value).filter(|p| !p.is_empty());
                match (Self::as_prompt(&value), several) {
                    (Some(prompt), _) => {
                        if let Prompt::Text(t) = &prompt {
                            label = t.to_string();
                        }
                        vec![self.run_of(&label, &prompt, e.span)?]
                    }
                    (None, Some(prompts)) => self.runs_of(&label, &prompts, e.span)?,
                    (None, None) => {
                        return fail(
                            codes::WRONG_KIND,
                            format!("a run is of a text, prompt or data set, not of {}", value.kind()),
                            e.span,
                            "this",
                        );
                    }
                }
            }
        };
        Ok(MeasureRuns { label, runs })
    }

    fn named(&mut self, name: &str, span: Span) -> Res<Vec<RunSpec>> {
        if let Some(prompt) = self.prompts.get(name).cloned() {
            return Ok(vec![self.run_of(name, &prompt, span)?]);
        }
        if let Some(set) = self.data.get(name).cloned() {
            return self.runs_of(name, &set.items, span);
        }
        if let Some(run) = self.runs.get(name).cloned() {
            if self.resolving.iter().any(|r| r == name) {
                return fail(codes::UNKNOWN_NAME, format!("the run `{name}` is made from itself"), span, "here");
            }
            self.resolving.push(name.to_owned());
            let resolved = self.run_expr(&run);
            self.resolving.pop();
            let mut runs = resolved?.runs;
            if let [one] = &mut runs[..] {
                one.label = name.to_owned();
            }
            return Ok(runs);
        }
        match self.globals.get(name).cloned() {
            Some(Value::Text(t)) => return Ok(vec![self.run_of(&t, &Prompt::Text(Rc::clone(&t)), span)?]),
            Some(Value::Broken) => return Err(silent()),
            _ => {}
        }
        let names = self.prompts.keys().chain(self.data.keys()).chain(self.runs.keys()).map(String::as_str);
        Err(Box::new(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no prompt, data set or run `{name}`"))
                .at(span, "not declared")
                .help(match nearest(name, names) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => format!("declare it: `prompt {name} = \"...\"`"),
                }),
        ))
    }

    fn runs_of(&mut self, label: &str, prompts: &[Prompt], span: Span) -> Res<Vec<RunSpec>> {
        prompts.iter().enumerate().map(|(i, p)| self.run_of(&format!("{label}[{i}]"), p, span)).collect()
    }

    /// A run without edits, of a sequence that fits the model.
    fn run_of(&mut self, label: &str, prompt: &Prompt, span: Span) -> Res<RunSpec> {
        let written = self.written(prompt, span)?;
        let known = written.is_some();
        let Written { text, encoded } = written.unwrap_or_default();
        if encoded.tokens.is_empty() && known {
            return Err(Box::new(
                Diagnostic::error(codes::EMPTY_SELECTION, "this text has no tokens")
                    .at(span, "empty")
                    .help("this tokenizer puts nothing before a text: write at least one word"),
            ));
        }
        if let Some(places) = self.places()
            && encoded.tokens.len() > places
        {
            return Err(Box::new(
                Diagnostic::error(
                    codes::POSITION_RANGE,
                    format!("this text has {} tokens, and the model has {places} positions", encoded.tokens.len()),
                )
                .at(span, "too long")
                .help("shorten it, or use a model with more positions"),
            ));
        }
        if let (Some(vocab), Some(t)) = (self.vocab(), encoded.tokens.iter().max())
            && *t as usize >= vocab
        {
            return Err(Box::new(
                Diagnostic::error(
                    codes::BAD_TOKENIZER,
                    format!("the tokenizer gives token {t}, and the model has {vocab}"),
                )
                .at(span, "in this text")
                .help("the tokenizer does not belong to this model"),
            ));
        }
        Ok(RunSpec { label: label.to_owned(), text: text.into(), encoded: Rc::new(encoded), uses: Vec::new(), span })
    }

    fn edit_use(&mut self, u: &EditUse) -> Res<Use> {
        let Some(edit) = self.edits.iter().position(|e| e.name == u.name.name) else {
            if let Some(Value::Broken) = self.globals.get(&u.name.name) {
                return Err(silent());
            }
            let names = self.edits.iter().map(|e| e.name.as_str());
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no hook or patch `{}`", u.name.name))
                    .at(u.name.span, "not declared")
                    .help(match nearest(&u.name.name, names) {
                        Some(n) => format!("did you mean `{n}`?"),
                        None => format!("declare it: `hook {} at blocks[3].resid.post {{ ... }}`", u.name.name),
                    }),
            ));
        };
        let params = self.edits[edit].params.clone();
        let mut args: Vec<Option<f64>> = vec![None; params.len()];
        for (i, a) in u.args.iter().enumerate() {
            let at = match &a.name {
                Some(Ident { name, span }) => match params.iter().position(|p| p.name == *name) {
                    Some(at) => at,
                    None => {
                        return Err(Box::new(
                            Diagnostic::error(
                                codes::BAD_ARGUMENTS,
                                format!("`{}` has no parameter `{name}`", u.name.name),
                            )
                            .at(*span, "not declared")
                            .help(
                                match nearest(name, params.iter().map(|p| p.name.as_str())) {
                                    Some(n) => format!("did you mean `{n}`?"),
                                    None if params.is_empty() => "it has none".into(),
                                    None => format!(
                                        "it has {}",
                                        params.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ")
                                    ),
                                },
                            ),
                        ));
                    }
                },
                None if i < params.len() => i,
                None => {
                    return fail(
                        codes::BAD_ARGUMENTS,
                        format!("`{}` has {} parameters", u.name.name, params.len()),
                        a.value.span,
                        "one too many",
                    );
                }
            };
            let v = self.plain_or_bool(&a.value)?;
            check_value(&params[at], v, a.value.span)?;
            args[at] = Some(v);
        }
        let mut out = Vec::new();
        for (p, a) in params.iter().zip(args) {
            match a.or(p.default) {
                Some(v) => out.push(v),
                None => {
                    return Err(Box::new(
                        Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{}` needs `{}`", u.name.name, p.name))
                            .at(u.span, format!("`{}` is missing", p.name))
                            .help(format!(
                                "write `{}({} = ...)`, or give it a default where it is declared",
                                u.name.name, p.name
                            )),
                    ));
                }
            }
        }
        Ok(Use { edit, args: out })
    }

    /// Checks the selections of a statement against the sequences that it runs.
    pub(super) fn check_rows(&mut self, s: &Statement) {
        let mut runs: Vec<(&RunSpec, bool)> = Vec::new();
        let mut reads: Vec<(&RowSet, &RunSpec)> = Vec::new();
        match &s.kind {
            StatementKind::Generate { runs: r, .. } => runs.extend(r.iter().map(|r| (r, true))),
            StatementKind::Measure { metrics, runs: r, .. } => {
                runs.extend(r.iter().flat_map(|m| m.runs.iter().map(|r| (r, false))));
                for m in metrics {
                    m.value.visit(&mut |v| {
                        if let MetricExpr::Kl(run) = v {
                            runs.push((run, false));
                        }
                    });
                    reads.extend(r.iter().flat_map(|g| g.runs.iter().map(|r| (&m.at, r))));
                }
            }
            StatementKind::Capture { runs: r, on, .. } => {
                runs.extend(r.iter().map(|r| (r, false)));
                reads.extend(r.iter().map(|r| (on, r)));
            }
            StatementKind::Print(_) => {}
        }
        let mut found = Vec::new();
        for (set, run) in reads {
            self.rows_of(set, run, s.span, false, false, &mut found);
        }
        for (run, grows) in runs {
            self.run_rows(run, grows, &mut found);
        }
        self.diagnostics.extend(found);
    }

    fn run_rows(&self, run: &RunSpec, grows: bool, out: &mut Vec<Diagnostic>) {
        for u in &run.uses {
            let e = &self.edits[u.edit];
            if grows && e.on.counts_from_end() {
                out.push(
                    Diagnostic::error(
                        codes::POSITION_RANGE,
                        format!("`{}` counts from the end of a sequence that still grows", e.name),
                    )
                    .at(e.on_span, "where the end is not known yet")
                    .help("use `prompt[-1]` for the prompt's last token, or `generated`"),
                );
                continue;
            }
            self.rows_of(&e.on, run, e.on_span, e.maybe, grows, out);
            if let EditBody::Patch(from) = &e.body {
                self.run_rows(from, false, out);
                self.donor_rows(e, run, from, grows, out);
            }
        }
    }

    /// A patch takes the donor's row of the same position, which the donor must have.
    fn donor_rows(
        &self,
        e: &super::script::EditDecl,
        run: &RunSpec,
        from: &RunSpec,
        grows: bool,
        out: &mut Vec<Diagnostic>,
    ) {
        let Some(seq) = sequence(run) else { return };
        let last = e.on.rows(&seq).iter().rposition(|b| *b);
        let have = from.encoded.tokens.len();
        if last.is_some_and(|l| l >= have) || (grows && e.on.may_generate(seq.prompt)) {
            out.push(
                Diagnostic::error(codes::POSITION_RANGE, format!("`{}` patches rows that {} does not have", e.name, from.label))
                    .at(e.on_span, format!("{} has {have} tokens", from.label))
                    .help("a patch takes the donor's row of the same position: restrict it to positions that both have, or use a donor that is as long"),
            );
        }
    }

    pub(super) fn rows_of(
        &self,
        set: &RowSet,
        run: &RunSpec,
        span: Span,
        maybe: bool,
        grows: bool,
        out: &mut Vec<Diagnostic>,
    ) {
        let Some(seq) = sequence(run) else { return };
        let (mut misfits, known) = (Vec::new(), out.len());
        set.misfits(&seq, &mut misfits);
        // Whose words cannot be found may be there all the same.
        misfits.retain(|m| !maybe || matches!(m, Misfit::Changed(_)));
        for m in misfits {
            let later = grows && set.may_generate(seq.prompt);
            match m {
                Misfit::Beyond { index, len, part } if !later || part == "prompt" => out.push(
                    Diagnostic::error(codes::POSITION_RANGE, format!("there is no position {index} in the {part}"))
                        .at(span, format!("{:?} has {len} tokens", short(&run.text)))
                        .help("positions count from 0, or from the end: -1 is the last"),
                ),
                Misfit::NoOccurrence(text) if !later => out.push(
                    Diagnostic::error(codes::NO_OCCURRENCE, format!("{text:?} does not occur"))
                        .at(span, format!("not in {:?}", short(&run.text)))
                        .help("check the spelling and the case; write `on maybe ...` where it may be absent"),
                ),
                Misfit::NoMessage(role) if grows && role == ASSISTANT => {}
                Misfit::Beyond { .. } | Misfit::NoOccurrence(_) => {}
                role => out.push(role_misfit(&role, &run.text, &seq, span)),
            }
        }
        if maybe {
            return;
        }
        let any = set.rows(&seq).iter().any(|b| *b) || (grows && set.may_generate(seq.prompt));
        if !any && out.len() == known {
            out.push(
                Diagnostic::error(codes::EMPTY_SELECTION, "this selects no row")
                    .at(span, format!("of {:?}", short(&run.text)))
                    .help("write `on maybe ...` where that is meant"),
            );
        }
    }

    /// Declared conversations, runs and metrics that no statement uses are still resolved, so that their errors show.
    pub(super) fn unused_runs(&mut self) {
        let sets = self.data.values().flat_map(|set| &set.items);
        let chats: Vec<Prompt> =
            self.prompts.values().chain(sets).filter(|p| matches!(p, Prompt::Chat(_))).cloned().collect();
        for chat in chats {
            if let Prompt::Chat(c) = &chat
                && let Err(d) = self.run_of("", &chat, c.span)
            {
                self.diagnostics.push(*d);
            }
        }
        for (name, run) in self.runs.clone() {
            self.resolving.push(name);
            if let Err(d) = self.run_expr(&run) {
                self.diagnostics.push(*d);
            }
            self.resolving.pop();
        }
        for m in self.metrics.clone().into_values().filter(|m| m.params.is_empty()) {
            if let Err(d) = self.metric_expr(&m.value, &super::value::Scope::new()) {
                self.diagnostics.push(*d);
            }
            if let Some(at) = &m.at
                && let Err(d) = self.selection(Some(at))
            {
                self.diagnostics.push(*d);
            }
        }
    }
}

/// The tokens of a run before it grows; `None` where there is no tokenizer.
fn sequence(run: &RunSpec) -> Option<Sequence<'_>> {
    let e = &run.encoded;
    (!e.tokens.is_empty()).then(|| Sequence {
        prompt: e.tokens.len(),
        len: e.tokens.len(),
        bos: e.bos,
        text: &run.text,
        ranges: &e.ranges,
        turns: e.turns.as_deref(),
    })
}

pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 40 {
        return text.to_owned();
    }
    text.chars().take(39).chain(['…']).collect()
}
