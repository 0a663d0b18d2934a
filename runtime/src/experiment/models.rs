//! Which model file describes a checkpoint.

use super::session::{one, parse_file};
use crate::checkpoint::Checkpoint;
use crate::files;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use steer_compiler::elaborate::{Library, Model};
use steer_lang::ast::{ArchDecl, File, ItemKind};
use steer_lang::{Diagnostic, Diagnostics, FileId, Sources, codes};

/// A checkpoint's architecture with the file that it is declared in.
pub struct Described {
    pub model: Rc<Model>,
    pub file: FileId,
    /// Files that were taken although neither script nor command line name them.
    pub found: Option<PathBuf>,
    pub warnings: Diagnostics,
}

/// Adds the model files of the command line.
pub fn add(library: &mut Library, files: &[PathBuf], sources: &mut Sources) -> Result<Vec<Given>, Diagnostics> {
    let mut out = Vec::new();
    for path in files {
        let id = FileId(sources.files().len() as u16);
        let tree = parse_file(path, sources)?;
        let archs = declared(&tree);
        library.add(&tree, true)?;
        out.push(Given { path: path.clone(), id, archs });
    }
    Ok(out)
}

/// A model file of the command line.
pub struct Given {
    pub path: PathBuf,
    id: FileId,
    archs: Vec<String>,
}

/// Finds the architecture of a checkpoint: what the script, the command line and the library declare, else a model
/// file in one of these folders.
pub fn describe(
    mut library: Library,
    checkpoint: &Checkpoint,
    given: &[Given],
    folders: &[&Path],
    sources: &mut Sources,
) -> Result<Described, Diagnostics> {
    let wanted = checkpoint.config().architectures().first().map(|a| (*a).to_owned());
    let mut warnings = Diagnostics::new();
    let mut taken = None;
    if let Some(name) = &wanted {
        let seen: Vec<PathBuf> =
            sources.files().iter().filter_map(|s| Path::new(&s.name).canonicalize().ok()).collect();
        let mut other = folders.iter().map(|f| beside(f, name, &seen)).filter(|f| !f.is_empty());
        match library.archs.get(name) {
            Some(known) => {
                let built_in = sources.get(file_of(known)).name.starts_with("stdlib/");
                if let Some(files) = other.next().filter(|_| built_in) {
                    warnings.push(not_taken(name, &files[0]));
                }
            }
            None => {
                if let Some(files) = other.next() {
                    let [path] = &files[..] else { return Err(vec![several(name, &files)]) };
                    library.add(&parse_file(path, sources)?, true)?;
                    taken = Some(path.clone());
                }
            }
        }
    }
    let model = Model::new(library, checkpoint.config().value.clone()).map(|mut m| {
        m.stored = checkpoint.names().map(str::to_owned).collect();
        Rc::new(m)
    });
    let model = model.map_err(|mut d| {
        d.message = format!("{} ({})", d.message, checkpoint.config().path.display());
        vec![*d]
    })?;
    let file = file_of(&model.arch);
    if let Some(g) = given.iter().find(|g| !g.archs.is_empty() && g.id != file) {
        let path = g.path.display();
        let why = match g.archs.contains(&model.arch_name) {
            true => format!("{} is declared in {}, too", model.arch_name, sources.get(file).name),
            false => format!("it declares {}, and the model is a {}", g.archs.join(", "), model.arch_name),
        };
        return Err(one(crate::error::Error::new(codes::COMMAND, format!("`--arch {path}` is not used: {why}"))
            .help("leave it out, or name the file that belongs to the model")));
    }
    Ok(Described { model, file, found: taken, warnings })
}

/// The file that declares an architecture.
fn file_of(arch: &ArchDecl) -> FileId {
    arch.names.first().map_or(FileId::default(), |n| n.span.file)
}

fn declared(tree: &File) -> Vec<String> {
    let archs = tree.items.iter().filter_map(|i| match &i.kind {
        ItemKind::Arch(a) => Some(a.names.iter().map(|n| n.value.clone())),
        _ => None,
    });
    archs.flatten().collect()
}

/// The model files of a folder that declare an architecture: those that hold architectures and functions alone.
/// One that cannot be parsed counts, so that its errors are seen.
fn beside(folder: &Path, arch: &str, seen: &[PathBuf]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    paths.sort();
    paths.retain(|path| {
        if path.extension().is_none_or(|e| e != "steer") || !path.is_file() {
            return false;
        }
        if path.canonicalize().is_ok_and(|p| seen.contains(&p)) {
            return false;
        }
        let Ok(text) = files::read_text(path) else { return false };
        if !text.contains(&format!("\"{arch}\"")) {
            return false;
        }
        let (tree, diagnostics) = steer_lang::parse(FileId::default(), &text);
        let only = tree.items.iter().all(|i| matches!(i.kind, ItemKind::Arch(_) | ItemKind::Fn(_)));
        only && declared(&tree).iter().any(|a| a == arch) || (!diagnostics.is_empty() && text.contains("arch \""))
    });
    paths
}

fn several(arch: &str, files: &[PathBuf]) -> Diagnostic {
    let names: Vec<String> = files.iter().map(|f| format!("`{}`", f.display())).collect();
    Diagnostic::error(codes::UNKNOWN_ARCH, format!("several files declare {arch}: {}", names.join(", ")))
        .help("name the one that is meant with --arch")
}

fn not_taken(arch: &str, file: &Path) -> Diagnostic {
    let message = format!("`{}` declares {arch}, which is built in, and is not used", file.display());
    Diagnostic::warning(codes::UNKNOWN_ARCH, message).help("name it with --arch, or import it, where it is meant")
}
