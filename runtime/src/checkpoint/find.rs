//! From what a script calls its model to a folder.

use super::{Checkpoint, Config, is_gguf, shards};
use crate::error::Error;
use crate::hub::{Hub, Id, Need};
use std::path::{Path, PathBuf};
use steer_lang::codes;
use steer_lang::diagnostic::nearest;

/// Where a model is.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its folder, or the file that is the whole model.
    pub path: PathBuf,
    /// What it is called on the hub, where it is one of the hub's.
    pub id: Option<Id>,
    /// Whether an interrupted download has left a part of the weights.
    partial: bool,
}

impl Found {
    /// Opens the folder; weights that are not all there are none.
    pub fn open(&self) -> Result<Checkpoint, Error> {
        if !self.partial {
            return Checkpoint::open(&self.path);
        }
        let why = format!("the weights of `{}` are not downloaded yet", self.path.display());
        let none = shards::Found { none: Some(why), ..shards::Found::default() };
        Ok(Checkpoint::of(&self.path, Config::read(&self.path)?, none))
    }
}

/// The folder of a model: a path (relative to the script's folder, else to the working directory), the name of a
/// small model that ships with steer, or an id of the hub, of which only the description is downloaded.
pub fn find_model(name: &str, script_dir: Option<&Path>, hub: &Hub) -> Result<Found, Error> {
    if name.is_empty() {
        return Err(Error::new(codes::NO_MODEL, "the name of the model is empty")
            .help("name a Hugging Face folder, a shipped model, or an id of the hub"));
    }
    let here = |path: PathBuf| Ok(Found { path, id: None, partial: false });
    let beside = script_dir.filter(|d| *d != Path::new(".") && !d.as_os_str().is_empty());
    let mut tried: Vec<PathBuf> = beside.into_iter().map(|d| d.join(name)).collect();
    if !tried.contains(&PathBuf::from(name)) {
        tried.push(name.into());
    }
    // A folder that merely has the model's name must not hide the model.
    let is_model = |p: &&PathBuf| p.join("config.json").is_file() || is_gguf(p);
    if let Some(found) = tried.iter().find(is_model) {
        return here(found.clone());
    }
    let shelves = shelves();
    let shipped = shelves.iter().filter(|_| is_plain(name)).map(|s| s.join(name)).find(|p| is_model(&p));
    if let Some(found) = shipped {
        return here(found);
    }
    if let Some(found) = tried.iter().find(|p| p.exists()) {
        return here(one_file(found)?.unwrap_or_else(|| found.clone()));
    }
    match Id::parse(name) {
        Some(id) if id.is_full() => {
            let path = hub.fetch(&id, Need::Description)?;
            let partial = hub.cached(&id, Need::Weights).is_none();
            Ok(Found { path, id: Some(id), partial })
        }
        // A name alone is rather a mistake than an old model of the hub, so nobody is asked for it.
        Some(id) if let Some(path) = hub.cached(&id, Need::Description) => {
            let partial = hub.cached(&id, Need::Weights).is_none();
            Ok(Found { path, id: Some(id), partial })
        }
        _ => Err(not_found(name, &tried, &shelves)),
    }
}

/// The model of a folder that has no configuration: its only GGUF file, or the first part of it.
fn one_file(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| is_gguf(p)).collect();
    files.retain(|p| {
        let stem = p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // Of several parts the first one stands for all.
        stem.rsplit_once("-of-").is_none_or(|(first, _)| first.ends_with("-00001"))
    });
    files.sort();
    match &files[..] {
        [] => Ok(None),
        [file] => Ok(Some(file.clone())),
        _ => {
            let names: Vec<String> =
                files.iter().filter_map(|f| f.file_name()?.to_str()).map(|n| format!("`{n}`")).collect();
            let message = format!("`{}` holds several models: {}", folder.display(), names.join(", "));
            Err(Error::new(codes::NO_MODEL, message).help("name one of the files"))
        }
    }
}

/// The names of the small models that are shipped.
pub fn shipped() -> Vec<String> {
    names_in(&shelves())
}

/// Folders in which small models are shipped, the first one first.
fn shelves() -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::env::var_os("STEER_MODELS").map(PathBuf::from).into_iter().collect();
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    for start in starts.iter().flatten() {
        out.extend(start.ancestors().map(|a| a.join("tests/models")));
    }
    out.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models"));
    out.retain(|p| p.is_dir());
    out.dedup();
    out
}

fn is_plain(name: &str) -> bool {
    !name.contains(['/', '\\']) && name != "." && name != ".."
}

fn not_found(name: &str, tried: &[PathBuf], shelves: &[PathBuf]) -> Error {
    let shipped = names_in(shelves);
    let list = |items: &[String]| items.iter().map(|i| format!("`{i}`")).collect::<Vec<_>>().join(", ");
    let places: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
    let e = Error::new(codes::NO_MODEL, format!("there is no model `{name}`: neither {}", neither(&places)));
    match nearest(name, shipped.iter().map(String::as_str)) {
        Some(near) => e.help(format!("did you mean the shipped model `{near}`?")),
        None if shipped.is_empty() => {
            e.help("name a Hugging Face folder, or set STEER_MODELS to the folder of the shipped models")
        }
        None => {
            // Old models of the hub were called by a name alone.
            let owned = match Id::parse(name) {
                Some(_) => ", or a model of the hub by its owner, too, such as `openai-community/gpt2`",
                None => "",
            };
            e.help(format!("name a Hugging Face folder or one of the shipped models {}{owned}", list(&shipped)))
        }
    }
}

fn names_in(shelves: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = shelves
        .iter()
        .flat_map(|s| std::fs::read_dir(s).into_iter().flatten().flatten())
        .filter(|e| e.path().join("config.json").is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn neither(places: &[String]) -> String {
    let quoted: Vec<String> = places.iter().map(|p| format!("`{p}`")).collect();
    match quoted.len() {
        1 => format!("{} nor a shipped model of that name exists", quoted[0]),
        _ => format!("{}, nor a shipped model of that name exists", quoted.join(" nor ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_says_what_was_tried() {
        let find = |name: &str, dir: Option<&Path>| find_model(name, dir, &Hub::default()).unwrap_err().0;
        let e = find("./nowhere", Some(Path::new("scripts")));
        assert!(e.message.contains("neither `scripts/./nowhere` nor `./nowhere`"), "{}", e.message);
        let e = find("./nowhere", None);
        assert!(e.message.starts_with("there is no model `./nowhere`: neither `./nowhere` nor"), "{}", e.message);
        assert_eq!(find("no-such-org/no-such-model", None).code, codes::HUB);
        assert_eq!(find("", None).code, codes::NO_MODEL);
    }
}
