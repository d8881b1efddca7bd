//! What the peer sends, how fast, and what it sends again.

use ebb_tunnel::tcp::{Flags, Segment};

use super::{Flight, Reference};

impl Reference {
    pub(super) fn take_ack(&mut self, segment: &Segment<'_>) {
        let ack = Self::near(self.base, segment.ack, self.una);
        assert!(ack <= self.nxt, "the peer acknowledges what was never sent");
        let mut sampled = None;
        let mut unclear = false;
        if ack > self.una {
            while let Some(entry) = self.flights.first_entry() {
                let end = entry.key() + entry.get().length + u64::from(entry.get().fin);
                if end > ack {
                    break;
                }
                let flight = entry.remove();
                unclear |= flight.resent;
                if !flight.sacked {
                    sampled = Some(self.now - flight.sent_at);
                }
            }
            let data = ack.min(self.queue_at + self.queued.len() as u64);
            let gone = data.saturating_sub(self.queue_at);
            self.queued.drain(..gone as usize);
            self.queue_at += gone;
            self.grow(ack - self.una);
            self.una = ack;
            self.backoff = 0;
            self.timer = self.now;
        }
        for &(left, right) in segment.options.sack.iter() {
            let (left, right) =
                (Self::near(self.base, left, self.una), Self::near(self.base, right, self.una));
            for (&start, flight) in self.flights.range_mut(left..right.max(left)) {
                if start + flight.length <= right {
                    flight.sacked = true;
                }
            }
        }
        if let Some(sample) = sampled.filter(|_| !unclear) {
            let sample = sample as f64;
            self.srtt = if self.srtt == 0.0 { sample } else { self.srtt * 0.875 + sample * 0.125 };
        }
        if ack >= self.una {
            self.peer_window = u64::from(segment.window) << self.peer_shift.unwrap_or(0);
        }
    }

    /// Slow start, then CUBIC (RFC 9438) without its Reno-friendly region.
    fn grow(&mut self, acked: u64) {
        if self.manners.window.is_some() {
            return;
        }
        if self.cwnd < self.threshold {
            self.cwnd += acked as f64;
            return;
        }
        let mss = self.mss() as f64;
        let elapsed = (self.now - self.cubic_at) as f64 / 1e6;
        let k = (self.cubic_max / mss * 0.3 / 0.4).cbrt();
        let target = (0.4 * (elapsed - k).powi(3)) * mss + self.cubic_max;
        if target > self.cwnd {
            self.cwnd += ((target - self.cwnd) / self.cwnd * acked as f64).min(acked as f64 / 2.0);
        } else {
            self.cwnd += 0.01 * acked as f64 * mss / self.cwnd;
        }
    }

    pub(super) fn cut(&mut self) {
        self.cubic_max = self.cwnd;
        self.cwnd = (self.cwnd * 0.7).max(2.0 * self.mss() as f64);
        self.threshold = self.cwnd;
        self.cubic_at = self.now;
    }

    pub(super) fn send(&mut self, position: u64, resend: bool) {
        let end = self.queue_at + self.queued.len() as u64;
        let existing = self.flights.get(&position).map(|flight| (flight.length, flight.fin));
        let (length, fin) = existing.unwrap_or_else(|| {
            let length = (end - position).min(self.mss());
            (length, self.fin && position + length == end)
        });
        let from = (position - self.queue_at) as usize;
        let payload: Vec<u8> = self.queued.range(from..from + length as usize).copied().collect();
        let mut flags = Flags::ACK | Flags::PSH;
        if fin {
            flags = flags | Flags::FIN;
            self.fin_sent = true;
        }
        self.emit(flags, position, &payload, true);
        let now = self.now;
        if self.flights.is_empty() {
            self.timer = now;
        }
        let flight = self.flights.entry(position).or_insert(Flight {
            length,
            fin,
            sent_at: now,
            sacked: false,
            resent: false,
        });
        flight.sent_at = now;
        flight.resent |= resend;
        self.nxt = self.nxt.max(position + length + u64::from(fin));
    }

    fn lost(&self) -> Option<u64> {
        let mut above = 0;
        let mut oldest = None;
        for (&start, flight) in self.flights.iter().rev() {
            if flight.sacked {
                above += flight.length;
            } else if above >= 3 * self.mss() {
                let age = self.now - flight.sent_at;
                if !flight.resent || age as f64 > 1.5 * self.srtt + 10_000.0 {
                    oldest = Some(start);
                }
            }
        }
        oldest
    }

    fn pipe(&self) -> u64 {
        let mut above = 0;
        let mut pipe = 0;
        for flight in self.flights.values().rev() {
            if flight.sacked {
                above += flight.length;
            } else if above < 3 * self.mss() || flight.resent {
                pipe += flight.length;
            }
        }
        pipe
    }

    pub(super) fn output(&mut self) {
        if !self.synced {
            return;
        }
        let limit = self.manners.window.map_or(self.cwnd, |segments| (segments * self.mss()) as f64);
        let mut pipe = self.pipe();
        if self.flights.values().any(|flight| flight.sacked) {
            while let Some(position) = self.lost() {
                if position >= self.recover {
                    self.recover = self.nxt;
                    self.cut();
                }
                if pipe as f64 >= limit {
                    break;
                }
                self.send(position, true);
                pipe += self.mss();
            }
        }
        loop {
            let end = self.queue_at + self.queued.len() as u64;
            let unsent = end.saturating_sub(self.nxt);
            let fin = self.fin && !self.fin_sent;
            let edge = self.una + self.peer_window;
            let length = unsent.min(self.mss());
            let fits = self.nxt + length <= edge && (length > 0 || self.nxt < edge);
            if (unsent == 0 && !fin) || !fits || (pipe + length) as f64 > limit {
                if (unsent > 0 || fin) && !fits && self.flights.is_empty() {
                    let due = self.now + self.rto();
                    self.probe_at.get_or_insert(due);
                }
                break;
            }
            self.probe_at = None;
            self.send(self.nxt, false);
            pipe += length.max(1);
        }
    }
}
