//! The window we offer: as much as the application takes, in steps worth announcing.

use super::Receiver;
use crate::Time;
use crate::tcp::clock::{MILLISECOND, SECOND, between};

/// Window at the start: a WAN sender's first round trips fit, and ten thousand idle flows promise no more than they hold.
pub(super) const INITIAL: u64 = 128 << 10;
/// The window is this many times what arrived in a round trip. Two would keep pace with a peer that doubles its rate
/// each round trip; the rest covers the queue that makes its round trip longer than the one measured.
const GROWTH: u64 = 4;
/// The shortest interval of measuring: on a LAN, batches are further apart than round trips.
const INTERVAL_MIN: u64 = MILLISECOND;
/// The interval while no round trip is known.
const INTERVAL_BLIND: u64 = SECOND / 10;

/// How much arrives per round trip (dynamic right-sizing).
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    highest: u64,
    since: Time,
}

impl Measure {
    pub fn new(highest: u64, now: Time) -> Self {
        Self { highest, since: now }
    }
}

impl Receiver {
    /// The limit on what is buffered and promised.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Raises the limit while the application takes all there is.
    ///
    /// What counts is what arrived, also beyond a hole: a peer in slow start must not run into the window because of a lost
    /// segment.
    pub(super) fn grow_window(&mut self, rtt: Option<u64>, now: Time) {
        let interval = rtt.map_or(INTERVAL_BLIND, |rtt| rtt.max(INTERVAL_MIN));
        if between(self.measure.since, now) < interval {
            return;
        }
        let highest = self.beyond.end().unwrap_or(self.next);
        // A pause is not a rate: scale what arrived to one interval.
        let arrived = (highest - self.measure.highest) * interval / between(self.measure.since, now).max(1);
        self.measure = Measure::new(highest, now);
        if !self.is_drained() {
            return;
        }
        let most = self.ring_max as u64 - (1 << self.shift);
        let wanted = (GROWTH * arrived).min(most);
        // Promise only what the budget could hold.
        if wanted > self.limit && self.ring.budget().left() as u64 > wanted {
            self.limit = wanted;
        }
    }

    /// What could be promised from here on.
    fn target(&self) -> u64 {
        let capacity = self.ring.capacity() as u64;
        let left = self.ring.budget().left() as u64;
        // With the budget spent only the memory at hand counts, and the next step if that still fits.
        let next = capacity.max(self.ring_min as u64);
        let holds = if left > self.limit {
            self.limit
        } else if left >= next {
            2 * next
        } else {
            capacity
        };
        self.read + self.limit.min(holds)
    }

    /// The least worth announcing (receiver side of silly-window avoidance, RFC 9293 3.8.6.2.2).
    fn step(&self) -> u64 {
        (self.limit / 2).min(self.full_segment())
    }

    /// Whether consuming has opened the window far enough for the peer to be told without being asked: it was closed or small
    /// and has at least doubled.
    pub(super) fn opens_window(&self) -> bool {
        let next = self.acknowledgment();
        let offered = self.advertised.saturating_sub(next);
        let possible = self.target().saturating_sub(next);
        !self.finished && possible >= 2 * offered && possible - offered >= self.step()
    }

    /// The window field for a segment that leaves now, and the promise that goes with it. `shift` is zero on a SYN and when
    /// scaling was not agreed on (RFC 7323 2.2). The right edge never moves back (RFC 9293 3.8.6: SHLD-14).
    pub fn window_field(&mut self, shift: u8) -> u16 {
        let next = self.acknowledgment();
        let target = self.target();
        if target >= self.advertised + self.step() {
            let window = ((target.saturating_sub(next)) >> shift).min(u64::from(u16::MAX));
            self.advertised = self.advertised.max(next + (window << shift));
        }
        let promised = self.advertised.saturating_sub(next);
        // Rounded up: rounding down would take back part of the promise. The limit leaves room for it.
        let field = (promised + (1 << shift) - 1) >> shift;
        let field = field.min(u64::from(u16::MAX));
        self.advertised = self.advertised.max(next + (field << shift));
        field as u16
    }
}
