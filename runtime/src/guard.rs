//! Libraries that panic on damaged input, turned into errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`; a panic in it prints nothing and comes back as its message.
///
/// Only for calls into other libraries: a panic of our own is a bug and must stay one.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    silence_quiet_threads();
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(before);
    result.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|s| s.to_string());
        text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_string())
    })
}

/// Puts a hook in front of the present one that says nothing on a thread inside of [`caught`].
fn silence_quiet_threads() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let inner = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                inner(info);
            }
        }));
    });
}

/// Installs the hook for panics outside of [`caught`], in front of which stands the silence.
pub(crate) fn set_panic_hook(hook: impl Fn(&std::panic::PanicHookInfo<'_>) + Send + Sync + 'static) {
    silence_quiet_threads();
    set_hook(Box::new(move |info| {
        if !QUIET.get() {
            hook(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_comes_back_as_its_message() {
        assert_eq!(super::caught(|| 1 + 1), Ok(2));
        let empty: Vec<u32> = Vec::new();
        assert_eq!(super::caught(|| *empty.first().expect("no number")), Err("no number".to_string()));
    }
}
