//! A userspace client on a real socket: what the daemon and `ebb connect` are.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ebb_tunnel::Time;
use ebb_tunnel::client::{Client, ClientConfig, SocketId};
use ebb_tunnel::tcp::State;
use ebb_tunnel::wireguard::Start;
use ebb_wire::PrivateKey;

use crate::bed::{Bed, GATEWAY_OUTER, PATIENCE, Place, clock};

pub struct Host {
    pub client: Client,
    socket: UdpSocket,
    started: Instant,
}

#[expect(clippy::disallowed_methods, reason = "a real gateway compares it with its own")]
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

impl Host {
    /// A client in the client's namespace.
    pub fn new(bed: &Bed, key: PrivateKey, addresses: &[IpAddr]) -> Self {
        Self::towards(bed, key, addresses, GATEWAY_OUTER)
    }

    pub fn towards(bed: &Bed, key: PrivateKey, addresses: &[IpAddr], endpoint: SocketAddr) -> Self {
        let any = if endpoint.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = bed.inside(Place::Client, || UdpSocket::bind(any).unwrap());
        socket.set_nonblocking(true).unwrap();
        let config = ClientConfig {
            gateway_key: bed.gateway_key.public(),
            private_key: key,
            endpoint,
            addresses: addresses.to_vec(),
            mtu: 1420,
            persistent_keepalive: None,
        };
        // Each process that uses a key needs its own.
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let start = Start { now: Time::ZERO, unix: unix(), seed };
        Self { client: Client::new(config, start), socket, started: clock() }
    }

    pub fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Exchanges what there is to exchange.
    pub fn turn(&mut self) {
        let mut buffer = [0; 65_536];
        let now = self.now();
        if self.client.deadline().is_some_and(|at| at <= now) {
            self.client.expire(now);
        }
        while let Some((length, to)) = self.client.transmit(&mut buffer, now) {
            // A full queue loses datagrams, as any network does.
            let _ = self.socket.send_to(&buffer[..length], to);
        }
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let now = self.now();
            self.client.receive(&mut buffer[..length], from, now);
        }
    }

    /// Runs until something is there; panics when it stays away.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = clock() + PATIENCE;
        loop {
            self.turn();
            if let Some(found) = look(self) {
                // What looking has queued goes out as well.
                self.turn();
                return found;
            }
            assert!(clock() < deadline, "waited in vain for {what}");
        }
    }

    /// Runs for a while, for things that must not happen.
    pub fn during(&mut self, time: Duration) {
        let end = clock() + time;
        while clock() < end {
            self.turn();
        }
    }

    /// Opens a connection and waits until it is open or over.
    pub fn connect(&mut self, to: impl Into<SocketAddr>) -> SocketId {
        let (to, now) = (to.into(), self.now());
        let id = self.client.connect(to, now).unwrap();
        self.until(&format!("an answer of {to}"), |host| {
            let connection = host.client.tcp(id).unwrap();
            (connection.state() != State::SynSent).then_some(())
        });
        id
    }

    /// Sends bytes, as far as there is room; returns how many.
    pub fn write(&mut self, id: SocketId, bytes: &[u8]) -> usize {
        let connection = self.client.tcp(id).unwrap();
        let (room, _) = connection.writable();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        connection.commit(count);
        count
    }

    /// Takes what has arrived.
    pub fn read(&mut self, id: SocketId) -> Vec<u8> {
        let connection = self.client.tcp(id).unwrap();
        let (first, second) = connection.readable();
        let bytes = [first, second].concat();
        connection.consume(bytes.len());
        bytes
    }

    /// Sends bytes and takes as many back.
    pub fn echo(&mut self, id: SocketId, bytes: &[u8]) -> Vec<u8> {
        let (mut sent, mut received) = (0, Vec::new());
        self.until("an echo", |host| {
            sent += host.write(id, &bytes[sent..]);
            received.extend(host.read(id));
            (received.len() >= bytes.len()).then_some(())
        });
        received
    }
}
