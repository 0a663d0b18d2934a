//! Types of edits and of what metrics read: one Plan with all of them.

use super::check::Checker;
use super::model::{Built, OutputSpec};
use super::script::{Counts, MetricExpr, ParamValue, Read, Statement, StatementKind, TableAxis, TableSpec};
use crate::plan::{Axis, Sight, Size, Type};
use std::collections::HashMap;
use steer_lang::{Diagnostic, Span, codes};

/// The values that metrics read, each once, by their keys.
#[derive(Default)]
struct Wanted {
    outputs: Vec<OutputSpec>,
    rows: HashMap<String, usize>,
}

impl Wanted {
    fn add(&mut self, m: &MetricExpr) {
        m.visit(&mut |part| {
            if let MetricExpr::Row(read) = part
                && !self.rows.contains_key(&read.key)
            {
                self.rows.insert(read.key.clone(), self.outputs.len());
                self.outputs.push(OutputSpec::Row((**read).clone()));
            }
            if let Some(lens) = part.lens()
                && !self.outputs.iter().any(|o| matches!(o, OutputSpec::Lens(l) if l == lens))
            {
                self.outputs.push(OutputSpec::Lens(lens.clone()));
            }
        });
    }
}

impl Checker<'_> {
    /// Builds one Plan with every edit at every site of its own and all that metrics read, so that each is
    /// checked there.
    pub(super) fn type_check(&mut self, statements: &mut [Statement]) {
        let instances: Vec<_> =
            self.edits.iter().flat_map(|e| e.sites.iter().map(|(site, layer)| e.instance(site, *layer))).collect();
        let mut wanted = Wanted::default();
        if self.site_names.contains("logits") {
            wanted.outputs.push(OutputSpec::Site { name: "logits".into(), before: false });
        }
        for s in statements.iter() {
            match &s.kind {
                StatementKind::Table(t) => {
                    reads_of(t).flat_map(|r| r.metrics.iter()).for_each(|m| wanted.add(&m.value));
                }
                StatementKind::Generate { scores, .. } => scores.iter().for_each(|m| wanted.add(&m.value)),
                _ => {}
            }
        }
        let built = match self.model.build(&instances, &wanted.outputs, &self.tensor_types, &self.globals) {
            Ok(built) => built,
            Err(d) => return self.diagnostics.push(*d),
        };
        self.note_entries(&built);
        let failed = built.diagnostics.iter().any(|d| d.severity == steer_lang::Severity::Error);
        self.diagnostics.extend(built.diagnostics);
        if failed {
            return;
        }
        let ty = |key: &str| wanted.rows.get(key).map(|i| built.plan.ty(built.plan.outputs[*i].node));
        let sight = |key: &str| {
            let node = wanted.rows.get(key).map(|i| built.plan.outputs[*i].node);
            node.and_then(|n| built.plan.sight_inside(n)).unwrap_or_default()
        };
        for s in statements {
            let checked = match &mut s.kind {
                StatementKind::Table(t) => self.own_axes(t, s.span, &ty, &sight).map(|own| t.own = own),
                StatementKind::Generate { scores, .. } => scores.iter().try_for_each(|m| scalars(&m.value, &ty)),
                _ => Ok(()),
            };
            self.diagnostics.extend(checked.err().map(|d| *d));
        }
    }

    /// What bodies index with parameters: the script's are checked now, those of edits with each run.
    fn note_entries(&mut self, built: &Built) {
        let of: Vec<usize> = self.edits.iter().enumerate().flat_map(|(i, e)| e.sites.iter().map(move |_| i)).collect();
        for c in &built.counted {
            let (edit, slot) = (c.edit.0 as usize, c.slot as usize);
            let own = of.get(edit).copied();
            if let Some(p) = own.and_then(|e| self.edits[e].params.get_mut(slot)) {
                if p.counts.as_ref().is_none_or(|known| known.entries > c.counts.entries) {
                    p.counts = Some(c.counts.clone());
                }
                continue;
            }
            let name = &built.plan.edits[edit].params[slot];
            let value = self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v);
            if let Some(ParamValue::Number(n)) = value
                && let Some(d) = no_entry(&c.counts, *n, c.counts.span, name)
            {
                self.diagnostics.push(d);
            }
        }
        for (edit, first, span) in &built.keys {
            if let Some(e) = of.get(edit.0 as usize).and_then(|e| self.edits.get_mut(*e))
                && !e.keys.contains(&(*first, *span))
            {
                e.keys.push((*first, *span));
            }
        }
    }

    /// The axes of a table's metrics, which all of them share.
    fn own_axes<'t>(
        &self,
        t: &TableSpec,
        span: Span,
        ty: &dyn Fn(&str) -> Option<&'t Type>,
        sight: &dyn Fn(&str) -> Sight,
    ) -> Result<Vec<TableAxis>, Box<Diagnostic>> {
        let mut own: Option<Vec<TableAxis>> = None;
        for read in reads_of(t) {
            for m in read.metrics.iter() {
                let axes = match &m.value {
                    MetricExpr::Row(r) => ty(&r.key).map(|t| t.axes.clone()).unwrap_or_default(),
                    other => {
                        scalars(other, ty)?;
                        Vec::new()
                    }
                };
                // Entries of a fixed number are called the same everywhere.
                if let Some(known) = &own
                    && known.len() == axes.len()
                    && known.iter().zip(&axes).all(|(k, a)| k.name == *a.name && a.size == Size::Fixed(k.labels.len()))
                {
                    continue;
                }
                let axes =
                    axes.iter().map(|a| self.table_axis(a, read, m, sight, span)).collect::<Result<Vec<_>, _>>()?;
                match &mut own {
                    None => own = Some(axes),
                    Some(known) if same(known, &axes) => {
                        known.iter_mut().zip(&axes).for_each(|(known, mine)| known.agree(mine, |_| None));
                    }
                    Some(known) => {
                        return Err(Box::new(
                            Diagnostic::error(codes::AXIS_MISMATCH, "what is measured has different axes")
                                .at(span, format!("{} and {}", listed(known), listed(&axes)))
                                .help(
                                    "measure values with other axes, or of another length, in a statement of their own",
                                ),
                        ));
                    }
                }
            }
        }
        Ok(own.unwrap_or_default())
    }

    fn table_axis(
        &self,
        a: &Axis,
        read: &Read,
        m: &super::script::Metric,
        sight: &dyn Fn(&str) -> Sight,
        span: Span,
    ) -> Result<TableAxis, Box<Diagnostic>> {
        match a.size {
            Size::Fixed(n) => Ok(TableAxis {
                name: a.name.to_string(),
                labels: match &*a.name {
                    "vocab" => (0..n as u32).map(|t| self.host.piece(t)).collect(),
                    _ => (0..n).map(|i| i.to_string()).collect(),
                },
                numbers: Some((0..n).map(|i| i as f64).collect()),
                first: 0,
            }),
            Size::Keys => {
                let rows = m.at.rows(&read.run.sequence());
                let mut at = rows.iter().enumerate().filter(|(_, on)| **on).map(|(i, _)| i);
                let (Some(row), None) = (at.next(), at.next()) else {
                    return Err(Box::new(
                        Diagnostic::error(codes::AXIS_MISMATCH, "each row has as many keys as it has earlier rows")
                            .at(span, "measured at several positions")
                            .help("measure it at one position: `metric m = ... at seq[-1]`"),
                    ));
                };
                let all = &read.run.encoded.tokens;
                let sight = if let MetricExpr::Row(r) = &m.value { sight(&r.key) } else { Sight::default() };
                let keys = sight.of(row, all.len());
                let first = keys.start;
                let tokens = &all[keys];
                Ok(TableAxis {
                    name: a.name.to_string(),
                    labels: tokens.iter().map(|t| self.host.piece(*t)).collect(),
                    numbers: None,
                    first,
                })
            }
        }
    }
}

/// The error for a value of a parameter that counts entries of an axis.
pub(super) fn no_entry(counts: &Counts, n: f64, span: Span, name: &str) -> Option<Diagnostic> {
    let Counts { axis, first, entries, .. } = counts;
    let last = (first + entries).saturating_sub(1);
    if n.fract() == 0.0 && (*first as f64..=last as f64).contains(&n) {
        return None;
    }
    let (message, help) = match first {
        0 => (
            format!("`{axis}` has no entry {n}, which `{name}` is"),
            format!("entries that a parameter names count from 0 to {last}"),
        ),
        _ => (
            format!("`{name}` is {n}, and so many of `{axis}` cannot be chosen"),
            format!("give a whole number from {first} to {last}"),
        ),
    };
    Some(Diagnostic::error(codes::OUT_OF_RANGE, message).at(span, format!("there are {entries}")).help(help))
}

fn reads_of(t: &TableSpec) -> impl Iterator<Item = &Read> {
    t.cells.iter().flat_map(|c| c.reads.iter().chain(&c.zero).chain(&c.one))
}

/// Only a whole metric may have axes.
fn scalars<'t>(m: &MetricExpr, ty: &dyn Fn(&str) -> Option<&'t Type>) -> Result<(), Box<Diagnostic>> {
    let mut bad = None;
    m.visit(&mut |part| {
        if let MetricExpr::Row(r) = part
            && let Some(t) = ty(&r.key)
            && !t.axes.is_empty()
        {
            bad = Some((r.span, t.to_string()));
        }
    });
    match bad {
        None => Ok(()),
        Some((span, axes)) => Err(Box::new(
            Diagnostic::error(codes::AXIS_MISMATCH, "this is of numbers")
                .at(span, format!("this has the axes {axes}"))
                .help("reduce it, as with `sum`, `dot` or an index; or measure it by itself"),
        )),
    }
}

fn same(a: &[TableAxis], b: &[TableAxis]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name == b.name && a.labels.len() == b.labels.len())
}

fn listed(axes: &[TableAxis]) -> String {
    let names: Vec<String> = axes.iter().map(|a| format!("{} {}", a.name, a.labels.len())).collect();
    if names.is_empty() { "none".into() } else { format!("[{}]", names.join(", ")) }
}
