//! The parts of a `tokenizer.json`, made of vocabularies that stand in other files.

use crate::checkpoint::Pre;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// All but the tokens that are found before the others, and what stands around texts.
pub(super) struct Parts {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
    pub model: Value,
}

/// A token that is found in texts before all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub id: usize,
    pub text: String,
    /// Left out of decoded texts.
    pub special: bool,
    /// Whether spaces before and behind it belong to it.
    pub spaces: [bool; 2],
    pub whole_words: bool,
    /// Whether it is looked for in the normalized text.
    pub normalized: bool,
}

impl Added {
    pub fn plain(id: usize, text: &str, special: bool) -> Self {
        Added { id, text: text.into(), special, spaces: [false; 2], whole_words: false, normalized: false }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id, "content": self.text, "single_word": self.whole_words, "lstrip": self.spaces[0],
            "rstrip": self.spaces[1], "normalized": self.normalized, "special": self.special,
        })
    }
}

impl Parts {
    /// The whole file; `frame` is its post-processor.
    pub fn file(self, added: &[Added], frame: Value) -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added.iter().map(Added::json).collect::<Vec<_>>(),
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "post_processor": frame,
            "decoder": self.decoder,
            "model": self.model,
        })
    }
}

/// What stands before and behind every text.
pub(super) fn frame(begin: Option<(&str, usize)>, end: Option<(&str, usize)>) -> Value {
    if begin.is_none() && end.is_none() {
        return Value::Null;
    }
    let special = |t: Option<(&str, usize)>| t.map(|(text, _)| json!({ "SpecialToken": { "id": text, "type_id": 0 } }));
    let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    let single: Vec<Value> = special(begin).into_iter().chain([sequence("A")]).chain(special(end)).collect();
    let pair: Vec<Value> = single.iter().cloned().chain([sequence("B")]).collect();
    let mut specials = Map::new();
    for (text, id) in begin.into_iter().chain(end) {
        specials.insert(text.into(), json!({ "id": text, "ids": [id], "tokens": [text] }));
    }
    json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials })
}

/// Merges of bytes, as GPT-2's.
pub(super) fn bytes(vocabulary: Value, merges: &[(&str, &str)], pre: &Pre, space: bool) -> Parts {
    let level = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex });
    let isolated = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let splits = match &pre.split {
        Some(regex) => vec![isolated(regex), level(false)],
        None if pre.digits => vec![json!({ "type": "Digits", "individual_digits": true }), level(true)],
        None => vec![level(true)],
    };
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignore_merges,
        "vocab": vocabulary, "merges": merges,
    });
    Parts {
        normalizer: pre.normalizer.as_ref().map_or(Value::Null, |n| json!({ "type": n })),
        pre_tokenizer: json!({ "type": "Sequence", "pretokenizers": splits }),
        decoder: level(true),
        model,
    }
}

/// How the words of BERT's vocabularies are cut out of texts.
pub(super) struct Words {
    pub lower: bool,
    /// `None`: where texts are lowered.
    pub strip_accents: Option<bool>,
    pub split_chinese: bool,
}

/// Words and parts of words, the longest first.
pub(super) fn words(vocabulary: Value, unknown: &str, words: &Words) -> Parts {
    Parts {
        normalizer: json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": words.split_chinese,
            "strip_accents": words.strip_accents, "lowercase": words.lower,
        }),
        pre_tokenizer: json!({ "type": "BertPreTokenizer" }),
        decoder: json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
        model: json!({
            "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        }),
    }
}

/// Pieces with scores, of SentencePiece's kind.
#[derive(Default)]
pub(super) struct Pieces<'a> {
    pub texts: Vec<&'a str>,
    pub scores: Vec<f64>,
    /// Those of which others are merged; empty where all are.
    pub merged: Vec<bool>,
    /// The most probable pieces, instead of merging the best neighbours.
    pub unigram: bool,
    pub unknown: usize,
    pub byte_fallback: bool,
    /// Whether a space is put before each text.
    pub space: bool,
    /// Whether it is put before the first part alone, where tokens are found before the others.
    pub first_alone: bool,
    /// Spaces at both ends are left out, and several are one.
    pub squeeze: bool,
    /// A table of characters, as SentencePiece keeps it.
    pub characters: &'a [u8],
    /// Pieces that are never parts of others.
    pub isolated: Vec<&'a str>,
}

impl Pieces<'_> {
    /// As SentencePiece does it.
    pub fn parts(self) -> Parts {
        let replace = |from: Value, to: &str| json!({ "type": "Replace", "pattern": from, "content": to });
        let text = |t: &str| json!({ "String": t });
        let regex = |r: &str| json!({ "Regex": r });
        let mut normalizers = Vec::new();
        if !self.characters.is_empty() {
            let table = BASE64_STANDARD.encode(self.characters);
            normalizers.push(json!({ "type": "Precompiled", "precompiled_charsmap": table }));
        }
        if self.squeeze {
            normalizers.extend([replace(regex(r"\A +| +\z"), ""), replace(regex(" {2,}"), " ")]);
        }
        normalizers.push(replace(text(" "), "▁"));
        let mut splits = Vec::new();
        let mut decoders = vec![replace(text("▁"), " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
        if self.space {
            if !self.first_alone {
                // A space is put before one that is there, too, which the next part would not do.
                normalizers.push(replace(regex(r"\A▁"), "▁▁"));
            }
            let scheme = if self.first_alone { "first" } else { "always" };
            splits.push(json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false }));
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        if !self.isolated.is_empty() {
            let mut isolated = self.isolated.clone();
            isolated.sort_by_key(|t| std::cmp::Reverse(t.chars().count()));
            let pattern = isolated.iter().map(|t| escaped(t)).collect::<Vec<_>>().join("|");
            splits
                .push(json!({ "type": "Split", "pattern": regex(&pattern), "behavior": "Isolated", "invert": false }));
        }
        Parts {
            normalizer: json!({ "type": "Sequence", "normalizers": normalizers }),
            pre_tokenizer: match splits.is_empty() {
                true => Value::Null,
                false => json!({ "type": "Sequence", "pretokenizers": splits }),
            },
            decoder: json!({ "type": "Sequence", "decoders": decoders }),
            model: self.model(),
        }
    }

    fn model(&self) -> Value {
        if self.unigram {
            let pieces: Vec<(&str, f64)> = self.texts.iter().copied().zip(self.scores.iter().copied()).collect();
            let byte_fallback = self.byte_fallback;
            return json!({ "type": "Unigram", "unk_id": self.unknown, "vocab": pieces, "byte_fallback": byte_fallback });
        }
        json!({
            "type": "BPE", "dropout": null, "unk_token": self.texts.get(self.unknown), "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": self.byte_fallback,
            "ignore_merges": !self.isolated.is_empty(), "vocab": vocabulary(&self.texts),
            "merges": merges(&self.texts, &self.scores, &self.merged),
        })
    }
}

/// A text as a pattern that matches it alone.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        // Others mean something behind a backslash, such as the beginning of a word.
        if "\\^$.|?*+()[]{}".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Tokens with their numbers.
pub(super) fn vocabulary(tokens: &[&str]) -> Value {
    // Of equal tokens the first counts: padding at the end of some vocabularies has no texts of its own.
    let mut out = Map::new();
    for (id, text) in tokens.iter().enumerate() {
        out.entry(*text).or_insert_with(|| json!(id));
    }
    Value::Object(out)
}

/// Bytes of a token that is merged of others: real ones have some tens.
const LONGEST: usize = 1 << 10;

/// The pairs that make up each token of more than one character, those of the best token first.
pub(super) fn merges<'t>(tokens: &[&'t str], scores: &[f64], merged: &[bool]) -> Vec<(&'t str, &'t str)> {
    let takes_part = |id: usize, text: &str| merged.get(id).copied().unwrap_or(true) && text.len() <= LONGEST;
    let all = || tokens.iter().enumerate().filter(|(id, text)| takes_part(*id, text));
    let mut ids: HashMap<&str, usize> = HashMap::new();
    for (id, text) in all() {
        ids.entry(*text).or_insert(id);
    }
    let mut out: Vec<(f64, usize, usize, usize)> = Vec::new();
    for (id, text) in all() {
        let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let score = scores.get(id).copied().unwrap_or(0.0);
        out.extend(cuts.filter_map(|(a, b)| Some((score, *ids.get(a)?, *ids.get(b)?, id))));
    }
    // The order of transformers: by score, then by the lengths of both parts, then as they are numbered.
    let chars = |id: usize| tokens[id].chars().count();
    out.sort_by(|x, y| {
        let (a, b) = ((chars(x.1), chars(x.2)), (chars(y.1), chars(y.2)));
        y.0.total_cmp(&x.0).then(b.cmp(&a)).then((x.3, x.1, x.2).cmp(&(y.3, y.1, y.2)))
    });
    out.into_iter().map(|(_, a, b, _)| (tokens[a], tokens[b])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_merged_by_their_scores() {
        let tokens = ["<unk>", "▁", "a", "b", "ab", "▁a", "▁ab"];
        let scores = [0.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0];
        assert_eq!(merges(&tokens, &scores, &[]), [("▁", "a"), ("a", "b"), ("▁a", "b"), ("▁", "ab")]);
        let merged = [true, true, true, true, false, true, true];
        assert_eq!(merges(&tokens, &scores, &merged), [("▁", "a"), ("▁a", "b")]);
    }

    #[test]
    fn patterns_match_their_own_text_alone() {
        assert_eq!(escaped("a.b[▁]<c>"), r"a\.b\[▁\]<c>");
    }
}
