//! Pings of users, through the ping sockets that Linux gives to unprivileged programs (`net.ipv4.ping_group_range`). Where
//! it does not, a ping is answered with "administratively prohibited", so that nobody takes silence for an outage.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use ebb_tunnel::Time;
use ebb_tunnel::mapping::{Limits, MappingId, Mappings, Outbound};
use ebb_tunnel::packet::{Packet, icmp};
use ebb_tunnel::wireguard::PeerId;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::icmp_errors::{self, Undelivered, from_errno};
use super::link::Link;
use super::poller::{EventFlags, Poller, Source};
use super::table::Handle;
use super::tcp::Context;

/// Ping programs of one user at a time, and of all.
const PER_PEER: u32 = 64;
const TOTAL: u32 = 1024;

/// Longest ICMP message.
const MESSAGE: usize = 65_535;

/// Replies taken from one socket in one turn.
const RECEIVES: usize = 64;

/// All ping mappings and their sockets.
pub struct Pings {
    mappings: Mappings,
    sockets: Vec<Option<UdpSocket>>,
    buffer: Vec<u8>,
}

impl Pings {
    /// No mappings yet, of one of so many loops, which share what files there are.
    pub fn new(loops: usize, now: Time) -> Self {
        let total = TOTAL / loops as u32;
        Self {
            mappings: Mappings::new(Limits::ping(PER_PEER.min(total), total), now),
            sockets: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// How many ping programs have a socket.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Takes a user's echo request to a host that the policy allows.
    pub fn send(&mut self, peer: PeerId, packet: &Packet<'_>, echo: &icmp::Echo<'_>, cx: &mut Context<'_>) {
        // What a port is to UDP, the identifier is to pings.
        let source = SocketAddr::new(packet.source, echo.identifier);
        let to = SocketAddr::new(packet.destination, 0);
        let result = match self.mappings.outbound(peer, source, to, cx.now) {
            Outbound::Known(id) => self.forward(id, to, echo),
            Outbound::New { id, evicted } => {
                if let Some(evicted) = evicted {
                    self.sockets[evicted.index()] = None;
                }
                open(to, Source::Ping(Handle::from_bits(id.index() as u64)), cx.poller)
                    .and_then(|socket| {
                        if self.sockets.len() <= id.index() {
                            self.sockets.resize_with(id.index() + 1, || None);
                        }
                        self.sockets[id.index()] = Some(socket);
                        self.forward(id, to, echo)
                    })
                    .inspect_err(|_| {
                        self.mappings.remove(id);
                    })
            }
            Outbound::Full => return,
        };
        let error = result.err().as_ref().and_then(Errno::from_io_error).and_then(from_errno);
        if let Some(error) = error {
            cx.link.report(peer, error, packet, cx.now);
        }
    }

    fn forward(&mut self, id: MappingId, to: SocketAddr, echo: &icmp::Echo<'_>) -> io::Result<()> {
        let Some(Some(socket)) = self.sockets.get(id.index()) else { return Ok(()) };
        self.buffer.resize(MESSAGE, 0);
        // The kernel writes its own identifier and the checksum.
        let Some(length) = echo.write(&mut self.buffer, to.ip(), None) else { return Ok(()) };
        let message = &self.buffer[..length];
        // The first error may be that of an earlier message, which is told only once.
        let sent = socket.send_to(message, to).or_else(|_| socket.send_to(message, to));
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Something arrived on a socket.
    pub fn event(&mut self, handle: Handle, flags: EventFlags, cx: &mut Context<'_>) {
        let index = handle.to_bits() as usize;
        let id = MappingId::from_index(index);
        let Some(Some(socket)) = self.sockets.get(index) else { return };
        if flags.contains(EventFlags::ERR) {
            while let Some(undelivered) = icmp_errors::take(socket) {
                if let Some((peer, source)) = self.mappings.owner(id)
                    && let Some(echo) = icmp::Echo::parse(source.ip(), undelivered.data())
                {
                    report(cx.link, peer, source, &undelivered, &echo, cx.now);
                }
            }
            let _ = socket.take_error();
        }
        self.buffer.resize(MESSAGE, 0);
        for _ in 0..RECEIVES {
            let Ok((length, from)) = socket.recv_from(&mut self.buffer) else { return };
            let Some((peer, source)) = self.mappings.inbound(id, from.ip(), cx.now) else { continue };
            let Some(echo) = icmp::Echo::parse(source.ip(), &self.buffer[..length]) else { continue };
            let reply = icmp::Echo { identifier: source.port(), ..echo };
            cx.link.send_echo(peer, &reply, from.ip(), source.ip(), cx.now);
        }
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub fn deadline(&self) -> Option<Time> {
        self.mappings.deadline()
    }

    /// Closes the sockets of ping programs that have ended.
    pub fn expire(&mut self, now: Time) {
        while let Some(id) = self.mappings.expire(now) {
            self.sockets[id.index()] = None;
        }
    }

    /// Closes the sockets of a user who is no longer one.
    pub fn forget(&mut self, peer: PeerId) {
        while let Some(id) = self.mappings.remove_one_of(peer) {
            self.sockets[id.index()] = None;
        }
    }
}

fn open(to: SocketAddr, source: Source, poller: &Poller) -> io::Result<UdpSocket> {
    let (domain, protocol) = match to {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    // A ping socket answers to everything that a datagram socket does.
    let socket = UdpSocket::from(Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(protocol))?);
    icmp_errors::keep(&socket, to.is_ipv6())?;
    poller.add(&socket, source, EventFlags::IN)?;
    Ok(socket)
}

/// Tells a user that a ping did not arrive.
fn report(
    link: &mut Link,
    peer: PeerId,
    source: SocketAddr,
    undelivered: &Undelivered,
    echo: &icmp::Echo<'_>,
    now: Time,
) {
    let mut bytes = [0; 192];
    let echo = icmp::Echo { identifier: source.port(), ..*echo };
    if let Some(length) = echo.write_packet(&mut bytes, source.ip(), undelivered.to.ip())
        && let Ok(packet) = Packet::parse(&bytes[..length])
    {
        link.report(peer, undelivered.error, &packet, now);
    }
}
