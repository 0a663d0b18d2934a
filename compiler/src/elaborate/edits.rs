//! Hooks and patches: what is compiled of them, and where they act.

use super::check::Checker;
use super::params::check_value;
use super::positions::Alignment;
use super::runs::Runs;
use super::scope::{Res, counted, fail, silent};
use super::script::{DonorSpec, EditBody, EditDecl, EditParam, Place, RunSpec, Use};
use super::value::Value;
use std::collections::BTreeMap;
use std::rc::Rc;
use steer_lang::ast::{Block, Donor, EditUse, HookDecl, Ident, Param, ParamType, PatchDecl, Selection, SitePath};
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// A hook or patch as runs name it.
#[derive(Clone, Debug)]
pub struct Named {
    pub edit: usize,
    /// Values of the names of a sweep, which stand behind the edit's own parameters.
    pub swept: Vec<f64>,
    /// One, or one for each example of a data set.
    pub places: Rc<[Rc<Place>]>,
    pub span: Span,
}

/// An edit with its arguments, before it is put into a run.
#[derive(Clone, Debug)]
pub struct Applied {
    edit: usize,
    args: Vec<f64>,
    places: Rc<[Rc<Place>]>,
    span: Span,
}

impl Applied {
    /// As run `i` of `n` uses it.
    pub fn at(&self, i: usize, n: usize) -> Res<Use> {
        let place = match &self.places[..] {
            [one] => one,
            many if many.len() == n => &many[i],
            many => {
                return Err(Box::new(
                    Diagnostic::error(
                        codes::WRONG_KIND,
                        format!("{} donors for {n} {}", many.len(), if n == 1 { "run" } else { "runs" }),
                    )
                    .at(self.span, "takes values from a data set")
                    .help("a patch from a data set pairs its examples with those of the set that is run: they are as many"),
                ));
            }
        };
        Ok(Use { edit: self.edit, span: self.span, args: self.args.clone(), place: Rc::clone(place) })
    }
}

impl From<&Named> for Applied {
    /// Without arguments of its own.
    fn from(n: &Named) -> Self {
        Applied { edit: n.edit, args: n.swept.clone(), places: Rc::clone(&n.places), span: n.span }
    }
}

impl Checker<'_> {
    pub(super) fn hook(&mut self, h: &HookDecl) -> Res<Named> {
        let own = self.edit_params(&h.params)?;
        let places = self.acting(h.name.as_ref(), &h.at, h.on.as_ref(), h.from.as_ref())?;
        let (params, swept, bound) = self.known_to(&h.body, own);
        let body = EditBody::Hook { body: Rc::new(h.body.clone()), donor: h.from.is_some() };
        let sites = self.edited(&h.at)?;
        let span = span_of(h.name.as_ref(), &h.at);
        let edit = self.edit(h.name.as_ref(), "hook", sites, params, body, bound, span)?;
        Ok(Named { edit, swept, places, span })
    }

    /// The parameters of an edit: its own, then numbers of the sweeps around that its body mentions, with their values; and
    /// what else it mentions of them.
    pub(super) fn known_to(
        &self,
        body: &Block,
        own: Vec<EditParam>,
    ) -> (Vec<EditParam>, Vec<f64>, BTreeMap<String, Value>) {
        let mentioned = body.names();
        let mut bound = BTreeMap::new();
        let (mut params, mut swept) = (own, Vec::new());
        for (name, value) in &self.locals {
            if !mentioned.contains(name.as_str()) || params.iter().any(|p| p.name == *name) {
                continue;
            }
            match value {
                // Data of a run: all values of the sweep share one kernel.
                Value::Number(n) => {
                    params.push(EditParam {
                        name: name.clone(),
                        default: None,
                        bounds: None,
                        integer: false,
                        boolean: false,
                        counts: None,
                    });
                    swept.push(*n);
                }
                other => {
                    bound.insert(name.clone(), other.clone());
                }
            }
        }
        (params, swept, bound)
    }

    pub(super) fn patch(&mut self, p: &PatchDecl) -> Res<Named> {
        let places = self.acting(p.name.as_ref(), &p.at, p.on.as_ref(), Some(&p.from))?;
        let sites = self.edited(&p.at)?;
        let span = span_of(p.name.as_ref(), &p.at);
        let edit = self.edit(p.name.as_ref(), "patch", sites, Vec::new(), EditBody::Patch, BTreeMap::new(), span)?;
        Ok(Named { edit, swept: Vec::new(), places, span })
    }

    /// The sites of an edit, each once.
    fn edited(&mut self, at: &[SitePath]) -> Res<Vec<(String, Option<u32>)>> {
        let mut sites: Vec<(String, Option<u32>)> = Vec::new();
        for path in at {
            for named in self.sites(path, None)? {
                let own = named.canonical();
                if !sites.iter().any(|(s, _)| *s == own) {
                    sites.push((own, named.layer));
                }
            }
        }
        Ok(sites)
    }

    /// The edit to compile: in a sweep the same one wherever sites and names known to the compiler are.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn edit(
        &mut self,
        name: Option<&Ident>,
        word: &str,
        sites: Vec<(String, Option<u32>)>,
        params: Vec<EditParam>,
        body: EditBody,
        bound: BTreeMap<String, Value>,
        span: Span,
    ) -> Res<usize> {
        let key = (span, sites.clone(), format!("{bound:?}"));
        if let Some(&known) = self.compiled.get(&key) {
            return Ok(known);
        }
        let name = name.map_or(word, |n| n.name.as_str()).to_owned();
        let mut decl =
            EditDecl { name, params, sites, body, bound: Rc::new(bound), keys: Vec::new(), claims: Vec::new(), span };
        self.settle_route(&mut decl)?;
        self.edits.push(decl);
        self.compiled.insert(key, self.edits.len() - 1);
        Ok(self.edits.len() - 1)
    }

    /// Where it acts, and on what rows of which other runs.
    pub(super) fn acting(
        &mut self,
        name: Option<&Ident>,
        at: &[SitePath],
        on: Option<&Selection>,
        from: Option<&Donor>,
    ) -> Res<Rc<[Rc<Place>]>> {
        let set = self.selection(on)?;
        let maybe = on.is_some_and(|s| s.maybe);
        let span = on.map_or(span_of(name, at), |s| s.span);
        let place = |from: Option<DonorSpec>| Rc::new(Place { on: set.clone(), maybe, from, span });
        let Some(from) = from else { return Ok([place(None)].into()) };
        let by = self.alignment(from.by.as_ref())?;
        let Runs { runs, .. } = self.run_expr(&from.run)?;
        Ok(runs.into_iter().map(|run: RunSpec| place(Some(DonorSpec { run, by: by.clone() }))).collect())
    }

    fn alignment(&mut self, by: Option<&Ident>) -> Res<Alignment> {
        let Some(by) = by else { return Ok(Alignment::Index) };
        Ok(match by.name.as_str() {
            "index" => Alignment::Index,
            "end" => Alignment::End,
            "token" => Alignment::Token,
            name => match self.lists.get(name) {
                Some(list) => {
                    if let Some(bad) = list.iter().find(|x| x.fract() != 0.0) {
                        let message = format!("`{name}` is no list of positions: {bad} is none");
                        return fail(
                            codes::WRONG_KIND,
                            message,
                            by.span,
                            "positions are whole numbers, and -1 is none",
                        );
                    }
                    Alignment::Map(list.iter().map(|x| *x as i64).collect())
                }
                None if self.broken(name) => return Err(silent()),
                None => {
                    let names = self.lists.keys().map(String::as_str).chain(["index", "end", "token"]);
                    return Err(Box::new(
                        Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no list of positions `{name}`"))
                            .at(by.span, "not declared")
                            .help(match nearest(name, names) {
                                Some(n) => format!("did you mean `{n}`?"),
                                None => format!(
                                    "rows belong together by `index`, `end` or `token`, or by a list: `data {name} = [0, 2, 1]`"
                                ),
                            }),
                    ));
                }
            },
        })
    }

    pub(super) fn edit_params(&mut self, params: &[Param]) -> Res<Vec<EditParam>> {
        let mut out: Vec<EditParam> = Vec::new();
        for p in params {
            free_name(&p.name)?;
            if out.iter().any(|q| q.name == p.name.name) {
                return fail(
                    codes::DUPLICATE_NAME,
                    format!("`{}` is declared twice", p.name.name),
                    p.name.span,
                    "again here",
                );
            }
            if let Some((ParamType::Text, span)) = p.ty {
                return fail(codes::WRONG_KIND, "a hook's parameters are numbers", span, "a text");
            }
            let default = p.default.as_ref().map(|d| self.plain_or_bool(d)).transpose()?;
            let bounds = self.bounds(p)?;
            let q = EditParam {
                name: p.name.name.clone(),
                default,
                bounds,
                integer: matches!(p.ty, Some((ParamType::Integer, _))),
                boolean: matches!(p.ty, Some((ParamType::Bool, _))),
                counts: None,
            };
            if let Some(d) = default {
                check_value(&q, d, p.default.as_ref().map_or(p.name.span, |e| e.span))?;
            }
            out.push(q);
        }
        Ok(out)
    }

    /// A use in `with`: the edit of that name, with its arguments.
    pub(super) fn edit_use(&mut self, u: &EditUse) -> Res<Applied> {
        let Some(named) = self.named.get(&u.name.name).cloned() else {
            if let Some(Value::Broken) = self.globals.get(&u.name.name) {
                return Err(silent());
            }
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_NAME, format!("there is no hook, patch or route `{}`", u.name.name))
                    .at(u.name.span, "not declared")
                    .help(match nearest(&u.name.name, self.named.keys().map(String::as_str)) {
                        _ if self.prompts.contains_key(&u.name.name) || self.runs.contains_key(&u.name.name) => {
                            format!("`{0}` is a run, and edits stand here: one without edits stands first, as in `{0}, other with edit`", u.name.name)
                        }
                        Some(n) => format!("did you mean `{n}`?"),
                        None => format!("declare it: `hook {} at blocks[3].resid.post {{ ... }}`", u.name.name),
                    }),
            ));
        };
        self.used.insert(named.edit);
        let params = self.edits[named.edit].params.clone();
        let own = &params[..params.len() - named.swept.len()];
        let mut args: Vec<Option<f64>> = vec![None; own.len()];
        for (i, a) in u.args.iter().enumerate() {
            let at = match &a.name {
                Some(Ident { name, span }) => match own.iter().position(|p| p.name == *name) {
                    Some(at) => at,
                    None => return Err(no_parameter(&u.name.name, name, *span, own)),
                },
                None if i < own.len() => i,
                None => {
                    return fail(
                        codes::BAD_ARGUMENTS,
                        format!("`{}` has {}", u.name.name, counted(own.len(), "parameter")),
                        a.value.span,
                        "one too many",
                    );
                }
            };
            let v = self.plain_or_bool(&a.value)?;
            check_value(&own[at], v, a.value.span)?;
            if args[at].is_some() {
                return Err(given_twice(&own[at].name, a.value.span));
            }
            args[at] = Some(v);
        }
        let mut out = Vec::new();
        for (p, a) in own.iter().zip(args) {
            match a.or(p.default) {
                Some(v) => out.push(v),
                None => {
                    return Err(Box::new(
                        Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{}` needs `{}`", u.name.name, p.name))
                            .at(u.span, format!("`{}` is missing", p.name))
                            .help(format!(
                                "write `{}({} = ...)`, or give it a default where it is declared",
                                u.name.name, p.name
                            )),
                    ));
                }
            }
        }
        out.extend(&named.swept);
        Ok(Applied { edit: named.edit, args: out, places: named.places, span: u.span })
    }
}

/// Names that the language gives a meaning in the body of a hook.
const OWN_NAMES: &[&str] = &["h", "h0", "donor", "layer", "position", "token", "pi", "inf"];

/// The error for a parameter or tensor under a name that a body knows as something else.
fn own_name(name: &Ident) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::DUPLICATE_NAME, format!("`{}` has a meaning of its own in hooks", name.name))
            .at(name.span, "a name of the language")
            .help("give it another name"),
    )
}

/// Refuses a name for a value that the bodies of hooks could not read.
pub(super) fn free_name(name: &Ident) -> Res<()> {
    if OWN_NAMES.contains(&name.name.as_str()) { Err(own_name(name)) } else { Ok(()) }
}

/// The error for an argument or option that is there already.
pub(super) fn given_twice(name: &str, span: Span) -> Box<Diagnostic> {
    Box::new(Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{name}` is given twice")).at(span, "again here"))
}

fn no_parameter(edit: &str, name: &str, span: Span, own: &[EditParam]) -> Box<Diagnostic> {
    Box::new(
        Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{edit}` has no parameter `{name}`"))
            .at(span, "not declared")
            .help(match nearest(name, own.iter().map(|p| p.name.as_str())) {
                Some(n) => format!("did you mean `{n}`?"),
                None if own.is_empty() => "it has none".into(),
                None => format!("it has {}", own.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ")),
            }),
    )
}

/// Where an edit stands in the source.
pub(super) fn span_of(name: Option<&Ident>, at: &[SitePath]) -> Span {
    name.map(|n| n.span).or(at.first().map(|s| s.span)).unwrap_or_default()
}
