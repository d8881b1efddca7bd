//! Servers of the world: web pages and streams, echoes, and names. Each remembers who came.

mod git;
mod names;
mod web;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::namespace::Namespace;

pub use git::GitServer;
pub use names::Names;
pub use web::{PAGE, Web};

/// How often a server looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Somebody who came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Which of the server's addresses was used.
    pub to: SocketAddr,
    /// Where it came from.
    pub from: SocketAddr,
    /// The path, or the datagram as text.
    pub what: String,
}

#[derive(Clone, Default)]
struct Visits(Arc<Mutex<Vec<Visit>>>);

impl Visits {
    fn add(&self, visit: Visit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(visit);
    }

    fn all(&self) -> Vec<Visit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells a server's thread to end.
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn new() -> (Self, Arc<AtomicBool>) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&flag)), flag)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A UDP server that sends everything back.
pub struct Echo {
    visits: Visits,
    _stop: Stop,
}

impl Echo {
    /// Starts it in a namespace.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let visits = Visits::default();
        let record = visits.clone();
        let stop = serve_datagrams(namespace, address, move |from, datagram| {
            let what = String::from_utf8_lossy(datagram).into_owned();
            record.add(Visit { to: address, from, what });
            Some(datagram.to_vec())
        });
        Self { visits, _stop: stop }
    }

    /// Everybody who came.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.all()
    }
}

fn serve_datagrams(
    namespace: &Namespace,
    address: SocketAddr,
    answer: impl Fn(SocketAddr, &[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> Stop {
    let socket = namespace.run(move || UdpSocket::bind(address));
    let socket = socket.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
    socket.set_read_timeout(Some(LOOK_EVERY)).expect("it is not zero");
    let (stop, stopped) = Stop::new();
    namespace.thread(move || {
        let mut buffer = vec![0; 65_536];
        while !stopped.load(Ordering::Relaxed) {
            if let Ok((length, from)) = socket.recv_from(&mut buffer)
                && let Some(reply) = answer(from, &buffer[..length])
            {
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    stop
}

/// Sends a datagram from a namespace, from `source` if one is given, and waits for it to come back; repeated a few times.
///
/// # Errors
/// When it does not.
pub fn echo(namespace: &Namespace, source: SocketAddr, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
    let datagram = datagram.to_vec();
    namespace.run(move || {
        let socket = UdpSocket::bind(source)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut buffer = vec![0; 65_536];
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for _ in 0..5 {
            socket.send(&datagram)?;
            match socket.recv(&mut buffer) {
                Ok(length) if buffer[..length] == datagram => return Ok(()),
                Ok(length) => return Err(io::Error::other(format!("{length} other bytes came back"))),
                Err(error) => last = error,
            }
        }
        Err(last)
    })
}

/// Sends one datagram from a namespace and waits for nothing.
///
/// # Errors
/// When it cannot be sent.
pub fn send(namespace: &Namespace, source: SocketAddr, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
    let datagram = datagram.to_vec();
    namespace.run(move || UdpSocket::bind(source)?.send_to(&datagram, to).map(drop))
}
