//! Values of sites in runs, for those who look at them and write no file.

use super::live::{Follow, run};
use super::needs;
use super::phase::{PhaseOptions, TensorValues};
use super::pieces::Part;
use super::ready::Ready;
use super::session::{Session, one};
use super::statements::prepare_all;
use crate::progress::{Bar, Unit};
use std::collections::BTreeSet;
use std::sync::Arc;
use steer_compiler::elaborate::{PrintItem, RunSpec, StatementKind};
use steer_compiler::plan::{Axis, Size};
use steer_lang::{Diagnostic, Diagnostics, codes};

/// Steps of the bar.
const SHARES: u64 = 1000;

/// What a `capture` reads of one site in one run.
#[derive(Clone, Debug)]
pub struct Seen {
    pub site: String,
    pub run: RunSpec,
    pub axes: Vec<Axis>,
    /// By position.
    pub rows: Vec<(usize, Arc<[f32]>)>,
}

/// The sizes of some axes that so many numbers stand in: of one with keys what is left.
pub fn sizes(axes: &[Axis], len: usize) -> Vec<usize> {
    let fixed = |a: &Axis| if let Size::Fixed(n) = a.size { Some(n) } else { None };
    let known: usize = axes.iter().filter_map(fixed).product();
    axes.iter().map(|a| fixed(a).unwrap_or(len / known.max(1))).collect()
}

/// A value that a `print` shows.
#[derive(Clone, Debug)]
pub struct Shown {
    pub axes: Vec<Axis>,
    pub data: Arc<[f32]>,
}

/// The values with axes that a script prints.
pub fn printed_values(session: &Session, options: &PhaseOptions) -> Result<Vec<Shown>, Diagnostics> {
    let values = super::derive::tensors(session, &super::execute::printed(session), options)?;
    let mut out = Vec::new();
    for statement in &session.script.statements {
        let StatementKind::Print(items) = &statement.kind else { continue };
        for item in items {
            if let PrintItem::Value { plan, .. } = item
                && let Some(output) = plan.outputs.first()
                && !plan.ty(output.node).axes.is_empty()
            {
                let data = super::derive::arithmetic(plan, values.clone()).map_err(one)?;
                out.push(Shown { axes: plan.ty(output.node).axes.clone(), data });
            }
        }
    }
    Ok(out)
}

/// What the captures of a script read, which are all of its statements; nothing is written. Site by site, run by run.
pub fn seen(session: &Session, options: &PhaseOptions) -> Result<Vec<Seen>, Diagnostics> {
    let experiment = prepare_all(session, options)?;
    let part = Part::new(&experiment, &experiment.whole());
    needs::check(&part.needs(&experiment, options).map_err(one)?, &experiment.prepared, options)?;
    let wanted: BTreeSet<String> = experiment.prepared.plan.tensors.iter().map(|t| t.name.clone()).collect();
    let values: TensorValues = super::derive::tensors(session, &wanted, options)?;
    let mut engine = Ready::new(session, &experiment.prepared, &values, options);
    let bar = Bar::new("prompts", Unit::Share(SHARES));
    let prompts = Arc::new(move |share: f64| bar.set((share * SHARES as f64) as u64));
    let mut follow = Follow { prompts, tokens: false, step: &mut |_| Ok(()) };
    let gathered = run(session, &part.prepared, &mut engine, &part.asks, options, &mut follow)?;
    engine.keep();
    if gathered.stopped {
        return Err(vec![Diagnostic::error(codes::STOPPED, "stopped by ctrl-C")]);
    }
    let mut out = Vec::new();
    for (place, statement) in experiment.places.iter().zip(&session.script.statements) {
        let StatementKind::Capture { sites, runs, .. } = &statement.kind else { continue };
        for (site, output) in sites.iter().zip(&place.outputs) {
            let plan = &experiment.prepared.plan;
            let axes = plan.ty(plan.outputs[*output].node).axes.clone();
            for (at, spec) in place.runs.iter().zip(runs) {
                let local = part.local(*at);
                let row = |p: usize| Some((p, Arc::clone(gathered.values.get(&(local?, *output, p))?)));
                let rows = (0..spec.encoded.tokens.len()).filter_map(row).collect();
                out.push(Seen { site: site.clone(), run: spec.clone(), axes: axes.clone(), rows });
            }
        }
    }
    Ok(out)
}
