//! The resolver's sockets: queries of users in, queries to upstreams out.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use ebb_tunnel::Time;
use ebb_tunnel::dns::{
    Attempt, Client, Config, ConfigError, Frames, Resolver, Settings, Transport, Upstream, frame,
};
use ebb_tunnel::wireguard::PeerId;
use hashbrown::HashMap;
use socket2::{Domain, Protocol, Socket, Type};

use super::poller::{EventFlags, Poller, Source};
use super::table::{Handle, Table};

/// Longest message of an upstream on a datagram. What is announced is 1232 bytes; some send more.
const DATAGRAM: usize = 4096;

/// The resolver and its sockets.
pub struct Names {
    resolver: Resolver,
    asking: Table<Asking>,
    by_attempt: HashMap<Attempt, Handle>,
    buffer: Vec<u8>,
}

/// One question on its way to one upstream.
struct Asking {
    attempt: Attempt,
    to: SocketAddr,
    how: How,
}

enum How {
    Datagram(UdpSocket),
    Stream {
        socket: TcpStream,
        /// What is still to be sent.
        outgoing: Vec<u8>,
        frames: Frames,
    },
}

impl Names {
    /// A resolver without names. `reachable` is whether users may reach an address.
    pub fn new(seed: [u8; 32], reachable: Box<dyn Fn(IpAddr) -> bool + Send>) -> Self {
        Self {
            resolver: Resolver::new(Settings::default(), seed, reachable),
            asking: Table::default(),
            by_attempt: HashMap::new(),
            buffer: vec![0; DATAGRAM],
        }
    }

    /// Replaces names and upstreams.
    ///
    /// # Errors
    /// When a name is no DNS name; nothing has changed then.
    pub fn configure(&mut self, config: &Config<'_>) -> Result<(), ConfigError> {
        self.resolver.configure(config)
    }

    /// Takes a question of a user.
    pub fn query(&mut self, client: Client, message: &[u8], now: Time) {
        self.resolver.query(client, message, now);
    }

    /// The next answer for a user.
    pub fn answer(&mut self) -> Option<(Client, Vec<u8>)> {
        self.resolver.poll_answer()
    }

    /// Drops what a user waits for.
    pub fn forget(&mut self, peer: PeerId) {
        self.resolver.forget_peer(peer.to_bits());
    }

    /// When [`expire`](Self::expire) has to be called next.
    pub fn deadline(&self) -> Option<Time> {
        self.resolver.deadline()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Time) {
        self.resolver.expire(now);
    }

    /// Does what the resolver wants done towards upstreams.
    pub fn ask_upstreams(&mut self, poller: &Poller, now: Time) {
        while let Some(upstream) = self.resolver.poll_upstream() {
            match upstream {
                Upstream::Ask { attempt, to, transport, message } => {
                    if self.ask(attempt, to, transport, &message, poller).is_err() {
                        self.resolver.upstream_failed(attempt, now);
                    }
                }
                Upstream::Forget { attempt } => {
                    if let Some(handle) = self.by_attempt.remove(&attempt) {
                        self.asking.remove(handle);
                    }
                }
            }
        }
    }

    fn ask(
        &mut self,
        attempt: Attempt,
        to: SocketAddr,
        transport: Transport,
        message: &[u8],
        poller: &Poller,
    ) -> io::Result<()> {
        let how = match transport {
            Transport::Udp => {
                let socket = UdpSocket::from(connect(to, Type::DGRAM, Protocol::UDP)?);
                socket.send(message)?;
                How::Datagram(socket)
            }
            Transport::Tcp => How::Stream {
                socket: TcpStream::from(connect(to, Type::STREAM, Protocol::TCP)?),
                outgoing: frame(message),
                frames: Frames::default(),
            },
        };
        let handle = self.asking.insert_with(|_| Asking { attempt, to, how });
        let Some(asking) = self.asking.get_mut(handle) else { return Ok(()) };
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let watching = match &asking.how {
            How::Datagram(socket) => poller.add(socket, Source::Resolver(handle), EventFlags::IN),
            How::Stream { socket, .. } => poller.add(socket, Source::Resolver(handle), edges),
        };
        if let Err(error) = watching {
            self.asking.remove(handle);
            return Err(error);
        }
        self.by_attempt.insert(attempt, handle);
        Ok(())
    }

    /// Something happened on a socket.
    pub fn event(&mut self, handle: Handle, now: Time) {
        let Some(asking) = self.asking.get_mut(handle) else { return };
        let (attempt, to) = (asking.attempt, asking.to);
        let result = match &mut asking.how {
            How::Datagram(socket) => receive(socket, &mut self.buffer, |message| {
                self.resolver.upstream_reply(attempt, to, message, now);
            }),
            How::Stream { socket, outgoing, frames } => exchange(socket, outgoing, frames, &mut self.buffer)
                .map(|()| {
                    while let Some(message) = frames.take() {
                        self.resolver.upstream_reply(attempt, to, &message, now);
                    }
                }),
        };
        if result.is_err() {
            self.resolver.upstream_failed(attempt, now);
        }
    }
}

fn connect(to: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    match socket.connect(&to.into()) {
        Err(error) if rustix::io::Errno::from_io_error(&error) != Some(rustix::io::Errno::INPROGRESS) => {
            Err(error)
        }
        _ => Ok(socket),
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8], mut found: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        match socket.recv(buffer) {
            Ok(length) => found(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Sends and receives as far as possible; the end of the stream is an error, because an answer was still expected.
fn exchange(
    socket: &mut TcpStream,
    outgoing: &mut Vec<u8>,
    frames: &mut Frames,
    buffer: &mut [u8],
) -> io::Result<()> {
    loop {
        let blocked = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
        };
        if !outgoing.is_empty() {
            match socket.write(outgoing) {
                Ok(written) => {
                    outgoing.drain(..written);
                }
                Err(error) if blocked(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match socket.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                if frames.push(&buffer[..length]) < length {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Err(error) if blocked(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
