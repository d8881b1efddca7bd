//! A long, narrow and lossy path for datagrams, in user space: it needs no `netem`, which not every kernel has.
//!
//! A relay stands between a client and its gateway. Each direction has a [`Queue`]: a datagram waits until the line is free,
//! takes the time that its size needs, and arrives after the delay. What does not fit into the queue is dropped at its tail, and
//! some is lost at random. Order is kept, and there is no jitter but that of the machine.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::namespace::Namespace;
use super::wait::now;

/// IPv4 and UDP headers, which the line carries too.
const HEADERS: u64 = 28;

/// Datagrams of each direction that are never lost: handshakes that fail would measure WireGuard's timers and not the path.
const SPARED: u64 = 200;

/// Kernel buffer of each socket, in bytes. It has to hold what arrives while the relay does not run.
const SOCKET_BUFFER: usize = 4 << 20;

/// How often a relay looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One direction of a path.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Propagation.
    pub delay: Duration,
    /// Bits per second, charged on datagrams with their UDP and IPv4 headers.
    pub rate: u64,
    /// Bytes that may wait; more is dropped.
    pub queue: u64,
    /// Probability that a datagram is lost, 0 to 1.
    pub loss: f64,
}

/// A direction at work. Time is that since its beginning.
#[derive(Debug)]
pub struct Queue {
    line: Line,
    random: StdRng,
    free_at: Duration,
    under_way: VecDeque<(Duration, Vec<u8>)>,
    offered: u64,
}

impl Queue {
    /// An empty one. The same seed loses the same datagrams.
    #[must_use]
    pub fn new(line: Line, seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self { line, random, free_at: Duration::ZERO, under_way: VecDeque::new(), offered: 0 }
    }

    /// Takes a datagram, or drops it.
    pub fn offer(&mut self, datagram: &[u8], now: Duration) {
        let bits = |bytes: u64| u128::from(bytes) * 8;
        let size = datagram.len() as u64 + HEADERS;
        self.offered += 1;
        let waiting =
            self.free_at.saturating_sub(now).as_nanos() * u128::from(self.line.rate) / 1_000_000_000;
        if waiting + bits(size) > bits(self.line.queue) {
            return;
        }
        let takes = bits(size) * 1_000_000_000 / u128::from(self.line.rate);
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now) + takes;
        if self.random.random_bool(self.line.loss) && self.offered > SPARED {
            return;
        }
        self.under_way.push_back((self.free_at + self.line.delay, datagram.to_owned()));
    }

    /// The next datagram that has arrived.
    pub fn take(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.under_way.pop_front_if(|(at, _)| *at <= now).map(|(_, datagram)| datagram)
    }

    /// When the next one arrives.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.under_way.front().map(|(at, _)| *at)
    }
}

/// A relay at work; it ends when dropped.
pub struct Relay {
    /// Where it stands for the far end.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// Starts a relay on loopback of a namespace towards `far`; both directions are alike.
    ///
    /// # Panics
    /// When the sockets cannot be made.
    #[must_use]
    pub fn start(namespace: &Namespace, far: SocketAddr, line: Line, seed: u64) -> Self {
        let (near, outer) =
            namespace.run(sockets).unwrap_or_else(|error| panic!("a relay to {far}: {error}"));
        let address = near.local_addr().expect("it is bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        namespace.thread(move || {
            relay(&near, (&outer, far), [Queue::new(line, seed), Queue::new(line, !seed)], &stopped);
        });
        Self { address, stop }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn sockets() -> io::Result<(UdpSocket, UdpSocket)> {
    let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let outer = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    for socket in [&near, &outer] {
        socket.set_nonblocking(true)?;
        setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
        setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER)?;
    }
    Ok((near, outer))
}

fn relay(
    near: &UdpSocket,
    (outer, far): (&UdpSocket, SocketAddr),
    [mut up, mut down]: [Queue; 2],
    stop: &AtomicBool,
) {
    let began: Instant = now();
    let mut client = None;
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let next = [up.next(), down.next()].into_iter().flatten().min();
        let wait = next.map_or(LOOK_EVERY, |at| at.saturating_sub(began.elapsed()).min(LOOK_EVERY));
        let mut wanted = [near, outer].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        // Interrupted or not, it looks at everything.
        let _ = ppoll(&mut wanted, Some(TimeSpec::from_duration(wait)), None);
        while let Ok((length, from)) = near.recv_from(&mut buffer) {
            client = Some(from);
            up.offer(&buffer[..length], began.elapsed());
        }
        // From whichever of its addresses the gateway answers; WireGuard does not mind either.
        while let Ok((length, _)) = outer.recv_from(&mut buffer) {
            down.offer(&buffer[..length], began.elapsed());
        }
        // What a socket refuses is lost, as anywhere.
        while let Some(datagram) = up.take(began.elapsed()) {
            let _ = outer.send_to(&datagram, far);
        }
        while let Some(datagram) = down.take(began.elapsed()) {
            let _ = client.map(|client| near.send_to(&datagram, client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand bytes with their headers take one millisecond.
    const LINE: Line = Line { delay: Duration::from_millis(20), rate: 8_000_000, queue: 10_000, loss: 0.0 };
    const DATAGRAM: [u8; 972] = [7; 972];

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_datagram_arrives_after_its_time_on_the_line_and_the_delay() {
        let mut queue = Queue::new(LINE, 1);
        queue.offer(&DATAGRAM, ms(5));
        queue.offer(&DATAGRAM, ms(5));
        assert_eq!(queue.next(), Some(ms(26)));
        assert_eq!(queue.take(ms(25)), None);
        assert_eq!(queue.take(ms(26)), Some(DATAGRAM.to_vec()));
        assert_eq!(queue.take(ms(26)), None);
        assert_eq!(queue.take(ms(27)), Some(DATAGRAM.to_vec()));
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_dropped_until_the_line_has_carried_some() {
        let mut queue = Queue::new(LINE, 1);
        for _ in 0..15 {
            queue.offer(&DATAGRAM, ms(0));
        }
        queue.offer(&DATAGRAM, ms(3));
        let arrived = std::iter::from_fn(|| queue.take(ms(1000))).count();
        assert_eq!(arrived, 11);
    }

    #[test]
    fn loss_is_as_frequent_as_asked_and_the_same_for_the_same_seed() {
        let arrived = |seed| {
            let mut queue = Queue::new(Line { loss: 0.1, ..LINE }, seed);
            let mut arrived = Vec::new();
            for number in 0..10_000_u32 {
                queue.offer(&number.to_be_bytes(), ms(10 * u64::from(number)));
            }
            arrived.extend(std::iter::from_fn(|| queue.take(Duration::MAX)));
            arrived
        };
        assert_eq!(arrived(3), arrived(3));
        assert_ne!(arrived(3), arrived(4));
        assert!((8_900..9_100).contains(&arrived(3).len()), "{}", arrived(3).len());
    }
}
