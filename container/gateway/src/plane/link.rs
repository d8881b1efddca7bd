//! Everything between an inner packet and the network: the WireGuard endpoint and its socket.

use std::net::IpAddr;

use ebb_tunnel::Time;
use ebb_tunnel::packet::fragment::Fragments;
use ebb_tunnel::packet::{Header, Packet, header_length, icmp, protocol};
use ebb_tunnel::tcp::{self, Segment};
use ebb_tunnel::wireguard::{Endpoint, PeerId, Sealed};

use super::outer::Outer;

/// Longest inner packet that is sent to users: WireGuard's usual MTU, for outer paths of 1500 bytes.
pub const MTU: u16 = 1420;

/// What came of an attempt to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Sent, or as good as lost on the way.
    Yes,
    /// There was nothing to send, or nobody to send it to.
    Nothing,
    /// The kernel has no room: try again when it has.
    Blocked,
}

/// The tunnel and its socket.
pub struct Link {
    pub tunnel: Endpoint,
    pub outer: Outer,
    /// Our own addresses inside the tunnel, from which errors are reported.
    own: [IpAddr; 2],
    limiter: icmp::Limiter,
    /// Of the last packet that was sent in fragments.
    identification: u32,
}

impl Link {
    /// `identification` is where the identifications of fragmented packets start; it should be random.
    pub fn new(tunnel: Endpoint, outer: Outer, own: [IpAddr; 2], identification: u32, now: Time) -> Self {
        Self { tunnel, outer, own, limiter: icmp::Limiter::new(now), identification }
    }

    /// Our own addresses inside the tunnel.
    pub fn own(&self) -> [IpAddr; 2] {
        self.own
    }

    /// Builds an inner packet in place and sends it to a peer. `build` gets [`MTU`] bytes and returns how many it used; it
    /// is not called when nothing can be sent.
    #[inline]
    pub fn send(&mut self, peer: PeerId, now: Time, build: impl FnOnce(&mut [u8]) -> Option<usize>) -> Sent {
        let Some(slot) = self.outer.slot() else { return Sent::Blocked };
        match self.tunnel.seal(peer, slot, now, build) {
            Sealed::Datagram(length, path) => {
                self.outer.push(length, path);
                Sent::Yes
            }
            Sealed::Kept => Sent::Yes,
            Sealed::Nothing | Sealed::Unreachable => Sent::Nothing,
        }
    }

    /// Sends a whole packet that may be longer than [`MTU`], in fragments then.
    #[cold]
    pub fn send_fragments(&mut self, peer: PeerId, packet: &[u8], now: Time) {
        self.identification = self.identification.wrapping_add(1);
        let mut fragments = Fragments::new(packet, MTU, self.identification);
        while self.send(peer, now, |out| fragments.next(out)) == Sent::Yes {}
    }

    /// Sends an echo, in fragments if it must be.
    pub fn send_echo(&mut self, peer: PeerId, echo: &icmp::Echo<'_>, from: IpAddr, to: IpAddr, now: Time) {
        let length = header_length(to) + icmp::HEADER + echo.data.len();
        if length <= usize::from(MTU) {
            self.send(peer, now, |out| echo.write_packet(out, from, to));
            return;
        }
        let mut packet = vec![0; length];
        if echo.write_packet(&mut packet, from, to).is_some() {
            self.send_fragments(peer, &packet, now);
        }
    }

    /// Reports why a packet was not delivered, if an error may be sent for it.
    pub fn report(&mut self, peer: PeerId, error: icmp::Error, about: &Packet<'_>, now: Time) {
        if !self.limiter.allow(now) {
            return;
        }
        // Nothing listens on a port: that is what the host itself would say. All else, a router says.
        let from = match (error, about.source) {
            (icmp::Error::Port | icmp::Error::Protocol, _) => about.destination,
            (_, IpAddr::V4(_)) => self.own[0],
            (_, IpAddr::V6(_)) => self.own[1],
        };
        self.send(peer, now, |out| icmp::write_error(out, error, from, about));
    }

    /// Answers a segment that belongs to no connection.
    pub fn reset(&mut self, peer: PeerId, packet: &Packet<'_>, segment: &Segment<'_>, now: Time) {
        let local = (packet.destination, segment.destination_port).into();
        let remote = (packet.source, segment.source_port).into();
        self.send(peer, now, |out| {
            let start = header_length(packet.source);
            let length = tcp::reset_for(segment, local, remote, out.get_mut(start..)?)?;
            Header::new(packet.destination, packet.source, protocol::TCP).write(out, length)?;
            Some(start + length)
        });
    }

    /// Sends the endpoint's own messages and everything queued.
    pub fn flush(&mut self) {
        while let Some(slot) = self.outer.slot() {
            let Some((length, path)) = self.tunnel.transmit(slot) else { break };
            self.outer.push(length, path);
        }
        self.outer.flush();
    }
}
