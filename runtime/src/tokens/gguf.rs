//! The tokenizer of a GGUF file, as the `tokenizer.json` that it was made of.

use super::form::{self, Added, Pieces};
use super::sentencepiece::{CONTROL, UNKNOWN, USER};
use crate::checkpoint::pre;
use crate::error::Error;
use crate::files;
use crate::tensors::gguf::{Gguf, Value as Meta};
use serde_json::{Map, Value, json};
use std::path::Path;
use steer_lang::codes;

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
        let parts = form::bytes(form::vocabulary(tokens), &merges, pre, false);
        Ok(parts.file(&self.added(tokens), self.frame(tokens, self.flag("add_bos_token").unwrap_or(pre.add_bos))))
    }

    /// Of SentencePiece's kind: pieces with scores, of which the best neighbours are merged first.
    fn pieces(&self, tokens: &[&str]) -> Result<Value, Error> {
        let scores = match self.get("scores") {
            Some(Meta::Numbers(n)) if n.len() == tokens.len() => n.iter().map(|v| v.as_f64().unwrap_or(0.0)).collect(),
            _ => return Err(self.bad("has no score for each token")),
        };
        let pieces = Pieces {
            texts: tokens.to_vec(),
            scores,
            unknown: self.id("unknown").filter(|id| *id < tokens.len()).unwrap_or(0),
            byte_fallback: true,
            space: self.flag("add_space_prefix").unwrap_or(true),
            ..Pieces::default()
        };
        let frame = self.frame(tokens, self.flag("add_bos_token").unwrap_or(true));
        Ok(pieces.parts().file(&self.added(tokens), frame))
    }

    /// Tokens that are found in texts before all others.
    fn added(&self, tokens: &[&str]) -> Vec<Added> {
        let Some(Meta::Numbers(kinds)) = self.get("token_type") else { return Vec::new() };
        let kinds = kinds.iter().map(|k| k.as_integer().and_then(|k| u64::try_from(k).ok()).unwrap_or(0));
        let of = |(id, (text, kind)): (usize, (&&str, u64))| {
            let special = kind == CONTROL || kind == UNKNOWN;
            (special || kind == USER).then(|| Added::plain(id, text, special))
        };
        tokens.iter().zip(kinds).enumerate().filter_map(of).collect()
    }

    /// What stands before and behind every text.
    fn frame(&self, tokens: &[&str], begins: bool) -> Value {
        let ends = self.flag("add_eos_token").unwrap_or(false);
        let token = |key: &str, there: bool| Some((*tokens.get(self.id(key).filter(|_| there)?)?, self.id(key)?));
        form::frame(token("bos", begins), token("eos", ends))
    }

    /// The chat template, or those that have names, as `tokenizer_config.json` has them.
    fn templates(&self) -> Option<(String, Value)> {
        let own = self.gguf.get("tokenizer.chat_template").and_then(Meta::as_text)?;
        Some(("chat_template".into(), json!(own)))
    }
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
}
