//! Routes of a script: the mixtures that they are at, and what can be said of them before anything runs.

use super::{Stage, check_body, stage_of, stages, taken};
use crate::elaborate::check::Checker;
use crate::elaborate::edits::{Named, span_of};
use crate::elaborate::scope::{Res, fail};
use crate::elaborate::script::{EditBody, EditDecl};
use crate::plan::{EditId, Op};
use std::collections::BTreeSet;
use std::rc::Rc;
use steer_lang::ast::{Ident, RouteDecl, SitePath, SiteSegment, Verb};
use steer_lang::{Diagnostic, Severity, Span, codes};

impl Checker<'_> {
    pub(in crate::elaborate) fn route(&mut self, r: &RouteDecl) -> Res<Named> {
        check_body(&r.body)?;
        let own = self.edit_params(&r.params)?;
        if let Some(p) = r.params.iter().find(|p| Stage::named(&p.name.name).is_some()) {
            return Err(taken(&p.name));
        }
        let places = self.acting(r.name.as_ref(), &r.at, r.on.as_ref(), None)?;
        let (params, swept, bound) = self.known_to(&r.body, own);
        let span = span_of(r.name.as_ref(), &r.at);
        let stages = stages(&r.body);
        let mut sites: Vec<(String, Option<u32>)> = Vec::new();
        for path in &r.at {
            for (mixture, layer) in self.mixtures(path)? {
                for stage in &stages {
                    let site = format!("{mixture}.{}", stage.name());
                    if !self.has_site(&site) {
                        return Err(self.unknown_site(&site, path.span));
                    }
                    if !sites.iter().any(|(s, _)| *s == site) {
                        sites.push((site, layer));
                    }
                }
            }
        }
        let body = EditBody::Route(Rc::new(r.body.clone()));
        let edit = self.edit(r.name.as_ref(), "route", sites, params, body, bound, span)?;
        Ok(Named { edit, swept, places, span })
    }

    /// The mixtures of experts that a path names, with their layers: what has gates.
    fn mixtures(&mut self, path: &SitePath) -> Res<Vec<(String, Option<u32>)>> {
        let last = path.segments.last();
        if let Some(stage) = last.filter(|_| path.segments.len() > 1).and_then(|s| Stage::named(&s.name.name)) {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, "a route is at a mixture of experts as a whole")
                    .at(path.span, format!("`{}` is one site of it", stage.name()))
                    .help(format!("leave out `.{}`, as in `route name at blocks[*].moe {{ ... }}`", stage.name())),
            ));
        }
        if path.foreign().is_some() {
            return fail(codes::UNKNOWN_SITE, "a route is at a mixture, as `blocks[*].moe`", path.span, "one site");
        }
        let gates = Ident { name: Stage::Gates.name().into(), span: path.span };
        let mut gated = path.clone();
        gated.segments.push(SiteSegment { name: gates, index: None });
        let sites = self.sites(&gated, None)?;
        Ok(sites.iter().filter_map(|s| Some((stage_of(&s.name)?.0.to_owned(), s.layer))).collect())
    }

    /// Leaves out the sites at which a route does nothing, as in layers of which it names no expert, and refuses what
    /// leaves no choice.
    pub(in crate::elaborate) fn settle_route(&mut self, decl: &mut EditDecl) -> Res<()> {
        if !matches!(decl.body, EditBody::Route(_)) {
            return Ok(());
        }
        let instances: Vec<_> = decl.sites.iter().map(|(site, layer)| decl.instance(site, *layer)).collect();
        let built = self.model.build(&instances, &[], &self.tensor_types, &self.globals)?;
        if built.diagnostics.iter().any(|d| d.severity == Severity::Error) {
            // They are reported where all edits are checked together.
            return Ok(());
        }
        let fixed = !decl.sites.iter().any(|(s, _)| matches!(stage_of(s), Some((_, Stage::TopK))));
        for c in built.claims.iter().filter(|_| fixed) {
            let Some((mixture, Stage::Selection)) = stage_of(&decl.sites[c.edit.0 as usize].0) else { continue };
            let Some(k) = self.chosen_by(mixture) else { continue };
            if let Some(d) = impossible(c.verb, &c.experts, c.of, k, c.span) {
                return Err(d);
            }
        }
        let idle: Vec<EditId> = built.idle;
        let mut at = 0..;
        decl.sites.retain(|_| at.next().is_none_or(|i: u32| !idle.contains(&EditId(i))));
        if decl.sites.is_empty() {
            self.diagnostics.push(
                Diagnostic::warning(codes::UNREAD_EDIT, format!("the route `{}` changes nothing", decl.name))
                    .at(decl.span, "it has no effect")
                    .help("name experts by number, as in `mask 3`, or by layer and number, as in `mask [[1, 3]]`"),
            );
        }
        Ok(())
    }

    /// How many experts a mixture chooses by its configuration.
    fn chosen_by(&self, mixture: &str) -> Option<usize> {
        let name = format!("{mixture}.{}", Stage::TopK.name());
        let site = self.plan.sites.iter().find(|s| s.name == name)?;
        match self.plan.node(site.value).op {
            Op::Number(k) => Some(k as usize),
            _ => None,
        }
    }
}

/// The error for a mask that leaves too few experts, and for more forced ones than are chosen.
fn impossible(verb: Verb, experts: &BTreeSet<usize>, of: usize, k: usize, span: Span) -> Option<Box<Diagnostic>> {
    let named = experts.len();
    let (message, help) = match verb {
        Verb::Mask if of.saturating_sub(named) < k => (
            format!("{named} of {of} experts are masked, and {k} are chosen in every row"),
            "leave at least as many as are chosen, or choose fewer: `top_k = 1`",
        ),
        Verb::Force if named > k => (
            format!("{named} experts are forced, and {k} are chosen in every row"),
            "force no more than are chosen, or choose more: `top_k = 4`",
        ),
        _ => return None,
    };
    Some(Box::new(Diagnostic::error(codes::OUT_OF_RANGE, message).at(span, "too many").help(help)))
}
