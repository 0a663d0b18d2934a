//! Receipts of an experiment, and edits that never fired.

use super::phase::Prepared;
use super::results::Results;
use super::session::Session;
use super::statements::Experiment;
use crate::report::{Receipt, Sums};
use std::collections::BTreeSet;
use steer_lang::{Diagnostic, Diagnostics, codes};

/// One receipt an edit and site, over all runs, in the Plan's order.
pub fn receipts(session: &Session, prepared: &Prepared, results: &Results) -> Vec<Receipt> {
    let mut out = Vec::new();
    let sums = results.sums();
    for (i, e) in prepared.plan.edits.iter().enumerate() {
        let selected: Vec<u64> =
            results.selected.iter().filter(|((_, edit), _)| edit.0 as usize == i).map(|(_, n)| *n).collect();
        let of_runs: Vec<&Sums> = sums.iter().filter(|((edit, _), _)| edit.0 as usize == i).map(|(_, s)| s).collect();
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
        out.push(Receipt::of(&e.name, &e.site, e.layer, unit, selected.iter().sum(), &sums));
    }
    out
}

/// Edits that selected no row in any run although their text may have come up while generating.
pub fn never_fired(session: &Session, experiment: &Experiment, results: &Results) -> Diagnostics {
    let fired: BTreeSet<&str> =
        results.sums().keys().map(|(edit, _)| experiment.prepared.plan.edits[edit.0 as usize].name.as_str()).collect();
    let unread: BTreeSet<&str> = experiment
        .prepared
        .rules
        .iter()
        .flat_map(|(_, c)| &c.unread_edits)
        .map(|e| experiment.prepared.plan.edits[e.0 as usize].name.as_str())
        .collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut out = Diagnostics::new();
    let uses = experiment.prepared.runs.iter().flat_map(|r| &r.uses);
    for u in uses {
        let name = session.script.edits[u.edit].name.as_str();
        if u.place.maybe || fired.contains(name) || unread.contains(name) || !seen.insert(name) {
            continue;
        }
        out.push(
            Diagnostic::warning(codes::EMPTY_SELECTION, format!("`{name}` fired on no row"))
                .at(u.place.span, "this never came up")
                .help("write `on maybe ...` where that is meant"),
        );
    }
    out
}
