//! Functions and architectures known by name: the standard library's and the user's own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use steer_lang::ast::{ArchDecl, FnDecl, Item, ItemKind};
use steer_lang::{Diagnostic, Diagnostics, FileId, Sources, Span, codes};

/// The standard library, `(name, text)`.
pub const STANDARD: &[(&str, &str)] = &[
    ("stdlib/blocks/functions.steer", include_str!("../../../stdlib/blocks/functions.steer")),
    ("stdlib/blocks/norm.steer", include_str!("../../../stdlib/blocks/norm.steer")),
    ("stdlib/blocks/linear.steer", include_str!("../../../stdlib/blocks/linear.steer")),
    ("stdlib/blocks/rotary.steer", include_str!("../../../stdlib/blocks/rotary.steer")),
    ("stdlib/blocks/attention.steer", include_str!("../../../stdlib/blocks/attention.steer")),
    ("stdlib/blocks/decoder.steer", include_str!("../../../stdlib/blocks/decoder.steer")),
    ("stdlib/blocks/encoder.steer", include_str!("../../../stdlib/blocks/encoder.steer")),
    ("stdlib/blocks/latent.steer", include_str!("../../../stdlib/blocks/latent.steer")),
    ("stdlib/blocks/mlp.steer", include_str!("../../../stdlib/blocks/mlp.steer")),
    ("stdlib/blocks/moe.steer", include_str!("../../../stdlib/blocks/moe.steer")),
    ("stdlib/blocks/groups.steer", include_str!("../../../stdlib/blocks/groups.steer")),
    ("stdlib/blocks/mamba.steer", include_str!("../../../stdlib/blocks/mamba.steer")),
    ("stdlib/models/bert.steer", include_str!("../../../stdlib/models/bert.steer")),
    ("stdlib/models/deepseek2.steer", include_str!("../../../stdlib/models/deepseek2.steer")),
    ("stdlib/models/deepseek3.steer", include_str!("../../../stdlib/models/deepseek3.steer")),
    ("stdlib/models/distilbert.steer", include_str!("../../../stdlib/models/distilbert.steer")),
    ("stdlib/models/falcon_mamba.steer", include_str!("../../../stdlib/models/falcon_mamba.steer")),
    ("stdlib/models/gemma.steer", include_str!("../../../stdlib/models/gemma.steer")),
    ("stdlib/models/gemma2.steer", include_str!("../../../stdlib/models/gemma2.steer")),
    ("stdlib/models/gemma3.steer", include_str!("../../../stdlib/models/gemma3.steer")),
    ("stdlib/models/gpt2.steer", include_str!("../../../stdlib/models/gpt2.steer")),
    ("stdlib/models/gpt_neo.steer", include_str!("../../../stdlib/models/gpt_neo.steer")),
    ("stdlib/models/gpt_neox.steer", include_str!("../../../stdlib/models/gpt_neox.steer")),
    ("stdlib/models/gpt_oss.steer", include_str!("../../../stdlib/models/gpt_oss.steer")),
    ("stdlib/models/jamba.steer", include_str!("../../../stdlib/models/jamba.steer")),
    ("stdlib/models/llama.steer", include_str!("../../../stdlib/models/llama.steer")),
    ("stdlib/models/mamba.steer", include_str!("../../../stdlib/models/mamba.steer")),
    ("stdlib/models/mamba2.steer", include_str!("../../../stdlib/models/mamba2.steer")),
    ("stdlib/models/mamba2_original.steer", include_str!("../../../stdlib/models/mamba2_original.steer")),
    ("stdlib/models/mamba_original.steer", include_str!("../../../stdlib/models/mamba_original.steer")),
    ("stdlib/models/mistral.steer", include_str!("../../../stdlib/models/mistral.steer")),
    ("stdlib/models/mixtral.steer", include_str!("../../../stdlib/models/mixtral.steer")),
    ("stdlib/models/olmo2.steer", include_str!("../../../stdlib/models/olmo2.steer")),
    ("stdlib/models/olmoe.steer", include_str!("../../../stdlib/models/olmoe.steer")),
    ("stdlib/models/opt.steer", include_str!("../../../stdlib/models/opt.steer")),
    ("stdlib/models/phi3.steer", include_str!("../../../stdlib/models/phi3.steer")),
    ("stdlib/models/qwen2.steer", include_str!("../../../stdlib/models/qwen2.steer")),
    ("stdlib/models/qwen2_moe.steer", include_str!("../../../stdlib/models/qwen2_moe.steer")),
    ("stdlib/models/qwen3.steer", include_str!("../../../stdlib/models/qwen3.steer")),
    ("stdlib/models/qwen3_moe.steer", include_str!("../../../stdlib/models/qwen3_moe.steer")),
    ("stdlib/models/roberta.steer", include_str!("../../../stdlib/models/roberta.steer")),
    ("stdlib/methods/dictionaries.steer", include_str!("../../../stdlib/methods/dictionaries.steer")),
    ("stdlib/methods/directions.steer", include_str!("../../../stdlib/methods/directions.steer")),
    ("stdlib/methods/experts.steer", include_str!("../../../stdlib/methods/experts.steer")),
    ("stdlib/methods/noise.steer", include_str!("../../../stdlib/methods/noise.steer")),
    ("stdlib/methods/statistics.steer", include_str!("../../../stdlib/methods/statistics.steer")),
    ("stdlib/methods/subspaces.steer", include_str!("../../../stdlib/methods/subspaces.steer")),
];

thread_local! {
    /// The standard library, parsed once: it takes longer than to check a script.
    static PARSED: RefCell<Option<Library>> = const { RefCell::new(None) };
}

#[derive(Clone, Debug, Default)]
pub struct Library {
    pub functions: BTreeMap<String, Rc<FnDecl>>,
    pub archs: BTreeMap<String, Rc<ArchDecl>>,
    /// The script's own functions, which only the files of the script see.
    own: BTreeMap<String, Rc<FnDecl>>,
    /// The files of the script.
    scripts: BTreeSet<FileId>,
}

impl Library {
    /// The standard library; its texts are added to `sources`. An error in it is a bug, reported like
    /// any other diagnostic.
    pub fn standard(sources: &mut Sources) -> Result<Self, Diagnostics> {
        // Its places are those of the first sources, as they nearly always are.
        let first = sources.files().is_empty();
        let files: Vec<FileId> = STANDARD.iter().map(|(name, text)| sources.add(*name, *text)).collect();
        if let Some(parsed) = PARSED.with(|p| p.borrow().clone()).filter(|_| first) {
            return Ok(parsed);
        }
        let mut library = Library::default();
        for (file, (_, text)) in files.into_iter().zip(STANDARD) {
            let (tree, diags) = steer_lang::parse(file, text);
            if !diags.is_empty() {
                return Err(diags);
            }
            library.add(&tree, false)?;
        }
        if first {
            PARSED.with(|p| *p.borrow_mut() = Some(library.clone()));
        }
        Ok(library)
    }

    /// Adds a script's items: its functions replace those of the library in the script and nowhere else, so that
    /// no name that a script chooses changes the model.
    pub fn add_script(&mut self, items: &[Item]) -> Result<(), Diagnostics> {
        self.scripts.extend(items.iter().map(|i| i.span.file));
        let mut diags = Vec::new();
        for item in items {
            match &item.kind {
                ItemKind::Fn(f) => match self.own.get(&f.name.name) {
                    Some(first) => diags.push(declared_twice(f, first.name.span)),
                    None => drop(self.own.insert(f.name.name.clone(), Rc::new(f.clone()))),
                },
                ItemKind::Arch(a) => self.add_arch(a),
                _ => {}
            }
        }
        if diags.is_empty() { Ok(()) } else { Err(diags) }
    }

    /// Whether a place is in a file of the script, which sees what the script declares.
    pub fn in_script(&self, place: Span) -> bool {
        self.scripts.contains(&place.file)
    }

    /// The function that a name means at a place.
    pub fn function(&self, name: &str, place: Span) -> Option<&Rc<FnDecl>> {
        let own = self.own.get(name).filter(|_| self.in_script(place));
        own.or_else(|| self.functions.get(name))
    }

    /// The names of the functions that a place sees.
    pub fn names(&self, place: Span) -> impl Iterator<Item = &str> {
        let own = self.own.keys().filter(move |_| self.in_script(place));
        own.chain(self.functions.keys()).map(String::as_str)
    }

    fn add_arch(&mut self, a: &ArchDecl) {
        for name in &a.names {
            self.archs.insert(name.value.clone(), Rc::new(a.clone()));
        }
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
                        diags.push(declared_twice(f, first));
                        continue;
                    }
                    seen.push((&f.name.name, f.name.span));
                    self.functions.insert(f.name.name.clone(), Rc::new(f.clone()));
                }
                ItemKind::Arch(a) => self.add_arch(a),
                _ => {}
            }
        }
        if diags.is_empty() { Ok(()) } else { Err(diags) }
    }
}

fn declared_twice(f: &FnDecl, first: Span) -> Diagnostic {
    Diagnostic::error(codes::DUPLICATE_NAME, format!("the function `{}` is declared twice", f.name.name))
        .at(f.name.span, "declared again here")
        .at(first, "first declared here")
        .help("give one of them another name")
}
