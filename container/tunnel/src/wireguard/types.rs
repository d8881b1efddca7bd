//! What an endpoint answers its caller.

use std::net::IpAddr;
use std::time::Duration;

use ebb_wire::PublicKey;

use super::{PEERS_MAX, Path, PeerId};
use crate::Time;
use crate::packet::Packet;

/// What an endpoint takes from its surroundings when it is made.
#[derive(Clone)]
pub struct Start {
    /// The monotonic clock.
    pub now: Time,
    /// The wall clock at the same moment, as time since 1970. Initiations carry it, and a peer accepts only later ones: it
    /// must not stand behind what it showed to an endpoint with the same key before.
    pub unix: Duration,
    /// From the system's random source, and used for nothing else: all keys of sessions are drawn from it.
    pub seed: [u8; 32],
}

/// Which of several endpoints with one key this is, each of which has peers of its own. The low byte of a receiver index,
/// divided by their number, leaves the number of the endpoint that chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    number: u8,
    of: u8,
}

impl Share {
    /// The only endpoint.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Endpoint `number` of `of`; `None` unless `number` is below `of`, and `of` at most 128.
    #[must_use]
    pub fn new(number: usize, of: usize) -> Option<Self> {
        (number < of && of <= 128).then_some(Self { number: number as u8, of: of as u8 })
    }

    /// The nearest index of this endpoint.
    pub(super) fn mark(self, index: u32) -> u32 {
        let [low, rest @ ..] = index.to_le_bytes();
        let low = low - low % self.of;
        let low = low.checked_add(self.number).unwrap_or(low.wrapping_sub(self.of).wrapping_add(self.number));
        u32::from_le_bytes([low, rest[0], rest[1], rest[2]])
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// What an endpoint dropped, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// No WireGuard message, or a handshake message with a wrong first MAC.
    pub invalid: u64,
    /// Of a peer that does not exist here, any more or at all.
    pub unknown: u64,
    /// Not authentic, a replay, or of a session that is over.
    pub refused: u64,
    /// Answered with a cookie, because too many handshakes came.
    pub challenged: u64,
    /// Handshakes of an address that sends too many in spite of its cookie.
    pub limited: u64,
    /// Of a peer, from outside of its source networks.
    pub foreign: u64,
    /// Inner packets that were no IP packet or came from an address that is not the peer's.
    pub wrong_source: u64,
}

/// What came of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A packet from a peer, with a source address that is the peer's.
    Packet {
        /// From whom.
        peer: PeerId,
        /// The packet, decrypted in place.
        packet: Packet<'a>,
    },
    /// An initiation of somebody who knows our public key and claims to have this one, which no peer has. Of several endpoints
    /// with one key, another may have that peer: [`Endpoint::receive_vouched`](super::Endpoint::receive_vouched).
    Stranger(PublicKey),
    /// Nothing to deliver; there may be something to [`Endpoint::transmit`](super::Endpoint::transmit).
    Nothing,
}

/// What came of a packet to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// A datagram of this length has to go this way: the packet, or, while there is no session, the initiation of one; the
    /// packet is kept then.
    Datagram(usize, Path),
    /// A session is being made; the packet is kept until then.
    Kept,
    /// There was no packet.
    Nothing,
    /// The peer is gone, or nobody knows where it is. Nothing was built.
    Unreachable,
}

/// Why a peer cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// There is a peer with this key.
    #[error("there is a peer with this key already")]
    Key,
    /// The address belongs to another peer.
    #[error("{0} belongs to another peer")]
    Address(IpAddr),
    /// Another peer has [`Addresses::All`](super::Addresses::All).
    #[error("another peer is the way to all other addresses")]
    Default,
    /// The limit of 65,536 peers is reached.
    #[error("an endpoint has at most {PEERS_MAX} peers")]
    Full,
}
