//! From what a script calls its model to a folder.

use super::is_gguf;
use crate::error::Error;
use std::path::{Path, PathBuf};
use steer_lang::codes;
use steer_lang::diagnostic::nearest;

/// The folder of a model: a path (relative to the script's folder, else to the working directory), or
/// the name of a small model that ships with steer.
pub fn find_model(name: &str, script_dir: Option<&Path>) -> Result<PathBuf, Error> {
    if name.is_empty() {
        return Err(Error::new(codes::NO_MODEL, "the name of the model is empty")
            .help("name a Hugging Face folder or a shipped model"));
    }
    let beside = script_dir.filter(|d| *d != Path::new(".") && !d.as_os_str().is_empty());
    let mut tried: Vec<PathBuf> = beside.into_iter().map(|d| d.join(name)).collect();
    if !tried.contains(&PathBuf::from(name)) {
        tried.push(name.into());
    }
    // A folder that merely has the model's name must not hide the model.
    let is_model = |p: &&PathBuf| p.join("config.json").is_file() || (is_gguf(p) && p.is_file());
    if let Some(found) = tried.iter().find(is_model) {
        return Ok(found.clone());
    }
    let shelves = shelves();
    let shipped = shelves.iter().filter(|_| is_plain(name)).map(|s| s.join(name)).find(|p| is_model(&p));
    if let Some(found) = shipped {
        return Ok(found);
    }
    match tried.iter().find(|p| p.exists()) {
        Some(found) => one_file(found).map(|file| file.unwrap_or_else(|| found.clone())),
        None => Err(not_found(name, &tried, &shelves)),
    }
}

/// The model of a folder that has no configuration: its only GGUF file, or the first part of it.
fn one_file(folder: &Path) -> Result<Option<PathBuf>, Error> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| is_gguf(p)).collect();
    files.retain(|p| {
        let stem = p.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        // Of several parts the first one stands for all.
        !stem.rsplit_once("-of-").is_some_and(|(first, _)| !first.ends_with("-00001"))
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
    let mut shipped: Vec<String> = shelves
        .iter()
        .flat_map(|s| std::fs::read_dir(s).into_iter().flatten().flatten())
        .filter(|e| e.path().join("config.json").is_file())
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    shipped.sort();
    shipped.dedup();
    let list = |items: &[String]| items.iter().map(|i| format!("`{i}`")).collect::<Vec<_>>().join(", ");
    let places: Vec<String> = tried.iter().map(|p| p.display().to_string()).collect();
    let e = Error::new(codes::NO_MODEL, format!("there is no model `{name}`: neither {}", neither(&places)));
    if is_hub_id(name) {
        let folder = name.rsplit('/').next().unwrap_or(name);
        return e.help(format!(
            "if it is a model of the Hugging Face hub, download it first and name the folder: `huggingface-cli download {name} --local-dir {folder}`"
        ));
    }
    match nearest(name, shipped.iter().map(String::as_str)) {
        Some(near) => e.help(format!("did you mean the shipped model `{near}`?")),
        None if shipped.is_empty() => {
            e.help("name a Hugging Face folder, or set STEER_MODELS to the folder of the shipped models")
        }
        None => e.help(format!("name a Hugging Face folder, or one of the shipped models {}", list(&shipped))),
    }
}

fn neither(places: &[String]) -> String {
    let quoted: Vec<String> = places.iter().map(|p| format!("`{p}`")).collect();
    match quoted.len() {
        1 => format!("{} nor a shipped model of that name exists", quoted[0]),
        _ => format!("{}, nor a shipped model of that name exists", quoted.join(" nor ")),
    }
}

/// `organisation/name`, and nothing that only a path has.
fn is_hub_id(name: &str) -> bool {
    let word = |w: &str| {
        w.starts_with(|c: char| c.is_ascii_alphanumeric())
            && w.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    matches!(name.split('/').collect::<Vec<_>>()[..], [a, b] if word(a) && word(b)) && !name.ends_with(".gguf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_says_what_was_tried() {
        let e = find_model("no-such-org/no-such-model", Some(Path::new("scripts"))).unwrap_err();
        assert!(e.0.message.contains("`scripts/no-such-org/no-such-model`"), "{}", e.0.message);
        assert!(
            e.0.help.unwrap().contains("huggingface-cli download no-such-org/no-such-model --local-dir no-such-model")
        );
        let e = find_model("./nowhere", None).unwrap_err();
        assert!(e.0.message.starts_with("there is no model `./nowhere`: neither `./nowhere` nor"), "{}", e.0.message);
        assert!(!e.0.help.unwrap().contains("huggingface"));
        assert!(find_model("", None).is_err());
    }
}
