//! Standard output that takes being closed early, as by `| head`, for an end and not for an error.

use crate::error::Error;
use crate::{files, progress};
use std::io::{ErrorKind, Write};
use std::path::Path;

/// Writes to standard output at once. Where nobody reads it any more, the process ends quietly.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => {
            progress::clear();
            std::process::exit(0)
        }
        Err(e) => Err(files::failed("write to", Path::new("standard output"), &e)),
    }
}
