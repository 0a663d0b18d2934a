//! Where names are declared and used, for editors.
//!
//! Scopes are those of the language: declarations are seen in the whole script, whatever their order; functions have
//! names of their own; names of a sweep stand before the script's, those of a body before both.

mod bodies;
mod slots;
mod walk;

use crate::ast::{File, Item};
use crate::source::{FileId, Span};
pub use slots::slots;
use std::collections::BTreeSet;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SymbolKind {
    /// `param` of the script.
    Param,
    Data,
    Prompt,
    Tensor,
    Sae,
    Function,
    Hook,
    Patch,
    Route,
    Run,
    Metric,
    Sweep,
    Top,
    /// Of a function, hook, route or metric.
    Parameter,
    /// `let`, a parameter of `|x| { ... }`, or the variable of `blocks`.
    Local,
    /// `b in blocks`
    SweepAxis,
    /// The `layer` of `vector mood[layer]`.
    Family,
    /// `axis head`, or one that a tensor brings along.
    Axis,
    /// `site attn.q`, `write attn.out`: a name with dots.
    Site,
}

impl SymbolKind {
    /// How a sentence calls it.
    pub fn word(self) -> &'static str {
        match self {
            SymbolKind::Param | SymbolKind::Parameter => "parameter",
            SymbolKind::Data => "data set",
            SymbolKind::Prompt => "prompt",
            SymbolKind::Tensor => "tensor",
            SymbolKind::Sae => "sparse autoencoder",
            SymbolKind::Function => "function",
            SymbolKind::Hook => "hook",
            SymbolKind::Patch => "patch",
            SymbolKind::Route => "route",
            SymbolKind::Run => "run",
            SymbolKind::Metric => "metric",
            SymbolKind::Sweep | SymbolKind::Top => "table",
            SymbolKind::Local => "local name",
            SymbolKind::SweepAxis => "name of a sweep",
            SymbolKind::Family => "name for the layers of a family",
            SymbolKind::Axis => "axis",
            SymbolKind::Site => "site",
        }
    }

    /// The kind of what a declaration with this word declares.
    pub fn declared_by(word: &str) -> Option<SymbolKind> {
        Some(match word {
            "param" => SymbolKind::Param,
            "data" => SymbolKind::Data,
            "prompt" => SymbolKind::Prompt,
            "vector" | "tensor" => SymbolKind::Tensor,
            "sae" => SymbolKind::Sae,
            "fn" => SymbolKind::Function,
            "hook" => SymbolKind::Hook,
            "patch" => SymbolKind::Patch,
            "route" => SymbolKind::Route,
            "run" => SymbolKind::Run,
            "metric" => SymbolKind::Metric,
            "sweep" => SymbolKind::Sweep,
            "top" => SymbolKind::Top,
            _ => return None,
        })
    }
}

/// A name where it is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub name: String,
    pub kind: SymbolKind,
    /// The name itself.
    pub span: Span,
    /// The declaration that it is in.
    pub whole: Span,
    pub doc: Option<String>,
    /// Where it can be named; `None`: in all of the script.
    pub scope: Option<Span>,
    /// The definition that it is a parameter or axis of.
    pub of: Option<usize>,
}

/// What the language looks for where a name is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Value,
    Function,
    /// After `with`.
    Edit,
    /// What is run.
    Run,
    /// A list of numbers: `mask(name)`, `by name`.
    List,
    /// What `plot` and `save` name.
    Table,
    /// Positions of a sweep: `on t`.
    Positions,
    /// An argument of a call by its name.
    Argument,
    Axis,
    /// `{name}` in a text.
    Slot,
}

/// A name where it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub name: String,
    pub span: Span,
    /// Its definition among [`Symbols::definitions`]; none where it is a name of the language, the model or the library.
    pub definition: Option<usize>,
    pub role: Role,
}

/// All names of a script.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    pub definitions: Vec<Definition>,
    pub uses: Vec<Use>,
}

/// A file of a script: the script itself, or one that it imports.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub file: FileId,
    pub tree: &'a File,
    pub text: &'a str,
}

impl Symbols {
    /// The names of files that see one another.
    pub fn of(parts: &[Part]) -> Symbols {
        walk::symbols(parts)
    }

    /// What the name at a place is: the definition that it means, and where it stands.
    pub fn at(&self, file: FileId, offset: usize) -> Option<(Span, Option<usize>)> {
        let touches = |s: Span| s.file == file && s.start as usize <= offset && offset <= s.end as usize;
        let used = self.uses.iter().filter(|u| touches(u.span)).max_by_key(|u| (u.definition.is_some(), u.span.start));
        let declared = self.definitions.iter().position(|d| touches(d.span));
        match (declared, used) {
            (Some(d), _) => Some((self.definitions[d].span, Some(d))),
            (None, Some(u)) => Some((u.span, u.definition)),
            (None, None) => None,
        }
    }

    /// Every place where a definition is named, its own first.
    pub fn places(&self, definition: usize) -> Vec<Span> {
        let own = self.definitions.get(definition).map(|d| d.span);
        let used = self.uses.iter().filter(|u| u.definition == Some(definition)).map(|u| u.span);
        let mut all: Vec<Span> = own.into_iter().chain(used).collect();
        let mut seen = Vec::new();
        all.retain(|s| !seen.contains(s) && (seen.push(*s), true).1);
        all
    }
}

/// The names that an item of a text takes from elsewhere: of other items, of the library or of the language; and those of them
/// that are tables.
pub fn free_names(item: &Item, text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (file, tree) = (item.span.file, File { items: vec![item.clone()] });
    let symbols = Symbols::of(&[Part { file, tree: &tree, text }]);
    let own = |u: &Use| u.definition.is_some() || matches!(u.role, Role::Argument | Role::Axis);
    let free: Vec<Use> = symbols.uses.into_iter().filter(|u| !own(u)).collect();
    let tables = free.iter().filter(|u| u.role == Role::Table).map(|u| u.name.clone()).collect();
    (free.into_iter().map(|u| u.name).collect(), tables)
}
