//! What is sent through a gateway. Both ends live in this process, each with its socket in its namespace, so that bytes are
//! counted where they arrive. They share the machine with the gateway and take as little of it as they can: a stream is
//! sent from the pages of a file and discarded by the kernel where it arrives (tcp(7), `MSG_TRUNC`), so that its bytes are copied
//! neither into the one socket nor out of the other.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebb_tests::e2e::wait::now;
use ebb_tests::e2e::world::SERVER;
use nix::sys::sendfile::sendfile;
use nix::sys::socket::sockopt::TcpCongestion;
use nix::sys::socket::{MsgFlags, recv, setsockopt};

use crate::gateway::Bed;

/// Bytes per call of receivers.
const BLOCK: usize = 256 * 1024;
/// Bytes that senders send again and again: what a socket's buffers hold, so that they are no nearer to the gateway's core than
/// bytes that were written.
const FILE: usize = 4 << 20;
/// Bytes of a request, and of its response.
const MESSAGE: usize = 64;
/// UDP payload that fills a packet of MTU 1420 over IPv6 headers.
const DATAGRAM: usize = 1372;
/// Bits per second of UDP payload.
const DATAGRAM_RATE: f64 = 300e6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    Down,
    /// From the client to the server.
    Up,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Self::Down, Self::Up];
}

/// What arrived within a time, and what it cost the gateway.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub seconds: f64,
    pub bytes: f64,
    pub cpu: f64,
}

impl Cost {
    pub fn mbit(self) -> f64 {
        self.bytes * 8.0 / self.seconds / 1e6
    }

    pub fn seconds_per_gb(self) -> f64 {
        self.cpu / (self.bytes / 1e9)
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures for a time")]
pub fn pause(time: Duration) {
    thread::sleep(time);
}

/// Congestion control of both ends of a stream. On a lossy line the best that the kernel has for it; else what Linux has unless
/// told otherwise, because BBR sets a timer for every 64 KiB that the server sends, and most of them fire on the core of the
/// gateway, which no server elsewhere interrupts. `None` where the kernel does not have it: its default is used then.
pub fn control(wan: bool) -> Option<&'static str> {
    let name = if wan { "bbr" } else { "cubic" };
    let known = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    known.is_ok_and(|known| known.split_whitespace().any(|one| one == name)).then_some(name)
}

fn listener(bed: &Bed<'_>) -> (TcpListener, SocketAddr) {
    let listener = bed.world.internet.run(|| TcpListener::bind((SERVER, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A connection through the gateway: the client's end and the server's.
fn connection(bed: &Bed<'_>) -> (TcpStream, TcpStream) {
    let (listener, address) = listener(bed);
    let ours = bed.client.namespace.run(move || TcpStream::connect(address)).unwrap();
    let server = listener.accept().unwrap().0;
    if let Some(control) = control(bed.is_wan()) {
        for end in [&ours, &server] {
            setsockopt(end, TcpCongestion, &control.into()).unwrap_or_else(|error| {
                panic!("{control} is not allowed here, start the bench as root: {error}")
            });
        }
    }
    (ours, server)
}

/// A stream that goes on until it is dropped.
pub struct Stream {
    received: Arc<AtomicU64>,
    ends: [TcpStream; 2],
}

impl Stream {
    pub fn start(bed: &Bed<'_>, direction: Direction) -> Self {
        let (client, server) = connection(bed);
        let ends = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        let (from, to) = match direction {
            Direction::Down => (server, client),
            Direction::Up => (client, server),
        };
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        thread::spawn(move || {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&vec![0x5a; FILE]).unwrap();
            while sendfile(&from, &file, Some(&mut 0), FILE).is_ok() {}
        });
        thread::spawn(move || {
            let mut buffer = vec![0; BLOCK];
            while let Ok(length @ 1..) = recv(to.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Self { received, ends }
    }

    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for end in &self.ends {
            let _ = end.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Measures for a time what arrives of something that is under way.
fn measure(bed: &Bed<'_>, received: &AtomicU64, time: Duration) -> Cost {
    let (began, bytes, cpu) = (now(), received.load(Ordering::Relaxed), bed.cpu());
    pause(time);
    Cost {
        seconds: began.elapsed().as_secs_f64(),
        bytes: (received.load(Ordering::Relaxed) - bytes) as f64,
        cpu: (bed.cpu() - cpu).as_secs_f64(),
    }
}

/// One TCP stream in the middle of its life.
pub fn bulk(bed: &Bed<'_>, direction: Direction, warm_up: Duration, time: Duration) -> Cost {
    let stream = Stream::start(bed, direction);
    pause(warm_up);
    measure(bed, &stream.received, time)
}

/// One TCP stream from its first byte.
pub fn bulk_from_the_start(bed: &Bed<'_>, direction: Direction, time: Duration) -> Cost {
    bulk(bed, direction, Duration::ZERO, time)
}

/// Some streams that begin together; what arrived of each, in bytes.
pub fn share(bed: &Bed<'_>, direction: Direction, count: usize, time: Duration) -> Vec<f64> {
    let streams: Vec<_> = (0..count).map(|_| Stream::start(bed, direction)).collect();
    pause(time);
    streams.iter().map(|stream| stream.received() as f64).collect()
}

/// Datagrams at a fixed rate; the cost of those that arrive, and the share that does not.
pub fn datagrams(bed: &Bed<'_>, direction: Direction, warm_up: Duration, time: Duration) -> (Cost, f64) {
    let server = bed.world.internet.run(|| UdpSocket::bind((SERVER, 0))).unwrap();
    let address = server.local_addr().unwrap();
    let client = bed.client.namespace.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(address)?;
        io::Result::Ok(socket)
    });
    let client = client.unwrap();
    server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // A datagram may be lost, the first one too.
    let hello = || client.send(b"hello").and_then(|_| server.recv_from(&mut [0; 64])).ok();
    let (_, from) = (0..100).find_map(|_| hello()).expect("no datagram has arrived within ten seconds");
    server.connect(from).unwrap();
    let (sender, receiver) = match direction {
        Direction::Down => (server, client),
        Direction::Up => (client, server),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let [sent, received] = [0; 2].map(|zero| Arc::new(AtomicU64::new(zero)));
    let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
    let sending = thread::spawn(move || {
        let began = now();
        let mut bytes = 0;
        while !stopped.load(Ordering::Relaxed) {
            let due = began.elapsed().as_secs_f64() * DATAGRAM_RATE / 8.0;
            while (bytes as f64) < due {
                let _ = sender.send(&[0x5a; DATAGRAM]);
                bytes += DATAGRAM;
            }
            count.store(bytes as u64, Ordering::Relaxed);
            pause(Duration::from_millis(1));
        }
    });
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (stopped, count) = (Arc::clone(&stop), Arc::clone(&received));
    let receiving = thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !stopped.load(Ordering::Relaxed) {
            while let Ok(length) = receiver.recv(&mut buffer) {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        }
    });
    pause(warm_up);
    let before = sent.load(Ordering::Relaxed);
    let cost = measure(bed, &received, time);
    let offered = (sent.load(Ordering::Relaxed) - before) as f64;
    stop.store(true, Ordering::Relaxed);
    sending.join().unwrap();
    receiving.join().unwrap();
    (cost, (1.0 - cost.bytes / offered).max(0.0))
}

/// Times of something that was done again and again, one after the other.
pub struct Times(Vec<Duration>);

impl Times {
    fn take(time: Duration, mut what: impl FnMut()) -> Self {
        let began = now();
        let mut times = Vec::new();
        while began.elapsed() < time || times.is_empty() {
            let one: Instant = now();
            what();
            times.push(one.elapsed());
        }
        times.sort();
        Self(times)
    }

    /// The median in milliseconds.
    pub fn median(&self) -> f64 {
        self.0[self.0.len() / 2].as_secs_f64() * 1000.0
    }

    /// How many there were in a second.
    pub fn rate(&self) -> f64 {
        self.0.len() as f64 / self.0.iter().sum::<Duration>().as_secs_f64()
    }
}

fn exchange(stream: &mut TcpStream) {
    let mut message = [7; MESSAGE];
    stream.write_all(&message).unwrap();
    stream.read_exact(&mut message).unwrap();
}

fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
}

/// Requests and responses on one connection.
pub fn requests(bed: &Bed<'_>, time: Duration) -> Times {
    let (mut client, server) = connection(bed);
    client.set_nodelay(true).unwrap();
    thread::spawn(move || echo(server));
    Times::take(time, || exchange(&mut client))
}

/// A connection for each request and its response.
pub fn connects(bed: &Bed<'_>, time: Duration) -> Times {
    let (listener, address) = listener(bed);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let server = thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            echo(stream);
        }
    });
    let times = bed.client.namespace.run(move || {
        Times::take(time, || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            exchange(&mut stream);
        })
    });
    stop.store(true, Ordering::Relaxed);
    drop(bed.client.namespace.run(move || TcpStream::connect(address)));
    server.join().unwrap();
    times
}
