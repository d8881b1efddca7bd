//! How fast the path delivers: one rate sample per acknowledgment (draft-ietf-ccwg-bbr, "Delivery Rate Samples").
//!
//! Every segment takes a snapshot of what had been delivered when it was sent. When it is acknowledged, the difference is
//! what the path delivered meanwhile, and the longer of the sending and the acknowledging interval is how long it took. The
//! longer of the two, because either end may have been compressed into a burst that says nothing about the bottleneck.

use super::scoreboard::Sent;
use crate::Time;
use crate::tcp::clock::between;

/// Connection-wide counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// Bytes acknowledged, cumulatively or selectively.
    pub delivered: u64,
    /// Bytes taken for lost.
    pub lost: u64,
    delivered_at: Time,
    first_sent_at: Time,
    /// Up to this count of delivered bytes, samples say what the application did and not what the path can do.
    limited_until: Option<u64>,
}

/// The state of the path while one segment was under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// [`Delivery::delivered`] at sending; differences of it are below 2^32.
    pub delivered: u32,
    /// [`Delivery::lost`] at sending.
    pub lost: u32,
    /// From the latest delivery before sending to sending, in microseconds.
    since_delivered: u32,
    /// From the start of the sending interval to sending, in microseconds.
    since_first: u32,
    /// Bytes in flight including this segment.
    pub in_flight: u32,
    /// Whether the sender had run out of data.
    pub limited: bool,
}

/// What one acknowledgment tells about the path.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// Bytes this acknowledgment newly covers.
    pub newly_delivered: u64,
    /// Round trip of the latest sent of the newly covered segments, if unambiguous; microseconds.
    pub rtt: Option<u64>,
    /// Delivery rate in bytes per second; zero when the interval is too short to trust.
    pub rate: f64,
    /// Bytes delivered over the sample's interval.
    pub delivered: u64,
    /// [`Delivery::delivered`] when the newest covered segment was sent; none without one.
    pub prior_delivered: Option<u64>,
    /// Whether the application, and not the path, set the pace.
    pub limited: bool,
    /// Bytes in flight when the newest covered segment was sent.
    pub in_flight: u64,
    /// Bytes lost since then.
    pub lost: u64,
    newest: Option<(Time, u64)>,
    interval: u64,
    lost_then: u32,
}

impl Sample {
    /// When the latest sent of the newly covered segments was sent.
    pub fn newest_sent_at(&self) -> Option<Time> {
        self.newest.map(|(at, _)| at)
    }
}

fn narrow(micros: u64) -> u32 {
    u32::try_from(micros).unwrap_or(u32::MAX)
}

impl Delivery {
    /// Takes the snapshot for a segment sent at `now`; `in_flight` is without it.
    pub fn snapshot(&mut self, in_flight: u64, length: u64, now: Time) -> Snapshot {
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered as u32,
            lost: self.lost as u32,
            since_delivered: narrow(between(self.delivered_at, now)),
            since_first: narrow(between(self.first_sent_at, now)),
            in_flight: u32::try_from(in_flight + length).unwrap_or(u32::MAX),
            limited: self.limited_until.is_some(),
        }
    }

    /// Marks what is sent from here on, until what is in flight is delivered, as limited by the application.
    pub fn mark_limited(&mut self, in_flight: u64) {
        self.limited_until = Some(self.delivered + in_flight);
    }

    /// Whether what is sent at present is limited by the application.
    pub fn is_limited(&self) -> bool {
        self.limited_until.is_some()
    }

    /// Counts one newly acknowledged segment.
    pub fn count(&mut self, sent: &Sent, sample: &mut Sample, now: Time) {
        let length = u64::from(sent.length);
        self.delivered += length;
        self.delivered_at = now;
        sample.newly_delivered += length;
        let this = (sent.sent_at, sent.end());
        if sample.newest.is_none_or(|newest| this > newest) {
            let snapshot = &sent.snapshot;
            sample.newest = Some(this);
            sample.limited = snapshot.limited;
            sample.in_flight = u64::from(snapshot.in_flight);
            sample.lost_then = snapshot.lost;
            // Widened again: the count at sending lies at most 2^32 back.
            let behind = (self.delivered as u32).wrapping_sub(snapshot.delivered);
            sample.prior_delivered = Some(self.delivered - u64::from(behind));
            let acknowledging = between(sent.sent_at, now) + u64::from(snapshot.since_delivered);
            sample.interval = acknowledging.max(u64::from(snapshot.since_first));
            sample.rtt = (!sent.retransmitted()).then(|| between(sent.sent_at, now).max(1));
        }
    }

    /// Completes the sample after all segments of an acknowledgment were counted and losses marked.
    pub fn complete(&mut self, sample: &mut Sample, min_rtt: Option<u64>) {
        if self.limited_until.is_some_and(|until| self.delivered > until) {
            self.limited_until = None;
        }
        let (Some(prior), Some((newest_sent_at, _))) = (sample.prior_delivered, sample.newest) else {
            return;
        };
        self.first_sent_at = self.first_sent_at.max(newest_sent_at);
        sample.delivered = self.delivered - prior;
        sample.lost = u64::from((self.lost as u32).wrapping_sub(sample.lost_then));
        // Shorter than the path's own delay: a spurious retransmission confuses which copy was acknowledged.
        if sample.interval >= min_rtt.unwrap_or(1).max(1) {
            sample.rate = sample.delivered as f64 * 1e6 / sample.interval as f64;
        }
    }
}
