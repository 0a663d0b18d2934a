//! NumPy's `.npz`: an archive of `.npy` files, compressed or not.

use super::archive::{Archive, Entry};
use super::safetensors::choose;
use super::{Array, parse_npy};
use crate::error::Error;
use crate::files;
use std::path::Path;

/// One array as f32, in C order. Without a `key`, the only one.
pub fn read_npz(path: &Path, key: Option<&str>) -> Result<Array, Error> {
    let map = files::map(path)?;
    parse_npz(map.as_deref().unwrap_or(&[]), path, key)
}

/// The same of the bytes of a whole file; `path` is named in errors.
pub fn parse_npz(bytes: &[u8], path: &Path, key: Option<&str>) -> Result<Array, Error> {
    let archive = Archive::open(bytes, path)?;
    let arrays: Vec<(&str, &Entry)> =
        archive.entries.iter().filter_map(|e| Some((e.name.strip_suffix(".npy")?, e))).collect();
    let (_, entry) = choose(path, key, &arrays, "array")?;
    parse_npy(&archive.read(entry)?, path)
}
