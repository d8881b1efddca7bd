//! Congestion control: BBR as in draft-ietf-ccwg-bbr (BBRv3), with the deviations named below.
//!
//! BBR keeps a model of the path, made of two measurements: `max_bw`, the highest recent delivery rate, and `min_rtt`, the
//! lowest recent round trip. Their product, the bandwidth-delay product (BDP), is what fills the pipe without a queue. The
//! sender paces at the bandwidth and caps what is in flight at a small multiple of the BDP, and every few seconds probes for
//! more:
//!
//! ```text
//! Startup --> Drain --> Down --> Cruise --> Refill --> Up --+     ProbeRtt: every 5 s without a fresh
//!                        ^                                  |     minimum, drain the queue for 200 ms
//!                        +----------------------------------+     to see the real round trip
//! ```
//!
//! Loss bounds the model: `inflight_longterm` is the volume beyond which probing lost more than the tolerance;
//! `bw_shortterm` and `inflight_shortterm` follow the delivery process down when cruising loses more than the tolerance.
//!
//! # Deviations from the draft
//! - **Loss that is not congestion.** The draft tolerates 2 % and starves above it. Here a flow that loses more than the
//!   tolerance while cruising slows down as the draft says, and then looks: if five rounds at a falling rate lose as much as
//!   before and the queue is empty, the loss does not depend on what the flow does, and the tolerance is raised above
//!   it (see [`model`]). A flow that overflows a buffer does see its loss vanish when it yields.
//! - **Short-term bounds** react to a round above the tolerance, not to any lost segment: at 1 % random loss the draft's
//!   rule takes 1 % off the rate every round.
//! - **Startup** does not end by loss alone below 20 % while the bandwidth still grows by a quarter per round.
//! - **Probes that have not found the end.** The draft waits two to three seconds after every probe. Here the next one follows
//!   after eight round trips when the last found a fifth more, or, a few times, when loss cut it short without a queue: a flow
//!   whose Startup was ended by a burst of loss, or by somebody else's queue, gets to its share within a second or two.
//! - **Floors.** Pacing is never slower than ten segments per `min_rtt` and never based on application-limited samples: a
//!   request-response flow would otherwise pace itself to a crawl.
//! - **Batching.** Acknowledgments and timers come in batches of about a millisecond, so the BDP counts `min_rtt` as at least
//!   [`RTT_FLOOR`]: on a LAN the wire is shorter than the batch.

mod cycle;
mod model;

use super::delivery::{Delivery, Sample};
use super::scoreboard::Sent;
use crate::Time;
use crate::tcp::clock::{MILLISECOND, SECOND};

use cycle::{AckPhase, Phase};
use model::{LossWatch, RoundMax};

/// BBR.StartupPacingGain: 4 ln 2, the least that doubles the rate each round.
const STARTUP_PACING_GAIN: f64 = 2.77;
/// BBR.DefaultCwndGain.
const WINDOW_GAIN: f64 = 2.0;
/// BBR.DrainPacingGain.
const DRAIN_PACING_GAIN: f64 = 0.5;
/// Gains of ProbeBW.
const DOWN_PACING_GAIN: f64 = 0.9;
const UP_PACING_GAIN: f64 = 1.25;
const UP_WINDOW_GAIN: f64 = 2.25;
/// BBR.ProbeRTTCwndGain.
const PROBE_RTT_WINDOW_GAIN: f64 = 0.5;
/// BBR.PacingMarginPercent: pace 1 % below the estimate, so that queues drain on average.
const PACING_MARGIN: f64 = 0.99;
/// BBR.MinPipeCwnd in segments.
const WINDOW_MIN: u64 = 4;
/// Initial window in segments (RFC 6928).
const WINDOW_INITIAL: u64 = 10;
/// Segments per `min_rtt` that pacing always lets through.
const PACING_FLOOR: f64 = 10.0;
/// The shortest round trip that the BDP counts with.
const RTT_FLOOR: u64 = 500;
/// Largest share of a send quantum in the offload budget.
const QUANTUM_MAX: f64 = 65536.0;
/// No bound.
const UNBOUNDED: u64 = u64::MAX;

/// What one acknowledgment means to congestion control.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack<'a> {
    pub sample: &'a Sample,
    pub delivery: &'a Delivery,
    /// Bytes in flight after it.
    pub in_flight: u64,
    /// Whether the congestion window held anything back since the last round began.
    pub window_limited: bool,
    pub now: Time,
}

/// The controller. Rates are bytes per second, volumes bytes, times microseconds.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    mss: u64,
    phase: Phase,
    /// Results: the congestion window and the pacing rate.
    window: u64,
    rate: f64,
    pacing_gain: f64,
    window_gain: f64,
    prior_window: u64,
    in_recovery: bool,

    // Model: rate.
    /// Highest delivery rate of the previous and the present probing cycle.
    bandwidths: [f64; 2],
    bandwidth: f64,
    bandwidth_shortterm: f64,
    bandwidth_latest: f64,

    // Model: volume.
    /// The round trip of the newest acknowledgment that has one.
    rtt_latest: Option<u64>,
    min_rtt: Option<u64>,
    min_rtt_at: Time,
    inflight_longterm: u64,
    inflight_shortterm: u64,
    inflight_latest: u64,
    extra_acked: RoundMax,
    extra_acked_since: Time,
    extra_acked_delivered: u64,

    // Rounds.
    round: u64,
    round_end: u64,
    round_start: bool,
    loss_round_end: u64,
    loss_round_start: bool,
    watch: LossWatch,

    // Full pipe.
    full_bandwidth: f64,
    full_bandwidth_count: u8,
    full_bandwidth_now: bool,
    full_bandwidth_reached: bool,

    // Probing.
    drain_start: u64,
    ack_phase: AckPhase,
    is_probe_sample: bool,
    probe_too_high: bool,
    probe_precautionary: bool,
    /// The bandwidth when a probe began. Of Startup, which begins with none: infinite, and zero where loss has ended it.
    up_from: f64,
    /// How often a probe that loss cuts short is still repeated at once.
    retries: u8,
    up_acked_per_increment: u64,
    up_acked: u64,
    up_rounds: u32,
    rounds_since_probe: u64,
    cycle_at: Time,
    probe_wait: u64,
    probe_rtt_min: Option<u64>,
    probe_rtt_min_at: Time,
    probe_rtt_expired: bool,
    probe_rtt_done_at: Option<Time>,
    probe_rtt_round_done: bool,
    idle_restart: bool,
    undo: Option<Undo>,
    random: u64,
}

/// What to return to when a loss episode turns out to have been none.
#[derive(Clone, Copy, Debug)]
struct Undo {
    phase: Option<Phase>,
    bandwidth_shortterm: f64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
}

impl Bbr {
    /// A controller for segments of `mss` octets; `seed` varies the probing times of flows that start together.
    pub fn new(mss: u64, seed: u64, now: Time) -> Self {
        let mut bbr = Self {
            mss,
            phase: Phase::Startup,
            window: WINDOW_INITIAL * mss,
            rate: 0.0,
            pacing_gain: STARTUP_PACING_GAIN,
            window_gain: WINDOW_GAIN,
            prior_window: 0,
            in_recovery: false,
            bandwidths: [0.0; 2],
            bandwidth: 0.0,
            bandwidth_shortterm: f64::INFINITY,
            bandwidth_latest: 0.0,
            rtt_latest: None,
            min_rtt: None,
            min_rtt_at: now,
            inflight_longterm: UNBOUNDED,
            inflight_shortterm: UNBOUNDED,
            inflight_latest: 0,
            extra_acked: RoundMax::default(),
            extra_acked_since: now,
            extra_acked_delivered: 0,
            round: 0,
            round_end: 0,
            round_start: false,
            loss_round_end: 0,
            loss_round_start: false,
            watch: LossWatch::default(),
            full_bandwidth: 0.0,
            full_bandwidth_count: 0,
            full_bandwidth_now: false,
            full_bandwidth_reached: false,
            drain_start: 0,
            ack_phase: AckPhase::Init,
            is_probe_sample: false,
            probe_too_high: false,
            probe_precautionary: false,
            up_from: f64::INFINITY,
            retries: 0,
            up_acked_per_increment: UNBOUNDED,
            up_acked: 0,
            up_rounds: 0,
            rounds_since_probe: 0,
            cycle_at: now,
            probe_wait: 2 * SECOND,
            probe_rtt_min: None,
            probe_rtt_min_at: now,
            probe_rtt_expired: false,
            probe_rtt_done_at: None,
            probe_rtt_round_done: false,
            idle_restart: false,
            undo: None,
            random: seed,
        };
        bbr.start_pacing(MILLISECOND);
        bbr
    }

    /// InitPacingRate: before any bandwidth sample, from the initial window and a round trip in microseconds.
    pub fn start_pacing(&mut self, rtt: u64) {
        if self.bandwidths == [0.0; 2] {
            self.rate = STARTUP_PACING_GAIN * self.window as f64 * 1e6 / rtt.max(1) as f64;
        }
    }

    /// The congestion window in bytes.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The pacing rate in bytes per second.
    pub fn pacing_rate(&self) -> f64 {
        self.rate
    }

    /// The bandwidth estimate in bytes per second.
    pub fn bandwidth(&self) -> f64 {
        self.bandwidth
    }

    /// The lowest recent round trip in microseconds.
    pub fn min_rtt(&self) -> Option<u64> {
        self.min_rtt
    }

    /// Round trips counted by packets so far.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// A tail loss probe repaired a loss that no acknowledgment showed (RFC 8985 7.4.2).
    pub fn repaired_unseen(&mut self, bytes: u64, now: Time) {
        self.watch.lost(bytes, now);
    }

    /// The path carries segments of another size than assumed.
    pub fn set_mss(&mut self, mss: u64) {
        self.mss = mss;
    }

    /// HandleRestartFromIdle: data is about to be sent, nothing is in flight, and the application was the limit.
    pub fn restart_from_idle(&mut self, now: Time) {
        self.idle_restart = true;
        self.extra_acked_since = now;
        self.extra_acked_delivered = 0;
        if self.phase.probes_bandwidth() {
            self.set_rate(1.0);
        } else if self.phase == Phase::ProbeRtt {
            self.finish_probe_rtt(now);
        }
    }

    /// UpdateOnACK.
    pub fn acknowledged(&mut self, ack: &Ack<'_>) {
        self.update_latest(ack);
        self.update_congestion(ack);
        self.update_aggregation(ack);
        self.check_full_bandwidth(ack);
        self.check_startup(ack.now);
        self.check_drain(ack);
        self.advance_cycle(ack);
        self.update_min_rtt(ack);
        self.check_probe_rtt(ack);
        if self.loss_round_start {
            self.bandwidth_latest = ack.sample.rate;
            self.inflight_latest = ack.sample.delivered;
            self.watch.start_round();
        }
        self.bandwidth = self.max_bandwidth().min(self.bandwidth_shortterm);
        self.set_rate(self.pacing_gain);
        self.set_window(ack);
    }

    /// HandleLostPacket: `sent` was taken for lost and `delivery` already counts it.
    pub fn lost(&mut self, sent: &Sent, delivery: &Delivery, now: Time) {
        if !self.watch.lost_in_round() {
            self.loss_round_end = delivery.delivered;
            self.save_for_undo();
        }
        self.watch.lost(u64::from(sent.length), sent.sent_at);
        if !self.is_probe_sample {
            return;
        }
        let in_flight = u64::from(sent.snapshot.in_flight);
        let lost = u64::from((delivery.lost as u32).wrapping_sub(sent.snapshot.lost));
        if self.is_too_high(lost, in_flight) {
            let in_flight = self.inflight_at_loss(in_flight, lost, u64::from(sent.length));
            self.inflight_too_high(in_flight, sent.snapshot.limited, now);
        }
    }

    /// OnEnterRTO.
    pub fn timed_out(&mut self, in_flight: u64) {
        self.save_window();
        self.save_for_undo();
        self.in_recovery = true;
        self.window = in_flight + self.mss;
    }

    /// OnEnterFastRecovery.
    pub fn recovery_started(&mut self) {
        if !self.in_recovery {
            self.save_window();
        }
        self.in_recovery = true;
    }

    /// All losses are repaired.
    pub fn recovered(&mut self) {
        self.in_recovery = false;
        self.window = self.window.max(self.prior_window);
        self.bound_window();
    }

    /// HandleSpuriousLossDetection: nothing of the last episode had been lost.
    pub fn undo(&mut self, now: Time) {
        self.recovered();
        self.watch.start_round();
        self.reset_full_bandwidth();
        let Some(undo) = self.undo.take() else { return };
        self.bandwidth_shortterm = self.bandwidth_shortterm.max(undo.bandwidth_shortterm);
        self.inflight_shortterm = self.inflight_shortterm.max(undo.inflight_shortterm);
        self.inflight_longterm = self.inflight_longterm.max(undo.inflight_longterm);
        match undo.phase {
            _ if self.phase == Phase::ProbeRtt => {}
            Some(Phase::Startup) if self.phase != Phase::Startup => {
                self.full_bandwidth_reached = false;
                self.enter_startup();
            }
            Some(Phase::Up) if self.phase != Phase::Up => self.start_refill(now),
            _ => {}
        }
    }

    fn save_for_undo(&mut self) {
        self.undo = Some(Undo {
            phase: None,
            bandwidth_shortterm: self.bandwidth_shortterm,
            inflight_shortterm: self.inflight_shortterm,
            inflight_longterm: self.inflight_longterm,
        });
    }

    fn save_window(&mut self) {
        self.prior_window = if !self.in_recovery && self.phase != Phase::ProbeRtt {
            self.window
        } else {
            self.prior_window.max(self.window)
        };
    }

    /// SetPacingRateWithGain, with the floor.
    fn set_rate(&mut self, gain: f64) {
        let floor = PACING_FLOOR * self.mss as f64 * 1e6 / self.min_rtt.unwrap_or(SECOND) as f64;
        let rate = (gain * self.bandwidth * PACING_MARGIN).max(floor);
        if self.full_bandwidth_reached || rate > self.rate {
            self.rate = rate;
        }
    }

    /// The share of the window that keeps batches whole: three send quanta (TCP Offload Budget).
    fn offload_budget(&self) -> u64 {
        let quantum = (self.rate * 1e-3).min(QUANTUM_MAX).max(2.0 * self.mss as f64);
        3 * quantum as u64
    }

    /// BDPMultiple.
    fn bdp(&self, bandwidth: f64, gain: f64) -> u64 {
        let Some(min_rtt) = self.min_rtt else { return WINDOW_INITIAL * self.mss };
        (gain * bandwidth * min_rtt.max(RTT_FLOOR) as f64 / 1e6) as u64
    }

    /// QuantizationBudget.
    fn quantized(&self, volume: u64) -> u64 {
        let volume = volume.max(self.offload_budget()).max(WINDOW_MIN * self.mss);
        if self.phase == Phase::Up { volume + 2 * self.mss } else { volume }
    }

    /// Inflight(gain).
    fn inflight(&self, bandwidth: f64, gain: f64) -> u64 {
        self.quantized(self.bdp(bandwidth, gain))
    }

    /// TargetInflight.
    fn target_inflight(&self) -> u64 {
        self.bdp(self.bandwidth, 1.0).min(self.window)
    }

    /// SetCwnd.
    fn set_window(&mut self, ack: &Ack<'_>) {
        let volume = self.bdp(self.bandwidth, self.window_gain) + self.extra_acked.max();
        let max = self.quantized(volume);
        let newly = ack.sample.newly_delivered;
        if self.full_bandwidth_reached {
            self.window = (self.window + newly).min(max);
        } else if self.window < max || ack.delivery.delivered < WINDOW_INITIAL * self.mss {
            self.window += newly;
        }
        self.window = self.window.max(WINDOW_MIN * self.mss);
        if self.phase == Phase::ProbeRtt {
            self.window = self.window.min(self.probe_rtt_window());
        }
        self.bound_window();
    }

    fn probe_rtt_window(&self) -> u64 {
        self.bdp(self.bandwidth, PROBE_RTT_WINDOW_GAIN).max(WINDOW_MIN * self.mss)
    }

    /// BoundCwndForModel.
    fn bound_window(&mut self) {
        let longterm = match self.phase {
            Phase::ProbeRtt => self.inflight_with_headroom(),
            Phase::Cruise => self.inflight_cruising(),
            Phase::Down | Phase::Refill | Phase::Up => self.inflight_longterm,
            Phase::Startup | Phase::Drain => UNBOUNDED,
        };
        let cap = longterm.min(self.inflight_shortterm).max(WINDOW_MIN * self.mss);
        self.window = self.window.min(cap);
    }

    /// A number in `0.0..1.0` (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
