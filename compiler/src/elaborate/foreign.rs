//! Names that other programs have for sites: TransformerLens' hook points and Hugging Face's modules.
//!
//! A hook point is looked up in `stdlib/names.json`, as are modules whose weights do not say what they give. Other modules are found by them: a site belongs to it where what the
//! site is computed from, since the sites before it, are weights of that module; the last one is what the module gives.

use super::check::Checker;
use super::order::foreign_names;
use super::reads::foreign_key;
use super::scope::Res;
use super::script::Reading;
use super::sites::{Named, split};
use super::value::Value;
use crate::plan::{NodeId, Op, Plan};
use serde_json::Value as Json;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::OnceLock;
use steer_lang::ast::Item;
use steer_lang::diagnostic::nearest;
use steer_lang::{Diagnostic, Span, codes};

/// Components that some checkpoints put in front of every name, and output heads.
const CHECKPOINTS: &str = include_str!("../../../stdlib/checkpoints.json");

/// A hook point, `{}` being its block.
#[derive(Debug)]
struct HookPoint {
    name: String,
    site: String,
    note: Option<String>,
}

fn hook_points() -> &'static [HookPoint] {
    static ALL: OnceLock<Vec<HookPoint>> = OnceLock::new();
    ALL.get_or_init(|| {
        // A test holds that it can be read.
        let file: Json = serde_json::from_str(include_str!("../../../stdlib/names.json")).unwrap_or_default();
        let text = |entry: &Json, i: usize| entry.get(i).and_then(Json::as_str).map(str::to_owned);
        let entries = file.get("transformer_lens").and_then(Json::as_array).cloned().unwrap_or_default();
        let one = |e: &Json| Some(HookPoint { name: text(e, 0)?, site: text(e, 1)?, note: text(e, 2) });
        entries.iter().filter_map(one).collect()
    })
}

/// Modules of transformers with the sites that they give, `{}` being the block.
fn known_modules() -> &'static [(String, Vec<String>)] {
    static ALL: OnceLock<Vec<(String, Vec<String>)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let file: Json = serde_json::from_str(include_str!("../../../stdlib/names.json")).unwrap_or_default();
        let entries = file.get("transformers").and_then(Json::as_array).cloned().unwrap_or_default();
        let one = |e: &Json| {
            let mut texts = e.as_array()?.iter().filter_map(|t| t.as_str().map(str::to_owned));
            Some((texts.next()?, texts.collect()))
        };
        entries.iter().filter_map(one).collect()
    })
}

/// The number that stands for `{}` in a pattern.
fn block_of(pattern: &str, name: &str) -> Option<u32> {
    let (before, after) = pattern.split_once("{}")?;
    name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
}

/// A list of `stdlib/checkpoints.json`.
fn listed(key: &str) -> Vec<String> {
    let file: Json = serde_json::from_str(CHECKPOINTS).unwrap_or_default();
    let list = file.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// What is written for a hook point whose name stands where steer's own do, and which site it is: of a block, or of none.
pub(super) fn hook_point_like(
    layer: Option<&str>,
    name: &str,
    has_site: impl Fn(&str) -> bool,
) -> Option<(String, String)> {
    let last = name.rsplit('.').next()?;
    let of_block = |p: &&HookPoint| p.name.contains("{}") == layer.is_some() && p.name.rsplit('.').next() == Some(last);
    hook_points().iter().filter(of_block).find_map(|p| {
        let site = layer.map_or(p.site.clone(), |l| format!("blocks[{l}].{}", p.site));
        let written = format!("site(\"{}\")", p.name.replace("{}", layer.unwrap_or_default()));
        has_site(&site).then_some((written, site))
    })
}

impl Checker<'_> {
    /// The site that another program's name means here, and in which sense.
    pub(super) fn foreign_site(&self, name: &str, span: Span) -> Res<(Named, String)> {
        let (site, means) = match self.hook_point(name) {
            Some((site, note)) => {
                self.same_there(name, &site, span)?;
                let note = note.map_or(String::new(), |n| format!(" ({n})"));
                (site, format!("TransformerLens' name{note}"))
            }
            None => (self.module(name, span)?, "the output of this module in transformers".to_owned()),
        };
        if !self.has_site(&site) {
            return Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, format!("this model has nothing that `{name}` names"))
                    .at(span, format!("it would be `{site}`"))
                    .help("`steer sites` lists the sites of the model"),
            ));
        }
        Ok((Named::of(&site), means))
    }

    /// An error where a hook point has another value than the site of that name: TransformerLens' encoders put their norms
    /// behind what hook points see, and where a part reads the bare stream there is no norm before it.
    fn same_there(&self, name: &str, site: &str, span: Span) -> Res<()> {
        let value = |site: &str| self.plan.sites.iter().find(|s| s.name == site).map(|s| s.value);
        let block = split(site).0;
        let bare =
            block.is_some_and(|b| value(site).is_some() && value(site) == value(&format!("blocks[{b}].resid.pre")));
        let what = match () {
            () if self.plan.is_whole() && block.is_some() => {
                "TransformerLens' hook points in an encoder are at other places"
            }
            () if name.ends_with("hook_normalized") && bare => "no norm stands before this part",
            () => return Ok(()),
        };
        Err(Box::new(
            Diagnostic::error(codes::UNKNOWN_SITE, format!("`{name}` is no site of this model"))
                .at(span, what)
                .help("name the site that is meant; `steer sites` says what each is"),
        ))
    }

    /// The same for `site("...")`; how it was understood is noted.
    pub(super) fn foreign_path(&mut self, name: &str, span: Span) -> Res<Named> {
        let (site, means) = self.foreign_site(name, span)?;
        let reading = Reading { of: name.to_owned(), means: format!("{}, {means}", site.name) };
        if !self.readings.contains(&reading) {
            self.readings.push(reading);
        }
        Ok(site)
    }

    /// Finds what every `site("...")` in an expression means, before expressions are evaluated.
    pub(super) fn foreign_names(&mut self, items: &[Item]) {
        for (name, span) in foreign_names(items) {
            let found = match self.foreign_path(&name, span) {
                Ok(site) => Value::text(&site.name),
                Err(d) => {
                    self.diagnostics.push(*d);
                    Value::Broken
                }
            };
            self.globals.insert(foreign_key(&name), found);
        }
    }

    /// The site of a hook point, and what differs.
    fn hook_point(&self, name: &str) -> Option<(String, Option<&'static str>)> {
        hook_points().iter().find_map(|p| match p.name.contains("{}") {
            false => (p.name == name).then(|| (p.site.clone(), p.note.as_deref())),
            true => {
                let layer = block_of(&p.name, name)?;
                Some((format!("blocks[{layer}].{}", p.site), p.note.as_deref()))
            }
        })
    }

    /// The site that a module of transformers gives.
    fn module(&self, name: &str, span: Span) -> Res<String> {
        let modules = Modules::of(&self.plan);
        // Some write the component that stands in front of all names, and some do not.
        let mut tried = vec![name.to_owned()];
        for prefix in listed("prefixes") {
            tried.extend(name.strip_prefix(&prefix).map(str::to_owned));
            tried.push(format!("{prefix}{name}"));
        }
        if listed("heads").iter().any(|h| h.trim_end_matches('.') == name) {
            return Ok("logits".into());
        }
        for name in &tried {
            let listed = known_modules().iter().find_map(|(pattern, sites)| {
                let block = block_of(pattern, name)?;
                let sites: Vec<String> = sites.iter().map(|s| format!("blocks[{block}].{s}")).collect();
                sites.iter().all(|s| self.has_site(s)).then_some(sites)
            });
            match &listed.unwrap_or_else(|| modules.outputs(name))[..] {
                [] => {}
                [one] => return Ok(one.clone()),
                several => {
                    let shown: Vec<String> = several.iter().map(|s| format!("`{s}`")).collect();
                    return Err(Box::new(
                        Diagnostic::error(codes::UNKNOWN_SITE, format!("`{name}` gives several sites at once"))
                            .at(span, format!("it holds {}", shown.join(", ")))
                            .help("name the one that is meant"),
                    ));
                }
            }
        }
        let points = hook_points().iter().map(|p| p.name.replace("{}", number(name).unwrap_or("0")));
        let known: Vec<String> = modules.names().into_iter().chain(points).collect();
        let near = tried.iter().find_map(|t| nearest(t, known.iter().map(String::as_str)));
        Err(Box::new(
            Diagnostic::error(
                codes::UNKNOWN_SITE,
                format!("nothing is called `{name}` in TransformerLens or transformers"),
            )
            .at(span, "no hook point, and no module whose weights are read")
            .help(match near {
                Some(n) => format!("did you mean `{n}`?"),
                None => "`steer sites` lists the sites of the model by their names here".into(),
            }),
        ))
    }
}

/// The first number among the components of a name.
fn number(name: &str) -> Option<&str> {
    name.split('.').find(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()))
}

/// From which weights and sites each site is computed, without what lies before those sites.
struct Modules<'p> {
    plan: &'p Plan,
    weights: Vec<BTreeSet<&'p str>>,
    sites: Vec<BTreeSet<usize>>,
    /// Whether anything of the model itself reads it.
    read: Vec<bool>,
}

impl<'p> Modules<'p> {
    fn of(plan: &'p Plan) -> Self {
        let n = plan.sites.len();
        let mut of_node: HashMap<NodeId, usize> = HashMap::new();
        for (i, s) in plan.sites.iter().enumerate() {
            // `resid.post` of one block and `resid.pre` of the next are one value: the first name counts.
            of_node.entry(s.value).or_insert(i);
        }
        let mut out =
            Modules { plan, weights: vec![BTreeSet::new(); n], sites: vec![BTreeSet::new(); n], read: vec![false; n] };
        for (i, s) in plan.sites.iter().enumerate() {
            let mut seen = HashSet::new();
            let mut open = vec![s.value];
            while let Some(id) = open.pop() {
                plan.for_each_input(id, &mut |input| {
                    if !seen.insert(input) {
                        return;
                    }
                    match (of_node.get(&input), &plan.node(input).op) {
                        (Some(&before), _) => {
                            out.sites[i].insert(before);
                        }
                        (None, Op::Weight(w)) => {
                            out.weights[i].insert(plan.weights[w.0 as usize].name.as_str());
                        }
                        (None, _) => open.push(input),
                    }
                });
            }
        }
        for node in 0..plan.nodes.len() {
            plan.for_each_input(NodeId(node as u32), &mut |input| {
                if let Some(&i) = of_node.get(&input) {
                    out.read[i] = true;
                }
            });
        }
        // All names of a value are read where it is.
        for (i, s) in plan.sites.iter().enumerate() {
            out.read[i] |= of_node.get(&s.value).is_some_and(|first| out.read[*first]);
        }
        out
    }

    /// The sites that a module gives: one, or several where their weights are laid out together.
    fn outputs(&self, module: &str) -> Vec<String> {
        let name = |i: usize| self.plan.sites[i].name.clone();
        if let Some(block) = self.block(module) {
            return vec![format!("blocks[{block}].resid.post")];
        }
        let inside = |w: &str| w.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        // A number of the configuration belongs to whoever reads it.
        let given = |i: usize| self.weights[i].is_empty() && self.sites[i].is_empty();
        let mut own: Vec<usize> = Vec::new();
        let mut weights: BTreeSet<&str> = BTreeSet::new();
        for i in 0..self.plan.sites.len() {
            let direct = &self.weights[i];
            let mine = match direct.is_empty() {
                false => direct.iter().all(|w| inside(w)),
                true => !given(i) && self.sites[i].iter().all(|s| own.contains(s) || given(*s)),
            };
            if mine {
                own.push(i);
                weights.extend(direct);
            }
        }
        // What lies beside the model's own flow, as what each head adds, is not what the module gives.
        if own.iter().any(|i| self.read[*i]) {
            own.retain(|i| self.read[*i]);
        }
        // A projection gives what it is directly in; a part of several gives the last that follows from it.
        let leaf = weights.iter().all(|w| !w[module.len() + 1..].contains('.'));
        if leaf {
            own.retain(|i| !self.weights[*i].is_empty());
            return own.into_iter().map(name).collect();
        }
        let blocks: BTreeSet<Option<String>> =
            own.iter().map(|i| split(&self.plan.sites[*i].name).0.map(str::to_owned)).collect();
        // A list of blocks gives nothing; a whole model gives what comes behind them.
        let last = own.last().map(|i| name(*i)).filter(|last| blocks.len() == 1 || split(last).0.is_none());
        last.into_iter().collect()
    }

    /// The block that a name is of as a whole: what all weights that only its sites read stand under.
    fn block(&self, module: &str) -> Option<u32> {
        let number: u32 = module.rsplit('.').next()?.parse().ok()?;
        let under =
            |i: &usize| self.weights[*i].iter().any(|w| w.strip_prefix(module).is_some_and(|r| r.starts_with('.')));
        let site = (0..self.plan.sites.len()).find(under)?;
        (split(&self.plan.sites[site].name).0?.parse() == Ok(number)).then_some(number)
    }

    /// All modules, for suggestions.
    fn names(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for weight in self.weights.iter().flatten() {
            let mut rest = *weight;
            while let Some((module, _)) = rest.rsplit_once('.') {
                out.insert(module.to_owned());
                rest = module;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_can_be_read() {
        assert!(hook_points().len() > 20);
        assert!(hook_points().iter().all(|p| p.name.contains("{}") || !p.name.starts_with("blocks")));
        assert!(known_modules().iter().all(|(name, sites)| name.contains("{}") && !sites.is_empty()));
        assert!(known_modules().len() > 5);
        assert!(!listed("prefixes").is_empty() && listed("heads").contains(&"lm_head.".to_owned()));
    }
}
