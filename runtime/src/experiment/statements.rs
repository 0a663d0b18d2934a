//! All statements of a script as one experiment: compiled together, run together, reported in order.

use super::derive::{arithmetic, tensors};
use super::live::{Ask, Gathered, Grow, run as run_live};
use super::measure::{Logits, Reading, columns_of, positions, sequence};
use super::phase::{PhaseOptions, Prepared, TensorValues, engine, prepare};
use super::session::{Session, one};

use crate::error::Error;
use crate::report::{self, Align, Completion, Generation, Output, Receipt, Table, Value};
use crate::tensors::Named;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use steer_compiler::elaborate::{
    GenerateOptions, MeasureRuns, Metric, MetricExpr, OutputSpec, PrintItem, RunSpec, Statement, StatementKind,
};
use steer_lang::{Diagnostic, Diagnostics, codes};

/// Where the runs of one statement are among those of the phase.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The statement's own runs; of `generate` baseline and steered in turn where there are edits.
    runs: Vec<usize>,
    outputs: Vec<usize>,
}

/// The phase of a script's statements, and what each of them asks.
pub struct Experiment {
    pub prepared: Prepared,
    asks: Vec<Ask>,
    places: Vec<Place>,
    logits: Logits,
}

/// Compiles all statements of a script as one phase.
pub fn prepare_all(session: &Session, options: &PhaseOptions) -> Result<Experiment, Diagnostics> {
    let mut runs: Vec<RunSpec> = Vec::new();
    let mut add = |run: &RunSpec| {
        runs.iter().position(|r| r.text == run.text && r.uses == run.uses).unwrap_or_else(|| {
            runs.push(run.clone());
            runs.len() - 1
        })
    };
    let mut outputs: Vec<OutputSpec> = Vec::new();
    let mut places = Vec::new();
    let logits = how_logits(&session.script.statements, &mut outputs);
    let mut growing: Vec<(usize, Grow)> = Vec::new();
    let mut reads: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    let mut grown: Vec<RunSpec> = Vec::new();
    for (number, s) in session.script.statements.iter().enumerate() {
        let mut place = Place::default();
        match &s.kind {
            StatementKind::Generate { runs: specs, options } => {
                for (i, spec) in specs.iter().enumerate() {
                    let baseline = RunSpec { uses: Vec::new(), label: "baseline".into(), ..spec.clone() };
                    let both: Vec<RunSpec> =
                        if spec.uses.is_empty() { vec![spec.clone()] } else { vec![baseline, spec.clone()] };
                    for one in both {
                        // Each grows on its own; equal rows are shared all the same.
                        place.runs.push(grown.len());
                        grown.push(one);
                        let Logits::Whole(logits) = logits else { return Err(self::one(broken("no logits"))) };
                        growing.push((
                            grown.len() - 1,
                            Grow { options: *options, key: [number as u64, i as u64], logits },
                        ));
                    }
                }
            }
            StatementKind::Measure { metrics, runs: groups, .. } => {
                for run in groups.iter().flat_map(|g| &g.runs) {
                    let at = add(run);
                    place.runs.push(at);
                    for m in metrics {
                        let rows = positions(&m.at.rows(&sequence(run)));
                        match (&logits, columns_of(&m.value)) {
                            (Logits::Whole(o), _) => reads.push((at, *o, rows.clone())),
                            (Logits::Columns(c), Some(tokens)) => {
                                reads.extend(tokens.iter().map(|t| (at, c[t], rows.clone())));
                            }
                            (Logits::Columns(_), None) => {}
                        }
                        let mut others: Vec<RunSpec> = Vec::new();
                        m.value.visit(&mut |part| {
                            if let MetricExpr::Kl(other) = part {
                                others.push((**other).clone());
                            }
                        });
                        for other in others {
                            let o = add(&other);
                            let last = other.encoded.tokens.len().saturating_sub(1);
                            if let Logits::Whole(l) = logits {
                                reads.push((o, l, rows.iter().map(|p| (*p).min(last)).collect()));
                            }
                        }
                    }
                }
            }
            StatementKind::Capture { sites, before, on, runs: specs, .. } => {
                for site in sites {
                    let spec = OutputSpec::Site { name: site.clone(), before: *before };
                    let o = outputs.iter().position(|x| *x == spec).unwrap_or_else(|| {
                        outputs.push(spec);
                        outputs.len() - 1
                    });
                    place.outputs.push(o);
                }
                for run in specs {
                    let at = add(run);
                    place.runs.push(at);
                    let rows = positions(&on.rows(&sequence(run)));
                    reads.extend(place.outputs.iter().map(|o| (at, *o, rows.clone())));
                }
            }
            StatementKind::Print(_) => {}
        }
        places.push(place);
    }
    // Runs that grow stand behind those that do not.
    let base = runs.len();
    runs.extend(grown);
    for (place, s) in places.iter_mut().zip(&session.script.statements) {
        if matches!(s.kind, StatementKind::Generate { .. }) {
            place.runs.iter_mut().for_each(|r| *r += base);
        }
    }
    let mut asks = vec![Ask { reads: vec![Vec::new(); outputs.len()], grow: None }; runs.len()];
    for (run, output, rows) in reads {
        for p in rows {
            if !asks[run].reads[output].contains(&p) {
                asks[run].reads[output].push(p);
            }
        }
    }
    for (run, grow) in growing {
        asks[base + run].grow = Some(grow);
    }
    let prepared = prepare(&session.script, &runs, &outputs, options)?;
    Ok(Experiment { prepared, asks, places, logits })
}

impl Experiment {
    /// The rows of all prompts, and those of each stretch that the rows engine would compute of them.
    pub fn count_rows(&self) -> (usize, Vec<u64>) {
        let work = super::live::first_work(&self.prepared, &self.asks);
        let rows = work.iter().map(|w| w.tokens.len()).sum();
        (rows, crate::rows::count_each(&self.prepared.program, &self.prepared.engine_runs, &work))
    }
}

/// Whole logits where anything needs them, else only the columns that metrics name.
fn how_logits(statements: &[Statement], outputs: &mut Vec<OutputSpec>) -> Logits {
    let mut tokens: Vec<u32> = Vec::new();
    let mut whole = false;
    for s in statements {
        match &s.kind {
            StatementKind::Generate { .. } => whole = true,
            StatementKind::Measure { metrics, .. } => {
                for m in metrics {
                    match columns_of(&m.value) {
                        Some(c) => tokens.extend(c),
                        None => whole = true,
                    }
                }
            }
            _ => {}
        }
    }
    if whole {
        outputs.push(OutputSpec::Site { name: "logits".into(), before: false });
        return Logits::Whole(outputs.len() - 1);
    }
    tokens.sort_unstable();
    tokens.dedup();
    let columns = tokens.into_iter().map(|t| {
        outputs.push(OutputSpec::Logit(t));
        (t, outputs.len() - 1)
    });
    Logits::Columns(columns.collect())
}

/// What a run of a script gave.
pub struct Done {
    pub outputs: Vec<Output>,
    pub receipts: Vec<Receipt>,
    pub gathered: Gathered,
    pub warnings: Diagnostics,
    pub seconds: BTreeMap<String, f64>,
}

/// Runs all statements. `print` is given the text of each in the script's order, as it is there.
pub fn run(
    session: &Session,
    options: &PhaseOptions,
    print: &mut dyn FnMut(&str) -> Result<(), Error>,
) -> Result<Done, Diagnostics> {
    let clock = std::time::Instant::now();
    let mut seconds = BTreeMap::new();
    let experiment = prepare_all(session, options)?;
    seconds.insert("compile".into(), clock.elapsed().as_secs_f64());
    if !session.checkpoint.has_weights() {
        return Err(vec![
            Diagnostic::error(codes::NO_MODEL, format!("{} has no weights", session.model_name))
                .help("it can be checked but not run; put its safetensors files beside config.json"),
        ]);
    }
    let mut wanted: BTreeSet<String> = experiment.prepared.plan.tensors.iter().map(|t| t.name.clone()).collect();
    for s in &session.script.statements {
        if let StatementKind::Print(items) = &s.kind {
            for item in items {
                if let PrintItem::Value { plan, .. } = item {
                    wanted.extend(plan.tensors.iter().map(|t| t.name.clone()));
                }
            }
        }
    }
    let clock = std::time::Instant::now();
    let values = tensors(session, &wanted, options)?;
    seconds.insert("derive".into(), clock.elapsed().as_secs_f64());
    let mut gathered = Gathered::default();
    let mut shown = Shown { print, error: None, streaming: stream_target(session, &experiment) };
    if !experiment.asks.is_empty() {
        let clock = std::time::Instant::now();
        let mut engine = engine(session, &experiment.prepared, &values, options).map_err(one)?;
        seconds.insert("load".into(), clock.elapsed().as_secs_f64());
        let mut on_text = |run: usize, text: &str| shown.stream(run, text);
        gathered = run_live(session, &experiment.prepared, engine.as_mut(), &experiment.asks, options, &mut on_text)
            .map_err(one)?;
    }
    seconds.insert("prompts".into(), gathered.prompt_seconds);
    seconds.insert("generate".into(), gathered.new_seconds);
    let mut outputs = Vec::new();
    for (number, s) in session.script.statements.iter().enumerate() {
        let place = &experiment.places[number];
        let (out, text) = statement(session, &experiment, s, place, &gathered, &values, shown.streaming.is_some())?;
        outputs.extend(out);
        shown.text(&text);
    }
    if let Some(e) = shown.error {
        return Err(one(e));
    }
    let receipts = receipts(session, &experiment.prepared, &gathered);
    let mut warnings = experiment.prepared.warnings.clone();
    warnings.extend(never_fired(session, &experiment, &gathered));
    Ok(Done { outputs, receipts, gathered, warnings, seconds })
}

/// Prints as results come.
struct Shown<'p> {
    print: &'p mut dyn FnMut(&str) -> Result<(), Error>,
    error: Option<Error>,
    /// The run whose text is printed as it comes.
    streaming: Option<usize>,
}

impl Shown<'_> {
    fn text(&mut self, text: &str) {
        if self.error.is_none()
            && !text.is_empty()
            && let Err(e) = (self.print)(text)
        {
            self.error = Some(e);
        }
    }

    fn stream(&mut self, run: usize, text: &str) {
        if self.streaming == Some(run) {
            self.text(text);
        }
    }
}

/// A script that does nothing but continue one text prints it as it comes.
fn stream_target(session: &Session, experiment: &Experiment) -> Option<usize> {
    match (&session.script.statements[..], &experiment.places[..]) {
        ([Statement { kind: StatementKind::Generate { .. }, .. }], [place]) if place.runs.len() == 1 => {
            Some(place.runs[0])
        }
        _ => None,
    }
}

fn statement(
    session: &Session,
    experiment: &Experiment,
    s: &Statement,
    place: &Place,
    gathered: &Gathered,
    values: &TensorValues,
    streamed: bool,
) -> Result<(Vec<Output>, String), Diagnostics> {
    match &s.kind {
        StatementKind::Generate { runs, options } => Ok(generate(runs, options, place, gathered, streamed)),
        StatementKind::Measure { mean, metrics, runs } => measure(experiment, *mean, metrics, runs, place, gathered, s),
        StatementKind::Capture { sites, runs, to, .. } => {
            capture(session, experiment, sites, runs, to, place, gathered)
        }
        StatementKind::Print(items) => {
            let mut text = Vec::new();
            let mut out = Vec::new();
            for item in items {
                match item {
                    PrintItem::Text(t) => {
                        text.push(t.clone());
                        out.push(Value::Text(t.clone()));
                    }
                    PrintItem::Value { label, plan } => {
                        let data = arithmetic(plan, values.clone()).map_err(one)?;
                        let (shown, value) = shown_value(label, plan, &data);
                        text.push(shown);
                        out.push(value);
                    }
                }
            }
            Ok((vec![Output::Print { values: out }], text.join(" ") + "\n"))
        }
    }
}

fn shown_value(label: &str, plan: &steer_compiler::plan::Plan, data: &[f32]) -> (String, Value) {
    let Some(output) = plan.outputs.first() else { return (String::new(), Value::List(Vec::new())) };
    let ty = plan.ty(output.node);
    if ty.axes.is_empty() {
        let x = f64::from(data.first().copied().unwrap_or(f32::NAN));
        return (report::number(x), Value::Number(x));
    }
    let norm = data.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let head: Vec<String> = data.iter().take(4).map(|x| report::number(f64::from(*x))).collect();
    let more = if data.len() > 4 { ", ..." } else { "" };
    let axes = ty
        .axes
        .iter()
        .map(|a| (a.name.to_string(), if let steer_compiler::plan::Size::Fixed(n) = a.size { n } else { 0 }));
    let value = Value::Tensor { axes: axes.collect(), data: data.to_vec() };
    (format!("{label} {ty} norm {} [{}{more}]", report::number(norm), head.join(", ")), value)
}

fn generate(
    specs: &[RunSpec],
    _options: &GenerateOptions,
    place: &Place,
    gathered: &Gathered,
    streamed: bool,
) -> (Vec<Output>, String) {
    let mut out = Vec::new();
    let mut text = String::new();
    let mut at = place.runs.iter();
    for spec in specs {
        let count = if spec.uses.is_empty() { 1 } else { 2 };
        let mut completions = Vec::new();
        for i in 0..count {
            let Some(&run) = at.next() else { break };
            let with = if i + 1 < count || spec.uses.is_empty() {
                "baseline".to_owned()
            } else {
                spec.label.rsplit_once(" with ").map_or_else(|| "steered".into(), |(_, w)| w.to_owned())
            };
            completions.push(Completion {
                with,
                text: gathered.texts[run].clone(),
                tokens: gathered.generated[run].clone(),
            });
        }
        if streamed {
            text.push('\n');
        } else {
            let blocks: Vec<(&str, String)> =
                completions.iter().map(|c| (c.with.as_str(), format!("{}{}", spec.text, c.text))).collect();
            let refs: Vec<(&str, &str)> = blocks.iter().map(|(w, t)| (*w, t.as_str())).collect();
            text.push_str(&report::beside(&refs, report::width::terminal(100)));
            text.push('\n');
        }
        out.push(Output::Generate(Generation { prompt: spec.text.to_string(), completions }));
    }
    (out, text)
}

fn measure(
    experiment: &Experiment,
    mean: bool,
    metrics: &[Metric],
    groups: &[MeasureRuns],
    place: &Place,
    gathered: &Gathered,
    s: &Statement,
) -> Result<(Vec<Output>, String), Diagnostics> {
    let mut out = Vec::new();
    let mut columns: Vec<(&str, Align)> = vec![("run", Align::Left)];
    columns.extend(metrics.iter().map(|m| (m.name.as_str(), Align::Right)));
    let mut table = Table::new(&columns);
    let find =
        |other: &RunSpec| experiment.prepared.runs.iter().position(|r| r.text == other.text && r.uses == other.uses);
    let mut at = place.runs.iter();
    for group in groups {
        let mut cells: Vec<Vec<f64>> = vec![Vec::new(); metrics.len()];
        for spec in &group.runs {
            let Some(&run) = at.next() else { break };
            let reading = Reading { values: &gathered.values, logits: &experiment.logits, run, spec, others: &find };
            let mut row = vec![spec.label.clone()];
            for (m, cells) in metrics.iter().zip(&mut cells) {
                let mut sum = 0.0;
                let at = positions(&m.at.rows(&sequence(spec)));
                if gathered.stopped {
                    row.push("-".into());
                    continue;
                }
                for p in &at {
                    sum += reading.at(&m.value, *p).map_err(|e| vec![e.0.at(s.span, "measured here")])?;
                }
                let value = sum / at.len() as f64;
                cells.push(value);
                row.push(report::number(value));
            }
            if !mean {
                table.row(row);
            }
        }
        if mean {
            let average = |c: &Vec<f64>| c.iter().sum::<f64>() / c.len() as f64;
            let mut row = vec![format!("mean over {} of {}", group.runs.len(), group.label)];
            row.extend(cells.iter().map(|c| report::number(average(c))));
            table.row(row);
        }
        let with: Vec<String> = group
            .label
            .split_once(" with ")
            .map(|(_, w)| w.split(", ").map(str::to_owned).collect())
            .unwrap_or_default();
        for (m, c) in metrics.iter().zip(cells) {
            let value = match (&c[..], mean) {
                (_, true) => Value::Number(c.iter().sum::<f64>() / c.len() as f64),
                ([one], false) => Value::Number(*one),
                (all, false) => Value::List(all.iter().map(|x| Value::Number(*x)).collect()),
            };
            out.push(Output::Measure { metric: m.name.clone(), over: group.label.clone(), with: with.clone(), value });
        }
    }
    Ok((out, table.render()))
}

fn capture(
    session: &Session,
    experiment: &Experiment,
    sites: &[String],
    runs: &[RunSpec],
    to: &str,
    place: &Place,
    gathered: &Gathered,
) -> Result<(Vec<Output>, String), Diagnostics> {
    let mut shapes = BTreeMap::new();
    let mut stored: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (run, spec) in place.runs.iter().zip(runs) {
        for (site, output) in sites.iter().zip(&place.outputs) {
            let mut rows = experiment.asks[*run].reads[*output].clone();
            rows.sort_unstable();
            let found: Vec<&Arc<[f32]>> =
                rows.iter().filter_map(|p| gathered.values.get(&(*run, *output, *p))).collect();
            let ty = experiment.prepared.plan.ty(experiment.prepared.plan.outputs[*output].node);
            let widest = rows.iter().max().map_or(0, |p| p + 1);
            let mut shape = vec![found.len()];
            shape.extend(ty.axes.iter().map(|a| match a.size {
                steer_compiler::plan::Size::Fixed(n) => n,
                steer_compiler::plan::Size::Keys => widest,
            }));
            let mut data = Vec::new();
            for v in found {
                extend_padded(&mut data, v, ty.has_keys(), widest, ty.len_with(1));
            }
            let name = if runs.len() == 1 { site.clone() } else { format!("{}.{site}", spec.label) };
            shapes.insert(name.clone(), shape.clone());
            stored.push((name, shape, data));
        }
    }
    let path = session.path(to);
    if !gathered.stopped {
        let named: Vec<Named> = stored.iter().map(|(name, shape, data)| Named { name, shape, data }).collect();
        let metadata = BTreeMap::from([("producer".to_owned(), format!("steer {}", env!("CARGO_PKG_VERSION")))]);
        crate::tensors::write_safetensors(&path, &named, &metadata).map_err(one)?;
    }
    let text = format!("captured {} tensors to {}\n", stored.len(), path.display());
    Ok((vec![Output::Capture { file: to.to_owned(), tensors: shapes }], text))
}

/// Appends a row; rows with fewer keys than the widest are filled with zeros at the end of each head.
fn extend_padded(data: &mut Vec<f32>, row: &[f32], keyed: bool, widest: usize, heads: usize) {
    if !keyed {
        return data.extend_from_slice(row);
    }
    let keys = row.len() / heads.max(1);
    for part in row.chunks_exact(keys.max(1)) {
        data.extend_from_slice(part);
        data.resize(data.len() + widest - keys, 0.0);
    }
}

/// One receipt an edit and site, over all runs, in the Plan's order.
fn receipts(session: &Session, prepared: &Prepared, gathered: &Gathered) -> Vec<Receipt> {
    let mut by_edit: HashMap<usize, Vec<crate::engine::RowReceipt>> = HashMap::new();
    for r in &gathered.receipts {
        by_edit.entry(r.edit.0 as usize).or_default().push(*r);
    }
    let mut out = Vec::new();
    for (i, e) in prepared.plan.edits.iter().enumerate() {
        let selected: Vec<u64> =
            gathered.selected.iter().filter(|((_, edit), _)| edit.0 as usize == i).map(|(_, n)| *n).collect();
        let none = Vec::new();
        let rows = by_edit.get(&i).unwrap_or(&none);
        if selected.is_empty() && rows.is_empty() {
            continue;
        }
        let plan = &session.script.plan;
        let unit = plan.sites.iter().find(|s| s.name == e.site).and_then(|s| plan.ty(s.value).axes.first().cloned());
        let unit = match unit.as_ref().map(|a| &*a.name) {
            Some("head" | "kv_head") => "head",
            Some("expert") => "expert",
            _ => "element",
        };
        out.push(Receipt::of(&e.name, &e.site, e.layer, unit, selected.iter().sum(), rows));
    }
    out
}

/// Edits that selected no row in any run although their text may have come up while generating.
fn never_fired(session: &Session, experiment: &Experiment, gathered: &Gathered) -> Diagnostics {
    let fired: BTreeSet<&str> =
        gathered.receipts.iter().map(|r| experiment.prepared.plan.edits[r.edit.0 as usize].name.as_str()).collect();
    let used: BTreeSet<usize> = experiment.prepared.decls.iter().flatten().copied().collect();
    let unread: BTreeSet<&str> = experiment
        .prepared
        .rules
        .iter()
        .flat_map(|(_, c)| &c.unread_edits)
        .map(|e| experiment.prepared.plan.edits[e.0 as usize].name.as_str())
        .collect();
    used.iter()
        .map(|&d| &session.script.edits[d])
        .filter(|d| !d.maybe && !fired.contains(d.name.as_str()) && !unread.contains(d.name.as_str()))
        .map(|d| {
            Diagnostic::warning(codes::EMPTY_SELECTION, format!("`{}` fired on no row", d.name))
                .at(d.on_span, "this never came up")
                .help("write `on maybe ...` where that is meant")
        })
        .collect()
}

pub fn broken(what: &str) -> Error {
    Error::new(codes::BACKEND, format!("the experiment lost its way: {what}")).help("this is a bug in steer")
}
