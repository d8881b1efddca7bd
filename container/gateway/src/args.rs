//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt as _};

use crate::plane::LOOPS_MAX;

/// Text of `--help`.
pub const USAGE: &str = "\
ebb-gateway: the unprivileged WireGuard gateway of one Ebb session

Usage:
  ebb-gateway run [--boot FILE] [--memory-mib N] [--loops N] [--no-gso] [--termination-log FILE]
  ebb-gateway health [--boot FILE | --port PORT]
  ebb-gateway --version | --help

run     serves until SIGTERM, SIGINT or the end of its lease.
health  exits 0 only if the gateway on that port of this machine (network namespace) answers.

Options, and the variables that stand in for them:
  --boot FILE      EBB_BOOT_FILE   boot file, written by the daemon
                   EBB_BOOT        its text, where no file can be put
  --memory-mib N   EBB_MEMORY_MIB  most memory for the buffers of TCP flows, in MiB [256]
  --loops N        EBB_LOOPS       threads that carry traffic, 1 to 16 [one for each core]
  --no-gso         EBB_NO_GSO=1    do not let the kernel cut chains of datagrams (UDP_SEGMENT)
  --termination-log FILE  EBB_TERMINATION_LOG  where to write exit status and reason when the work is done
                   EBB_LOG         what to log on standard error, for example `debug` or `info,ebb_tunnel=trace` [info]";

/// Memory for buffers when nobody says otherwise: a quarter of the smallest container group of 1 GiB.
const MEMORY_MIB: usize = 256;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run(Options),
    /// Ask a gateway whether it is alive.
    Health(Target),
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
}

/// How to serve.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the boot file is.
    pub boot: BootPlace,
    /// Bytes for buffers.
    pub memory: usize,
    /// Threads that carry traffic; `None` for one for each core.
    pub loops: Option<usize>,
    /// Whether to use UDP_SEGMENT where the kernel has it.
    pub segmentation: bool,
    /// Where to write why it ended; whoever did not start the process has no other way to learn its exit status.
    pub termination_log: Option<PathBuf>,
}

/// Where a boot file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootPlace {
    /// In a file.
    File(PathBuf),
    /// In the variable `EBB_BOOT`. Its text is not kept here: it holds a private key.
    Variable,
}

/// The variable that can hold a boot file.
pub const BOOT_VARIABLE: &str = "EBB_BOOT";

/// Which gateway is meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// The one with this port.
    Port(u16),
    /// The one with this boot file.
    Boot(BootPlace),
}

/// Why a command line cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Unknown option, missing value, or the like.
    #[error(transparent)]
    Syntax(#[from] lexopt::Error),
    /// Neither `run` nor `health`.
    #[error("say `run` or `health`")]
    NoCommand,
    /// No boot file is named.
    #[error("name the boot file: --boot FILE, EBB_BOOT_FILE, or its text in EBB_BOOT")]
    NoBoot,
    /// A number is out of its range.
    #[error("{0} is not a number of MiB between 1 and 1048576")]
    Memory(String),
    /// A number is out of its range.
    #[error("{0} is not a number of loops between 1 and {LOOPS_MAX}")]
    Loops(String),
}

impl Command {
    /// Reads a command line without the program's name.
    pub fn parse(
        arguments: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UsageError> {
        let mut parser = Parser::from_args(arguments);
        let mut command = None;
        let file = variable("EBB_BOOT_FILE").map(|path| BootPlace::File(path.into()));
        let mut boot = file.or_else(|| variable(BOOT_VARIABLE).map(|_| BootPlace::Variable));
        let mut memory = variable("EBB_MEMORY_MIB");
        let mut loops = variable("EBB_LOOPS");
        let mut segmentation = variable("EBB_NO_GSO").is_none_or(|value| value.is_empty() || value == "0");
        let mut termination_log = variable("EBB_TERMINATION_LOG").map(PathBuf::from);
        let mut port = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Short('h') | Arg::Long("help") => return Ok(Self::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Self::Version),
                Arg::Long("boot") => boot = Some(BootPlace::File(parser.value()?.into())),
                Arg::Long("memory-mib") => memory = Some(parser.value()?),
                Arg::Long("loops") => loops = Some(parser.value()?),
                Arg::Long("no-gso") => segmentation = false,
                Arg::Long("termination-log") => termination_log = Some(parser.value()?.into()),
                Arg::Long("port") => port = Some(parser.value()?.parse()?),
                Arg::Value(value) if command.is_none() => command = Some(value.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        match command.as_deref() {
            Some("run") => Ok(Self::Run(Options {
                boot: boot.ok_or(UsageError::NoBoot)?,
                memory: mebibytes(memory)?,
                loops: loops.map(number_of_loops).transpose()?,
                segmentation,
                termination_log,
            })),
            Some("health") => Ok(Self::Health(match port {
                Some(port) => Target::Port(port),
                None => Target::Boot(boot.ok_or(UsageError::NoBoot)?),
            })),
            _ => Err(UsageError::NoCommand),
        }
    }
}

fn number_of_loops(text: OsString) -> Result<usize, UsageError> {
    let text = text.to_string_lossy();
    let loops = text.parse().ok().filter(|loops| (1..=LOOPS_MAX).contains(loops));
    loops.ok_or_else(|| UsageError::Loops(text.into_owned()))
}

fn mebibytes(text: Option<OsString>) -> Result<usize, UsageError> {
    let Some(text) = text else { return Ok(MEMORY_MIB << 20) };
    let text = text.to_string_lossy();
    match text.parse::<usize>() {
        Ok(number @ 1..=1_048_576) => Ok(number << 20),
        _ => Err(UsageError::Memory(text.into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, variables: &[(&str, &str)]) -> Result<Command, UsageError> {
        Command::parse(line.split_whitespace().map(OsString::from), |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn options_win_over_variables() {
        let variables = [("EBB_BOOT_FILE", "/a"), ("EBB_MEMORY_MIB", "64"), ("EBB_NO_GSO", "1")];
        let command = parse("run --boot /b --memory-mib 32 --loops 3", &variables).unwrap();
        let expected = Options {
            boot: BootPlace::File("/b".into()),
            memory: 32 << 20,
            loops: Some(3),
            segmentation: false,
            termination_log: None,
        };
        assert_eq!(command, Command::Run(expected));
        let command = parse("run", &variables[..1]).unwrap();
        let expected = Options {
            boot: BootPlace::File("/a".into()),
            memory: 256 << 20,
            loops: None,
            segmentation: true,
            termination_log: None,
        };
        assert_eq!(command, Command::Run(expected));
    }

    #[test]
    fn health_takes_a_port_or_a_boot_file() {
        assert_eq!(parse("health --port 41820", &[]).unwrap(), Command::Health(Target::Port(41820)));
        let from_file = parse("health", &[("EBB_BOOT_FILE", "/a")]).unwrap();
        assert_eq!(from_file, Command::Health(Target::Boot(BootPlace::File("/a".into()))));
    }

    #[test]
    fn a_boot_file_may_come_in_a_variable_and_a_named_file_wins() {
        let variables = [("EBB_BOOT", "{}"), ("EBB_BOOT_FILE", "/a")];
        let health = |variables: &[_]| parse("health", variables).unwrap();
        assert_eq!(health(&variables[..1]), Command::Health(Target::Boot(BootPlace::Variable)));
        assert_eq!(health(&variables), Command::Health(Target::Boot(BootPlace::File("/a".into()))));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_name() {
        for (line, part) in [
            ("", "run"),
            ("run", "--boot"),
            ("health", "--boot"),
            ("run --boot", "--boot"),
            ("run --bot /b", "--bot"),
            ("run again --boot /b", "again"),
            ("run --boot /b --memory-mib 0", "0 is not"),
            ("run --boot /b --memory-mib many", "many is not"),
            ("run --boot /b --loops 17", "17 is not"),
            ("health --port 70000", "70000"),
        ] {
            let error = parse(line, &[]).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn the_usage_names_every_option() {
        for word in ["--boot", "--memory-mib", "--loops", "--no-gso", "--port", "EBB_LOG"] {
            assert!(USAGE.contains(word), "{word}");
        }
    }
}
