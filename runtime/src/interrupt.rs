//! Ctrl-C: the first one asks the work to stop and keep what is finished, the second ends the process.

use crate::error::Error;
use crate::{files, progress};
use std::sync::atomic::{AtomicBool, Ordering};
use steer_lang::codes;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The exit code of a process that ctrl-C ended.
pub const EXIT: i32 = 130;

/// Whether ctrl-C was pressed. Long work asks between steps.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Whether it was pressed, which is forgotten: a session at the prompt goes on after it.
pub fn take() -> bool {
    REQUESTED.swap(false, Ordering::Relaxed)
}

/// An error once ctrl-C was pressed, for `interrupt::check()?` between steps.
pub fn check() -> Result<(), Error> {
    match requested() {
        true => Err(Error::new(codes::STOPPED, "stopped by ctrl-C").help("what was finished before is kept")),
        false => Ok(()),
    }
}

/// Listens for ctrl-C from now on. Where the system refuses, ctrl-C simply ends the process. A file that becomes larger
/// than files may be is an error of who writes it, and no signal.
pub fn install() {
    #[cfg(unix)]
    // SAFETY: it is ignored from now on, and no handler runs.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            files::abandon();
            progress::clear();
            std::process::exit(EXIT);
        }
    });
}
