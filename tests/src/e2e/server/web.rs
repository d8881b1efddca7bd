//! A web server with five pages: one to read, one that says who asks, one of any length, one of which visitors get as much as
//! the test permits, and one that checks an upload.

use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{LOOK_EVERY, Stop, Visit, Visits};
use crate::e2e::namespace::Namespace;
use crate::e2e::transfer::Pattern;

/// What `GET /page` says.
pub const PAGE: &str = "a page from the other side\n";

/// Nobody here pauses for this long; a connection that was forgotten ends all the same.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A web server.
pub struct Web {
    visits: Visits,
    gate: Arc<Gate>,
    _stop: Stop,
}

impl Web {
    /// Starts it in a namespace.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let listener = namespace.run(move || TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let visits = Visits::default();
        let record = visits.clone();
        let gate = Arc::<Gate>::default();
        let of_visitors = Arc::clone(&gate);
        let (stop, stopped) = Stop::new();
        namespace.thread(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (record, gate) = (record.clone(), Arc::clone(&of_visitors));
                        // A visitor may leave at any time.
                        thread::spawn(move || serve(stream, &record, &gate));
                    }
                    Err(_) => wait_for(&listener),
                }
            }
        });
        Self { visits, gate, _stop: stop }
    }

    /// Lets every visitor of `/gated/LENGTH` have this many bytes in all; at first it is none.
    pub fn permit(&self, bytes: u64) {
        *self.gate.permitted.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        self.gate.raised.notify_all();
    }

    /// Everybody who asked for something.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.all()
    }
}

/// How much each visitor may have.
#[derive(Default)]
struct Gate {
    permitted: Mutex<u64>,
    raised: Condvar,
}

/// A stream that stops where the gate says.
struct Gated<'s> {
    stream: &'s mut TcpStream,
    sent: u64,
    gate: &'s Gate,
}

impl Write for Gated<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let permitted = self.gate.permitted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.gate.raised.wait_timeout_while(permitted, PATIENCE, |all| *all <= self.sent);
        let room = waited.unwrap_or_else(PoisonError::into_inner).0.saturating_sub(self.sent);
        let length = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let written = self.stream.write(&bytes[..length])?;
        self.sent += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

pub(super) fn wait_for(listener: &TcpListener) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    let timeout = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout);
}

fn serve(stream: TcpStream, visits: &Visits, gate: &Gate) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (to, from) = (plain(stream.local_addr()?), plain(stream.peer_addr()?));
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0_u64;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().to_owned());
    visits.add(Visit { to, from, what: path.clone() });
    if method == "PUT" {
        let checked = Pattern::new().check(&mut reader.by_ref().take(length), length, &AtomicU64::new(0));
        let verdict = match checked {
            Ok(found) if found == length => format!("{found} bytes, all of them right\n"),
            Ok(found) => format!("{found} of {length} bytes\n"),
            Err(error) => format!("{error}\n"),
        };
        return reply(reader.get_mut(), "200 OK", &verdict);
    }
    let stream = reader.get_mut();
    let length = |prefix: &str| path.strip_prefix(prefix).and_then(|length| length.parse::<u64>().ok());
    let head =
        |length: u64| format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    if let Some(length) = length("/bytes/") {
        write!(stream, "{}", head(length))?;
        return Pattern::new().write(stream, length);
    }
    if let Some(length) = length("/gated/") {
        write!(stream, "{}", head(length))?;
        return Pattern::new().write(&mut Gated { stream, sent: 0, gate }, length);
    }
    match path.as_str() {
        "/page" => reply(stream, "200 OK", PAGE),
        "/peer" => reply(stream, "200 OK", &format!("{}\n", from.ip())),
        _ => reply(stream, "404 Not Found", "no such page\n"),
    }
}

fn reply(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A socket for both families shows IPv4 addresses in their mapped form.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
