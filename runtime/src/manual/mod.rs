//! The manual: the language reference, the functions of the language and of the standard library, sites, model files,
//! diagnostics and subcommands, each under the names that a user would type. Everything is taken from where it is
//! written for other purposes, and shown on a terminal or as one page.

mod entries;
mod html;
mod library;
mod lines;
mod markdown;
mod overview;
mod reference;
mod search;
mod terminal;
mod topic;
mod words;

pub use topic::Topic;

use markdown::Block;

/// All that can be looked up.
pub struct Manual {
    /// In the order of the page.
    entries: Vec<Entry>,
    /// The language reference, with the places that entries lead to.
    reference: Vec<Block>,
}

/// To which part of the manual an entry belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A function of the language itself.
    Builtin,
    /// A row of a table of the reference, or a word that it explains in bold.
    Word,
    /// A function of `stdlib/methods`.
    Method,
    /// A function of `stdlib/blocks`, or of a model file.
    Block,
    /// A site that model files or blocks declare.
    Site,
    /// An architecture.
    Model,
    /// A subcommand.
    Command,
    /// The page of a diagnostic.
    Code,
    /// A section of the reference.
    Section,
}

/// What one place of the manual says under a name.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub name: String,
    /// Further names.
    pub also: Vec<String>,
    /// Where it stands: a file of the library, a section of the reference.
    pub place: String,
    /// A sentence.
    pub summary: String,
    pub blocks: Vec<Block>,
    /// Where it is on the page.
    pub id: String,
}

impl Manual {
    /// The manual of this program.
    pub fn new() -> Self {
        let (reference, mut entries) = reference::read(include_str!("../../../docs/LANGUAGE.md"));
        entries.extend(entries::functions());
        entries.extend(library::entries());
        entries.extend(entries::commands());
        entries.extend(entries::codes());
        Manual { entries, reference }
    }

    /// What there is, by group, in columns.
    pub fn overview(&self, columns: usize, color: steer_figures::Color) -> String {
        overview::text(self, columns, color)
    }

    /// The whole manual as one page of HTML that needs nothing but itself.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Names by which something is found, with the place of each on the page.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|e| (e.name.as_str(), e.id.as_str()))
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |e| e.kind == kind)
    }
}

impl Default for Manual {
    fn default() -> Self {
        Self::new()
    }
}
