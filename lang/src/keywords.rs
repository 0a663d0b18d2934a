//! The words of the language.

pub use crate::parse::words::{DECLARATIONS, JOINING, RESERVED, SELECTING, STATEMENTS, wants_more};

/// Whether a word means something by itself, so that editors show it as such.
pub fn is_keyword(word: &str) -> bool {
    crate::parse::words::is_known(word) || wants_more(word)
}

/// All of them, each once, sorted.
pub fn all() -> Vec<&'static str> {
    let mut out: Vec<&str> = [DECLARATIONS, STATEMENTS, RESERVED, JOINING, SELECTING].concat();
    out.sort_unstable();
    out.dedup();
    out
}
