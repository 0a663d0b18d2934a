//! Progress bars, on a terminal's standard error and only for what takes longer than a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Work shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// The progress of one stretch of work; vanishes when dropped.
pub struct Bar {
    bar: ProgressBar,
    started: Instant,
    shown: bool,
    visible: bool,
}

impl Bar {
    /// `total` steps of what `label` names; 0 where the number is not known.
    pub fn new(label: &str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template = match total {
            0 => "{spinner} {msg} {pos} [{elapsed}]",
            _ => "{msg} [{bar:30}] {pos}/{len} [{elapsed}, {eta} left]",
        };
        // The templates are fixed; were one wrong, the default style does.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(label.to_string());
        Bar { bar, started: Instant::now(), shown: false, visible: std::io::stderr().is_terminal() }
    }

    /// `n` more steps are done.
    pub fn inc(&mut self, n: u64) {
        if self.visible && !self.shown && self.started.elapsed() >= PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        self.bar.inc(n);
    }

    /// Runs `f`, which prints, with the bar out of the way.
    pub fn suspend<T>(&self, f: impl FnOnce() -> T) -> T {
        self.bar.suspend(f)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
