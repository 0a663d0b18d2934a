//! Writing a container of f32 tensors.

use super::super::safetensors::write_floats;
use super::{ALIGNMENT, Value};
use crate::error::Error;
use crate::files;
use std::path::Path;

/// A tensor to write, row-major, as F32.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    pub data: &'a [f32],
}

/// Writes version 3 in the order given, completely or not at all. Equal contents give equal bytes.
///
/// # Errors
/// What the operating system says of the file.
pub fn write_gguf(path: &Path, metadata: &[(&str, Value<'_>)], tensors: &[Tensor<'_>]) -> Result<(), Error> {
    let header = header(metadata, tensors);
    files::write_atomic(path, |out| {
        out.write_all(&header)?;
        for t in tensors {
            write_floats(out, t.data)?;
            out.write_all(&vec![0; padding(t.data.len() * 4)])?;
        }
        Ok(())
    })
}

fn header(metadata: &[(&str, Value<'_>)], tensors: &[Tensor<'_>]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut out, key);
        put(&mut out, value);
    }
    let mut offset = 0;
    for t in tensors {
        text(&mut out, t.name);
        out.extend((t.shape.len() as u32).to_le_bytes());
        t.shape.iter().rev().for_each(|d| out.extend((*d as u64).to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        let bytes = t.data.len() * 4;
        offset += bytes + padding(bytes);
    }
    out.extend(vec![0; padding(out.len())]);
    out
}

fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT as usize) - bytes
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// A value behind the code of its kind.
fn put(out: &mut Vec<u8>, value: &Value<'_>) {
    let mut number = |code: u32, bytes: &[u8]| {
        out.extend(code.to_le_bytes());
        out.extend(bytes);
    };
    match value {
        Value::U8(n) => number(0, &n.to_le_bytes()),
        Value::I8(n) => number(1, &n.to_le_bytes()),
        Value::U16(n) => number(2, &n.to_le_bytes()),
        Value::I16(n) => number(3, &n.to_le_bytes()),
        Value::U32(n) => number(4, &n.to_le_bytes()),
        Value::I32(n) => number(5, &n.to_le_bytes()),
        Value::F32(x) => number(6, &x.to_le_bytes()),
        Value::Bool(b) => number(7, &[u8::from(*b)]),
        Value::U64(n) => number(10, &n.to_le_bytes()),
        Value::I64(n) => number(11, &n.to_le_bytes()),
        Value::F64(x) => number(12, &x.to_le_bytes()),
        Value::Text(s) => {
            number(8, &[]);
            text(out, s);
        }
        Value::Texts(all) => {
            number(9, &8u32.to_le_bytes());
            out.extend((all.len() as u64).to_le_bytes());
            all.iter().for_each(|s| text(out, s));
        }
        Value::Numbers(all) => {
            number(9, &all.kind.code().to_le_bytes());
            out.extend((all.len() as u64).to_le_bytes());
            out.extend(all.bytes);
        }
    }
}
