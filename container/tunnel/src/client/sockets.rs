//! The sockets of a client.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;

use crate::Time;
use crate::packet::{Packet, icmp};
use crate::tcp::{self, Connection, State};
use crate::timer::{TimerId, Wheel};

/// First port for connections that this side opens (RFC 6335, section 6).
const EPHEMERAL: u16 = 49_152;

/// Bytes of datagrams that wait to be read from one socket.
const UDP_QUEUE: usize = 256 << 10;

/// Names a socket of one client. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

/// Why a socket cannot do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The session gave this client no address of the destination's family.
    #[error("this client has no address of that family inside the tunnel")]
    NoAddress,
    /// All ports towards the destination are in use.
    #[error("all ports are in use")]
    NoPort,
    /// Longer than the tunnel's MTU.
    #[error("the datagram is longer than the tunnel's MTU")]
    TooLong,
    /// There is no socket by this name.
    #[error("the socket is closed")]
    Closed,
}

pub(super) enum Socket {
    Tcp(Box<TcpSocket>),
    Udp(UdpSocket),
}

pub(super) struct TcpSocket {
    pub connection: Connection,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    timer: TimerId,
    /// Whether it is in the list of those that may have something to send.
    ready: bool,
    /// Whether nobody holds its name any more.
    closed: bool,
    unreachable: Option<icmp::Error>,
}

pub(super) struct UdpSocket {
    port: u16,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    queued: usize,
}

pub(super) struct Sockets {
    sockets: BTreeMap<SocketId, Socket>,
    next: u64,
    tcp: HashMap<(SocketAddr, SocketAddr), SocketId>,
    udp: HashMap<u16, SocketId>,
    ready: VecDeque<SocketId>,
    timers: Wheel<SocketId>,
    secret: [u8; 32],
    next_port: u16,
}

impl Sockets {
    pub fn new(seed: [u8; 32], now: Time) -> Self {
        Self {
            sockets: BTreeMap::new(),
            next: 0,
            tcp: HashMap::new(),
            udp: HashMap::new(),
            ready: VecDeque::new(),
            timers: Wheel::new(now),
            next_port: EPHEMERAL | u16::from_be_bytes([seed[0], seed[1]]),
            secret: seed,
        }
    }

    fn name(&mut self) -> SocketId {
        self.next += 1;
        SocketId(self.next)
    }

    /// The next port for which `free` holds.
    fn port(&mut self, free: impl Fn(&Self, u16) -> bool) -> Result<u16, SocketError> {
        for _ in EPHEMERAL..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(EPHEMERAL);
            if free(self, port) {
                return Ok(port);
            }
        }
        Err(SocketError::NoPort)
    }

    pub fn connect(
        &mut self,
        from: IpAddr,
        remote: SocketAddr,
        settings: &tcp::Settings,
        budget: &tcp::Budget,
        now: Time,
    ) -> Result<SocketId, SocketError> {
        let port = self.port(|sockets, port| !sockets.tcp.contains_key(&((from, port).into(), remote)))?;
        let local = SocketAddr::new(from, port);
        let isn = tcp::initial_sequence(&self.secret, local, remote, now);
        let id = self.name();
        let socket = TcpSocket {
            connection: Connection::open(local, remote, settings, budget, isn, now),
            local,
            remote,
            timer: self.timers.insert(id),
            ready: true,
            closed: false,
            unreachable: None,
        };
        self.sockets.insert(id, Socket::Tcp(Box::new(socket)));
        self.tcp.insert((local, remote), id);
        self.ready.push_back(id);
        Ok(id)
    }

    pub fn bind(&mut self) -> Result<SocketId, SocketError> {
        let port = self.port(|sockets, port| !sockets.udp.contains_key(&port))?;
        let id = self.name();
        self.sockets.insert(id, Socket::Udp(UdpSocket { port, queue: VecDeque::new(), queued: 0 }));
        self.udp.insert(port, id);
        Ok(id)
    }

    /// The connection of a socket that somebody holds; it is looked at again by the next [`next_ready`](Self::next_ready).
    pub fn tcp(&mut self, id: SocketId) -> Option<&mut Connection> {
        let Some(Socket::Tcp(socket)) = self.sockets.get_mut(&id) else { return None };
        if socket.closed {
            return None;
        }
        mark(&mut self.ready, id, socket);
        Some(&mut socket.connection)
    }

    /// The connection between two ends, about to receive.
    pub fn find_tcp(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<&mut Connection> {
        let id = *self.tcp.get(&(local, remote))?;
        let Some(Socket::Tcp(socket)) = self.sockets.get_mut(&id) else { return None };
        mark(&mut self.ready, id, socket);
        Some(&mut socket.connection)
    }

    /// The next connection that may have something to send; it stays first until [`settled`](Self::settled).
    pub fn next_ready(&mut self) -> Option<(SocketId, SocketAddr, SocketAddr, &mut Connection)> {
        while let Some(id) = self.ready.front() {
            if matches!(self.sockets.get(id), Some(Socket::Tcp(_))) {
                break;
            }
            self.ready.pop_front();
        }
        let id = *self.ready.front()?;
        let Some(Socket::Tcp(socket)) = self.sockets.get_mut(&id) else { return None };
        if socket.closed {
            let (first, second) = socket.connection.readable();
            let count = first.len() + second.len();
            socket.connection.consume(count);
        }
        Some((id, socket.local, socket.remote, &mut socket.connection))
    }

    /// The connection has nothing to send for now.
    pub fn settled(&mut self, id: SocketId) {
        self.ready.pop_front_if(|front| *front == id);
        let Some(Socket::Tcp(socket)) = self.sockets.get_mut(&id) else { return };
        socket.ready = false;
        let deadline = socket.connection.deadline();
        self.timers.set(socket.timer, deadline);
        if socket.closed && socket.connection.state() == State::Closed {
            self.take(id);
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        self.timers.deadline()
    }

    pub fn expire(&mut self, now: Time) {
        while let Some(id) = self.timers.pop(now) {
            if let Some(Socket::Tcp(socket)) = self.sockets.get_mut(&id) {
                socket.connection.expire(now);
                mark(&mut self.ready, id, socket);
            }
        }
    }

    pub fn close(&mut self, id: SocketId) {
        match self.sockets.get_mut(&id) {
            Some(Socket::Tcp(socket)) => {
                socket.closed = true;
                socket.connection.finish();
                mark(&mut self.ready, id, socket);
            }
            Some(Socket::Udp(_)) => {
                self.take(id);
            }
            None => {}
        }
    }

    pub fn take(&mut self, id: SocketId) -> Option<Socket> {
        let socket = self.sockets.remove(&id)?;
        match &socket {
            Socket::Tcp(socket) => {
                self.tcp.remove(&(socket.local, socket.remote));
                self.timers.remove(socket.timer);
            }
            Socket::Udp(socket) => {
                self.udp.remove(&socket.port);
            }
        }
        Some(socket)
    }

    pub fn unreachable(&self, id: SocketId) -> Option<icmp::Error> {
        match self.sockets.get(&id) {
            Some(Socket::Tcp(socket)) => socket.unreachable,
            _ => None,
        }
    }

    /// An ICMP error about a packet that this client sent. It ends only a connection that is not yet made: on a made one
    /// it may be forged or pass (RFC 5927, section 4; RFC 9293, section 3.9.2.2).
    pub fn report(&mut self, error: icmp::Error, quoted: &Packet<'_>) {
        let Some(ports) = quoted.payload.first_chunk::<4>() else { return };
        let local = SocketAddr::new(quoted.source, u16::from_be_bytes([ports[0], ports[1]]));
        let remote = SocketAddr::new(quoted.destination, u16::from_be_bytes([ports[2], ports[3]]));
        let Some(id) = self.tcp.get(&(local, remote)).copied() else { return };
        if let Some(Socket::Tcp(socket)) = self.sockets.get_mut(&id)
            && socket.connection.state() == State::SynSent
        {
            socket.unreachable = Some(error);
            socket.connection.abort();
            mark(&mut self.ready, id, socket);
        }
    }

    pub fn udp_port(&self, id: SocketId) -> Option<u16> {
        match self.sockets.get(&id) {
            Some(Socket::Udp(socket)) => Some(socket.port),
            _ => None,
        }
    }

    pub fn deliver(&mut self, to: SocketAddr, from: SocketAddr, data: &[u8]) {
        let Some(id) = self.udp.get(&to.port()) else { return };
        let Some(Socket::Udp(socket)) = self.sockets.get_mut(id) else { return };
        if socket.queued + data.len() <= UDP_QUEUE {
            socket.queued += data.len();
            socket.queue.push_back((from, data.to_vec()));
        }
    }

    pub fn udp_receive(&mut self, id: SocketId) -> Option<(SocketAddr, Vec<u8>)> {
        let Some(Socket::Udp(socket)) = self.sockets.get_mut(&id) else { return None };
        let (from, data) = socket.queue.pop_front()?;
        socket.queued -= data.len();
        Some((from, data))
    }
}

fn mark(ready: &mut VecDeque<SocketId>, id: SocketId, socket: &mut TcpSocket) {
    if !socket.ready {
        socket.ready = true;
        ready.push_back(id);
    }
}
