//! Texts with slots such as `{name}`.

use super::positions::Fields;
use serde_json::Value as Json;

/// The text with what `value` gives in the place of each slot; a slot without a value stays as it is.
pub fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(close) = rest.find('}') {
        let open = rest[..close].rfind('{');
        match open.and_then(|open| Some((open, value(&rest[open + 1..close])?))) {
            Some((open, value)) => {
                out.push_str(&rest[..open]);
                out.push_str(&value);
            }
            None => out.push_str(&rest[..=close]),
        }
        rest = &rest[close + 1..];
    }
    out + rest
}

/// A field of an example as a text.
pub fn field(fields: &Fields, name: &str) -> Option<String> {
    Some(match fields.get(name)? {
        Json::String(s) => s.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn slots_without_a_value_stay() {
        let value = |name: &str| (name == "a").then(|| "x{a}".to_owned());
        assert_eq!(fill("{a} {b} {{a} {a", value), "x{a} {b} {x{a} {a");
    }
}
