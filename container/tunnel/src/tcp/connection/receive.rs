//! A segment arrives (RFC 9293 3.10.7), with the checks of RFC 5961 against segments from strangers.

use super::{CHALLENGE_INTERVAL, Clock, Connection, End, State};
use crate::Time;
use crate::tcp::clock::{MILLISECOND, after, between, micros};
use crate::tcp::segment::{Flags, Segment};
use crate::tcp::sender::Acknowledged;
use crate::tcp::seq::Seq;

/// Whether a segment lies where the peer may send.
#[derive(PartialEq, Eq)]
enum Place {
    /// At least a part of it is new and inside.
    Inside,
    /// At the right place, but the window is closed: its acknowledgment counts, its data does not.
    Closed,
    Outside,
}

impl Connection {
    /// Takes a segment from the peer. The ports are not checked: the caller found this connection by them.
    pub fn receive(&mut self, segment: &Segment<'_>, now: Time) {
        self.now = self.now.max(now);
        let now = self.now;
        self.segments_received += 1;
        match self.state {
            State::Closed => {}
            State::SynSent => self.receive_in_syn_sent(segment, now),
            _ => self.receive_synchronised(segment, now),
        }
    }

    fn heard(&mut self, now: Time) {
        self.heard_at = now;
        self.pokes = 0;
        self.poked_since = None;
        self.poke_now = false;
    }

    /// RFC 9293 3.10.7.3.
    fn receive_in_syn_sent(&mut self, segment: &Segment<'_>, now: Time) {
        let flags = segment.flags;
        let acks = flags.contains(Flags::ACK);
        let ours = self.handshake.attempts > 0 && segment.ack == Seq::from_position(self.initial + 1);
        if acks && !ours {
            if !flags.contains(Flags::RST) {
                self.reset = Some((segment.ack, None));
            }
            return;
        }
        if flags.contains(Flags::RST) {
            if acks {
                self.close(End::Refused);
            }
            return;
        }
        if !flags.contains(Flags::SYN) {
            return;
        }
        self.heard(now);
        let budget = self.receiver.budget().clone();
        self.synchronise(segment.seq, segment.window, &segment.options, &budget);
        if acks {
            self.establish(now);
            self.receiver.demand_ack();
            self.accept(segment.seq.origin() + 1, segment, flags.contains(Flags::FIN), now);
            self.follow_fin();
        } else {
            // Both open at the same time (RFC 9293 3.5, figure 7).
            self.state = State::SynReceived;
            self.handshake.send = true;
            self.handshake.attempts = 0;
        }
    }

    /// The handshake is over.
    fn establish(&mut self, now: Time) {
        self.state = State::Established;
        // A SYN that was sent again says nothing about the round trip (Karn).
        if self.handshake.attempts == 1 {
            self.sender.handshake_rtt(between(self.handshake.sent_at, now));
        }
        self.handshake.send = false;
        self.handshake.resend_at = None;
        if self.sender.fin_queued() {
            self.state = State::FinWait1;
        }
    }

    /// RFC 9293 3.10.7.4.
    fn receive_synchronised(&mut self, segment: &Segment<'_>, now: Time) {
        let flags = segment.flags;
        if flags.contains(Flags::SYN) && self.receive_syn(segment, now) {
            return;
        }
        let next = self.receiver.acknowledgment();
        let seq = segment.seq.unwrap_near(next);
        if self.is_old_duplicate(segment) {
            // PAWS, RFC 7323 5.3 R1.
            self.challenge(now);
            return;
        }
        if flags.contains(Flags::RST) {
            // RFC 5961 3.2: only the exact number resets; anything else in the window is asked to prove itself.
            if self.state == State::TimeWait {
                // RFC 1337: an old duplicate that met a closed end must not cut TIME-WAIT short.
            } else if seq == next {
                // With both directions delivered a RST only says that the peer is already gone.
                let delivered = self.receiver.finished() && self.sender.is_delivered();
                self.close(if delivered { End::Finished } else { End::Reset });
            } else if seq > next && seq < self.receiver.edge() {
                self.challenge(now);
            }
            return;
        }
        let place = self.place(seq, segment);
        if place == Place::Outside {
            if segment.payload.is_empty() && !flags.contains(Flags::FIN) {
                // A keepalive or a window probe wants an answer as well (RFC 9293 3.8.4).
                self.heard(now);
                self.challenge(now);
            } else {
                self.heard(now);
                self.accept(seq, segment, false, now);
                self.receiver.demand_ack();
                if self.state == State::TimeWait {
                    self.enter_time_wait(now);
                }
            }
            return;
        }
        if flags.contains(Flags::SYN) {
            // RFC 5961 4.2: whatever its number, a SYN is answered with where we are.
            self.challenge(now);
            return;
        }
        if !flags.contains(Flags::ACK) || !self.receive_ack(seq, segment, now) {
            return;
        }
        self.heard(now);
        self.take_timestamp(seq, segment);
        if place == Place::Closed {
            self.receiver.demand_ack();
        } else {
            self.accept(seq, segment, flags.contains(Flags::FIN), now);
        }
        self.follow_fin();
        self.follow_ack(now);
    }

    /// A SYN for a connection that has seen one. True when that settles the segment.
    fn receive_syn(&mut self, segment: &Segment<'_>, now: Time) -> bool {
        let again = segment.seq == self.remote_initial;
        match self.state {
            State::SynReceived if segment.flags.contains(Flags::ACK) && again && self.active => {
                // The other half of a simultaneous open: its SYN/ACK acknowledges ours.
                if segment.ack == Seq::from_position(self.initial + 1) {
                    self.establish(now);
                    self.heard(now);
                    self.receiver.demand_ack();
                }
                true
            }
            State::SynReceived if again => {
                // Our SYN/ACK was lost: the same answer again (RFC 9293 3.10.7.4, SYN-RECEIVED).
                self.handshake.send = true;
                true
            }
            State::SynReceived if !self.active && !segment.flags.contains(Flags::ACK) => {
                // A client that forgot its first attempt: back to LISTEN, which is the caller.
                self.close(End::Reset);
                true
            }
            State::TimeWait
                if segment.seq.unwrap_near(self.receiver.acknowledgment())
                    > self.receiver.acknowledgment() =>
            {
                // RFC 9293 3.6.1: a SYN beyond the old numbers may reuse the pair of addresses.
                self.close(End::Finished);
                true
            }
            _ => false,
        }
    }

    /// The acceptability test of RFC 9293 3.10.7.4.
    fn place(&self, seq: u64, segment: &Segment<'_>) -> Place {
        let next = self.receiver.acknowledgment();
        let edge = self.receiver.edge();
        let end = seq + u64::from(segment.sequence_length());
        if end == seq {
            return if next <= seq && seq <= edge { Place::Inside } else { Place::Outside };
        }
        if seq < edge && end > next {
            Place::Inside
        } else if seq == next {
            Place::Closed
        } else {
            Place::Outside
        }
    }

    fn is_old_duplicate(&self, segment: &Segment<'_>) -> bool {
        let Some(clock) = self.clock else { return false };
        match segment.options.timestamps {
            Some(theirs) => {
                !segment.flags.contains(Flags::RST) && (theirs.value.wrapping_sub(clock.recent) as i32) < 0
            }
            // RFC 7323 3.2: once agreed on, every segment but a RST has to carry one.
            None => !segment.flags.contains(Flags::RST),
        }
    }

    /// RFC 7323 4.3: TS.Recent follows segments that begin at or before what was last acknowledged.
    fn take_timestamp(&mut self, seq: u64, segment: &Segment<'_>) {
        let next = self.receiver.acknowledgment();
        if let (Some(clock), Some(theirs)) = (&mut self.clock, segment.options.timestamps)
            && seq <= next
        {
            *clock = Clock { recent: theirs.value, ..*clock };
        }
    }

    /// The acknowledgment field. False when the segment is not to be looked at any further.
    fn receive_ack(&mut self, seq: u64, segment: &Segment<'_>, now: Time) -> bool {
        if self.state == State::SynReceived {
            let ours = self.handshake.attempts > 0 && segment.ack == Seq::from_position(self.initial + 1);
            if !ours {
                self.reset = Some((segment.ack, None));
                return false;
            }
            self.establish(now);
        }
        let una = self.sender.una();
        let ack = segment.ack.unwrap_near(una);
        let oldest = una.saturating_sub(self.sender.window_max());
        if ack > self.sender.next() || ack < oldest {
            // RFC 5961 5.2: what acknowledges the unsent or the long gone is not from our peer.
            self.challenge(now);
            return false;
        }
        let window = u64::from(segment.window) << self.shift_in;
        let bare = segment.payload.is_empty() && !segment.flags.contains(Flags::FIN) && ack == una;
        if ack >= una {
            let rtt = self.clock.zip(segment.options.timestamps).and_then(|(clock, theirs)| {
                let elapsed = clock.value(now).wrapping_sub(theirs.echo);
                (theirs.echo != 0 && elapsed < 60_000).then(|| (u64::from(elapsed) * MILLISECOND).max(1))
            });
            self.sender.acknowledge(&Acknowledged { ack, sack: &segment.options.sack, bare, rtt }, now);
            self.sender.update_window(seq, ack, window);
        }
        true
    }

    fn accept(&mut self, seq: u64, segment: &Segment<'_>, fin: bool, now: Time) {
        self.receiver.accept(seq, segment.payload, fin, self.sender.rtt(), now);
    }

    /// The peer's FIN moves the state on (RFC 9293 3.10.7.4, eighth).
    fn follow_fin(&mut self) {
        if self.receiver.finished() {
            self.state = match self.state {
                State::Established => State::CloseWait,
                State::FinWait1 => State::Closing,
                State::FinWait2 => {
                    self.enter_time_wait(self.now);
                    State::TimeWait
                }
                state => state,
            };
        }
    }

    /// The acknowledgment of our FIN moves the state on (RFC 9293 3.10.7.4, fifth).
    fn follow_ack(&mut self, now: Time) {
        if self.sender.finished() {
            match self.state {
                State::FinWait1 => self.state = State::FinWait2,
                State::Closing => self.enter_time_wait(now),
                State::LastAck => self.close(End::Finished),
                _ => {}
            }
        }
    }

    fn enter_time_wait(&mut self, now: Time) {
        self.state = State::TimeWait;
        self.time_wait_until = Some(after(now, micros(self.settings.time_wait)));
    }

    /// Answers something unacceptable with an acknowledgment, not too often (RFC 5961 section 7).
    fn challenge(&mut self, now: Time) {
        if self.challenged_at.is_none_or(|at| between(at, now) >= CHALLENGE_INTERVAL) {
            self.challenged_at = Some(now);
            self.receiver.demand_ack();
        }
    }
}
