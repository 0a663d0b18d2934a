//! The tokenizer of a GGUF file, as the `tokenizer.json` that it was made of.

use crate::checkpoint::pre;
use crate::error::Error;
use crate::files;
use crate::tensors::gguf::{Gguf, Value as Meta};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use steer_lang::codes;

/// Kinds of tokens, as the file numbers them.
const UNKNOWN: i128 = 2;
const CONTROL: i128 = 3;
const USER: i128 = 4;

/// What a file says of texts: a `tokenizer.json` and a `tokenizer_config.json`, and a `config.json` with the numbers of
/// tokens that begin and end.
pub(super) struct Written {
    pub tokenizer: Value,
    pub settings: Value,
    pub ids: Value,
}

/// Reads the vocabulary of a model's file; nothing, where it has none.
pub(super) fn read(path: &Path) -> Result<Option<Written>, Error> {
    let map = files::map(path)?;
    let gguf = Gguf::parse(map.as_deref().unwrap_or(&[])).map_err(|e| e.about(path))?;
    let vocabulary = Vocabulary { gguf: &gguf, path };
    let Some(kind) = vocabulary.text("model") else { return Ok(None) };
    let tokens = vocabulary.tokens()?;
    let tokenizer = match kind {
        "gpt2" => vocabulary.bytes(tokens)?,
        "llama" => vocabulary.pieces(tokens)?,
        "no_vocab" | "none" => return Ok(None),
        other => return Err(vocabulary.bad(&format!("is of the kind `{other}`; known are gpt2 and llama"))),
    };
    let name = |key: &str| tokens.get(vocabulary.id(key)?).copied();
    let mut settings = Map::new();
    for key in ["bos", "eos", "unk", "pad"] {
        let of_file = if key == "unk" { "unknown" } else { key };
        settings.extend(name(of_file).map(|text| (format!("{key}_token"), json!(text))));
    }
    settings.extend(vocabulary.templates());
    let ends: Vec<usize> = ["eos", "eot", "eom"].iter().filter_map(|k| vocabulary.id(k)).collect();
    let ids = json!({ "bos_token_id": vocabulary.id("bos"), "eos_token_id": ends });
    Ok(Some(Written { tokenizer, settings: Value::Object(settings), ids }))
}

struct Vocabulary<'a> {
    gguf: &'a Gguf<'a>,
    path: &'a Path,
}

impl<'a> Vocabulary<'a> {
    fn get(&self, key: &str) -> Option<&Meta<'a>> {
        self.gguf.get(&format!("tokenizer.ggml.{key}"))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_text()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The number of a token with a meaning.
    fn id(&self, key: &str) -> Option<usize> {
        self.get(&format!("{key}_token_id"))?.as_usize()
    }

    fn bad(&self, what: &str) -> Error {
        let message = format!("the vocabulary of `{}` {what}", self.path.display());
        Error::new(codes::BAD_TOKENIZER, message).help("use the model's Hugging Face folder, or convert the file again")
    }

    fn tokens(&self) -> Result<&[&'a str], Error> {
        self.get("tokens").and_then(Meta::as_texts).ok_or_else(|| self.bad("has no tokens"))
    }

    /// Of GPT-2's kind: merges of bytes.
    fn bytes(&self, tokens: &[&str]) -> Result<Value, Error> {
        // Which words merges are made in is nothing to guess: tokens would differ, and nothing would say so.
        let name = self.text("pre").ok_or_else(|| self.bad("does not say how it splits texts"))?;
        let pre = pre(name).ok_or_else(|| self.bad(&format!("splits texts as `{name}`, which is not known")))?;
        let merges = self.get("merges").and_then(Meta::as_texts).ok_or_else(|| self.bad("has no merges"))?;
        let merges: Option<Vec<(&str, &str)>> = merges.iter().map(|m| m.split_once(' ')).collect();
        let merges = merges.ok_or_else(|| self.bad("has a merge that is no pair"))?;
        let level = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
        let isolated = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
        let splits = match &pre.split {
            Some(regex) => vec![isolated(regex), level(false)],
            None if pre.digits => vec![json!({ "type": "Digits", "individual_digits": true }), level(true)],
            None => vec![level(true)],
        };
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignore_merges,
            "vocab": vocabulary(tokens), "merges": merges,
        });
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": self.added(tokens),
            "normalizer": pre.normalizer.as_ref().map(|n| json!({ "type": n })),
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": splits },
            "post_processor": self.frame(tokens, self.flag("add_bos_token").unwrap_or(pre.add_bos)),
            "decoder": level(true),
            "model": model,
        }))
    }

    /// Of SentencePiece's kind: pieces with scores, of which the best neighbours are merged first.
    fn pieces(&self, tokens: &[&str]) -> Result<Value, Error> {
        let scores = match self.get("scores") {
            Some(Meta::Numbers(n)) if n.len() == tokens.len() => n.iter().map(|v| v.as_f64().unwrap_or(0.0)).collect(),
            _ => return Err(self.bad("has no score for each token")),
        };
        let unknown = self.id("unknown").and_then(|id| tokens.get(id)).or(tokens.first());
        let space = self.flag("add_space_prefix").unwrap_or(true);
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(tokens), "merges": merges(tokens, scores),
        });
        let replace = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
        let mut normalizers = vec![replace(" ", "▁")];
        let mut decoders = vec![replace("▁", " "), json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" })];
        if space {
            normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        Ok(json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": self.added(tokens),
            "normalizer": { "type": "Sequence", "normalizers": normalizers },
            "pre_tokenizer": null,
            "post_processor": self.frame(tokens, self.flag("add_bos_token").unwrap_or(true)),
            "decoder": { "type": "Sequence", "decoders": decoders },
            "model": model,
        }))
    }

    /// Tokens that are found in texts before all others.
    fn added(&self, tokens: &[&str]) -> Vec<Value> {
        let Some(Meta::Numbers(kinds)) = self.get("token_type") else { return Vec::new() };
        let kinds = kinds.iter().map(|k| k.as_integer().unwrap_or(0));
        let of = |(id, (text, kind)): (usize, (&&str, i128))| {
            let special = kind == CONTROL || kind == UNKNOWN;
            (special || kind == USER).then(|| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                    "special": special,
                })
            })
        };
        tokens.iter().zip(kinds).enumerate().filter_map(of).collect()
    }

    /// What stands before and behind every text.
    fn frame(&self, tokens: &[&str], begins: bool) -> Value {
        let ends = self.flag("add_eos_token").unwrap_or(false);
        let token = |key: &str, there: bool| Some((*tokens.get(self.id(key).filter(|_| there)?)?, self.id(key)?));
        let (bos, eos) = (token("bos", begins), token("eos", ends));
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let special =
            |t: Option<(&str, usize)>| t.map(|(text, _)| json!({ "SpecialToken": { "id": text, "type_id": 0 } }));
        let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        let single: Vec<Value> = special(bos).into_iter().chain([sequence("A")]).chain(special(eos)).collect();
        let pair: Vec<Value> = single.iter().cloned().chain([sequence("B")]).collect();
        let mut specials = Map::new();
        for (text, id) in bos.into_iter().chain(eos) {
            specials.insert(text.into(), json!({ "id": text, "ids": [id], "tokens": [text] }));
        }
        json!({ "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": specials })
    }

    /// The chat template, or those that have names, as `tokenizer_config.json` has them.
    fn templates(&self) -> Option<(String, Value)> {
        let own = self.gguf.get("tokenizer.chat_template").and_then(Meta::as_text)?;
        Some(("chat_template".into(), json!(own)))
    }
}

fn vocabulary(tokens: &[&str]) -> Value {
    // Of equal tokens the first counts: padding at the end of some vocabularies has no texts of its own.
    let mut out = Map::new();
    for (id, text) in tokens.iter().enumerate() {
        out.entry(*text).or_insert_with(|| json!(id));
    }
    Value::Object(out)
}

/// The pairs that make up each token of more than one character, those of the best token first.
fn merges<'t>(tokens: &[&'t str], scores: Vec<f64>) -> Vec<(&'t str, &'t str)> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().rev().map(|(id, text)| (*text, id)).collect();
    let mut out: Vec<(f64, usize, usize, usize)> = Vec::new();
    for (id, text) in tokens.iter().enumerate() {
        let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        out.extend(cuts.filter_map(|(a, b)| Some((scores[id], *ids.get(a)?, *ids.get(b)?, id))));
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
    use crate::checkpoint::pres;
    use crate::tokens::{Settings, Tokens};

    /// A vocabulary with the 256 characters of bytes.
    #[test]
    fn every_way_to_split_texts_is_sound() {
        let tokens: Vec<String> = (0..=255).map(|b| crate::tokens::pieces::byte_to_char(b).to_string()).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        for name in pres() {
            let metadata = vec![
                ("tokenizer.ggml.pre", Meta::Text(name)),
                ("tokenizer.ggml.merges", Meta::Texts(Vec::new())),
                ("tokenizer.ggml.tokens", Meta::Texts(tokens.clone())),
            ];
            let gguf = Gguf { version: 3, metadata, tensors: Vec::new(), data_start: 0 };
            let vocabulary = Vocabulary { gguf: &gguf, path: Path::new("a.gguf") };
            let tokenizer = vocabulary.bytes(&tokens).unwrap().to_string();
            let own = Tokens::with_settings(Path::new("a.gguf"), tokenizer.as_bytes(), Settings::default()).unwrap();
            let text = "It's 1234 Words,\n  naïveÉté don't!";
            let encoded = own.encode(text, true).unwrap();
            let ids: Vec<u32> = text.bytes().map(u32::from).collect();
            assert_eq!(encoded.ids, ids, "{name}");
            assert_eq!(own.decode(&encoded.ids).unwrap(), text, "{name}");
        }
    }

    #[test]
    fn pieces_are_merged_by_their_scores() {
        let tokens = ["<unk>", "▁", "a", "b", "ab", "▁a", "▁ab"];
        let found = merges(&tokens, vec![0.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0]);
        assert_eq!(found, [("▁", "a"), ("a", "b"), ("▁a", "b"), ("▁", "ab")]);
    }
}
