//! Tensor files: safetensors, npy and npz, PyTorch's, GGUF; read as f32 and written atomically.

mod archive;
mod control;
mod dictionary;
mod elements;
pub mod gguf;
mod header;
mod npy;
mod npz;
mod safetensors;
mod strided;
mod torch;

pub use control::{parse_directions, read_directions, write_directions};
pub use dictionary::{SAE_CONFIG, SAE_WEIGHTS, parse_dictionary, read_dictionary};
pub use elements::{Dtype, check_finite, widen};
pub use header::{Header, Info};
pub use npy::{parse_npy, read_npy, write_npy};
pub use npz::{parse_npz, read_npz};
pub use safetensors::{Named, Parts, list_safetensors, read_safetensors, write_parts, write_safetensors};
pub use torch::torch_header;

use crate::error::Error;
use crate::files;
use std::path::Path;
use steer_lang::codes;

/// A dense array of f32, row-major, the last dimension fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Loads an array from the file of a kind that the end of its name says: the one in an `.npy`, or of the others the one under
/// `key`, which may be left out where the file holds one. All of its values are finite.
pub fn load(path: &Path, key: Option<&str>) -> Result<Array, Error> {
    let array = match (ending(path).as_str(), key) {
        ("npy", None) => read_npy(path)?,
        ("npy", Some(key)) => {
            let message = format!("`{}` holds one array without a name, so it has no `{key}`", path.display());
            return Err(Error::new(codes::BAD_ARGUMENTS, message).help("leave the name out"));
        }
        ("npz", _) => read_npz(path, key)?,
        ("safetensors", _) => read_safetensors(path, key)?,
        ("pt" | "pth" | "bin" | "gguf", _) => {
            let map = files::map(path)?;
            let bytes = map.as_deref().unwrap_or(&[]);
            let header = match ending(path).as_str() {
                "gguf" => gguf_header(bytes, path)?,
                _ => torch_header(bytes, path)?,
            };
            safetensors::read_from(bytes, &header, path, key)?
        }
        _ => {
            let message = format!("`{}` is no file of tensors by its name", path.display());
            let help = "tensors are read from .safetensors, .npy, .npz, .pt, .pth, .bin and .gguf";
            return Err(Error::new(codes::FILE, message).help(help));
        }
    };
    let name = key.map_or_else(|| format!("`{}`", path.display()), |k| format!("`{k}` of `{}`", path.display()));
    check_finite(&name, &array.shape, &array.data)?;
    Ok(array)
}

/// What the end of a file's name is, in small letters.
pub(crate) fn ending(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// The tensors of a GGUF file, as they stand there.
fn gguf_header(bytes: &[u8], path: &Path) -> Result<Header, Error> {
    let file = gguf::Gguf::parse(bytes).map_err(|e| e.about(path))?;
    let tensors = file.tensors.iter().map(|t| (t.name.to_string(), t.info())).collect();
    Ok(Header { tensors, len: file.data_start, ..Header::default() })
}

/// The number of elements of a shape, where it can be counted.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}
