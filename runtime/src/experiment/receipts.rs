//! Receipts of an experiment, and edits that never fired.

use super::phase::Prepared;
use super::results::Results;
use super::session::Session;
use super::statements::Experiment;
use crate::report::{Receipt, Sums};
use std::collections::{BTreeMap, HashSet};
use steer_compiler::plan::{Edit, EditId};
use steer_lang::{Diagnostic, Diagnostics, Span, codes};

/// One receipt an edit and site, over all runs, in the Plan's order. An edit may stand several times in the Plan,
/// for runs that have it in another order.
pub fn receipts(session: &Session, prepared: &Prepared, results: &Results) -> Vec<Receipt> {
    let edits = &prepared.plan.edits;
    let mut of: Vec<Vec<EditId>> = Vec::new();
    // Of the parts of a route, one has its receipts.
    let told: HashSet<EditId> = prepared.plan.nodes.iter().filter_map(|n| n.op.receipt_of()).collect();
    let silent = |i: usize, e: &Edit| e.route.is_some() && !told.contains(&EditId(i as u32));
    for (i, e) in edits.iter().enumerate().filter(|(i, e)| !silent(*i, e)) {
        let same = |ids: &&mut Vec<EditId>| {
            let first = &edits[ids[0].0 as usize];
            first.name == e.name && first.route == e.route && (e.route.is_some() || first.site == e.site)
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
        let selected: Vec<u64> =
            results.selected.iter().filter(|((_, edit), _)| ids.contains(edit)).map(|(_, n)| *n).collect();
        let of_runs: Vec<&Sums> = sums.iter().filter(|((edit, _), _)| ids.contains(edit)).map(|(_, s)| s).collect();
        if selected.is_empty() && of_runs.is_empty() {
            continue;
        }
        let plan = &session.script.plan;
        let unit = plan.sites.iter().find(|s| s.name == e.site).and_then(|s| plan.ty(s.value).axes.first().cloned());
        let unit = match unit.as_ref().map(|a| &*a.name) {
            Some("head" | "kv_head") => "head",
            Some("expert") => "expert",
            _ => "element",
        };
        let sums = of_runs.into_iter().fold(Sums::default(), |all, s| all.and(s));
        if let Some(mixture) = &e.route {
            out.push(Receipt::of_route(&e.name, mixture, e.layer, selected.iter().sum(), &sums));
            continue;
        }
        out.push(Receipt::of(&e.name, &e.site, e.layer, unit, selected.iter().sum(), &sums));
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
