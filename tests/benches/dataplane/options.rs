//! The command line.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};

pub const USAGE: &str = "\
Usage: bench-dataplane [OPTIONS] [PART...]

Parts, all of them when none is named:
  lan     throughput, latency and cost without loss or delay
  wan     one and two streams over 40 ms, 200 Mbit/s, with loss
  flows   10,000 connections at a time, and memory at rest

Options:
  --gateway KIND@VERSION=PROGRAM   a gateway to measure, may be repeated; KIND is ebb, wireguard-go or boringtun-cli,
                                   and PROGRAM of kind ebb is any build of `ebb`
  --client PROGRAM                 ebb-tun-client, or `wireguard-go` for that of PATH [wireguard-go]
  --rounds N                       how often everything is measured [3]
  --quick                          one round of fractions of a second: shows that it starts, measures nothing";

/// What kind of program a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ebb,
    WireguardGo,
    Boringtun,
}

/// A gateway to measure.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub kind: Kind,
    /// Name and version.
    pub name: String,
    pub program: PathBuf,
}

pub struct Options {
    pub candidates: Vec<Candidate>,
    pub client: Option<PathBuf>,
    pub parts: Vec<String>,
    pub rounds: u32,
    pub quick: bool,
}

impl Options {
    pub fn parse() -> Result<Option<Self>, lexopt::Error> {
        let (candidates, parts) = (Vec::new(), Vec::new());
        let mut options = Self { candidates, client: None, parts, rounds: 3, quick: false };
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("gateway") => options.candidates.push(candidate(&parser.value()?.string()?)?),
                Arg::Long("client") => {
                    options.client =
                        Some(parser.value()?.into()).filter(|client| client != OsStr::new("wireguard-go"));
                }
                Arg::Long("rounds") => options.rounds = parser.value()?.parse()?,
                Arg::Long("quick") => options.quick = true,
                // Cargo tells every bench that it is one.
                Arg::Long("bench") => {}
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Value(part) if ["lan", "wan", "flows"].iter().any(|known| part == *known) => {
                    options.parts.push(part.string()?);
                }
                other => return Err(other.unexpected()),
            }
        }
        if options.quick {
            options.rounds = 1;
        }
        if options.candidates.is_empty() {
            return Err("name at least one --gateway".into());
        }
        Ok(Some(options))
    }

    pub fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    /// How long something is measured.
    pub fn time(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(if self.quick { seconds / 20.0 } else { seconds })
    }
}

fn candidate(text: &str) -> Result<Candidate, lexopt::Error> {
    let parts =
        text.split_once('=').and_then(|(name, program)| Some((name.split_once('@')?.0, name, program)));
    let Some((kind, name, program)) = parts else {
        return Err(format!("--gateway {text} is not KIND@VERSION=PROGRAM").into());
    };
    let kind = match kind {
        "ebb" => Kind::Ebb,
        "wireguard-go" => Kind::WireguardGo,
        "boringtun-cli" => Kind::Boringtun,
        other => return Err(format!("no kind of gateway is called {other}").into()),
    };
    Ok(Candidate { kind, name: name.replace('@', " "), program: program.into() })
}
