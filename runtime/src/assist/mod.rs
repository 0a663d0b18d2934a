//! What is known at a place of a script: completion, hover and definitions, for editors and prompts.
//!
//! A text that is being written rarely parses, so completion works from tokens; nothing here reads a model or checks a
//! script: what there is of a model is given.

mod complete;
mod declared;
mod define;
mod expressions;
mod files;
mod functions;
mod hover;
mod language;
mod model;
mod path;
mod place;
mod unknown;

pub use complete::complete;
pub use define::{Target, definition, library_text};
pub use functions::{Function, Functions};
pub use hover::{Hover, hover};
pub use model::{ModelFacts, SiteFacts};
pub use unknown::unknown_names;

use std::path::Path;
use steer_lang::Source;

/// What there is beside the text: all of it may be absent.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    pub model: Option<&'a ModelFacts>,
    /// Where paths of the script begin.
    pub folder: Option<&'a Path>,
    /// The files that it imports, by their paths.
    pub imports: &'a [Source],
}

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Keyword,
    Function,
    Metric,
    /// A hook, patch or route.
    Edit,
    /// Something that can be run: a prompt, a data set, a named run.
    Run,
    Tensor,
    /// A parameter of the script.
    Param,
    /// A name of a body, a sweep or a call.
    Local,
    Table,
    Axis,
    Site,
    Position,
    Option,
    Value,
    File,
    Folder,
    Model,
}

/// Something that can stand at the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What takes the place of what is there from [`Completion::from`] on.
    pub text: String,
    pub kind: Kind,
    /// One line: a signature, axes, the beginning of a value.
    pub detail: String,
    pub doc: String,
}

impl Candidate {
    fn new(text: impl Into<String>, kind: Kind) -> Self {
        Candidate { text: text.into(), kind, detail: String::new(), doc: String::new() }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn doc(mut self, doc: impl Into<String>) -> Self {
        self.doc = doc.into();
        self
    }
}

/// What can stand at a place, the best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Where what the candidates replace begins; it ends at the place.
    pub from: usize,
    pub candidates: Vec<Candidate>,
}

/// Whether a place is inside of a text.
pub fn is_quoted(text: &str, offset: usize) -> bool {
    let tokens = steer_lang::lex(text).tokens;
    let inside = |t: &steer_lang::Token| match t.kind {
        steer_lang::TokenKind::Text { closed } => t.start < offset && (offset < t.end || !closed && offset == t.end),
        _ => false,
    };
    tokens.iter().any(inside)
}

#[cfg(test)]
mod tests;
