//! A connection that is open towards the user, and its far side.

use std::time::Duration;

use ebb_tunnel::Time;
use ebb_tunnel::packet::{Header, header_length, protocol};
use ebb_tunnel::tcp::{Connection, End, State};

use super::relay::Relay;
use super::service::Service;
use super::{Context, Key};
use crate::plane::link::{MTU, Sent};
use crate::plane::poller::EventFlags;

/// Segments that one flow sends before others get their turn: eight full chains of datagrams with the usual MTU, which is what
/// leaves in one go; about 500 KB, a millisecond at 4 Gbit/s.
const QUANTUM: usize = 8 * 45;

/// How long a flow that got no memory waits before it asks again.
pub(super) const STARVED_RETRY: Duration = Duration::from_millis(50);

pub(super) struct Open {
    pub connection: Connection,
    pub far: Far,
}

/// The side that is not the user.
pub(super) enum Far {
    /// A host somewhere.
    Host(Relay),
    /// The gateway itself.
    Own(Service),
    /// Closed in both directions; the connection still answers what comes late.
    Gone,
}

/// What a flow needs next.
pub(super) enum Outcome {
    /// Another turn: it could go on.
    Again,
    /// Nothing until something happens.
    Rest,
    /// Nothing any more.
    Over,
}

impl Open {
    pub fn new(connection: Connection, far: Far) -> Self {
        Self { connection, far }
    }

    pub fn event(&mut self, flags: EventFlags) {
        if let Far::Host(relay) = &mut self.far {
            relay.event(flags);
        }
    }

    pub fn expire(&mut self, now: Time) {
        self.connection.expire(now);
        if let Far::Host(relay) = &mut self.far {
            relay.expire(now);
        }
    }

    /// Whether the host has bytes for which there is no room.
    pub fn is_starved(&self) -> bool {
        matches!(&self.far, Far::Host(relay) if relay.can_read())
    }

    pub fn reset_host(&self) {
        if let Far::Host(relay) = &self.far {
            relay.reset();
        }
    }

    /// Moves bytes in both directions as far as they go.
    pub fn pump(&mut self, key: &Key, cx: &mut Context<'_>) -> Outcome {
        match &mut self.far {
            Far::Host(relay) => relay.write_from(&mut self.connection),
            Far::Own(service) => service.exchange(&mut self.connection),
            Far::Gone => {}
        }
        let mut sent = 0;
        loop {
            let read = self.read();
            // While the host has more, what would not fill a segment waits for it: a short segment in the middle would
            // end a chain of datagrams.
            let more = read > 0 && matches!(&self.far, Far::Host(relay) if relay.can_read());
            let quota = if more { sent + read / usize::from(MTU) } else { usize::MAX };
            let before = sent;
            while sent < quota {
                match self.transmit(key, cx) {
                    Sent::Yes => sent += 1,
                    Sent::Nothing => break,
                    Sent::Blocked => return Outcome::Again,
                }
                if sent >= QUANTUM {
                    return Outcome::Again;
                }
            }
            if read == 0 && before == sent {
                break;
            }
        }
        self.settle()
    }

    /// Takes bytes from the host, if the user can take them.
    fn read(&mut self) -> usize {
        let Far::Host(relay) = &mut self.far else { return 0 };
        let read = relay.read_into(&mut self.connection);
        if relay.is_broken() && !relay.can_read() {
            self.connection.abort();
        }
        read
    }

    #[inline]
    fn transmit(&mut self, key: &Key, cx: &mut Context<'_>) -> Sent {
        let connection = &mut self.connection;
        let now = cx.now;
        cx.link.send(key.peer, now, |out| {
            let start = header_length(key.remote.ip());
            let length = connection.transmit(&mut out[start..], now)?;
            Header::new(key.local.ip(), key.remote.ip(), protocol::TCP).write(out, length)?;
            Some(start + length)
        })
    }

    /// Closes what is done.
    fn settle(&mut self) -> Outcome {
        match self.connection.ended() {
            // What the user sent last may still wait for room in the host's socket.
            Some(End::Finished) if matches!(&self.far, Far::Host(relay) if relay.is_writing()) => {
                return Outcome::Rest;
            }
            Some(End::Finished) => return Outcome::Over,
            Some(End::Reset | End::Refused | End::Aborted | End::TimedOut) => {
                self.reset_host();
                return Outcome::Over;
            }
            None => {}
        }
        if self.connection.state() == State::Closed {
            return Outcome::Over;
        }
        if matches!(&self.far, Far::Host(relay) if relay.is_done()) {
            self.far = Far::Gone;
        }
        Outcome::Rest
    }
}
