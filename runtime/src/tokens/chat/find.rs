//! Which chat template a model's folder has.

use crate::error::Error;
use crate::files;
use serde_json::Value;
use std::path::{Path, PathBuf};
use steer_lang::codes;

/// Where templates are looked for, once one is needed.
#[derive(Clone, Debug, Default)]
pub struct ChatFiles {
    /// The model's folder or its GGUF file; `None` where there is none to look in.
    pub folder: Option<PathBuf>,
    /// `tokenizer_config.json`.
    pub config: Value,
}

/// The text of a template and the file that has it.
pub(super) struct Found {
    pub source: String,
    pub path: PathBuf,
}

impl ChatFiles {
    /// The template that transformers would use: a file of its own goes before an entry of `tokenizer_config.json`, and
    /// that before the older `chat_template.json`.
    pub(super) fn find(&self) -> Result<Option<Found>, Error> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if folder.is_file() {
            return Ok(entry(&self.config, folder)?.map(|source| Found { source, path: folder.clone() }));
        }
        let path = folder.join("chat_template.jinja");
        if path.exists() {
            return Ok(Some(Found { source: files::read_text(&path)?, path }));
        }
        let path = folder.join("tokenizer_config.json");
        if let Some(source) = entry(&self.config, &path)? {
            return Ok(Some(Found { source, path }));
        }
        let path = folder.join("chat_template.json");
        if !path.exists() {
            return Ok(None);
        }
        let json: Value = serde_json::from_slice(&files::read(&path)?).map_err(|e| {
            Error::new(codes::CHAT_TEMPLATE, format!("`{}` is not JSON: {e}", path.display()))
                .help("mend it there, or download it again")
        })?;
        Ok(entry(&json, &path)?.map(|source| Found { source, path }))
    }
}

/// `chat_template` of a JSON file: a text, or several with names, of which one is called `default`.
fn entry(json: &Value, path: &Path) -> Result<Option<String>, Error> {
    let bad =
        |what: String| Error::new(codes::CHAT_TEMPLATE, format!("`chat_template` in `{}` {what}", path.display()));
    let list = match json.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(source)) => return Ok(Some(source.clone())),
        Some(Value::Array(list)) => list,
        Some(_) => {
            return Err(bad("is neither a text nor a list of templates".into())
                .help("it is the source of a Jinja template, or a list of objects with `name` and `template`"));
        }
    };
    let part = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    let named: Vec<(String, String)> =
        list.iter().filter_map(|v| Some((part(v, "name")?, part(v, "template")?))).collect();
    match named.iter().find(|(name, _)| name == "default").or(if named.len() == 1 { named.first() } else { None }) {
        Some((_, source)) => Ok(Some(source.clone())),
        None => {
            let names = named.iter().map(|(n, _)| format!("`{n}`")).collect::<Vec<_>>().join(", ");
            let names = if names.is_empty() { "no template with a name".to_owned() } else { names };
            Err(bad(format!("has {names}, and none called `default`"))
                .help("save the one that is wanted as chat_template.jinja beside it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_of_several_is_the_default() {
        let entry = |v: Value| entry(&json!({ "chat_template": v }), Path::new("a")).map_err(|e| e.to_string());
        let tool = json!({ "name": "tool_use", "template": "t" });
        assert_eq!(entry(json!("x")), Ok(Some("x".into())));
        assert_eq!(entry(Value::Null), Ok(None));
        assert_eq!(entry(json!([tool, { "name": "default", "template": "d" }])), Ok(Some("d".into())));
        assert_eq!(entry(json!([tool])), Ok(Some("t".into())));
        let e = entry(json!([tool, { "name": "rag", "template": "r" }])).unwrap_err();
        assert!(e.contains("`tool_use`, `rag`, and none called `default`"), "{e}");
        assert!(entry(json!([])).is_err() && entry(json!({})).is_err());
    }
}
