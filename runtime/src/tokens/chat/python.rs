//! What chat templates expect of their engine: Jinja2 with the settings, filters and functions of transformers.

use super::date;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// What `raise_exception` was called with.
#[derive(Debug)]
pub struct Raised(pub String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment without templates. `now`: seconds since 1970.
pub fn environment(now: u64) -> Environment<'static> {
    let mut env = Environment::new();
    // The same as the default where it cannot be built.
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        env.set_syntax(syntax);
    }
    env.set_unknown_method_callback(method);
    env.set_formatter(|out, state, value| match value.kind() {
        // As Python spells them.
        ValueKind::None => out.write_str("None").map_err(|_| ErrorKind::WriteFailure.into()),
        ValueKind::Bool => {
            let word = if value.is_true() { "True" } else { "False" };
            out.write_str(word).map_err(|_| ErrorKind::WriteFailure.into())
        }
        _ => escape_formatter(out, state, value),
    });
    env.remove_global("debug");
    env.add_filter("tojson", to_json);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
    });
    env.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        date::format(now, &format).map_err(|what| Error::new(ErrorKind::InvalidOperation, what))
    });
    env
}

/// Methods of Python's texts, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (Some(text), [first, ..]) = (value.as_str(), args) else {
        return unknown_method_callback(state, value, name, args);
    };
    let Some(part) = first.as_str() else { return unknown_method_callback(state, value, name, args) };
    let list = |parts: &[&str]| parts.iter().map(|p| Value::from(*p)).collect::<Value>();
    Ok(match (name, args) {
        ("removeprefix", [_]) => Value::from(text.strip_prefix(part).unwrap_or(text)),
        ("removesuffix", [_]) => Value::from(text.strip_suffix(part).unwrap_or(text)),
        ("partition", [_]) if !part.is_empty() => match text.split_once(part) {
            Some((a, b)) => list(&[a, part, b]),
            None => list(&[text, "", ""]),
        },
        ("rpartition", [_]) if !part.is_empty() => match text.rsplit_once(part) {
            Some((a, b)) => list(&[a, part, b]),
            None => list(&["", "", text]),
        },
        ("rsplit", [_, most @ ..]) if !part.is_empty() && most.len() < 2 => {
            let most = most.first().map_or(Some(-1), Value::as_i64);
            let Some(most) = most else { return Err(ErrorKind::InvalidOperation.into()) };
            let mut parts: Vec<&str> = match usize::try_from(most) {
                Ok(n) => text.rsplitn(n.saturating_add(1), part).collect(),
                Err(_) => text.rsplit(part).collect(),
            };
            parts.reverse();
            list(&parts)
        }
        _ => return unknown_method_callback(state, value, name, args),
    })
}

/// `json.dumps` with its spaces after commas and colons, and letters as they are.
fn to_json(state: &State, value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(Error::new(ErrorKind::InvalidOperation, "`tojson` writes letters as they are"));
    }
    options.assert_all_used()?;
    let indent = indent.map(|n| " ".repeat(n.min(16)));
    let mut out = Vec::new();
    let done = match &indent {
        Some(spaces) => write_json(&value, &mut out, PrettyFormatter::with_indent(spaces.as_bytes())),
        None => write_json(&value, &mut out, Spaced),
    };
    done.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    state.consume_fuel(out.len() as u64)?;
    String::from_utf8(out).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

fn write_json(value: &Value, out: &mut Vec<u8>, format: impl Formatter) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, format))
}

/// Python's spaces.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// `{% generation %}` marks the assistant's words for training and writes nothing itself.
pub fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open + 2);
        out.push_str(before);
        rest = tag;
        let inside = tag.split("%}").next().unwrap_or("");
        let bare = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let with = match bare.trim() {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&inside.replacen(bare.trim(), with, 1));
        rest = &tag[inside.len()..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> String {
        let env = environment(1_700_000_000);
        let list = Value::from_pairs([("b", Value::from(vec![1, 2])), ("a", Value::from("<é>\n"))]);
        env.render_str(source, Value::from_pairs([("x", list), ("t", Value::from("a/b/c"))])).unwrap()
    }

    #[test]
    fn json_is_pythons() {
        assert_eq!(render("{{ x | tojson }}"), r#"{"b": [1, 2], "a": "<é>\n"}"#);
        assert_eq!(render("{{ [1] | tojson(indent=2) }}"), "[\n  1\n]");
        assert_eq!(render("{{ none }} {{ true }} {{ not true }} {{ nothing }}"), "None True False ");
    }

    #[test]
    fn methods_are_pythons() {
        assert_eq!(render("{{ t.rsplit('/', 1) | tojson }} {{ t.rsplit('/') | length }}"), r#"["a/b", "c"] 3"#);
        assert_eq!(render("{{ t.partition('/') | tojson }}"), r#"["a", "/", "b/c"]"#);
        assert_eq!(render("{{ t.rpartition('-') | tojson }}"), r#"["", "", "a/b/c"]"#);
        assert_eq!(render("{{ t.removeprefix('a/').removesuffix('/c') }}"), "b");
        assert_eq!(render("{{ t.split('/')[-1].upper() }} {{ ' a '.strip() }} {{ x.get('y', 'z') }}"), "C a z");
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}"), "14 Nov 2023");
    }

    #[test]
    fn blocks_leave_no_lines() {
        assert_eq!(
            render("{% if true %}\n  {% for i in [1, 2] %}\n{{ i }}\n  {% endfor %}\n{% endif %}\nx\n"),
            "1\n2\nx"
        );
    }

    #[test]
    fn generation_tags_go() {
        let tagged = "a {%- generation -%} {{ t }} {%- endgeneration %} c";
        assert_eq!(render(&without_generation_tags(tagged)), "aa/b/c c");
        assert_eq!(
            without_generation_tags("{% set generation = 1 %}{%+ generation %}"),
            "{% set generation = 1 %}{%+ if true %}"
        );
        assert_eq!(without_generation_tags("{% generation"), "{% if true");
        assert_eq!(without_generation_tags("é{%é"), "é{%é");
    }
}
