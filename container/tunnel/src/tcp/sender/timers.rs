//! The sender's timers. None is stored as running: which one is due, and when, follows from the state.

use super::Sender;
use crate::Time;
use crate::tcp::clock::{MILLISECOND, SECOND, after, earliest};

/// What a lone segment's acknowledgment may be delayed by at the peer (TLP.max_ack_delay of RFC 8985 7.2). Common stacks
/// delay 25 to 50 ms; a probe too many costs one segment.
const ACK_DELAY: u64 = 50 * MILLISECOND;
/// The shortest probe timeout: acknowledgments come in batches of about a millisecond.
const PROBE_MIN: u64 = 5 * MILLISECOND;
/// Probe timeout without a round-trip sample (RFC 8985 7.2).
const PROBE_BLIND: u64 = SECOND;
/// Longest interval of zero-window probes: as for retransmissions (RFC 9293 3.8.6.1).
const PERSIST_MAX: u64 = 60 * SECOND;
/// Timeouts in a row of a full-sized segment after which its size is the suspect (RFC 8899 3 calls for detecting black holes;
/// RFC 2923 2.1 describes them).
const SUSPECT_TIMEOUTS: u32 = 2;
/// Packet sizes to fall back to, in octets of TCP payload: within 1280 (the IPv6 minimum), and the default MSS.
const FALLBACK: [u64; 2] = [1220, 536];
/// When a reduced size is first given another try: a client that slept looks like a black hole.
pub(super) const RAISE_FIRST: u64 = 5 * SECOND;
/// Each failed try waits this much longer ...
pub(super) const RAISE_GROWTH: u64 = 4;
/// ... up to PMTU_RAISE_TIMER (RFC 8899 5.1.1).
pub(super) const RAISE_LAST: u64 = 600 * SECOND;

/// Which timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Reorder,
    Probe,
    Timeout,
    Persist,
}

/// What the connection has to do after a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Expired {
    /// Nothing but transmitting.
    Nothing,
    /// Send a segment that makes the peer say what its window is.
    AskForWindow,
    /// Retransmissions have gone unanswered since this time.
    Stalled(Time),
}

impl Sender {
    /// The one timer for what is in flight (RFC 8985 section 8): reordering, else tail probe, else retransmission timeout.
    fn timer(&self) -> Option<(Time, Timer)> {
        let Some(front) = self.board.front() else {
            return self.persist.map(|(at, _)| (at, Timer::Persist));
        };
        if let Some(at) = self.reorder_at {
            return Some((at, Timer::Reorder));
        }
        let timeout = after(self.progress_at.max(front.sent_at), self.rtt.timeout());
        // RFC 8985 7.2: only with SACK, outside of recovery, and one probe per flight.
        let may_probe = self.selective
            && self.recovery.is_none()
            && self.probe.is_none()
            && !self.board.has_reports()
            && self.rtt.backoff() == 0;
        if may_probe {
            let wait = match self.rtt.smoothed() {
                None => PROBE_BLIND,
                Some(smoothed) if self.board.len() == 1 => (2 * smoothed).max(PROBE_MIN) + ACK_DELAY,
                Some(smoothed) => (2 * smoothed).max(PROBE_MIN),
            };
            let at = after(self.progress_at.max(self.sent_at), wait);
            if at < timeout {
                return Some((at, Timer::Probe));
            }
        }
        Some((timeout, Timer::Timeout))
    }

    /// When [`Sender::expire`] has something to do, or pacing lets the next quantum go.
    pub fn deadline(&self) -> Option<Time> {
        earliest(self.timer().map(|(at, _)| at), self.pace_at)
    }

    /// Handles what is due.
    pub fn expire(&mut self, now: Time) -> Expired {
        let Some((at, timer)) = self.timer() else { return Expired::Nothing };
        if at > now {
            return Expired::Nothing;
        }
        match timer {
            Timer::Reorder => self.detect_losses(now),
            Timer::Probe => {
                self.probe_due = true;
                // Should nothing come of it, the retransmission timeout is next.
                self.probe = Some(super::Probe { end: self.next, retransmission: false });
            }
            Timer::Timeout => {
                self.timed_out(now);
                return self.stalled_since.map_or(Expired::Nothing, Expired::Stalled);
            }
            Timer::Persist => {
                let (_, count) = self.persist.unwrap_or((now, 0));
                let wait = self.rtt.base_timeout().saturating_mul(1 << (count + 1).min(16)).min(PERSIST_MAX);
                self.persist = Some((after(now, wait), count + 1));
                if self.usable() == 0 {
                    return Expired::AskForWindow;
                }
                self.persist_due = true;
            }
        }
        Expired::Nothing
    }

    /// Retransmission timeout (RFC 6298 section 5, RFC 8985 6.3).
    fn timed_out(&mut self, now: Time) {
        self.counters.timeouts += 1;
        self.stalled_since.get_or_insert(now);
        self.rtt.back_off();
        self.progress_at = now;
        self.probe = None;
        self.reorder_at = None;
        let Some(front) = self.board.front().copied() else { return };
        let full = front.payload() as u64 == self.size.mss;
        if full && self.rtt.backoff().is_multiple_of(SUSPECT_TIMEOUTS) {
            self.reduce_size();
        }
        // The first octet missing cannot have been reported, unless the peer dropped what it had reported.
        let reneged = front.sacked();
        if reneged {
            self.board.forget_reports();
        }
        let smoothed = self.rtt.smoothed().unwrap_or(0);
        let min_rtt = self.bbr.min_rtt().unwrap_or(smoothed);
        let first = self.board.first_id();
        for id in first..first + self.board.len() as u64 {
            let Some(sent) = self.board.get(id) else { break };
            let expired = self.selective && self.rack.expired(sent, smoothed, min_rtt, now);
            if id == first || reneged || expired || !self.selective {
                self.lose(id, now);
            }
        }
        // A window that was opened again after shrinking, or a lost probe: nothing else holds the first segment back.
        self.recovery = Some(self.next);
        self.bbr.timed_out(self.board.in_flight());
        self.update_pacing();
    }

    /// Falls back to a smaller segment: first to one that is known to pass.
    fn reduce_size(&mut self) {
        let mss = self.size.mss;
        let proven = self.size.proven.filter(|&proven| proven < mss);
        let Some(smaller) = proven.or_else(|| FALLBACK.into_iter().find(|&size| size < mss)) else { return };
        self.set_size(smaller);
        self.board.resegment(smaller as usize);
    }

    /// Gives the agreed size another try when it is time.
    pub(super) fn raise_size(&mut self, now: Time) {
        if self.size.raise_at.is_some_and(|at| at <= now) {
            self.size.raise_at = None;
            self.set_size(self.size.agreed);
        }
    }

    fn set_size(&mut self, mss: u64) {
        self.size.mss = mss;
        self.bbr.set_mss(mss);
        self.update_pacing();
    }

    /// Whether a timed-out retransmission met a closed window: the peer answers, it only takes nothing (RFC 9293 3.8.6.1
    /// MUST-37: the connection stays open as long as it acknowledges).
    pub fn window_closed(&self) -> bool {
        self.window == 0
    }

    /// When buffers that hold nothing may be freed: `linger` microseconds after they last did.
    pub fn release_at(&self, linger: u64) -> Option<Time> {
        (self.is_idle() && self.memory() > 0).then(|| after(self.progress_at.max(self.sent_at), linger))
    }

    /// Frees the buffers.
    pub fn release(&mut self) {
        self.ring.release();
        self.board.release();
    }
}
