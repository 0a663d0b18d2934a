//! Whether selections, and entries that parameters name, fit the sequences that they are asked of.

use super::chat::{ASSISTANT, role_misfit};
use super::check::Checker;
use super::positions::{Misfit, RowSet, Sequence, partner};
use super::runs::short;
use super::scope::counted;
use super::script::{EditDecl, Metric, RunSpec, Statement, StatementKind, Use};
use super::typing::no_entry;
use crate::plan::Sight;
use std::collections::HashSet;
use steer_lang::{Diagnostic, Span, codes};

/// After so many errors of one statement its other runs are not looked at.
const MOST: usize = 8;

impl Checker<'_> {
    /// Checks the selections of a statement against the sequences that it runs.
    pub(super) fn check_rows(&mut self, s: &Statement) {
        let mut runs: Vec<(&RunSpec, bool)> = Vec::new();
        let mut reads: Vec<(&RowSet, &RunSpec, bool)> = Vec::new();
        let mut pairs = Vec::new();
        match &s.kind {
            StatementKind::Generate { runs: r, scores, .. } => {
                runs.extend(r.iter().map(|r| (r, true)));
                reads.extend(scores.iter().zip(r).map(|(m, r)| (&m.at, r, m.maybe)));
            }
            StatementKind::Table(t) => {
                for read in t.cells.iter().flat_map(|c| c.reads.iter().chain(&c.zero).chain(&c.one)) {
                    runs.push((&read.run, false));
                    for m in read.metrics.iter() {
                        for (other, by_end) in m.value.others() {
                            runs.push((other, false));
                            pairs.push((m, &read.run, other, by_end));
                        }
                        reads.push((&m.at, &read.run, m.maybe));
                    }
                }
            }
            StatementKind::Capture { runs: r, on, maybe, .. } => {
                runs.extend(r.iter().map(|r| (r, false)));
                reads.extend(r.iter().map(|r| (on, r, *maybe)));
            }
            _ => {}
        }
        let mut found = Vec::new();
        for (m, run, other, by_end) in pairs {
            if found.len() < MOST {
                found.extend(no_partner(m, run, other, by_end, s.span));
            }
        }
        // Equal runs may be of examples with other fields.
        let mut seen: HashSet<(&RowSet, Option<RowSet>, &RunSpec)> = HashSet::new();
        let grows = matches!(s.kind, StatementKind::Generate { .. });
        for (set, run, maybe) in reads {
            let filled = run.record.as_deref().and_then(|r| set.filled(r));
            if seen.insert((set, filled, run)) && found.len() < MOST {
                self.rows_of(set, run, s.span, maybe, grows, &mut found);
            }
        }
        let mut seen: HashSet<&RunSpec> = HashSet::new();
        for (run, grows) in runs {
            if seen.insert(run) && found.len() < MOST {
                self.run_rows(run, grows, &mut found);
            }
        }
        self.diagnostics.extend(found);
    }

    fn run_rows(&self, run: &RunSpec, grows: bool, out: &mut Vec<Diagnostic>) {
        out.extend(self.routes_of(run).map(|d| *d));
        for u in &run.uses {
            let (e, place) = (&self.edits[u.edit], &*u.place);
            if grows && place.on.counts_from_end() {
                out.push(
                    Diagnostic::error(
                        codes::POSITION_RANGE,
                        format!("`{}` counts from the end of a sequence that still grows", e.name),
                    )
                    .at(place.span, "where the end is not known yet")
                    .help("use `prompt[-1]` for the prompt's last token, or `generated`"),
                );
                continue;
            }
            self.rows_of(&place.on, run, place.span, place.maybe, grows, out);
            self.entries_of_edit(e, u, run, grows, out);
            if let Some(from) = &place.from {
                self.run_rows(&from.run, false, out);
                self.donor_rows(&e.name, run, place, from, grows, out);
                self.donor_keys(e, run, place, from, out);
            }
        }
    }

    /// Whether there are the heads, neurons or keys that an edit names with these arguments.
    fn entries_of_edit(&self, e: &EditDecl, u: &Use, run: &RunSpec, grows: bool, out: &mut Vec<Diagnostic>) {
        for (p, value) in e.params.iter().zip(&u.args) {
            // One value that is not there is enough.
            let said = |span: &Span| out.iter().any(|d| d.labels.last().is_some_and(|l| l.span == *span));
            if let Some(counts) = &p.counts
                && !said(&counts.span)
            {
                out.extend(no_entry(counts, *value, u.span, &p.name).map(|d| d.at(counts.span, "which is named here")));
            }
        }
        let Some(seq) = sequence(run).filter(|_| !e.keys.is_empty()) else { return };
        if grows && u.place.on.may_generate(seq.prompt) {
            return;
        }
        let rows = u.place.on.rows(&seq);
        let Some(last) = rows.iter().rposition(|on| *on) else { return };
        let sights: Vec<Sight> = e.sites.iter().filter_map(|(site, _)| self.sight_of(site)).collect();
        let keys = |row: usize| sights.iter().map(move |s| s.of(row, seq.len));
        let seen = |key: usize| {
            let mut on = rows.iter().enumerate().filter(|(_, on)| **on);
            sights.is_empty() || on.any(|(row, _)| keys(row).any(|k| k.contains(&key)))
        };
        let have = keys(last).map(|k| k.len()).max().unwrap_or(0);
        // Only behind a window they do not begin with the first.
        let start = keys(last).map(|k| k.start).min().filter(|start| *start > 0);
        let from = start.map_or(String::new(), |start| format!(", from key {start} on"));
        for (first, span) in e.keys.iter().filter(|(first, _)| !seen(*first)) {
            out.push(
                Diagnostic::error(
                    codes::OUT_OF_RANGE,
                    format!("`{}` names key {first}, and no row that it selects has it", e.name),
                )
                .at(*span, format!("row {last} of {:?} has {}{from}", short(&run.text), counted(have, "key")))
                .help("keys are the positions that a row reads, counted from 0"),
            );
        }
    }

    pub(super) fn rows_of(
        &self,
        set: &RowSet,
        run: &RunSpec,
        span: Span,
        maybe: bool,
        grows: bool,
        out: &mut Vec<Diagnostic>,
    ) {
        let Some(seq) = sequence(run) else { return };
        let (mut misfits, known) = (Vec::new(), out.len());
        set.misfits(&seq, &mut misfits);
        // Words that nobody can find may be there all the same.
        misfits.retain(|m| !maybe || matches!(m, Misfit::Changed(_)));
        for m in misfits {
            let later = grows && set.may_generate(seq.prompt);
            match m {
                Misfit::Beyond { index, len, part } if !later || part == "prompt" => out.push(
                    Diagnostic::error(codes::POSITION_RANGE, format!("there is no position {index} in the {part}"))
                        .at(span, format!("{:?} has {len} tokens", short(&run.text)))
                        .help("positions count from 0, or from the end: -1 is the last"),
                ),
                Misfit::NoOccurrence(text) if !later => out.push(
                    Diagnostic::error(codes::NO_OCCURRENCE, format!("{text:?} does not occur"))
                        .at(span, format!("not in {:?}", short(&run.text)))
                        .help("check the spelling and the case; write `on maybe ...` where it may be absent"),
                ),
                Misfit::Beyond { .. } | Misfit::NoOccurrence(_) => {}
                Misfit::NoMessage(role) if grows && role == ASSISTANT => {}
                role => out.push(role_misfit(&role, &run.text, &seq, span)),
            }
        }
        if maybe {
            return;
        }
        let any = set.rows(&seq).iter().any(|b| *b) || (grows && set.may_generate(seq.prompt));
        if !any && out.len() == known {
            out.push(
                Diagnostic::error(codes::EMPTY_SELECTION, "this selects no row")
                    .at(span, format!("of {:?}", short(&run.text)))
                    .help(match !grows && set.may_generate(seq.prompt) {
                        true => "nothing is generated in this statement: give the whole text as a prompt",
                        false => "write `on maybe ...` where that is meant",
                    }),
            );
        }
    }
}

/// The error for a metric at a position that the run it compares with has not.
fn no_partner(m: &Metric, run: &RunSpec, other: &RunSpec, by_end: bool, span: Span) -> Option<Diagnostic> {
    let (seq, have) = (sequence(run)?, sequence(other)?.len);
    let rows = m.at.rows(&seq);
    let missing = |p: usize| partner(p, seq.len, have, by_end).is_none();
    let (at, _) = rows.iter().enumerate().find(|(p, on)| **on && missing(*p))?;
    Some(
        Diagnostic::error(codes::POSITION_RANGE, format!("`{}` compares position {at}, which {} does not have", m.name, other.label))
            .at(span, format!("{} has {}", other.label, counted(have, "token")))
            .help("measure it at positions that both have, as in `metric m = kl(other) at [0..8]`, or at the last of each, as without `at`"),
    )
}

/// The tokens of a run before it grows; `None` where there is no tokenizer.
pub(super) fn sequence(run: &RunSpec) -> Option<Sequence<'_>> {
    (!run.encoded.tokens.is_empty()).then(|| run.sequence())
}
