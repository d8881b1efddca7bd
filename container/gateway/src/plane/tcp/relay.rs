//! A socket of the kernel, towards a host.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::Connection;
use socket2::{SockRef, TcpKeepalive};

use crate::plane::poller::EventFlags;

/// Bytes read from a socket before they are sent on: as much as a flow sends in a turn. Fewer reads make fewer acknowledgements
/// for the host; half a megabyte is still in the cache when it is sent.
const READ: usize = 512 << 10;

/// Keepalive towards hosts: a host that vanished frees its socket, and load balancers keep the flow (Azure's outbound NAT
/// forgets an idle flow after 4 minutes).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u32 = 4;

/// Age at which a connection gets its keepalive. Most are over before, and are spared the calls that it takes.
const KEEPALIVE_AGE: Duration = Duration::from_secs(10);

/// The socket, and what is known of it without asking. Readiness is edge-triggered: it holds until a call says otherwise.
pub(super) struct Relay {
    socket: TcpStream,
    can_read: bool,
    can_write: bool,
    /// The end of the stream, or an error, waits behind the last byte: no further event will tell.
    ending: bool,
    /// The host has finished.
    ended: bool,
    /// We have finished towards the host.
    shut: bool,
    /// The host reset the connection, or the kernel gave it up.
    broken: bool,
    since: Time,
    keeps_alive: bool,
}

impl Relay {
    /// A socket that has just been connected; `flags` is what the kernel said of it.
    pub fn new(socket: TcpStream, flags: EventFlags, now: Time) -> Self {
        let mut relay = Self {
            socket,
            can_read: false,
            can_write: false,
            ending: false,
            ended: false,
            shut: false,
            broken: false,
            since: now,
            keeps_alive: false,
        };
        relay.event(flags);
        relay
    }

    /// Looks after the socket now and then; every open connection has a timer that fires within minutes.
    pub fn expire(&mut self, now: Time) {
        if !self.keeps_alive && now.since(self.since) >= KEEPALIVE_AGE {
            self.keeps_alive = true;
            let keepalive = TcpKeepalive::new()
                .with_time(KEEPALIVE_IDLE)
                .with_interval(KEEPALIVE_INTERVAL)
                .with_retries(KEEPALIVE_PROBES);
            // Without it, a vanished host is only noticed later.
            let _ = SockRef::from(&self.socket).set_tcp_keepalive(&keepalive);
        }
    }

    pub fn event(&mut self, flags: EventFlags) {
        self.ending |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        self.can_read |= self.ending || flags.contains(EventFlags::IN);
        self.can_write |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
    }

    /// Whether there is nothing more to do with the socket.
    pub fn is_done(&self) -> bool {
        self.ended && self.shut
    }

    /// Whether the host may have sent something that was not read.
    pub fn can_read(&self) -> bool {
        self.can_read && !self.ended
    }

    /// Whether the host has not yet got everything from the user.
    pub fn is_writing(&self) -> bool {
        !self.shut && !self.broken
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes what the user sent, and the user's FIN behind it.
    pub fn write_from(&mut self, connection: &mut Connection) {
        while self.can_write && !self.shut {
            let (first, second) = connection.readable();
            let waiting = first.len() + second.len();
            if waiting == 0 {
                break;
            }
            match self.socket.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
                Ok(written) => {
                    connection.consume(written);
                    // A short write filled the socket; an event follows when it has room.
                    self.can_write = written == waiting;
                }
                Err(error) => {
                    self.can_write = false;
                    self.failed(&error);
                }
            }
        }
        if connection.remote_finished() && !self.shut && !self.broken {
            self.shut = true;
            // An error means that there is nobody any more to be told.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Reads what the host sent, as much as the user can take and at most [`READ`]; returns how much.
    pub fn read_into(&mut self, connection: &mut Connection) -> usize {
        if !self.can_read() {
            return 0;
        }
        let (first, second) = connection.writable();
        let first_length = first.len().min(READ);
        let second_length = second.len().min(READ - first_length);
        let wanted = first_length + second_length;
        if wanted == 0 {
            return 0;
        }
        let mut slices =
            [IoSliceMut::new(&mut first[..first_length]), IoSliceMut::new(&mut second[..second_length])];
        match self.socket.read_vectored(&mut slices) {
            Ok(0) => {
                self.ended = true;
                connection.finish();
                0
            }
            Ok(read) => {
                connection.commit(read);
                // A short read emptied the socket; an event follows with the next bytes (epoll(7)).
                self.can_read = read == wanted || self.ending;
                read
            }
            Err(error) => {
                self.can_read = false;
                self.failed(&error);
                0
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
            _ => self.broken = true,
        }
    }

    /// Makes the kernel send a reset when the socket is dropped.
    pub fn reset(&self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}
