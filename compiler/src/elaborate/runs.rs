//! Runs and statements: which sequences under which edits, and what is done with them.

use super::chat::{Prompt, Written, as_prompt};
use super::check::Checker;
use super::data::Record;
use super::edits::Applied;
use super::model::Longest;
use super::scope::{Eval, Res, fail, silent};
use super::script::{Encoded, Place, PrintItem, RunSpec, StatementKind};
use super::value::Value;
use crate::plan::{Op, Output, Size};
use std::collections::HashSet;
use std::rc::Rc;
use steer_lang::ast::{EditUse, Expr, ExprKind, Item, ItemKind, RunExpr};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// The runs that an expression means: one, or one for each example of a data set.
#[derive(Clone, Debug)]
pub struct Runs {
    pub label: String,
    pub runs: Vec<RunSpec>,
    /// The example that each run is of.
    pub records: Vec<Option<Record>>,
}

impl Runs {
    /// Puts further edits behind those that the runs have.
    pub fn apply(&mut self, uses: &[Applied]) -> Res<()> {
        let n = self.runs.len();
        for (i, run) in self.runs.iter_mut().enumerate() {
            for u in uses {
                let mut u = u.at(i, n)?;
                if let Some(on) = run.record.as_ref().and_then(|r| u.place.on.filled(r)) {
                    u.place = Rc::new(Place { on, ..(*u.place).clone() });
                }
                if let Some(on) = u.place.partnered(run) {
                    u.place = Rc::new(Place { on, ..(*u.place).clone() });
                }
                run.uses.push(u);
            }
        }
        Ok(())
    }
}

impl Checker<'_> {
    pub(super) fn statement(&mut self, item: &Item) -> Res<Option<StatementKind>> {
        Ok(Some(match &item.kind {
            ItemKind::Generate(g) => self.generate(g)?,
            ItemKind::Measure(m) => StatementKind::Table(self.measure(m)?),
            ItemKind::Sweep(s) => StatementKind::Table(self.sweep(s)?),
            ItemKind::Top(t) => StatementKind::Table(self.top(t)?),
            ItemKind::Plot(p) => self.plot(p)?,
            ItemKind::Save(name, to) if self.tensor_types.contains_key(&name.name) => {
                StatementKind::SaveTensors(self.saved_tensors(name, to)?)
            }
            ItemKind::Save(name, to) => {
                StatementKind::Save { table: self.table(name)?.to_owned(), to: self.target(to)? }
            }
            ItemKind::Report(to) => StatementKind::Report { to: self.target(to)? },
            ItemKind::Capture(c) => {
                let mut sites = Vec::new();
                for path in &c.at {
                    sites.extend(self.sites(path, None)?.into_iter().map(|n| n.name));
                }
                let mut seen = HashSet::new();
                sites.retain(|s| seen.insert(s.clone()));
                let on = self.selection(c.on.as_ref())?;
                let maybe = c.on.as_ref().is_some_and(|s| s.maybe);
                let runs = self.run_expr(&c.of)?.runs;
                StatementKind::Capture { sites, before: c.before, on, maybe, runs, to: self.target(&c.to)? }
            }
            ItemKind::Print(items) => {
                StatementKind::Print(items.iter().map(|e| self.print(e)).collect::<Res<Vec<_>>>()?)
            }
            _ => return Ok(None),
        }))
    }

    /// All of them, or the first error; further ones are reported.
    pub(super) fn gather<T>(&mut self, found: Vec<Res<T>>) -> Res<Vec<T>> {
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
    pub(super) fn both<A, B>(&mut self, a: Res<A>, b: Res<B>) -> Res<(A, B)> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(d), Err(more)) => {
                self.diagnostics.push(*more);
                Err(d)
            }
            (Err(d), _) | (_, Err(d)) => Err(d),
        }
    }

    /// How long a sequence may be: as the model file says, and where positions are looked up in a table, as many as it has.
    pub(super) fn longest(&self) -> Option<Longest> {
        let table = self
            .plan
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
            .min();
        let table = table.map(|tokens| Longest { tokens, why: format!("the model has {tokens} positions").into() });
        self.longest.iter().cloned().chain(table).min_by_key(|l| l.tokens)
    }

    fn print(&mut self, e: &Expr) -> Res<PrintItem> {
        if let ExprKind::Text(_) = e.kind
            && let Value::Text(t) = self.value(e)?
        {
            return Ok(PrintItem::Text(t.to_string()));
        }
        let label = self.text_of(e.span);
        let (model, axes) = (Rc::clone(&self.model), self.axes.clone());
        let mut eval = Eval::new(&model.library, &model.config, &self.tensor_types, &self.globals, "print");
        eval.axes = axes;
        eval.layers = Some(self.layers);
        if let Some(item) = eval.printed_ranking(e)? {
            return Ok(item);
        }
        let v = eval.expr(e)?;
        match &v {
            Value::Text(t) => Ok(PrintItem::Text(t.to_string())),
            Value::Bool(b) => Ok(PrintItem::Text(b.to_string())),
            Value::Data(d) => {
                let prompts = self.data_prompts(d, e.span)?;
                let texts = prompts.iter().map(|(p, _)| self.prompt_text(p)).collect::<Res<Vec<_>>>()?;
                Ok(PrintItem::Text(texts.join("\n")))
            }
            Value::Chat(chat) => Ok(PrintItem::Text(self.prompt_text(&Prompt::Chat(Rc::clone(chat)))?)),
            _ => {
                let node = eval.node(&v, e.span)?;
                eval.b.plan.outputs.push(Output { name: label.clone(), node });
                Ok(PrintItem::Value { label, plan: eval.b.finish() })
            }
        }
    }

    pub(super) fn run_expr(&mut self, r: &RunExpr) -> Res<Runs> {
        self.subject(&r.subject, &r.with)
    }

    /// The runs of a prompt, data set, named run or text, with edits added.
    pub(super) fn subject(&mut self, e: &Expr, with: &[EditUse]) -> Res<Runs> {
        self.subject_under(e, &[], with)
    }

    /// The same with edits without a name before those after `with`.
    pub(super) fn subject_under(&mut self, e: &Expr, edits: &[Applied], with: &[EditUse]) -> Res<Runs> {
        let uses = with.iter().map(|u| self.edit_use(u)).collect();
        let uses = self.gather(uses);
        let found = self.without_edits(e);
        let (uses, mut runs) = self.both(uses, found)?;
        runs.apply(edits)?;
        runs.apply(&uses)?;
        if !with.is_empty() {
            let names: Vec<String> = with.iter().map(|u| self.text_of(u.span)).collect();
            let names = format!(" with {}", names.join(", "));
            runs.runs.iter_mut().for_each(|r| r.label += &names);
            runs.label += &names;
        }
        Ok(runs)
    }

    fn without_edits(&mut self, e: &Expr) -> Res<Runs> {
        let label = self.text_of(e.span);
        if let ExprKind::Name(name) = &e.kind
            && let Some(found) = self.named_runs(name, e.span)?
        {
            return Ok(Runs { label, ..found });
        }
        if let ExprKind::Index(of, _) = &e.kind
            && let ExprKind::Name(name) = &of.kind
            && (self.prompts.contains_key(name) || self.runs.contains_key(name) || self.data.contains_key(name))
        {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, format!("a run is whole, and this is a part of `{name}`"))
                    .at(e.span, "with an index")
                    .help(format!("positions are chosen by `on`: `on [10] from {name}`; or by `at` in a metric")),
            ));
        }
        let value = self.value(e)?;
        if let Value::Data(name) = &value {
            return self.data_runs(name, e.span);
        }
        let Some(prompt) = as_prompt(&value, e.span)? else {
            return fail(
                codes::WRONG_KIND,
                format!("a run is of a text, prompt or data set, not of {}", value.kind()),
                e.span,
                "this",
            );
        };
        let (label, record) = match value {
            // A field of an example is still of that example.
            Value::Text(t) => (t.to_string(), self.example_of(e)),
            Value::Chat(_) => (label, self.example_of(e)),
            Value::Object(record, _) => (label, Some(record)),
            _ => (label, None),
        };
        let run = RunSpec { record: record.clone(), ..self.run_of(&label, &prompt, e.span)? };
        Ok(Runs { label, runs: vec![run], records: vec![record] })
    }

    /// The example that a field such as `x.clean` is of.
    fn example_of(&self, e: &Expr) -> Option<Record> {
        let ExprKind::Field(of, _) = &e.kind else { return None };
        match &of.kind {
            ExprKind::Name(n) => match self.local(n) {
                Some(Value::Object(record, _)) => Some(Rc::clone(record)),
                _ => None,
            },
            _ => None,
        }
    }

    /// A run for each example of `name` or `name.field`.
    pub(super) fn data_runs(&mut self, name: &str, span: Span) -> Res<Runs> {
        let mut out = Runs { label: name.to_owned(), runs: Vec::new(), records: Vec::new() };
        for (i, (prompt, record)) in self.data_prompts(name, span)?.into_iter().enumerate() {
            let run = self.run_of(&format!("{name}[{i}]"), &prompt, span)?;
            out.runs.push(RunSpec { record: Some(Rc::clone(&record)), ..run });
            out.records.push(Some(record));
        }
        Ok(out)
    }

    /// The runs of a declared name; `None` where it may be a value that is a text.
    fn named_runs(&mut self, name: &str, span: Span) -> Res<Option<Runs>> {
        if self.local(name).is_some() {
            return Ok(None);
        }
        if let Some(prompt) = self.prompts.get(name).cloned() {
            let run = self.run_of(name, &prompt, span)?;
            return Ok(Some(Runs { label: name.into(), runs: vec![run], records: vec![None] }));
        }
        if let Some(run) = self.cell_runs.get(name).cloned() {
            if self.resolving.iter().any(|r| r == name) {
                return fail(codes::UNKNOWN_NAME, format!("the run `{name}` is made from itself"), span, "here");
            }
            self.resolving.push(name.to_owned());
            let resolved = self.run_expr(&run);
            self.resolving.pop();
            let mut found = resolved?;
            if let [one] = &mut found.runs[..] {
                one.label = name.to_owned();
            }
            return Ok(Some(found));
        }
        if let Some(found) = self.runs.get(name) {
            return Ok(Some(found.clone()));
        }
        match self.globals.get(name) {
            Some(Value::Broken) => return Err(silent()),
            Some(_) => return Ok(None),
            None => {}
        }
        let names = self.prompts.keys().chain(self.data.keys()).chain(self.runs.keys()).chain(self.cell_runs.keys());
        let names = names.map(String::as_str);
        Err(Box::new(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no prompt, data set or run `{name}`"))
                .at(span, "not declared")
                .help(match nearest(name, names) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => format!("declare it: `prompt {name} = \"...\"`"),
                }),
        ))
    }

    /// A run without edits, of a sequence that fits the model.
    fn run_of(&mut self, label: &str, prompt: &Prompt, span: Span) -> Res<RunSpec> {
        if let Some((text, encoded)) = self.encoded.get(prompt) {
            let (text, encoded) = (Rc::clone(text), Rc::clone(encoded));
            return Ok(RunSpec { label: label.to_owned(), text, encoded, uses: Vec::new(), record: None, span });
        }
        let written = self.written(prompt, span)?;
        let known = written.is_some();
        let Written { text, encoded } =
            written.unwrap_or_else(|| Written { text: prompt.words().to_owned(), ..Written::default() });
        if encoded.tokens.is_empty() && known {
            return Err(Box::new(
                Diagnostic::error(codes::EMPTY_SELECTION, "this text has no tokens")
                    .at(span, "empty")
                    .help("this tokenizer puts nothing before a text: write at least one word"),
            ));
        }
        if let Some(limit) = self.longest()
            && encoded.tokens.len() > limit.tokens
        {
            return Err(Box::new(
                Diagnostic::error(
                    codes::POSITION_RANGE,
                    format!("this text has {} tokens, and {}", encoded.tokens.len(), limit.why),
                )
                .at(span, "too long")
                .help("shorten it, or use a model for longer texts"),
            ));
        }
        if let Some((token, why)) = self.forbidden.iter().find(|(t, _)| encoded.tokens.contains(t)) {
            return Err(Box::new(
                Diagnostic::error(
                    codes::POSITION_RANGE,
                    format!("this text has {:?}, and {why}", self.host.piece(*token)),
                )
                .at(span, "in this text")
                .help("leave it out: nothing here is padded, so no text needs it"),
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
        let (text, encoded): (Rc<str>, Rc<Encoded>) = (text.into(), Rc::new(encoded));
        self.encoded.insert(prompt.clone(), (Rc::clone(&text), Rc::clone(&encoded)));
        Ok(RunSpec { label: label.to_owned(), text, encoded, uses: Vec::new(), record: None, span })
    }

    /// Declared metrics that no statement uses are still resolved, so that their errors show.
    pub(super) fn unused_metrics(&mut self) {
        for (name, m) in self.metrics.clone().into_iter().filter(|(_, m)| m.params.is_empty()) {
            self.parts = 0;
            self.resolving.push(name.clone());
            let value = self.metric_expr(&m.value, &super::value::Scope::new());
            let value = self.not_too_long(value, m.value.span);
            self.resolving.pop();
            let at = m.at.as_ref().map_or(Ok(()), |at| self.selection(Some(at)).map(drop));
            for d in value.map(drop).err().into_iter().chain(at.err()) {
                self.globals.insert(name.clone(), Value::Broken);
                self.diagnostics.push(*d);
            }
        }
    }
}

pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 40 {
        return text.to_owned();
    }
    text.chars().take(39).chain(['…']).collect()
}

/// The error for what only a model has a meaning for that reads from left to right.
pub(super) fn whole_text(what: &str, span: Span) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::WHOLE_TEXT, format!("{what}, and this model reads its text as a whole"))
            .at(span, "this wants a model that reads from left to right")
            .help("measure what it gives for a masked token, as in `metric m = log_prob(\"shop\") at matching \"[MASK]\"`"),
    )
}
