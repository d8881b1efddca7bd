//! The state machine: which experiment is run on the path, and when.

use super::{
    Ack, Bbr, DOWN_PACING_GAIN, DRAIN_PACING_GAIN, PROBE_RTT_WINDOW_GAIN, STARTUP_PACING_GAIN, UNBOUNDED,
    UP_PACING_GAIN, UP_WINDOW_GAIN, WINDOW_GAIN, WINDOW_MIN,
};
use crate::Time;
use crate::tcp::clock::{MILLISECOND, SECOND, after, between};

/// Growth that counts as growth while looking for the end of the pipe.
const FULL_GROWTH: f64 = 1.25;
/// Rounds without it that end the search.
const FULL_ROUNDS: u8 = 3;
/// Rounds after which Drain gives up.
const DRAIN_ROUNDS: u64 = 3;
/// BBR.Headroom: the share of `inflight_longterm` left to others while cruising.
const HEADROOM: f64 = 0.15;
/// The share of a BDP that cruising keeps in flight whatever the headroom.
const CRUISE_FLOOR: f64 = 0.96;
/// BBR.ProbeRTTDuration.
const PROBE_RTT_DURATION: u64 = 200 * MILLISECOND;
/// Rounds between probes at most, to coexist with Reno and CUBIC.
const RENO_ROUNDS: u64 = 63;

/// Growth of the bandwidth over a probe after which the next one follows at once. A flow that has its fair half of a line gains
/// 11 % while it probes, one that has a sixth or less 20 % and more.
const FOUND_MORE: f64 = 1.2;
/// Round trips between such probes: the queue that the first one made drains, and there are enough rounds at an even rate to
/// tell loss that is not congestion.
const SOON: u64 = 8;
/// So often a probe that was cut short is repeated at once.
const RETRIES: u8 = 4;

/// Where the state machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

impl Phase {
    /// IsInAProbeBWState.
    pub fn probes_bandwidth(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// IsProbingBW: sending faster to find more.
    pub fn is_accelerating(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

/// What acknowledgments that come in speak about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

impl Bbr {
    pub(super) fn enter_startup(&mut self) {
        self.phase = Phase::Startup;
        self.up_from = f64::INFINITY;
        self.pacing_gain = STARTUP_PACING_GAIN;
        self.window_gain = WINDOW_GAIN;
    }

    pub(super) fn reset_full_bandwidth(&mut self) {
        self.full_bandwidth = 0.0;
        self.full_bandwidth_count = 0;
        self.full_bandwidth_now = false;
    }

    /// CheckFullBWReached.
    pub(super) fn check_full_bandwidth(&mut self, ack: &Ack<'_>) {
        if self.full_bandwidth_now || !self.round_start || ack.sample.limited {
            return;
        }
        if ack.sample.rate >= self.full_bandwidth * FULL_GROWTH {
            self.reset_full_bandwidth();
            self.full_bandwidth = ack.sample.rate;
            return;
        }
        self.full_bandwidth_count += 1;
        self.full_bandwidth_now = self.full_bandwidth_count >= FULL_ROUNDS;
        self.full_bandwidth_reached |= self.full_bandwidth_now && self.max_bandwidth() > 0.0;
    }

    /// CheckStartupDone.
    pub(super) fn check_startup(&mut self, now: Time) {
        if self.phase != Phase::Startup {
            return;
        }
        if self.startup_lost_too_much() && self.max_bandwidth() > 0.0 {
            if let Some(undo) = &mut self.undo {
                undo.phase = Some(Phase::Startup);
            }
            self.full_bandwidth_reached = true;
            // Loss ended it while the bandwidth still grew.
            self.up_from = 0.0;
            self.inflight_longterm = self.bdp(self.max_bandwidth(), 1.0).max(self.inflight_latest);
        }
        if self.full_bandwidth_reached {
            self.watch.restart(now);
            self.phase = Phase::Drain;
            self.pacing_gain = DRAIN_PACING_GAIN;
            self.window_gain = WINDOW_GAIN;
            self.drain_start = self.round;
        }
    }

    /// CheckDrainDone.
    pub(super) fn check_drain(&mut self, ack: &Ack<'_>) {
        let drained = ack.in_flight <= self.inflight(self.max_bandwidth(), 1.0);
        if self.phase == Phase::Drain && (drained || self.round > self.drain_start + DRAIN_ROUNDS) {
            self.window_gain = WINDOW_GAIN;
            self.start_down(ack.now);
            self.start_round(ack.delivery.delivered);
        }
    }

    pub(super) fn start_down(&mut self, now: Time) {
        self.reset_congestion_signals();
        if self.phase == Phase::Up {
            self.watch.restart(now);
        }
        self.up_acked_per_increment = UNBOUNDED;
        // PickProbeWait: random, so that flows that share a bottleneck do not probe in step.
        self.rounds_since_probe = u64::from(self.random() < 0.5);
        self.probe_wait = 2 * SECOND + (self.random() * SECOND as f64) as u64;
        if self.is_worth_another_probe() {
            self.probe_wait = self.probe_wait.min(SOON * self.min_rtt.unwrap_or(SECOND));
        }
        self.cycle_at = now;
        self.ack_phase = AckPhase::ProbeStopping;
        self.phase = Phase::Down;
        self.pacing_gain = DOWN_PACING_GAIN;
        self.window_gain = WINDOW_GAIN;
    }

    /// Whether the acceleration that ends has not found the end of the pipe: it found much more, or loss cut it short although
    /// there is no queue. The latter happens at shallow buffers too, so not again and again.
    fn is_worth_another_probe(&mut self) -> bool {
        if !matches!(self.phase, Phase::Drain | Phase::Up) {
            return false;
        }
        if self.max_bandwidth() >= FOUND_MORE * self.up_from {
            self.retries = RETRIES;
            return true;
        }
        let is_cut_short =
            self.phase == Phase::Up && self.probe_too_high && self.is_queue_empty(self.rtt_latest);
        let again = is_cut_short && self.retries > 0;
        self.retries -= u8::from(again);
        again
    }

    fn start_cruise(&mut self) {
        self.phase = Phase::Cruise;
        self.pacing_gain = 1.0;
    }

    pub(super) fn start_refill(&mut self, _now: Time) {
        self.reset_shortterm();
        self.up_rounds = 0;
        self.up_acked = 0;
        self.probe_precautionary = false;
        self.ack_phase = AckPhase::Refilling;
        self.phase = Phase::Refill;
        self.pacing_gain = 1.0;
    }

    fn start_up(&mut self, ack: &Ack<'_>) {
        self.ack_phase = AckPhase::ProbeStarting;
        self.start_round(ack.delivery.delivered);
        self.reset_full_bandwidth();
        self.full_bandwidth = ack.sample.rate;
        self.phase = Phase::Up;
        self.up_from = self.max_bandwidth();
        self.pacing_gain = UP_PACING_GAIN;
        self.window_gain = UP_WINDOW_GAIN;
        self.raise_slope();
    }

    /// UpdateProbeBWCyclePhase.
    pub(super) fn advance_cycle(&mut self, ack: &Ack<'_>) {
        if !self.full_bandwidth_reached || self.adapt_longterm(ack) {
            return;
        }
        match self.phase {
            Phase::Down => {
                if self.is_time_to_probe(ack.now) {
                    self.start_refill(ack.now);
                    self.start_round(ack.delivery.delivered);
                } else if ack.in_flight <= self.inflight_with_headroom()
                    && ack.in_flight <= self.inflight(self.max_bandwidth(), 1.0)
                {
                    self.start_cruise();
                }
            }
            Phase::Cruise => {
                if self.is_time_to_probe(ack.now) {
                    self.start_refill(ack.now);
                    self.start_round(ack.delivery.delivered);
                }
            }
            Phase::Refill => {
                if self.round_start {
                    self.is_probe_sample = true;
                    self.start_up(ack);
                }
            }
            Phase::Up => {
                if self.is_time_to_go_down(ack) {
                    self.probe_too_high = false;
                    self.start_down(ack.now);
                    self.start_round(ack.delivery.delivered);
                }
            }
            Phase::Startup | Phase::Drain | Phase::ProbeRtt => {}
        }
    }

    /// IsTimeToProbeBW.
    fn is_time_to_probe(&self, now: Time) -> bool {
        let reno = (self.target_inflight() / self.mss).min(RENO_ROUNDS);
        between(self.cycle_at, now) > self.probe_wait || self.rounds_since_probe >= reno
    }

    /// IsTimeToGoDown.
    fn is_time_to_go_down(&mut self, ack: &Ack<'_>) -> bool {
        if self.probe_too_high && ack.in_flight >= self.inflight_longterm {
            self.probe_precautionary = true;
            return true;
        }
        if ack.window_limited && self.window >= self.inflight_longterm {
            // The bound, not the path, holds the rate down.
            self.reset_full_bandwidth();
            self.full_bandwidth = ack.sample.rate;
            return false;
        }
        self.full_bandwidth_now
    }

    /// InflightWithHeadroom.
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        if self.inflight_longterm == UNBOUNDED {
            return UNBOUNDED;
        }
        let headroom = self.mss.max((HEADROOM * self.inflight_longterm as f64) as u64);
        self.inflight_longterm.saturating_sub(headroom).max(WINDOW_MIN * self.mss)
    }

    /// The bound while cruising. Where the buffer is shallow the headroom is larger than the buffer, and giving it up would
    /// leave the line idle: nearly a BDP is kept.
    pub(super) fn inflight_cruising(&self) -> u64 {
        let full = self.bdp(self.max_bandwidth(), CRUISE_FLOOR);
        self.inflight_with_headroom().max(full.min(self.inflight_longterm))
    }

    /// RaiseInflightLongtermSlope.
    fn raise_slope(&mut self) {
        let growth = 1u64 << self.up_rounds;
        self.up_rounds = (self.up_rounds + 1).min(30);
        self.up_acked_per_increment = (self.window / growth).max(self.mss);
    }

    /// AdaptLongTermModel. True when it decided a transition.
    fn adapt_longterm(&mut self, ack: &Ack<'_>) -> bool {
        if self.ack_phase == AckPhase::ProbeStarting && self.round_start {
            self.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.ack_phase == AckPhase::ProbeStopping && self.round_start {
            self.is_probe_sample = false;
            self.ack_phase = AckPhase::Init;
            if self.phase.probes_bandwidth() && !ack.sample.limited {
                self.advance_bandwidth_filter();
            }
            if self.phase.probes_bandwidth() && self.probe_precautionary && !self.probe_too_high {
                self.start_refill(ack.now);
                self.start_round(ack.delivery.delivered);
                return true;
            }
        }
        if self.inflight_longterm != UNBOUNDED && !self.is_too_high(ack.sample.lost, ack.sample.in_flight) {
            self.inflight_longterm = self.inflight_longterm.max(ack.sample.in_flight);
            if self.phase == Phase::Up {
                self.probe_longterm_upward(ack);
            }
        }
        false
    }

    /// ProbeInflightLongtermUpward.
    fn probe_longterm_upward(&mut self, ack: &Ack<'_>) {
        if !ack.window_limited || self.window < self.inflight_longterm {
            return;
        }
        self.up_acked += ack.sample.newly_delivered;
        if self.up_acked >= self.up_acked_per_increment {
            let steps = self.up_acked / self.up_acked_per_increment;
            self.up_acked -= steps * self.up_acked_per_increment;
            self.inflight_longterm = self.inflight_longterm.saturating_add(steps * self.mss);
        }
        if self.round_start {
            self.raise_slope();
        }
    }

    /// CheckProbeRTT.
    pub(super) fn check_probe_rtt(&mut self, ack: &Ack<'_>) {
        if self.phase != Phase::ProbeRtt && self.probe_rtt_expired && !self.idle_restart {
            self.save_window();
            self.phase = Phase::ProbeRtt;
            self.pacing_gain = 1.0;
            self.window_gain = PROBE_RTT_WINDOW_GAIN;
            self.probe_rtt_done_at = None;
            self.ack_phase = AckPhase::ProbeStopping;
            self.start_round(ack.delivery.delivered);
        }
        if self.phase == Phase::ProbeRtt {
            match self.probe_rtt_done_at {
                None if ack.in_flight <= self.probe_rtt_window() => {
                    self.probe_rtt_done_at = Some(after(ack.now, PROBE_RTT_DURATION));
                    self.probe_rtt_round_done = false;
                    self.start_round(ack.delivery.delivered);
                }
                None => {}
                Some(_) => {
                    self.probe_rtt_round_done |= self.round_start;
                    if self.probe_rtt_round_done {
                        self.finish_probe_rtt(ack.now);
                    }
                }
            }
        }
        if ack.sample.newly_delivered > 0 {
            self.idle_restart = false;
        }
    }

    /// The phase for people to read.
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Startup => "startup",
            Phase::Drain => "drain",
            Phase::Down => "probe_bw_down",
            Phase::Cruise => "probe_bw_cruise",
            Phase::Refill => "probe_bw_refill",
            Phase::Up => "probe_bw_up",
            Phase::ProbeRtt => "probe_rtt",
        }
    }

    /// Whether samples are to be marked as application-limited because ProbeRtt holds the rate down.
    pub fn holds_back(&self) -> bool {
        self.phase == Phase::ProbeRtt
    }

    /// CheckProbeRTTDone and ExitProbeRTT.
    pub(super) fn finish_probe_rtt(&mut self, now: Time) {
        if self.probe_rtt_done_at.is_none_or(|done| now <= done) {
            return;
        }
        self.probe_rtt_min_at = now;
        self.window = self.window.max(self.prior_window);
        self.reset_shortterm();
        if self.full_bandwidth_reached {
            self.start_down(now);
            self.start_cruise();
        } else {
            self.enter_startup();
        }
    }
}
