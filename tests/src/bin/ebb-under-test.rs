//! The `ebb` executable as the end-to-end tests start it. Cargo builds a package's own executables for its tests, but not
//! those of other packages; this one is the same entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebb::cli::main(std::env::args_os())
}
