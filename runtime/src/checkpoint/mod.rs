//! Hugging Face folders: the configuration, and weights in one or several files of safetensors or PyTorch; or the same in
//! a GGUF file.
//!
//! Opening one reads the configuration and the headers of the weight files; data is read when a tensor is.

mod config;
mod find;
mod gguf;
mod hash;
mod names;
mod packed;
mod shards;
mod weights;

pub use config::Config;
pub use find::{Found, find_model, shipped};
#[cfg(test)]
pub use gguf::pres;
pub use gguf::{Pre, is_gguf, pre};
pub use hash::{FileHash, sha256};
pub use names::names;

use crate::error::Error;
use crate::tensors::{Dtype, Info as Place};
use shards::Shard;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use steer_lang::codes;
use steer_lang::diagnostic::nearest;

/// The files that a tokenizer is made of where there is no `tokenizer.json`.
pub const VOCABULARIES: &[&str] = &[
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "added_tokens.json",
];

/// What the headers say of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A model's folder, or a file that is a whole model.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Config,
    shards: Vec<Shard>,
    /// The shard of every tensor.
    tensors: BTreeMap<String, usize>,
    /// The component under which the whole file stands, if there is one.
    prefix: Option<&'static str>,
    /// Why there are no weights, where there are none.
    no_weights: Option<String>,
    /// Of a GGUF file, what a folder does not have.
    origin: Option<gguf::Origin>,
}

impl Checkpoint {
    /// Opens a folder that holds at least a `config.json`, or a GGUF file.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        if gguf::is_gguf(folder) {
            let (config, found, origin) = gguf::open(folder)?;
            return Ok(Checkpoint { origin: Some(origin), ..Self::of(folder, config, found) });
        }
        if !folder.is_dir() {
            return Err(not_a_folder(folder));
        }
        let config = Config::read(folder)?;
        Ok(Self::of(folder, config, shards::open(folder)?))
    }

    fn of(path: &Path, config: Config, found: shards::Found) -> Self {
        Checkpoint {
            path: path.to_path_buf(),
            config,
            prefix: common_prefix(&found.tensors),
            shards: found.shards,
            tensors: found.tensors,
            no_weights: found.none,
            origin: None,
        }
    }

    /// The folder, or the file that is the whole model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that the model is in.
    pub fn folder(&self) -> &Path {
        match self.path.is_file() {
            true => self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            false => &self.path,
        }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Gives a key of the configuration another value, or one that it lacks.
    pub fn configure(&mut self, key: &str, value: serde_json::Value) {
        if let Some(map) = self.config.value.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    }

    /// Whether there are weight files; a folder with a configuration alone can be checked but not run.
    pub fn has_weights(&self) -> bool {
        self.no_weights.is_none()
    }

    /// The names in the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// What is known of a tensor without reading it; the name is resolved first. A packed one has the shape of its elements.
    pub fn tensor_info(&self, name: &str) -> Option<Info> {
        let found = self.resolve(name)?;
        let (_, place) = self.place(found)?;
        let unpacked = self.packing(found).and_then(|p| self.unpacked_shape(found, &p).ok());
        Some(Info { dtype: place.dtype, shape: unpacked.unwrap_or_else(|| place.shape.clone()) })
    }

    /// The name in the files of what a model file calls `name`: itself, or with a leading component
    /// (`transformer.`, `model.`, ...) added where the whole file has it, or left out where no name has it.
    pub fn resolve(&self, name: &str) -> Option<&str> {
        if let Some((exact, _)) = self.tensors.get_key_value(name) {
            return Some(exact);
        }
        if let Some(prefix) = self.prefix {
            let longer = format!("{prefix}{name}");
            if let Some((found, _)) = self.tensors.get_key_value(&longer) {
                return Some(found);
            }
        }
        let (prefix, shorter) = names().prefixes.iter().find_map(|p| name.strip_prefix(p.as_str()).map(|s| (p, s)))?;
        let (found, _) = self.tensors.get_key_value(shorter)?;
        let used = self.tensors.range(prefix.to_string()..).next().is_some_and(|(n, _)| n.starts_with(prefix.as_str()));
        (!used).then_some(found)
    }

    /// All elements of a tensor in file order, widened to f32; those that have scales beside them times these.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        self.read_some(name, None)
    }

    /// All elements, or those of a range.
    fn read_some(&self, name: &str, range: Option<Range<usize>>) -> Result<Vec<f32>, Error> {
        let found = self.resolve(name).ok_or_else(|| self.missing(name))?;
        if let Some(packing) = self.packing(found) {
            return self.unpack(found, &packing, range);
        }
        if let Some(e) = self.unread(found) {
            return Err(e);
        }
        let (shard, _) = self.place(found).ok_or_else(|| self.missing(name))?;
        let wide = match range {
            None => shard.read(found)?,
            Some(range) => shard.read_range(found, range)?,
        };
        wide.ok_or_else(|| self.missing(name))
    }

    /// What the configuration and the tokenizer are, by hash.
    pub fn small_hashes(&self) -> Result<Vec<FileHash>, Error> {
        hash::small(self)
    }

    /// What the weights are, without reading all of them: each file's size, header, and a part of its content.
    pub fn fingerprint(&self) -> String {
        hash::fingerprint(self)
    }

    /// What every file of the model is, by hash. Reads the files, so only reports ask for it.
    pub fn hashes(&self) -> Result<Vec<FileHash>, Error> {
        hash::hashes(self)
    }

    fn place(&self, found: &str) -> Option<(&Shard, &Place)> {
        let shard = self.shards.get(*self.tensors.get(found)?)?;
        Some((shard, shard.header.tensors.get(found)?))
    }

    /// What a tensor is called, also in a file that calls it otherwise.
    fn called(&self, name: &str) -> String {
        match self.origin.as_ref().and_then(|o| o.own_name(name)) {
            Some(own) if own != name => format!("`{name}` (`{own}` in GGUF)"),
            _ => format!("`{name}`"),
        }
    }

    fn missing(&self, name: &str) -> Error {
        if let Some(why) = &self.no_weights {
            return Error::new(codes::MISSING_WEIGHT, why.clone())
                .help("`steer check` works without weights; a run needs them");
        }
        let e = Error::new(
            codes::MISSING_WEIGHT,
            format!("the weights of `{}` have no tensor {}", self.path.display(), self.called(name)),
        );
        match nearest(name, self.names()) {
            Some(near) => e.help(format!("the nearest name there is {}", self.called(near))),
            None => e,
        }
    }
}

fn not_a_folder(path: &Path) -> Error {
    let shown = path.display();
    if !path.exists() {
        return Error::new(codes::NO_MODEL, format!("there is no model folder `{shown}`")).help("check the path");
    }
    Error::new(codes::NO_MODEL, format!("`{shown}` is a file, and a model is a folder or a .gguf file"))
        .help("name the Hugging Face folder that holds its config.json")
}

/// The prefix under which every tensor stands but output heads, which stand beside the model proper.
fn common_prefix(tensors: &BTreeMap<String, usize>) -> Option<&'static str> {
    let known = names();
    let mut body = tensors.keys().filter(|n| !known.heads.iter().any(|h| n.starts_with(h.as_str()))).peekable();
    let first = body.peek()?;
    let prefix = known.prefixes.iter().find(|p| first.starts_with(p.as_str()))?;
    body.all(|n| n.starts_with(prefix.as_str())).then_some(prefix.as_str())
}
