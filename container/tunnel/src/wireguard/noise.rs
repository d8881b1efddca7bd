//! The cryptographic half of WireGuard, by boringtun. No other file names it.
//!
//! boringtun reads the system's clocks for its own timers and handshake timestamps and draws its ephemeral keys from the
//! system's random source; both are the exception to the rule of this crate.

use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use ebb_wire::{PrivateKey, PublicKey};

/// Handshake messages a second before senders must prove their address with a cookie. As in boringtun's own device and a
/// hundredth of what one core can compute (214 µs each).
pub(super) const HANDSHAKES_PER_SECOND: u64 = 100;

/// Bytes that a datagram is longer than its inner packet: type, index and counter before, the tag behind.
pub const OVERHEAD: usize = 32;

/// Who we are.
pub(super) struct Identity {
    secret: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Counts handshake messages of all peers and makes cookies.
    limiter: Arc<RateLimiter>,
    /// For the second look that [`Tunn`] takes at a message that has already been counted.
    unlimited: Arc<RateLimiter>,
}

/// What a datagram is, judged by its form, its first MAC and the load.
pub(super) enum Kind {
    Initiation,
    Response(Index),
    Cookie(Index),
    Data(Index),
    /// The sender has to prove its address first; the reply of this length is in the caller's buffer.
    Challenge(usize),
    Invalid,
}

/// Our name of a session, chosen by us, carried by the peer's messages: 24 bits name the peer, 8 the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(pub u32);

impl Index {
    pub fn peer(self) -> u32 {
        self.0 >> 8
    }
}

impl Identity {
    pub fn new(key: &PrivateKey) -> Self {
        let secret = x25519::StaticSecret::from(*key.reveal_bytes());
        let public = x25519::PublicKey::from(&secret);
        Self {
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND)),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            public,
        }
    }

    /// Tells what a datagram is. Data passes at once; a handshake message must carry a valid first MAC and, under load, a
    /// cookie (WireGuard paper, section 5.3).
    pub fn classify(&self, datagram: &[u8], from: IpAddr, reply: &mut [u8; 64]) -> Kind {
        match Tunn::parse_incoming_packet(datagram) {
            Ok(Packet::PacketData(data)) => return Kind::Data(Index(data.receiver_idx)),
            Ok(Packet::PacketCookieReply(cookie)) => return Kind::Cookie(Index(cookie.receiver_idx)),
            Ok(Packet::HandshakeInit(_) | Packet::HandshakeResponse(_)) => {}
            Err(_) => return Kind::Invalid,
        }
        self.limiter.reset_count();
        match self.limiter.verify_packet(Some(from), datagram, reply) {
            Ok(Packet::HandshakeInit(_)) => Kind::Initiation,
            Ok(Packet::HandshakeResponse(response)) => Kind::Response(Index(response.receiver_idx)),
            Err(TunnResult::WriteToNetwork(reply)) => Kind::Challenge(reply.len()),
            _ => Kind::Invalid,
        }
    }

    /// The static key that an initiation claims; the claim is proven only by [`Tunnel::open`].
    pub fn initiator(&self, datagram: &[u8]) -> Option<PublicKey> {
        let Ok(Packet::HandshakeInit(message)) = Tunn::parse_incoming_packet(datagram) else { return None };
        let half = parse_handshake_anon(&self.secret, &self.public, &message).ok()?;
        Some(PublicKey::from(half.peer_static_public))
    }

    /// The sessions with one peer. `index` names the peer in 24 bits.
    pub fn tunnel(&self, peer: &PublicKey, index: u32, keepalive: Option<u16>) -> Tunnel {
        Tunnel(Tunn::new(
            self.secret.clone(),
            x25519::PublicKey::from(*peer.as_bytes()),
            None,
            keepalive,
            index,
            Some(Arc::clone(&self.unlimited)),
        ))
    }
}

/// The sessions with one peer.
pub(super) struct Tunnel(Tunn);

/// What came of a message.
pub(super) enum Opened {
    /// An inner packet of this length, in the caller's buffer.
    Packet(usize),
    /// Authentic, without an inner packet.
    Nothing,
    /// Authentic; this many bytes in the caller's buffer have to be sent back.
    Reply(usize),
    /// Not authentic, a replay, or of a session that is over.
    Refused,
}

/// What the timers ask for.
pub(super) enum Tick {
    Nothing,
    /// This many bytes in the caller's buffer have to be sent.
    Send(usize),
    /// There is no session and no attempt to make one: nothing is due until somebody sends.
    Expired,
}

impl Tunnel {
    /// Opens any message; `room` must be as long as the message and at least 148 bytes, the length of an initiation.
    pub fn open(&mut self, datagram: &[u8], room: &mut [u8]) -> Opened {
        match self.0.decapsulate(None, datagram, room) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet(packet.len())
            }
            TunnResult::WriteToNetwork(reply) => Opened::Reply(reply.len()),
            TunnResult::Done => Opened::Nothing,
            TunnResult::Err(_) => Opened::Refused,
        }
    }

    /// The next packet that waited for a session.
    pub fn flush(&mut self, room: &mut [u8]) -> Option<usize> {
        match self.0.decapsulate(None, &[], room) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            _ => None,
        }
    }

    /// Makes a data message of an inner packet, or, while there is no session, keeps the packet and makes an initiation.
    pub fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.0.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            _ => None,
        }
    }

    /// Makes an initiation, also when one is under way.
    pub fn initiate(&mut self, out: &mut [u8]) -> Option<usize> {
        match self.0.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            _ => None,
        }
    }

    /// Drives the timers; to be called four times a second while the peer is active, and before anything else after a
    /// pause, because times are taken from the last call.
    pub fn tick(&mut self, out: &mut [u8]) -> Tick {
        match self.0.update_timers(out) {
            TunnResult::WriteToNetwork(message) => Tick::Send(message.len()),
            TunnResult::Err(_) => Tick::Expired,
            _ => Tick::Nothing,
        }
    }
}
