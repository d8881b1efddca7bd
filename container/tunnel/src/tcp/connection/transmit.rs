//! A segment leaves.

use super::{Connection, State};
use crate::Time;
use crate::tcp::segment::{Flags, HEADER_MAX, Header, Options, Timestamps};
use crate::tcp::seq::Seq;

impl Connection {
    /// Writes the next segment, header and payload with the checksum filled in, to `out` and returns its length; call it
    /// until it returns None, after every batch of [`Connection::receive`], `consume`, `commit`, `expire`. None also when
    /// pacing says "later"; [`Connection::deadline`] then says when.
    ///
    /// `out` must hold the MTU less the IP header, and at least 60 bytes; nothing is sent into a shorter one.
    pub fn transmit(&mut self, out: &mut [u8], now: Time) -> Option<usize> {
        self.now = self.now.max(now);
        let now = self.now;
        if out.len() < (self.segment_room() as usize + 20).max(HEADER_MAX) {
            return None;
        }
        if let Some((seq, ack)) = self.reset.take() {
            return Some(self.write_reset(out, seq, ack));
        }
        match self.state {
            State::Closed => None,
            State::SynSent | State::SynReceived => self.transmit_syn(out, now),
            _ => self.transmit_open(out, now),
        }
    }

    fn transmit_open(&mut self, out: &mut [u8], now: Time) -> Option<usize> {
        if self.receiver.owes_ack() && self.receiver.has_reports() {
            // On its own: SACK blocks would make data segments of a batch unequal.
            return Some(self.write_ack(out, now));
        }
        if self.poke_now {
            self.poke_now = false;
            // An old number makes the peer answer with where it is (RFC 9293 3.8.4), and carries no data past its window.
            let seq = Seq::from_position(self.sender.una() - 1);
            return Some(self.write(out, seq, Flags::ACK, Options::default(), None, now));
        }
        if let Some(outgoing) = self.sender.poll(now) {
            let mut flags = Flags::ACK;
            if outgoing.push {
                flags = flags | Flags::PSH;
            }
            if outgoing.fin {
                flags = flags | Flags::FIN;
            }
            let seq = Seq::from_position(outgoing.start);
            let payload = Some((outgoing.start, outgoing.payload));
            return Some(self.write(out, seq, flags, Options::default(), payload, now));
        }
        self.receiver.owes_ack().then(|| self.write_ack(out, now))
    }

    fn write_ack(&mut self, out: &mut [u8], now: Time) -> usize {
        let options = Options { sack: self.receiver.reports(), ..Options::default() };
        let seq = Seq::from_position(self.sender.next());
        self.write(out, seq, Flags::ACK, options, None, now)
    }

    fn transmit_syn(&mut self, out: &mut [u8], now: Time) -> Option<usize> {
        if !self.handshake.send {
            return None;
        }
        self.handshake.send = false;
        self.handshake.attempts = self.handshake.attempts.saturating_add(1);
        self.handshake.sent_at = now;
        self.arm_handshake(now);
        let answers = self.state == State::SynReceived;
        let options = Options {
            // Not more than the peer offers: it then sees one size in both directions.
            mss: Some(self.segment_room() as u16),
            // An answer offers what was offered (RFC 7323 2.2, RFC 2018 section 2).
            window_scale: (!answers || self.scales).then(|| self.offered_shift()),
            sack_permitted: !answers || self.sender.is_selective(),
            ..Options::default()
        };
        let flags = if answers { Flags::SYN | Flags::ACK } else { Flags::SYN };
        Some(self.write(out, Seq::from_position(self.initial), flags, options, None, now))
    }

    fn write(
        &mut self,
        out: &mut [u8],
        seq: Seq,
        flags: Flags,
        mut options: Options,
        payload: Option<(u64, usize)>,
        now: Time,
    ) -> usize {
        let acks = flags.contains(Flags::ACK);
        let shift = if flags.contains(Flags::SYN) { 0 } else { self.shift_out };
        if let Some(clock) = self.clock {
            let echo = if acks { clock.recent } else { 0 };
            options.timestamps = Some(Timestamps { value: clock.value(now), echo });
        }
        let window = self.receiver.window_field(shift);
        let header = Header {
            source_port: self.local.port(),
            destination_port: self.remote.port(),
            seq,
            ack: if acks { Seq::from_position(self.receiver.acknowledgment()) } else { Seq(0) },
            flags,
            window,
            options: &options,
        };
        let octets = header.write(out);
        let mut length = octets;
        let mut sum = 0;
        if let Some((position, count)) = payload {
            length += count;
            sum = self.sender.copy(position, &mut out[octets..length]);
        }
        self.pseudo.fill_header(&mut out[..length], octets, sum);
        if acks && (payload.is_none() || !self.receiver.has_reports()) {
            self.receiver.ack_sent();
        }
        self.segments_sent += 1;
        length
    }

    fn write_reset(&mut self, out: &mut [u8], seq: Seq, ack: Option<Seq>) -> usize {
        let header = Header {
            source_port: self.local.port(),
            destination_port: self.remote.port(),
            seq,
            ack: ack.unwrap_or_default(),
            flags: if ack.is_some() { Flags::RST | Flags::ACK } else { Flags::RST },
            window: 0,
            options: &Options::default(),
        };
        let length = header.write(out);
        self.pseudo.fill(&mut out[..length]);
        self.segments_sent += 1;
        length
    }
}
