//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use ebb_desired_state::SessionName;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use super::target::Target;
use crate::setup::Settings;

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

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or `doctor` found a fault, 2 wrong command line or document, 3 `plan` found something to do";

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
        #[arg(env = "EBB_DOCUMENT", default_value = "desired-state/desired-state.yaml", value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of the document.
    Schema,
    /// Show what the next pass would do, now or under another document, and what will happen later.
    Plan(Plan),
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
    /// Let a session rest until then, whatever anybody else wants. It ends by itself.
    Suspend {
        /// Which session.
        session: SessionName,
        /// Why, for whoever finds this later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Until when: `+2h`, `+3d`, or a moment such as 2026-12-24T18:00:00Z.
        #[arg(long, value_name = "WHEN")]
        until: Ahead,
    },
    /// End a suspension early.
    Resume {
        /// Which session.
        session: SessionName,
    },
    /// Take a session out of Ebb's hands: its gateway stays exactly as it is, until `ebb adopt`.
    Detach {
        /// Which session.
        session: SessionName,
        /// Why, for whoever finds this later.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Put a detached session into Ebb's hands again.
    Adopt {
        /// Which session.
        session: SessionName,
    },
    /// Fetch the document and look at everything now.
    Reconcile {
        /// Wait until everything is as the document wants it. Exit code 1 if the newest document is refused.
        #[arg(long)]
        wait: bool,
        /// Expect the source to be at this revision (or one that begins like this), as a pipeline does that has just pushed it.
        #[arg(long, value_name = "REV")]
        revision: Option<String>,
        /// Seconds to wait.
        #[arg(long, default_value_t = 600, value_name = "SECONDS")]
        timeout: u64,
    },
    /// List the documents that were in force, or the runs of a session that have ended in the last 30 days; newest first.
    History {
        /// The session whose runs are meant.
        session: Option<SessionName>,
        /// At most this many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Compare two documents that were in force, setting by setting.
    Diff {
        /// The earlier one: a revision, its first digits, or # and a generation.
        #[arg(value_name = "A")]
        from: String,
        /// The later one [default: the one in force].
        #[arg(value_name = "B")]
        to: Option<String>,
    },
    /// Bring an earlier document back, as a new generation. With Git this prints the commands that do.
    Rollback {
        /// A revision, its first digits, or # and a generation.
        #[arg(value_name = "REV")]
        revision: String,
    },
    /// Change the document in $VISUAL or $EDITOR: checks it, shows the plan, asks, and writes it in one step.
    Edit {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
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
    /// Check everything that the daemon needs, with the settings of `ebb run`, and say what to fix. Exit code 1 if a check fails.
    Doctor(Box<Settings>),
    /// Find out on a real subscription what no documentation says about Container Instances, and print a report. Costs money.
    #[cfg(feature = "azure")]
    MeasureAzure(Box<super::measure::Measure>),
}

/// Options of `ebb run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Secret that senders of webhooks sign with, and that Event Grid shows. Without it, `/hooks/…` answer 404.
    #[arg(long, env = "EBB_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub(super) webhook_secret_file: Option<PathBuf>,
    /// Seconds after which a gateway that hears neither from the daemon nor from users ends itself.
    #[arg(long, env = "EBB_LEASE_SECONDS", default_value_t = 900, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(60..=86_400))]
    pub(super) lease: u64,
}

/// Options of `ebb plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// A document to try instead of the one in force.
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Compare with this document as if everything in it had happened, without asking a daemon: what merging a change would do.
    #[arg(long, value_name = "FILE", requires = "file")]
    pub(super) from: Option<PathBuf>,
    /// Also show what time alone will bring about until then: `+45m`, `+2d`, or a moment such as 2026-12-24T18:00:00Z.
    #[arg(long, value_name = "WHEN")]
    pub(super) at: Option<Ahead>,
    /// As Markdown, for pull requests.
    #[arg(long)]
    pub(super) markdown: bool,
    /// What to plan with when no daemon runs.
    #[command(flatten)]
    pub(super) settings: Settings,
}

/// A moment, given itself or as a distance from the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    By(SignedDuration),
    At(Timestamp),
}

impl Ahead {
    pub(super) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::By(distance) => now.checked_add(distance).unwrap_or(Timestamp::MAX),
            Self::At(moment) => moment,
        }
    }
}

impl FromStr for Ahead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unreadable = |error| format!("{error}; write +45m, +2h 30m, or 2026-12-24T18:00:00Z");
        match text.strip_prefix('+') {
            // A day is 24 hours here.
            Some(distance) => distance
                .parse::<Span>()
                .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
                .map(Self::By)
                .map_err(unreadable),
            None => text.parse().map(Self::At).map_err(unreadable),
        }
    }
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

    #[test]
    fn a_forecast_reaches_to_a_moment_or_by_a_distance() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let reach = |text: &str| text.parse::<Ahead>().unwrap().from(now).to_string();
        assert_eq!(reach("+45m"), "2026-11-21T12:45:00Z");
        assert_eq!(reach("+2d"), "2026-11-23T12:00:00Z");
        assert_eq!(reach("2026-12-24T18:00:00Z"), "2026-12-24T18:00:00Z");
        for wrong in ["45m", "+", "+1 month", "tomorrow"] {
            assert!(wrong.parse::<Ahead>().is_err(), "{wrong}");
        }
    }
}
