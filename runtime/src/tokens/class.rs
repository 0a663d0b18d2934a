//! Classes of tokenizers, as `stdlib/tokenizers.json` says.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The files that a vocabulary stands in, and what it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// Merges of bytes.
    Bytes,
    /// Words and parts of words.
    Words,
    /// A model of SentencePiece.
    Pieces,
}

/// What is known of one class.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    pub form: Form,
    /// How texts are split before byte-level merges: a name of `stdlib/gguf.json`.
    pub pre: Option<String>,
    pub specials: Map<String, Value>,
    #[serde(default)]
    pub add_bos_token: bool,
    /// What stands before and behind every text, whatever settings say.
    pub around: Option<[String; 2]>,
    /// The order of the vocabulary, where it is not that of the pieces.
    pub numbers: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Known {
    models: BTreeMap<String, String>,
    classes: BTreeMap<String, Class>,
}

/// The class of this name.
pub(super) fn class(name: &str) -> Option<&'static Class> {
    known().classes.get(name)
}

/// The class of a `model_type`.
pub(super) fn class_of_model(model: &str) -> Option<&'static str> {
    known().models.get(model).map(String::as_str)
}

/// The names of all classes.
pub(super) fn classes() -> impl Iterator<Item = &'static str> {
    known().classes.keys().map(String::as_str)
}

/// What is built in.
fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    // A test holds that it can be read.
    KNOWN.get_or_init(|| serde_json::from_str(TEXT).unwrap_or_default())
}

const TEXT: &str = include_str!("../../../stdlib/tokenizers.json");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::pre;

    #[test]
    fn what_is_built_in_can_be_read() {
        let known: Known = serde_json::from_str(TEXT).unwrap();
        assert!(known.models.values().all(|c| known.classes.contains_key(c)));
        for (name, class) in &known.classes {
            assert_eq!(class.form == Form::Bytes, class.pre.as_deref().is_some_and(|p| pre(p).is_some()), "{name}");
            let named = class.around.iter().flatten().chain(class.numbers.iter().flatten());
            assert!(named.into_iter().all(|t| class.specials.contains_key(t) || t.ends_with("..")), "{name}");
        }
    }
}
