//! Whether the rows that an edit takes values from are there, and fit.

use super::check::Checker;
use super::fitting::sequence;
use super::positions::{Alignment, RowSet};
use super::scope::counted;
use super::script::{DonorSpec, EditDecl, Place, RunSpec};
use crate::plan::{Op, Sight};
use steer_lang::{Diagnostic, codes};

impl Checker<'_> {
    /// A patched row takes a row that its donor must have.
    pub(super) fn donor_rows(
        &self,
        name: &str,
        run: &RunSpec,
        place: &Place,
        from: &DonorSpec,
        grows: bool,
        out: &mut Vec<Diagnostic>,
    ) {
        let Some(seq) = sequence(run) else { return };
        let donors = from.by.donors(&run.encoded.tokens, &from.run.encoded.tokens);
        let rows = place.on.rows(&seq);
        let missing = rows.iter().zip(&donors).position(|(on, donor)| *on && donor.is_none());
        let have = from.run.encoded.tokens.len();
        if from.by == Alignment::Index && place.on == RowSet::All && have > seq.len {
            out.push(
                Diagnostic::warning(
                    codes::POSITION_RANGE,
                    format!("`{name}` takes the first {} of the {have} rows of {}", seq.len, from.run.label),
                )
                .at(place.span, "rows of the same position belong together")
                .help("say which rows belong together, as in `from clean by end`, or name the rows: `on [0..]`"),
            );
        }
        let help = match from.by {
            Alignment::Index => {
                "a patch takes the donor's row of the same position: restrict it to positions that both have, or say which belong together, as in `from clean by end`"
            }
            Alignment::End => {
                "rows belong together as counted from the end; `on maybe ...` leaves out those without one"
            }
            Alignment::Token => {
                "rows belong together where both have the same token, in order; `on maybe ...` leaves out those without one"
            }
            Alignment::Map(_) => {
                "the list gives the donor's position for each of the run's, and -1 is none; `on maybe ...` leaves those out"
            }
        };
        if missing.is_some() || (grows && place.on.may_generate(seq.prompt)) {
            let row = missing.map_or(String::new(), |m| format!(", such as row {m}"));
            let lack = match from.by {
                Alignment::Index => format!("that {} does not have", from.run.label),
                _ => format!("that have no partner in {}", from.run.label),
            };
            out.push(
                Diagnostic::error(codes::POSITION_RANGE, format!("`{name}` patches rows {lack}{row}"))
                    .at(place.span, format!("{} has {have} tokens", from.run.label))
                    .help(help),
            );
        }
    }

    /// A value with the axis `key` is taken entry by entry, so both rows need as many keys.
    pub(super) fn donor_keys(
        &self,
        e: &EditDecl,
        run: &RunSpec,
        place: &Place,
        from: &DonorSpec,
        out: &mut Vec<Diagnostic>,
    ) {
        let Some(seq) = sequence(run) else { return };
        let donors = from.by.donors(&run.encoded.tokens, &from.run.encoded.tokens);
        let rows = place.on.rows(&seq).into_iter().zip(donors).enumerate();
        let pairs: Vec<(usize, usize)> =
            rows.filter_map(|(row, (on, donor))| Some((row, donor.filter(|_| on)?))).collect();
        for (site, _) in &e.sites {
            let Some(sight) = self.sight_of(site) else { continue };
            let (own, others) = (run.encoded.tokens.len(), from.run.encoded.tokens.len());
            let keys = |row: usize, rows: usize| sight.of(row, rows).len();
            let differ = |(row, donor): &&(usize, usize)| keys(*row, own) != keys(*donor, others);
            let Some(&(row, donor)) = pairs.iter().find(differ) else { continue };
            let has = |row, rows| counted(keys(row, rows), "key");
            let message = format!(
                "`{}` takes {site} of row {donor}, which has {}, for row {row}, which has {}",
                e.name,
                has(donor, others),
                has(row, own)
            );
            out.push(Diagnostic::error(codes::AXIS_MISMATCH, message).at(place.span, "the rows that it patches").help(
                match sight.whole {
                    true => "a row's scores and pattern are as long as its text: patch from a text of as many tokens",
                    false => "a row's scores and pattern are as long as it has keys: patch rows of the same position",
                },
            ));
        }
    }

    /// For a site with the axis `key`: which keys a row of it has.
    pub(super) fn sight_of(&self, site: &str) -> Option<Sight> {
        let site = self.plan.sites.iter().find(|s| s.name == site)?;
        let keyed = self.plan.ty(site.value).has_keys();
        let of = |op: &Op| op.sight().filter(|_| op.body() == Some(site.region));
        self.plan.nodes.iter().find_map(|n| of(&n.op)).filter(|_| keyed)
    }
}
