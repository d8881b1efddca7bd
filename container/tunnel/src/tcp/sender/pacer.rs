//! Spacing segments out in time (draft-ietf-ccwg-bbr, "Pacing Rate" and "Send Quantum").
//!
//! A token bucket in bytes. Once it is empty the sender waits until a whole quantum has accumulated and then sends that in
//! one go, so segments leave in bursts that suit GSO and a timer of a millisecond is enough to keep any rate.

use crate::Time;
use crate::tcp::clock::{MILLISECOND, after, between};

/// What a quantum lasts at the pacing rate, at most: what a millisecond timer can keep up with.
const QUANTUM: u64 = MILLISECOND;
/// How much unused time may be saved up: a timer that fires late costs nothing.
const SAVED: u64 = 2 * MILLISECOND;
/// Round trips below this are a LAN or less: bursts of a whole GSO batch are welcome there.
const NEAR: u64 = 2 * MILLISECOND;
/// Octets of a full GSO batch.
const BATCH: f64 = 65536.0;
/// Segments that may always go at once (the initial window, RFC 6928).
const BURST: f64 = 10.0;

/// The bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    credit: f64,
    at: Time,
    waiting: bool,
    /// Bytes per microsecond.
    rate: f64,
    quantum: f64,
    limit: f64,
}

impl Pacer {
    pub fn new(now: Time) -> Self {
        Self { credit: 0.0, at: now, waiting: false, rate: 0.0, quantum: 0.0, limit: 0.0 }
    }

    /// Sets the rate in bytes per second for a path of `min_rtt` microseconds.
    pub fn set_rate(&mut self, rate: f64, min_rtt: Option<u64>, mss: u64) {
        let first = self.limit == 0.0;
        let rtt = min_rtt.unwrap_or(u64::MAX);
        self.rate = rate / 1e6;
        let batch = if rtt < NEAR { BATCH } else { 0.0 };
        // Waiting longer than a fraction of the round trip would drain the pipe, except where the window has room for batches.
        let share = self.rate * QUANTUM.min(rtt / 8) as f64;
        self.quantum = share.max((self.rate * QUANTUM as f64).min(batch));
        self.limit = (self.rate * SAVED as f64).max(BURST * mss as f64).max(batch);
        if first {
            self.credit = self.limit;
        }
    }

    /// Whether a segment may leave at `now`.
    pub fn ready(&mut self, now: Time) -> bool {
        let elapsed = between(self.at, now);
        if elapsed > 0 {
            self.at = now;
            self.credit = (self.credit + elapsed as f64 * self.rate).min(self.limit);
        }
        if self.waiting {
            self.waiting = self.credit < self.quantum;
        } else {
            self.waiting = self.credit <= 0.0;
        }
        !self.waiting
    }

    /// Takes what a segment of `bytes` costs.
    pub fn spend(&mut self, bytes: u64) {
        self.credit -= bytes as f64;
    }

    /// When the next quantum is complete.
    pub fn due(&self) -> Time {
        let missing = (self.quantum - self.credit).max(0.0);
        after(self.at, (missing / self.rate.max(1e-6)).ceil().min(1e9) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_lan_whole_batches_are_waited_for_and_no_longer_than_a_millisecond() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(250e6, Some(200), 1360);
        assert!((pacer.quantum - BATCH).abs() < 1.0);
        pacer.set_rate(10e6, Some(200), 1360);
        assert!((pacer.quantum - 10_000.0).abs() < 1.0);
    }

    #[test]
    fn a_millisecond_timer_keeps_the_rate_and_sends_whole_quanta() {
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.set_rate(25e6, Some(40_000), 1360);
        let mut sent = 0u64;
        let mut now = Time::ZERO;
        for tick in 0..1000 {
            // Late by up to 0.9 ms.
            now = Time::from_micros(tick * 1000 + (tick * 7919) % 900);
            while pacer.ready(now) {
                pacer.spend(1400);
                sent += 1400;
            }
            assert!(pacer.due() > now && between(now, pacer.due()) <= 1100);
        }
        let expected = now.as_micros() as f64 * 25.0;
        assert!((sent as f64 - expected).abs() < 0.01 * expected + 60_000.0, "{sent} against {expected}");
    }
}
