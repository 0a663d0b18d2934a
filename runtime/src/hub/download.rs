//! One file into the cache: resumed, checksummed, and there when it is complete.

use super::cache::Cache;
use super::checksum::Checksum;
use super::client::{Client, Remote, TRIES, Trouble};
use super::failures;
use crate::error::Error;
use crate::progress::Bar;
use crate::{files, interrupt};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes that are moved at once.
const PIECE: usize = 1 << 18;

/// Downloads a file's content, unless it is there or another process has brought it meanwhile.
pub(super) fn blob(client: &Client, cache: &Cache, remote: &Remote, bar: &Bar) -> Result<(), Error> {
    let path = cache.blob(&remote.etag);
    if path.is_file() {
        bar.inc(remote.size);
        return Ok(());
    }
    let _lock = cache.lock(&remote.etag)?;
    if path.is_file() {
        bar.inc(remote.size);
        return Ok(());
    }
    let part = path.with_file_name(format!("{}.incomplete", remote.etag));
    let mut part = Part::open(part, remote, bar)?;
    loop {
        let resumed = part.len > 0;
        part.receive(client)?;
        if std::mem::replace(&mut part.sum, Checksum::Unknown).fits(&remote.etag) {
            break;
        }
        // What was kept of an earlier try may be what is wrong.
        part.clear()?;
        if !resumed {
            let _ = std::fs::remove_file(&part.path);
            return Err(failures::damaged(client.id(), &remote.name));
        }
    }
    let done = part.file.sync_all().and_then(|()| std::fs::rename(&part.path, &path));
    done.map_err(|e| kept(&part.path, &e))
}

/// What there is of a file.
struct Part<'p> {
    path: PathBuf,
    file: File,
    len: u64,
    sum: Checksum,
    remote: &'p Remote,
    bar: &'p Bar,
}

impl<'p> Part<'p> {
    /// With what an earlier try has left.
    fn open(path: PathBuf, remote: &'p Remote, bar: &'p Bar) -> Result<Self, Error> {
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(|e| files::failed("write", &path, &e))?;
        let mut part = Part { path, file, len: 0, sum: Checksum::of(&remote.etag, remote.size), remote, bar };
        let mut buffer = vec![0; PIECE];
        loop {
            if interrupt::requested() {
                return Err(failures::stopped());
            }
            match part.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => part.count(&buffer[..n]),
                Err(e) => return Err(files::failed("read", &part.path, &e)),
            }
        }
        if part.len > remote.size {
            part.clear()?;
        }
        Ok(part)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.sum.add(bytes);
        self.len += bytes.len() as u64;
        self.bar.inc(bytes.len() as u64);
    }

    /// Begins anew.
    fn clear(&mut self) -> Result<(), Error> {
        let empty = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        empty.map_err(|e| kept(&self.path, &e))?;
        self.bar.dec(self.len);
        self.len = 0;
        self.sum = Checksum::of(&self.remote.etag, self.remote.size);
        Ok(())
    }

    /// Gets what is missing; a connection that breaks is made again, as long as something comes.
    fn receive(&mut self, client: &Client) -> Result<(), Error> {
        let mut tries = 0;
        while self.len < self.remote.size {
            let before = self.len;
            match self.once(client) {
                Ok(()) if self.len >= self.remote.size => break,
                Err(Trouble::Lasting(e)) => return Err(e),
                ended => {
                    let what = match ended {
                        Err(Trouble::Passing(what)) => what,
                        _ => "the connection was closed too early".into(),
                    };
                    tries = if self.len > before { 1 } else { tries + 1 };
                    client.rest(tries, TRIES, &what)?;
                }
            }
        }
        Ok(())
    }

    /// What one answer brings.
    fn once(&mut self, client: &Client) -> Result<(), Trouble> {
        let answer = client.get(self.remote, self.len)?;
        match answer.status().as_u16() {
            206 if starts_at(answer.headers().get("content-range").and_then(|v| v.to_str().ok()), self.len) => {}
            // The whole file, whatever was asked for.
            200 => self.clear()?,
            _ => {
                self.clear()?;
                return Err(Trouble::Passing("it gives another part of the file than was asked for".into()));
            }
        }
        let mut body = answer.into_body().into_reader();
        let mut buffer = vec![0; PIECE];
        loop {
            if interrupt::requested() {
                return Err(failures::stopped().into());
            }
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) => return Err(Trouble::Passing(e.to_string())),
            };
            if self.len + n as u64 > self.remote.size {
                self.clear()?;
                return Err(failures::damaged(client.id(), &self.remote.name).into());
            }
            self.file.write_all(&buffer[..n]).map_err(|e| kept(&self.path, &e))?;
            self.count(&buffer[..n]);
        }
    }
}

/// Whether `bytes 7-99/100` begins at a byte. A server that does not say is believed; the checksum is not.
fn starts_at(range: Option<&str>, byte: u64) -> bool {
    range.and_then(|r| r.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok()).is_none_or(|at| at == byte)
}

/// An error of writing, after which the next try goes on.
fn kept(path: &Path, e: &std::io::Error) -> Error {
    let mut e = files::failed("write", path, e);
    let more = "what has come is kept, and HF_HOME can name a larger disk";
    e.0.help = Some(e.0.help.map_or(more.to_owned(), |h| format!("{h}; {more}")));
    e
}
