//! The model of the path: bandwidth, round trip, aggregation, and what loss says about them.

use super::cycle::Phase;
use super::{Ack, Bbr, UNBOUNDED};
use crate::Time;
use crate::tcp::clock::{MILLISECOND, SECOND, between};

/// BBR.LossThresh: loss below this is no reason to slow down.
const LOSS_THRESHOLD: f64 = 0.02;
/// BBR.Beta: the most that one round of loss takes, no more than CUBIC's decrease.
const BETA: f64 = 0.7;
/// The least that a round above the tolerance takes, so that a few rounds are an experiment with a visible outcome.
const YIELD: f64 = 0.93;
/// Rounds of yielding after which unchanged loss is taken not to be ours.
const YIELD_ROUNDS: u32 = 5;
/// Loss that stays above this share of what it was has not reacted to the yielding.
const UNCHANGED: f64 = 0.6;
/// Loss above this is never taken for ambient: at such rates backing off is right, whoever causes it.
const AMBIENT_MAX: f64 = 0.15;
/// How long a verdict of ambient loss stands before it is tested again.
const AMBIENT_LIFE: u64 = 10 * SECOND;
/// Segments a loss rate is taken over at least; fewer say nothing at a few percent.
const LOSS_SAMPLE: u64 = 48;
/// BBR.MinRTTFilterLen.
const MIN_RTT_LIFE: u64 = 10 * SECOND;
/// BBR.ProbeRTTInterval.
pub(super) const PROBE_RTT_INTERVAL: u64 = 5 * SECOND;

/// Loss, round by round, and whether it depends on what we do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossWatch {
    in_round: bool,
    round_lost: u64,
    round_segments: u64,
    lost: u64,
    delivered: u64,
    /// Lowest round trip since the loss rate was last taken.
    rtt: Option<u64>,
    /// Segments sent before this time were sent to find the limit; what became of them is another matter.
    from: Time,
    bad_rounds: u32,
    first_rate: f64,
    /// Loss that does not react to our rate, as a share; and since when that is believed.
    ambient: f64,
    ambient_at: Time,
}

impl LossWatch {
    pub fn lost(&mut self, bytes: u64, sent_at: Time) {
        self.in_round = true;
        self.round_lost += bytes;
        self.round_segments += 1;
        if sent_at >= self.from {
            self.lost += bytes;
        }
    }

    /// Acceleration is over: the loss rate is taken anew, over what is sent from here on.
    pub fn restart(&mut self, now: Time) {
        self.from = now;
        self.bad_rounds = 0;
        self.reset_rate();
    }

    pub fn lost_in_round(&self) -> bool {
        self.in_round
    }

    pub fn start_round(&mut self) {
        self.in_round = false;
        self.round_lost = 0;
        self.round_segments = 0;
    }

    fn reset_rate(&mut self) {
        self.lost = 0;
        self.delivered = 0;
        self.rtt = None;
    }

    /// The share of loss below which nothing is done.
    fn tolerance(&self) -> f64 {
        if self.ambient > 0.0 { self.ambient * 1.2 + LOSS_THRESHOLD } else { LOSS_THRESHOLD }
    }

    /// Whether `lost` of `volume` bytes is more than the tolerance, and not by chance: beyond two standard deviations of
    /// what the tolerance leads to expect.
    fn exceeds(&self, lost: u64, volume: u64, mss: u64) -> bool {
        let expected = volume as f64 / mss as f64 * self.tolerance();
        lost as f64 / mss as f64 > expected + 2.0 * expected.sqrt()
    }
}

/// The maximum over the last five to ten rounds (BBR.ExtraAckedFilterLen = 10), in two buckets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundMax {
    slots: [u64; 2],
    since: u64,
}

impl RoundMax {
    pub fn max(&self) -> u64 {
        self.slots[0].max(self.slots[1])
    }

    fn update(&mut self, value: u64, round: u64, bucket: u64) {
        if round >= self.since + bucket {
            self.slots = [0, if round >= self.since + 2 * bucket { 0 } else { self.slots[0] }];
            self.since = round;
        }
        self.slots[0] = self.slots[0].max(value);
    }
}

impl Bbr {
    pub(super) fn max_bandwidth(&self) -> f64 {
        self.bandwidths[0].max(self.bandwidths[1])
    }

    /// AdvanceMaxBwFilter.
    pub(super) fn advance_bandwidth_filter(&mut self) {
        self.bandwidths = [0.0, self.bandwidths[0]];
    }

    /// StartRound.
    pub(super) fn start_round(&mut self, delivered: u64) {
        self.round_end = delivered;
    }

    /// UpdateLatestDeliverySignals and UpdateRound.
    pub(super) fn update_latest(&mut self, ack: &Ack<'_>) {
        let sample = ack.sample;
        self.loss_round_start = false;
        self.round_start = false;
        self.bandwidth_latest = self.bandwidth_latest.max(sample.rate);
        self.inflight_latest = self.inflight_latest.max(sample.delivered);
        if sample.newest_sent_at().is_some_and(|at| at >= self.watch.from) {
            self.watch.delivered += sample.newly_delivered;
        }
        if let Some(rtt) = sample.rtt {
            self.watch.rtt = Some(self.watch.rtt.map_or(rtt, |low| low.min(rtt)));
            self.rtt_latest = Some(rtt);
        }
        let Some(prior) = sample.prior_delivered else { return };
        if prior >= self.loss_round_end {
            self.loss_round_end = ack.delivery.delivered;
            self.loss_round_start = true;
        }
        if prior >= self.round_end {
            self.start_round(ack.delivery.delivered);
            self.round += 1;
            self.rounds_since_probe += 1;
            self.round_start = true;
        }
    }

    /// UpdateCongestionSignals.
    pub(super) fn update_congestion(&mut self, ack: &Ack<'_>) {
        let sample = ack.sample;
        // UpdateMaxBw: what the application limited counts only when it beats the estimate.
        if sample.rate > 0.0 && (sample.rate >= self.max_bandwidth() || !sample.limited) {
            self.bandwidths[0] = self.bandwidths[0].max(sample.rate);
        }
        if self.loss_round_start && !self.phase.is_accelerating() {
            self.adapt_to_loss(ack.now);
        }
    }

    /// AdaptLowerBoundsFromCongestion, with the experiment that tells congestion from a lossy path.
    fn adapt_to_loss(&mut self, now: Time) {
        let total = self.watch.lost + self.watch.delivered;
        if total < LOSS_SAMPLE * self.mss {
            return;
        }
        let rate = self.watch.lost as f64 / total as f64;
        let bad = self.watch.exceeds(self.watch.lost, total, self.mss);
        let queue_empty = self.is_queue_empty(self.watch.rtt);
        self.watch.reset_rate();
        if self.watch.ambient > 0.0 {
            if between(self.watch.ambient_at, now) > AMBIENT_LIFE {
                self.watch.ambient = 0.0;
            } else {
                // Falls at once, rises only through the test.
                self.watch.ambient = self.watch.ambient.min((7.0 * self.watch.ambient + rate) / 8.0);
            }
        }
        if !bad {
            self.watch.bad_rounds = 0;
            return;
        }
        if self.bandwidth_shortterm.is_infinite() {
            self.bandwidth_shortterm = self.max_bandwidth();
        }
        if self.inflight_shortterm == UNBOUNDED {
            self.inflight_shortterm = self.window;
        }
        let bandwidth = self.bandwidth_shortterm;
        self.bandwidth_shortterm = self.bandwidth_latest.clamp(BETA * bandwidth, YIELD * bandwidth);
        let floor = (BETA * self.inflight_shortterm as f64) as u64;
        self.inflight_shortterm = self.inflight_latest.max(floor);
        if self.watch.bad_rounds == 0 {
            self.watch.first_rate = rate;
        }
        self.watch.bad_rounds += 1;
        let unchanged = rate >= UNCHANGED * self.watch.first_rate;
        if self.watch.bad_rounds >= YIELD_ROUNDS && unchanged && queue_empty && rate <= AMBIENT_MAX {
            self.watch.ambient = rate.max(self.watch.first_rate).min(AMBIENT_MAX);
            self.watch.ambient_at = now;
            self.watch.bad_rounds = 0;
            self.reset_shortterm();
            // Bounds found while the loss was held against us are void.
            self.inflight_longterm = UNBOUNDED;
        }
    }

    /// Whether a round trip is about as short as they come.
    pub(super) fn is_queue_empty(&self, rtt: Option<u64>) -> bool {
        rtt.zip(self.min_rtt).is_some_and(|(rtt, low)| rtt <= low + low / 8 + MILLISECOND)
    }

    /// ResetShortTermModel.
    pub(super) fn reset_shortterm(&mut self) {
        self.bandwidth_shortterm = f64::INFINITY;
        self.inflight_shortterm = UNBOUNDED;
    }

    /// ResetCongestionSignals.
    pub(super) fn reset_congestion_signals(&mut self) {
        self.watch.start_round();
        self.bandwidth_latest = 0.0;
        self.inflight_latest = 0;
    }

    /// Whether the round that ends lost so much that Startup has found the end of the pipe (CheckStartupHighLoss).
    pub(super) fn startup_lost_too_much(&self) -> bool {
        const RANGES: u64 = 6;
        const FLOOD: f64 = 0.2;
        let volume = self.inflight_latest + self.watch.round_lost;
        if !self.loss_round_start || self.watch.round_segments < RANGES || volume == 0 {
            return false;
        }
        let rate = self.watch.round_lost as f64 / volume as f64;
        rate > FLOOD || (rate > LOSS_THRESHOLD && self.full_bandwidth_count > 0)
    }

    /// IsInflightTooHigh.
    pub(super) fn is_too_high(&self, lost: u64, in_flight: u64) -> bool {
        self.watch.exceeds(lost, in_flight, self.mss)
    }

    /// InflightAtLoss: at what volume did losses cross the tolerance?
    pub(super) fn inflight_at_loss(&self, in_flight: u64, lost: u64, length: u64) -> u64 {
        let before = in_flight.saturating_sub(length) as f64;
        let lost_before = lost.saturating_sub(length) as f64;
        let tolerance = self.watch.tolerance();
        let prefix = (tolerance * before - lost_before) / (1.0 - tolerance);
        (before + prefix).max(0.0) as u64
    }

    /// HandleInflightTooHigh.
    pub(super) fn inflight_too_high(&mut self, in_flight: u64, limited: bool, now: Time) {
        self.probe_too_high = true;
        self.is_probe_sample = false;
        if !limited {
            self.inflight_longterm = in_flight.max((self.target_inflight() as f64 * BETA) as u64);
        }
        if self.phase == Phase::Up {
            if let Some(undo) = &mut self.undo {
                undo.phase = Some(Phase::Up);
            }
            self.start_down(now);
        }
    }

    /// UpdateACKAggregation.
    pub(super) fn update_aggregation(&mut self, ack: &Ack<'_>) {
        let elapsed = between(self.extra_acked_since, ack.now);
        let mut expected = (self.bandwidth * elapsed as f64 / 1e6) as u64;
        if self.extra_acked_delivered <= expected {
            self.extra_acked_delivered = 0;
            self.extra_acked_since = ack.now;
            expected = 0;
        }
        self.extra_acked_delivered += ack.sample.newly_delivered;
        let extra = self.extra_acked_delivered.saturating_sub(expected).min(self.window);
        let bucket = if self.full_bandwidth_reached { 5 } else { 1 };
        self.extra_acked.update(extra, self.round, bucket);
    }

    /// UpdateMinRTT.
    pub(super) fn update_min_rtt(&mut self, ack: &Ack<'_>) {
        self.probe_rtt_expired = between(self.probe_rtt_min_at, ack.now) > PROBE_RTT_INTERVAL;
        if let Some(rtt) = ack.sample.rtt
            && (self.probe_rtt_expired || self.probe_rtt_min.is_none_or(|low| rtt < low))
        {
            self.probe_rtt_min = Some(rtt);
            self.probe_rtt_min_at = ack.now;
        }
        let expired = between(self.min_rtt_at, ack.now) > MIN_RTT_LIFE;
        let lower = match (self.probe_rtt_min, self.min_rtt) {
            (Some(fresh), Some(low)) => fresh < low,
            (fresh, _) => fresh.is_some(),
        };
        if lower || expired {
            self.min_rtt = self.probe_rtt_min.or(self.min_rtt);
            self.min_rtt_at = self.probe_rtt_min_at;
        }
    }
}
