//! Reading, mapping and writing files, with errors that say which file and what to do.

use crate::error::Error;
use memmap2::Mmap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use steer_lang::codes;

/// An error of the operating system about a file: `doing` completes "cannot ...".
pub fn failed(doing: &str, path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind::*;
    let (what, help) = match error.kind() {
        NotFound => {
            ("there is no such file".to_string(), Some("check the path; a relative one begins at the script's folder"))
        }
        PermissionDenied => ("permission denied".to_string(), Some("check who may read and write it")),
        IsADirectory => ("it is a folder".to_string(), Some("name a file inside of it")),
        NotADirectory => ("a part of the path is not a folder".to_string(), None),
        StorageFull => ("the disk is full".to_string(), Some("free some space and run it again")),
        QuotaExceeded => ("your share of the disk is used up".to_string(), Some("free some space and run it again")),
        FileTooLarge => {
            ("it would be larger than files may be here".to_string(), Some("raise the limit, see `ulimit -f`"))
        }
        OutOfMemory => ("there is not enough memory".to_string(), Some("lift the limit, see `ulimit -v`")),
        _ => (error.to_string(), None),
    };
    // Mapping a file takes address space, which may be limited.
    let code = if error.kind() == OutOfMemory { codes::MEMORY } else { codes::FILE };
    let e = Error::new(code, format!("cannot {doing} `{}`: {what}", path.display()));
    match help {
        Some(text) => e.help(text),
        None => e,
    }
}

/// All bytes of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    refuse_folder(path)?;
    let read = || {
        let file = File::open(path)?;
        if file.metadata()?.is_file() {
            return std::fs::read(path);
        }
        // A device may never end.
        let mut out = Vec::new();
        file.take(PASSED + 1).read_to_end(&mut out)?;
        Ok(out)
    };
    let bytes = read().map_err(|e| failed("read", path, &e))?;
    if bytes.len() as u64 > PASSED && !path.is_file() {
        let message = format!("`{}` is no file, and gives more than {} MiB", path.display(), PASSED >> 20);
        return Err(Error::new(codes::FILE, message).help("name a file"));
    }
    Ok(bytes)
}

/// What is read at most of a pipe or a device.
const PASSED: u64 = 64 << 20;

/// A file as UTF-8 text.
pub fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read(path)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::new(codes::FILE, format!("`{}` is not UTF-8 text: byte {at} begins no character", path.display()))
            .help("save it as UTF-8")
    })
}

/// A file mapped into memory; an empty one is `None`, because it cannot be mapped.
pub fn map(path: &Path) -> Result<Option<Mmap>, Error> {
    refuse_folder(path)?;
    let file = File::open(path).map_err(|e| failed("open", path, &e))?;
    let len = file.metadata().map_err(|e| failed("read", path, &e))?.len();
    if len == 0 {
        return Ok(None);
    }
    // SAFETY: the mapping is read-only and private to this process. As with every mapped weight file,
    // another process that shortens the file while it is in use ends this one; nothing here can rule
    // that out.
    let map = unsafe { Mmap::map(&file) };
    map.map(Some).map_err(|e| failed("map", path, &e))
}

/// The state of a file, or of the files in a folder: what would differ if something else had been written there.
pub type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// The state of a file or folder as it is now.
pub fn stamp(path: &Path) -> Stamp {
    let one = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok();
        (path, meta.as_ref().and_then(|m| m.modified().ok()), meta.map_or(0, |m| m.len()))
    };
    let mut all: Stamp = std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| one(e.path())).collect();
    all.push(one(path.to_path_buf()));
    all.sort();
    all
}

/// Opening a folder succeeds on some systems and only reading it fails: say it at once.
fn refuse_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(failed("read", path, &std::io::ErrorKind::IsADirectory.into()));
    }
    Ok(())
}

/// Writes a file completely or not at all: `write` fills a temporary file in the same folder, which
/// then takes the place of `path`. What is no file (a pipe, a device) is written as it comes.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Error> {
    check_target(path)?;
    if is_passage(path) {
        return pass_on(path, write).map_err(|e| failed("write to", path, &e));
    }
    let target = resolve_link(path);
    let temporary = temporary_beside(&target);
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).push(temporary.clone());
    let result = (|| {
        let file = File::options().write(true).create_new(true).open(&temporary)?;
        if let Ok(old) = std::fs::metadata(&target) {
            file.set_permissions(old.permissions())?;
        }
        let mut out = BufWriter::with_capacity(1 << 18, file);
        write(&mut out)?;
        out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        std::fs::rename(&temporary, &target)
    })();
    if result.is_err() {
        // The temporary file may not exist; the first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|p| *p != temporary);
    result.map_err(|e| {
        let mut e = failed("write", path, &e);
        let kept = if target.exists() { "the file is as it was before" } else { "nothing was left half-written" };
        e.0.help = Some(e.0.help.map_or(kept.to_string(), |h| format!("{h}; {kept}")));
        e
    })
}

/// Temporary files that are being written.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what is half-written, before the process ends at once.
pub fn abandon() {
    for path in UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = std::fs::remove_file(path);
    }
}

/// Whether `path` can be written, as far as that can be known beforehand: long work asks before it begins.
pub fn check_target(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Err(failed("write", path, &std::io::ErrorKind::IsADirectory.into()));
    }
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty() && !f.exists()) {
        let message = format!("cannot write `{}`: there is no folder `{}`", path.display(), folder.display());
        return Err(Error::new(codes::FILE, message).help("make the folder first, or name another place"));
    }
    if is_passage(path) {
        return Ok(());
    }
    let target = resolve_link(path);
    // Renaming would replace a file that its owner has made read-only.
    if target.exists() {
        File::options().write(true).open(&target).map_err(|e| failed("write", path, &e))?;
    }
    let trial = temporary_beside(&target);
    let made = File::options().write(true).create_new(true).open(&trial);
    let _ = std::fs::remove_file(&trial);
    made.map(drop).map_err(|e| failed("write", path, &e))
}

/// Whether what is written to `path` goes on to somebody else, so that nothing can take its place.
pub fn is_passage(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc") || std::fs::metadata(path).is_ok_and(|m| !m.is_file())
}

fn pass_on(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
    // Appending, because `/dev/stdout` may be a file that already has something in it.
    let mut out = BufWriter::with_capacity(1 << 18, File::options().append(true).open(path)?);
    write(&mut out)?;
    out.into_inner().map_err(|e| e.into_error()).map(drop)
}

/// Where a symbolic link leads, so that writing in place keeps the link.
fn resolve_link(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn temporary_beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    // Short, whatever the file's own name: the system limits its length.
    path.with_file_name(format!(".steer-{}-{n}.part", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("steer-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.txt");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let e = write_atomic(&path, |w| {
            w.write_all(b"half of the new one")?;
            Err(std::io::ErrorKind::StorageFull.into())
        });
        let e = e.unwrap_err().0;
        assert!(e.message.contains("the disk is full"), "{e:?}");
        assert!(e.help.is_some_and(|h| h.contains("run it again; the file is as it was before")));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        assert!(read(&folder).unwrap_err().to_string().contains("it is a folder"));
        #[cfg(unix)]
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("gives more than 64 MiB"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
