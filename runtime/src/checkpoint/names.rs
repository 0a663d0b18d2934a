//! How saved models call things, as `stdlib/checkpoints.json` says.

use serde::Deserialize;
use std::sync::OnceLock;

/// Names that belong to no single model file.
#[derive(Debug, Default, Deserialize)]
pub struct Names {
    /// Components that some checkpoints put in front of every name and others leave out.
    pub prefixes: Vec<String>,
    /// Parts beside what reads text and scores tokens, which no model file reads.
    pub beside: Vec<String>,
    /// Output heads, which stand beside the model proper.
    pub heads: Vec<String>,
    /// How the classes of tokenizers begin that rebuild their post-processor from `add_bos_token`.
    pub bos_by_setting: Vec<String>,
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
        assert!(!names.prefixes.is_empty() && !names.heads.is_empty() && !names.bos_by_setting.is_empty());
    }
}
