//! A file that finished pieces are appended to: whatever ends the process, what was appended stays readable.
//!
//! A line that says what it is, then frames: the length of the content, its CRC-32, the content. The first frame
//! is the [`Header`], each further one a [`Finished`]. A frame that is cut off at the end of the file is one that
//! was being written when the process ended.

use super::header::Header;
use crate::error::Error;
use crate::experiment::results::Finished;
use crate::files::{failed, is_passage, read};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use steer_lang::codes;

const MAGIC: &[u8] = b"steer results 2\n";

/// What a file holds.
#[derive(Debug)]
pub struct Held {
    pub header: Header,
    pub pieces: Vec<Finished>,
    /// How long the file is up to the end of its last whole frame.
    end: u64,
}

/// A file that is being appended to.
pub struct Journal {
    pub path: PathBuf,
    file: File,
    /// How long the file is up to the end of its last whole frame.
    end: u64,
    /// How many pieces are in it.
    pub pieces: usize,
}

/// Reads what is there.
pub fn held(path: &Path) -> Result<Held, Error> {
    let bytes = read(path)?;
    let damaged = |what: &str| {
        let message = format!("`{}` {what}", path.display());
        Error::new(codes::KEPT, message).help("remove it, and compute what was in it anew")
    };
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        return Err(damaged("is no file of finished cells, or is one of another version of steer"));
    };
    let (mut header, mut pieces) = (None, Vec::new());
    while let Some((content, after)) = frame(rest) {
        let content = content.ok_or_else(|| damaged("is damaged: a part of it is not what was written"))?;
        if header.is_none() {
            header = Some(parsed::<Header>(content).ok_or_else(|| damaged("is damaged: its head cannot be read"))?);
        } else {
            pieces.push(parsed::<Finished>(content).ok_or_else(|| damaged("is damaged: a piece cannot be read"))?);
        }
        rest = after;
    }
    let header = header.ok_or_else(|| damaged("holds nothing: it was cut off when it was begun"))?;
    Ok(Held { header, pieces, end: (bytes.len() - rest.len()) as u64 })
}

/// The head of a file, without what else it holds; none where there is no sound one.
pub fn begun(path: &Path) -> Option<Header> {
    let mut head = [0; MAGIC.len() + 12];
    let mut file = File::open(path).ok()?;
    file.read_exact(&mut head).ok()?;
    let frame = head.strip_prefix(MAGIC)?;
    let length = u64::from_le_bytes(*frame.first_chunk::<8>()?);
    let mut bytes = frame.to_vec();
    file.take(length).read_to_end(&mut bytes).ok()?;
    parsed(self::frame(&bytes)?.0?)
}

/// Whether a file was cut off when it was begun, so that nothing is lost with it.
pub fn is_blank(path: &Path) -> bool {
    let short = path.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAGIC.len() as u64);
    short && read(path).is_ok_and(|bytes| bytes.is_empty() || bytes == MAGIC)
}

/// The content of the first frame, if it is sound, and what follows; none where it is not complete.
fn frame(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    let (content, rest) = rest.split_at_checked(len)?;
    let sound = crc32fast::hash(content) == u32::from_le_bytes(*crc);
    Some((sound.then_some(content), rest))
}

fn parsed<T: DeserializeOwned>(content: &[u8]) -> Option<T> {
    postcard::from_bytes(content).ok()
}

impl Journal {
    /// A new file in the place of any old one. Where its head cannot be written there is none.
    pub fn begin(path: &Path, header: &Header) -> Result<Self, Error> {
        let file = File::create(path).map_err(|e| failed("write", path, &e))?;
        let mut journal = Journal { path: path.to_path_buf(), file, end: 0, pieces: 0 };
        journal.put(MAGIC).and_then(|()| journal.frame(header)).inspect_err(|_| journal.remove())?;
        Ok(journal)
    }

    /// A journal on a device that is always full.
    #[cfg(all(test, target_os = "linux"))]
    pub fn begin_full() -> Self {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).expect("a device of every Linux");
        Journal { path, file, end: 0, pieces: 0 }
    }

    /// Goes on behind what is held.
    pub fn go_on(path: &Path, held: &Held) -> Result<Self, Error> {
        let open = || -> std::io::Result<File> {
            let mut file = File::options().write(true).open(path)?;
            file.set_len(held.end)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|e| failed("write", path, &e))?;
        Ok(Journal { path: path.to_path_buf(), file, end: held.end, pieces: held.pieces.len() })
    }

    /// Appends a piece; when this returns it is on the disk.
    pub fn append(&mut self, piece: &Finished) -> Result<(), Error> {
        self.frame(piece).inspect_err(|_| self.cut())?;
        self.pieces += 1;
        Ok(())
    }

    /// Takes back what of a piece could be written; a file that then holds none goes away.
    fn cut(&mut self) {
        if self.pieces == 0 {
            self.remove();
        } else if self.file.set_len(self.end).is_ok() {
            let _ = self.file.seek(SeekFrom::End(0));
        }
    }

    /// Removes the file, unless it is a device or a pipe.
    fn remove(&self) {
        if !is_passage(&self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn frame<T: Serialize>(&mut self, content: &T) -> Result<(), Error> {
        let unwritable = |_| Error::new(codes::KEPT, "a piece cannot be kept").help("this is a bug in steer");
        // The content behind room for what is said of it.
        let mut frame = postcard::to_extend(content, vec![0; 12]).map_err(unwritable)?;
        let (head, content) = frame.split_at_mut(12);
        head[..8].copy_from_slice(&(content.len() as u64).to_le_bytes());
        head[8..].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        self.put(&frame)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let done = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        done.map_err(|e| failed("write", &self.path, &e))?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("steer-journal-{}-{name}", std::process::id()))
    }

    fn piece(unit: usize) -> Finished {
        Finished { units: vec![unit], ..Finished::default() }
    }

    #[test]
    fn what_was_cut_off_is_dropped_and_written_over() {
        let path = file("cut");
        let header = Header { units: 3, ..Header::default() };
        let mut journal = Journal::begin(&path, &header).unwrap();
        (0..2).for_each(|u| journal.append(&piece(u)).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        let whole = held(&path).unwrap();
        assert_eq!((&whole.header, whole.pieces.len()), (&header, 2));
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert_eq!(is_blank(&path), cut == 0 || cut == MAGIC.len());
        }
        for cut in MAGIC.len()..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let Ok(left) = held(&path) else { continue };
            assert!(left.pieces.len() < 2);
            Journal::go_on(&path, &left).unwrap().append(&piece(7)).unwrap();
            assert_eq!(held(&path).unwrap().pieces.last(), Some(&piece(7)));
        }
        std::fs::remove_file(&path).unwrap();
    }

    /// A file that is open for reading alone stands for a disk that takes nothing more.
    #[test]
    fn what_cannot_be_written_leaves_whole_pieces_or_no_file() {
        let path = file("full");
        let mut journal = Journal::begin(&path, &Header::default()).unwrap();
        let (begun, full) = (std::fs::metadata(&path).unwrap().len(), || File::open(&path).unwrap());
        let working = std::mem::replace(&mut journal.file, full());
        assert!(journal.append(&piece(1)).is_err());
        assert!(!path.exists(), "it held nothing");
        drop((journal, working));
        let mut journal = Journal::begin(&path, &Header::default()).unwrap();
        journal.append(&piece(1)).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        assert!(begun < whole);
        // A half of a frame came to the disk.
        journal.file.write_all(&[1; 20]).unwrap();
        journal.cut();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        journal.append(&piece(2)).unwrap();
        assert_eq!(held(&path).unwrap().pieces, [piece(1), piece(2)]);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn damage_is_found() {
        let path = file("damage");
        let mut journal = Journal::begin(&path, &Header::default()).unwrap();
        journal.append(&piece(1)).unwrap();
        journal.append(&piece(2)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x55;
            std::fs::write(&path, &bad).unwrap();
            // A length that became larger looks like a frame that was cut off.
            if let Ok(held) = held(&path) {
                assert!(held.pieces.len() < 2, "byte {at}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
