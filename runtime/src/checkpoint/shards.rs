//! Which weight files a folder has, and which tensor is in which.

use super::gguf::Change;
use crate::engine::{Order, Piece};
use crate::error::Error;
use crate::files;
use crate::tensors::{Header, torch_header};
use memmap2::Mmap;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use steer_lang::codes;

/// Names of a single file and of an index, those that count first.
const NAMES: &[(&str, &str)] =
    &[("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")];

/// A mapped weight file and its checked header.
#[derive(Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    pub header: Header,
    map: Option<Mmap>,
    /// How tensors lie otherwise in the file than their places say.
    changes: BTreeMap<String, Change>,
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let map = files::map(&path)?;
        let bytes = map.as_deref().unwrap_or(&[]);
        let header = match path.extension().is_some_and(|e| e == "bin") {
            true => torch_header(bytes, &path)?,
            false => Header::parse(bytes, &path)?,
        };
        Ok(Shard { path, header, map, changes: BTreeMap::new() })
    }

    /// A file whose header has been read, with changes by the name of the tensor.
    pub fn new(path: PathBuf, header: Header, map: Option<Mmap>, changes: BTreeMap<String, Change>) -> Self {
        Shard { path, header, map, changes }
    }

    /// All elements of a tensor in order; `None` for a type that cannot be read so.
    pub fn read(&self, name: &str) -> Result<Option<Vec<f32>>, Error> {
        let Some(place) = self.header.tensors.get(name) else { return Ok(None) };
        let values = place.read(self.bytes())?;
        match (values, self.changes.get(name)) {
            (Some(values), Some(change)) => change.undo(values, &place.shape).map(Some),
            (values, _) => Ok(values),
        }
    }

    /// Some elements of a tensor in order; the others are read only where they do not lie apart.
    pub fn read_range(&self, name: &str, range: Range<usize>) -> Result<Option<Vec<f32>>, Error> {
        let Some(place) = self.header.tensors.get(name) else { return Ok(None) };
        if !self.changes.contains_key(name)
            && let Some(part) = place.part(&range)
        {
            return part.read(self.bytes());
        }
        Ok(self.read(name)?.map(|values| values[range].to_vec()))
    }

    /// A tensor as it is stored, where products take it so.
    pub fn piece(&self, name: &str) -> Option<Piece<'_>> {
        let place = self.header.tensors.get(name)?;
        let format = place.dtype.format().filter(|_| place.strides.is_none())?;
        let order = match self.changes.get(name) {
            Some(change) => change.order(&place.shape)?,
            None => Order::Same,
        };
        Some(Piece { format, bytes: self.bytes().get(place.bytes.clone())?, order })
    }

    /// Lets the pages of a tensor go, which the system reads again where somebody asks for them.
    pub fn let_go(&self, name: &str) {
        #[cfg(unix)]
        if let (Some(map), Some(place)) = (&self.map, self.header.tensors.get(name)) {
            // SAFETY: the mapping is of a file and read-only, so that its pages have what they had.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, place.bytes.start, place.bytes.len())
            };
        }
        #[cfg(not(unix))]
        let _ = name;
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

/// Opens the single file, else the shards of the index, of safetensors, else of PyTorch; a folder with neither has no weights.
pub(super) fn open(folder: &Path) -> Result<Found, Error> {
    for (single, index) in NAMES {
        let (single, index) = (folder.join(single), folder.join(index));
        // A link that leads nowhere must not pass for a folder without weights.
        if single.symlink_metadata().is_ok() {
            let shard = Shard::open(single)?;
            let tensors = shard.header.tensors.keys().map(|n| (n.clone(), 0)).collect();
            return Ok(Found { shards: vec![shard], tensors, none: None });
        }
        if index.symlink_metadata().is_ok() {
            return open_index(folder, &index);
        }
    }
    Ok(Found { none: Some(why_none(folder)), ..Found::default() })
}

/// What the folder has instead of weights that can be read.
fn why_none(folder: &Path) -> String {
    let shown = folder.display();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = files.filter_map(|f| f.file_name().into_string().ok()).collect();
    names.sort();
    let (single, index) = NAMES[0];
    let ending = |e: &str| names.iter().find(|n| n.ends_with(e));
    if let Some(name) = ending(".safetensors") {
        return format!("`{shown}` has no {single} and no {index}; `{name}` would have to be named by one of them");
    }
    match ending(".bin").or(ending(".pth")).or(ending(".pt")) {
        Some(name) => {
            format!("`{shown}` has neither {single} nor {}; `{name}` would have to have one of these names", NAMES[1].0)
        }
        None => format!("`{shown}` has no weights: neither {single} nor {index}"),
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
