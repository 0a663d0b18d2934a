//! Derived tensors: runs over data sets, their statistics, and arithmetic over these.

use super::live::{Ask, Follow, run};
use super::measure::positions;
use super::needs::{self, Needs};
use super::phase::{PhaseOptions, TensorValues, prepare};
use super::ready::Ready;
use super::session::{Session, one};
use super::statements::broken;
use crate::engine::{Engine, Extend, Run, WeightSource};
use crate::error::Error;
use crate::progress::{Bar, Unit};
use crate::reference::Reference;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use steer_compiler::elaborate::{Derived, Leaf, LeafStat, OutputSpec, Ranking, RunSpec, TensorFrom, numbered, ranked};
use steer_compiler::plan::{Plan, Weight};
use steer_lang::{Diagnostic, Diagnostics, codes};

/// Steps of the bar.
const SHARES: u64 = 1000;

/// The values of the tensors of these names (a family's with their layer), and of all they are made from.
pub fn tensors(
    session: &Session,
    wanted: &BTreeSet<String>,
    options: &PhaseOptions,
) -> Result<TensorValues, Diagnostics> {
    let mut needed = wanted.clone();
    let rankings: Vec<Ranking> = wanted.iter().filter_map(|name| Ranking::named(name)).collect();
    for r in &rankings {
        needed.extend(members(session, &r.of).into_iter().map(|layer| r.source(layer)));
    }
    let mut values = TensorValues::default();
    let specs = &session.script.tensors;
    // Later tensors may be made from earlier ones, so go backwards.
    let mut derived: Vec<&Derived> = Vec::new();
    for spec in specs.iter().rev() {
        match &spec.source {
            TensorFrom::Derived(all) => {
                for d in all.iter().filter(|d| needed.contains(&d.name)).collect::<Vec<_>>() {
                    if let Some(value) = options.warm.as_ref().and_then(|w| w.tensor(&session.keys, &d.name)) {
                        values.0.insert(d.name.clone(), value);
                        continue;
                    }
                    needed.extend(d.plan.tensors.iter().map(|t| t.name.clone()));
                    derived.push(d);
                }
            }
            TensorFrom::File { path, key, shift } => {
                let layers = if spec.family { 0..session.script.layers } else { 0..1 };
                for l in layers {
                    let name = if spec.family { format!("{}[{l}]", spec.name) } else { spec.name.clone() };
                    if !needed.contains(&name) {
                        continue;
                    }
                    if let Some(value) = options.warm.as_ref().and_then(|w| w.tensor(&session.keys, &name)) {
                        values.0.insert(name, value);
                        continue;
                    }
                    let fill = |s: &str| numbered(s, l, *shift);
                    let array = crate::tensors::load(
                        &session.path_in(spec.span.file, &fill(path)),
                        key.as_deref().map(fill).as_deref(),
                    )
                    .map_err(|e| vec![e.0.at(spec.span, "loaded for this")])?;
                    let data: Arc<[f32]> = array.data.into();
                    if let Some(warm) = &options.warm {
                        warm.keep_tensor(&session.keys, &name, &data);
                    }
                    values.0.insert(name, data);
                }
            }
        }
    }
    derived.reverse();
    let leaves = statistics(session, &derived, options)?;
    for d in derived {
        let mut own = values.clone();
        for leaf in &d.leaves {
            let value = leaves.get(&leaf_key(d, leaf)).cloned().ok_or_else(|| one(broken("a statistic is missing")))?;
            own.0.insert(leaf.tensor.clone(), value);
        }
        let value = arithmetic(&d.plan, own).map_err(one)?;
        if let Some(bad) = value.iter().position(|x| !x.is_finite()) {
            return Err(vec![
                Diagnostic::error(codes::NOT_FINITE, format!("entry {bad} of `{}` is not a finite number", d.name))
                    .help("a norm in it may be 0: are the data sets equal there?"),
            ]);
        }
        if let Some(warm) = &options.warm {
            warm.keep_tensor(&session.keys, &d.name, &value);
        }
        values.0.insert(d.name.clone(), value);
    }
    for r in rankings {
        let ranks = ranks(session, &r, &values).map_err(one)?;
        values.0.insert(r.name(), ranks);
    }
    Ok(values)
}

/// The layers of a family, or no layer where it is one tensor.
fn members(session: &Session, of: &str) -> Vec<Option<u32>> {
    match session.script.tensor_types.get(of) {
        Some(ty) if ty.family => ty.layers.iter().map(|l| Some(*l)).collect(),
        _ => vec![None],
    }
}

/// The ranks of the entries of one tensor among all that are ranked with it.
fn ranks(session: &Session, r: &Ranking, values: &TensorValues) -> Result<Arc<[f32]>, Error> {
    let (mut all, mut own) = (Vec::new(), 0..0);
    for layer in members(session, &r.of) {
        let value = values.0.get(&r.source(layer)).ok_or_else(|| broken("a ranked tensor is missing"))?;
        if layer == r.layer {
            own = all.len()..all.len() + value.len();
        }
        all.extend(value.iter().copied());
    }
    let mut ranks = vec![0.0; all.len()];
    for (rank, entry) in ranked(r.order, &all).into_iter().enumerate() {
        ranks[entry] = rank as f32;
    }
    Ok(ranks[own].into())
}

/// The first entries of a ranking as the language writes them: `[[1, 5], [2, 5]]`, in their order.
pub fn first_entries(
    ranking: &Ranking,
    n: usize,
    layers: Option<&[u32]>,
    shape: &[usize],
    values: &TensorValues,
) -> Result<String, Error> {
    let members: Vec<Option<u32>> = layers.map_or(vec![None], |all| all.iter().map(|l| Some(*l)).collect());
    let each: usize = shape.iter().product();
    let mut all = Vec::new();
    for layer in &members {
        let value = values.0.get(&ranking.source(*layer)).ok_or_else(|| broken("a ranked tensor is missing"))?;
        all.extend(value.iter().copied());
    }
    let entry = |at: usize| {
        let mut parts: Vec<String> = members[at / each].iter().map(u32::to_string).collect();
        let mut rest = at % each;
        let mut stride = each;
        for size in shape {
            stride /= size;
            parts.push((rest / stride).to_string());
            rest %= stride;
        }
        match &parts[..] {
            [one] => one.clone(),
            _ => format!("[{}]", parts.join(", ")),
        }
    };
    let first: Vec<String> = ranked(ranking.order, &all).into_iter().take(n).map(entry).collect();
    Ok(format!("[{}]", first.join(", ")))
}

/// The names of derived tensors, a family's once; of many the first few.
fn families(derived: &[&Derived]) -> String {
    let mut names: Vec<&str> = derived.iter().map(|d| d.name.split('[').next().unwrap_or(&d.name)).collect();
    names.dedup();
    let more = names.len().saturating_sub(3);
    names.truncate(3);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names.join(", "))
}

fn leaf_key(d: &Derived, leaf: &Leaf) -> String {
    format!("{} {:?} {:?} {:?}", d.site, d.on, leaf.stat, leaf.data)
}

/// All statistics of all derived tensors, from one pass over the data sets.
fn statistics(
    session: &Session,
    derived: &[&Derived],
    options: &PhaseOptions,
) -> Result<HashMap<String, Arc<[f32]>>, Diagnostics> {
    let mut out = HashMap::new();
    let mut sites: Vec<&str> = derived.iter().map(|d| d.site.as_str()).collect();
    sites.sort_unstable();
    sites.dedup();
    let mut runs: Vec<RunSpec> = Vec::new();
    let mut of_data: HashMap<String, Vec<usize>> = HashMap::new();
    for d in derived {
        for name in d.leaves.iter().flat_map(|l| &l.data) {
            if of_data.contains_key(name) {
                continue;
            }
            let specs = d.runs.get(name).map(Vec::as_slice).unwrap_or_default();
            of_data.insert(name.clone(), (runs.len()..runs.len() + specs.len()).collect());
            runs.extend(specs.iter().cloned());
        }
    }
    if runs.is_empty() {
        return Ok(out);
    }
    let outputs: Vec<OutputSpec> =
        sites.iter().map(|s| OutputSpec::Site { name: (*s).into(), before: false }).collect();
    let prepared = prepare((&session.script, &session.checkpoint), &runs, &outputs, options)?;
    let mut asks = vec![Ask { reads: vec![Vec::new(); outputs.len()], grow: None }; runs.len()];
    for d in derived {
        let site = sites.iter().position(|s| *s == d.site).unwrap_or(0);
        for &run in d.leaves.iter().flat_map(|l| &l.data).flat_map(|n| &of_data[n]) {
            for p in positions(&d.on.rows(&runs[run].sequence())) {
                if !asks[run].reads[site].contains(&p) {
                    asks[run].reads[site].push(p);
                }
            }
        }
    }
    needs::check(&Needs::of(&prepared, &asks, options).map_err(one)?, &prepared, options)?;
    let none = TensorValues::default();
    let mut engine = Ready::new(session, &prepared, &none, options);
    let bar = Bar::new(&format!("deriving {}", families(derived)), Unit::Share(SHARES));
    let prompts = Arc::new(move |share: f64| bar.set((share * SHARES as f64) as u64));
    let mut follow = Follow { prompts, tokens: false, step: &mut |_| Ok(()) };
    let gathered = run(session, &prepared, &mut engine, &asks, options, &mut follow)?;
    engine.keep();
    if gathered.stopped {
        return Err(vec![Diagnostic::error(codes::STOPPED, "stopped while deriving tensors")]);
    }
    for d in derived {
        let site = sites.iter().position(|s| *s == d.site).unwrap_or(0);
        let rows_of = |data: &str| {
            let mut rows = Vec::new();
            for &run in &of_data[data] {
                for p in positions(&d.on.rows(&runs[run].sequence())) {
                    if let Some(v) = gathered.values.get(&(run, site, p)) {
                        rows.push(Arc::clone(v));
                    }
                }
            }
            rows
        };
        for leaf in &d.leaves {
            let key = leaf_key(d, leaf);
            if out.contains_key(&key) {
                continue;
            }
            let sets: Vec<Vec<Arc<[f32]>>> = leaf.data.iter().map(|n| rows_of(n)).collect();
            let _bar = Bar::new(&format!("deriving {}", d.name), Unit::Unknown);
            let texts = leaf.data.first().map_or(1, |n| of_data[n].len());
            let value = statistic(d, leaf, &sets, texts)?;
            out.insert(key, value);
        }
    }
    Ok(out)
}

fn statistic(d: &Derived, leaf: &Leaf, sets: &[Vec<Arc<[f32]>>], texts: usize) -> Result<Arc<[f32]>, Diagnostics> {
    let bad = |message: String, help: &str| vec![Diagnostic::error(codes::BAD_ARGUMENTS, message).help(help)];
    if sets.iter().any(Vec::is_empty) {
        return Err(bad(format!("`{}` has no rows to take a statistic of", d.name), "select rows that exist"));
    }
    match leaf.stat {
        LeafStat::Mean => Ok(mean(&sets[0]).iter().map(|x| *x as f32).collect()),
        LeafStat::Total => {
            let rows_of_a_text = sets[0].len() as f64 / texts as f64;
            Ok(mean(&sets[0]).iter().map(|x| (*x * rows_of_a_text) as f32).collect())
        }
        LeafStat::Component(k) => {
            let rows: Vec<Vec<f64>> = match sets {
                [a] => {
                    let m = mean(a);
                    a.iter().map(|r| r.iter().zip(&m).map(|(x, m)| f64::from(*x) - m).collect()).collect()
                }
                [a, b] if a.len() == b.len() => a
                    .iter()
                    .zip(b)
                    .map(|(x, y)| x.iter().zip(y.iter()).map(|(x, y)| f64::from(*x) - f64::from(*y)).collect())
                    .collect(),
                _ => {
                    return Err(bad(
                        format!(
                            "`pca` pairs its two data sets, and these have {} and {} rows",
                            sets[0].len(),
                            sets[1].len()
                        ),
                        "give them as many rows",
                    ));
                }
            };
            let Some(mut v) = component(&rows, k) else {
                let n = rows.len();
                let message = format!("the {n} rows of `{}` have no principal component {k}", d.name);
                return Err(bad(
                    message,
                    "about their mean, n rows have n - 1 components at most, equal ones fewer: give it more",
                ));
            };
            let lean: f64 = match sets {
                [_, _] => mean_of(&rows).iter().zip(&v).map(|(a, b)| a * b).sum(),
                _ => v.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(1.0),
            };
            if lean < 0.0 {
                v.iter_mut().for_each(|x| *x = -*x);
            }
            Ok(v.iter().map(|x| *x as f32).collect())
        }
    }
}

fn mean(rows: &[Arc<[f32]>]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, |r| r.len())];
    for r in rows {
        sum.iter_mut().zip(r.iter()).for_each(|(s, x)| *s += f64::from(*x));
    }
    sum.iter_mut().for_each(|s| *s /= rows.len() as f64);
    sum
}

fn mean_of(rows: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.first().map_or(0, Vec::len)];
    for r in rows {
        sum.iter_mut().zip(r).for_each(|(s, x)| *s += x);
    }
    sum
}

/// The principal component `k` of rows, not centred here, by power iteration with deflation.
///
/// `None` where what is left of the rows without the components before is rounding.
fn component(rows: &[Vec<f64>], k: usize) -> Option<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut found: Vec<Vec<f64>> = Vec::new();
    let longest = rows.iter().map(|r| dot(r, r)).fold(0.0, f64::max);
    for _ in 0..=k {
        let clear = |v: &mut Vec<f64>| {
            for f in &found {
                let c = dot(v, f);
                v.iter_mut().zip(f).for_each(|(x, y)| *x -= c * y);
            }
        };
        let mut start: Vec<Vec<f64>> = rows.to_vec();
        start.iter_mut().for_each(clear);
        let mut v = start.into_iter().max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)))?;
        // Rows are read in float32.
        if dot(&v, &v) <= longest * 1e-12 {
            return None;
        }
        for _ in 0..5000 {
            let norm = dot(&v, &v).sqrt();
            if norm == 0.0 {
                break;
            }
            v.iter_mut().for_each(|x| *x /= norm);
            let mut next = vec![0.0; v.len()];
            for r in rows {
                let c = dot(r, &v);
                next.iter_mut().zip(r).for_each(|(n, x)| *n += c * x);
            }
            clear(&mut next);
            let turn = dot(&next, &v) / dot(&next, &next).sqrt().max(f64::MIN_POSITIVE);
            v = next;
            if (1.0 - turn).abs() < 1e-14 {
                break;
            }
        }
        let norm = dot(&v, &v).sqrt();
        if norm > 0.0 {
            v.iter_mut().for_each(|x| *x /= norm);
        }
        found.push(v);
    }
    found.pop()
}

/// The one output of a Plan without rows.
pub fn arithmetic(plan: &Plan, values: TensorValues) -> Result<Arc<[f32]>, Error> {
    struct NoWeights;
    impl WeightSource for NoWeights {
        fn read(&self, _: &Weight) -> Result<Vec<f32>, Error> {
            Err(broken("arithmetic over weights"))
        }
    }
    let mut engine = Reference::new(Arc::new(plan.clone()), Arc::new(NoWeights), Arc::new(values))?;
    engine.begin(vec![Run::default()])?;
    let ask = Extend {
        run: 0,
        tokens: vec![0],
        active: Vec::new(),
        donor_positions: Vec::new(),
        reads: vec![vec![0]; plan.outputs.len()],
    };
    let result = engine.extend(&[ask])?;
    result.values.into_iter().next().map(|v| v.data).ok_or_else(|| broken("arithmetic gave nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_of_a_known_cloud() {
        // Variances 9 and 1 along two orthogonal directions.
        let (u, w) = ([0.6, 0.8, 0.0], [0.0, 0.0, 1.0]);
        let mut rows = Vec::new();
        for (a, b) in [(3.0, 1.0), (-3.0, 1.0), (3.0, -1.0), (-3.0, -1.0)] {
            rows.push((0..3).map(|i| a * u[i] + b * w[i]).collect::<Vec<f64>>());
        }
        let first = component(&rows, 0).unwrap();
        let second = component(&rows, 1).unwrap();
        assert!(component(&rows, 2).is_none() && component(&rows[..1], 1).is_none());
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        assert!((dot(&first, &u).abs() - 1.0).abs() < 1e-9, "{first:?}");
        assert!((dot(&second, &w).abs() - 1.0).abs() < 1e-9, "{second:?}");
    }
}
