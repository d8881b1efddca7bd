//! The receiving half: what has arrived, what the peer may still send, and when to acknowledge.
//!
//! Positions run `read <= next <= advertised`: consumed up to `read`, in order up to `next`, promised up to `advertised`.
//! Segments beyond a hole are stored at their place in the same ring; a set of ranges says which.

mod window;

use super::budget::Budget;
use super::clock::{MILLISECOND, after};
use super::ranges::Ranges;
use super::ring::Ring;
use super::segment::SackBlocks;
use super::seq::Seq;
use super::settings::Settings;
use crate::Time;

/// How long an acknowledgment may wait for company (RFC 9293 3.8.6.3: less than 0.5 s). Short, because senders probe for
/// lost tails after two round trips.
const ACK_DELAY: u64 = 20 * MILLISECOND;
/// Full-sized segments at the start that are acknowledged without delay: the peer's slow start feeds on acknowledgments.
const QUICK_SEGMENTS: u32 = 64;
/// Small messages are not full segments, however many come (RFC 9293 3.7.1: the default MSS).
const FULL_MIN: u64 = 536;
/// Ranges beyond holes that are kept. Data that would need more is dropped, as any lost segment; at a loss rate of 10 % this
/// is a window of 10,000 segments.
const RANGES_MAX: usize = 1024;
/// Blocks remembered for SACK options: as many as fit one (RFC 2018 section 3).
const RECENT: usize = 4;

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct Receiver {
    ring: Ring,
    ring_min: usize,
    ring_max: usize,
    read: u64,
    next: u64,
    beyond: Ranges,
    /// A position in each of the ranges that arrived last, latest first.
    recent: [u64; RECENT],
    recents: usize,
    duplicate: Option<(u64, u64)>,
    /// Whether the peer takes SACK blocks.
    selective: bool,
    /// Position of the peer's FIN, once seen; whether everything before it arrived.
    fin: Option<u64>,
    finished: bool,

    advertised: u64,
    shift: u8,
    /// Octets that may be buffered or promised; grows with what is consumed per round trip.
    limit: u64,
    measure: window::Measure,

    /// Acknowledgment number last sent.
    acknowledged: u64,
    ack_now: bool,
    ack_at: Option<Time>,
    quick: u32,
    /// The largest payload seen: what the peer's full segments look like.
    largest: u64,
    received: u64,
    /// When data last arrived.
    active_at: Time,
}

impl Receiver {
    /// A receiver whose first byte of data has position `first`. `shift` is our window scale, `selective` whether the
    /// peer permits SACK.
    pub fn new(
        first: u64,
        shift: u8,
        selective: bool,
        settings: &Settings,
        budget: &Budget,
        now: Time,
    ) -> Self {
        let ring_max = settings.ring_max.next_power_of_two();
        let limit = window::INITIAL.min(ring_max as u64 - (1 << shift));
        Self {
            ring: Ring::new(budget),
            ring_min: settings.ring_min,
            ring_max,
            read: first,
            next: first,
            beyond: Ranges::default(),
            recent: [0; RECENT],
            recents: 0,
            duplicate: None,
            selective,
            fin: None,
            finished: false,
            advertised: first,
            shift,
            limit,
            measure: window::Measure::new(first, now),
            acknowledged: first,
            ack_now: false,
            ack_at: None,
            quick: QUICK_SEGMENTS,
            largest: 0,
            received: 0,
            active_at: now,
        }
    }

    /// The next position expected, a FIN included: the acknowledgment number.
    pub fn acknowledgment(&self) -> u64 {
        self.next + u64::from(self.finished)
    }

    /// The right edge of the window.
    pub fn edge(&self) -> u64 {
        self.advertised.max(self.acknowledgment())
    }

    /// Whether the peer finished and everything before its FIN arrived.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// Whether the application has taken everything that arrived in order.
    pub fn is_drained(&self) -> bool {
        self.read == self.next
    }

    pub fn budget(&self) -> &Budget {
        self.ring.budget()
    }

    /// Octets received in order.
    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn memory(&self) -> usize {
        self.ring.capacity()
    }

    /// Takes data (and a FIN) at `seq`. What lies outside the window is cut off, what arrived before is kept as it was.
    /// `rtt` is the path's round trip as the sender knows it.
    pub fn accept(&mut self, seq: u64, payload: &[u8], fin: bool, rtt: Option<u64>, now: Time) {
        if payload.is_empty() && !fin {
            return;
        }
        self.grow_window(rtt, now);
        self.largest = self.largest.max(payload.len() as u64);
        self.active_at = now;
        self.ring.fit(self.read, self.beyond.end().unwrap_or(self.next), self.ring_min, now);
        let mut end = seq + payload.len() as u64;
        if self.finished || (end + u64::from(fin)) <= self.next {
            // A retransmission of what is here: its acknowledgment got lost (RFC 2883: say so).
            self.report_duplicate(seq, end.min(self.next));
            self.ack_now = true;
            return;
        }
        let start = seq.max(self.next);
        if start > seq {
            self.report_duplicate(seq, start);
        }
        // Nothing lies beyond a FIN, and nothing may come from beyond the window.
        let edge = self.fin.unwrap_or(self.advertised).min(self.advertised);
        let whole = end <= edge;
        end = end.min(edge);
        if start < end {
            let from = (start - seq) as usize;
            let to = (end - seq) as usize;
            if !self.store(start, &payload[from..to]) {
                self.ack_now = true;
                return;
            }
        }
        if fin && whole && self.fin.is_none() && self.beyond.end().is_none_or(|beyond| beyond <= end) {
            self.fin = Some(end);
        }
        let in_order = start <= self.next && self.beyond.is_empty();
        self.advance();
        self.schedule_ack(in_order && whole, payload.len() as u64, now);
    }

    /// Stores bytes that start at or after `next`. False when there is no memory for them or too many holes.
    fn store(&mut self, start: u64, payload: &[u8]) -> bool {
        let end = start + payload.len() as u64;
        let needed = (end - self.read) as usize;
        if needed > self.ring.capacity() {
            let live = self.beyond.end().unwrap_or(self.next);
            if self.read == live {
                self.ring.rewind(self.read);
            }
            let capacity = needed.max(self.ring_min);
            if capacity.next_power_of_two() > self.ring_max || !self.ring.reserve(capacity, self.read, live) {
                return false;
            }
        }
        if start == self.next && self.beyond.is_empty() {
            self.ring.write(start, payload);
            self.next = end;
            return true;
        }
        if start > self.next && self.beyond.len() >= RANGES_MAX && self.beyond.is_apart(start, end) {
            return false;
        }
        let ring = &mut self.ring;
        let mut fresh = false;
        // Only the gaps: bytes once received are never replaced by others (RFC 9293 3.10.7.4 trims to what is new).
        let (left, right) = self.beyond.insert(start, end, |from, to| {
            fresh = true;
            ring.write(from, &payload[(from - start) as usize..(to - start) as usize]);
        });
        if !fresh {
            self.report_duplicate(start, end);
        }
        if start > self.next {
            self.remember(left, right, start);
        }
        true
    }

    /// Moves `next` over what has become contiguous.
    fn advance(&mut self) {
        if let Some((left, right)) = self.beyond.first()
            && left <= self.next
        {
            self.next = self.next.max(right);
            self.beyond.pop_first();
        }
        if self.beyond.is_empty() {
            self.recents = 0;
        }
        if self.fin == Some(self.next) {
            self.finished = true;
        }
    }

    /// Puts the range `left..right`, which `position` is part of, first in the list for SACK (RFC 2018 section 4).
    fn remember(&mut self, left: u64, right: u64, position: u64) {
        let others: [u64; RECENT] = self.recent;
        let mut count = 0;
        self.recent[count] = position;
        count += 1;
        for &other in &others[..self.recents] {
            if !(left..right).contains(&other) && count < RECENT {
                self.recent[count] = other;
                count += 1;
            }
        }
        self.recents = count;
    }

    fn report_duplicate(&mut self, left: u64, right: u64) {
        if left < right {
            self.duplicate = Some((left, right));
        }
    }

    /// Decides when what just arrived is acknowledged: at once when the peer has to know (a hole, a FIN, something
    /// unexpected; RFC 5681 4.2), for every second full segment, and for the first ones; later otherwise.
    fn schedule_ack(&mut self, in_order: bool, length: u64, now: Time) {
        let full = self.full_segment();
        if length >= full && self.quick > 0 {
            self.quick -= 1;
            self.ack_now = true;
        }
        if !in_order || self.finished || self.acknowledgment() - self.acknowledged >= 2 * full {
            self.ack_now = true;
        }
        if !self.ack_now && self.ack_at.is_none() {
            self.ack_at = Some(after(now, ACK_DELAY));
        }
    }

    /// What counts as a full segment of the peer.
    fn full_segment(&self) -> u64 {
        self.largest.max(FULL_MIN)
    }

    /// Something unacceptable arrived: the peer has to hear where we are (RFC 9293 3.10.7.4).
    pub fn demand_ack(&mut self) {
        self.ack_now = true;
    }

    /// Whether an acknowledgment has to go out now.
    pub fn owes_ack(&self) -> bool {
        self.ack_now
    }

    /// Whether acknowledgments have to carry more than a number: those do not ride on data.
    pub fn has_reports(&self) -> bool {
        self.selective && (self.duplicate.is_some() || !self.beyond.is_empty())
    }

    /// When a delayed acknowledgment is due.
    pub fn deadline(&self) -> Option<Time> {
        self.ack_at
    }

    /// Turns a delayed acknowledgment that is due into one that is owed.
    pub fn expire(&mut self, now: Time) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_now = true;
        }
    }

    /// An acknowledgment left with the number and the window of this moment.
    pub fn ack_sent(&mut self) {
        self.acknowledged = self.acknowledgment();
        self.ack_now = false;
        self.ack_at = None;
    }

    /// SACK blocks for the next acknowledgment: a duplicate first (RFC 2883), then the ranges that arrived last.
    pub fn reports(&mut self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if !self.selective {
            return blocks;
        }
        let mut push = |left, right| blocks.push(Seq::from_position(left), Seq::from_position(right));
        if let Some((left, right)) = self.duplicate.take() {
            push(left, right);
            // The block around a duplicate follows it (RFC 2883 section 4, case 4).
            if let Some((around, end)) = self.beyond.containing(left) {
                self.remember(around, end, left);
            }
        }
        for &position in &self.recent[..self.recents] {
            if let Some((left, right)) = self.beyond.containing(position) {
                push(left, right);
            }
        }
        blocks
    }

    /// In-order bytes not yet consumed.
    pub fn readable(&self) -> (&[u8], &[u8]) {
        self.ring.slices(self.read, self.next)
    }

    /// Takes `count` bytes off the front.
    pub fn consume(&mut self, count: usize) {
        let count = (count as u64).min(self.next - self.read);
        self.read += count;
        self.received += count;
        if self.is_drained() && self.beyond.is_empty() {
            self.ring.rewind(self.read);
        }
        if count > 0 && self.opens_window() {
            self.ack_now = true;
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.beyond.clear();
        self.next = self.read;
        self.ring.release();
    }

    /// When a buffer that holds nothing may be freed: `linger` microseconds after data last arrived.
    pub fn release_at(&self, linger: u64) -> Option<Time> {
        let empty = self.is_drained() && self.beyond.is_empty() && self.ring.capacity() > 0;
        empty.then(|| after(self.active_at, linger))
    }

    /// Frees the buffer.
    pub fn release(&mut self) {
        self.ring.release();
    }
}
