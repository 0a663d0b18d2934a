//! Reading one tensor of a safetensors file by name, and writing a file of many.

use super::{Array, Header, Info};
use crate::error::Error;
use crate::files;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use steer_lang::codes;
use steer_lang::diagnostic::nearest;

/// A tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub data: &'a [f32],
}

/// A tensor to write, whose data lies in several places.
pub struct Parts<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    /// One after the other.
    pub data: Vec<&'a [f32]>,
}

/// What a file holds, without reading its data.
pub fn list_safetensors(path: &Path) -> Result<Header, Error> {
    let map = files::map(path)?;
    Header::parse(map.as_deref().unwrap_or(&[]), path)
}

/// One tensor as f32. Without a `key`, the only one.
pub fn read_safetensors(path: &Path, key: Option<&str>) -> Result<Array, Error> {
    let map = files::map(path)?;
    let bytes = map.as_deref().unwrap_or(&[]);
    read_from(bytes, &Header::parse(bytes, path)?, path, key)
}

/// One tensor of a file with this header.
pub(super) fn read_from(bytes: &[u8], header: &Header, path: &Path, key: Option<&str>) -> Result<Array, Error> {
    let tensors: Vec<(&str, &Info)> = header.tensors.iter().map(|(n, i)| (n.as_str(), i)).collect();
    let (name, info) = choose(path, key, &tensors, "tensor")?;
    let data = info.read(bytes)?.ok_or_else(|| {
        let message = format!(
            "tensor `{name}` of `{}` has the element type {}, which is not read yet",
            path.display(),
            info.dtype.name()
        );
        Error::new(codes::WEIGHT_SHAPE, message).help("save it as F32, F16 or BF16")
    })?;
    Ok(Array { shape: info.shape.clone(), data })
}

/// The one that `key` names, or else the only one; `what` is how errors call them.
pub(super) fn choose<'a, T: Copy>(
    path: &Path,
    key: Option<&str>,
    all: &[(&'a str, T)],
    what: &str,
) -> Result<(&'a str, T), Error> {
    let names = || all.iter().map(|(n, _)| *n);
    match key {
        Some(key) => all.iter().find(|(n, _)| *n == key).copied().ok_or_else(|| {
            let help = match nearest(key, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it holds {}", some_of(names())),
            };
            Error::new(codes::MISSING_WEIGHT, format!("`{}` has no {what} `{key}`", path.display())).help(help)
        }),
        None => match all {
            [one] => Ok(*one),
            _ => {
                let message = format!("`{}` holds {} {what}s, so one has to be named", path.display(), all.len());
                Err(Error::new(codes::MISSING_WEIGHT, message).help(format!("it holds {}", some_of(names()))))
            }
        },
    }
}

/// A few names of a list, for a message.
pub(crate) fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(6).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "nothing".into(),
        n if n > 6 => format!("{shown} and {} more", n - 6),
        _ => shown,
    }
}

/// Writes tensors in the order of their names, completely or not at all. Equal tensors give equal bytes.
pub fn write_safetensors(path: &Path, tensors: &[Named<'_>], metadata: &BTreeMap<String, String>) -> Result<(), Error> {
    let parts = tensors.iter().map(|t| Parts { name: t.name, shape: t.shape, data: vec![t.data] });
    write_parts(path, &parts.collect::<Vec<_>>(), metadata)
}

/// The same for tensors whose data lies in several places.
pub fn write_parts(path: &Path, tensors: &[Parts<'_>], metadata: &BTreeMap<String, String>) -> Result<(), Error> {
    let mut order: Vec<&Parts<'_>> = tensors.iter().collect();
    order.sort_by_key(|t| t.name);
    let header = header_text(&order, metadata);
    files::write_atomic(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        order.iter().flat_map(|t| &t.data).try_for_each(|data| write_floats(out, data))
    })
}

fn header_text(order: &[&Parts<'_>], metadata: &BTreeMap<String, String>) -> String {
    let mut map = Map::new();
    if !metadata.is_empty() {
        map.insert("__metadata__".into(), json!(metadata));
    }
    let mut at = 0;
    for t in order {
        let end = at + t.data.iter().map(|d| d.len()).sum::<usize>() * 4;
        map.insert(t.name.into(), json!({ "dtype": "F32", "shape": t.shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = Value::Object(map).to_string();
    // Data begins at a multiple of 8, as the format asks.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    text
}

pub(super) fn write_floats(out: &mut dyn Write, data: &[f32]) -> std::io::Result<()> {
    let mut buffer = [0u8; 4096];
    for chunk in data.chunks(1024) {
        let bytes = &mut buffer[..chunk.len() * 4];
        bytes.as_chunks_mut::<4>().0.iter_mut().zip(chunk).for_each(|(b, x)| *b = x.to_le_bytes());
        out.write_all(bytes)?;
    }
    Ok(())
}
