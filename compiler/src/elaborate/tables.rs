//! `measure`, and what is done with tables.

use super::check::Checker;
use super::edits::{Applied, given_twice};
use super::positions::RowSet;
use super::runs::Runs;
use super::scope::{Res, fail};
use super::script::{Cell, Metric, PlotOption, Read, StatementKind, TableAxis, TableSpec};
use super::value::Value;
use std::rc::Rc;
use steer_lang::ast::{Expr, ExprKind, Ident, Measure, Plot, Top};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, codes};

/// No `top` gives more rows.
const MOST_ROWS: i64 = 100_000;

/// The plots there are.
pub const PLOTS: &[&str] = &["heat", "line", "bar", "scatter"];

impl Checker<'_> {
    /// A table over runs.
    pub(super) fn measure(&mut self, m: &Measure) -> Res<TableSpec> {
        let (labels, columns, cells) = self.measured(m, &[])?;
        let axes = vec![TableAxis { name: "run".into(), labels, numbers: None, first: 0 }];
        Ok(TableSpec { name: None, axes, columns, own: Vec::new(), cells, top: false })
    }

    /// The largest entries of a metric over the rows of runs.
    pub(super) fn top(&mut self, t: &Top) -> Res<TableSpec> {
        let mut count = 10;
        for (name, value) in &t.options {
            if name.name != "count" {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_ARGUMENTS, format!("`top` has no option `{}`", name.name))
                        .at(name.span, "not known")
                        .help("there is `count`"),
                ));
            }
            count = self.integer(value)?;
            if !(1..=MOST_ROWS).contains(&count) {
                let message = format!("`count` is a whole number from 1 to {MOST_ROWS}");
                return fail(codes::BAD_ARGUMENTS, message, value.span, format!("this is {count}"));
            }
        }
        let groups = t.over.iter().map(|over| self.subject_under(&over.subject, &[], &over.with)).collect();
        let groups = self.gather(groups)?;
        let at = match &t.at {
            Some(at) => Some((self.selection(Some(at))?, at.maybe)),
            None => None,
        };
        let mut cells = Vec::new();
        let runs = groups.into_iter().flat_map(|g| g.runs.into_iter().zip(g.records));
        for (run, record) in runs {
            let mut metric = self.metric(&t.of, record.as_ref())?;
            // All rows, unless the metric itself or the statement says which.
            match &at {
                Some(at) => (metric.at, metric.maybe) = at.clone(),
                None if !self.says_where(&t.of) => metric.at = RowSet::All,
                None => {}
            }
            cells.push(Cell { reads: vec![Read { run, metrics: [metric].into() }], ..Cell::default() });
        }
        let labels = (1..=count).map(|n| n.to_string()).collect();
        let axes = vec![TableAxis { name: "row".into(), labels, numbers: None, first: 0 }];
        let columns = vec![self.text_of(t.of.span)];
        let mut parts = vec!["row".into(), columns[0].clone(), "position".into()];
        parts.extend((cells.len() > 1).then(|| "run".to_owned()));
        self.tables.insert(t.name.name.clone(), parts);
        Ok(TableSpec { name: Some(t.name.name.clone()), axes, columns, own: Vec::new(), cells, top: true })
    }

    /// Whether a metric is a declared one with positions of its own.
    fn says_where(&self, e: &Expr) -> bool {
        let name = match &e.kind {
            ExprKind::Name(n) => n,
            ExprKind::Call(f, _) => match &f.kind {
                ExprKind::Name(n) => n,
                _ => return false,
            },
            _ => return false,
        };
        self.metrics.get(name).is_some_and(|m| m.at.is_some())
    }

    /// The cells of a measurement, a label for each, and the names of the metrics; `edits` stand before
    /// those after `with`.
    pub(super) fn measured(&mut self, m: &Measure, edits: &[Applied]) -> Res<(Vec<String>, Vec<String>, Vec<Cell>)> {
        let groups = m.on.iter().map(|on| self.subject_under(&on.subject, edits, &on.with)).collect();
        let groups = self.gather(groups);
        let columns = m.metrics.iter().map(|e| self.text_of(e.span)).collect();
        // Metrics are checked even where the runs are wrong.
        let first = groups.as_ref().ok().and_then(|g| g.first()).and_then(|g| g.records.first().cloned()).flatten();
        let plain = m.metrics.iter().map(|e| self.metric(e, first.as_ref())).collect();
        let plain = self.gather(plain);
        let (plain, groups) = self.both(plain, groups)?;
        let plain: Rc<[Metric]> = plain.into();
        let (mut labels, mut cells) = (Vec::new(), Vec::new());
        for group in groups {
            let ends = match &m.normalized {
                None => None,
                Some((zero, one)) => {
                    let (zero, one) = (self.reference(zero, &group), self.reference(one, &group));
                    let (zero, one) = self.both(zero, one)?;
                    self.ends_differ(m, &zero, &one);
                    Some((zero, one))
                }
            };
            let n = group.runs.len();
            let mut mean = Cell::default();
            for (i, (run, record)) in group.runs.into_iter().zip(&group.records).enumerate() {
                let metrics = match record {
                    None => Rc::clone(&plain),
                    Some(r) => m.metrics.iter().map(|e| self.metric(e, Some(r))).collect::<Res<Rc<[Metric]>>>()?,
                };
                let read = |run| Read { run, metrics: Rc::clone(&metrics) };
                let mut cell = Cell::default();
                if let Some((zero, one)) = &ends {
                    cell.zero.push(read(zero.runs[i % zero.runs.len()].clone()));
                    cell.one.push(read(one.runs[i % one.runs.len()].clone()));
                }
                let label = run.label.clone();
                cell.reads.push(read(run));
                if m.mean {
                    mean.reads.append(&mut cell.reads);
                    mean.zero.append(&mut cell.zero);
                    mean.one.append(&mut cell.one);
                } else {
                    labels.push(label);
                    cells.push(cell);
                }
            }
            if m.mean {
                labels.push(format!("mean over {n} of {}", group.label));
                cells.push(mean);
            }
        }
        Ok((labels, columns, cells))
    }

    /// Warns where nothing lies between what is to give 0 and what is to give 1.
    fn ends_differ(&mut self, m: &Measure, zero: &Runs, one: &Runs) {
        if let Some((a, b)) = &m.normalized
            && zero.runs == one.runs
        {
            self.diagnostics.push(
                Diagnostic::warning(codes::WRONG_KIND, "both ends of `normalized by` are the same")
                    .at(a.span.to(b.span), "nothing lies between them")
                    .help("the first is the run that is to give 0, the second the one that is to give 1"),
            );
        }
    }

    /// The runs of `normalized by`, one or as many as are measured.
    fn reference(&mut self, e: &Expr, group: &Runs) -> Res<Runs> {
        let runs = self.subject(e, &[])?;
        let (have, want) = (runs.runs.len(), group.runs.len());
        if have != 1 && have != want {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, format!("{have} runs are to normalize {want}"))
                    .at(e.span, "a data set of another size")
                    .help("name one run, or a data set that pairs with the one that is measured"),
            ));
        }
        Ok(runs)
    }

    /// The table of a sweep.
    pub(super) fn table<'n>(&self, name: &'n Ident) -> Res<&'n str> {
        if self.tables.contains_key(&name.name) {
            return Ok(&name.name);
        }
        if self.broken(&name.name) {
            return Err(super::scope::silent());
        }
        Err(Box::new(
            Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no table `{}`", name.name))
                .at(name.span, "no sweep above has this name")
                .help(match nearest(&name.name, self.tables.keys().map(String::as_str)) {
                    Some(n) => format!("did you mean `{n}`?"),
                    None => format!("a sweep gives one: `sweep {} over b in blocks {{ ... }}`", name.name),
                }),
        ))
    }

    pub(super) fn plot(&mut self, p: &Plot) -> Res<StatementKind> {
        const OPTIONS: &[&str] = &["column", "x", "y", "series", "title", "min", "max"];
        let table = self.table(&p.of)?.to_owned();
        if let Some(kind) = &p.kind
            && !PLOTS.contains(&kind.name.as_str())
        {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no plot `{}`", kind.name))
                    .at(kind.span, "not known")
                    .help(match nearest(&kind.name, PLOTS.iter().copied()) {
                        Some(n) => format!("did you mean `{n}`?"),
                        None => format!("there are {}", PLOTS.join(", ")),
                    }),
            ));
        }
        let mut options = Vec::new();
        for (i, (name, value)) in p.options.iter().enumerate() {
            if p.options[..i].iter().any(|(n, _)| n.name == name.name) {
                return Err(given_twice(&name.name, name.span));
            }
            if !OPTIONS.contains(&name.name.as_str()) {
                return Err(Box::new(
                    Diagnostic::error(codes::BAD_ARGUMENTS, format!("`plot` has no option `{}`", name.name))
                        .at(name.span, "not known")
                        .help(match nearest(&name.name, OPTIONS.iter().copied()) {
                            Some(n) => format!("did you mean `{n}`?"),
                            None => format!("there are {}", OPTIONS.join(", ")),
                        }),
                ));
            }
            let number = matches!(name.name.as_str(), "min" | "max");
            let option = match self.plain_text(value)? {
                Value::Text(t) if !number => PlotOption::Text(t.to_string()),
                v => match v.as_number() {
                    Some(n) if number => PlotOption::Number(n),
                    _ => {
                        let want = if number { "a number" } else { "a text" };
                        return super::scope::fail(
                            codes::WRONG_KIND,
                            format!("`{}` is {want}", name.name),
                            value.span,
                            format!("this is {}", v.kind()),
                        );
                    }
                },
            };
            let known = &self.tables[&table];
            if let PlotOption::Text(t) = &option
                && matches!(name.name.as_str(), "column" | "x" | "y" | "series")
                && !known.contains(t)
            {
                return Err(Box::new(
                    Diagnostic::error(codes::UNKNOWN_NAME, format!("the table `{table}` has no `{t}`"))
                        .at(value.span, "neither an axis nor a metric of it")
                        .help(format!("it has {}", known.join(", "))),
                ));
            }
            options.push((name.name.clone(), option));
        }
        let to = p.to.as_ref().map(|t| self.target(t)).transpose()?;
        Ok(StatementKind::Plot { table, kind: p.kind.as_ref().map(|k| k.name.clone()), to, options })
    }
}
