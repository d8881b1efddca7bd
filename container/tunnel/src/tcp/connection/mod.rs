//! The connection: the state machine of RFC 9293 between a [`Sender`] and a [`Receiver`].

mod receive;
mod timers;
mod transmit;

use std::net::SocketAddr;
use std::time::Duration;

use super::budget::Budget;
use super::checksum::Pseudo;
use super::clock::{MILLISECOND, micros};
use super::receiver::Receiver;
use super::segment::{HEADER, Options, SynInfo};
use super::sender::Sender;
use super::seq::Seq;
use super::settings::Settings;
use crate::Time;

/// Octets of an IPv4 and an IPv6 header without options.
const IP_HEADER: [u16; 2] = [20, 40];
/// Octets that the timestamps option takes in every segment (RFC 7323 appendix A).
const TIMESTAMPS: u64 = 12;
/// The least time between acknowledgments that only answer something unacceptable: two ends that disagree must not answer
/// each other for ever (RFC 5961 section 7).
const CHALLENGE_INTERVAL: u64 = 100 * MILLISECOND;

/// Where a connection stands (RFC 9293 3.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Our SYN is out.
    SynSent,
    /// A SYN arrived, our SYN/ACK is out.
    SynReceived,
    /// Open both ways.
    Established,
    /// We finished; the FIN is not yet acknowledged.
    FinWait1,
    /// We finished, the peer has not.
    FinWait2,
    /// The peer finished, we have not.
    CloseWait,
    /// Both finished at the same time; our FIN is not yet acknowledged.
    Closing,
    /// The peer finished first, then we; our FIN is not yet acknowledged.
    LastAck,
    /// Both finished; late segments are still answered.
    TimeWait,
    /// Over: [`Connection::ended`] says how. Once `transmit` returns None it can be dropped.
    Closed,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both directions finished in order. What is still [`Connection::readable`] can be consumed.
    Finished,
    /// The peer reset it, or opened a new connection in its place.
    Reset,
    /// The peer refused to open it: a RST answered our SYN.
    Refused,
    /// [`Connection::abort`] was called.
    Aborted,
    /// The peer stopped answering: SYN, data, zero-window probes or keepalives.
    TimedOut,
}

/// Counters and estimates of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of stream the peer acknowledged.
    pub bytes_acknowledged: u64,
    /// Bytes of stream received in order and consumed.
    pub bytes_consumed: u64,
    /// Segments sent, of every kind.
    pub segments_sent: u64,
    /// Segments received, of every kind.
    pub segments_received: u64,
    /// Segments with data sent more than once.
    pub retransmits: u64,
    /// Retransmissions that the peer reported as needless (RFC 2883).
    pub spurious_retransmits: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Smoothed round-trip time (RFC 6298); none before the first sample.
    pub srtt: Option<Duration>,
    /// Smallest recent round-trip time.
    pub min_rtt: Option<Duration>,
    /// Congestion window in bytes.
    pub congestion_window: u64,
    /// Estimated bottleneck bandwidth in bytes per second; zero before the first estimate.
    pub bandwidth: u64,
    /// Pacing rate in bytes per second.
    pub pacing_rate: u64,
    /// What congestion control is doing: the BBR state, in snake case.
    pub phase: &'static str,
    /// Bytes sent and neither acknowledged nor taken for lost.
    pub in_flight: u64,
    /// Payload of a full segment in bytes.
    pub segment_size: u64,
    /// Limit on what the peer may have under way or unread here, in bytes.
    pub receive_limit: u64,
    /// Bytes of memory allocated for buffers and their bookkeeping.
    pub memory: u64,
}

/// The opening exchange: a SYN or SYN/ACK that has to be sent until it is answered.
#[derive(Clone, Copy, Debug)]
struct Handshake {
    /// Whether one is to be sent now.
    send: bool,
    sent_at: Time,
    attempts: u8,
    resend_at: Option<Time>,
}

/// Timestamps as negotiated (RFC 7323 section 3).
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// What our clock read at the origin of time.
    offset: u32,
    /// TS.Recent, and when it was last changed.
    recent: u32,
}

impl Clock {
    /// Our clock: milliseconds (RFC 7323 5.4 asks for 1 ms to 1 s).
    fn value(&self, now: Time) -> u32 {
        self.offset.wrapping_add((now.as_micros() / MILLISECOND) as u32)
    }
}

/// One TCP connection. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    pseudo: Pseudo,
    settings: Settings,
    state: State,
    end: Option<End>,
    /// Whether we opened it.
    active: bool,
    /// Latest time heard of, for calls that are not told.
    now: Time,
    /// Position of our SYN, and the number of the peer's.
    initial: u64,
    remote_initial: Seq,
    handshake: Handshake,
    sender: Sender,
    receiver: Receiver,
    /// Shifts for windows we send and windows we receive; zero until agreed on (RFC 7323 section 2).
    shift_out: u8,
    shift_in: u8,
    scales: bool,
    clock: Option<Clock>,
    /// When the last segment arrived.
    heard_at: Time,
    /// Probes of a silent or closed peer since then, and when the first was sent.
    pokes: u8,
    poked_since: Option<Time>,
    poke_now: bool,
    /// Numbers of a RST to send.
    reset: Option<(Seq, Option<Seq>)>,
    challenged_at: Option<Time>,
    time_wait_until: Option<Time>,
    segments_sent: u64,
    segments_received: u64,
}

impl Connection {
    /// Answers a client's SYN: the SYN/ACK comes out of [`Connection::transmit`]. `local` is the address the client asked
    /// for, `isn` comes from [`initial_sequence`](super::initial_sequence).
    #[must_use]
    pub fn answer(
        local: SocketAddr,
        remote: SocketAddr,
        syn: &SynInfo,
        settings: &Settings,
        budget: &Budget,
        isn: u32,
        now: Time,
    ) -> Self {
        let mut connection = Self::new(local, remote, settings, budget, isn, now, State::SynReceived);
        connection.synchronise(syn.seq, syn.window, &syn.options, budget);
        connection
    }

    /// Opens a connection to `remote`: the SYN comes out of [`Connection::transmit`].
    #[must_use]
    pub fn open(
        local: SocketAddr,
        remote: SocketAddr,
        settings: &Settings,
        budget: &Budget,
        isn: u32,
        now: Time,
    ) -> Self {
        let mut connection = Self::new(local, remote, settings, budget, isn, now, State::SynSent);
        connection.active = true;
        connection
    }

    fn new(
        local: SocketAddr,
        remote: SocketAddr,
        settings: &Settings,
        budget: &Budget,
        isn: u32,
        now: Time,
        state: State,
    ) -> Self {
        let initial = Seq(isn).origin();
        Self {
            local,
            remote,
            pseudo: Pseudo::new(local.ip(), remote.ip()),
            settings: settings.clone(),
            state,
            end: None,
            active: false,
            now,
            initial,
            remote_initial: Seq(0),
            handshake: Handshake { send: true, sent_at: now, attempts: 0, resend_at: None },
            sender: Sender::new(initial + 1, settings, budget, now),
            receiver: Receiver::new(Seq(0).origin(), 0, false, settings, budget, now),
            shift_out: 0,
            shift_in: 0,
            scales: false,
            clock: settings.timestamps.then_some(Clock { offset: isn.rotate_left(13), recent: 0 }),
            heard_at: now,
            pokes: 0,
            poked_since: None,
            poke_now: false,
            reset: None,
            challenged_at: None,
            time_wait_until: None,
            segments_sent: 0,
            segments_received: 0,
        }
    }

    /// Takes over what the peer's SYN says.
    fn synchronise(&mut self, seq: Seq, window: u16, options: &Options, budget: &Budget) {
        self.remote_initial = seq;
        if let Some(shift) = options.window_scale {
            self.scales = true;
            self.shift_in = shift;
            self.shift_out = self.offered_shift();
        }
        self.clock =
            self.clock.zip(options.timestamps).map(|(clock, theirs)| Clock { recent: theirs.value, ..clock });
        let room = self.segment_room() - if self.clock.is_some() { TIMESTAMPS } else { 0 };
        let mss = options.mss.map(|mss| mss.saturating_sub(self.option_octets()));
        self.sender.agree(mss, room, options.sack_permitted, self.remote.is_ipv6(), self.now);
        let first = seq.origin() + 1;
        let selective = options.sack_permitted;
        self.receiver = Receiver::new(first, self.shift_out, selective, &self.settings, budget, self.now);
        // The window of a SYN is never scaled (RFC 7323 2.2).
        self.sender.update_window(first - 1, self.initial, u64::from(window));
    }

    fn option_octets(&self) -> u16 {
        if self.clock.is_some() { TIMESTAMPS as u16 } else { 0 }
    }

    /// The MSS that our own path allows, and that we offer (RFC 6691: without options).
    fn segment_room(&self) -> u64 {
        let header = IP_HEADER[usize::from(self.remote.is_ipv6())] + HEADER as u16;
        u64::from(self.settings.mtu.saturating_sub(header).max(64))
    }

    /// The least shift with which a window can name the largest ring (RFC 7323 2.3: at most 14).
    fn offered_shift(&self) -> u8 {
        let ring = self.settings.ring_max.next_power_of_two();
        (0..14).find(|shift| ring >> shift <= usize::from(u16::MAX)).unwrap_or(14)
    }

    /// Bytes from the peer in order and not yet consumed, as two slices for `writev`; the second continues the first.
    #[must_use]
    pub fn readable(&self) -> (&[u8], &[u8]) {
        self.receiver.readable()
    }

    /// Takes `count` bytes off the front of [`Connection::readable`]; this is what opens the receive window.
    pub fn consume(&mut self, count: usize) {
        self.receiver.consume(count);
    }

    /// Bytes that [`Connection::writable`] would offer: cheap, to decide whether a read is worth it. Zero also when only
    /// crumbs are free while enough is queued.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.may_write() { self.sender.room() } else { 0 }
    }

    fn may_write(&self) -> bool {
        matches!(self.state, State::SynSent | State::SynReceived | State::Established | State::CloseWait)
    }

    /// Space for bytes to the peer, as two slices for `readv`; grows the ring when the path can carry more than it holds
    /// and the budget allows. Both are empty when enough is queued, when nothing may be sent any more, or when the budget
    /// is spent (the latter resolves itself when other connections shrink: ask again on the next wake).
    pub fn writable(&mut self) -> (&mut [u8], &mut [u8]) {
        if self.may_write() { self.sender.writable() } else { (&mut [], &mut []) }
    }

    /// Queues the first `count` bytes of what was written to [`Connection::writable`].
    pub fn commit(&mut self, count: usize) {
        if self.may_write() {
            self.sender.commit(count);
        }
    }

    /// No more bytes will be committed: sends FIN after the last one (half-close, RFC 9293 3.6).
    pub fn finish(&mut self) {
        if self.may_write() {
            self.sender.finish();
            match self.state {
                State::Established => self.state = State::FinWait1,
                State::CloseWait => self.state = State::LastAck,
                // Takes effect when the connection is open.
                _ => {}
            }
        }
    }

    /// Gives up: RST to the peer, everything queued is dropped, [`End::Aborted`]. Nothing happens to a connection that is
    /// over; one in TIME-WAIT just ends.
    pub fn abort(&mut self) {
        match self.state {
            State::Closed => {}
            // Nothing to reset at the other end (RFC 9293 3.10.5).
            State::SynSent => self.close(End::Aborted),
            State::TimeWait => self.close(End::Finished),
            _ => {
                self.send_reset();
                self.close(End::Aborted);
            }
        }
    }

    /// Prepares the RST of an abort (RFC 9293 3.10.5).
    fn send_reset(&mut self) {
        let seq = if self.state == State::SynReceived { self.initial + 1 } else { self.sender.next() };
        self.reset =
            Some((Seq::from_position(seq), Some(Seq::from_position(self.receiver.acknowledgment()))));
    }

    fn close(&mut self, end: End) {
        self.state = State::Closed;
        self.end = Some(end);
        self.time_wait_until = None;
        self.sender.clear();
        if end != End::Finished {
            self.receiver.clear();
        }
    }

    /// Whether the peer finished and every byte before its FIN was consumed: shut the socket's writing side down.
    #[must_use]
    pub fn remote_finished(&self) -> bool {
        self.receiver.finished() && self.receiver.is_drained()
    }

    /// Whether [`Connection::finish`] was called and the peer acknowledged everything including the FIN.
    #[must_use]
    pub fn local_finished(&self) -> bool {
        self.sender.finished()
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether both ends have seen the handshake and at least one may still send: a flow that counts as open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(
            self.state,
            State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
        )
    }

    /// How the connection ended; none while it lives. In TIME-WAIT it lives, but both directions are done: the socket
    /// behind it can go once [`Connection::remote_finished`].
    ///
    /// A SYN that ends a connection (in TIME-WAIT, or a restarted client's) opens the next one: answer it as a new one.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.end
    }

    /// Counters and estimates.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let sender = &self.sender;
        Statistics {
            bytes_acknowledged: sender.counters.acknowledged,
            bytes_consumed: self.receiver.received(),
            segments_sent: self.segments_sent,
            segments_received: self.segments_received,
            retransmits: sender.counters.retransmits,
            spurious_retransmits: sender.counters.spurious,
            timeouts: sender.counters.timeouts,
            srtt: sender.rtt().map(Duration::from_micros),
            min_rtt: sender.min_rtt().map(Duration::from_micros),
            congestion_window: sender.congestion_window(),
            bandwidth: sender.bandwidth() as u64,
            pacing_rate: sender.pacing_rate() as u64,
            phase: sender.phase(),
            in_flight: sender.in_flight(),
            segment_size: sender.segment_size(),
            receive_limit: self.receiver.limit(),
            memory: (sender.memory() + self.receiver.memory()) as u64,
        }
    }

    fn linger(&self) -> u64 {
        micros(self.settings.ring_linger)
    }
}
