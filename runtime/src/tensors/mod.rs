//! Tensor files: safetensors and npy, read as f32 and written atomically.

mod elements;
pub mod gguf;
mod header;
mod npy;
mod safetensors;

pub use elements::{Dtype, check_finite, widen};
pub use header::{Header, Info};
pub use npy::{parse_npy, read_npy, write_npy};
pub use safetensors::{Named, list_safetensors, read_safetensors, write_safetensors};

use crate::error::Error;
use std::path::Path;
use steer_lang::codes;

/// A dense array of f32, row-major, the last dimension fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Loads an array from a `.npy` file, or from a `.safetensors` file under `key` (which may be left out
/// where the file holds one tensor). All of its values are finite.
pub fn load(path: &Path, key: Option<&str>) -> Result<Array, Error> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let array = match (extension.as_str(), key) {
        ("npy", None) => read_npy(path)?,
        ("npy", Some(key)) => {
            let message = format!("`{}` holds one array without a name, so it has no `{key}`", path.display());
            return Err(Error::new(codes::BAD_ARGUMENTS, message).help("leave the name out"));
        }
        ("safetensors", _) => read_safetensors(path, key)?,
        _ => {
            let message = format!("`{}` is neither .npy nor .safetensors", path.display());
            return Err(Error::new(codes::FILE, message).help("save the tensor in one of these two formats"));
        }
    };
    let name = key.map_or_else(|| format!("`{}`", path.display()), |k| format!("`{k}` of `{}`", path.display()));
    check_finite(&name, &array.shape, &array.data)?;
    Ok(array)
}

/// The number of elements of a shape, where it can be counted.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}
