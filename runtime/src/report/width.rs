//! How wide reports are.

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

/// The beginning of a line, as much as these columns hold.
pub fn cut(line: &str, columns: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += steer_figures::text::width::of_char(*c);
        used <= columns
    };
    line.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_fits() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc");
        assert_eq!(cut("a你好", 4), "a你");
        assert_eq!(cut("abc", 0), "");
    }
}
