//! The UDP socket that carries the tunnel: many datagrams per system call in both directions.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ebb_tunnel::wireguard::Path;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::steer::steer;

/// Kernel buffers of the socket, in bytes; the system may grant less (`net.core.rmem_max`). 4 MiB holds 10 ms at 3 Gbit/s,
/// longer than one turn of the loop takes.
const SOCKET_BUFFER: usize = 4 << 20;

/// Buffers of one receive call, and the size of each: what generic receive offload joins at most.
const BUFFERS: usize = 16;
const BUFFER: usize = 65_536;

/// Space for datagrams on their way out. Eight full chains leave together when it is full: a receiver that sleeps is woken for
/// all of them, not for each.
const BATCH: usize = 512 << 10;
/// Longest datagram that is built here: an inner packet of the largest MTU, padding and WireGuard's 32 bytes.
pub const SLOT: usize = 2048;
/// Longest chain of segments in bytes: what fits the IPv4 length field with its headers.
const CHAIN: usize = 65_535 - 20 - 8;

/// The socket.
pub struct Outer {
    socket: UdpSocket,
    state: UdpSocketState,
    v6: bool,
    segmentation: bool,
    /// What was sealed and not yet sent.
    buffer: Box<[u8]>,
    current: Chain,
    /// Chains that are complete, and those that the kernel had no room for.
    complete: VecDeque<Chain>,
    /// Whether the kernel had no room at the last attempt.
    blocked: bool,
    /// Whether it was said that chains do not work here.
    fell_back: bool,
}

/// Datagrams of one length to one destination, one behind the other; only the last may be shorter.
#[derive(Clone, Copy, Debug)]
struct Chain {
    start: usize,
    end: usize,
    segment: usize,
    count: usize,
    path: Path,
}

impl Chain {
    const fn empty(at: usize) -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self { start: at, end: at, segment: 0, count: 0, path: Path { remote: nowhere, local: None } }
    }
}

impl Outer {
    /// Binds the port on every local address, of both families where the system has IPv6. Port 0 takes a free one. There are
    /// as many sockets as loops, and a datagram comes to the one of its receiver ([`steer`]); one socket alone where the kernel
    /// does not know how.
    ///
    /// # Errors
    /// When the port is in use.
    pub fn bind(port: u16, segmentation: bool, loops: usize) -> io::Result<Vec<Self>> {
        // Alone at first: a port of another gateway would be shared with it without a word.
        let first = Self::new(Self::both_families(port, false)?, segmentation)?;
        let mut all = vec![first];
        if loops > 1
            && let Err(error) = Self::add_beside(&mut all, segmentation, loops)
        {
            tracing::warn!(%error, "the kernel does not tell several loops apart; one serves everybody");
            all.truncate(1);
        }
        Ok(all)
    }

    fn add_beside(all: &mut Vec<Self>, segmentation: bool, loops: usize) -> io::Result<()> {
        let first = SockRef::from(&all[0].socket);
        first.set_reuse_port(true)?;
        let port = all[0].socket.local_addr()?.port();
        for _ in 1..loops {
            all.push(Self::new(Self::both_families(port, true)?, segmentation)?);
        }
        steer(&all[0].socket, loops)
    }

    fn both_families(port: u16, beside: bool) -> io::Result<(Socket, bool)> {
        // Without IPv6 in the kernel there is no such socket or no such address. A port in use is an error for both.
        match Self::socket(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into(), beside) {
            Ok(socket) => Ok((socket, true)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            Err(_) => Ok((Self::socket(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into(), beside)?, false)),
        }
    }

    fn new((socket, v6): (Socket, bool), segmentation: bool) -> io::Result<Self> {
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        // Routers may fragment, as with WireGuard in the kernel: a path below 1500 bytes then costs speed, not the tunnel.
        if v6 {
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
            setsockopt(&socket, sockopt::Ipv6DontFrag, &false)?;
        }
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        Ok(Self {
            socket,
            state,
            v6,
            segmentation,
            buffer: vec![0; BATCH].into_boxed_slice(),
            current: Chain::empty(0),
            complete: VecDeque::new(),
            blocked: false,
            fell_back: false,
        })
    }

    fn socket(domain: Domain, address: SocketAddr, beside: bool) -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        if beside {
            socket.set_reuse_port(true)?;
        }
        // Best effort: the probe at the start tells what was granted.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&address.into())?;
        Ok(socket)
    }

    /// The socket itself.
    pub fn socket_ref(&self) -> &UdpSocket {
        &self.socket
    }

    /// Bytes that the kernel granted for receiving and sending; zero when it does not tell.
    pub fn socket_buffers(&self) -> (usize, usize) {
        let socket = SockRef::from(&self.socket);
        (socket.recv_buffer_size().unwrap_or(0), socket.send_buffer_size().unwrap_or(0))
    }

    /// Datagrams of one receive call at most, and of one send call.
    pub fn offloads(&self) -> (usize, usize) {
        (self.state.gro_segments(), if self.segmentation { self.state.max_gso_segments() } else { 1 })
    }

    /// Whether nothing can be sent until the kernel says that it has room.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Room for one datagram, to be handed to [`push`](Self::push): at least [`SLOT`] bytes. `None` while the socket is
    /// blocked.
    #[inline]
    pub fn slot(&mut self) -> Option<&mut [u8]> {
        if !self.blocked && self.buffer.len() - self.current.end < SLOT {
            self.flush();
        }
        if self.blocked { None } else { self.buffer.get_mut(self.current.end..) }
    }

    /// Queues the datagram that was written to the beginning of [`slot`](Self::slot).
    #[inline]
    pub fn push(&mut self, length: usize, path: Path) {
        let chain = self.current;
        let limit = self.offloads().1;
        let last_was_short = chain.end - chain.start < chain.segment * chain.count;
        let fits = chain.count < limit
            && length <= chain.segment
            && !last_was_short
            && path == chain.path
            && chain.end - chain.start + length <= CHAIN;
        if chain.count > 0 && !fits {
            // What was written lies right behind the chain, where the next one starts.
            self.complete();
        }
        let chain = &mut self.current;
        if chain.count == 0 {
            chain.segment = length;
            chain.path = path;
        }
        chain.end += length;
        chain.count += 1;
    }

    fn complete(&mut self) {
        let next = Chain::empty(self.current.end);
        let chain = std::mem::replace(&mut self.current, next);
        if chain.count > 0 {
            self.complete.push_back(chain);
        }
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        self.complete();
        while let Some(chain) = self.complete.front().copied() {
            // Whoever asks is told that the socket is blocked, and seals nothing more.
            if !self.send(chain) {
                return;
            }
            self.complete.pop_front();
        }
        self.current = Chain::empty(0);
    }

    /// The kernel says that it has room again.
    pub fn unblock(&mut self) {
        self.blocked = false;
        self.flush();
    }

    /// Sends a chain; false when the kernel has no room.
    fn send(&mut self, chain: Chain) -> bool {
        let contents = &self.buffer[chain.start..chain.end];
        let transmit = |contents, segment| Transmit {
            destination: outgoing(chain.path.remote, self.v6),
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: chain.path.local.map(|ip| outgoing(SocketAddr::new(ip, 0), self.v6).ip()),
        };
        let segment = (chain.count > 1).then_some(chain.segment);
        let whole = self.state.try_send((&self.socket).into(), &transmit(contents, segment));
        match whole {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                false
            }
            Err(error) if chain.count > 1 => {
                // No segmentation here, or one segment is in the way of the others: one by one.
                if !self.fell_back && self.state.max_gso_segments() <= 1 {
                    self.fell_back = true;
                    tracing::warn!(%error, "the interface cannot cut chains of datagrams; each is sent by itself");
                }
                for contents in contents.chunks(chain.segment) {
                    let _ = self.state.try_send((&self.socket).into(), &transmit(contents, None));
                }
                true
            }
            // Unreachable, too long for the path, forbidden: as lost as on any link.
            Err(_) => true,
        }
    }
}

/// Where received datagrams lie.
pub struct Intake {
    buffer: Box<[u8]>,
    meta: [RecvMeta; BUFFERS],
    /// Bytes that the socket of the tunnel puts into a buffer these days.
    usual: usize,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFERS * BUFFER].into_boxed_slice(),
            meta: [RecvMeta::default(); BUFFERS],
            usual: BUFFER,
        }
    }
}

impl Intake {
    /// Buffers that one call can fill.
    pub const BUFFERS: usize = BUFFERS;

    /// Receives what is there and returns how many buffers were filled; zero when nothing is.
    pub fn receive(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> usize {
        self.fill(socket, state, BUFFERS)
    }

    fn fill(&mut self, socket: &UdpSocket, state: &UdpSocketState, most: usize) -> usize {
        let mut chunks = self.buffer.chunks_exact_mut(BUFFER);
        let mut buffers: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        // Errors that are not "nothing there" belong to datagrams sent earlier; there is nothing to do about them.
        state.recv(socket.into(), &mut buffers[..most], &mut self.meta).unwrap_or(0)
    }

    /// Receives about so many bytes from the socket of the tunnel, as far as can be told beforehand. Returns how many buffers
    /// were filled and with how many bytes, and whether there may be more.
    pub fn receive_outer(&mut self, outer: &Outer, bytes: usize) -> (usize, usize, bool) {
        let most = bytes.div_ceil(self.usual).clamp(1, BUFFERS);
        let filled = self.fill(&outer.socket, &outer.state, most);
        let lengths = self.meta[..filled].iter().map(|meta| meta.len);
        let received = lengths.clone().sum();
        self.usual = lengths.max().unwrap_or(self.usual).max(1);
        (filled, received, filled == most)
    }

    /// The datagrams in one of the filled buffers.
    pub fn datagrams(&mut self, buffer: usize) -> (Path, impl Iterator<Item = &mut [u8]>) {
        let meta = &self.meta[buffer];
        let path = Path { remote: canonical(meta.addr), local: meta.dst_ip.map(|ip| ip.to_canonical()) };
        let start = buffer * BUFFER;
        let filled = &mut self.buffer[start..start + meta.len.min(BUFFER)];
        // A datagram without bytes is one all the same.
        let empty: Option<&mut [u8]> = filled.is_empty().then(Default::default);
        (path, filled.chunks_mut(meta.stride.max(1)).chain(empty))
    }
}

/// An address as people know it: IPv4 addresses leave an IPv6 socket in their mapped form.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => {
                let mut v6 = v6;
                v6.set_flowinfo(0);
                v6.into()
            }
        },
        SocketAddr::V4(_) => address,
    }
}

/// The way back.
fn outgoing(address: SocketAddr, v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ipv4_addresses_come_and_go_in_their_own_form() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:5".parse().unwrap();
        let plain: SocketAddr = "192.0.2.1:5".parse().unwrap();
        assert_eq!(canonical(mapped), plain);
        assert_eq!(outgoing(plain, true), mapped);
        assert_eq!(outgoing(plain, false), plain);
    }

    /// A socket of the kernel that does not wait for ever.
    fn plain() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        SockRef::from(&socket).set_recv_buffer_size(1 << 20).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn alone(segmentation: bool) -> Outer {
        Outer::bind(0, segmentation, 1).unwrap().remove(0)
    }

    fn push(outer: &mut Outer, byte: u8, length: usize, to: &UdpSocket) {
        outer.slot().unwrap()[..length].fill(byte);
        outer.push(length, to.local_addr().unwrap().into());
    }

    #[test]
    fn datagrams_of_mixed_lengths_and_destinations_all_arrive_whole_and_in_order() {
        let (one, other) = (plain(), plain());
        for segmentation in [true, false] {
            let mut outer = alone(segmentation);
            let mut sent = Vec::new();
            let mut numbers = 0_u8..;
            let mut push_one = |outer: &mut Outer, length| {
                let number = numbers.next().unwrap();
                push(outer, number, length, &one);
                sent.push((length, number));
            };
            let lengths = [1452, 1452, 96, 1452, 1452, 1452, 600, 600, 1452, 96, 96];
            for length in lengths {
                push_one(&mut outer, length);
                push(&mut outer, 7, 50, &other);
            }
            for length in lengths.into_iter().chain([1452; 60]) {
                push_one(&mut outer, length);
            }
            outer.flush();
            let mut buffer = [0; 2048];
            for expected in sent {
                let received = one.recv(&mut buffer).unwrap();
                assert_eq!((received, buffer[0]), expected);
            }
            for _ in lengths {
                assert_eq!(other.recv(&mut buffer).unwrap(), 50);
            }
        }
    }

    #[test]
    fn what_arrives_carries_the_address_it_was_sent_to() {
        let outer = alone(true);
        let port = outer.socket_ref().local_addr().unwrap().port();
        let sender = plain();
        sender.send_to(b"hello", ("127.0.0.1", port)).unwrap();
        let mut intake = Intake::default();
        // On loopback it is there when the call returns.
        assert_eq!(intake.receive_outer(&outer, 100_000), (1, 5, false));
        let (path, datagrams) = intake.datagrams(0);
        assert_eq!(path.remote, sender.local_addr().unwrap());
        assert_eq!(path.local, Some([127, 0, 0, 1].into()));
        assert_eq!(datagrams.map(|datagram| datagram.to_vec()).collect::<Vec<_>>(), [b"hello"]);
    }

    #[test]
    fn no_more_is_received_at_once_than_was_asked_for_once_the_size_of_things_is_known() {
        let outer = alone(true);
        let port = outer.socket_ref().local_addr().unwrap().port();
        let sender = plain();
        let mut intake = Intake::default();
        let mut receive = |count: usize, bytes| {
            (0..count).for_each(|_| _ = sender.send_to(&[0; 1000], ("127.0.0.1", port)).unwrap());
            intake.receive_outer(&outer, bytes)
        };
        assert_eq!(receive(1, 1), (1, 1000, true));
        assert_eq!(receive(9, 3000), (3, 3000, true));
        assert_eq!(receive(0, usize::MAX), (6, 6000, false));
        assert_eq!(receive(0, 3000), (0, 0, false));
    }

    #[test]
    fn a_datagram_comes_to_the_loop_of_its_receiver_and_what_has_none_to_the_first() {
        let outers = Outer::bind(0, true, 3).unwrap();
        assert_eq!(outers.len(), 3);
        let port = outers[0].socket_ref().local_addr().unwrap().port();
        let message = |kind, at: usize, receiver: u8| {
            let mut message = [0xee; 40];
            (message[0], message[at]) = (kind, receiver);
            message
        };
        let mut cases = vec![(message(1, 4, 1), 0), (message(0, 4, 2), 0), (message(9, 8, 2), 0)];
        for receiver in [0, 1, 2, 3, 100, 255] {
            let owner = usize::from(receiver % 3);
            cases.extend([(4, 4), (3, 4), (2, 8)].map(|(kind, at)| (message(kind, at, receiver), owner)));
        }
        let mut buffer = [0; 64];
        for (message, owner) in cases {
            // A sender of its own, so that no hash of addresses could choose the same each time.
            plain().send_to(&message, ("127.0.0.1", port)).unwrap();
            let received = outers.iter().map(|outer| outer.socket_ref().recv(&mut buffer).is_ok());
            let received: Vec<_> = received.collect();
            assert_eq!(received, [0, 1, 2].map(|number| number == owner), "{message:?}");
        }
    }

    #[test]
    fn a_port_of_another_gateway_is_not_shared_with_it() {
        let outers = Outer::bind(0, true, 2).unwrap();
        let port = outers[0].socket_ref().local_addr().unwrap().port();
        for loops in [1, 2] {
            let error = Outer::bind(port, true, loops).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }
}
