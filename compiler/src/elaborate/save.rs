//! `save` of declared tensors.

use super::check::Checker;
use super::scope::{Res, fail};
use super::script::{SavedTensors, TensorFrom};
use crate::plan::Size;
use steer_lang::ast::{Ident, Text};
use steer_lang::{Diagnostic, codes};

impl Checker<'_> {
    /// What is written of the tensor or family of this name.
    pub(super) fn saved_tensors(&mut self, name: &Ident, to: &Text) -> Res<SavedTensors> {
        let to = self.target(to)?;
        let ty = &self.tensor_types[&name.name];
        let size = |s: Size| if let Size::Fixed(n) = s { Some(n) } else { None };
        let shape: Option<Vec<usize>> = ty.axes.iter().map(|a| size(a.size)).collect();
        let Some(shape) = shape else {
            return fail(codes::WRONG_KIND, "it differs by row", name.span, "only tensors of the script are saved");
        };
        let own = name.name.clone();
        let tensors: Vec<String> = match ty.family {
            true => ty.layers.iter().map(|l| format!("{own}[{l}]")).collect(),
            false => vec![own.clone()],
        };
        let whole = ty.layers.len() == self.layers as usize;
        let ending = to.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        if ending == "npy" && ty.family && !whole {
            return Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{own}` has no value for some layers"))
                    .at(name.span, "an .npy file holds one for each")
                    .help("end the file's name in .safetensors"),
            ));
        }
        let blocks = match ending.as_str() {
            "gguf" => Some(self.directed(name)?),
            _ => None,
        };
        Ok(SavedTensors { name: own, shape, tensors, blocks, to })
    }

    /// The block at whose output each vector of a family acts; nothing else can be said in a control vector.
    fn directed(&self, name: &Ident) -> Res<Vec<u32>> {
        let ty = &self.tensor_types[&name.name];
        let refused = |what: &str, help: &str| {
            Err(Box::new(
                Diagnostic::error(codes::BAD_ARGUMENTS, format!("`{}` is no control vector", name.name))
                    .at(name.span, what)
                    .help(help),
            ))
        };
        if !ty.family || !matches!(&ty.axes[..], [a] if &*a.name == "d_model") {
            return refused(
                "a control vector has a direction of `d_model` for each layer",
                "declare it so: `vector v[layer] = ...`, or end the file's name in .safetensors",
            );
        }
        let spec = self.tensors.iter().find(|t| t.name == name.name);
        let blocks: Option<Vec<u32>> = match spec.map(|s| &s.source) {
            Some(TensorFrom::Derived(parts)) => parts
                .iter()
                .map(|p| p.site.strip_prefix("blocks[")?.strip_suffix("].resid.post")?.parse().ok())
                .collect(),
            _ => Some(ty.layers.clone()),
        };
        match blocks {
            Some(blocks) => Ok(blocks),
            None => refused(
                "it is taken elsewhere than at the outputs of blocks",
                "a control vector is added there: take it at `blocks[layer].resid.post`",
            ),
        }
    }
}
