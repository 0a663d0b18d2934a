//! How saved models call things, as `stdlib/checkpoints.json` says.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Names that belong to no single model file.
#[derive(Debug, Default, Deserialize)]
pub struct Names {
    /// Components that some checkpoints put in front of every name and others leave out.
    pub prefixes: Vec<String>,
    /// Parts beside what reads text and scores tokens, which no model file reads.
    pub beside: Vec<String>,
    /// Layers behind the model's own, which no model file reads.
    pub further: Vec<Further>,
    /// Architectures of configurations that name none, the first that fits.
    pub unnamed: Vec<Unnamed>,
    /// Output heads, which stand beside the model proper.
    pub heads: Vec<String>,
    /// How tensors are called in place of a weight, or behind its name, where it is quantized in a way that is not read.
    pub quantized: Vec<String>,
    /// How the classes of tokenizers begin that rebuild their post-processor from `add_bos_token`.
    pub bos_by_setting: Vec<String>,
}

/// Layers under a name, as many as the key `count` of the configuration says, behind those that `behind` counts.
#[derive(Debug, Deserialize)]
pub struct Further {
    pub under: String,
    pub behind: String,
    pub count: String,
}

/// An architecture by the keys that its configurations have.
#[derive(Debug, Deserialize)]
pub struct Unnamed {
    pub keys: Vec<String>,
    /// Values that keys have to have, by a path of keys with `/` before each.
    #[serde(default)]
    pub values: BTreeMap<String, serde_json::Value>,
    pub arch: String,
}

/// Those that are built in.
pub fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    // A test holds that it can be read.
    NAMES.get_or_init(|| serde_json::from_str(TEXT).unwrap_or_default())
}

const TEXT: &str = include_str!("../../../stdlib/checkpoints.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_names_can_be_read() {
        let names: Names = serde_json::from_str(TEXT).unwrap();
        assert!(names.prefixes.iter().chain(&names.heads).chain(&names.beside).all(|n| n.ends_with('.')));
        assert!(!names.quantized.is_empty() && !names.further.is_empty() && !names.unnamed.is_empty());
        assert!(!names.prefixes.is_empty() && !names.heads.is_empty() && !names.bos_by_setting.is_empty());
    }
}
