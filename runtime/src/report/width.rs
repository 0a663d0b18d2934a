//! How wide reports are.

pub use steer_figures::text::width::{cut, of, of_char};

use std::sync::atomic::{AtomicUsize, Ordering};

static FIXED: AtomicUsize = AtomicUsize::new(0);

/// Makes reports this wide from now on, whatever the terminal.
pub fn fix(columns: usize) {
    FIXED.store(columns, Ordering::Relaxed);
}

/// Columns of the terminal on standard error, or `otherwise` where it is none. Within what can be read.
pub fn terminal(otherwise: usize) -> usize {
    let fixed = FIXED.load(Ordering::Relaxed);
    if fixed > 0 {
        return fixed;
    }
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.map_or(otherwise, |(width, _)| width.0 as usize).clamp(40, 160)
}

/// Columns and rows of the terminal on standard output, or what terminals mostly have at least.
pub fn screen() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(std::io::stdout());
    size.map_or((80, 24), |(width, height)| (width.0 as usize, height.0 as usize))
}

/// Columns that a table of text may take: those of standard output where that is a terminal, else all that it wants.
pub fn table() -> usize {
    if FIXED.load(Ordering::Relaxed) > 0 {
        return usize::MAX;
    }
    terminal_size::terminal_size_of(std::io::stdout()).map_or(usize::MAX, |(width, _)| width.0 as usize)
}
