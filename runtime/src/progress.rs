//! Progress bars, on a terminal's standard error and only for what takes longer than a second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Work shorter than this shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the clock of a bar moves while its work does not.
const TICK: Duration = Duration::from_millis(200);

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Steps, of which there may be fewer in the end.
    Steps(u64),
    Bytes(u64),
    /// Shares of a cost that says nothing to a person.
    Share(u64),
    /// Nobody knows how much there is to do.
    Unknown,
}

/// The progress of one stretch of work; vanishes when dropped. Threads may share it.
pub struct Bar {
    bar: ProgressBar,
    end: Arc<(Mutex<bool>, Condvar)>,
}

/// The bar that stands on the terminal, for whoever ends the process at once.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

impl Bar {
    /// Work that `label` names.
    pub fn new(label: &str, unit: Unit) -> Self {
        Self::on(std::io::stderr().is_terminal(), label, unit)
    }

    /// A bar that is never seen, where something else shows how the work goes.
    pub fn hidden() -> Self {
        Self::on(false, "", Unit::Unknown)
    }

    fn on(visible: bool, label: &str, unit: Unit) -> Self {
        let (total, template) = match unit {
            Unit::Steps(n) => (Some(n), "{msg} [{bar:20}] {pos}/{len} [{elapsed}{left}]"),
            Unit::Bytes(n) => (Some(n), "{msg} [{bar:20}] {decimal_bytes}/{decimal_total_bytes} [{elapsed}{left}]"),
            Unit::Share(n) => (Some(n.max(1)), "{msg} [{bar:20}] {percent}% [{elapsed}{left}]"),
            Unit::Unknown => (None, "{msg} {spinner} [{elapsed}]"),
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        // The templates are fixed; were one wrong, the default style does.
        if let Ok(style) = ProgressStyle::with_template(template) {
            let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&left(state.pos(), state.len().unwrap_or(0), state.eta()));
            };
            bar.set_style(style.progress_chars("=> ").with_key("left", left));
        }
        bar.set_message(label.to_string());
        let end = Arc::new((Mutex::new(false), Condvar::new()));
        if visible {
            let (bar, end) = (bar.clone(), Arc::clone(&end));
            // Without a thread there is no bar, and the work is done all the same.
            let _ = std::thread::Builder::new().name("progress".into()).spawn(move || show(&bar, &end));
        }
        Bar { bar, end }
    }

    /// Says what it is for from now on.
    pub fn label(&self, label: String) {
        self.bar.set_message(label);
    }

    /// `n` more are done.
    pub fn inc(&self, n: u64) {
        self.bar.inc(n);
    }

    /// `n` have to be done again.
    pub fn dec(&self, n: u64) {
        self.bar.dec(n);
    }

    /// So many are done in all.
    pub fn set(&self, n: u64) {
        self.bar.set_position(n);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let (ended, changed) = &*self.end;
        // Held until the bar is gone, so that it is not drawn again.
        let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended = true;
        changed.notify_all();
        self.bar.finish_and_clear();
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Draws a bar once the work has taken a second, and moves its clock until it ends.
fn show(bar: &ProgressBar, end: &(Mutex<bool>, Condvar)) {
    let (ended, changed) = end;
    let mut wait = PATIENCE;
    loop {
        let guard = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, wait, |ended| !*ended);
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *guard {
            return;
        }
        // Work inside of this one has a bar of its own.
        if bar.is_finished() {
            return;
        }
        if wait == PATIENCE {
            if let Some(outer) = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).replace(bar.clone()) {
                outer.finish_and_clear();
            }
            bar.set_draw_target(ProgressDrawTarget::stderr());
            wait = TICK;
        }
        bar.tick();
    }
}

/// Takes the bar off the terminal, before the process ends at once.
pub fn clear() {
    if let Some(bar) = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take() {
        bar.finish_and_clear();
    }
}

/// What stands behind the time that has passed: nothing, as long as there is nothing to judge by.
fn left(done: u64, total: u64, eta: Duration) -> String {
    let seconds = eta.as_secs();
    match (done, seconds) {
        (0, _) => String::new(),
        _ if done >= total => String::new(),
        (_, 0..60) => format!(", about {}s left", seconds.max(1)),
        (_, 60..5940) => format!(", about {} min left", (seconds + 30) / 60),
        _ => format!(", about {} h left", (seconds + 1800) / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_given_only_where_there_is_something_to_judge_by() {
        let after = |done, seconds| left(done, 10, Duration::from_secs(seconds));
        assert_eq!(after(0, 0), "");
        assert_eq!(after(10, 0), "");
        assert_eq!(after(5, 0), ", about 1s left");
        assert_eq!(after(5, 59), ", about 59s left");
        assert_eq!(after(5, 100), ", about 2 min left");
        assert_eq!(after(5, 7000), ", about 2 h left");
    }

    #[test]
    fn short_work_shows_nothing_and_ends_at_once() {
        let clock = std::time::Instant::now();
        let bar = Bar::on(true, "work", Unit::Steps(3));
        bar.inc(3);
        drop(bar);
        assert!(clock.elapsed() < PATIENCE && SHOWN.lock().unwrap().is_none());
    }
}
