//! A second TCP, written for plainness and without a line in common with ours: a client such as a kernel would be, with
//! CUBIC, SACK, delayed acknowledgments and a fixed buffer. It is the other half of most tests.

mod sending;

use std::collections::{BTreeMap, VecDeque};

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Flags, Segment, Seq};

use super::app::App;
use super::host::Endpoint;

/// How the peer behaves.
#[derive(Clone, Debug)]
pub struct Manners {
    pub mss: u16,
    /// Leave the MSS option out.
    pub names_mss: bool,
    pub buffer: u64,
    pub shift: Option<u8>,
    pub sacks: bool,
    pub timestamps: bool,
    /// Acknowledge at once instead of every second segment or after `ack_delay`.
    pub acks_at_once: bool,
    pub ack_delay: u64,
    /// A fixed congestion window in segments instead of CUBIC.
    pub window: Option<u64>,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            mss: 1380,
            names_mss: true,
            buffer: 6 << 20,
            shift: Some(7),
            sacks: true,
            timestamps: false,
            acks_at_once: false,
            ack_delay: 40_000,
            window: None,
        }
    }
}

const ORIGIN: u64 = 1 << 32;

struct Flight {
    length: u64,
    fin: bool,
    sent_at: u64,
    sacked: bool,
    resent: bool,
}

/// The peer.
pub struct Reference {
    manners: Manners,
    ports: (u16, u16),
    active: bool,
    base: Seq,
    theirs: Option<Seq>,
    synced: bool,
    syn_out: bool,
    syn_at: Option<u64>,
    syn_wait: u64,
    now: u64,

    una: u64,
    nxt: u64,
    queued: VecDeque<u8>,
    /// Position of the first queued byte.
    queue_at: u64,
    fin: bool,
    fin_sent: bool,
    peer_window: u64,
    peer_shift: Option<u8>,
    peer_mss: u64,
    peer_sacks: bool,
    flights: BTreeMap<u64, Flight>,
    cwnd: f64,
    threshold: f64,
    cubic_at: u64,
    cubic_max: f64,
    recover: u64,
    srtt: f64,
    backoff: u32,
    timer: u64,
    probe_at: Option<u64>,

    rcv: u64,
    unread: VecDeque<u8>,
    early: BTreeMap<u64, Vec<u8>>,
    newest: Option<u64>,
    fin_at: Option<u64>,
    edge: u64,
    owes: u64,
    ack_now: bool,
    ack_at: Option<u64>,
    their_clock: u32,
    pub reset: bool,
    out: VecDeque<Vec<u8>>,
}

impl Reference {
    pub fn new(port: u16, active: bool, isn: u32, manners: Manners) -> Self {
        let ports = if active { (port, 80) } else { (80, port) };
        let mss = f64::from(manners.mss);
        Self {
            active,
            ports,
            base: Seq(isn),
            theirs: None,
            synced: false,
            syn_out: false,
            syn_at: None,
            syn_wait: 1_000_000,
            now: 0,
            una: ORIGIN,
            nxt: ORIGIN + 1,
            queued: VecDeque::new(),
            queue_at: ORIGIN + 1,
            fin: false,
            fin_sent: false,
            peer_window: 0,
            peer_shift: None,
            peer_mss: 536,
            peer_sacks: false,
            flights: BTreeMap::new(),
            cwnd: 10.0 * mss,
            threshold: f64::INFINITY,
            cubic_at: 0,
            cubic_max: 0.0,
            recover: 0,
            srtt: 0.0,
            backoff: 0,
            timer: 0,
            probe_at: None,
            rcv: 0,
            unread: VecDeque::new(),
            early: BTreeMap::new(),
            newest: None,
            fin_at: None,
            edge: 0,
            owes: 0,
            ack_now: false,
            ack_at: None,
            their_clock: 0,
            reset: false,
            out: VecDeque::new(),
            manners,
        }
    }

    fn near(base: Seq, seq: Seq, near: u64) -> u64 {
        let low = seq.0.wrapping_sub(base.0);
        near.wrapping_add_signed(i64::from(low.wrapping_sub(near as u32) as i32))
    }

    fn mss(&self) -> u64 {
        let options = if self.manners.timestamps { 12 } else { 0 };
        self.peer_mss.min(u64::from(self.manners.mss)) - options
    }

    fn rto(&self) -> u64 {
        let base = if self.srtt == 0.0 { 1_000_000.0 } else { self.srtt * 1.5 + 200_000.0 };
        ((base as u64) << self.backoff.min(8)).min(60_000_000)
    }

    fn emit(&mut self, flags: Flags, position: u64, payload: &[u8], sack: bool) {
        let syn = flags.contains(Flags::SYN);
        let mut options = Vec::new();
        if syn {
            if self.manners.names_mss {
                options.extend([2, 4]);
                options.extend(self.manners.mss.to_be_bytes());
            }
            if let Some(shift) = self.manners.shift.filter(|_| self.active || self.peer_shift.is_some()) {
                options.extend([1, 3, 3, shift]);
            }
            if self.manners.sacks {
                options.extend([1, 1, 4, 2]);
            }
        }
        if self.manners.timestamps {
            options.extend([1, 1, 8, 10]);
            options.extend(((self.now / 1000) as u32 + 7).to_be_bytes());
            options.extend(self.their_clock.to_be_bytes());
        }
        if sack && self.manners.sacks && self.peer_sacks && !self.early.is_empty() {
            let mut ranges: Vec<(u64, u64)> = Vec::new();
            for (&start, bytes) in &self.early {
                let end = start + bytes.len() as u64;
                match ranges.last_mut() {
                    Some(last) if last.1 >= start => last.1 = last.1.max(end),
                    _ => ranges.push((start, end)),
                }
            }
            let newest = self.newest.unwrap_or(0);
            ranges.sort_by_key(|&(left, right)| (!(left..right).contains(&newest), left));
            ranges.truncate(3);
            options.extend([1, 1, 5, 2 + 8 * ranges.len() as u8]);
            let theirs = self.theirs.expect("data has a base");
            for (left, right) in ranges {
                for edge in [left, right] {
                    options.extend(theirs.0.wrapping_add(edge as u32).to_be_bytes());
                }
            }
        }
        let shift = if syn { 0 } else { self.shift_in_force() };
        let free = self.manners.buffer.saturating_sub(self.unread.len() as u64);
        let window = (free >> shift).min(65_535);
        self.edge = self.edge.max(self.rcv + (window << shift));
        let ack = self.theirs.map_or(0, |theirs| theirs.0.wrapping_add(self.rcv as u32));
        let mut bytes = Vec::with_capacity(20 + options.len() + payload.len());
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.base.0.wrapping_add(position as u32).to_be_bytes());
        bytes.extend(ack.to_be_bytes());
        bytes.push(((20 + options.len()) / 4 * 16) as u8);
        bytes.push(flags.bits());
        bytes.extend((window as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(options);
        bytes.extend(payload);
        if flags.contains(Flags::ACK) {
            self.owes = 0;
            self.ack_now = false;
            self.ack_at = None;
        }
        self.out.push_back(bytes);
    }

    fn shift_in_force(&self) -> u8 {
        if self.peer_shift.is_some() { self.manners.shift.unwrap_or(0) } else { 0 }
    }

    fn take_syn(&mut self, segment: &Segment<'_>) {
        self.theirs = Some(segment.seq);
        self.rcv = ORIGIN + 1;
        self.edge = self.rcv + 65_535;
        self.peer_mss = u64::from(segment.options.mss.unwrap_or(536));
        self.peer_sacks = segment.options.sack_permitted && self.manners.sacks;
        self.peer_shift = self.manners.shift.and(segment.options.window_scale);
        self.peer_window = u64::from(segment.window);
    }

    fn established(&mut self) {
        self.synced = true;
        self.syn_at = None;
        self.una = ORIGIN + 1;
    }

    fn take_data(&mut self, segment: &Segment<'_>) {
        let mut at = Self::near(self.theirs.expect("synchronised"), segment.seq, self.rcv);
        let mut payload = segment.payload;
        let end = at + payload.len() as u64;
        if segment.flags.contains(Flags::FIN) && end <= self.edge {
            self.fin_at.get_or_insert(end);
        }
        if payload.is_empty() {
            if segment.sequence_length() > 0 || at < self.rcv {
                self.ack_now = true;
            }
        } else if end <= self.rcv || at >= self.edge {
            self.ack_now = true;
            return;
        } else {
            if at < self.rcv {
                payload = &payload[(self.rcv - at) as usize..];
                at = self.rcv;
            }
            let room = (self.edge - at).min(payload.len() as u64);
            payload = &payload[..room as usize];
            if at > self.rcv || !self.early.is_empty() {
                self.ack_now = true;
            }
            if at > self.rcv {
                self.newest = Some(at);
                let slot = self.early.entry(at).or_default();
                if slot.len() < payload.len() {
                    *slot = payload.to_vec();
                }
            } else {
                self.unread.extend(payload);
                self.rcv += payload.len() as u64;
                self.owes += 1;
                while let Some(entry) = self.early.first_entry() {
                    let start = *entry.key();
                    if start > self.rcv {
                        break;
                    }
                    let bytes = entry.remove();
                    let skip = (self.rcv - start) as usize;
                    if skip < bytes.len() {
                        self.unread.extend(&bytes[skip..]);
                        self.rcv += (bytes.len() - skip) as u64;
                    }
                }
            }
        }
        if self.fin_at == Some(self.rcv) {
            self.rcv += 1;
            self.ack_now = true;
        }
        if self.owes >= 2 || (self.owes > 0 && self.manners.acks_at_once) {
            self.ack_now = true;
        } else if self.owes > 0 {
            let due = self.now + self.manners.ack_delay;
            self.ack_at.get_or_insert(due);
        }
    }
}

impl Endpoint for Reference {
    fn receive(&mut self, bytes: &[u8], now: Time) {
        self.now = now.as_micros();
        let segment = Segment::parse(bytes).expect("well formed");
        let flags = segment.flags;
        if flags.contains(Flags::RST) {
            self.reset = true;
            return;
        }
        if let Some(theirs) = segment.options.timestamps {
            self.their_clock = theirs.value;
        }
        if flags.contains(Flags::SYN) {
            if self.theirs.is_none() {
                self.take_syn(&segment);
                if self.active {
                    self.established();
                } else {
                    self.syn_at = Some(self.now);
                }
            }
            self.ack_now |= self.active;
            return;
        }
        if self.theirs.is_none() {
            return;
        }
        if !self.synced {
            self.established();
        }
        self.take_ack(&segment);
        self.take_data(&segment);
    }

    fn transmit(&mut self, out: &mut [u8], now: Time) -> Option<usize> {
        self.now = now.as_micros();
        if self.out.is_empty() && !self.reset {
            self.output();
            if self.ack_now && self.synced {
                self.emit(Flags::ACK, self.nxt, &[], true);
            }
        }
        let bytes = self.out.pop_front()?;
        out[..bytes.len()].copy_from_slice(&bytes);
        Some(bytes.len())
    }

    fn deadline(&self) -> Option<Time> {
        if self.reset {
            return None;
        }
        let timeout = (!self.flights.is_empty()).then(|| self.timer + self.rto());
        let syn = if self.active && !self.syn_out { Some(0) } else { self.syn_at };
        let recheck = self
            .flights
            .values()
            .any(|flight| flight.sacked)
            .then(|| self.now + (self.srtt as u64).max(10_000));
        [timeout, syn, self.ack_at, self.probe_at, recheck].into_iter().flatten().min().map(Time::from_micros)
    }

    fn expire(&mut self, now: Time) {
        self.now = now.as_micros();
        let start = self.active && !self.syn_out;
        if !self.reset && (start || self.syn_at.is_some_and(|at| at <= self.now)) {
            self.syn_out = true;
            self.syn_at = Some(self.now + self.syn_wait);
            self.syn_wait *= 2;
            let flags = if self.active { Flags::SYN } else { Flags::SYN | Flags::ACK };
            self.emit(flags, ORIGIN, &[], false);
        }
        if self.ack_at.is_some_and(|at| at <= self.now) {
            self.ack_now = true;
        }
        if self.probe_at.is_some_and(|at| at <= self.now) {
            self.backoff += 1;
            self.probe_at = Some(self.now + self.rto());
            self.emit(Flags::ACK, self.una - 1, &[], false);
        }
        if !self.flights.is_empty() && self.timer + self.rto() <= self.now {
            self.backoff += 1;
            self.timer = self.now;
            self.cut();
            self.cwnd = self.cwnd.min(4.0 * self.mss() as f64);
            self.recover = self.nxt;
            for flight in self.flights.values_mut() {
                flight.sacked = false;
            }
            let first = *self.flights.keys().next().expect("something is in flight");
            self.send(first, true);
        }
    }

    fn pump(&mut self, app: &mut App, now: Time) {
        let appetite = app.appetite(now).min(self.unread.len() as u64) as usize;
        let full = self.manners.buffer.saturating_sub(self.unread.len() as u64) < self.mss() * 2;
        let bytes: Vec<u8> = self.unread.drain(..appetite).collect();
        app.take(&bytes, now);
        if full && appetite > 0 && self.synced {
            self.ack_now = true;
        }
        if self.fin_at.is_some_and(|fin| self.rcv > fin) && self.unread.is_empty() {
            app.saw_end = true;
        }
        while self.queued.len() < self.manners.buffer as usize {
            let count = app.urge(now).min(self.manners.buffer - self.queued.len() as u64);
            if count == 0 {
                break;
            }
            let mut bytes = vec![0; count as usize];
            app.give(&mut bytes);
            self.queued.extend(bytes);
        }
        if app.wants_to_finish() {
            app.finished = true;
            self.fin = true;
        }
    }

    fn is_over(&self) -> bool {
        let sent = self.fin_sent && self.una > self.queue_at;
        let got = self.fin_at.is_some_and(|fin| self.rcv > fin);
        self.reset || (sent && got)
    }
}
