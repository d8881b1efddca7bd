//! Datagrams: one unconnected socket of the kernel for each inner source address and port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ebb_tunnel::Time;
use ebb_tunnel::mapping::{Limits, MappingId, Mappings, Outbound};
use ebb_tunnel::packet::{Packet, icmp, udp};
use ebb_tunnel::wireguard::PeerId;
use quinn_udp::{Transmit, UdpSocketState};
use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::icmp_errors::{self, from_errno};
use super::link::Link;
use super::outer::Intake;
use super::poller::{EventFlags, Poller, Source};
use super::table::Handle;
use super::tcp::Context;

/// Mappings of one user. A peer-to-peer program has one, a page with many names some dozen for seconds; a scan takes all it
/// gets.
const PER_PEER: u32 = 2048;

/// Kernel buffer for datagrams that wait to be read, in bytes, as far as the system grants it: 25 ms at 300 Mbit/s. It
/// takes memory only while they wait.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Receive calls for one socket in one turn.
const RECEIVES: usize = 2;

/// Longest chain of datagrams that is collected for one send call.
const CHAIN: usize = 65_000;

/// All UDP mappings and their sockets.
pub struct Datagrams {
    mappings: Mappings,
    sockets: Vec<Option<Mapped>>,
    chain: Chain,
    segmentation: bool,
}

struct Mapped {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Datagrams of equal length from one mapping to one destination: a download's acknowledgments or an upload come in such
/// runs, and one call sends them all.
#[derive(Default)]
struct Chain {
    to: Option<(MappingId, SocketAddr)>,
    data: Vec<u8>,
    segment: usize,
    count: usize,
}

impl Datagrams {
    /// No mappings yet. `files` is how many sockets there may be.
    pub fn new(files: u32, segmentation: bool, now: Time) -> Self {
        Self {
            mappings: Mappings::new(Limits::udp(PER_PEER.min(files), files), now),
            sockets: Vec::new(),
            chain: Chain::default(),
            segmentation,
        }
    }

    /// How many mappings there are.
    pub fn len(&self) -> usize {
        self.mappings.len()
    }

    /// Takes a user's datagram to a host that the policy allows.
    #[inline]
    pub fn send(
        &mut self,
        peer: PeerId,
        packet: &Packet<'_>,
        datagram: &udp::Datagram<'_>,
        cx: &mut Context<'_>,
    ) {
        let source = SocketAddr::new(packet.source, datagram.source_port);
        let to = SocketAddr::new(packet.destination, datagram.destination_port);
        let id = match self.mappings.outbound(peer, source, to, cx.now) {
            Outbound::Known(id) => id,
            Outbound::New { id, evicted } => {
                if let Some(evicted) = evicted {
                    self.close(evicted, cx);
                }
                match open(to, Source::Udp(Handle::from_bits(id.index() as u64)), cx.poller) {
                    Ok(mapped) => self.place(id, mapped),
                    Err(error) => {
                        self.mappings.remove(id);
                        if let Some(error) = Errno::from_io_error(&error).and_then(from_errno) {
                            cx.link.report(peer, error, packet, cx.now);
                        }
                        return;
                    }
                }
                id
            }
            // Nothing to be told: the user's next datagram may find room.
            Outbound::Full => return,
        };
        if !self.chain.takes(id, to, datagram.data) {
            self.flush(cx);
            self.chain.start(id, to, datagram.data.len());
        }
        self.chain.push(datagram.data);
    }

    fn place(&mut self, id: MappingId, mapped: Mapped) {
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        self.sockets[id.index()] = Some(mapped);
    }

    /// Sends what was collected.
    pub fn flush(&mut self, cx: &mut Context<'_>) {
        let Some((id, to)) = self.chain.to.take() else { return };
        let Some(Some(mapped)) = self.sockets.get(id.index()) else { return };
        let limit = if self.segmentation { mapped.state.max_gso_segments() } else { 1 };
        let chains = if self.chain.count <= limit { self.chain.data.len() } else { self.chain.segment };
        // A single empty datagram has no bytes to be cut into chains, and still has to be sent.
        let pieces =
            self.chain.data.chunks(chains.max(1)).chain(self.chain.data.is_empty().then_some(&[][..]));
        for contents in pieces {
            if let Err(error) = mapped.send(to, contents, self.chain.segment) {
                let Some(error) = Errno::from_io_error(&error).and_then(from_errno) else { continue };
                if let Some((peer, source)) = self.mappings.owner(id) {
                    let quoted = &contents[..contents.len().min(self.chain.segment)];
                    report(cx.link, peer, source, to, error, quoted, cx.now);
                }
                break;
            }
        }
    }

    /// Something arrived on a socket.
    pub fn event(&mut self, handle: Handle, flags: EventFlags, intake: &mut Intake, cx: &mut Context<'_>) {
        let index = handle.to_bits() as usize;
        let id = MappingId::from_index(index);
        let Some(Some(mapped)) = self.sockets.get(index) else { return };
        if flags.contains(EventFlags::ERR) {
            let owner = self.mappings.owner(id);
            while let Some(undelivered) = icmp_errors::take(&mapped.socket) {
                if let Some((peer, source)) = owner {
                    let (to, error) = (undelivered.to, undelivered.error);
                    report(cx.link, peer, source, to, error, undelivered.data(), cx.now);
                }
            }
            // The error that waits for the next call is the same once more.
            let _ = mapped.socket.take_error();
        }
        for _ in 0..RECEIVES {
            let filled = intake.receive(&mapped.socket, &mapped.state);
            for buffer in 0..filled {
                let (path, datagrams) = intake.datagrams(buffer);
                let Some((peer, source)) = self.mappings.inbound(id, path.remote.ip(), cx.now) else {
                    continue;
                };
                for data in datagrams {
                    deliver(cx.link, peer, path.remote, source, data, cx.now);
                }
            }
            if filled < Intake::BUFFERS {
                break;
            }
        }
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub fn deadline(&self) -> Option<Time> {
        self.mappings.deadline()
    }

    /// Closes the sockets of mappings whose time is over.
    pub fn expire(&mut self, cx: &mut Context<'_>) {
        while let Some(id) = self.mappings.expire(cx.now) {
            self.close(id, cx);
        }
    }

    /// Closes the sockets of a user who is no longer one.
    pub fn forget(&mut self, peer: PeerId) {
        self.chain.to = None;
        while let Some(id) = self.mappings.remove_one_of(peer) {
            self.sockets[id.index()] = None;
        }
    }

    fn close(&mut self, id: MappingId, cx: &mut Context<'_>) {
        if self.chain.to.is_some_and(|(waiting, _)| waiting == id) {
            self.flush(cx);
        }
        if let Some(socket) = self.sockets.get_mut(id.index()) {
            *socket = None;
        }
    }
}

impl Chain {
    #[inline]
    fn takes(&self, id: MappingId, to: SocketAddr, data: &[u8]) -> bool {
        let last_was_short = self.data.len() < self.segment * self.count;
        self.to == Some((id, to))
            && data.len() <= self.segment
            && !data.is_empty()
            && !last_was_short
            && self.count < quinn_udp::BATCH_SIZE * 2
            && self.data.len() + data.len() <= CHAIN
    }

    fn start(&mut self, id: MappingId, to: SocketAddr, segment: usize) {
        self.to = Some((id, to));
        self.data.clear();
        self.segment = segment;
        self.count = 0;
    }

    #[inline]
    fn push(&mut self, data: &[u8]) {
        self.data.extend_from_slice(data);
        self.count += 1;
    }
}

impl Mapped {
    fn send(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit = |contents| Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (contents.len() > segment).then_some(segment),
            src_ip: None,
        };
        match self.state.try_send((&self.socket).into(), &transmit(contents)) {
            Ok(()) => Ok(()),
            // A full queue drops datagrams, as everywhere.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // Either it was the error of an earlier datagram, which is told only once, or chains do not work here.
            Err(_) => contents
                .chunks(segment.max(1))
                .try_for_each(|contents| self.state.try_send((&self.socket).into(), &transmit(contents))),
        }
    }
}

fn open(to: SocketAddr, source: Source, poller: &Poller) -> io::Result<Mapped> {
    let (domain, any): (_, IpAddr) = match to {
        SocketAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
        SocketAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if to.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&SocketAddr::new(any, 0).into())?;
    let socket = UdpSocket::from(socket);
    let state = UdpSocketState::new((&socket).into())?;
    // The kernel finds the path's MTU and fragments what is longer, as for any program's datagrams.
    match to {
        SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::WANT)?,
        SocketAddr::V6(_) => {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::WANT)?;
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6DontFrag, &false)?;
        }
    }
    icmp_errors::keep(&socket, to.is_ipv6())?;
    poller.add(&socket, source, EventFlags::IN)?;
    Ok(Mapped { socket, state })
}

/// Hands a host's datagram to a user, in fragments if it must be.
fn deliver(link: &mut Link, peer: PeerId, from: SocketAddr, to: SocketAddr, data: &[u8], now: Time) {
    if udp::packet_length(to, data.len()) <= usize::from(super::link::MTU) {
        link.send(peer, now, |out| udp::write(out, from, to, data));
        return;
    }
    let mut packet = vec![0; udp::packet_length(to, data.len())];
    if udp::write(&mut packet, from, to, data).is_some() {
        link.send_fragments(peer, &packet, now);
    }
}

/// Tells a user that a datagram did not arrive; `data` is how it began.
fn report(
    link: &mut Link,
    peer: PeerId,
    source: SocketAddr,
    to: SocketAddr,
    error: icmp::Error,
    data: &[u8],
    now: Time,
) {
    let mut bytes = [0; 128];
    let data = &data[..data.len().min(64)];
    if let Some(length) = udp::write(&mut bytes, source, to, data)
        && let Ok(packet) = Packet::parse(&bytes[..length])
    {
        link.report(peer, error, &packet, now);
    }
}
