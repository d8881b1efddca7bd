//! What happens when nothing does.

use super::{Connection, End, State};
use crate::Time;
use crate::tcp::clock::{SECOND, after, between, earliest, micros};
use crate::tcp::sender::Expired;

/// The first wait for an answer to a SYN or SYN/ACK (RFC 6298 2.1), doubled each time.
const HANDSHAKE_WAIT: u64 = SECOND;

impl Connection {
    /// When [`Connection::expire`] wants to be called; it may change with every other call. A caller with a coarse timer
    /// may be a millisecond late without loss of throughput.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Closed => None,
            State::SynSent | State::SynReceived => self.handshake.resend_at,
            _ => {
                let soon = earliest(self.sender.deadline(), self.receiver.deadline());
                let linger = self.linger();
                let release = earliest(self.sender.release_at(linger), self.receiver.release_at(linger));
                let late = earliest(self.time_wait_until, self.keepalive_at());
                earliest(soon, earliest(release, late))
            }
        }
    }

    /// Handles the timers that are due, then wants [`Connection::transmit`].
    pub fn expire(&mut self, now: Time) {
        self.now = self.now.max(now);
        let now = self.now;
        match self.state {
            State::Closed => {}
            State::SynSent | State::SynReceived => self.expire_handshake(now),
            _ => self.expire_open(now),
        }
    }

    pub(super) fn arm_handshake(&mut self, now: Time) {
        let doubled = HANDSHAKE_WAIT << self.handshake.attempts.saturating_sub(1).min(6);
        self.handshake.resend_at = Some(after(now, doubled));
    }

    fn expire_handshake(&mut self, now: Time) {
        if self.handshake.resend_at.is_none_or(|at| at > now) {
            return;
        }
        if self.handshake.attempts >= self.settings.syn_attempts {
            self.close(End::TimedOut);
        } else {
            self.handshake.send = true;
            self.handshake.resend_at = None;
        }
    }

    fn expire_open(&mut self, now: Time) {
        self.receiver.expire(now);
        match self.sender.expire(now) {
            Expired::Nothing => {}
            Expired::AskForWindow => self.poke(now),
            Expired::Stalled(since) => {
                // A peer that answers and keeps its window closed is alive (RFC 9293 3.8.6.1, MUST-37).
                let since = if self.sender.window_closed() { since.max(self.heard_at) } else { since };
                if between(since, now) >= micros(self.settings.retransmit_timeout) {
                    self.give_up();
                    return;
                }
            }
        }
        if self
            .poked_since
            .is_some_and(|since| between(since, now) >= micros(self.settings.retransmit_timeout))
        {
            self.give_up();
            return;
        }
        if self.keepalive_at().is_some_and(|at| at <= now) {
            let probes = self.settings.keepalive.map_or(0, |keepalive| keepalive.probes);
            if self.pokes >= probes {
                self.give_up();
                return;
            }
            self.poke(now);
        }
        if self.time_wait_until.is_some_and(|at| at <= now) {
            self.close(End::Finished);
            return;
        }
        let linger = self.linger();
        if self.sender.release_at(linger).is_some_and(|at| at <= now) {
            self.sender.release();
        }
        if self.receiver.release_at(linger).is_some_and(|at| at <= now) {
            self.receiver.release();
        }
    }

    /// The peer is gone: tell it, should it come back, and end.
    fn give_up(&mut self) {
        self.send_reset();
        self.close(End::TimedOut);
    }

    fn poke(&mut self, now: Time) {
        self.poke_now = true;
        self.pokes = self.pokes.saturating_add(1);
        self.poked_since.get_or_insert(now);
    }

    /// When a silent peer is probed next (RFC 9293 3.8.4). Only while nothing else would show that it is gone.
    fn keepalive_at(&self) -> Option<Time> {
        let keepalive = self.settings.keepalive.as_ref()?;
        if self.state == State::TimeWait || !self.sender.is_idle() {
            return None;
        }
        let probed = u64::from(self.pokes).saturating_mul(micros(keepalive.interval));
        Some(after(self.heard_at, micros(keepalive.idle) + probed))
    }
}
