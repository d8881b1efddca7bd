//! A small host at the other end of a gateway: TCP and UDP sockets over one WireGuard peer, in user space, without sockets
//! of the system and without privileges. The daemon's control link and `ebb connect` are made of it.
//!
//! ```text
//! loop {
//!     while let Some((length, to)) = client.transmit(&mut buffer, now) { socket.send_to(&buffer[..length], to) }
//!     wait for a datagram, for client.deadline(), or for something to do with a socket
//!     client.receive(datagram, from, now)   or   client.expire(now)   or   client.tcp(id)…
//! }
//! ```
//! After every other call, [`Client::transmit`] may have something.

mod sockets;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_wire::{PrivateKey, PublicKey};
use sha2::{Digest as _, Sha256};

pub use sockets::{SocketError, SocketId};

use crate::Time;
use crate::packet::{Header, Packet, header_length, icmp, protocol, udp};
use crate::tcp::{self, Connection, Segment};
use crate::wireguard::{self, Addresses, Endpoint, Path, PeerConfig, PeerId, Received, Sealed, Start};
use sockets::{Socket, Sockets};

/// Time from a first initiation to its repetition; doubles up to WireGuard's own `REKEY_TIMEOUT` of 5 s, after which the
/// protocol's timers take over. The paper's section 6.1 waits 5 s at once, to spare a stranger's machine; here both ends
/// are Ebb's own, the first packet to a gateway that has just started is often lost, and people are waiting.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);

/// Buffers of all connections together.
const BUDGET: usize = 64 << 20;

/// Inner packets that wait for [`Client::transmit`]; more are dropped, as a full queue of a network card would.
const QUEUE: usize = 1024;

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The client's own key.
    pub private_key: PrivateKey,
    /// The gateway's public key.
    pub gateway_key: PublicKey,
    /// Where the gateway listens.
    pub endpoint: SocketAddr,
    /// The client's addresses inside the tunnel, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Longest inner packet in bytes; at least 1280, which every IPv6 link carries (RFC 8200, section 5).
    pub mtu: u16,
    /// Interval of keepalives that hold a NAT open.
    pub persistent_keepalive: Option<Duration>,
}

/// One host behind one gateway.
pub struct Client {
    tunnel: Endpoint,
    gateway: PeerId,
    addresses: Vec<IpAddr>,
    settings: tcp::Settings,
    budget: tcp::Budget,
    sockets: Sockets,
    /// Whole inner packets that belong to no connection: datagrams and resets.
    packets: VecDeque<Vec<u8>>,
    retry: Option<Retry>,
}

/// Repetitions of an initiation.
#[derive(Debug, Clone, Copy)]
struct Retry {
    /// Handshakes before this time do not answer it.
    since: Time,
    at: Time,
    wait: Duration,
}

impl Client {
    /// A client that has not yet sent anything. Ports and sequence numbers are drawn from the seed as well.
    #[must_use]
    pub fn new(config: ClientConfig, start: Start) -> Self {
        let now = start.now;
        // Not the seed itself: what is visible in packets must tell nothing about keys.
        let seed = Sha256::new().chain_update(b"sockets").chain_update(start.seed).finalize().into();
        let peer = PeerConfig {
            key: config.gateway_key,
            addresses: Addresses::All,
            endpoint: Some(config.endpoint),
            keepalive: config.persistent_keepalive,
        };
        let (tunnel, gateway) = Endpoint::with_peer(&config.private_key, config.mtu, peer, start);
        Self {
            tunnel,
            gateway,
            addresses: config.addresses,
            settings: tcp::Settings { mtu: config.mtu, ..tcp::Settings::default() },
            budget: tcp::Budget::new(BUDGET),
            sockets: Sockets::new(seed, now),
            packets: VecDeque::new(),
            retry: None,
        }
    }

    /// Takes a datagram from the network. It is decrypted in place.
    pub fn receive(&mut self, datagram: &mut [u8], from: SocketAddr, now: Time) {
        let received = self.tunnel.receive(datagram, Path::from(from), now);
        let Received::Packet { packet, .. } = received else { return };
        if packet.fragment.is_some() || !self.addresses.contains(&packet.destination) {
            return;
        }
        match packet.protocol {
            protocol::TCP => self.receive_segment(&packet, now),
            protocol::UDP => {
                if let Some(datagram) = udp::Datagram::parse(packet.payload) {
                    let to = SocketAddr::new(packet.destination, datagram.destination_port);
                    let from = SocketAddr::new(packet.source, datagram.source_port);
                    self.sockets.deliver(to, from, datagram.data);
                }
            }
            protocol::ICMP | protocol::ICMPV6 => self.receive_icmp(&packet),
            _ => {}
        }
    }

    fn receive_segment(&mut self, packet: &Packet<'_>, now: Time) {
        let Some(segment) = Segment::parse(packet.payload) else { return };
        let local = SocketAddr::new(packet.destination, segment.destination_port);
        let remote = SocketAddr::new(packet.source, segment.source_port);
        if let Some(connection) = self.sockets.find_tcp(local, remote) {
            connection.receive(&segment, now);
            return;
        }
        let mut out = vec![0; header_length(remote.ip()) + tcp::HEADER];
        let Some(start) = Header::new(local.ip(), remote.ip(), protocol::TCP).write(&mut out, tcp::HEADER)
        else {
            return;
        };
        if tcp::reset_for(&segment, local, remote, &mut out[start..]).is_some() {
            self.queue(out);
        }
    }

    fn receive_icmp(&mut self, packet: &Packet<'_>) {
        if let Some((error, quoted)) = icmp::parse_error(packet) {
            self.sockets.report(error, &quoted);
        } else if let Some(echo) =
            icmp::Echo::parse(packet.source, packet.payload).filter(|echo| echo.request)
        {
            let mut out = vec![0; packet.bytes.len()];
            let reply = icmp::Echo { request: false, ..echo };
            if let Some(length) = reply.write_packet(&mut out, packet.destination, packet.source) {
                out.truncate(length);
                self.queue(out);
            }
        }
    }

    /// Writes the next datagram for the network to `out`, which must be [`wireguard::OVERHEAD`] bytes longer than
    /// the MTU, and returns its length
    /// and where it goes. Call until `None`.
    pub fn transmit(&mut self, out: &mut [u8], now: Time) -> Option<(usize, SocketAddr)> {
        loop {
            if let Some((length, path)) = self.tunnel.transmit(out) {
                return Some((length, path.remote));
            }
            let (packets, sockets) = (&mut self.packets, &mut self.sockets);
            match self.tunnel.seal(self.gateway, out, now, |room| next_packet(packets, sockets, room, now)) {
                Sealed::Datagram(length, path) => {
                    if wireguard::is_initiation(out) {
                        self.retry_from(now);
                    }
                    return Some((length, path.remote));
                }
                // The next one may be a message of the handshake.
                Sealed::Kept => {}
                Sealed::Nothing | Sealed::Unreachable => return None,
            }
        }
    }

    /// When [`expire`](Self::expire) has to be called next, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let retry = self.retry.map(|retry| retry.at);
        [self.tunnel.deadline(), self.sockets.deadline(), retry].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Time) {
        self.tunnel.expire(now);
        self.sockets.expire(now);
        let Some(retry) = self.retry else { return };
        if self.last_handshake().is_some_and(|at| at >= retry.since) || retry.wait >= REKEY_TIMEOUT {
            self.retry = None;
        } else if retry.at <= now {
            self.tunnel.initiate(self.gateway, now);
            let wait = retry.wait * 2;
            self.retry = Some(Retry { at: now + wait, wait, ..retry });
        }
    }

    /// Starts a handshake now, also when one is under way, and repeats it soon if no answer comes.
    pub fn initiate(&mut self, now: Time) {
        self.tunnel.initiate(self.gateway, now);
        self.retry = None;
        self.retry_from(now);
    }

    fn retry_from(&mut self, now: Time) {
        self.retry.get_or_insert(Retry { since: now, at: now + FIRST_RETRY, wait: FIRST_RETRY });
    }

    /// When the last handshake was completed.
    #[must_use]
    pub fn last_handshake(&self) -> Option<Time> {
        self.tunnel.statistics(self.gateway).and_then(|statistics| statistics.last_handshake)
    }

    /// Counters of the tunnel to the gateway.
    #[must_use]
    pub fn statistics(&self) -> wireguard::Statistics {
        self.tunnel.statistics(self.gateway).unwrap_or_default()
    }

    /// Sends to another address from here on.
    pub fn set_endpoint(&mut self, endpoint: SocketAddr) {
        self.tunnel.set_endpoint(self.gateway, endpoint);
    }

    /// Opens a TCP connection. It is there at once, [`tcp::State::SynSent`]; whether it comes up shows in its state, in
    /// [`Connection::ended`] and in [`Client::unreachable`].
    ///
    /// # Errors
    /// When the client has no address of that family, or no port is left.
    pub fn connect(&mut self, to: SocketAddr, now: Time) -> Result<SocketId, SocketError> {
        let from = self.address_towards(to)?;
        self.sockets.connect(from, to, &self.settings, &self.budget, now)
    }

    /// The connection of a TCP socket, to read, write, finish or abort; `None` when there is none by this name.
    pub fn tcp(&mut self, id: SocketId) -> Option<&mut Connection> {
        self.sockets.tcp(id)
    }

    /// What a router or the gateway said about a connection that could not be made, for example that the egress policy
    /// forbids it. The connection has been given up then.
    #[must_use]
    pub fn unreachable(&self, id: SocketId) -> Option<icmp::Error> {
        self.sockets.unreachable(id)
    }

    /// Ends a TCP connection in order, or a UDP socket at once. The name is void from here on; what the peer still sends is
    /// discarded.
    pub fn close(&mut self, id: SocketId) {
        self.sockets.close(id);
    }

    /// Drops a socket; a connection that has not ended is reset.
    pub fn remove(&mut self, id: SocketId, now: Time) {
        let Some(Socket::Tcp(mut socket)) = self.sockets.take(id) else { return };
        socket.connection.abort();
        let start = header_length(socket.remote.ip());
        let mut out = vec![0; usize::from(self.settings.mtu)];
        if let Some(length) = socket.connection.transmit(&mut out[start..], now) {
            let header = Header::new(socket.local.ip(), socket.remote.ip(), protocol::TCP);
            if header.write(&mut out, length).is_some() {
                out.truncate(start + length);
                self.queue(out);
            }
        }
    }

    /// Makes a UDP socket on a free port, for both families.
    ///
    /// # Errors
    /// When no port is left.
    pub fn udp_bind(&mut self) -> Result<SocketId, SocketError> {
        self.sockets.bind()
    }

    /// The port of a UDP socket; `None` when there is no socket by this name.
    #[must_use]
    pub fn udp_port(&self, id: SocketId) -> Option<u16> {
        self.sockets.udp_port(id)
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// When the socket does not exist, the client has no address of that family, or the data does not fit the MTU.
    pub fn udp_send(&mut self, id: SocketId, to: SocketAddr, data: &[u8]) -> Result<(), SocketError> {
        let port = self.sockets.udp_port(id).ok_or(SocketError::Closed)?;
        let from = SocketAddr::new(self.address_towards(to)?, port);
        let length = udp::packet_length(to, data.len());
        if length > usize::from(self.settings.mtu) {
            return Err(SocketError::TooLong);
        }
        let mut packet = vec![0; length];
        udp::write(&mut packet, from, to, data).ok_or(SocketError::TooLong)?;
        self.queue(packet);
        Ok(())
    }

    /// The next datagram that arrived, with its sender.
    pub fn udp_receive(&mut self, id: SocketId) -> Option<(SocketAddr, Vec<u8>)> {
        self.sockets.udp_receive(id)
    }

    fn address_towards(&self, to: SocketAddr) -> Result<IpAddr, SocketError> {
        let same_family = |address: &&IpAddr| address.is_ipv4() == to.is_ipv4();
        self.addresses.iter().find(same_family).copied().ok_or(SocketError::NoAddress)
    }

    fn queue(&mut self, packet: Vec<u8>) {
        if self.packets.len() < QUEUE {
            self.packets.push_back(packet);
        }
    }
}

/// The next inner packet that waits.
fn next_packet(
    packets: &mut VecDeque<Vec<u8>>,
    sockets: &mut Sockets,
    out: &mut [u8],
    now: Time,
) -> Option<usize> {
    if let Some(packet) = packets.pop_front() {
        out.get_mut(..packet.len())?.copy_from_slice(&packet);
        return Some(packet.len());
    }
    while let Some((id, local, remote, connection)) = sockets.next_ready() {
        let start = header_length(remote.ip());
        if let Some(length) = connection.transmit(&mut out[start..], now) {
            Header::new(local.ip(), remote.ip(), protocol::TCP).write(out, length)?;
            return Some(start + length);
        }
        sockets.settled(id);
    }
    None
}

#[cfg(test)]
mod tests;
