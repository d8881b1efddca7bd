//! What is in flight: one record per segment, which of them the peer reported (RFC 2018), which are taken for lost.
//!
//! Records are kept in sequence order in a deque and addressed by an id that counts up for ever, so finding a record by id is
//! an index and by position a binary search. Three facts keep every step cheap at thousands of segments in flight:
//! - SACK blocks repeat what earlier acknowledgments said. A set of reported ranges yields the part that is news, and only
//!   its records are touched.
//! - Records that were sent once are in order of time already. A cursor passes each of them once on the way to the oldest
//!   still in flight; only retransmissions need a queue of their own.
//! - What waits for retransmission is a heap of ids, so the lowest comes first and stale entries are skipped when popped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::delivery::Snapshot;
use crate::Time;
use crate::tcp::ranges::Ranges;

const SACKED: u8 = 1;
const LOST: u8 = 2;
const RETRANSMITTED: u8 = 4;
const FIN: u8 = 8;
const PUSH: u8 = 16;

/// One segment in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Position of its first octet.
    pub start: u64,
    /// When it was last sent.
    pub sent_at: Time,
    pub snapshot: Snapshot,
    /// Sequence space it takes: payload, plus one for a FIN.
    pub length: u16,
    flags: u8,
}

impl Sent {
    pub fn new(start: u64, payload: usize, fin: bool, push: bool, snapshot: Snapshot, now: Time) -> Self {
        let flags = if fin { FIN } else { 0 } | if push { PUSH } else { 0 };
        Self { start, sent_at: now, snapshot, length: payload as u16 + u16::from(fin), flags }
    }

    pub fn end(&self) -> u64 {
        self.start + u64::from(self.length)
    }

    pub fn fin(&self) -> bool {
        self.flags & FIN != 0
    }

    pub fn push(&self) -> bool {
        self.flags & PUSH != 0
    }

    /// Octets of data it carries.
    pub fn payload(&self) -> usize {
        usize::from(self.length) - usize::from(self.fin())
    }

    pub fn retransmitted(&self) -> bool {
        self.flags & RETRANSMITTED != 0
    }

    pub fn sacked(&self) -> bool {
        self.flags & SACKED != 0
    }

    pub fn lost(&self) -> bool {
        self.flags & LOST != 0
    }

    fn in_flight(&self) -> bool {
        self.flags & (SACKED | LOST) == 0
    }
}

/// All records of a connection.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    records: VecDeque<Sent>,
    /// Id of the first record.
    first: u64,
    /// No record before this id is in flight and sent only once.
    cursor: u64,
    /// Retransmissions in order of time; an entry whose time is not the record's own is stale.
    resent: VecDeque<(u64, Time)>,
    lost: BinaryHeap<Reverse<u64>>,
    reported: Ranges,
    in_flight: u64,
    /// Records in flight.
    flying: usize,
    lost_bytes: u64,
}

impl Scoreboard {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes sent and neither reported nor taken for lost.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Segments sent and neither reported nor taken for lost.
    pub fn flying(&self) -> usize {
        self.flying
    }

    /// Bytes taken for lost and not yet sent again.
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Whether the peer reported anything out of order.
    pub fn has_reports(&self) -> bool {
        !self.reported.is_empty()
    }

    /// Bytes of memory the records take.
    pub fn memory(&self) -> usize {
        self.records.capacity() * size_of::<Sent>()
    }

    /// Frees memory; the board must be empty.
    pub fn release(&mut self) {
        debug_assert!(self.is_empty());
        self.records = VecDeque::new();
        self.resent = VecDeque::new();
        self.lost = BinaryHeap::new();
    }

    /// Adds a segment that was just sent for the first time.
    pub fn push(&mut self, sent: Sent) {
        self.in_flight += u64::from(sent.length);
        self.flying += 1;
        self.records.push_back(sent);
    }

    fn index(&self, id: u64) -> Option<usize> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        (index < self.records.len()).then_some(index)
    }

    pub fn get(&self, id: u64) -> Option<&Sent> {
        self.index(id).map(|index| &self.records[index])
    }

    pub fn front(&self) -> Option<&Sent> {
        self.records.front()
    }

    /// Id of the last record.
    pub fn last_id(&self) -> Option<u64> {
        (self.first + self.records.len() as u64).checked_sub(1).filter(|_| !self.is_empty())
    }

    /// Takes the next record that the cumulative acknowledgment `una` covers, as it was before. A record covered in part is
    /// cut: a peer may acknowledge in the middle of a segment.
    pub fn pop_acknowledged(&mut self, una: u64) -> Option<Sent> {
        let front = self.records.front_mut()?;
        if front.end() > una {
            if front.start < una {
                let cut = (una - front.start) as u16;
                if front.in_flight() {
                    self.in_flight -= u64::from(cut);
                } else if front.lost() {
                    self.lost_bytes -= u64::from(cut);
                }
                front.start = una;
                front.length -= cut;
            }
            self.reported.remove_below(una);
            return None;
        }
        let record = *front;
        self.records.pop_front();
        self.first += 1;
        self.forget(&record);
        if self.records.is_empty() {
            self.reported.remove_below(una);
        }
        Some(record)
    }

    /// Takes a record's bytes out of the sums it is part of.
    fn forget(&mut self, record: &Sent) {
        if record.in_flight() {
            self.in_flight -= u64::from(record.length);
            self.flying -= 1;
        } else if record.lost() {
            self.lost_bytes -= u64::from(record.length);
        }
    }

    /// Notes that the peer reported `left..right` and calls `newly` with each record that is now covered, as it was before.
    pub fn report(&mut self, left: u64, right: u64, mut newly: impl FnMut(&Sent)) {
        let mut gaps: [(u64, u64); 8] = [(0, 0); 8];
        let mut count = 0;
        let (start, end) = self.reported.insert(left, right, |from, to| {
            if let Some(slot) = gaps.get_mut(count) {
                *slot = (from, to);
            } else {
                // More news than slots: take the rest as one stretch; records in it that were known are skipped below.
                gaps[7].1 = to;
            }
            count += 1;
        });
        for &(from, to) in &gaps[..count.min(8)] {
            // Also the record that a gap completes: one whose first part was reported earlier.
            let mut index = self.records.partition_point(|record| record.end() <= from);
            while let Some(record) = self.records.get_mut(index) {
                if record.start >= to {
                    break;
                }
                if record.start >= start && record.end() <= end && !record.sacked() {
                    let before = *record;
                    record.flags = (record.flags & !LOST) | SACKED;
                    self.forget(&before);
                    newly(&before);
                }
                index += 1;
            }
        }
    }

    /// The lowest record taken for lost and not yet sent again.
    pub fn next_lost(&mut self) -> Option<(u64, Sent)> {
        while let Some(&Reverse(id)) = self.lost.peek() {
            if let Some(record) = self.get(id).filter(|record| record.lost()) {
                return Some((id, *record));
            }
            self.lost.pop();
        }
        None
    }

    /// Notes that the record `id` was sent again.
    pub fn resend(&mut self, id: u64, snapshot: Snapshot, now: Time) {
        let Some(index) = self.index(id) else { return };
        let record = &mut self.records[index];
        if record.lost() {
            self.lost_bytes -= u64::from(record.length);
            self.in_flight += u64::from(record.length);
            self.flying += 1;
        }
        record.flags = (record.flags & !LOST) | RETRANSMITTED;
        record.sent_at = now;
        record.snapshot = snapshot;
        self.resent.push_back((id, now));
    }

    /// Takes the record `id` for lost.
    pub fn mark_lost(&mut self, id: u64) -> Option<Sent> {
        let index = self.index(id)?;
        let record = &mut self.records[index];
        if !record.in_flight() {
            return None;
        }
        let before = *record;
        record.flags |= LOST;
        self.in_flight -= u64::from(record.length);
        self.flying -= 1;
        self.lost_bytes += u64::from(record.length);
        self.lost.push(Reverse(id));
        Some(before)
    }

    /// The two candidates for the segment that has been in flight longest: of those sent once, and of those sent again.
    pub fn oldest_in_flight(&mut self) -> Option<(u64, Sent)> {
        self.cursor = self.cursor.max(self.first);
        while self.get(self.cursor).is_some_and(|record| !record.in_flight() || record.retransmitted()) {
            self.cursor += 1;
        }
        while let Some(&(id, at)) = self.resent.front() {
            if self.get(id).is_some_and(|record| record.in_flight() && record.sent_at == at) {
                break;
            }
            self.resent.pop_front();
        }
        let once = self.get(self.cursor).map(|record| (self.cursor, *record));
        let again = self.resent.front().and_then(|&(id, _)| self.get(id).map(|record| (id, *record)));
        match (once, again) {
            (Some(a), Some(b)) => {
                Some(if (a.1.sent_at, a.1.end()) <= (b.1.sent_at, b.1.end()) { a } else { b })
            }
            (one, other) => one.or(other),
        }
    }

    /// Id of the first record.
    pub fn first_id(&self) -> u64 {
        self.first
    }

    /// Forgets everything the peer reported: it may drop out-of-order data that it reported (RFC 2018 section 8).
    pub fn forget_reports(&mut self) {
        for record in &mut self.records {
            if record.sacked() {
                record.flags &= !SACKED;
                self.in_flight += u64::from(record.length);
                self.flying += 1;
            }
        }
        self.reported.clear();
        self.cursor = self.first;
    }

    /// Cuts records that carry more than `payload` octets: the path has turned out not to carry them. Ids change, so what
    /// was taken for lost stays so under new ids and the order of retransmissions starts over.
    pub fn resegment(&mut self, payload: usize) {
        let old = std::mem::take(&mut self.records);
        self.lost.clear();
        self.resent.clear();
        self.cursor = self.first;
        for record in old {
            let mut rest = record;
            while rest.payload() > payload {
                let mut piece = rest;
                piece.length = payload as u16;
                piece.flags &= !(FIN | PUSH);
                rest.start += payload as u64;
                rest.length -= payload as u16;
                self.records.push_back(piece);
            }
            self.records.push_back(rest);
        }
        for index in 0..self.records.len() {
            let id = self.first + index as u64;
            let record = self.records[index];
            if record.lost() {
                self.lost.push(Reverse(id));
            } else if record.in_flight() && record.retransmitted() {
                self.resent.push_back((id, record.sent_at));
            }
        }
        self.flying = self.records.iter().filter(|record| record.in_flight()).count();
        self.resent.make_contiguous().sort_by_key(|&(_, at)| at);
    }
}
