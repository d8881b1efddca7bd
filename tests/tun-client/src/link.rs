//! The UDP side: the tunnel, and its socket with segmentation offload in both directions.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd};

use ebb_tunnel::Time;
use ebb_tunnel::wireguard::{Endpoint, Path, PeerId, Received, Sealed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::SockRef;

/// Buffers of one receive call.
pub const BUFFERS: usize = 16;
/// Kernel buffers of the socket, in bytes, as the gateway's.
const SOCKET_BUFFER: usize = 4 << 20;
/// Longest datagram, with room to spare.
const DATAGRAM: usize = 2048;
/// Most that one send call takes: what fits IPv4's length field with its headers.
const CHAIN: usize = 65_535 - 20 - 8;

/// Space for chains that leave together, so that the gateway is woken for all of them: eight full ones, as the gateway's.
const BATCH: usize = 512 << 10;

/// The tunnel and its socket.
pub struct Link {
    pub tunnel: Endpoint,
    peer: PeerId,
    gateway: SocketAddr,
    socket: UdpSocket,
    state: UdpSocketState,
    /// Sealed and not yet sent.
    buffer: Vec<u8>,
    /// Where complete chains lie, and their segments' length where there are several.
    chains: Vec<(Range<usize>, Option<usize>)>,
    /// The last chain: datagrams of one length, but for the last.
    start: usize,
    end: usize,
    segment: usize,
    count: usize,
    meta: [RecvMeta; BUFFERS],
}

impl Link {
    pub fn new(tunnel: Endpoint, peer: PeerId, gateway: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        let options = SockRef::from(&socket);
        options.set_recv_buffer_size(SOCKET_BUFFER)?;
        options.set_send_buffer_size(SOCKET_BUFFER)?;
        let state = UdpSocketState::new((&socket).into())?;
        let (buffer, meta) = (vec![0; BATCH], [RecvMeta::default(); BUFFERS]);
        Ok(Self {
            tunnel,
            peer,
            gateway,
            socket,
            state,
            buffer,
            chains: Vec::new(),
            start: 0,
            end: 0,
            segment: 0,
            count: 0,
            meta,
        })
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Seals a packet and queues it; false when `build` had none.
    pub fn send(&mut self, now: Time, build: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        match self.tunnel.seal(self.peer, &mut self.buffer[self.end..], now, build) {
            Sealed::Datagram(length, _) => self.queue(length),
            Sealed::Kept => {}
            Sealed::Nothing | Sealed::Unreachable => return false,
        }
        true
    }

    /// Queues what was written behind the last chain.
    fn queue(&mut self, length: usize) {
        let short = self.end - self.start < self.segment * self.count;
        let full = self.count == self.state.max_gso_segments() || self.end + length - self.start > CHAIN;
        if self.count > 0 && (short || full || length > self.segment) {
            self.complete();
        }
        if self.count == 0 {
            self.segment = length;
        }
        self.end += length;
        self.count += 1;
        if self.buffer.len() - self.end < DATAGRAM {
            self.send_chains();
        }
    }

    /// Ends a chain; the next one begins behind it.
    fn complete(&mut self) {
        if self.count > 0 {
            self.chains.push((self.start..self.end, (self.count > 1).then_some(self.segment)));
        }
        (self.start, self.count) = (self.end, 0);
    }

    fn send_chains(&mut self) {
        self.complete();
        for (range, segment_size) in self.chains.drain(..) {
            let contents = &self.buffer[range];
            let transmit =
                Transmit { destination: self.gateway, ecn: None, contents, segment_size, src_ip: None };
            // Whatever else is wrong is as good as lost on the way.
            while matches!(self.state.try_send((&self.socket).into(), &transmit), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            {
                let mut room = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                _ = poll(&mut room, PollTimeout::NONE);
            }
        }
        (self.start, self.end) = (0, 0);
    }

    /// Sends the tunnel's own messages and everything queued.
    pub fn flush(&mut self) {
        while let Some((length, _)) = self.tunnel.transmit(&mut self.buffer[self.end..]) {
            self.queue(length);
        }
        self.send_chains();
    }

    /// Receives into buffers of equal length and returns what is in each: bytes, and the length of each datagram.
    pub fn receive(&mut self, buffers: &mut [u8]) -> impl Iterator<Item = (usize, usize)> + use<> {
        let each = buffers.len() / BUFFERS;
        let mut chunks = buffers.chunks_exact_mut(each);
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let filled = self.state.recv((&self.socket).into(), &mut slices, &mut self.meta).unwrap_or(0);
        self.meta.into_iter().take(filled).map(|meta| (meta.len, meta.stride.max(1)))
    }

    /// Opens a datagram of the gateway's.
    pub fn receive_datagram<'a>(&mut self, datagram: &'a mut [u8], now: Time) -> Received<'a> {
        self.tunnel.receive(datagram, Path::from(self.gateway), now)
    }
}
