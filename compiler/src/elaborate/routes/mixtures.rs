//! Routes of a script: the mixtures that they are at, and what can be said of them before anything runs.

use super::{Stage, check_body, stage_of, stages, taken};
use crate::elaborate::check::Checker;
use crate::elaborate::edits::{Named, span_of};
use crate::elaborate::positions::RowSet;
use crate::elaborate::scope::{Res, fail};
use crate::elaborate::script::{EditBody, EditDecl, RunSpec};
use crate::plan::{EditId, Op};
use std::collections::BTreeSet;
use std::rc::Rc;
use steer_lang::ast::{AssignOp, Block, ExprKind, Ident, RouteDecl, SitePath, SiteSegment, Stmt, StmtKind, Verb};
use steer_lang::{Diagnostic, Severity, Span, codes};

/// Experts of a mixture that statements name by number, without a condition.
#[derive(Clone, Debug)]
pub struct Claims {
    pub mixture: String,
    pub verb: Verb,
    pub experts: BTreeSet<usize>,
    /// How many experts there are.
    pub of: usize,
    /// Where the last of them are named.
    pub span: Span,
}

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
        let sites = self.sites(&gated, None).map_err(|d| self.no_mixture(path, d))?;
        Ok(sites.iter().filter_map(|s| Some((stage_of(&s.name)?.0.to_owned(), s.layer))).collect())
    }

    /// Says where the mixtures are, where a path names a block without one.
    fn no_mixture(&self, path: &SitePath, other: Box<Diagnostic>) -> Box<Diagnostic> {
        let whole = path.segments.len() > 1 && path.segments.last().is_some_and(|s| s.name.name == "moe");
        if !whole || other.code != codes::UNKNOWN_SITE {
            return other;
        }
        let mixtures = self.plan.sites.iter().filter_map(|s| match stage_of(&s.name) {
            Some((mixture, Stage::Gates)) => Some(mixture),
            _ => None,
        });
        let all: Vec<&str> = mixtures.collect();
        let d =
            Diagnostic::error(codes::UNKNOWN_SITE, "there is no mixture of experts here").at(path.span, "not there");
        Box::new(match &all[..] {
            [] => d.help("this model has none: routes are for models such as Mixtral, OLMoE or DeepSeek"),
            [first, ..] => {
                let some = all.iter().take(8).map(|m| format!("`{m}`")).collect::<Vec<_>>().join(", ");
                let more = if all.len() > 8 { " and others" } else { "" };
                d.help(format!("there are {some}{more}; `{}` names all of them", every(first)))
            }
        })
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
        let EditBody::Route(body) = &decl.body else { return Ok(()) };
        let fixed = !decl.sites.iter().any(|(s, _)| matches!(stage_of(s), Some((_, Stage::TopK))));
        let given = if fixed { None } else { constant_k(body) };
        let mut together: Vec<Claims> = Vec::new();
        for c in &built.claims {
            let Some((mixture, Stage::Selection)) = stage_of(&decl.sites[c.edit.0 as usize].0) else { continue };
            let k = if fixed { self.chosen_by(mixture) } else { given };
            let one = Claims {
                mixture: mixture.to_owned(),
                verb: c.verb,
                experts: c.experts.clone(),
                of: c.of,
                span: c.span,
            };
            if let Some(d) = k.and_then(|k| impossible(&one, k)) {
                return Err(d);
            }
            if body.stmts.iter().any(|s| s.span == c.span) {
                join(&mut together, &one);
                let all = together.iter().find(|t| t.mixture == one.mixture && t.verb == one.verb);
                if let Some(d) = k.zip(all).and_then(|(k, all)| impossible(all, k)) {
                    return Err(d);
                }
            }
        }
        if let Some(d) = masked_and_forced(&together) {
            return Err(d);
        }
        decl.claims = together;
        let idle: Vec<EditId> = built.idle;
        let mut at = 0..;
        decl.sites.retain(|_| at.next().is_none_or(|i: u32| !idle.contains(&EditId(i))));
        if decl.sites.is_empty() {
            self.diagnostics.push(
                Diagnostic::warning(codes::UNREAD_EDIT, format!("the route `{}` changes nothing", decl.name))
                    .at(decl.span, "it has no effect")
                    .help("what it says is so already, or names no expert of its layers"),
            );
        }
        Ok(())
    }

    /// The error for routes of one run that together leave too few experts, or force too many.
    pub(in crate::elaborate) fn routes_of(&self, run: &RunSpec) -> Option<Box<Diagnostic>> {
        let mut together: Vec<Claims> = Vec::new();
        let mut routes = 0;
        for u in run.uses.iter().filter(|u| u.place.on == RowSet::All) {
            routes += usize::from(!self.edits[u.edit].claims.is_empty());
            for c in &self.edits[u.edit].claims {
                join(&mut together, &Claims { span: u.span, ..c.clone() });
            }
        }
        let sites = || run.uses.iter().flat_map(|u| &self.edits[u.edit].sites);
        together.iter().filter(|_| routes > 1).find_map(|c| {
            let fixed = !sites().any(|(s, _)| stage_of(s) == Some((&*c.mixture, Stage::TopK)));
            impossible(c, self.chosen_by(&c.mixture).filter(|_| fixed)?)
        })
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

/// A path to the mixtures of all blocks, from that of one.
fn every(mixture: &str) -> String {
    match (mixture.find('['), mixture.find(']')) {
        (Some(a), Some(b)) => format!("{}[*]{}", &mixture[..a], &mixture[b + 1..]),
        _ => mixture.to_owned(),
    }
}

/// The error for an expert that a route masks and forces at once, on all rows.
fn masked_and_forced(claims: &[Claims]) -> Option<Box<Diagnostic>> {
    let of = |verb: Verb| claims.iter().filter(move |c| c.verb == verb);
    for (mask, force) in of(Verb::Mask).flat_map(|m| of(Verb::Force).map(move |f| (m, f))) {
        let same = mask.mixture == force.mixture;
        if let Some(expert) = mask.experts.intersection(&force.experts).next().filter(|_| same) {
            return Some(Box::new(
                Diagnostic::error(codes::OUT_OF_RANGE, format!("expert {expert} is masked and forced"))
                    .at(force.span, "forced here")
                    .at(mask.span, "masked here")
                    .help("leave one of them out: a masked expert is never chosen"),
            ));
        }
    }
    None
}

/// How many experts a route chooses, where it says so once and for all rows.
fn constant_k(body: &Block) -> Option<usize> {
    let mut found = body.stmts.iter().filter_map(|s| match &s.kind {
        StmtKind::Assign { target, op: AssignOp::Set, value } => {
            let ExprKind::Name(name) = &target.kind else { return None };
            match value.kind {
                ExprKind::Number(k) if name == Stage::TopK.name() => Some(k as usize),
                _ => None,
            }
        }
        _ => None,
    });
    let one = found.next()?;
    let others = body.stmts.iter().filter(|s| body_names(s, Stage::TopK.name())).count();
    (others == 1).then_some(one)
}

/// Whether a statement names something.
fn body_names(s: &Stmt, name: &str) -> bool {
    Block { stmts: vec![s.clone()], span: s.span }.names().contains(name)
}

/// Adds experts to those of the same mixture that the same is said of.
fn join(all: &mut Vec<Claims>, one: &Claims) {
    match all.iter_mut().find(|c| c.mixture == one.mixture && c.verb == one.verb) {
        Some(c) => {
            c.experts.extend(&one.experts);
            c.span = one.span;
        }
        None => all.push(one.clone()),
    }
}

/// The error for a mask that leaves too few experts, and for more forced ones than are chosen.
fn impossible(claims: &Claims, k: usize) -> Option<Box<Diagnostic>> {
    let (named, of, span) = (claims.experts.len(), claims.of, claims.span);
    let (message, help) = match claims.verb {
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
