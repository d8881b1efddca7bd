//! The connection itself.

use std::net::SocketAddr;
use std::time::Duration;

use super::budget::Budget;
use super::segment::{Segment, SynInfo};
use super::settings::Settings;
use crate::Time;

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
    /// Both directions finished in order.
    Finished,
    /// The peer reset it.
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
    /// Bytes of stream received in order.
    pub bytes_received: u64,
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
    /// Bytes sent and neither acknowledged nor taken for lost.
    pub in_flight: u64,
    /// Receive window offered to the peer in bytes.
    pub receive_window: u64,
    /// Bytes of buffers allocated.
    pub memory: u64,
}

/// One TCP connection. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    state: State,
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
        let _ = (local, remote, syn, settings, budget, isn, now);
        Self { state: State::SynReceived }
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
        let _ = (local, remote, settings, budget, isn, now);
        Self { state: State::SynSent }
    }

    /// Takes a segment from the peer. The ports are not checked: the caller found this connection by them.
    pub fn receive(&mut self, segment: &Segment<'_>, now: Time) {
        let _ = (segment, now);
    }

    /// Writes the next segment, header and payload with the checksum filled in, to `out` and returns its length; call it
    /// until it returns None, after every batch of [`Connection::receive`], `consume`, `commit`, `expire`. None also when
    /// pacing says "later"; [`Connection::deadline`] then says when.
    ///
    /// `out` must hold the MTU less the IP header; nothing is sent into a shorter one.
    pub fn transmit(&mut self, out: &mut [u8], now: Time) -> Option<usize> {
        let _ = (out, now);
        None
    }

    /// When [`Connection::expire`] wants to be called; it may change with every other call. A caller with a coarse timer
    /// may be a millisecond late without loss of throughput.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        None
    }

    /// Handles the timers that are due, then wants [`Connection::transmit`].
    pub fn expire(&mut self, now: Time) {
        let _ = now;
    }

    /// Bytes from the peer in order and not yet consumed, as two slices for `writev`; the second continues the first.
    #[must_use]
    pub fn readable(&self) -> (&[u8], &[u8]) {
        (&[], &[])
    }

    /// Takes `count` bytes off the front of [`Connection::readable`]; this is what opens the receive window.
    pub fn consume(&mut self, count: usize) {
        let _ = count;
    }

    /// Bytes that [`Connection::writable`] would offer without growing: cheap, to decide whether a read is worth it.
    #[must_use]
    pub fn room(&self) -> usize {
        0
    }

    /// Space for bytes to the peer, as two slices for `readv`; grows the ring when the path can carry more than it holds
    /// and the budget allows. Both are empty when the ring is full, when nothing may be sent any more, or when the budget
    /// is spent (the latter resolves itself when other connections shrink: ask again on the next wake).
    pub fn writable(&mut self) -> (&mut [u8], &mut [u8]) {
        (&mut [], &mut [])
    }

    /// Queues the first `count` bytes of what was written to [`Connection::writable`].
    pub fn commit(&mut self, count: usize) {
        let _ = count;
    }

    /// No more bytes will be committed: sends FIN after the last one (half-close, RFC 9293 3.6).
    pub fn finish(&mut self) {}

    /// Gives up: RST to the peer, everything queued is dropped, [`End::Aborted`].
    pub fn abort(&mut self) {}

    /// Whether the peer finished and every byte before its FIN was consumed: shut the socket's writing side down.
    #[must_use]
    pub fn remote_finished(&self) -> bool {
        false
    }

    /// Whether [`Connection::finish`] was called and the peer acknowledged everything including the FIN.
    #[must_use]
    pub fn local_finished(&self) -> bool {
        false
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

    /// How the connection ended; none while it lives (also in TIME-WAIT, which only answers late segments).
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        None
    }

    /// Counters and estimates.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}
