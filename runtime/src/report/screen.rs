//! What the terminal shows.

use super::width;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use steer_figures::{Color, Terminal};
use steer_lang::Shade;

/// Whether the command line says `--no-color`.
static PLAIN: AtomicBool = AtomicBool::new(false);

/// From now on nothing has colours.
pub fn without_color() {
    PLAIN.store(true, Ordering::Relaxed);
}

/// The colours that an output can show and the user wants.
fn color(terminal: bool) -> Color {
    match PLAIN.load(Ordering::Relaxed) {
        true => Color::None,
        false => Color::of(terminal, |name| std::env::var(name).ok()),
    }
}

/// Whether standard error takes colours and the user wants them.
pub fn errors_in_color() -> bool {
    color(std::io::stderr().is_terminal()) != Color::None
}

/// The codes of a terminal for a piece of a script.
pub fn shade_codes(shade: Shade) -> &'static str {
    match shade {
        Shade::Keyword => "35",
        Shade::Call => "34",
        Shade::Number => "33",
        Shade::Text => "32",
        Shade::Comment => "2",
    }
}

/// Standard output as plots see it.
pub fn screen() -> Terminal {
    Terminal { columns: width::terminal(100), color: color(std::io::stdout().is_terminal()) }
}
