//! The `steer` command.

fn main() -> std::process::ExitCode {
    steer::cli::main()
}
