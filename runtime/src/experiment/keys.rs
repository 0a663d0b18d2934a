//! What definitions say with all that they are made of, as numbers: equal where nothing of it has changed.

use super::inputs::{Input, InputKind};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use steer_lang::ast::Item;
use steer_lang::{FileId, Sources, Span};

/// The keys of a script's definitions.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// By what they declare.
    names: HashMap<String, u64>,
    /// All of a file.
    files: HashMap<FileId, u64>,
}

/// A number for anything; the same in one process.
pub fn key_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Words that could be names. Texts are looked into, too, since they may have names in braces.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| !w.is_empty())
}

/// What belongs to a name: all that declares it.
type Texts<'t> = BTreeMap<&'t str, Vec<&'t str>>;

/// The names that some texts can reach, with those that these reach.
fn reached<'t>(from: impl IntoIterator<Item = &'t str>, texts: &Texts<'t>) -> BTreeSet<&'t str> {
    let mut open: Vec<&str> = from.into_iter().flat_map(words).collect();
    let mut seen = BTreeSet::new();
    while let Some(word) = open.pop() {
        if let Some((name, texts)) = texts.get_key_value(word)
            && seen.insert(*name)
        {
            open.extend(texts.iter().copied().flat_map(words));
        }
    }
    seen
}

impl Keys {
    /// Of some items; `set` are the parameters that were given from outside, `data` what files hold that are read.
    pub fn of(items: &[Item], sources: &Sources, set: &[(String, String)], data: &[String]) -> Self {
        let mut texts = Texts::new();
        let mut files: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
        for item in items {
            let text = sources.text(item.span);
            files.entry(item.span.file.0).or_default().push(text);
            if let Some(name) = item.declares() {
                texts.entry(&name.name).or_default().push(text);
            }
        }
        set.iter().for_each(|(name, value)| texts.entry(name).or_default().push(value));
        let key = |own: &[&str]| {
            let all: Vec<_> = reached(own.iter().copied(), &texts).into_iter().map(|n| (n, &texts[n])).collect();
            key_of((own, all, data))
        };
        Keys {
            names: texts.iter().map(|(name, own)| (name.to_string(), key(own))).collect(),
            files: files.iter().map(|(file, own)| (FileId(*file), key(own))).collect(),
        }
    }

    /// Of what is declared under a name.
    pub fn name(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Of what stands at a place: its file, and where in it.
    pub fn place(&self, span: Span) -> Option<u64> {
        Some(key_of((self.files.get(&span.file)?, span.start, span.end)))
    }
}

/// What is known of the files that a script names: a change of one is seen by its length or time.
pub fn stamps(inputs: &[Input]) -> Vec<String> {
    let named = inputs.iter().filter(|i| matches!(i.kind, InputKind::Tensors | InputKind::Data));
    let stamp = |i: &Input| {
        let meta = std::fs::metadata(&i.path).ok();
        format!("{} {:?}", i.path.display(), meta.map(|m| (m.len(), m.modified().ok())))
    };
    named.map(stamp).collect()
}
