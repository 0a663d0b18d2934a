//! The configuration that a GGUF file stands for.

use super::family::{self, Family};
use crate::error::Error;
use crate::tensors::gguf::{Gguf, Numbers, Value as Meta};
use serde_json::{Map, Value, json};
use std::path::Path;
use steer_lang::codes;

/// More entries than any scaling of rotary frequencies has.
const LIST: usize = 1 << 16;

/// `config.json` as it would stand beside the weights.
pub fn config(gguf: &Gguf, bytes: &[u8], family: &Family, name: &str, path: &Path) -> Result<Value, Error> {
    let meta = |key: &str| gguf.get(&format!("{name}.{key}"));
    let count = |key: &str| meta(key).and_then(number).and_then(|n| n.as_u64());
    let with = family.with.iter().find(|(key, _)| count(key).is_some_and(|n| n > 0));
    let mut out = Map::new();
    out.insert("architectures".into(), json!([with.map_or(&family.arch, |(_, arch)| arch)]));
    for (key, from) in &family.config {
        match meta(from) {
            Some(Meta::Numbers(_)) if family.layers.values().any(|f| f == from) => {}
            Some(Meta::Text(text)) if *text != "none" => put(&mut out, key, json!(text)),
            Some(Meta::Text(_)) | None => {}
            Some(value) => put(&mut out, key, number(value).unwrap_or(Value::Null)),
        }
    }
    for (key, from) in &family.layers {
        if let Some(Meta::Numbers(each)) = meta(from) {
            put(&mut out, key, layer_types(each, count("block_count"), &format!("{name}.{from}"), path)?);
        }
    }
    for (key, [over, under]) in &family.ratios {
        let product = |keys: &[String]| keys.iter().try_fold(1.0, |n, key| Some(n * meta(key)?.as_f64()?));
        if let (Some(over), Some(under)) = (product(over), product(under)) {
            put(&mut out, key, json!(over / under));
        }
    }
    for (key, value) in &family.given {
        put(&mut out, key, value.clone());
    }
    for (key, tensor) in &family.present {
        put(&mut out, key, json!(gguf.tensor(tensor).is_some()));
    }
    for (key, tensor) in &family.absent {
        put(&mut out, key, json!(gguf.tensor(tensor).is_none()));
    }
    for (tensor, list) in &family.lists {
        if let Some(values) = numbers(gguf, bytes, tensor, path)? {
            put(&mut out, &list.into, json!(values));
            list.given.iter().for_each(|(key, value)| put(&mut out, key, value.clone()));
        }
    }
    for case in family.cases.iter().flatten() {
        if case.of.iter().all(|(key, n)| count(key) == Some(*n as u64)) {
            case.given.iter().for_each(|(key, value)| put(&mut out, key, value.clone()));
        }
    }
    // A number without a kind of scaling is what the file says of one that it does not use.
    let scales =
        out.get("rope_scaling").is_none_or(|s| ["rope_type", "attention_times"].iter().any(|k| s.get(k).is_some()));
    if !scales {
        out.remove("rope_scaling");
    }
    if let Some(t) = gguf.tensor("token_embd.weight") {
        out.insert("vocab_size".into(), json!(t.shape.first()));
    }
    Ok(Value::Object(out))
}

/// Metadata of the model that nothing here reads, and that does more than to describe it.
pub fn unread(gguf: &Gguf, family: &Family, name: &str) -> Vec<String> {
    let count = |key: &str| gguf.get(&format!("{name}.{key}")).and_then(Meta::as_usize);
    let head = count("attention.key_length")
        .or_else(|| Some(count("embedding_length")? / count("attention.head_count").filter(|n| *n > 0)?));
    let harmless = |key: &str, value: &Meta| {
        family::describes(key)
            || (key == "rope.dimension_count" && value.as_usize() == head)
            || value.as_f64() == Some(0.0)
    };
    let reads = |key: &str| {
        let ratios = family.ratios.values().flatten().flatten();
        let cases = family.cases.iter().flatten().flat_map(|c| c.of.keys());
        family.config.values().chain(family.with.keys()).chain(ratios).chain(cases).any(|k| k == key)
    };
    let own = gguf.metadata.iter().filter_map(|(key, value)| Some((key.strip_prefix(name)?.strip_prefix('.')?, value)));
    own.filter(|(key, value)| !reads(key) && !harmless(key, value)).map(|(key, _)| format!("{name}.{key}")).collect()
}

/// For each layer whether it has a window, as configurations say it.
fn layer_types(each: &Numbers, layers: Option<u64>, key: &str, path: &Path) -> Result<Value, Error> {
    if layers != Some(each.len() as u64) {
        let message = format!("`{key}` of `{}` is not of as many layers as the model has", path.display());
        let help = format!("it is of {}; write or download the file again", each.len());
        return Err(Error::new(codes::BAD_CONFIG, message).help(help));
    }
    let slides = |v: Meta| v.as_bool().unwrap_or_else(|| v.as_integer().is_some_and(|n| n != 0));
    Ok(each.iter().map(|v| if slides(v) { "sliding_attention" } else { "full_attention" }).collect())
}

/// Sets `a.b` in an object; an object on the way begins empty.
fn put(out: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(out.insert(key.into(), value)),
        Some((first, rest)) => {
            if let Value::Object(inner) = out.entry(first).or_insert_with(|| json!({})) {
                put(inner, rest, value);
            }
        }
    }
}

/// A number as JSON: as short as the file's own precision allows. An array of equal numbers, one a layer, is one.
fn number(value: &Meta) -> Option<Value> {
    match value {
        Meta::F32(x) => x.to_string().parse::<f64>().ok().map(|x| json!(x)),
        Meta::F64(x) => Some(json!(x)),
        Meta::Bool(b) => Some(json!(b)),
        Meta::Numbers(numbers) => {
            let all = each(numbers)?;
            let first = all.first()?.clone();
            Some(if all.iter().all(|v| *v == first) { first } else { Value::Array(all) })
        }
        _ => value.as_integer().and_then(|n| i64::try_from(n).ok()).map(|n| json!(n)),
    }
}

fn each(numbers: &Numbers) -> Option<Vec<Value>> {
    if numbers.len() > LIST {
        return None;
    }
    numbers.iter().map(|v| number(&v)).collect()
}

/// The elements of a small tensor, if there is one.
fn numbers(gguf: &Gguf, bytes: &[u8], name: &str, path: &Path) -> Result<Option<Vec<f32>>, Error> {
    let Some(t) = gguf.tensor(name) else { return Ok(None) };
    let bad = |what: &str| {
        let message = format!("tensor `{name}` of `{}` {what}", path.display());
        Error::new(codes::BAD_WEIGHTS, message).help("write or download the file again")
    };
    if t.shape.iter().product::<usize>() > LIST {
        return Err(bad("is no list of numbers"));
    }
    let values = t.info().read(bytes)?.ok_or_else(|| bad("is no list of numbers"))?;
    if values.iter().any(|x| !x.is_finite() || *x <= 0.0) {
        return Err(bad("holds what is no positive number"));
    }
    Ok(Some(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::gguf::Kind;

    #[test]
    fn windows_of_layers_are_a_rule_or_a_list() {
        let of = |pattern: Meta<'static>| {
            let mut metadata = vec![("gemma3.block_count", Meta::U32(3))];
            metadata.push(("gemma3.attention.sliding_window_pattern", pattern));
            let gguf = Gguf { version: 3, metadata, tensors: Vec::new(), data_start: 0 };
            let family = family::family("gemma3").unwrap();
            assert!(unread(&gguf, &family, "gemma3").is_empty());
            config(&gguf, &[], &family, "gemma3", Path::new("a.gguf"))
        };
        let rule = of(Meta::U32(2)).unwrap();
        assert_eq!((&rule["sliding_window_pattern"], rule.get("layer_types")), (&json!(2), None));
        let flags = |bytes: &'static [u8]| Meta::Numbers(Numbers { kind: Kind::Bool, bytes });
        let list = of(flags(&[1, 0, 1])).unwrap();
        let kinds = ["sliding_attention", "full_attention", "sliding_attention"];
        assert_eq!((&list["layer_types"], list.get("sliding_window_pattern")), (&json!(kinds), None));
        assert_eq!(of(flags(&[1, 1, 1])).unwrap()["layer_types"][2], json!("sliding_attention"));
        let e = of(flags(&[1, 0])).unwrap_err();
        assert!(e.0.code == codes::BAD_CONFIG && e.0.message.contains("as many layers as the model has"), "{e}");
    }

    #[test]
    fn a_factor_of_cosines_is_read_with_and_without_a_kind_of_scaling() {
        let of = |metadata: Vec<(&'static str, Meta<'static>)>| {
            let gguf = Gguf { version: 3, metadata, tensors: Vec::new(), data_start: 0 };
            let family = family::family("llama").unwrap();
            config(&gguf, &[], &family, "llama", Path::new("a.gguf")).unwrap()
        };
        let factor = ("llama.rope.scaling.attn_factor", Meta::F32(0.5));
        assert_eq!(of(vec![factor.clone()])["rope_scaling"]["attention_times"], json!(0.5));
        let yarn = of(vec![("llama.rope.scaling.type", Meta::Text("yarn")), factor]);
        assert_eq!(yarn["rope_scaling"], json!({ "rope_type": "yarn", "attention_times": 0.5 }));
        let unused = of(vec![("llama.rope.scaling.factor", Meta::F32(4.0))]);
        assert_eq!(unused.get("rope_scaling"), None);
    }
}
