//! Which segment leaves next.

use super::scoreboard::Sent;
use super::{Probe, RECORDS_MAX, Sender};
use crate::Time;
use crate::tcp::clock::after;

/// A segment to put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Outgoing {
    /// Position of its first octet.
    pub start: u64,
    /// Octets of payload.
    pub payload: usize,
    pub fin: bool,
    pub push: bool,
}

impl Sender {
    /// The next segment, if the peer's window, the congestion window and pacing admit one. Lost data goes first (RFC 6675
    /// section 5, rule C), lowest position first.
    pub fn poll(&mut self, now: Time) -> Option<Outgoing> {
        self.pace_at = None;
        if self.probe_due {
            self.probe_due = false;
            if let Some(outgoing) = self.send_probe(now) {
                return Some(outgoing);
            }
        }
        if let Some((id, sent)) = self.board.next_lost() {
            if !self.admits(u64::from(sent.length), now) {
                return None;
            }
            return Some(self.resend(id, &sent, now));
        }
        self.raise_size(now);
        let outgoing = self.next_new()?;
        let length = outgoing.payload as u64 + u64::from(outgoing.fin);
        if self.board.is_empty() && self.delivery.is_limited() {
            self.bbr.restart_from_idle(now);
            self.update_pacing();
        }
        if !self.admits(length, now) {
            return None;
        }
        Some(self.send_new(outgoing, now))
    }

    /// Whether congestion control and pacing admit `length` octets.
    fn admits(&mut self, length: u64, now: Time) -> bool {
        let in_flight = self.board.in_flight();
        if in_flight > 0 && in_flight + length > self.bbr.window() {
            self.window_limited[0] = true;
            return false;
        }
        if !self.pacer.ready(now) {
            self.pace_at = Some(self.pacer.due());
            return false;
        }
        true
    }

    /// The next new segment that the peer's window admits. Starts the persist timer when that window is all that is missing.
    fn next_new(&mut self) -> Option<Outgoing> {
        let unsent = self.unsent();
        let fin_waits = self.fin_queued && !self.fin_sent;
        if unsent == 0 && !fin_waits {
            self.persist = None;
            return None;
        }
        // Small segments cost the path as many packets as large ones: count them too, and let what waits grow together.
        let packets = (2 * self.bbr.window() / self.size.mss + 32) as usize;
        if self.board.flying() >= packets || self.board.len() >= RECORDS_MAX {
            return None;
        }
        let usable = self.usable();
        let mut payload = unsent.min(self.size.mss);
        if payload > usable {
            // Sender side of silly-window avoidance (RFC 9293 3.8.6.2.1): a piece only if it is half of the largest window
            // ever offered, or when the persist timer overrides.
            let worthwhile = usable > 0 && (usable >= self.window_max / 2 || self.persist_due);
            payload = if worthwhile { usable } else { 0 };
        }
        let fin = fin_waits && self.next + payload == self.end && usable > payload;
        if payload == 0 && !fin {
            if self.board.is_empty() {
                self.arm_persist();
            }
            return None;
        }
        let push = payload > 0 && self.next + payload == self.end;
        Some(Outgoing { start: self.next, payload: payload as usize, fin, push })
    }

    fn arm_persist(&mut self) {
        let start = self.progress_at.max(self.sent_at);
        if self.persist.is_none() {
            self.persist = Some((after(start, self.rtt.base_timeout()), 0));
        }
    }

    fn send_new(&mut self, outgoing: Outgoing, now: Time) -> Outgoing {
        let length = outgoing.payload as u64 + u64::from(outgoing.fin);
        let snapshot = self.delivery.snapshot(self.board.in_flight(), length, now);
        if self.board.is_empty() {
            self.progress_at = now;
        }
        let Outgoing { start, payload, fin, push } = outgoing;
        self.board.push(Sent::new(start, payload, fin, push, snapshot, now));
        self.next += length;
        self.fin_sent |= fin;
        self.persist = None;
        self.persist_due = false;
        self.sent(length, now);
        outgoing
    }

    fn resend(&mut self, id: u64, sent: &Sent, now: Time) -> Outgoing {
        let length = u64::from(sent.length);
        let snapshot = self.delivery.snapshot(self.board.in_flight(), length, now);
        self.board.resend(id, snapshot, now);
        self.counters.retransmits += 1;
        if self.recovery.is_some() {
            self.undo_left = Some(self.undo_left.unwrap_or(0) + 1);
        }
        self.sent(length, now);
        Outgoing { start: sent.start, payload: sent.payload(), fin: sent.fin(), push: sent.push() }
    }

    fn sent(&mut self, length: u64, now: Time) {
        self.sent_at = now;
        self.pacer.spend(length);
    }

    /// Sends a tail loss probe: new data if there is any and the peer's window admits it, else the last segment again (RFC
    /// 8985 7.3). It may exceed the congestion window by one segment.
    fn send_probe(&mut self, now: Time) -> Option<Outgoing> {
        let outgoing = if let Some(outgoing) = self.next_new() {
            self.send_new(outgoing, now)
        } else {
            let id = self.board.last_id()?;
            let sent = *self.board.get(id)?;
            if sent.sacked() || sent.lost() {
                return None;
            }
            self.probe = Some(Probe { end: self.next, retransmission: true });
            return Some(self.resend(id, &sent, now));
        };
        self.probe = Some(Probe { end: self.next, retransmission: false });
        Some(outgoing)
    }
}
