//! Declared tensors; those that are derived from what the model has at a site.

use super::check::Checker;
use super::derive::DeriveState;
use super::scope::{Eval, Res, TensorType, fail};
use super::script::{Derived, RunSpec, TensorFrom, TensorSpec};
use super::value::Value;
use crate::plan::{Axis, Output, Size};
use std::collections::BTreeMap;
use std::rc::Rc;
use steer_lang::ast::{Expr, ExprKind, IndexItem, Item, ItemKind, SitePath, TensorDecl};
use steer_lang::{Diagnostic, codes};

impl Checker<'_> {
    pub(super) fn tensor(&mut self, item: &Item) -> Res<()> {
        let ItemKind::Tensor(t) = &item.kind else { return Ok(()) };
        if let Some(family) = &t.family
            && family.name != "layer"
        {
            return Err(Box::new(
                Diagnostic::error(
                    codes::UNKNOWN_NAME,
                    format!("a family of tensors is over `layer`, not `{}`", family.name),
                )
                .at(family.span, "here")
                .help(format!("write `{}[layer]`", t.name.name)),
            ));
        }
        let (source, axes, layers) = match &t.value.kind {
            ExprKind::Call(f, args) if matches!(&f.kind, ExprKind::Name(n) if n == "load") => self.load(t, args)?,
            _ => {
                let (parts, axes) = self.derived(t)?;
                let layers = match t.family.is_some() {
                    true => parts.iter().filter_map(|p| p.layer).collect(),
                    false => (0..self.layers).collect(),
                };
                (TensorFrom::Derived(parts), axes, layers)
            }
        };
        for axis in &axes {
            if let Size::Fixed(n) = axis.size {
                self.axes.entry(axis.name.to_string()).or_insert(Size::Fixed(n));
            }
        }
        let name = t.name.name.clone();
        self.tensor_types.insert(name.clone(), TensorType { axes, family: t.family.is_some(), layers });
        self.tensors.push(TensorSpec { name, family: t.family.is_some(), source, span: t.name.span });
        Ok(())
    }

    pub(super) fn declared_axes(&mut self, t: &TensorDecl) -> Res<Option<Vec<Axis>>> {
        let Some(list) = &t.axes else { return Ok(None) };
        let Value::List(items) = self.value(list)? else {
            return fail(codes::WRONG_KIND, "axes are a list, as in `[d_model]`", list.span, "this is none");
        };
        let mut axes = Vec::new();
        for i in items.iter() {
            match i {
                Value::Axes(a) => axes.extend(a.iter().cloned()),
                other => {
                    return fail(
                        codes::WRONG_KIND,
                        format!("an axis is wanted, not {}", other.kind()),
                        list.span,
                        "in this list",
                    );
                }
            }
        }
        Ok(Some(axes))
    }

    fn derived(&mut self, t: &TensorDecl) -> Res<(Vec<Derived>, Vec<Axis>)> {
        let Some(at) = &t.at else {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, "a derived tensor is taken at a site")
                    .at(t.value.span, "where?")
                    .help(format!("write `vector {} = ... at blocks[3].resid.post on prompt[-1]`", t.name.name)),
            ));
        };
        let family = t.family.as_ref().map(|f| f.name.as_str());
        let sites = self.sites(at, family)?;
        if family.is_none() && sites.len() != 1 {
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, "this is one tensor at several sites")
                    .at(at.span, format!("{} sites", sites.len()))
                    .help(format!("write `vector {}[layer] = ... at blocks[layer]...` for one a layer", t.name.name)),
            ));
        }
        if let Some(family) = family
            && !over_layers(at, family)
        {
            let rest: Vec<&str> = at.segments[1..].iter().map(|s| s.name.name.as_str()).collect();
            return Err(Box::new(
                Diagnostic::error(codes::WRONG_KIND, format!("`{}` has one value for every layer", t.name.name))
                    .at(at.span, "taken at one place")
                    .help(format!("write `at blocks[{family}].{}`, or drop `[{family}]`", rest.join("."))),
            ));
        }
        let on = self.selection(t.on.as_ref())?;
        let mut runs: BTreeMap<String, Vec<RunSpec>> = BTreeMap::new();
        let mut out = Vec::new();
        let mut axes: Option<Vec<Axis>> = None;
        for site in sites {
            let own = site.canonical();
            let ty = match self.plan.sites.iter().find(|s| s.name == own) {
                Some(s) => self.plan.ty(s.value).clone(),
                None => continue,
            };
            if ty.has_keys() {
                return fail(
                    codes::AXIS_MISMATCH,
                    format!("{} has as many entries as a row has keys", site.name),
                    at.span,
                    "it differs by row",
                );
            }
            let model = Rc::clone(&self.model);
            let mut eval = Eval::new(&model.library, &model.config, &self.tensor_types, &self.globals, "derived");
            eval.axes = self.axes.clone();
            eval.layer = site.layer;
            eval.layers = Some(self.layers);
            eval.derive = Some(DeriveState { axes: ty.axes, leaves: Vec::new() });
            let v = eval.expr(&t.value)?;
            let node = eval.node(&v, t.value.span)?;
            let leaves = eval.derive.take().map(|d| d.leaves).unwrap_or_default();
            if leaves.is_empty() {
                return Err(Box::new(
                    Diagnostic::error(codes::WRONG_KIND, "nothing here runs the model")
                        .at(t.value.span, "no data set in it")
                        .help("use `mean(data)`, `mean_diff(a, b)` or `pca(data)`"),
                ));
            }
            let have = eval.plan().ty(node).axes.clone();
            let name = if family.is_some() {
                format!("{}[{}]", t.name.name, site.layer.unwrap_or(0))
            } else {
                t.name.name.clone()
            };
            eval.b.plan.outputs.push(Output { name: name.clone(), node });
            let plan = eval.b.finish();
            axes.get_or_insert(have);
            for leaf in &leaves {
                for data in &leaf.data {
                    if !runs.contains_key(data) {
                        let found = self.data_runs(data, t.value.span)?.runs;
                        runs.insert(data.clone(), found);
                    }
                    for run in runs.get(data).into_iter().flatten() {
                        let mut found = Vec::new();
                        self.derived_rows(&on, run, t, &mut found);
                        self.diagnostics.extend(found);
                    }
                }
            }
            out.push(Derived { name, layer: site.layer, site: own, on: on.clone(), leaves, runs: Rc::default(), plan });
        }
        let runs = Rc::new(runs);
        out.iter_mut().for_each(|d: &mut Derived| d.runs = Rc::clone(&runs));
        Ok((out, axes.unwrap_or_default()))
    }

    fn derived_rows(&self, on: &super::positions::RowSet, run: &RunSpec, t: &TensorDecl, out: &mut Vec<Diagnostic>) {
        let span = t.on.as_ref().map_or(t.value.span, |s| s.span);
        self.rows_of(on, run, span, t.on.as_ref().is_some_and(|s| s.maybe), false, out);
    }
}

/// Whether a path is one over all layers, by the name of the family.
fn over_layers(at: &SitePath, family: &str) -> bool {
    let items = at.segments.first().and_then(|s| s.index.as_deref()).unwrap_or_default();
    matches!(items, [IndexItem::At(Expr { kind: ExprKind::Name(n), .. })] if n == family)
}
