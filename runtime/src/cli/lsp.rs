//! `steer lsp`

use super::{Failure, ModelArgs};
use crate::experiment::SessionOptions;
use crate::hub::Hub;
use crate::lsp::{self, End};
use clap::Args;

#[derive(Args, Clone, Debug)]
pub struct LspArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// What some editors say; it is always standard input and output
    #[arg(long, hide = true)]
    pub stdio: bool,
}

/// Serves an editor on standard input and output.
pub fn run(args: &LspArgs) -> Result<(), Failure> {
    let mut hub = Hub::from_env();
    hub.offline.get_or_insert_with(|| lsp::OFFLINE.into());
    let options = SessionOptions { hub, ..super::session_options(&args.model, &[]) };
    match lsp::serve(options) {
        End::Agreed => Ok(()),
        // The client is gone: nobody is there to be told.
        End::Sudden => Err(Failure::default()),
    }
}
