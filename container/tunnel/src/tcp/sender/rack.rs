//! When a segment is taken for lost: RACK (RFC 8985 section 6).
//!
//! A segment is lost when one sent later was delivered and a reordering window has passed. Unlike counting duplicate
//! acknowledgments this finds lost retransmissions and lost tails, and it survives reordering: the window grows when the peer
//! reports (DSACK, RFC 2883) that a retransmission was needless.

use super::scoreboard::{Scoreboard, Sent};
use crate::Time;
use crate::tcp::clock::{after, between};

/// Recoveries without a DSACK after which the window shrinks back (RFC 8985 6.2 step 4).
const PERSIST: u8 = 16;
/// Segments reported beyond a hole that prove a loss while no reordering has been seen (RFC 8985 6.2 step 4).
const DUPLICATES: u64 = 3;

/// The state of RFC 8985 section 5.2; times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rack {
    /// The segment sent latest of those delivered: when it was sent, and its end.
    latest: Option<(Time, u64)>,
    /// Round trip of that segment.
    rtt: u64,
    /// Highest position delivered.
    forward: u64,
    reordering_seen: bool,
    multiplier: u64,
    persist: u8,
    /// A DSACK counts once per round trip: until this position is acknowledged.
    dsack_round: Option<u64>,
}

impl Rack {
    pub fn new() -> Self {
        Self {
            latest: None,
            rtt: 0,
            forward: 0,
            reordering_seen: false,
            multiplier: 1,
            persist: 0,
            dsack_round: None,
        }
    }

    /// Whether anything was delivered that others can be measured against.
    pub fn has_delivered(&self) -> bool {
        self.latest.is_some()
    }

    /// Takes a newly delivered segment into account (RFC 8985 6.2 steps 2 and 3).
    pub fn delivered(&mut self, sent: &Sent, min_rtt: u64, now: Time) {
        let end = sent.end();
        if end >= self.forward {
            self.forward = end;
        } else if !sent.retransmitted() {
            // Sent once, yet overtaken: reordering.
            self.reordering_seen = true;
        }
        let rtt = between(sent.sent_at, now);
        if sent.retransmitted() && rtt < min_rtt {
            // Too soon to be the retransmission's own acknowledgment.
            return;
        }
        if self.latest.is_none_or(|latest| (sent.sent_at, end) > latest) {
            self.latest = Some((sent.sent_at, end));
            self.rtt = rtt;
        }
    }

    /// The peer reported a duplicate; `next` is the next position to send, `una` the oldest unacknowledged.
    pub fn duplicate_reported(&mut self, una: u64, next: u64) {
        if self.dsack_round.is_some_and(|round| una >= round) {
            self.dsack_round = None;
        }
        if self.dsack_round.is_none() {
            self.dsack_round = Some(next);
            self.multiplier = (self.multiplier + 1).min(64);
            self.persist = PERSIST;
            self.reordering_seen = true;
        }
    }

    /// A recovery is over.
    pub fn recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.multiplier = 1;
        }
    }

    /// How long a segment may be overtaken before it counts as lost (RFC 8985 6.2 step 4).
    fn window(&self, smoothed: u64, min_rtt: u64, eager: bool) -> u64 {
        if !self.reordering_seen && eager {
            return 0;
        }
        (self.multiplier * min_rtt / 4).min(smoothed)
    }

    /// Takes for lost what was overtaken long enough ago and calls `lost` for each. Returns when to look again: at that time
    /// the next overtaken segment is due (RFC 8985 6.2 step 5). `eager` is whether the connection is in recovery or enough
    /// has been reported to prove a loss.
    pub fn detect(
        &self,
        board: &mut Scoreboard,
        smoothed: u64,
        min_rtt: u64,
        eager: bool,
        now: Time,
        mut lost: impl FnMut(&Sent),
    ) -> Option<Time> {
        let latest = self.latest?;
        let window = self.window(smoothed, min_rtt, eager);
        while let Some((id, sent)) = board.oldest_in_flight() {
            if (sent.sent_at, sent.end()) >= latest {
                return None;
            }
            let due = after(sent.sent_at, self.rtt + window);
            if due > now {
                return Some(due);
            }
            if let Some(before) = board.mark_lost(id) {
                lost(&before);
            }
        }
        None
    }

    /// Whether a segment has been out for longer than RACK would wait (RFC 8985 6.3: what a timeout marks besides the first).
    pub fn expired(&self, sent: &Sent, smoothed: u64, min_rtt: u64, now: Time) -> bool {
        between(sent.sent_at, now) >= self.rtt + self.window(smoothed, min_rtt, false)
    }

    /// Bytes reported beyond a hole that prove it is a loss.
    pub fn proof(mss: u64) -> u64 {
        DUPLICATES * mss
    }
}
