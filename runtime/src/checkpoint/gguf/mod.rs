//! Models in GGUF files, seen as the checkpoints that they were made of: a configuration, and tensors under the names
//! that model files know.

mod change;
mod config;
mod family;

pub use change::Change;
#[cfg(test)]
pub use family::pres;
pub use family::{Pre, pre};

use super::Config;
use super::shards::{Found, Shard};
use crate::error::Error;
use crate::files;
use crate::tensors::gguf::{Gguf, TensorInfo, Value as Meta};
use crate::tensors::{Header, Info};
use family::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use steer_lang::codes;

/// The files of one model have no more parts than this.
const PARTS: usize = 1000;

/// Whether a path is that of a file that may be a whole model.
pub fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) && path.is_file()
}

/// What is known of a file beside what a folder has.
#[derive(Debug)]
pub struct Origin {
    /// Metadata that nothing reads.
    pub unread: Vec<String>,
    family: Family,
    /// The tensors as the file calls them.
    tensors: BTreeSet<String>,
}

impl Origin {
    /// What the file calls a tensor, or would.
    pub fn own_name(&self, name: &str) -> Option<String> {
        let names = self.family.own_names(name);
        names.iter().find(|n| self.tensors.contains(*n)).or(names.first()).cloned()
    }
}

/// Opens a file, and those beside it where it is the first of several parts.
pub fn open(path: &Path) -> Result<(Config, Found, Origin), Error> {
    let map = files::map(path)?;
    let bytes = map.as_deref().unwrap_or(&[]);
    let gguf = Gguf::parse(bytes).map_err(|e| e.about(path))?;
    let name = gguf.get("general.architecture").and_then(Meta::as_text).unwrap_or("");
    let family = family::family(name).ok_or_else(|| unknown(&gguf, name, path))?;
    if gguf.tensor("token_embd.weight").is_none() {
        let message = format!("`{}` holds no weights of a language model", path.display());
        let help = "is it a vocabulary alone, a part of another kind, or not the first of several parts?";
        return Err(Error::new(codes::NO_MODEL, message).help(help));
    }
    let value = config::config(&gguf, bytes, &family, name, path)?;
    let text = serde_json::to_string_pretty(&value).unwrap_or_default();
    let config = Config { path: path.to_path_buf(), text: text.into(), value };
    let reading = Reading { family: &family, name, gguf: &gguf };
    let parts = parts(&gguf, path)?;
    let (mut found, mut tensors) = (Found::default(), BTreeSet::new());
    for part in parts {
        let shard = reading.shard(&part, &mut tensors)?;
        for name in shard.header.tensors.keys() {
            if found.tensors.insert(name.clone(), found.shards.len()).is_some() {
                let message = format!("`{}` and another part of the model both have `{name}`", part.display());
                return Err(Error::new(codes::BAD_WEIGHTS, message).help("download the parts again"));
            }
        }
        found.shards.push(shard);
    }
    let unread = config::unread(&gguf, &family, name);
    Ok((config, found, Origin { unread, family, tensors }))
}

fn unknown(gguf: &Gguf, name: &str, path: &Path) -> Error {
    let shown = path.display();
    let known: Vec<&str> = family::families().collect();
    if name == "controlvector" {
        let e = Error::new(codes::NO_MODEL, format!("`{shown}` holds control vectors, and no model"));
        return e.help("read it with `vector v[layer] = load(\"file.gguf\")`");
    }
    if gguf.tensor("token_embd.weight").is_none() {
        let e = Error::new(codes::NO_MODEL, format!("`{shown}` holds no language model"));
        return e.help("is it the first of several parts, or a part of another kind, such as a vision encoder?");
    }
    let message = format!("`{shown}` is a model of the architecture `{name}`, which is not read from GGUF");
    Error::new(codes::UNKNOWN_ARCH, message).help(format!("known are {}", known.join(", ")))
}

/// The files of a model: `name-00001-of-00003.gguf` and so on where it says that it is split.
fn parts(gguf: &Gguf, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let count = gguf.get("split.count").and_then(Meta::as_usize).unwrap_or(1);
    if count <= 1 {
        return Ok(vec![path.to_path_buf()]);
    }
    let bad = |what: String, help: &str| Error::new(codes::BAD_WEIGHTS, what).help(help);
    let file = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let own = format!("-00001-of-{count:05}.gguf");
    let (Some(stem), true) = (file.strip_suffix(&own), count <= PARTS) else {
        let message = format!("`{}` is one of {count} parts, and not named as their first one", path.display());
        return Err(bad(message, "name the part that ends in -00001-of-...gguf"));
    };
    let all: Vec<PathBuf> =
        (1..=count).map(|i| path.with_file_name(format!("{stem}-{i:05}-of-{count:05}.gguf"))).collect();
    match all.iter().find(|p| !p.is_file()) {
        Some(absent) => {
            let message =
                format!("`{}` is one of {count} parts, and `{}` is not there", path.display(), absent.display());
            Err(bad(message, "download the other parts into the same folder"))
        }
        None => Ok(all),
    }
}

/// A file's tensors as the model file knows them.
struct Reading<'a> {
    family: &'a Family,
    name: &'a str,
    gguf: &'a Gguf<'a>,
}

impl Reading<'_> {
    fn shard(&self, path: &Path, own: &mut BTreeSet<String>) -> Result<Shard, Error> {
        let map = files::map(path)?;
        let gguf = Gguf::parse(map.as_deref().unwrap_or(&[])).map_err(|e| e.about(path))?;
        let mut header = Header { tensors: BTreeMap::new(), metadata: BTreeMap::new(), len: gguf.data_start };
        let mut changes = BTreeMap::new();
        for t in &gguf.tensors {
            own.insert(t.name.to_owned());
            if self.family.lists.contains_key(t.name) {
                continue;
            }
            for (name, info, change) in self.tensors(t, path)? {
                changes.extend(change.map(|c| (name.clone(), c)));
                header.tensors.insert(name, info);
            }
        }
        Ok(Shard::new(path.to_path_buf(), header, map, changes))
    }

    /// What a tensor of the file is: one, or one for each expert. What has no other name keeps its own.
    fn tensors(&self, t: &TensorInfo, path: &Path) -> Result<Vec<(String, Info, Option<Change>)>, Error> {
        let info = t.info();
        let Some(named) = Named::parse(t.name, self.family) else { return Ok(vec![(t.name.into(), info, None)]) };
        let odd = |what: &str| {
            let message = format!("tensor `{}` of `{}` {what}", t.name, path.display());
            Error::new(codes::BAD_WEIGHTS, message).help("write or download the file again")
        };
        let change = self.family.changes.iter().flatten().find(|(key, _)| **key == named.part).map(|(_, c)| c);
        let change = change.map(|text| Change::parse(text, |key| self.heads(key)).ok_or(text)).transpose();
        let change = change.map_err(|text| odd(&format!("needs `{text}` of the metadata")))?;
        if !named.target.contains("{expert}") {
            let mut info = info;
            if let Some(change) = change {
                info.shape = change.shape(&t.shape).ok_or_else(|| odd("does not have rows for all heads"))?;
            }
            return Ok(vec![(named.target, info, change)]);
        }
        // The experts of a layer stand one after another in one tensor.
        let [experts, rest @ ..] = &t.shape[..] else { return Err(odd("has no axis of experts")) };
        let len = t.bytes.len() / (*experts).max(1);
        let each = (0..*experts).map(|e| {
            let start = t.bytes.start + e * len;
            let info = Info { shape: rest.to_vec(), bytes: start..start + len, ..t.info() };
            (named.target.replace("{expert}", &e.to_string()), info, change)
        });
        Ok(each.collect())
    }

    fn heads(&self, key: &str) -> Option<usize> {
        let heads = |key: &str| self.gguf.get(&format!("{}.{key}", self.name))?.as_usize();
        heads(key).or_else(|| heads(key.strip_suffix("_kv")?))
    }
}

/// A tensor's name taken apart.
struct Named {
    /// What it is called in a layer.
    part: String,
    /// The name that the model file knows.
    target: String,
}

impl Named {
    /// `blk.3.attn_q.weight`, `blk.3.ffn_up.5.weight` (of an expert), `output_norm.weight`, `blk.3.ssm_a`
    fn parse(name: &str, family: &Family) -> Option<Self> {
        let suffix = [".weight", ".bias"].into_iter().find(|s| name.ends_with(s)).unwrap_or("");
        let stem = &name[..name.len() - suffix.len()];
        let number = |s: &str| (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.to_string());
        let mut key = Vec::new();
        let (mut layer, mut expert) = (None, None);
        let mut part = String::new();
        for (i, piece) in stem.split('.').enumerate() {
            match number(piece) {
                Some(n) if i == 1 && key == ["blk"] => {
                    layer = Some(n);
                    key.push("{layer}");
                }
                Some(n) => {
                    expert = Some(n);
                    key.push("{expert}");
                }
                None => {
                    part = piece.to_string();
                    key.push(piece);
                }
            }
        }
        let mut target = family.tensors.get(&key.join("."))?.clone() + suffix;
        if let Some(layer) = layer {
            target = target.replace("{layer}", &layer);
        }
        if let Some(expert) = expert {
            target = target.replace("{expert}", &expert);
        }
        Some(Named { part, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_model_file() {
        let target = |family: &str, name: &str| Named::parse(name, &family::family(family).unwrap()).map(|n| n.target);
        assert_eq!(target("llama", "blk.13.attn_q.weight").unwrap(), "model.layers.13.self_attn.q_proj.weight");
        assert_eq!(
            target("gemma3", "blk.3.ffn_norm.weight").unwrap(),
            "model.layers.3.pre_feedforward_layernorm.weight"
        );
        assert_eq!(target("mamba", "blk.0.ssm_a").unwrap(), "backbone.layers.0.mixer.A_log");
        let expert = "model.layers.1.block_sparse_moe.experts.5.w3.weight";
        assert_eq!(target("llama", "blk.1.ffn_up.5.weight").unwrap(), expert);
        assert_eq!(target("llama", "rope_freqs.weight"), None);
        let own = |family: &str, name: &str| family::family(family).unwrap().own_names(name);
        assert_eq!(own("llama", "model.layers.13.self_attn.q_proj.weight"), ["blk.13.attn_q.weight"]);
        assert_eq!(own("mamba", "backbone.layers.0.mixer.A_log"), ["blk.0.ssm_a"]);
        assert_eq!(own("llama", expert), ["blk.1.ffn_up.5.weight", "blk.1.ffn_up_exps.weight"]);
        assert!(own("llama", "model.layers.x.y").is_empty());
    }
}
