//! A userspace host behind one gateway, on tokio: what [`ebb_tunnel::client::Client`] needs of the system, and TCP streams
//! through the tunnel that behave like any other.
//!
//! One task owns the UDP socket and the timers. Streams share the client with it behind a lock that is never held across an
//! await.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ebb_tunnel::client::{Client, ClientConfig, SocketId};
use ebb_tunnel::tcp::{Connection, End, State};
use ebb_tunnel::wireguard::Start;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock;

/// Room for the longest datagram: an inner packet of the largest MTU and what WireGuard adds.
const DATAGRAM: usize = 65_536;

/// Datagrams handled before the streams get their turn.
const BATCH: usize = 64;

/// While nothing is due, the driver looks at the clock this often; it costs nothing and bounds the damage of a lost wake-up.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One host behind one gateway. It vanishes with its last clone and its last stream.
#[derive(Clone)]
pub struct Tunnel {
    shared: Arc<Shared>,
    _driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    client: Mutex<Client>,
    wakers: Mutex<HashMap<SocketId, Wakers>>,
    /// There may be something to send, or an earlier deadline.
    stirred: Notify,
    /// A handshake may have completed.
    progressed: Notify,
}

#[derive(Default)]
struct Wakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

impl Tunnel {
    /// Opens a tunnel. Nothing is sent before something wants to be, or [`Tunnel::handshake`] is called.
    ///
    /// # Errors
    /// When no UDP socket of the endpoint's family can be had.
    pub async fn open(config: ClientConfig) -> io::Result<Self> {
        let any: IpAddr = if config.endpoint.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        // A new socket counts as busy until the reactor has looked at it, and what cannot be sent at once is lost: without this
        // the first handshake message would be, and the next one comes a tenth of a second later.
        socket.writable().await?;
        let start = Start {
            now: clock::monotonic(),
            unix: clock::now().as_duration().unsigned_abs(),
            seed: rand::random(),
        };
        let client = Client::new(config, start);
        let shared = Arc::new(Shared {
            client: Mutex::new(client),
            wakers: Mutex::default(),
            stirred: Notify::new(),
            progressed: Notify::new(),
        });
        let driver = tokio::spawn(drive(Arc::clone(&shared), socket));
        Ok(Self { shared, _driver: Arc::new(Driver(driver)) })
    }

    /// Performs a handshake and returns when it has succeeded. It repeats the first message until then; bound the wait.
    pub async fn handshake(&self) {
        let before = self.shared.client().last_handshake();
        self.shared.client().initiate(clock::monotonic());
        self.shared.stirred.notify_one();
        loop {
            let progressed = self.shared.progressed.notified();
            if self.shared.client().last_handshake() > before {
                return;
            }
            progressed.await;
        }
    }

    /// Time since the last handshake.
    #[must_use]
    pub fn last_handshake(&self) -> Option<Duration> {
        let at = self.shared.client().last_handshake()?;
        Some(clock::monotonic().since(at))
    }

    /// Bytes of packets received and sent.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let statistics = self.shared.client().statistics();
        (statistics.received_bytes, statistics.sent_bytes)
    }

    /// Opens a TCP connection through the tunnel.
    ///
    /// # Errors
    /// `ConnectionRefused` and the like, as for a connection of the system.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TunnelStream> {
        let socket = self
            .shared
            .client()
            .connect(to, clock::monotonic())
            .map_err(|error| io::Error::other(error.to_string()))?;
        let mut stream = TunnelStream { tunnel: self.clone(), socket };
        self.shared.stirred.notify_one();
        std::future::poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    /// Sends one datagram through the tunnel and waits for the first answer to it.
    ///
    /// # Errors
    /// When the datagram cannot be sent. Bound the wait.
    pub async fn exchange(&self, to: SocketAddr, data: &[u8]) -> io::Result<Vec<u8>> {
        let error = |error: ebb_tunnel::client::SocketError| io::Error::other(error.to_string());
        let socket = Udp { shared: &self.shared, id: self.shared.client().udp_bind().map_err(error)? };
        self.shared.client().udp_send(socket.id, to, data).map_err(error)?;
        self.shared.stirred.notify_one();
        std::future::poll_fn(|context| {
            self.shared.wakers().entry(socket.id).or_default().read = Some(context.waker().clone());
            match self.shared.client().udp_receive(socket.id) {
                Some((from, answer)) if from == to => Poll::Ready(Ok(answer)),
                Some(_) | None => Poll::Pending,
            }
        })
        .await
    }
}

struct Udp<'a> {
    shared: &'a Shared,
    id: SocketId,
}

impl Drop for Udp<'_> {
    fn drop(&mut self) {
        self.shared.wakers().remove(&self.id);
        self.shared.client().close(self.id);
    }
}

impl Shared {
    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakers(&self) -> MutexGuard<'_, HashMap<SocketId, Wakers>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is ready; stops when the system's buffer is full, as WireGuard would rather lose a datagram than hold it.
    fn flush(&self, socket: &UdpSocket, buffer: &mut [u8]) {
        let mut client = self.client();
        while let Some((length, to)) = client.transmit(buffer, clock::monotonic()) {
            let _ = socket.try_send_to(&buffer[..length], to);
        }
    }

    fn receive(&self, socket: &UdpSocket, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match socket.try_recv_from(buffer) {
                Ok((length, from)) => self.client().receive(&mut buffer[..length], from, clock::monotonic()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An earlier datagram met a closed port: the gateway is not there yet, or not any more.
                Err(_) => {}
            }
        }
    }

    /// Wakes streams that can go on. A stream that is woken in vain registers again.
    fn wake(&self) {
        for wakers in self.wakers().values_mut() {
            wakers.read.take().into_iter().chain(wakers.write.take()).for_each(Waker::wake);
        }
    }
}

async fn drive(shared: Arc<Shared>, socket: UdpSocket) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        shared.flush(&socket, &mut buffer);
        shared.wake();
        shared.progressed.notify_waiters();
        let due = shared.client().deadline();
        let wait = due.map_or(LONGEST_WAIT, |due| due.since(clock::monotonic()).min(LONGEST_WAIT));
        tokio::select! {
            readable = socket.readable() => {
                if readable.is_ok() {
                    shared.receive(&socket, &mut buffer);
                }
            }
            () = shared.stirred.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        shared.client().expire(clock::monotonic());
    }
}

/// A TCP connection through a tunnel.
pub struct TunnelStream {
    tunnel: Tunnel,
    socket: SocketId,
}

impl TunnelStream {
    fn poll_connected(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = Arc::clone(&self.tunnel.shared);
        shared.wakers().entry(self.socket).or_default().write = Some(context.waker().clone());
        let mut client = shared.client();
        let unreachable = client.unreachable(self.socket);
        match client.tcp(self.socket) {
            Some(connection) => match (connection.ended(), connection.state()) {
                (Some(end), _) => Poll::Ready(Err(refusal(end, unreachable))),
                (None, State::SynSent | State::SynReceived) => Poll::Pending,
                (None, _) => Poll::Ready(Ok(())),
            },
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll<T>(
        &self,
        context: &Context<'_>,
        side: fn(&mut Wakers) -> &mut Option<Waker>,
        work: impl FnOnce(&mut Connection) -> Option<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let shared = &self.tunnel.shared;
        *side(shared.wakers().entry(self.socket).or_default()) = Some(context.waker().clone());
        let done = match shared.client().tcp(self.socket) {
            Some(connection) => work(connection),
            None => Some(Err(io::ErrorKind::NotConnected.into())),
        };
        match done {
            Some(result) => {
                shared.stirred.notify_one();
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }
}

fn refusal(end: End, unreachable: Option<ebb_tunnel::packet::icmp::Error>) -> io::Error {
    if unreachable.is_some() {
        return io::Error::new(
            io::ErrorKind::HostUnreachable,
            "the gateway cannot reach it or its egress policy forbids it",
        );
    }
    broken(end)
}

fn broken(end: End) -> io::Error {
    match end {
        End::Finished => io::ErrorKind::BrokenPipe.into(),
        End::Reset => io::ErrorKind::ConnectionReset.into(),
        End::Refused => io::ErrorKind::ConnectionRefused.into(),
        End::TimedOut => io::ErrorKind::TimedOut.into(),
        End::Aborted => io::ErrorKind::ConnectionAborted.into(),
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(
            context,
            |wakers| &mut wakers.read,
            |connection| {
                let (first, second) = connection.readable();
                let mut taken = 0;
                for part in [first, second] {
                    let part = &part[..part.len().min(into.remaining())];
                    into.put_slice(part);
                    taken += part.len();
                }
                if taken > 0 {
                    connection.consume(taken);
                    return Some(Ok(()));
                }
                if connection.remote_finished() {
                    return Some(Ok(()));
                }
                connection.ended().map(|end| if end == End::Finished { Ok(()) } else { Err(broken(end)) })
            },
        )
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(
            context,
            |wakers| &mut wakers.write,
            |connection| {
                if let Some(end) = connection.ended() {
                    return Some(Err(broken(end)));
                }
                let (first, second) = connection.writable();
                let head = first.len().min(data.len());
                first[..head].copy_from_slice(&data[..head]);
                let tail = second.len().min(data.len() - head);
                second[..tail].copy_from_slice(&data[head..head + tail]);
                if head + tail == 0 && !data.is_empty() {
                    return None;
                }
                connection.commit(head + tail);
                Some(Ok(head + tail))
            },
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(
            context,
            |wakers| &mut wakers.write,
            |connection| {
                connection.finish();
                Some(Ok(()))
            },
        )
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let shared = &self.tunnel.shared;
        shared.wakers().remove(&self.socket);
        let mut client = shared.client();
        let in_order = client.tcp(self.socket).is_some_and(|c| c.remote_finished() && c.local_finished());
        if in_order {
            client.close(self.socket);
        } else {
            client.remove(self.socket, clock::monotonic());
        }
        drop(client);
        shared.stirred.notify_one();
    }
}
