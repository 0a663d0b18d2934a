//! Declared tensors: loaded from files, or derived from what the model has at a site.

use super::check::Checker;
use super::derive::DeriveState;
use super::scope::{Eval, Res, TensorType, fail};
use super::script::{Derived, RunSpec, TensorFrom, TensorSpec};
use super::value::Value;
use crate::plan::{Axis, Output, Size};
use std::collections::BTreeMap;
use std::rc::Rc;
use steer_lang::ast::{Arg, Expr, ExprKind, IndexItem, Item, ItemKind, SitePath, TensorDecl, TensorKind};
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
        let (source, axes) = match &t.value.kind {
            ExprKind::Call(f, args) if matches!(&f.kind, ExprKind::Name(n) if n == "load") => self.load(t, args)?,
            _ => self.derived(t)?,
        };
        for axis in &axes {
            if let Size::Fixed(n) = axis.size {
                self.axes.entry(axis.name.to_string()).or_insert(Size::Fixed(n));
            }
        }
        let name = t.name.name.clone();
        let layers = match &source {
            TensorFrom::Derived(parts) if t.family.is_some() => parts.iter().filter_map(|p| p.layer).collect(),
            _ => (0..self.layers).collect(),
        };
        self.tensor_types.insert(name.clone(), TensorType { axes, family: t.family.is_some(), layers });
        self.tensors.push(TensorSpec { name, family: t.family.is_some(), source, span: t.name.span });
        Ok(())
    }

    fn declared_axes(&mut self, t: &TensorDecl) -> Res<Option<Vec<Axis>>> {
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

    fn load(&mut self, t: &TensorDecl, args: &[Arg]) -> Res<(TensorFrom, Vec<Axis>)> {
        if t.at.is_some() || t.on.is_some() {
            return fail(codes::BAD_ARGUMENTS, "a loaded tensor has no site", t.value.span, "drop `at` and `on`");
        }
        let mut texts = Vec::new();
        for a in args {
            let kept = match &a.value.kind {
                // `{layer}` stays, for a family.
                ExprKind::Text(s) => Value::text(s),
                _ => self.value(&a.value)?,
            };
            match kept {
                Value::Text(s) => texts.push(s.to_string()),
                other => {
                    return fail(
                        codes::WRONG_KIND,
                        format!("a text is wanted, not {}", other.kind()),
                        a.value.span,
                        "this",
                    );
                }
            }
        }
        let (path, key) = match &texts[..] {
            [path] => (path.clone(), None),
            [path, key] => (path.clone(), Some(key.clone())),
            _ => {
                return fail(
                    codes::BAD_ARGUMENTS,
                    "`load` takes a path, and a key where a file has several tensors",
                    t.value.span,
                    "here",
                );
            }
        };
        let axes = match self.declared_axes(t)? {
            Some(axes) => axes,
            None if t.kind == TensorKind::Vector => match self.axes.get("d_model") {
                Some(&size) => vec![Axis { name: "d_model".into(), size }],
                None => {
                    return fail(
                        codes::AXIS_MISMATCH,
                        "this model has no axis `d_model`",
                        t.name.span,
                        "say its axis after `:`",
                    );
                }
            },
            None => {
                return Err(Box::new(
                    Diagnostic::error(codes::AXIS_MISMATCH, "which axes does it have?")
                        .at(t.name.span, "a file holds numbers without names")
                        .help(format!("write `tensor {}: [feature = 512, d_model] = load(...)`", t.name.name)),
                ));
            }
        };
        let key_of = |l: u32| key.as_ref().map(|k| k.replace("{layer}", &l.to_string()));
        let layers = if t.family.is_some() { 0..self.layers } else { 0..1 };
        for l in layers {
            let path = path.replace("{layer}", &l.to_string());
            let found = self.host.tensor_shape(&path, key_of(l).as_deref(), t.name.span.file);
            let shape = found.map_err(|d| Box::new(d.at(t.value.span, "loaded here")))?;
            let want: Vec<usize> =
                axes.iter().filter_map(|a| if let Size::Fixed(n) = a.size { Some(n) } else { None }).collect();
            if shape != want {
                return Err(Box::new(
                    Diagnostic::error(codes::WEIGHT_SHAPE, format!("{path} holds a tensor of another shape"))
                        .at(t.value.span, format!("it is {shape:?}, and {want:?} is declared"))
                        .help(advice(&shape, &want)),
                ));
            }
        }
        Ok((TensorFrom::File { path, key }, axes))
    }

    fn derived(&mut self, t: &TensorDecl) -> Res<(TensorFrom, Vec<Axis>)> {
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
        Ok((TensorFrom::Derived(out), axes.unwrap_or_default()))
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

/// What to do about a file that has its numbers in another shape.
fn advice(shape: &[usize], want: &[usize]) -> String {
    let long = |s: &[usize]| s.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
    let axes = match (shape, want) {
        ([1, n], [m]) if n == m => "[one = 1, d_model]",
        ([n, 1], [m]) if n == m => "[d_model, one = 1]",
        _ if long(shape) == long(want) => "[one = 1, ...]",
        _ => return "declare the axes as the file has them: `[feature = 512, d_model]`".into(),
    };
    format!("name the axis of one entry, too: `tensor v: {axes} = load(...)`, and take `sum(v, one)` for the vector")
}
