//! A socket of the kernel, towards a host.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use ebb_tunnel::tcp::Connection;
use socket2::SockRef;

use crate::plane::poller::EventFlags;

/// Bytes read from a socket before they are sent on: they are still in the cache then.
const READ: usize = 128 << 10;

/// The socket, and what is known of it without asking. Readiness is edge-triggered: it holds until a call says otherwise.
pub(super) struct Relay {
    socket: TcpStream,
    can_read: bool,
    can_write: bool,
    /// The host has finished.
    ended: bool,
    /// We have finished towards the host.
    shut: bool,
    /// The host reset the connection, or the kernel gave it up.
    broken: bool,
}

impl Relay {
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, can_read: true, can_write: true, ended: false, shut: false, broken: false }
    }

    pub fn event(&mut self, flags: EventFlags) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        self.can_read |= broken || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
        self.can_write |= broken || flags.contains(EventFlags::OUT);
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
                // A short read emptied the socket; an event follows with the next bytes or the end (epoll(7)).
                self.can_read = read == wanted;
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
