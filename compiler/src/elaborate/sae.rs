//! Sparse autoencoders: their tensors with axes, their configuration as a value, and the site that they read.

use super::check::Checker;
use super::scope::{Res, TensorType, fail};
use super::script::{Dictionary, Reading, TensorFrom, TensorSpec};
use super::sites::Named;
use super::value::{Value, from_json};
use crate::plan::{Axis, Size};
use std::collections::BTreeMap;
use std::rc::Rc;
use steer_lang::ast::SaeDecl;
use steer_lang::{Diagnostic, codes};

/// The axis over the entries of a dictionary.
const FEATURE: &str = "feature";

/// The encoder, `[d_in, d_sae]`, whose shape says both sizes.
const ENCODER: &str = "W_enc";

impl Checker<'_> {
    /// Declares `name.config`, `name.site` and each tensor as `name.tensor`.
    pub(super) fn sae(&mut self, s: &SaeDecl) -> Res<()> {
        let Value::Text(folder) = self.value(&s.folder)? else {
            return fail(codes::WRONG_KIND, "the folder of an SAE is a text", s.folder.span, "this is none");
        };
        let at = s.folder.span;
        let found = self.host.dictionary(&folder, s.name.span.file).map_err(|d| Box::new(d.at(at, "named here")))?;
        let (site, said) = self.sae_site(s, &found)?;
        let axes = match self.plan.sites.iter().find(|p| p.name == site.canonical()) {
            Some(p) => self.plan.ty(p.value).axes.clone(),
            None => return Err(self.unknown_site(&site.name, at)),
        };
        let sizes: Option<Vec<usize>> =
            axes.iter().map(|a| if let Size::Fixed(n) = a.size { Some(n) } else { None }).collect();
        let width: usize = match sizes {
            Some(sizes) => sizes.iter().product(),
            None => return fail(codes::AXIS_MISMATCH, "its site differs by row", at, "no SAE reads keys"),
        };
        let Some(&[inputs, features]) = found.shape(ENCODER) else {
            return fail(codes::WEIGHT_SHAPE, format!("`{folder}` has no matrix `{ENCODER}`"), at, "named here");
        };
        if inputs != width {
            return Err(Box::new(
                Diagnostic::error(
                    codes::WEIGHT_SHAPE,
                    format!("`{folder}` reads {inputs} numbers, and {} has {width}", site.name),
                )
                .at(at, said)
                .help("is it of another model? Name another site behind `at`, if the configuration is wrong"),
            ));
        }
        let feature = Axis::new(FEATURE, features);
        self.axes.entry(FEATURE.into()).or_insert(feature.size);
        let mut parts = BTreeMap::new();
        for (tensor, shape) in &found.tensors {
            let Some(axes) = tensor_axes(tensor, shape, &axes, &feature, inputs) else { continue };
            let name = format!("{}.{tensor}", s.name.name);
            let source = TensorFrom::File { path: found.file.clone(), key: Some(tensor.clone()), shift: 0 };
            self.tensor_types.insert(name.clone(), TensorType { axes, family: false, layers: Vec::new() });
            parts.insert(tensor.clone(), Value::Tensor(name.as_str().into()));
            self.tensors.push(TensorSpec { name, family: false, source, span: s.name.span });
        }
        parts.insert("config".into(), from_json(&found.config, &format!("{}.config", s.name.name)));
        parts.insert("site".into(), Value::text(&site.name));
        let means = format!("`{}` has {features} features of {}; {said}", s.name.name, site.name);
        self.readings.push(Reading { of: folder.to_string(), means });
        self.globals.insert(s.name.name.clone(), Value::Record(Rc::new(parts), s.name.name.as_str().into()));
        Ok(())
    }

    /// Warns where the configuration says that it was made for another site than the script's.
    fn said_otherwise(&mut self, s: &SaeDecl, site: &Named, found: &Dictionary) {
        let (Some(hook), Some(at)) = (found.hook(), &s.at) else { return };
        let Ok((own, _)) = self.foreign_site(hook, s.folder.span) else { return };
        let value = |n: &Named| self.plan.sites.iter().find(|p| p.name == n.canonical()).map(|p| p.value);
        if value(&own) == value(site) {
            return;
        }
        let message = format!("`{}` is put at another site than it was made for", s.name.name);
        self.diagnostics.push(
            Diagnostic::warning(codes::WRONG_KIND, message)
                .at(at.span, format!("its configuration says `{hook}`, which is {}", own.name))
                .help("leave out `at`, unless this is meant"),
        );
    }

    /// The site that it reads, and who says so.
    fn sae_site(&mut self, s: &SaeDecl, found: &Dictionary) -> Res<(Named, String)> {
        if let Some(at) = &s.at {
            return match <[Named; 1]>::try_from(self.sites(at, None)?) {
                Ok([one]) => {
                    self.said_otherwise(s, &one, found);
                    Ok((one, "as the script says".into()))
                }
                Err(_) => fail(codes::WRONG_KIND, "an SAE reads one site", at.span, "several sites"),
            };
        }
        match found.hook() {
            Some(hook) => {
                let (site, means) = self.foreign_site(hook, s.folder.span)?;
                Ok((site, format!("its configuration says `{hook}`, {means}")))
            }
            None => Err(Box::new(
                Diagnostic::error(codes::UNKNOWN_SITE, "the configuration of this SAE does not say what it reads")
                    .at(s.folder.span, "no `hook_name` there")
                    .help(format!("say it: `sae {} = \"...\" at blocks[3].resid.post`", s.name.name)),
            )),
        }
    }
}

impl Dictionary {
    /// What the configuration calls the site that it was made for.
    fn hook(&self) -> Option<&str> {
        let c = &self.config;
        let places = [c.get("hook_name"), c.get("metadata").and_then(|m| m.get("hook_name")), c.get("hook_point")];
        places.into_iter().flatten().find_map(|v| v.as_str())
    }

    fn shape(&self, name: &str) -> Option<&[usize; 2]> {
        self.tensors.iter().find(|(n, _)| n == name).and_then(|(_, shape)| shape.as_slice().try_into().ok())
    }
}

/// The axes of a tensor, `site` being those of what is read; `None` for one that fits neither them nor the features.
fn tensor_axes(name: &str, shape: &[usize], site: &[Axis], feature: &Axis, inputs: usize) -> Option<Vec<Axis>> {
    let features = if let Size::Fixed(n) = feature.size { n } else { 0 };
    let own = || std::iter::once(feature.clone());
    let read = || site.iter().cloned();
    // By name first: there may be as many features as inputs.
    match (name, shape) {
        ("W_enc", [i, f]) if (*i, *f) == (inputs, features) => Some(read().chain(own()).collect()),
        ("W_dec", [f, i]) if (*i, *f) == (inputs, features) => Some(own().chain(read()).collect()),
        ("b_dec", [i]) if *i == inputs => Some(read().collect()),
        (_, [f]) if *f == features => Some(own().collect()),
        _ => None,
    }
}
