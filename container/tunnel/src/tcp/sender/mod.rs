//! The sending half: what is queued, what is in flight, and when the next segment may leave.
//!
//! Positions run `una <= next <= end`: acknowledged up to `una`, sent up to `next`, queued up to `end`. The connection asks
//! [`Sender::poll`] for the next segment and reports acknowledgments to [`Sender::acknowledge`]; everything else (loss
//! detection, congestion control, pacing, timers) follows from these two.

mod acknowledge;
mod bbr;
mod delivery;
mod pacer;
mod poll;
mod rack;
mod rtt;
mod scoreboard;
mod timers;

use bbr::Bbr;
use delivery::Delivery;
use pacer::Pacer;
use rack::Rack;
use rtt::Rtt;
use scoreboard::Scoreboard;

use super::budget::Budget;
use super::ring::Ring;
use super::settings::Settings;
use crate::Time;

pub(super) use acknowledge::Acknowledged;
pub(super) use timers::Expired;

/// The most that waits unsent: enough for several milliseconds at high rates, small enough that what the application
/// writes next is not seconds behind.
const UNSENT_MAX: u64 = 1 << 20;
/// Largest share of sequence space in records: with segments of this many octets and more a full ring fits.
const RECORDS_MAX: usize = 8192;
/// The smallest segment size a peer can ask for; anything below is an attack on the size of the scoreboard
/// (CVE-2019-11479).
const MSS_MIN: u64 = 64;
/// Segment size without an MSS option: RFC 9293 3.7.1 (SHLD-5, MUST-15).
const MSS_DEFAULT: [u64; 2] = [536, 1220];

/// A tail loss probe that is out (RFC 8985 7.3).
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// [`Sender::next`] when it was sent.
    end: u64,
    retransmission: bool,
}

/// Segment size against what the path carries.
#[derive(Clone, Copy, Debug)]
struct PathSize {
    /// Octets of payload in a full segment.
    mss: u64,
    /// What the handshake agreed on.
    agreed: u64,
    /// What last went through while `agreed` did not.
    proven: Option<u64>,
    /// When to try the agreed size again, and how long to wait if that fails.
    raise_at: Option<Time>,
    raise_wait: u64,
}

/// Counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub acknowledged: u64,
    pub retransmits: u64,
    pub spurious: u64,
    pub timeouts: u64,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Sender {
    ring: Ring,
    ring_min: usize,
    ring_max: usize,
    una: u64,
    next: u64,
    end: u64,
    /// Whether a FIN follows the last byte, and whether it was sent.
    fin_queued: bool,
    fin_sent: bool,

    /// Right edge that the peer offered, as a window from `una`, and the segment it came with (SND.WND, SND.WL1, SND.WL2).
    window: u64,
    window_seq: u64,
    window_ack: u64,
    window_max: u64,

    size: PathSize,
    selective: bool,
    board: Scoreboard,
    delivery: Delivery,
    rack: Rack,
    rtt: Rtt,
    bbr: Bbr,
    pacer: Pacer,

    /// End of the losses being repaired.
    recovery: Option<u64>,
    /// Retransmissions of this recovery the peer has not called needless, once there are any; when none is left, nothing
    /// had been lost.
    undo_left: Option<u64>,
    duplicates: u32,
    window_limited: [bool; 2],

    /// When the timers last had a reason to start over.
    progress_at: Time,
    sent_at: Time,
    reorder_at: Option<Time>,
    pace_at: Option<Time>,
    probe: Option<Probe>,
    probe_due: bool,
    /// Blocked by the peer's window with nothing in flight: when to probe, and how often that was done (RFC 9293 3.8.6.1).
    persist: Option<(Time, u32)>,
    persist_due: bool,
    /// Since when retransmissions have been unanswered.
    stalled_since: Option<Time>,
    pub counters: Counters,
}

impl Sender {
    /// A sender whose first byte of data has position `first`; `agreed` is the payload of a full segment by the handshake.
    pub fn new(first: u64, settings: &Settings, budget: &Budget, now: Time) -> Self {
        let mut sender = Self {
            ring: Ring::new(budget),
            ring_min: settings.ring_min,
            ring_max: settings.ring_max.next_power_of_two(),
            una: first,
            next: first,
            end: first,
            fin_queued: false,
            fin_sent: false,
            window: 0,
            window_seq: 0,
            window_ack: 0,
            window_max: 0,
            size: PathSize {
                mss: MSS_DEFAULT[0],
                agreed: MSS_DEFAULT[0],
                proven: None,
                raise_at: None,
                raise_wait: timers::RAISE_FIRST,
            },
            selective: false,
            board: Scoreboard::default(),
            delivery: Delivery::default(),
            rack: Rack::new(),
            rtt: Rtt::default(),
            bbr: Bbr::new(MSS_DEFAULT[0], 0, now),
            pacer: Pacer::new(now),
            recovery: None,
            undo_left: None,
            duplicates: 0,
            window_limited: [false; 2],
            progress_at: now,
            sent_at: now,
            reorder_at: None,
            pace_at: None,
            probe: None,
            probe_due: false,
            persist: None,
            persist_due: false,
            stalled_since: None,
            counters: Counters::default(),
        };
        sender.agree(None, u64::MAX, false, false, now);
        sender
    }

    /// Takes over what the handshake agreed on: the peer's MSS option, our own limit (`room` octets of TCP payload in a
    /// packet without options), SACK, and the family for the default.
    pub fn agree(&mut self, mss: Option<u16>, room: u64, selective: bool, v6: bool, now: Time) {
        let agreed = mss.map_or(MSS_DEFAULT[usize::from(v6)], u64::from).max(MSS_MIN).min(room);
        self.size.mss = agreed;
        self.size.agreed = agreed;
        self.selective = selective;
        self.bbr = Bbr::new(agreed, self.una ^ self.una.rotate_left(23), now);
        self.update_pacing();
    }

    /// Takes the round trip of the handshake.
    pub fn handshake_rtt(&mut self, micros: u64) {
        self.rtt.sample(micros);
        self.bbr.start_pacing(micros);
        self.update_pacing();
    }

    fn update_pacing(&mut self) {
        self.pacer.set_rate(self.bbr.pacing_rate(), self.bbr.min_rtt(), self.size.mss);
    }

    /// Takes the peer's window, already scaled, of an acceptable segment (RFC 9293 3.10.7.4; RFC 7323 2.2).
    pub fn update_window(&mut self, seq: u64, ack: u64, window: u64) {
        let newer = self.window_seq < seq
            || (self.window_seq == seq && self.window_ack <= ack)
            || (ack == self.una && window > self.window && self.window_ack <= ack);
        if newer {
            self.window_seq = self.window_seq.max(seq);
            self.window_ack = ack;
            self.window = window;
            self.window_max = self.window_max.max(window);
        }
    }

    /// Octets of stream that the peer's window still admits.
    fn usable(&self) -> u64 {
        (self.una + self.window).saturating_sub(self.next)
    }

    fn unsent(&self) -> u64 {
        self.end - self.next.min(self.end)
    }

    /// How much may wait unsent: a congestion window's worth keeps the path busy until the next wake.
    fn unsent_limit(&self) -> u64 {
        self.bbr.window().clamp(self.ring_min as u64, UNSENT_MAX.max(self.ring_min as u64))
    }

    /// Octets worth reading from the application. Nothing for crumbs: while something is queued, half of the limit has to be
    /// free.
    pub fn room(&self) -> usize {
        if self.fin_queued {
            return 0;
        }
        let limit = self.unsent_limit();
        let used = self.end - self.una;
        let room = limit.saturating_sub(self.unsent()).min((self.ring_max as u64).saturating_sub(used));
        if self.unsent() > 0 && room < limit / 2 { 0 } else { room as usize }
    }

    /// Space for [`Sender::room`] octets, or for less when the budget is spent.
    pub fn writable(&mut self) -> (&mut [u8], &mut [u8]) {
        let mut room = self.room();
        if room == 0 {
            return (&mut [], &mut []);
        }
        let used = (self.end - self.una) as usize;
        if used == 0 {
            self.ring.rewind(self.end);
        }
        if !self.ring.reserve((used + room).max(self.ring_min), self.una, self.end) {
            room = room.min(self.ring.capacity() - used);
        }
        self.ring.slices_mut(self.end, self.end + room as u64)
    }

    /// Queues `count` octets written to [`Sender::writable`].
    pub fn commit(&mut self, count: usize) {
        if self.fin_queued {
            return;
        }
        let space = self.ring.capacity() as u64 - (self.end - self.una);
        let count = (count as u64).min(space);
        if count == 0 {
            return;
        }
        self.note_if_limited();
        self.end += count;
    }

    /// Queues a FIN.
    pub fn finish(&mut self) {
        self.fin_queued = true;
    }

    pub fn fin_queued(&self) -> bool {
        self.fin_queued
    }

    /// Whether our FIN is acknowledged.
    pub fn finished(&self) -> bool {
        self.fin_sent && self.una > self.end
    }

    /// Whether the peer takes and sends SACK.
    pub fn is_selective(&self) -> bool {
        self.selective
    }

    /// Whether everything up to our FIN is acknowledged, and at most the FIN itself is not.
    pub fn is_delivered(&self) -> bool {
        self.fin_queued && self.una >= self.end
    }

    /// The oldest unacknowledged position.
    pub fn una(&self) -> u64 {
        self.una
    }

    /// The next position to send.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The largest window the peer has offered (MAX.SND.WND of RFC 5961 5.2).
    pub fn window_max(&self) -> u64 {
        self.window_max
    }

    /// Whether everything queued is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.board.is_empty() && self.unsent() == 0 && self.fin_queued == self.fin_sent
    }

    /// Copies the payload of an outgoing segment and returns its sum for the checksum.
    pub fn copy(&self, position: u64, out: &mut [u8]) -> u64 {
        self.ring.read(position, out)
    }

    pub fn rtt(&self) -> Option<u64> {
        self.rtt.smoothed()
    }

    pub fn min_rtt(&self) -> Option<u64> {
        self.bbr.min_rtt()
    }

    pub fn congestion_window(&self) -> u64 {
        self.bbr.window()
    }

    pub fn bandwidth(&self) -> f64 {
        self.bbr.bandwidth()
    }

    pub fn phase(&self) -> &'static str {
        self.bbr.phase_name()
    }

    pub fn pacing_rate(&self) -> f64 {
        self.bbr.pacing_rate()
    }

    pub fn in_flight(&self) -> u64 {
        self.board.in_flight()
    }

    /// Octets of payload in a full segment.
    pub fn segment_size(&self) -> u64 {
        self.size.mss
    }

    pub fn memory(&self) -> usize {
        self.ring.capacity() + self.board.memory()
    }

    /// Frees everything, whatever is queued: nothing will be sent any more.
    pub fn clear(&mut self) {
        self.ring.release();
        self.board = Scoreboard::default();
    }

    /// MarkConnectionAppLimited, if nothing but a lack of data (or of the peer's window) keeps the path from being full
    /// (draft-ietf-ccwg-bbr, "Detecting application-limited phases").
    fn note_if_limited(&mut self) {
        let starved = self.unsent() == 0 || self.usable() < self.size.mss;
        let in_flight = self.board.in_flight();
        if starved && self.board.lost_bytes() == 0 && in_flight + self.size.mss <= self.bbr.window() {
            self.delivery.mark_limited(in_flight);
        }
    }
}
