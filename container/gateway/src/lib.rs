//! The gateway of one session: an unprivileged WireGuard endpoint that ends every flow in user space and carries it on over
//! ordinary sockets.
//!
//! It needs no capability, no TUN device, no writable file and no home. What it is told comes in one boot file and then
//! through the tunnel itself, from the daemon; `ebb-wire` is that contract.

mod args;
mod clock;
mod confine;
mod health;
mod log;
mod plane;
mod probe;
mod resolv;
mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Command, Target};

pub use probe::Machine;
pub use resolv::host_resolvers;

/// Runs the gateway's command line, without the program's own name. The stand-alone binary is this and nothing else; `ebb`
/// offers it as a hidden subcommand, so that one executable can do both.
///
/// Exit codes: 0 when the work is done (SIGTERM, SIGINT, or the end of the lease; for `health`: alive), 1 when it failed, 2
/// when the command line cannot be understood.
#[must_use]
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Command::parse(arguments, |name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(error) => {
            tell(&mut std::io::stderr(), &format!("error: {error}\n\n{}", args::USAGE));
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Run(options) => run::run(&options),
        Command::Health(target) => health::ask(&target).map_err(run::Failure::Health),
        Command::Help => {
            tell(&mut std::io::stdout(), args::USAGE);
            Ok(())
        }
        Command::Version => {
            tell(&mut std::io::stdout(), concat!("ebb-gateway ", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&mut std::io::stderr(), &format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether the gateway on this UDP port of this machine answers.
#[must_use]
pub fn is_alive(port: u16) -> bool {
    health::ask(&Target::Port(port)).is_ok()
}

/// Writes a line; when nobody reads, there is nobody to be told about that.
fn tell(to: &mut impl std::io::Write, text: &str) {
    let _ = writeln!(to, "{text}");
    let _ = to.flush();
}
