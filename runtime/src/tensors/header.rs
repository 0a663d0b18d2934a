//! The header of a safetensors file, checked before a byte of data is believed.

use super::strided::row_major;
use super::{Dtype, count, widen};
use crate::error::Error;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use steer_lang::codes;

/// The longest header that safetensors allows.
const LIMIT: u64 = 100_000_000;

/// What a header says of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Where its bytes are in the file.
    pub bytes: Range<usize>,
    /// How many elements apart the entries of each dimension are, where they do not lie in order.
    pub strides: Option<Box<[usize]>>,
}

impl Info {
    /// Its elements in order as f32, from the bytes of the whole file; `None` for a type that cannot be read so.
    pub fn read(&self, file: &[u8]) -> Result<Option<Vec<f32>>, Error> {
        let values = widen(self.dtype, &file[self.bytes.clone()])?;
        match (values, &self.strides) {
            (Some(values), Some(strides)) => row_major(&values, &self.shape, strides).map(Some),
            (values, _) => Ok(values),
        }
    }

    /// Some of its elements in order as a tensor of their own; `None` where they do not lie by themselves.
    pub fn part(&self, range: &Range<usize>) -> Option<Info> {
        let (elements, bytes) = match self.dtype {
            Dtype::Blocks(blocks) => blocks.size(),
            dtype if dtype.bits().is_multiple_of(8) => (1, dtype.bits() / 8),
            _ => return None,
        };
        let whole = range.start.is_multiple_of(elements) && range.end.is_multiple_of(elements);
        if !whole || self.strides.is_some() {
            return None;
        }
        let at = |element: usize| Some(self.bytes.start + (element / elements).checked_mul(bytes)?);
        let bytes = at(range.start)?..at(range.end)?;
        let inside = bytes.start <= bytes.end && bytes.end <= self.bytes.end;
        inside.then(|| Info { dtype: self.dtype, shape: vec![range.len()], bytes, strides: None })
    }
}

/// All tensors of one file, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    pub tensors: BTreeMap<String, Info>,
    pub metadata: BTreeMap<String, String>,
    /// Where the data begins: the length of all that stands before it.
    pub len: usize,
}

impl Header {
    /// Reads the header of a whole file. Whatever is accepted lies inside of `file` and overlaps nothing.
    pub fn parse(file: &[u8], path: &Path) -> Result<Self, Error> {
        parse(file).map_err(|(what, help)| {
            let message = format!("`{}` is not a sound safetensors file: {what}", path.display());
            Error::new(codes::BAD_WEIGHTS, message).help(help)
        })
    }
}

/// What is wrong, and what to do.
type Fault = (String, &'static str);

const TRUNCATED: &str = "it was probably cut off on the way: copy or download it again";
const DAMAGED: &str = "it was written by a faulty program or is damaged: write or download it again";

fn parse(file: &[u8]) -> Result<Header, Fault> {
    let fault = |what: String| (what, DAMAGED);
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err((format!("it has {} bytes, and the length of the header alone takes 8", file.len()), TRUNCATED));
    };
    let length = u64::from_le_bytes(*length);
    if length > LIMIT {
        let other = "it is another kind of file under this name (a Git LFS pointer, a pickle), or damaged";
        return Err((format!("its header would have {length} bytes, where {LIMIT} are allowed"), other));
    }
    if length > rest.len() as u64 {
        let what = format!("its header should have {length} bytes, but only {} follow", rest.len());
        return Err((what, TRUNCATED));
    }
    let (header, data) = rest.split_at(length as usize);
    let header = std::str::from_utf8(header)
        .map_err(|e| fault(format!("its header is not UTF-8 at byte {}", e.valid_up_to() + 8)))?;
    let value: Value = serde_json::from_str(header).map_err(|e| fault(format!("its header is not JSON: {e}")))?;
    let Value::Object(map) = value else { return Err(fault("its header is JSON but not an object".into())) };

    let mut out = Header { len: length as usize + 8, ..Header::default() };
    for (name, value) in map {
        if name == "__metadata__" {
            out.metadata = metadata(&value).map_err(fault)?;
            continue;
        }
        let info = info(&value, out.len).map_err(|what| fault(format!("tensor `{name}` {what}")))?;
        let end = info.bytes.end - out.len;
        if end > data.len() {
            let what = format!("tensor `{name}` ends at byte {end} of the data, which has {}", data.len());
            return Err((what, TRUNCATED));
        }
        out.tensors.insert(name, info);
    }
    no_overlap(&out).map_err(fault)?;
    Ok(out)
}

fn metadata(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let map = value.as_object().ok_or("its `__metadata__` is not an object")?;
    map.iter()
        .map(|(k, v)| match v {
            Value::String(s) => Ok((k.clone(), s.clone())),
            _ => Err(format!("`{k}` of its `__metadata__` is not a string")),
        })
        .collect()
}

/// One entry of the header; `start` is where the data begins.
fn info(value: &Value, start: usize) -> Result<Info, String> {
    let dtype = value.get("dtype").and_then(Value::as_str).ok_or("has no `dtype`")?;
    let dtype = Dtype::parse(dtype)
        .ok_or_else(|| format!("has the element type {dtype:?}, which safetensors does not have"))?;
    let numbers = |key: &str| -> Option<Vec<usize>> {
        let list = value.get(key)?.as_array()?;
        list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
    };
    let shape = numbers("shape").ok_or("has no `shape` of whole numbers")?;
    let offsets = numbers("data_offsets").ok_or("has no `data_offsets` of whole numbers")?;
    let [from, to] = offsets[..] else { return Err(format!("has {} `data_offsets` instead of 2", offsets.len())) };
    let bits = count(&shape)
        .and_then(|n| n.checked_mul(dtype.bits()))
        .ok_or_else(|| format!("has the impossible shape {shape:?}"))?;
    if bits % 8 != 0 {
        return Err(format!("has the shape {shape:?} of {}, which is no whole number of bytes", dtype.name()));
    }
    match to.checked_sub(from) {
        None => return Err(format!("begins at byte {from} and ends before it, at {to}")),
        Some(n) if n != bits / 8 => {
            return Err(format!("has {n} bytes, where the shape {shape:?} of {} takes {}", dtype.name(), bits / 8));
        }
        Some(_) => {}
    }
    let end = start.checked_add(to).ok_or_else(|| format!("ends at the impossible byte {to}"))?;
    Ok(Info { dtype, shape, bytes: start + from..end, strides: None })
}

fn no_overlap(header: &Header) -> Result<(), String> {
    let mut order: Vec<(&String, &Range<usize>)> =
        header.tensors.iter().map(|(n, i)| (n, &i.bytes)).filter(|(_, b)| !b.is_empty()).collect();
    order.sort_by_key(|(_, b)| b.start);
    match order.windows(2).find(|w| w[0].1.end > w[1].1.start) {
        Some(w) => Err(format!("tensors `{}` and `{}` overlap", w[0].0, w[1].0)),
        None => Ok(()),
    }
}
