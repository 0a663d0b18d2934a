//! Which of a model's files are needed, and whether a folder has them.

use super::cache::Snapshot;
use super::{Need, is_file_name};
use crate::checkpoint::VOCABULARIES;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
pub(super) const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PICKLE: &str = "pytorch_model.bin";
const PICKLE_INDEX: &str = "pytorch_model.bin.index.json";

/// What is read beside the weights.
const DESCRIPTION: &[&str] = &[
    CONFIG,
    TOKENIZER,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// The weights that a model is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    None,
    Single(String),
    /// Names the files.
    Index(String),
}

/// Those of the hub's files that describe the model. Other vocabularies are of use where there is no `tokenizer.json`.
pub(super) fn description(files: &[String]) -> Vec<String> {
    let others = if files.iter().any(|f| f == TOKENIZER) { &[] } else { VOCABULARIES };
    files.iter().filter(|f| DESCRIPTION.iter().chain(others).any(|d| d == f)).cloned().collect()
}

/// The vocabularies that the hub does not have, where it has no `tokenizer.json` either.
pub(super) fn absent(files: &[String]) -> impl Iterator<Item = &'static str> {
    let whole = files.iter().any(|f| f == TOKENIZER);
    let names = [TOKENIZER].into_iter().chain(VOCABULARIES.iter().copied());
    names.filter(move |n| !whole && !files.iter().any(|f| f == n))
}

/// The weights among the hub's files: pickles only where there are no safetensors.
pub(super) fn weights(files: &[String]) -> Weights {
    let has = |name: &&str| files.iter().any(|f| f == name);
    [SINGLE, INDEX, PICKLE, PICKLE_INDEX].iter().find(|n| has(n)).map_or(Weights::None, |n| match *n {
        INDEX | PICKLE_INDEX => Weights::Index(n.to_string()),
        _ => Weights::Single(n.to_string()),
    })
}

/// The files that an index names; what is wrong with it, else.
pub(super) fn parts(index: &Path, files: &[String]) -> Result<Vec<String>, String> {
    let names = named(index).ok_or("is no index of weight files")?;
    match names.iter().find(|n| !files.contains(n)) {
        Some(lost) => Err(format!("names `{lost}`, which the hub does not have")),
        None => Ok(names.into_iter().collect()),
    }
}

fn named(index: &Path) -> Option<BTreeSet<String>> {
    let index: Value = serde_json::from_slice(&std::fs::read(index).ok()?).ok()?;
    let map = index.get("weight_map")?.as_object()?;
    let names: Option<BTreeSet<String>> = map.values().map(|v| v.as_str().map(str::to_owned)).collect();
    names.filter(|n| !n.is_empty() && n.iter().all(|n| is_file_name(n)))
}

/// Whether nothing has to be asked for.
pub(super) fn complete(snapshot: &Snapshot, need: Need) -> bool {
    let known = |name: &&str| snapshot.has(name) || snapshot.lacks_for_good(name);
    let described = snapshot.has(TOKENIZER) || (known(&TOKENIZER) && VOCABULARIES.iter().all(known));
    usable(snapshot, need) && described
}

/// Whether it does for want of anything better: of a tokenizer that nobody has downloaded it is not known whether
/// there is one.
pub(super) fn usable(snapshot: &Snapshot, need: Need) -> bool {
    let indexed = |name: &str| {
        snapshot.has(name) && named(&snapshot.folder.join(name)).is_some_and(|n| n.iter().all(|n| snapshot.has(n)))
    };
    let weights = || snapshot.has(SINGLE) || indexed(INDEX) || snapshot.has(PICKLE) || indexed(PICKLE_INDEX);
    snapshot.has(CONFIG) && (need == Need::Description || weights())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_come_last() {
        let of = |names: &[&str]| weights(&names.iter().map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&[PICKLE, SINGLE, "consolidated.safetensors"]), Weights::Single(SINGLE.into()));
        assert_eq!(of(&[PICKLE, INDEX]), Weights::Index(INDEX.into()));
        assert_eq!(of(&[PICKLE_INDEX, "onnx/model.onnx"]), Weights::Index(PICKLE_INDEX.into()));
        assert_eq!(of(&["model.gguf"]), Weights::None);
    }
}
