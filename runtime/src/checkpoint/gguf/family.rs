//! What GGUF files call things, as `stdlib/gguf.json` says.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::OnceLock;

type Map<T> = BTreeMap<String, T>;

/// What is known of one `general.architecture`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Family {
    like: Option<String>,
    pub arch: String,
    /// Another architecture where the file has an entry of metadata that is not 0.
    pub with: Map<String>,
    /// Keys of the configuration from metadata below the family's name.
    pub config: Map<String>,
    /// Lists of kinds of layers from metadata that says of each whether it has a window.
    pub layers: Map<String>,
    /// Products of metadata over products of metadata.
    pub ratios: Map<[Vec<String>; 2]>,
    pub given: Map<Value>,
    pub present: Map<String>,
    pub absent: Map<String>,
    pub lists: Map<List>,
    pub cases: Option<Vec<Case>>,
    /// Names without `.weight` and `.bias`, with `{layer}` and `{expert}` in them.
    pub tensors: Map<String>,
    pub changes: Option<Map<String>>,
}

/// A small tensor that belongs to the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub into: String,
    pub given: Map<Value>,
}

/// Keys that hold where metadata has these values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(rename = "where")]
    pub of: Map<usize>,
    pub given: Map<Value>,
}

/// How texts are split before the merges of a byte-level vocabulary.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pre {
    /// In place of GPT-2's own.
    pub split: Option<String>,
    /// Each digit by itself.
    pub digits: bool,
    pub normalizer: Option<String>,
    /// Whether a word that is a token is taken whole.
    pub ignore_merges: bool,
    /// Whether texts begin with the beginning token where the file does not say.
    pub add_bos: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Known {
    /// Metadata that says nothing of how a model computes.
    describes: Vec<String>,
    families: Map<Family>,
    pre: Map<Pre>,
}

impl Family {
    /// What files call the tensor that the model file calls `name`: the likeliest first.
    pub fn own_names(&self, name: &str) -> Vec<String> {
        let suffix = [".weight", ".bias"].into_iter().find(|s| name.ends_with(s)).unwrap_or("");
        let stem = &name[..name.len() - suffix.len()];
        let own = |(key, target): (&String, &String)| {
            let (mut pattern, mut parts) = (target.split('.'), stem.split('.'));
            let mut own = key.clone();
            loop {
                match (pattern.next(), parts.next()) {
                    (None, None) => return Some(own + suffix),
                    (Some(p), Some(n)) if p == n => {}
                    (Some(p @ ("{layer}" | "{expert}")), Some(n)) => own = own.replace(p, n),
                    _ => return None,
                }
            }
        };
        self.tensors.iter().filter_map(own).collect()
    }
}

/// The family of this name, with what it has from the one that it is like.
pub fn family(name: &str) -> Option<Family> {
    let own = known().families.get(name)?.clone();
    let Some(base) = own.like.as_deref().and_then(family) else { return Some(own) };
    fn under<T>(own: Map<T>, mut base: Map<T>) -> Map<T> {
        base.extend(own);
        base
    }
    Some(Family {
        like: None,
        arch: own.arch,
        with: own.with,
        config: under(own.config, base.config),
        layers: under(own.layers, base.layers),
        ratios: under(own.ratios, base.ratios),
        given: under(own.given, base.given),
        present: under(own.present, base.present),
        absent: under(own.absent, base.absent),
        lists: under(own.lists, base.lists),
        cases: own.cases.or(base.cases),
        tensors: under(own.tensors, base.tensors),
        changes: own.changes.or(base.changes),
    })
}

/// Whether metadata only describes a model.
pub fn describes(key: &str) -> bool {
    known().describes.iter().any(|k| k == key)
}

/// The names of all families.
pub fn families() -> impl Iterator<Item = &'static str> {
    known().families.keys().map(String::as_str)
}

/// How the texts of a `tokenizer.ggml.pre` are split.
pub fn pre(name: &str) -> Option<&'static Pre> {
    known().pre.get(name)
}

/// All names that a `tokenizer.ggml.pre` may be.
#[cfg(test)]
pub fn pres() -> impl Iterator<Item = &'static str> {
    known().pre.keys().map(String::as_str)
}

/// What is built in.
fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    // A test holds that it can be read.
    KNOWN.get_or_init(|| serde_json::from_str(TEXT).unwrap_or_default())
}

const TEXT: &str = include_str!("../../../../stdlib/gguf.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_can_be_read() {
        let known: Known = serde_json::from_str(TEXT).unwrap();
        assert!(!known.pre.is_empty());
        for name in known.families.keys() {
            let family = family(name).unwrap();
            assert!(family.tensors.contains_key("token_embd") && family.config.values().any(|k| k == "block_count"));
        }
        assert!(family("gemma3").unwrap().changes.unwrap().contains_key("attn_norm"));
        assert!(family("qwen2").unwrap().changes.unwrap().is_empty());
    }
}
