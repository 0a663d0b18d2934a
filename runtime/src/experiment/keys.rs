//! What definitions say with all that they are made of, as numbers: equal where nothing of it has changed.

use super::inputs::{Input, InputKind};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use steer_lang::ast::{Item, ItemKind};
use steer_lang::symbols::free_names;
use steer_lang::{FileId, Sources, Span};

/// The keys of a script's definitions.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// By what they declare.
    names: HashMap<String, u64>,
    /// By file and place: of each item.
    items: Vec<(FileId, Range<u32>, u64)>,
}

/// A number for anything; the same in one process.
pub fn key_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What belongs to a name: texts of what declares it, and the names that these take from elsewhere.
type Declared<'t> = BTreeMap<&'t str, Vec<(&'t str, BTreeSet<String>)>>;

/// The names that some names can reach, themselves included.
fn reached<'t>(from: &BTreeSet<String>, declared: &Declared<'t>) -> BTreeSet<&'t str> {
    let mut open: Vec<&str> = from.iter().map(String::as_str).collect();
    let mut seen = BTreeSet::new();
    while let Some(word) = open.pop() {
        if let Some((name, own)) = declared.get_key_value(word)
            && seen.insert(*name)
        {
            open.extend(own.iter().flat_map(|(_, names)| names).map(String::as_str));
        }
    }
    seen
}

impl Keys {
    /// Of some items; `set` are the parameters that were given from outside, `data` all else that values depend on.
    pub fn of(items: &[Item], sources: &Sources, set: &[(String, String)], data: &[String]) -> Self {
        let mut declared = Declared::new();
        let mut all = Vec::new();
        for item in items {
            let text = sources.text(item.span);
            let (names, _) = free_names(item, &sources.get(item.span.file).text);
            if let Some(name) = item.declares() {
                declared.entry(&name.name).or_default().push((text, names.clone()));
            }
            all.push((item, text, names));
        }
        set.iter().for_each(|(name, value)| declared.entry(name).or_default().push((value, BTreeSet::new())));
        // Every value is the model's, whoever declares that.
        let archs = items.iter().filter(|i| matches!(i.kind, ItemKind::Arch(_)));
        let archs: Vec<&str> = archs.map(|i| sources.text(i.span)).collect();
        let key = |own: &str, names: &BTreeSet<String>| {
            let texts = |name: &&str| declared[name].iter().map(|(text, _)| *text).collect::<Vec<_>>();
            let parts: Vec<_> = reached(names, &declared).iter().map(|n| (n.to_string(), texts(n))).collect();
            key_of((own, parts, &archs, data))
        };
        let of_name = |(name, own): (&&str, &Vec<(&str, BTreeSet<String>)>)| {
            (name.to_string(), key_of(own.iter().map(|(text, names)| key(text, names)).collect::<Vec<_>>()))
        };
        Keys {
            names: declared.iter().map(of_name).collect(),
            items: all.iter().map(|(i, text, n)| (i.span.file, i.span.start..i.span.end, key(text, n))).collect(),
        }
    }

    /// Of what is declared under a name.
    pub fn name(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Of what stands at a place: the item that it is in, and where in it.
    pub fn place(&self, span: Span) -> Option<u64> {
        let within = |(file, range, _): &&(FileId, Range<u32>, u64)| {
            *file == span.file && range.start <= span.start && span.end <= range.end
        };
        let (_, range, key) = self.items.iter().find(within)?;
        Some(key_of((key, span.start - range.start, span.len())))
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
