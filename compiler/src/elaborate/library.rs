//! Functions and architectures known by name: the standard library's and the user's own.

use std::collections::BTreeMap;
use std::rc::Rc;
use steer_lang::ast::{ArchDecl, FnDecl, ItemKind};
use steer_lang::{Diagnostic, Diagnostics, Sources, Span, codes};

/// The standard library, `(name, text)`.
pub const STANDARD: &[(&str, &str)] = &[
    ("stdlib/blocks/functions.steer", include_str!("../../../stdlib/blocks/functions.steer")),
    ("stdlib/blocks/norm.steer", include_str!("../../../stdlib/blocks/norm.steer")),
    ("stdlib/blocks/linear.steer", include_str!("../../../stdlib/blocks/linear.steer")),
    ("stdlib/blocks/rotary.steer", include_str!("../../../stdlib/blocks/rotary.steer")),
    ("stdlib/blocks/attention.steer", include_str!("../../../stdlib/blocks/attention.steer")),
    ("stdlib/blocks/mlp.steer", include_str!("../../../stdlib/blocks/mlp.steer")),
    ("stdlib/blocks/moe.steer", include_str!("../../../stdlib/blocks/moe.steer")),
    ("stdlib/blocks/mamba.steer", include_str!("../../../stdlib/blocks/mamba.steer")),
    ("stdlib/models/gpt2.steer", include_str!("../../../stdlib/models/gpt2.steer")),
    ("stdlib/models/gpt_neox.steer", include_str!("../../../stdlib/models/gpt_neox.steer")),
    ("stdlib/models/llama.steer", include_str!("../../../stdlib/models/llama.steer")),
    ("stdlib/models/mamba.steer", include_str!("../../../stdlib/models/mamba.steer")),
    ("stdlib/models/mixtral.steer", include_str!("../../../stdlib/models/mixtral.steer")),
    ("stdlib/methods/directions.steer", include_str!("../../../stdlib/methods/directions.steer")),
    ("stdlib/methods/noise.steer", include_str!("../../../stdlib/methods/noise.steer")),
    ("stdlib/methods/statistics.steer", include_str!("../../../stdlib/methods/statistics.steer")),
    ("stdlib/methods/subspaces.steer", include_str!("../../../stdlib/methods/subspaces.steer")),
];

#[derive(Clone, Debug, Default)]
pub struct Library {
    pub functions: BTreeMap<String, Rc<FnDecl>>,
    pub archs: BTreeMap<String, Rc<ArchDecl>>,
}

impl Library {
    /// The standard library; its texts are added to `sources`. An error in it is a bug, reported like
    /// any other diagnostic.
    pub fn standard(sources: &mut Sources) -> Result<Self, Diagnostics> {
        let mut library = Library::default();
        for (name, text) in STANDARD {
            let file = sources.add(*name, *text);
            let (tree, diags) = steer_lang::parse(file, text);
            if !diags.is_empty() {
                return Err(diags);
            }
            library.add(&tree, false)?;
        }
        Ok(library)
    }

    /// Adds the functions and architectures of a file. What is already there may be replaced only by
    /// the user's own model files, which shadow the standard ones.
    pub fn add(&mut self, tree: &steer_lang::ast::File, shadow: bool) -> Result<(), Diagnostics> {
        let mut diags = Vec::new();
        let mut seen: Vec<(&str, Span)> = Vec::new();
        for item in &tree.items {
            match &item.kind {
                ItemKind::Fn(f) => {
                    let mut first = seen.iter().find(|(name, _)| *name == f.name.name).map(|(_, span)| *span);
                    if !shadow {
                        first = first.or(self.functions.get(&f.name.name).map(|g| g.name.span));
                    }
                    if let Some(first) = first {
                        diags.push(
                            Diagnostic::error(
                                codes::DUPLICATE_NAME,
                                format!("the function `{}` is declared twice", f.name.name),
                            )
                            .at(f.name.span, "declared again here")
                            .at(first, "first declared here")
                            .help("give one of them another name"),
                        );
                        continue;
                    }
                    seen.push((&f.name.name, f.name.span));
                    self.functions.insert(f.name.name.clone(), Rc::new(f.clone()));
                }
                ItemKind::Arch(a) => {
                    for name in &a.names {
                        self.archs.insert(name.value.clone(), Rc::new(a.clone()));
                    }
                }
                _ => {}
            }
        }
        if diags.is_empty() { Ok(()) } else { Err(diags) }
    }
}
