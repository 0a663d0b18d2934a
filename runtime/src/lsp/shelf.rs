//! Texts of the binary as files, since every editor can open a file: the standard library, and the pages of diagnostics.
//!
//! They stand in the cache folder, named by what they hold, and can only be read.

use super::uri::uri_of;
use crate::checkpoint::sha256;
use crate::cli::cache;
use crate::files;
use lsp_types::Uri;
use std::path::PathBuf;
use steer_compiler::elaborate::STANDARD;
use steer_lang::codes;

/// Where they stand.
pub struct Shelf {
    folder: Option<PathBuf>,
}

impl Shelf {
    pub fn new() -> Self {
        let library = STANDARD.iter().flat_map(|(name, text)| [*name, *text]);
        let pages = codes::PAGES.iter().flat_map(|(code, text)| [code.0, *text]);
        let hash = sha256(library.chain(pages).collect::<Vec<_>>().join("\n").as_bytes());
        let short = hash.get(..16).unwrap_or_default();
        Shelf { folder: cache().map(|c| c.join(format!("reference-{short}"))) }
    }

    /// A file of the standard library by its name.
    pub fn library(&self, name: &str) -> Option<Uri> {
        let (name, text) = STANDARD.iter().find(|(n, _)| *n == name)?;
        self.file(name, text)
    }

    /// The page of a diagnostic.
    pub fn page(&self, code: &str) -> Option<Uri> {
        self.file(&format!("codes/{code}.md"), codes::page(code)?)
    }

    fn file(&self, name: &str, text: &str) -> Option<Uri> {
        let path = self.folder.as_ref()?.join(name);
        if std::fs::metadata(&path).is_ok_and(|m| m.len() == text.len() as u64) {
            return uri_of(&path);
        }
        std::fs::create_dir_all(path.parent()?).ok()?;
        files::write_atomic(&path, |out| out.write_all(text.as_bytes())).ok()?;
        if let Ok(meta) = std::fs::metadata(&path) {
            let mut permissions = meta.permissions();
            permissions.set_readonly(true);
            // A file that can be changed is still the right one.
            let _ = std::fs::set_permissions(&path, permissions);
        }
        uri_of(&path)
    }
}
