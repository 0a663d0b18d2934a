//! Receipts of an experiment, and edits that never fired.

use super::phase::Prepared;
use super::results::Results;
use super::session::Session;
use super::statements::Experiment;
use crate::report::{Receipt, Sums};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use steer_compiler::plan::{Edit, EditId};
use steer_lang::{Diagnostic, Diagnostics, Span, codes};

/// An edit with more settings of its parameters has one receipt for all of them, and so has one without a name, which a
/// sweep sets.
const SETTINGS: usize = 4;

/// How edits without a name are called.
const NAMELESS: [&str; 3] = ["hook", "patch", "route"];

/// One receipt an edit, site and setting of its parameters, over all runs, in the Plan's order. An edit may stand several
/// times in the Plan, for runs that have it in another order.
pub fn receipts(session: &Session, prepared: &Prepared, results: &Results) -> Vec<Receipt> {
    let edits = &prepared.plan.edits;
    let mut of: Vec<Vec<EditId>> = Vec::new();
    // Of the parts of a route, one has its receipts.
    let told: HashSet<EditId> = prepared.plan.nodes.iter().filter_map(|n| n.op.receipt_of()).collect();
    let silent = |i: usize, e: &Edit| e.route.is_some() && !told.contains(&EditId(i as u32));
    for (i, e) in edits.iter().enumerate().filter(|(i, e)| !silent(*i, e)) {
        let same = |ids: &&mut Vec<EditId>| {
            let first = &edits[ids[0].0 as usize];
            let same = (&first.name, first.span, &first.route) == (&e.name, e.span, &e.route);
            same && (e.route.is_some() || first.site == e.site)
        };
        match of.iter_mut().find(same) {
            Some(ids) => ids.push(EditId(i as u32)),
            None => of.push(vec![EditId(i as u32)]),
        }
    }
    let sums = results.sums();
    let mut out = Vec::new();
    for ids in of {
        let e = &edits[ids[0].0 as usize];
        let mine = |edit: &EditId| ids.contains(edit);
        let selected: Vec<(usize, EditId, u64)> =
            results.selected.iter().filter(|((_, e), _)| mine(e)).map(|((run, e), n)| (*run, *e, *n)).collect();
        let of_runs: Vec<(usize, EditId, &Sums)> =
            sums.iter().filter(|((e, _), _)| mine(e)).map(|((e, run), s)| (*run, *e, s)).collect();
        let acting: BTreeSet<(usize, EditId)> =
            selected.iter().map(|s| (s.0, s.1)).chain(of_runs.iter().map(|s| (s.0, s.1))).collect();
        if acting.is_empty() {
            continue;
        }
        let given = |run: usize, edit: EditId| setting(session, prepared, run, edit);
        // In the order of the runs, and no more than are told apart.
        let mut settings: Vec<Vec<f32>> = Vec::new();
        for (run, edit) in acting.into_iter().filter(|_| !NAMELESS.contains(&e.name.as_str())) {
            let one = given(run, edit);
            if !settings.contains(&one) {
                settings.push(one);
            }
            if settings.len() > SETTINGS {
                break;
            }
        }
        let plan = &session.script.plan;
        let unit = plan.sites.iter().find(|s| s.name == e.site).and_then(|s| plan.ty(s.value).axes.first().cloned());
        let unit = match unit.as_ref().map(|a| &*a.name) {
            Some("head" | "kv_head") => "head",
            Some("expert") => "expert",
            _ => "element",
        };
        let apart = (2..=SETTINGS).contains(&settings.len());
        let groups: Vec<Option<&Vec<f32>>> = if apart { settings.iter().map(Some).collect() } else { vec![None] };
        for group in groups {
            let in_group = |run: usize, edit: EditId| group.is_none_or(|g| given(run, edit) == *g);
            let rows = selected.iter().filter(|s| in_group(s.0, s.1)).map(|s| s.2).sum();
            let sums = of_runs.iter().filter(|s| in_group(s.0, s.1)).fold(Sums::default(), |all, s| all.and(s.2));
            let receipt = match &e.route {
                Some(mixture) => Receipt::of_route(&e.name, mixture, e.layer, rows, &sums),
                None => Receipt::of(&e.name, &e.site, e.layer, unit, rows, &sums),
            };
            out.push(Receipt { setting: group.cloned(), ..receipt });
        }
    }
    out
}

/// The values of an edit's own parameters in a run.
fn setting(session: &Session, prepared: &Prepared, run: usize, edit: EditId) -> Vec<f32> {
    let names = &prepared.plan.edits[edit.0 as usize].params;
    let of_run = prepared.engine_runs[run].edits.iter().find(|e| e.edit == edit);
    let values = of_run.map_or(&[][..], |e| &e.params);
    let own = names.iter().zip(values).filter(|(name, _)| session.script.param(name).is_none());
    own.map(|(_, value)| *value).collect()
}

/// Routes that leave rows without any expert.
pub fn emptied(session: &Session, receipts: &[Receipt]) -> Diagnostics {
    let mut out = Diagnostics::new();
    let mut seen = HashSet::new();
    for r in receipts {
        let rows = r.routing.as_ref().map_or(0, |routing| routing.rows_without);
        if rows == 0 || !seen.insert(r.label()) {
            continue;
        }
        let rows = if rows == 1 { "1 row".into() } else { format!("{rows} rows") };
        let message = format!("`{}` leaves no expert in {rows} of {}", r.label(), r.site);
        let d = Diagnostic::warning(codes::EMPTY_SELECTION, message)
            .help("there the mixture gives nothing; mask or drop fewer where that is not meant");
        out.push(match session.script.edits.iter().find(|e| e.name == r.edit) {
            Some(edit) => d.at(edit.span, "in this route"),
            None => d,
        });
    }
    out
}

/// What became of one use of an edit in all runs.
#[derive(Default)]
struct Used {
    selected: u64,
    /// Whether a row that it selects was computed, and whether the compiler has said already that nothing reads it.
    computed: bool,
    unread: bool,
}

/// Uses of edits that selected no row in any run although their text may have come up while generating, and uses
/// of which nothing reads a row.
pub fn never_fired(experiment: &Experiment, results: &Results) -> Diagnostics {
    let prepared = &experiment.prepared;
    let sums = results.sums();
    let unread: Vec<EditId> = prepared.rules.iter().flat_map(|(_, c)| c.unread_edits.iter().copied()).collect();
    // By name, place and the run that the script writes, of which a data set makes many.
    let key = |span: Span| (span.file.0, span.start);
    let mut uses: BTreeMap<_, (Span, Span, Used)> = BTreeMap::new();
    for (i, (run, places)) in prepared.runs.iter().zip(&prepared.places).enumerate() {
        for (edit, place) in prepared.engine_runs[i].edits.iter().zip(places).filter(|(_, place)| !place.maybe) {
            let name = prepared.plan.edits[edit.edit.0 as usize].name.as_str();
            let of = (key(run.span), name, key(place.span));
            let (.., used) = uses.entry(of).or_insert_with(|| (place.span, run.span, Used::default()));
            used.selected += results.selected.get(&(i, edit.edit)).copied().unwrap_or(0);
            used.computed |= sums.contains_key(&(edit.edit, i));
            used.unread |= unread.contains(&edit.edit);
        }
    }
    let mut out = Diagnostics::new();
    for ((_, name, _), (span, run, used)) in uses {
        if used.unread || used.computed {
            continue;
        }
        out.push(match used.selected {
            0 => Diagnostic::warning(codes::EMPTY_SELECTION, format!("`{name}` fired on no row"))
                .at(span, "this never came up")
                .at(run, "in this run")
                .help("write `on maybe ...` where that is meant"),
            n => Diagnostic::warning(codes::UNREAD_EDIT, format!("nothing reads what `{name}` does"))
                .at(span, format!("of the rows that it selects, {n}, none is read"))
                .at(run, "in this run")
                .help("read something at these rows or behind them, or select others"),
        });
    }
    out
}
