//! The cache folder of huggingface_hub: `models--org--name/{refs,blobs,snapshots/COMMIT}`.

use super::failures;
use crate::error::Error;
use crate::{files, interrupt};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is cached of one model.
pub(super) struct Cache {
    root: PathBuf,
    folder: PathBuf,
}

/// A model's files at one commit.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub commit: String,
    pub folder: PathBuf,
    /// Where it is noted which files the hub does not have.
    absent: PathBuf,
}

impl Snapshot {
    /// Whether the file is there, and not a link to what was removed.
    pub fn has(&self, name: &str) -> bool {
        self.folder.join(name).is_file()
    }

    /// Whether the hub is known to have no such file.
    pub fn lacks_for_good(&self, name: &str) -> bool {
        self.absent.join(name).exists()
    }
}

impl Cache {
    pub fn new(root: &Path, name: &str) -> Self {
        let own = format!("models--{}", name.replace('/', "--"));
        Cache { root: root.to_path_buf(), folder: root.join(own) }
    }

    /// What is there of a branch, a tag or a commit.
    pub fn snapshot(&self, revision: &str) -> Option<Snapshot> {
        let commit = match fs::read_to_string(self.folder.join("refs").join(revision)) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => revision.to_owned(),
        };
        let found = is_commit(&commit).then(|| self.at(&commit))?;
        found.folder.is_dir().then_some(found)
    }

    pub fn at(&self, commit: &str) -> Snapshot {
        let (folder, absent) = (self.folder.join("snapshots").join(commit), self.folder.join(".no_exist").join(commit));
        Snapshot { commit: commit.to_owned(), folder, absent }
    }

    /// The file that has this content.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Lets a branch or tag stand for a commit; a commit stands for itself.
    pub fn point(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        make_folder_of(&path)?;
        files::write_atomic(&path, |out| out.write_all(commit.as_bytes()))
    }

    /// Gives a file of a commit its content.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), Error> {
        let path = self.at(commit).folder.join(name);
        make_folder_of(&path)?;
        if path.is_file() {
            return Ok(());
        }
        // A link to what is not there any more.
        let _ = fs::remove_file(&path);
        let linked = place(&self.blob(etag), &Path::new("../../blobs").join(etag), &path);
        match linked {
            // Another process was faster.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.map_err(|e| files::failed("write", &path, &e)),
        }
    }

    /// Notes that the hub does not have a file of a commit.
    pub fn note_absent(&self, commit: &str, name: &str) -> Result<(), Error> {
        let path = self.at(commit).absent.join(name);
        make_folder_of(&path)?;
        File::options().append(true).create(true).open(&path).map(drop).map_err(|e| files::failed("write", &path, &e))
    }

    /// Waits until no other process downloads this content; others of huggingface_hub use the same lock.
    pub fn lock(&self, etag: &str) -> Result<File, Error> {
        let folder = self.folder.file_name().unwrap_or_default();
        let path = self.root.join(".locks").join(folder).join(format!("{etag}.lock"));
        make_folder_of(&path)?;
        make_folder_of(&self.blob(etag))?;
        let open = File::options().append(true).create(true).open(&path);
        let file = open.map_err(|e| files::failed("write", &path, &e))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if interrupt::requested() => return Err(failures::stopped()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(100)),
                // A file system without locks: what is downloaded twice is the same.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => return Ok(file),
                Err(TryLockError::Error(e)) => return Err(files::failed("lock", &path, &e)),
            }
        }
    }
}

/// Whether a text can stand for a commit, and for a folder's name.
pub(super) fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn make_folder_of(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder)
        .map_err(|e| files::failed("make the folder", folder, &e).help("set HF_HOME to a folder that can be written"))
}

#[cfg(unix)]
fn place(_blob: &Path, relative: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

/// Links need a privilege on some systems; there the file itself moves, as huggingface_hub does.
#[cfg(not(unix))]
fn place(blob: &Path, _relative: &Path, path: &Path) -> std::io::Result<()> {
    fs::rename(blob, path)
}
