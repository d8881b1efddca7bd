//! Entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebb::cli::main(std::env::args_os())
}
