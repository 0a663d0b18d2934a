//! Control vectors in GGUF, as llama.cpp and repeng write them: one direction of the residual stream for each block.
//!
//! llama.cpp adds `direction.i` to the output of block i, counted from 0, and has none for block 0. repeng numbers its
//! directions so. llama.cpp's own generator calls what it found at the output of block l `direction.{l + 1}`.

use super::Named;
use super::gguf::{Gguf, Tensor, Value, write_gguf};
use crate::error::Error;
use crate::files;
use std::path::Path;
use steer_compiler::elaborate::Directions;
use steer_lang::codes;

const ARCHITECTURE: &str = "controlvector";

/// The directions of a control vector, without reading them.
///
/// # Errors
/// A damaged file, and a GGUF file of another kind.
pub fn read_directions(path: &Path) -> Result<Directions, Error> {
    let map = files::map(path)?;
    parse_directions(map.as_deref().unwrap_or(&[]), path)
}

/// The same of the bytes of a whole file; `path` is named in errors.
pub fn parse_directions(bytes: &[u8], path: &Path) -> Result<Directions, Error> {
    let file = Gguf::parse(bytes).map_err(|e| e.about(path))?;
    let text = |key: &str| file.get(key).and_then(Value::as_text);
    let kind = text("general.architecture").unwrap_or("none");
    let mut numbers = Vec::new();
    for t in &file.tensors {
        let Some(number) = t.name.strip_prefix("direction.") else { continue };
        let number = number.parse().map_err(|_| {
            let message = format!("`{}` has a tensor `{}`, whose block is no number", path.display(), t.name);
            Error::new(codes::BAD_WEIGHTS, message).help("write it again, or load it by its name")
        })?;
        numbers.push(number);
    }
    if kind != ARCHITECTURE && numbers.is_empty() {
        let message = format!("`{}` is a GGUF file of `{kind}`, not of a control vector", path.display());
        return Err(Error::new(codes::BAD_WEIGHTS, message).help("name a tensor of it: `load(\"file.gguf\", \"key\")`"));
    }
    let model = text("controlvector.model_hint").map(str::to_owned);
    Ok(Directions { numbers, model })
}

/// Writes directions as a control vector, each for the output of its block. `model` is the kind of model that they are for.
/// One for block 0 has no place in the format, and is left out.
pub fn write_directions(path: &Path, directions: &[(u32, Named<'_>)], model: &str) -> Result<(), Error> {
    let kept: Vec<&(u32, Named)> = directions.iter().filter(|(block, _)| *block > 0).collect();
    let names: Vec<String> = kept.iter().map(|(block, _)| format!("direction.{block}")).collect();
    let tensors: Vec<Tensor> =
        kept.iter().zip(&names).map(|((_, t), name)| Tensor { name, shape: t.shape, data: t.data }).collect();
    let metadata = [
        ("general.architecture", Value::Text(ARCHITECTURE)),
        ("controlvector.model_hint", Value::Text(model)),
        ("controlvector.layer_count", Value::U32(kept.len() as u32)),
    ];
    write_gguf(path, &metadata, &tensors)
}
