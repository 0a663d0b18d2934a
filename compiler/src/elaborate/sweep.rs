//! `sweep`: the cells of a table, one for each combination of what its names stand for.

use super::chat::Prompt;
use super::check::Checker;
use super::data::{Record, record_value};
use super::edits::{Applied, free_name};
use super::runs::short;
use super::scope::{Res, fail};
use super::script::{Cell, TableAxis, TableSpec};
use super::value::Value;
use crate::plan::Size;
use std::collections::HashSet;
use steer_lang::ast::{Expr, ExprKind, IndexItem, Item, ItemKind, Sweep, SweepAxis, SweepValues};
use steer_lang::{Diagnostic, Span, codes};

/// No sweep has more cells.
const MOST: usize = 100_000;

/// One entry of an axis.
struct Entry {
    label: String,
    number: Option<f64>,
    value: Value,
}

/// What a sweep has found so far.
#[derive(Default)]
struct Found {
    /// Of the sweeps inside, and of the runs where several are measured.
    inner: Option<Vec<TableAxis>>,
    columns: Vec<String>,
    cells: Vec<Cell>,
}

impl Checker<'_> {
    pub(super) fn sweep(&mut self, s: &Sweep) -> Res<TableSpec> {
        let mut found = Found::default();
        let mut axes = Vec::new();
        let named = self.named.clone();
        self.wide = 1;
        let result = self.nest(s, &mut axes, &mut found);
        self.named = named;
        self.cell_runs.clear();
        self.locals.clear();
        result?;
        self.unused_axes(s);
        axes.extend(found.inner.unwrap_or_default());
        if let Some(name) = &s.name {
            let parts = axes.iter().map(|a| a.name.clone()).chain(found.columns.iter().cloned());
            self.tables.insert(name.name.clone(), parts.collect());
        }
        let name = s.name.as_ref().map(|n| n.name.clone());
        Ok(TableSpec { name, axes, columns: found.columns, own: Vec::new(), cells: found.cells, top: false })
    }

    /// Warns of names of a sweep that nothing in it mentions: all of their entries measure the same.
    fn unused_axes(&mut self, s: &Sweep) {
        for axis in &s.over {
            let rest = Span { start: axis.span.end, ..axis.span.to(s.braces) };
            let name = &axis.var.name;
            let words = self.sources.text(rest).split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            if words.into_iter().any(|w| w == name) {
                continue;
            }
            self.diagnostics.push(
                Diagnostic::warning(codes::UNREAD_EDIT, format!("nothing in this sweep depends on `{name}`"))
                    .at(axis.var.span, "every entry measures the same")
                    .help("name it in an edit, a run or a metric, or leave it out"),
            );
        }
        for item in &s.body {
            if let ItemKind::Sweep(inner) = &item.kind {
                self.unused_axes(inner);
            }
        }
    }

    /// All combinations of a sweep's own axes, in the order of their names.
    fn nest(&mut self, s: &Sweep, axes: &mut Vec<TableAxis>, found: &mut Found) -> Res<()> {
        fn combine(c: &mut Checker, s: &Sweep, at: usize, axes: &mut Vec<TableAxis>, found: &mut Found) -> Res<()> {
            let Some(axis) = s.over.get(at) else { return c.cell(s, found) };
            let entries = c.entries(axis)?;
            let outer = c.wide;
            c.wide = outer.saturating_mul(entries.len());
            if c.wide > MOST {
                c.wide = outer;
                return fail(
                    codes::WRONG_KIND,
                    format!("this sweep has more than {MOST} cells"),
                    axis.span,
                    "too many",
                );
            }
            let numbers: Option<Vec<f64>> = entries.iter().map(|e| e.number).collect();
            let labels = entries.iter().map(|e| e.label.clone()).collect();
            let mine = TableAxis { name: axis.var.name.clone(), labels, numbers, first: 0 };
            match axes.get_mut(at) {
                None => axes.push(mine),
                Some(known) if known.labels.len() == mine.labels.len() => known.agree(&mine, |_| None),
                Some(known) => {
                    return fail(
                        codes::WRONG_KIND,
                        format!(
                            "`{}` has {} entries here and {} elsewhere",
                            mine.name,
                            mine.labels.len(),
                            known.labels.len()
                        ),
                        axis.span,
                        "an axis of a table is as long everywhere",
                    );
                }
            }
            for e in entries {
                c.locals.push((axis.var.name.clone(), e.value));
                let result = combine(c, s, at + 1, axes, found);
                c.locals.pop();
                result?;
            }
            c.wide = outer;
            Ok(())
        }
        for axis in &s.over {
            free_name(&axis.var)?;
            if self.local(&axis.var.name).is_some() {
                return fail(
                    codes::DUPLICATE_NAME,
                    format!("`{}` is a name of the sweep around", axis.var.name),
                    axis.var.span,
                    "again here",
                );
            }
        }
        combine(self, s, 0, axes, found)
    }

    /// The body of a sweep for one combination.
    fn cell(&mut self, s: &Sweep, found: &mut Found) -> Res<()> {
        let mut edits: Vec<Applied> = Vec::new();
        let outer = std::mem::take(&mut self.around);
        let mut measured = false;
        for item in &s.body {
            if measured {
                return self.once(item);
            }
            match &item.kind {
                ItemKind::Hook(h) => {
                    let hook = self.hook(h)?;
                    match &h.name {
                        Some(n) => drop(self.named.insert(n.name.clone(), hook)),
                        None => edits.push((&hook).into()),
                    }
                }
                ItemKind::Patch(p) => {
                    let patch = self.patch(p)?;
                    match &p.name {
                        Some(n) => drop(self.named.insert(n.name.clone(), patch)),
                        None => edits.push((&patch).into()),
                    }
                }
                ItemKind::Route(r) => {
                    let route = self.route(r)?;
                    match &r.name {
                        Some(n) => drop(self.named.insert(n.name.clone(), route)),
                        None => edits.push((&route).into()),
                    }
                }
                ItemKind::Run(r) => drop(self.cell_runs.insert(r.name.name.clone(), r.run.clone())),
                ItemKind::Measure(m) => {
                    let all: Vec<Applied> = outer.iter().chain(&edits).cloned().collect();
                    let (labels, columns, cells) = self.measured(m, &all)?;
                    if labels.len() > 1 {
                        let written: Vec<String> = m.on.iter().map(|on| self.text_of(on.span)).collect();
                        let each = written.len() == labels.len();
                        let axis = TableAxis { name: "run".into(), labels, numbers: None, first: 0 };
                        match found.inner.as_deref_mut() {
                            Some([known]) => known.agree(&axis, |i| written.get(i).filter(|_| each).cloned()),
                            _ => found.inner = Some(vec![axis]),
                        }
                    }
                    found.columns = columns;
                    found.cells.extend(cells);
                    measured = true;
                }
                ItemKind::Sweep(inner) => {
                    self.around = outer.iter().chain(&edits).cloned().collect();
                    let (mut axes, mut deeper) = (Vec::new(), Found::default());
                    self.nest(inner, &mut axes, &mut deeper)?;
                    axes.extend(deeper.inner.unwrap_or_default());
                    let same = |a: &Vec<TableAxis>| {
                        a.len() == axes.len() && a.iter().zip(&axes).all(|(a, b)| a.labels.len() == b.labels.len())
                    };
                    if found.inner.as_ref().is_some_and(|known| !same(known)) {
                        return fail(
                            codes::WRONG_KIND,
                            "the sweep inside has other entries here than elsewhere",
                            item.span,
                            "an axis of a table is as long everywhere",
                        );
                    }
                    match &mut found.inner {
                        Some(known) => {
                            known.iter_mut().zip(&axes).for_each(|(known, mine)| known.agree(mine, |_| None))
                        }
                        None => found.inner = Some(axes),
                    }
                    found.columns = deeper.columns;
                    found.cells.extend(deeper.cells);
                    measured = true;
                }
                _ => {}
            }
        }
        self.around = outer;
        if !measured {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "nothing is measured in this sweep")
                    .at(s.braces, "no `measure` in it")
                    .help("end it with `measure metric on run`, or with a sweep inside that does"),
            ));
        }
        Ok(())
    }

    fn once(&self, item: &Item) -> Res<()> {
        Err(Box::new(
            Diagnostic::error(codes::WRONG_KIND, "a sweep ends with what it measures")
                .at(item.span, "stands behind it")
                .help("measure all of it in one statement: `measure a, b on run`; edits stand before it"),
        ))
    }

    fn entries(&mut self, axis: &SweepAxis) -> Res<Vec<Entry>> {
        let whole = |n: i64| Entry { label: n.to_string(), number: Some(n as f64), value: Value::Number(n as f64) };
        let entries = match &axis.values {
            SweepValues::Blocks(items) => {
                let layers = match items {
                    None => (0..self.layers).collect(),
                    Some(items) => {
                        let mut all = Vec::new();
                        for item in items {
                            all.extend(self.layer_item(item, None)?.0);
                        }
                        all
                    }
                };
                let entry = |l: u32| Entry { label: l.to_string(), number: Some(f64::from(l)), value: Value::Block(l) };
                layers.into_iter().map(entry).collect()
            }
            SweepValues::Of(IndexItem::Range { start: Some(start), end: Some(end), inclusive, .. }) => {
                let (from, to) = (self.integer(start)?, self.integer(end)? + i64::from(*inclusive));
                if to - from > MOST as i64 {
                    return fail(codes::WRONG_KIND, format!("{from}..{to} is too long"), axis.span, "here");
                }
                (from..to).map(whole).collect()
            }
            SweepValues::Of(IndexItem::At(e)) => self.entries_of(e)?,
            SweepValues::Of(_) => {
                return fail(codes::WRONG_KIND, "a range of a sweep has both ends", axis.span, "one is missing");
            }
        };
        if entries.is_empty() {
            return fail(codes::EMPTY_SELECTION, format!("`{}` has no entries", axis.var.name), axis.span, "empty");
        }
        Ok(entries)
    }

    fn entries_of(&mut self, e: &Expr) -> Res<Vec<Entry>> {
        if let ExprKind::Index(of, args) = &e.kind
            && let ExprKind::Call(..) = &of.kind
            && let [one] = &args[..]
        {
            return self.part(of, &one.item, e);
        }
        if let ExprKind::Call(f, args) = &e.kind
            && matches!(&f.kind, ExprKind::Name(n) if n == "tokens")
        {
            let [arg] = &args[..] else {
                return fail(codes::BAD_ARGUMENTS, "`tokens` takes a run", e.span, "here");
            };
            let run = self.one_run(&arg.value)?;
            let pieces = run.encoded.tokens.iter().map(|t| self.host.piece(*t));
            let entry =
                |(i, label): (usize, String)| Entry { label, number: Some(i as f64), value: Value::Number(i as f64) };
            return Ok(pieces.enumerate().map(entry).collect());
        }
        if let ExprKind::Name(n) = &e.kind
            && matches!(n.as_str(), "layers" | "layer" | "block")
            && self.named_value(n).is_none()
        {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_NAME, format!("a sweep over the layers is over `blocks`, not `{n}`"))
                    .at(e.span, "not known here")
                    .help("write `b in blocks`, or some of them: `b in blocks[2..6]`"),
            ));
        }
        Ok(match self.value(e)? {
            Value::Axes(axes) => {
                let count: Option<usize> =
                    axes.iter().map(|a| if let Size::Fixed(n) = a.size { Some(n) } else { None }).product();
                let Some(count) = count else {
                    return fail(
                        codes::WRONG_KIND,
                        "a row has as many keys as it has earlier rows",
                        e.span,
                        "no fixed number",
                    );
                };
                let entry =
                    |i: usize| Entry { label: i.to_string(), number: Some(i as f64), value: Value::Number(i as f64) };
                (0..count).map(entry).collect()
            }
            Value::Data(name) => {
                let records = match name.contains('.') {
                    true => self.data_prompts(&name, e.span)?.into_iter().map(|(p, r)| (Some(p), r)).collect(),
                    false => self.prompts_if_any(&name, e.span),
                };
                let mut seen: HashSet<String> = HashSet::new();
                let entry = |(i, (prompt, record)): (usize, (Option<Prompt>, Record))| {
                    // Examples that look alike are told apart by their numbers.
                    let label = prompt.map_or_else(|| format!("{name}[{i}]"), |p| short(p.words()));
                    let label = if seen.insert(label.clone()) { label } else { format!("{label} [{i}]") };
                    Entry { label, number: None, value: record_value(&record) }
                };
                records.into_iter().enumerate().map(entry).collect()
            }
            Value::List(items) => {
                let mut out = Vec::new();
                for v in items.iter() {
                    let (label, number) = match v {
                        Value::Text(t) => (short(t), None),
                        Value::Chat(c) => (short(Prompt::Chat(c.clone()).words()), None),
                        Value::Tensor(t) => (t.to_string(), None),
                        _ => match v.as_number() {
                            Some(n) => (n.to_string(), Some(n)),
                            None => {
                                return fail(
                                    codes::WRONG_KIND,
                                    format!("a sweep is over numbers, texts or vectors, not over {}", v.kind()),
                                    e.span,
                                    "in this list",
                                );
                            }
                        },
                    };
                    let value = number.map_or_else(|| v.clone(), Value::Number);
                    out.push(Entry { label, number, value });
                }
                out
            }
            other => {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, format!("a sweep cannot go over {}", other.kind()))
                        .at(e.span, "this")
                        .help("write `blocks`, `tokens(run)`, an axis such as `head`, a list, a data set, or `0..10`"),
                ));
            }
        })
    }

    /// `tokens(run)[1..]`: some of them.
    fn part(&mut self, of: &Expr, item: &IndexItem, whole: &Expr) -> Res<Vec<Entry>> {
        let all = self.entries_of(of)?;
        let n = all.len() as i64;
        let from_end = |i: i64| if i < 0 { i + n } else { i };
        let (lo, hi) = match item {
            IndexItem::All(_) => (0, n),
            IndexItem::At(e) => {
                let i = from_end(self.integer(e)?);
                (i, i + 1)
            }
            IndexItem::Range { start, end, inclusive, .. } => {
                let lo = start.as_ref().map_or(Ok(0), |e| self.integer(e).map(from_end))?;
                let hi = end.as_ref().map_or(Ok(n), |e| self.integer(e).map(from_end))?;
                (lo, hi + i64::from(*inclusive && end.is_some()))
            }
        };
        if lo < 0 || hi > n || lo >= hi {
            return fail(codes::OUT_OF_RANGE, format!("there are {n} of these"), whole.span, "beyond them");
        }
        Ok(all.into_iter().skip(lo as usize).take((hi - lo) as usize).collect())
    }
}
