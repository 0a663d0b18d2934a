//! Which tokens begin and end a sequence, from the files beside the tokenizer.

use super::Encoding;
use crate::checkpoint::{Config, names};
use crate::error::Error;
use crate::files;
use serde_json::Value;
use std::path::Path;
use steer_lang::codes;

/// What `tokenizer_config.json`, `generation_config.json` and `config.json` say of special tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
    bos_text: Option<String>,
    eos_text: Option<String>,
    /// Whether transformers would put a beginning before every text, whatever `tokenizer.json` says.
    add_bos: Option<bool>,
    /// `bos_token` and the like with their texts, as chat templates name them.
    pub specials: Vec<(String, String)>,
}

impl Settings {
    /// `tokenizer` is `tokenizer_config.json`.
    pub fn read(folder: &Path, tokenizer: &Value) -> Result<Self, Error> {
        let generation = optional(folder, "generation_config.json")?;
        // An unreadable config.json is reported by whoever needs it.
        let config = Config::read(folder).map(|c| c.value).unwrap_or_default();
        let mut settings = Self::of(tokenizer, &generation, &config);
        // Old folders have the names of special tokens here alone.
        for (name, text) in specials(&optional(folder, "special_tokens_map.json")?) {
            if settings.specials.iter().all(|(known, _)| *known != name) {
                settings.specials.push((name, text));
            }
        }
        Ok(settings)
    }

    pub fn of(tokenizer: &Value, generation: &Value, config: &Value) -> Self {
        let class = tokenizer.get("tokenizer_class").and_then(Value::as_str).unwrap_or("");
        // Only these rebuild the post-processor from the setting; for others it says nothing.
        let rebuilds = names().bos_by_setting.iter().any(|c| class.starts_with(c.as_str()));
        let eos = [generation, config].into_iter().map(|v| ids(v.get("eos_token_id"))).find(|ids| !ids.is_empty());
        let bos = [generation, config].into_iter().find_map(|v| ids(v.get("bos_token_id")).first().copied());
        Settings {
            bos,
            eos: eos.unwrap_or_default(),
            bos_text: text(tokenizer.get("bos_token")),
            eos_text: text(tokenizer.get("eos_token")),
            add_bos: tokenizer.get("add_bos_token").and_then(Value::as_bool).filter(|_| rebuilds),
            specials: specials(tokenizer),
        }
    }

    /// Turns the tokens that are named by their text into ids, which count before those of the model:
    /// a tokenizer's own beginning, and one ending more.
    pub fn resolve(&mut self, id: impl Fn(&str) -> Option<u32>) {
        self.bos = self.bos_text.as_deref().and_then(&id).or(self.bos);
        if let Some(eos) = self.eos_text.as_deref().and_then(&id)
            && !self.eos.contains(&eos)
        {
            self.eos.push(eos);
        }
    }

    /// Adds or takes away the beginning where the setting and the post-processor differ.
    pub fn adjust_bos(&self, encoding: &mut Encoding) {
        let (Some(add), Some(bos)) = (self.add_bos, self.bos) else { return };
        let has = encoding.ids.first() == Some(&bos) && encoding.special.first() == Some(&true);
        if add && !has {
            encoding.ids.insert(0, bos);
            encoding.offsets.insert(0, 0..0);
            encoding.special.insert(0, true);
        } else if !add && has {
            encoding.ids.remove(0);
            encoding.offsets.remove(0);
            encoding.special.remove(0);
        }
    }
}

/// A JSON file that a folder may lack; `null` then.
pub(super) fn optional(folder: &Path, name: &str) -> Result<Value, Error> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&files::read(&path)?).map_err(|e| {
        Error::new(codes::BAD_TOKENIZER, format!("`{}` is not JSON: {e}", path.display()))
            .help("mend it there, or download it again")
    })
}

/// One id or a list of ids.
fn ids(value: Option<&Value>) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(one).collect(),
        Some(v) => one(v).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Names such as `bos_token` with their texts.
fn specials(value: &Value) -> Vec<(String, String)> {
    let entries = value.as_object().into_iter().flatten();
    entries.filter(|(k, _)| k.ends_with("_token")).filter_map(|(k, v)| Some((k.clone(), text(Some(v))?))).collect()
}

/// A token's text, alone or in an object of its properties.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endings_come_from_all_three_files() {
        let tokenizer = json!({ "bos_token": { "content": "<s>" }, "eos_token": "</s>", "add_bos_token": true, "tokenizer_class": "LlamaTokenizerFast" });
        let mut s = Settings::of(
            &tokenizer,
            &json!({ "eos_token_id": [7, 8] }),
            &json!({ "eos_token_id": 9, "bos_token_id": 3 }),
        );
        s.resolve(|t| (t == "</s>").then_some(2));
        assert_eq!(s.specials, [("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())]);
        assert_eq!((s.bos, &s.eos[..], s.add_bos), (Some(3), &[7, 8, 2][..], Some(true)));
        let mut e = Encoding { ids: vec![5, 6], offsets: vec![0..1, 1..2], special: vec![false; 2] };
        s.adjust_bos(&mut e);
        assert_eq!(
            e,
            Encoding { ids: vec![3, 5, 6], offsets: vec![0..0, 0..1, 1..2], special: vec![true, false, false] }
        );
        s.add_bos = Some(false);
        s.adjust_bos(&mut e);
        assert_eq!(e.ids, [5, 6]);
    }

    #[test]
    fn a_setting_that_transformers_ignores_is_ignored() {
        let s = Settings::of(
            &json!({ "add_bos_token": true, "tokenizer_class": "GPT2Tokenizer" }),
            &Value::Null,
            &Value::Null,
        );
        assert_eq!(s.add_bos, None);
    }
}
