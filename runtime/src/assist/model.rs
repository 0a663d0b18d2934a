//! What there is of a model without its weights: sites, axes, layers.

use crate::cli::sites::{SiteRow, rows_of_plan};
use crate::experiment::{ModelSession, Session};
use steer_compiler::elaborate::Model;
use steer_compiler::plan::Plan;
use steer_lang::Diagnostics;

/// A site as a block, or the model, has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFacts {
    /// Without its block: `attn.q`.
    pub name: String,
    /// The blocks that have it; empty for sites outside of them.
    pub layers: Vec<u32>,
    /// Names with sizes; the size of `key` is none, because it is the row's.
    pub axes: Vec<(String, Option<usize>)>,
    pub contract: String,
}

impl SiteFacts {
    /// `[head 8, d_head 16]`
    pub fn shape(&self) -> String {
        let axes = self.axes.iter().map(|(name, size)| match size {
            Some(n) => format!("{name} {n}"),
            None => name.clone(),
        });
        format!("[{}]", axes.collect::<Vec<_>>().join(", "))
    }
}

/// A model as far as scripts name what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// As the script names it.
    pub name: String,
    pub architecture: String,
    pub layers: u32,
    pub sites: Vec<SiteFacts>,
    /// Every axis with its size.
    pub axes: Vec<(String, Option<usize>)>,
    /// The keys of its configuration.
    pub config: Vec<String>,
}

impl ModelFacts {
    /// Of a script that has been checked.
    pub fn of_session(session: &Session) -> Self {
        Self::of(&session.model_name, &session.script.model, &session.script.plan, session.script.layers)
    }

    /// Of a model alone.
    pub fn of_model(name: &str, session: &ModelSession) -> Result<Self, Diagnostics> {
        let none = Default::default();
        let built = session.model.build(&[], &[], &none, &Default::default()).map_err(|d| vec![*d])?;
        Ok(Self::of(name, &session.model, &built.plan, built.layers))
    }

    /// Of a model and its unedited plan, which a prompt has at hand.
    pub fn of(name: &str, model: &Model, plan: &Plan, layers: u32) -> Self {
        let mut facts = ModelFacts {
            name: name.to_owned(),
            architecture: model.arch_name.clone(),
            layers,
            config: model.config.as_object().map(|c| c.keys().cloned().collect()).unwrap_or_default(),
            ..ModelFacts::default()
        };
        for SiteRow { name, layer, axes, contract } in rows_of_plan(plan) {
            for axis in &axes {
                if facts.axes.iter().all(|(known, _)| *known != axis.0) {
                    facts.axes.push(axis.clone());
                }
            }
            let short = match name.split_once("].") {
                Some((_, rest)) if layer.is_some() => rest.to_owned(),
                _ => name,
            };
            // Layers may differ in their shapes: the first one speaks for those that are like it.
            let known = facts
                .sites
                .iter_mut()
                .find(|s| s.name == short && s.axes == axes && s.layers.is_empty() == layer.is_none());
            match known {
                Some(site) => site.layers.extend(layer),
                None => {
                    facts.sites.push(SiteFacts { name: short, layers: layer.into_iter().collect(), axes, contract })
                }
            }
        }
        facts
    }

    /// Sites of blocks: of this one, or of any.
    pub fn of_block(&self, layer: Option<u32>) -> Vec<&SiteFacts> {
        let mut seen = Vec::new();
        let chosen = self.sites.iter().filter(|s| match layer {
            Some(l) => s.layers.contains(&l),
            None => !s.layers.is_empty(),
        });
        chosen.filter(|s| !seen.contains(&&s.name) && (seen.push(&s.name), true).1).collect()
    }

    /// Sites outside of blocks.
    pub fn outside(&self) -> impl Iterator<Item = &SiteFacts> {
        self.sites.iter().filter(|s| s.layers.is_empty())
    }

    pub fn axis(&self, name: &str) -> Option<Option<usize>> {
        self.axes.iter().find(|(n, _)| n == name).map(|(_, size)| *size)
    }

    /// The layer that an index from the end, or from the beginning, means.
    pub fn layer(&self, index: i64) -> Option<u32> {
        let real = if index < 0 { index + i64::from(self.layers) } else { index };
        u32::try_from(real).ok().filter(|l| *l < self.layers)
    }
}
