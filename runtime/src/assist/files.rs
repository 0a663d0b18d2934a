//! Inside of texts: names of files and models, and slots.

use super::expressions::Collect;
use super::place::Holds;
use super::{Candidate, Kind};
use crate::checkpoint::shipped;
use std::path::Path;

/// Folders and files with these endings; of none, folders alone.
enum Wanted {
    Files(&'static [&'static str]),
    Models,
    Folders,
}

/// Candidates inside of the text that begins at `open`; returns where what they replace begins.
pub fn in_text(c: &mut Collect, open: usize) -> usize {
    let place = c.place;
    let typed = &place.text[open + 1..place.at];
    // A slot that is open.
    if let Some(slot) = typed.rfind('{').filter(|s| !typed[*s..].contains('}') && !typed[..*s].ends_with("\\u")) {
        c.locals();
        c.params();
        c.runs();
        c.tables();
        return open + 1 + slot + 1;
    }
    let call = place.inner().filter(|o| o.holds == Holds::Arguments).map_or("", |o| o.head);
    let first = place.last_word() == "(";
    let wanted = match (place.declaration(), place.last_word(), call) {
        ("model", "model", _) => Wanted::Models,
        ("import", "import", _) => Wanted::Files(&["steer"]),
        ("sae", "=", _) => Wanted::Folders,
        ("capture", "to", _) => Wanted::Files(&["safetensors"]),
        ("plot", "to", _) => Wanted::Files(&["svg", "png"]),
        ("save", "to", _) => Wanted::Files(&["csv", "parquet", "json", "npy", "safetensors", "gguf"]),
        ("report", "to", _) => Wanted::Files(&["html"]),
        (_, _, "lines") if first => Wanted::Files(&["txt"]),
        (_, _, "jsonl") if first => Wanted::Files(&["jsonl"]),
        (_, _, "csv") if first => Wanted::Files(&["csv"]),
        (_, _, "parquet") if first => Wanted::Files(&["parquet"]),
        (_, _, "load") if first => Wanted::Files(&["safetensors", "npy", "npz", "gguf", "pt", "pth", "bin"]),
        (_, _, "role") => return place.at,
        _ => return place.at,
    };
    let folder = typed.rfind('/').map_or("", |n| &typed[..=n]);
    if let (Wanted::Models, "") = (&wanted, folder) {
        for name in shipped() {
            c.add(Candidate::new(name, Kind::Model).detail("ships with steer"));
        }
    }
    if let Some(base) = c.known.folder {
        entries(c, &base.join(folder), &wanted);
    }
    open + 1 + folder.len()
}

/// As many entries of a folder are looked at.
const MOST: usize = 2000;

fn entries(c: &mut Collect, folder: &Path, wanted: &Wanted) {
    let mut found: Vec<(bool, String)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let is_folder = path.is_dir();
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned();
        let fits = match wanted {
            Wanted::Files(endings) => endings.contains(&ending.as_str()),
            Wanted::Models => ending == "gguf",
            Wanted::Folders => false,
        };
        if is_folder || fits {
            found.push((is_folder, name));
        }
    }
    // Files first: one of them is what is wanted in the end.
    found.sort();
    for (is_folder, name) in found {
        let model = is_folder && matches!(wanted, Wanted::Models) && folder.join(&name).join("config.json").is_file();
        let sae = is_folder && matches!(wanted, Wanted::Folders) && folder.join(&name).join("cfg.json").is_file();
        c.add(match is_folder {
            true if model => Candidate::new(name, Kind::Model).detail("a model's folder"),
            true if sae => Candidate::new(name, Kind::Folder).detail("a sparse autoencoder"),
            true => Candidate::new(format!("{name}/"), Kind::Folder),
            false => Candidate::new(name, Kind::File),
        });
    }
}
