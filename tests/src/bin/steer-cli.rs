//! The command line, as this package's tests call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    steer::cli::main()
}
