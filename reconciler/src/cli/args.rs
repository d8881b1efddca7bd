//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use ebb_desired_state::SessionName;

use super::target::Target;

/// On-demand WireGuard sessions, declared in one YAML file and torn down when nobody uses them.
#[derive(Debug, Parser)]
#[command(name = "ebb", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) daemon: Daemon,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong command line or document, 3 `plan` found something to do";

/// Where the daemon is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Daemon {
    /// Directory of the daemon's state, with the key for its API.
    #[arg(long, global = true, env = "EBB_STATE", default_value = ".ebb", value_name = "DIR")]
    pub(super) state: PathBuf,
    /// Address of the daemon's HTTP side.
    #[arg(long, global = true, env = "EBB_API", default_value = "127.0.0.1:9180", value_name = "ADDR")]
    pub(super) api: SocketAddr,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon.
    Run(Run),
    /// Check documents without a daemon.
    Validate {
        /// Files to check.
        #[arg(default_value = DOCUMENT, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the document.
    Schema,
    /// Show what the next pass would do, now or under another document.
    Plan {
        /// A document to try instead of the one in force.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The document to plan for when no daemon runs.
        #[arg(long, env = "EBB_DOCUMENT", default_value = DOCUMENT, value_name = "FILE")]
        document: PathBuf,
    },
    /// Say why a session is where it is.
    Explain {
        /// Which session.
        session: SessionName,
    },
    /// List sessions and their users.
    Status {
        /// Keep showing, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Start a parked session.
    Start {
        /// Which session.
        session: SessionName,
        /// Wait until it is usable.
        #[arg(long)]
        wait: bool,
    },
    /// Let a session rest until it is started again.
    Stop {
        /// Which session.
        session: SessionName,
        /// Wait until its gateway is gone.
        #[arg(long)]
        wait: bool,
    },
    /// Approve that a revision of the document tears down more sessions at once than `limits.maxTeardownsPerPass`.
    Approve {
        /// The revision in force, as `ebb plan` shows it.
        revision: String,
    },
    /// Print a user's WireGuard configuration. It holds the user's private key.
    Config {
        /// Whose, and for which session.
        #[arg(value_name = "USER@SESSION")]
        target: Target,
        /// As a QR code for phones, in the terminal.
        #[arg(long)]
        qr: bool,
        /// MTU of the client's interface, 1280 to 1500.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1280..=1500))]
        mtu: Option<u16>,
    },
    /// Use a session without root: a proxy on this machine whose traffic goes through the tunnel.
    Connect(Connect),
    /// Show the history, newest first.
    Events {
        /// Only of this session.
        #[arg(long)]
        session: Option<SessionName>,
        /// Only of this type, for example `vpn.auto.shutdown`.
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Make a WireGuard key pair.
    Keygen,
}

const DOCUMENT: &str = "desired-state/desired-state.yaml";

/// Options of `ebb run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The desired-state document.
    #[arg(long, env = "EBB_DOCUMENT", default_value = DOCUMENT, value_name = "FILE")]
    pub(super) document: PathBuf,
    /// Name or address under which clients reach this machine.
    #[arg(long, env = "EBB_ADVERTISE", default_value = "127.0.0.1", value_name = "HOST")]
    pub(super) advertise: String,
    /// Seconds after which a gateway that hears neither from the daemon nor from users ends itself.
    #[arg(long, env = "EBB_LEASE_SECONDS", default_value_t = 900, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(60..=86_400))]
    pub(super) lease: u64,
    /// A gateway program to use instead of this one.
    #[arg(long, env = "EBB_GATEWAY", value_name = "PROGRAM")]
    pub(super) gateway: Option<PathBuf>,
}

/// Options of `ebb connect`.
#[derive(Debug, clap::Args)]
pub(super) struct Connect {
    /// As whom, and to which session.
    #[arg(value_name = "USER@SESSION")]
    pub(super) target: Target,
    /// Offer a SOCKS5 proxy here.
    #[arg(long, value_name = "ADDR")]
    pub(super) socks5: Option<SocketAddr>,
    /// Offer an HTTP proxy here.
    #[arg(long, value_name = "ADDR")]
    pub(super) http: Option<SocketAddr>,
    /// File with the private key, for users who keep their own.
    #[arg(long, value_name = "FILE")]
    pub(super) private_key: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
