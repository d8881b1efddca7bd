//! What an acknowledgment changes.

use super::bbr::Ack;
use super::delivery::Sample;
use super::rack::Rack;
use super::scoreboard::Sent;
use super::{Sender, timers};
use crate::Time;
use crate::tcp::clock::{after, between};
use crate::tcp::segment::SackBlocks;

/// Duplicate acknowledgments that stand for a loss when the peer cannot report selectively (RFC 5681 3.2).
const DUPLICATE_THRESHOLD: u32 = 3;

/// An acceptable acknowledgment.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Acknowledged<'a> {
    /// The acknowledgment number; between `una` and `next`.
    pub ack: u64,
    pub sack: &'a SackBlocks,
    /// No data, no SYN or FIN, the same window: may be a duplicate (RFC 5681 section 2).
    pub bare: bool,
    /// Round trip by timestamps, when negotiated and when the acknowledgment is for new data (RFC 7323 section 4).
    pub rtt: Option<u64>,
}

/// Round trips of newly delivered segments: RTO wants the longest, so that it is not surprised.
#[derive(Default)]
struct Longest {
    rtt: Option<u64>,
    /// A retransmission was acknowledged cumulatively: what it acknowledges besides may have arrived long ago.
    unclear: bool,
}

impl Longest {
    fn see(&mut self, sent: &Sent, now: Time) {
        if sent.retransmitted() {
            self.unclear = true;
        } else {
            let rtt = between(sent.sent_at, now);
            self.rtt = Some(self.rtt.map_or(rtt, |longest| longest.max(rtt)));
        }
    }

    /// The sample, by Karn's rule (RFC 6298 section 3) taken for the acknowledgment as a whole.
    fn sample(&self) -> Option<u64> {
        self.rtt.filter(|_| !self.unclear)
    }
}

impl Sender {
    /// Processes an acknowledgment.
    pub fn acknowledge(&mut self, acknowledged: &Acknowledged<'_>, now: Time) {
        let ack = acknowledged.ack;
        self.note_if_limited();
        if self.board.is_empty() && acknowledged.sack.is_empty() {
            return;
        }
        let min_rtt = self.bbr.min_rtt().unwrap_or(0);
        let mut sample = Sample::default();
        let mut longest = Longest::default();
        let advanced = ack > self.una;
        let lost_before = self.delivery.lost;
        let mut needless = false;

        while let Some(sent) = self.board.pop_acknowledged(ack) {
            if !sent.sacked() {
                self.rack.delivered(&sent, min_rtt, now);
                self.delivery.count(&sent, &mut sample, now);
                longest.see(&sent, now);
            }
        }
        if advanced {
            self.counters.acknowledged += ack.min(self.end) - self.una;
            // The window is an edge: it stays where it was until the next update.
            self.window = self.window.saturating_sub(ack - self.una);
            self.una = ack;
        }
        if self.selective {
            needless = self.take_reports(acknowledged, &mut sample, &mut longest, min_rtt, now);
        }
        self.end_probe(acknowledged, needless, sample.newly_delivered > 0, now);

        if let Some(rtt) = longest.sample().or(acknowledged.rtt.filter(|_| advanced)) {
            self.rtt.sample(rtt);
        }
        if advanced || sample.newly_delivered > 0 {
            self.progress_at = now;
        }
        if advanced {
            self.rtt.progress();
            self.stalled_since = None;
            self.duplicates = 0;
            self.note_size_works(now);
        } else if acknowledged.bare && !self.selective {
            self.duplicates += 1;
        }
        self.end_recovery();
        self.detect_losses(now);
        if !self.selective {
            self.detect_losses_by_count(advanced, now);
        }

        if sample.newly_delivered > 0 || self.delivery.lost > lost_before {
            self.delivery.complete(&mut sample, self.bbr.min_rtt());
            if self.bbr.holds_back() {
                self.delivery.mark_limited(self.board.in_flight());
            }
            let round = self.bbr.round();
            self.bbr.acknowledged(&Ack {
                sample: &sample,
                delivery: &self.delivery,
                in_flight: self.board.in_flight(),
                window_limited: self.window_limited.contains(&true),
                now,
            });
            if self.bbr.round() != round {
                self.window_limited = [false, self.window_limited[0]];
            }
            self.update_pacing();
        }
        if self.board.is_empty() {
            self.reorder_at = None;
            self.probe = None;
        }
        self.ring.fit(self.una.min(self.end), self.end, self.ring_min, now);
    }

    /// Takes SACK blocks (RFC 2018 section 5). Returns whether the first reported a duplicate (RFC 2883 section 5).
    fn take_reports(
        &mut self,
        acknowledged: &Acknowledged<'_>,
        sample: &mut Sample,
        longest: &mut Longest,
        min_rtt: u64,
        now: Time,
    ) -> bool {
        let una = self.una;
        let mut needless = false;
        let mut blocks = [(0, 0); 4];
        let count = acknowledged.sack.len();
        for (block, &(left, right)) in blocks.iter_mut().zip(acknowledged.sack.iter()) {
            *block = (left.unwrap_near(una), right.unwrap_near(una));
        }
        for (index, &(left, right)) in blocks[..count].iter().enumerate() {
            if left >= right || right > self.next {
                continue;
            }
            let enclosed = count > 1 && blocks[1].0 <= left && right <= blocks[1].1;
            if index == 0 && (right <= acknowledged.ack || enclosed) {
                needless = true;
                continue;
            }
            let left = left.max(una);
            if left < right {
                let Self { board, rack, delivery, .. } = self;
                board.report(left, right, |sent| {
                    rack.delivered(sent, min_rtt, now);
                    delivery.count(sent, sample, now);
                    longest.see(sent, now);
                });
            }
        }
        if needless {
            self.counters.spurious += 1;
            self.rack.duplicate_reported(una, self.next);
            self.undo_left = self.undo_left.map(|left| left.saturating_sub(1));
            if self.undo_left == Some(0) && self.recovery.is_some() && self.board.lost_bytes() == 0 {
                // Every retransmission of this recovery was needless.
                self.undo_left = None;
                self.recovery = None;
                self.bbr.undo(now);
            }
        }
        needless
    }

    /// Settles a tail loss probe (RFC 8985 7.4).
    fn end_probe(&mut self, acknowledged: &Acknowledged<'_>, needless: bool, news: bool, now: Time) {
        let Some(probe) = self.probe else { return };
        if acknowledged.ack < probe.end {
            return;
        }
        let duplicate = acknowledged.bare && acknowledged.sack.is_empty() && !news;
        if !probe.retransmission || needless || duplicate {
            self.probe = None;
        } else if acknowledged.ack >= probe.end {
            // The probe repaired a loss that nothing else would have shown.
            self.probe = None;
            self.bbr.repaired_unseen(self.size.mss, now);
        }
    }

    fn end_recovery(&mut self) {
        if self.recovery.is_some_and(|end| self.una >= end) {
            self.recovery = None;
            self.undo_left = None;
            self.rack.recovered();
            self.bbr.recovered();
        }
    }

    /// Runs RACK, now or when its timer is due.
    pub(super) fn detect_losses(&mut self, now: Time) {
        if !self.selective || !self.rack.has_delivered() {
            self.reorder_at = None;
            return;
        }
        let smoothed = self.rtt.smoothed().unwrap_or(0);
        let min_rtt = self.bbr.min_rtt().unwrap_or(smoothed);
        let outstanding = self.next - self.una;
        let reported = outstanding - self.board.in_flight() - self.board.lost_bytes();
        let eager = self.recovery.is_some() || reported >= Rack::proof(self.size.mss);
        let mut any = false;
        let Self { board, rack, delivery, bbr, .. } = self;
        self.reorder_at = rack.detect(board, smoothed, min_rtt, eager, now, |sent| {
            delivery.lost += u64::from(sent.length);
            bbr.lost(sent, delivery, now);
            any = true;
        });
        // Re-arming for the very same instant would spin.
        self.reorder_at = self.reorder_at.map(|at| at.max(after(now, 1)));
        if any {
            self.start_recovery();
        }
    }

    pub(super) fn start_recovery(&mut self) {
        if self.recovery.is_none() {
            self.recovery = Some(self.next);
            self.undo_left = None;
            self.bbr.recovery_started();
        }
    }

    /// Loss detection for peers without SACK: NewReno (RFC 6582). Three duplicates, or a partial acknowledgment during
    /// recovery, stand for the loss of the first segment.
    fn detect_losses_by_count(&mut self, advanced: bool, now: Time) {
        let partial = advanced && self.recovery.is_some();
        let third = self.duplicates == DUPLICATE_THRESHOLD && self.recovery.is_none();
        if partial || third {
            self.lose(self.board.first_id(), now);
            self.start_recovery();
        }
    }

    /// Takes the record `id` for lost.
    pub(super) fn lose(&mut self, id: u64, now: Time) {
        if let Some(sent) = self.board.mark_lost(id) {
            self.delivery.lost += u64::from(sent.length);
            self.bbr.lost(&sent, &self.delivery, now);
        }
    }

    /// Something got through: what was sent at a reduced size proves that size (RFC 8899 section 4.1).
    fn note_size_works(&mut self, now: Time) {
        let size = &mut self.size;
        if size.mss < size.agreed && size.raise_at.is_none() {
            size.proven = Some(size.mss);
            size.raise_at = Some(after(now, size.raise_wait));
            size.raise_wait = (size.raise_wait * timers::RAISE_GROWTH).min(timers::RAISE_LAST);
        }
    }
}
