//! Pieces go to the disk while the next one is computed.

use super::journal::Journal;
use crate::error::Error;
use crate::experiment::results::Finished;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use steer_lang::codes;

/// A journal that is appended to on a thread of its own.
pub struct Writer {
    path: PathBuf,
    pieces: Option<SyncSender<Finished>>,
    thread: Option<JoinHandle<(usize, Result<(), Error>)>>,
    /// How many pieces the file holds; known in the end.
    held: Option<usize>,
}

impl Writer {
    pub fn new(mut journal: Journal) -> Self {
        let path = journal.path.clone();
        // One piece is written while another is waiting: no more of them than that take memory.
        let (pieces, given) = sync_channel::<Finished>(1);
        let write = move || {
            let written = given.iter().try_for_each(|piece| journal.append(&piece));
            (journal.pieces, written)
        };
        Writer { path, pieces: Some(pieces), thread: Some(std::thread::spawn(write)), held: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a piece in the file, when it has ended.
    pub fn holds_any(&self) -> bool {
        self.held != Some(0)
    }

    /// Takes a piece over. The error may be that of an earlier one, behind which nothing is written.
    pub fn append(&mut self, piece: Finished) -> Result<(), Error> {
        let taken = self.pieces.as_ref().is_some_and(|pieces| pieces.send(piece).is_ok());
        if taken { Ok(()) } else { self.end() }
    }

    /// Waits until all pieces are on the disk.
    pub fn end(&mut self) -> Result<(), Error> {
        drop(self.pieces.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok((held, written))) => {
                self.held = Some(held);
                written
            }
            Some(Err(_)) => Err(Error::new(codes::KEPT, "a piece cannot be kept").help("this is a bug in steer")),
            None => Ok(()),
        }
    }
}

impl Writer {
    /// Waits for nothing: what is not on the disk yet need not come there.
    pub fn leave(mut self) -> PathBuf {
        drop(self.thread.take());
        std::mem::take(&mut self.path)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whoever wants to hear of errors has called `end`.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::Header;
    use super::super::journal::held;
    use super::*;

    #[test]
    fn pieces_are_there_in_order_when_it_ends() {
        let path = std::env::temp_dir().join(format!("steer-writer-{}", std::process::id()));
        let mut writer = Writer::new(Journal::begin(&path, &Header::default()).unwrap());
        let piece = |unit| Finished { units: vec![unit], ..Finished::default() };
        (0..20).for_each(|u| writer.append(piece(u)).unwrap());
        writer.end().unwrap();
        let units: Vec<usize> = held(&path).unwrap().pieces.iter().flat_map(|p| p.units.clone()).collect();
        assert_eq!(units, (0..20).collect::<Vec<_>>());
        std::fs::remove_file(&path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error() {
        let mut writer = Writer::new(Journal::begin_full());
        let piece = Finished { units: vec![1], ..Finished::default() };
        let all = (0..3).try_for_each(|_| writer.append(piece.clone())).and_then(|()| writer.end());
        assert!(all.unwrap_err().0.message.contains("the disk is full"));
    }
}
