//! Entry point of the stand-alone gateway, as it runs in a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebb_gateway::main_with(std::env::args_os().skip(1))
}
