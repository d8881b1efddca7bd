//! The application at one end: how much it writes, how fast it reads, and what it saw.

use ebb_tunnel::Time;

use super::pattern;

/// What an application does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Bytes it writes before it finishes.
    pub write: u64,
    /// Bytes per second it writes at; zero for as fast as it can.
    pub write_rate: u64,
    /// Most it writes at once.
    pub chunk: usize,
    /// Bytes per second it reads at; zero for as fast as they come.
    pub read_rate: u64,
    /// It reads nothing before this time.
    pub read_from: Time,
    /// It writes nothing before it has read this much.
    pub write_after: u64,
    /// It writes nothing before this time.
    pub write_from: Time,
    /// Whether it finishes when everything is written.
    pub finishes: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            write: 0,
            write_rate: 0,
            chunk: 65_536,
            read_rate: 0,
            read_from: Time::ZERO,
            write_after: 0,
            write_from: Time::ZERO,
            finishes: true,
        }
    }
}

/// An application at work.
#[derive(Debug)]
pub struct App {
    pub script: Script,
    /// Seeds of the streams it writes and reads.
    writes: u64,
    reads: u64,
    pub written: u64,
    pub read: u64,
    pub finished: bool,
    pub saw_end: bool,
    /// When the last byte was read.
    pub last_read_at: Time,
    started: Option<Time>,
}

impl App {
    pub fn new(script: Script, writes: u64, reads: u64) -> Self {
        Self {
            script,
            writes,
            reads,
            written: 0,
            read: 0,
            finished: false,
            saw_end: false,
            last_read_at: Time::ZERO,
            started: None,
        }
    }

    fn allowance(rate: u64, since: Time, done: u64, now: Time) -> u64 {
        if rate == 0 {
            return u64::MAX;
        }
        let elapsed = now.since(since).as_micros() as u64;
        (elapsed * rate / 1_000_000).saturating_sub(done)
    }

    /// How many bytes it takes now.
    pub fn appetite(&self, now: Time) -> u64 {
        if now < self.script.read_from {
            0
        } else {
            Self::allowance(self.script.read_rate, self.script.read_from, self.read, now)
        }
    }

    /// Takes bytes and checks each.
    pub fn take(&mut self, bytes: &[u8], now: Time) {
        assert!(pattern::matches(self.reads, self.read, bytes), "wrong bytes after {}", self.read);
        self.read += bytes.len() as u64;
        self.last_read_at = now;
    }

    /// How many bytes it wants to write now.
    pub fn urge(&mut self, now: Time) -> u64 {
        if self.read < self.script.write_after || now < self.script.write_from {
            return 0;
        }
        let since = *self.started.get_or_insert(now);
        let left = self.script.write - self.written;
        left.min(self.script.chunk as u64).min(Self::allowance(
            self.script.write_rate,
            since,
            self.written,
            now,
        ))
    }

    /// Writes up to `out` of the next bytes.
    pub fn give(&mut self, out: &mut [u8]) {
        pattern::fill(self.writes, self.written, out);
        self.written += out.len() as u64;
    }

    /// Whether it has nothing more to write and says so.
    pub fn wants_to_finish(&self) -> bool {
        self.script.finishes && !self.finished && self.written == self.script.write
    }

    /// When it wants to be asked again although nothing happened.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        let mut next = None;
        let mut at = |time: Time| next = Some(next.map_or(time, |earlier: Time| earlier.min(time)));
        for from in [self.script.read_from, self.script.write_from] {
            if now < from {
                at(from);
            }
        }
        let paced = self.script.read_rate > 0 && !self.saw_end;
        let pours = self.script.write_rate > 0 && self.written < self.script.write;
        if paced || pours {
            at(now + std::time::Duration::from_millis(5));
        }
        next
    }
}
