//! Scenarios as text: commands in, what happened out.
//!
//! ```text
//! seed 1
//! # Silence ends a session.
//! document
//!     version: 1
//!     …
//! advance 10m
//! status
//! assert-fixpoint
//! ```
//!
//! Every command is echoed with `> `, followed by what happened while it ran, at virtual times. The lines of a document follow
//! their command, indented by four spaces. [`COMMANDS`] lists what there is.

mod commands;
mod print;

use std::fmt::Write as _;

use jiff::Timestamp;

use super::case::EPOCH;
use super::world::World;

/// What can be said in a scenario.
pub const COMMANDS: &str = "\
seed N                                the first line; stands for everything random
clock TIME                            when the world begins, before anything else
lag DURATION                          listings are up to this old, and the provider says so
document                              publishes the document in the indented lines that follow
document broken                       the same with lines that are no valid document
document missing                      the document vanishes
advance DURATION                      time passes
connect USER@SESSION                  switches the tunnel on and shakes hands
send USER@SESSION                     sends one packet
stream USER@SESSION DURATION          sends all the time for so long
keepalive USER@SESSION                keeps the tunnel alive and sends nothing
open USER@SESSION                     opens a connection and leaves it open
close USER@SESSION                    closes all connections
leave USER@SESSION                    switches the tunnel off
pause-telemetry SESSION               the daemon cannot reach the gateway; its users can
resume-telemetry SESSION              it can again
logs on|off                           whether the logs of gateways can be read
restart-gateway SESSION               the gateway starts anew inside its group
break-gateway SESSION STATUS          the gateway ends with this exit status
change-tags SESSION                   somebody changes the tags of the group
vanish SESSION                        the group is gone without a trace
crash                                 the daemon dies and starts again
crash-after N                         it dies after the N-th effect from now
freeze, thaw                          the daemon stops, another takes over; then the first goes on
lose-store                            the daemon dies and every record is lost
set-clock DURATION                    moves the daemon's clock
provider fail create|delete|list CLASS N
                                      the next N calls are refused
provider lose create|delete           the next call has its effect, but its answer is lost
provider fate fails|hangs             how the next creation ends
provider survive N                    the next group lives through so many deletes
provider foreign SESSION              a group of somebody else's, named almost as ours
provider orphan SESSION               a group of ours that nobody remembers
start SESSION, stop SESSION           what people ask of the API
suspend SESSION TIME REASON           the same, until then
resume SESSION                        the same
detach SESSION REASON, adopt SESSION  the same
approve                               approves the teardowns of the document in force
plan                                  what a pass would do now
plan DURATION                         the same, and what time alone will bring until then
status                                every session
explain SESSION                       why it is where it is
groups                                what the provider really has
expect SESSION STATE                  fails unless the session is in this state; `gone`: nobody remembers it
assert-fixpoint                       fails unless nothing is left to do";

/// Passes in which a world at rest must stay as it is.
const STEADY_PASSES: u32 = 100;

/// Why a scenario ended early.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}\n{output}")]
pub struct ScriptError {
    /// Where.
    pub line: usize,
    /// What was wrong.
    pub why: String,
    /// What had happened until then.
    pub output: String,
}

/// Lives through a scenario and returns what happened.
///
/// # Errors
/// When a command cannot be understood, an expectation fails or a promise is broken.
pub fn run(text: &str) -> Result<String, ScriptError> {
    let world = World::new(0, EPOCH);
    let mut script = Script { world, seed: 0, output: String::new(), shown: 0, day: None };
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let mut block = String::new();
        while let Some((_, more)) = lines.next_if(|(_, more)| more.starts_with("    ")) {
            block.push_str(&more[4..]);
            block.push('\n');
        }
        if let Err(why) = script.line(index, line, &block) {
            return Err(ScriptError { line: index + 1, why, output: script.output });
        }
    }
    Ok(script.output)
}

struct Script {
    world: World,
    seed: u64,
    output: String,
    /// Lines of the world that have been shown.
    shown: usize,
    day: Option<String>,
}

impl Script {
    fn line(&mut self, index: usize, line: &str, block: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            self.say(line);
            return Ok(());
        }
        self.say(&format!("> {line}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        if index == 0 {
            let [_, seed] = expect_words(&words, "seed N")?;
            self.seed = seed.parse().map_err(|_| "a seed is a number")?;
            self.world = World::new(self.seed, EPOCH);
            return Ok(());
        }
        let result = self.command(&words, block);
        self.world.judge_present();
        self.show_lines();
        if let Some(violation) = self.world.oracle.violations.first() {
            return Err(format!("a promise was broken: {violation}"));
        }
        result
    }

    fn say(&mut self, line: &str) {
        let _ = writeln!(self.output, "{line}");
    }

    /// Shows what has happened since the last time.
    fn show_lines(&mut self) {
        for line in self.world.lines.split_off(self.shown) {
            self.say_day(line.at);
            let session = line.session.as_ref().map_or("-", |session| session.as_str());
            let at = line.at.strftime("%H:%M:%S%.1f");
            self.say(&format!("{at}  {session:<12} {}", line.text));
            self.world.lines.push(line);
        }
        self.shown = self.world.lines.len();
    }

    fn say_day(&mut self, at: Timestamp) {
        let day = at.strftime("%A %Y-%m-%d").to_string();
        if self.day.as_ref() != Some(&day) {
            self.say(&format!("--- {day}"));
            self.day = Some(day);
        }
    }
}

fn expect_words<'a, const N: usize>(words: &[&'a str], form: &str) -> Result<[&'a str; N], String> {
    <[&str; N]>::try_from(words.to_vec()).map_err(|_| format!("expected `{form}`"))
}
