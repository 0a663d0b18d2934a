//! `config.json`: its text, for places and the hash, and its value.

use super::names::{Unnamed, names};
use crate::error::Error;
use crate::files;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use steer_lang::codes;

/// The configuration of a model.
#[derive(Clone, Debug)]
pub struct Config {
    pub path: PathBuf,
    /// As it stands in the file.
    pub text: Arc<str>,
    /// Always an object.
    pub value: Value,
}

impl Config {
    /// Reads `config.json` of a folder.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("config.json");
        if !path.exists() {
            let message = format!("`{}` has no config.json, so it is not a Hugging Face folder", folder.display());
            return Err(
                Error::new(codes::NO_MODEL, message).help("name the folder that holds config.json and the weights")
            );
        }
        let bytes = files::read(&path)?;
        Self::parse(&path, bytes)
    }

    /// The configuration that `bytes` hold; `path` is named in errors.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let bad = |what: String| Error::new(codes::BAD_CONFIG, format!("`{}` {what}", path.display()));
        let text = String::from_utf8(bytes).map_err(|e| {
            bad(format!("is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
                .help("download it again, or save it as UTF-8")
        })?;
        let mut value: Value = serde_json::from_str(&without_infinities(&text))
            .map_err(|e| bad(format!("is not JSON: {e}")).help("mend it there, or download it again"))?;
        unwrap_floats(&mut value);
        if !value.is_object() {
            return Err(bad("is JSON but not an object, as a configuration is".into()).help("download it again"));
        }
        name_architecture(&mut value);
        Ok(Config { path: path.to_path_buf(), text: text.into(), value })
    }

    /// The architectures that it names, the first one first.
    pub fn architectures(&self) -> Vec<&str> {
        let list = self.value.get("architectures").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// Writes down the architecture where the configuration leaves it out and its keys say it.
fn name_architecture(value: &mut Value) {
    if value.get("architectures").is_some_and(|a| !a.is_null()) {
        return;
    }
    let fits = |u: &&Unnamed| {
        let values = u.values.iter().all(|(path, want)| value.pointer(path) == Some(want));
        values && u.keys.iter().all(|k| value.get(k).is_some())
    };
    if let Some(found) = names().unnamed.iter().find(fits) {
        value["architectures"] = json!([found.arch]);
    }
}

/// Python writes `Infinity` and `NaN`, which JSON does not have, and Mamba's configurations hold some:
/// outside of strings they become texts, which nothing takes for a number. Lines stay where they are.
fn without_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|w| !inside && rest.starts_with(w));
        let taken = match (word, c) {
            (Some(word), _) => {
                out.push('"');
                out.push_str(word);
                out.push('"');
                word.len()
            }
            (None, '\\') if inside => {
                let escaped = c.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..escaped]);
                escaped
            }
            _ => {
                inside ^= c == '"';
                out.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// Version 5 of transformers writes `{"__float__": "Infinity"}`: the text alone.
fn unwrap_floats(value: &mut Value) {
    match value {
        Value::Object(o) if o.len() == 1 && o.contains_key("__float__") => *value = o["__float__"].take(),
        Value::Object(o) => o.values_mut().for_each(unwrap_floats),
        Value::Array(a) => a.iter_mut().for_each(unwrap_floats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("config.json"), text.into()).map_err(|e| e.to_string())
    }

    #[test]
    fn pythons_infinities_are_texts() {
        let c =
            parse(r#"{"a": [0.0, Infinity, -Infinity, NaN], "b": "NaN \" Infinity", "architectures": ["X"]}"#).unwrap();
        assert_eq!(c.value["a"], serde_json::json!([0.0, "Infinity", "-Infinity", "NaN"]));
        assert_eq!(c.value["b"], "NaN \" Infinity");
        assert_eq!(c.architectures(), ["X"]);
        let c = parse(r#"{"a": [0.5, {"__float__": "Infinity"}], "b": {"c": {"__float__": "NaN"}}}"#).unwrap();
        assert_eq!(c.value, serde_json::json!({"a": [0.5, "Infinity"], "b": {"c": "NaN"}}));
    }

    #[test]
    fn what_is_no_configuration_is_said_with_its_place() {
        let e = parse("{\n  \"a\": 1,\n  \"b\" 2\n}").unwrap_err();
        assert_eq!(e, "`config.json` is not JSON: expected `:` at line 3 column 7 [E0502]");
        assert!(parse("[1]").unwrap_err().contains("not an object"));
        assert!(parse("").unwrap_err().contains("EOF while parsing"));
        assert!(Config::parse(Path::new("c"), vec![0xff]).unwrap_err().to_string().contains("not UTF-8 at byte 0"));
    }
}
