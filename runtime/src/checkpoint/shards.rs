//! Which weight files a folder has, and which tensor is in which.

use crate::error::Error;
use crate::files;
use crate::tensors::Header;
use memmap2::Mmap;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use steer_lang::codes;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A mapped weight file and its checked header.
#[derive(Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    pub header: Header,
    map: Option<Mmap>,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let map = files::map(&path)?;
        let header = Header::parse(map.as_deref().unwrap_or(&[]), &path)?;
        Ok(Shard { path, header, map })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

/// What a folder has.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub shards: Vec<Shard>,
    pub tensors: BTreeMap<String, usize>,
    /// Why there are no weights, where there are none.
    pub none: Option<String>,
}

/// Opens `model.safetensors`, else the shards of its index; a folder with neither has no weights.
pub(super) fn open(folder: &Path) -> Result<Found, Error> {
    let single = folder.join(SINGLE);
    // A link that leads nowhere must not pass for a folder without weights.
    if single.symlink_metadata().is_ok() {
        let shard = Shard::open(single)?;
        let tensors = shard.header.tensors.keys().map(|n| (n.clone(), 0)).collect();
        return Ok(Found { shards: vec![shard], tensors, none: None });
    }
    let index = folder.join(INDEX);
    match index.symlink_metadata().is_ok() {
        true => open_index(folder, &index),
        false => Ok(Found { none: Some(why_none(folder)), ..Found::default() }),
    }
}

/// What the folder has instead of weights that can be read.
fn why_none(folder: &Path) -> String {
    let shown = folder.display();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = files.filter_map(|f| f.file_name().into_string().ok()).collect();
    names.sort();
    let ending = |e: &str| names.iter().find(|n| n.ends_with(e));
    if let Some(name) = ending(".safetensors") {
        return format!("`{shown}` has no {SINGLE} and no {INDEX}; `{name}` would have to be named by one of them");
    }
    match ending(".bin").or(ending(".pth")).or(ending(".pt")) {
        Some(name) => format!(
            "`{shown}` has no safetensors; `{name}` is a pickle, which is not read: save the model with `safe_serialization=True`"
        ),
        None => format!("`{shown}` has no weights: neither {SINGLE} nor {INDEX}"),
    }
}

fn open_index(folder: &Path, index: &Path) -> Result<Found, Error> {
    let bad = |what: String| {
        Error::new(codes::BAD_WEIGHTS, format!("`{}` {what}", index.display()))
            .help("download the index and the files that it names again")
    };
    let value: Value = serde_json::from_slice(&files::read(index)?).map_err(|e| bad(format!("is not JSON: {e}")))?;
    let map =
        value.get("weight_map").and_then(Value::as_object).ok_or_else(|| bad("has no object `weight_map`".into()))?;
    if map.is_empty() {
        return Err(bad("names no tensor".into()));
    }
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().ok_or_else(|| bad(format!("gives no file name for `{tensor}`")))?;
        if !matches!(Path::new(file).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
            return Err(bad(format!("names the file `{file}`, which is not in its folder")));
        }
        wanted.entry(file).or_default().push(tensor);
    }
    let absent: Vec<&str> = wanted.keys().copied().filter(|f| !folder.join(f).exists()).collect();
    if let Some(first) = absent.first() {
        let rest = if absent.len() > 1 { format!(" and {} more", absent.len() - 1) } else { String::new() };
        return Err(bad(format!("names {} files, but `{first}`{rest} is not there", wanted.len())));
    }
    let mut found = Found::default();
    for (file, tensors) in wanted {
        let shard = Shard::open(folder.join(file))?;
        for tensor in tensors {
            if !shard.header.tensors.contains_key(tensor) {
                return Err(bad(format!("says that `{tensor}` is in `{file}`, and it is not")));
            }
            found.tensors.insert(tensor.to_string(), found.shards.len());
        }
        found.shards.push(shard);
    }
    Ok(found)
}
