//! A model's files, opened; a session that follows another finds them as it left them.

use super::settings::Setting;
use crate::checkpoint::{Checkpoint, Found};
use crate::error::Error;
use crate::files;
use crate::tokens::Tokens;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use steer_lang::Diagnostics;

/// A model with its tokenizer, if it has one.
#[derive(Clone)]
pub struct Opened {
    pub checkpoint: Arc<Checkpoint>,
    pub tokens: Option<Rc<Tokens>>,
}

/// Opens a model under some settings. `keep`: it is the one that the last session of this thread has left open, where its
/// files and the settings are the same. `place` gives an error its place.
pub fn open(
    location: &Found,
    settings: &[Setting],
    keep: bool,
    place: impl Fn(Error) -> Diagnostics,
) -> Result<Opened, Diagnostics> {
    type Last = Option<(files::Stamp, String, Opened)>;
    thread_local! {
        static LAST: RefCell<Last> = const { RefCell::new(None) };
    }
    let open = || -> Result<Opened, Diagnostics> {
        let mut checkpoint = location.open().map_err(&place)?;
        settings.iter().for_each(|s| checkpoint.configure(&s.key.name, s.value.clone()));
        let tokens = Tokens::open(&location.path).map_err(|e| vec![*e.0])?.map(Rc::new);
        Ok(Opened { checkpoint: Arc::new(checkpoint), tokens })
    };
    if !keep {
        return open();
    }
    let set = settings.iter().map(|s| format!("{} {}\n", s.key.name, s.value)).collect::<String>();
    let stamp = files::stamp(&location.path);
    let same = |last: &Last| last.as_ref().filter(|l| l.0 == stamp && l.1 == set).map(|l| l.2.clone());
    if let Some(opened) = LAST.with_borrow(same) {
        return Ok(opened);
    }
    let opened = open()?;
    LAST.set(Some((stamp, set, opened.clone())));
    Ok(opened)
}
