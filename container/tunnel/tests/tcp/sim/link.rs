//! One direction of a path: a queue in front of a line, then a delay.

use ebb_tunnel::Time;

use super::rng::Rng;

/// What a direction does to packets.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Propagation, in microseconds.
    pub delay: u64,
    /// Bits per second; zero for no limit.
    pub rate: u64,
    /// Bytes that may wait for the line; more is dropped at the tail.
    pub queue: u64,
    /// Probability that a packet vanishes.
    pub loss: f64,
    /// Probability that a packet is held back, and for how long at most (microseconds).
    pub reorder: f64,
    pub reorder_by: u64,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Packets larger than this vanish silently (TCP segment, in bytes).
    pub largest: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: 20_000,
            rate: 0,
            queue: u64::MAX,
            loss: 0.0,
            reorder: 0.0,
            reorder_by: 0,
            duplicate: 0.0,
            largest: usize::MAX,
        }
    }
}

/// The direction at work.
#[derive(Debug)]
pub struct Link {
    pub conditions: Conditions,
    rng: Rng,
    /// When the line is free, in nanoseconds.
    free_at: u64,
    pub offered: u64,
    pub dropped_at_tail: u64,
    pub lost: u64,
    /// Largest backlog seen, in bytes.
    pub backlog_max: u64,
}

impl Link {
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            rng: Rng::new(seed),
            free_at: 0,
            offered: 0,
            dropped_at_tail: 0,
            lost: 0,
            backlog_max: 0,
        }
    }

    /// Bytes on the wire of a TCP segment: in an IPv4 packet, padded to 16 up to the tunnel MTU, in a WireGuard data
    /// message, in UDP and IPv4.
    fn wire(segment: usize) -> u64 {
        let inner = segment + 20;
        let padded = inner.next_multiple_of(16).min(inner.max(1420));
        padded as u64 + 60
    }

    /// When the packet arrives: never, once or twice.
    pub fn carry(&mut self, segment: usize, now: Time) -> [Option<Time>; 2] {
        let conditions = &self.conditions;
        self.offered += 1;
        if segment > conditions.largest {
            self.lost += 1;
            return [None, None];
        }
        let now = now.as_micros() * 1000;
        let mut leaves = now;
        if conditions.rate > 0 {
            let size = Self::wire(segment);
            let backlog = self.free_at.saturating_sub(now) * conditions.rate / 8_000_000_000;
            self.backlog_max = self.backlog_max.max(backlog);
            if backlog + size > conditions.queue {
                self.dropped_at_tail += 1;
                return [None, None];
            }
            self.free_at = self.free_at.max(now) + size * 8_000_000_000 / conditions.rate;
            leaves = self.free_at;
        }
        if self.rng.chance(conditions.loss) {
            self.lost += 1;
            return [None, None];
        }
        let mut arrival = leaves.div_ceil(1000) + conditions.delay;
        if self.rng.chance(conditions.reorder) {
            arrival += self.rng.between(1, conditions.reorder_by.max(1));
        }
        let again = self.rng.chance(conditions.duplicate).then(|| arrival + self.rng.below(2_000));
        [Some(Time::from_micros(arrival)), again.map(Time::from_micros)]
    }
}
