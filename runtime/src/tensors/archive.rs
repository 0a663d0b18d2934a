//! Zip archives, as torch.save and numpy.savez write them: where each entry is.

use crate::error::Error;
use crate::guard;
use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;
use steer_lang::codes;
use zip::{CompressionMethod, ZipArchive};

/// The entries of an archive, whose bytes are those of a memory map as a rule.
pub struct Archive<'a> {
    file: &'a [u8],
    path: &'a Path,
    pub entries: Vec<Entry>,
}

/// One file of an archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    /// Where its bytes are in the archive.
    pub bytes: Range<usize>,
    /// How long it is when it is not compressed.
    pub size: usize,
    pub compressed: bool,
}

impl<'a> Archive<'a> {
    /// Whether a file begins as an archive does.
    pub fn is_one(file: &[u8]) -> bool {
        file.starts_with(b"PK")
    }

    /// Reads the list of entries; `path` is named in errors.
    pub fn open(file: &'a [u8], path: &'a Path) -> Result<Self, Error> {
        let damaged = |what: String| {
            let message = format!("`{}` is not a sound zip archive: {what}", path.display());
            Error::new(codes::BAD_WEIGHTS, message).help("copy or download it again")
        };
        // The reader trusts some of what it reads.
        let opened = guard::caught(|| ZipArchive::new(Cursor::new(file)).map_err(|e| e.to_string()));
        let mut zip = opened.and_then(|zip| zip).map_err(damaged)?;
        let mut entries = Vec::new();
        for i in 0..zip.len() {
            let entry = zip.by_index_raw(i).map_err(|e| damaged(e.to_string()))?;
            let name = entry.name().map_err(|e| damaged(e.to_string()))?.into_owned();
            let compressed = match entry.compression() {
                _ if entry.encrypted() => return Err(damaged(format!("its entry `{name}` is encrypted"))),
                CompressionMethod::Stored => false,
                CompressionMethod::DEFLATE => true,
                other => return Err(damaged(format!("its entry `{name}` is compressed by {other}"))),
            };
            let bytes = entry.data_start().and_then(|from| {
                let to = from.checked_add(entry.compressed_size())?;
                Some(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
            });
            let bytes =
                bytes.filter(|b| b.end <= file.len()).ok_or_else(|| damaged(format!("`{name}` lies outside")))?;
            let size = usize::try_from(entry.size()).ok().filter(|n| compressed || *n == bytes.len());
            let size = size.ok_or_else(|| damaged(format!("`{name}` has two lengths")))?;
            entries.push(Entry { name, bytes, size, compressed });
        }
        Ok(Archive { file, path, entries })
    }

    /// The bytes of an entry.
    pub fn read(&self, entry: &Entry) -> Result<Cow<'a, [u8]>, Error> {
        let raw = &self.file[entry.bytes.clone()];
        if !entry.compressed {
            return Ok(Cow::Borrowed(raw));
        }
        let damaged = |what: &str| {
            let message = format!("`{}` of `{}` {what}", entry.name, self.path.display());
            Error::new(codes::BAD_WEIGHTS, message).help("copy or download it again")
        };
        // It grows as it is read, so that a size that is not true takes no memory.
        let mut out = Vec::new();
        let read = flate2::read::DeflateDecoder::new(raw).take(entry.size as u64 + 1).read_to_end(&mut out);
        match read {
            Ok(n) if n == entry.size => Ok(Cow::Owned(out)),
            Ok(_) => Err(damaged("is not as long as the archive says")),
            Err(_) => Err(damaged("cannot be unpacked")),
        }
    }
}
