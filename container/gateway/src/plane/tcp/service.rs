//! Services of the gateway itself on TCP.

use ebb_tunnel::dns;
use ebb_tunnel::tcp::Connection;
use ebb_tunnel::wireguard::PeerId;
use ebb_wire::{FrameError, Frames, MAX_FRAME, Request};
use std::net::SocketAddr;

use crate::plane::table::Handle;

/// Unsent bytes of answers beyond which nothing more is read: whoever does not read is not served.
const OUTGOING_MAX: usize = MAX_FRAME;

/// A question of a service to the loop.
pub struct Asked {
    /// Where the answer goes.
    pub flow: Handle,
    /// Who asks.
    pub peer: PeerId,
    /// From which inner address.
    pub from: SocketAddr,
    /// What.
    pub what: Question,
}

/// What can be asked.
pub enum Question {
    /// On the control port.
    Control(Result<Request, FrameError>),
    /// On the resolver's port: a DNS message.
    Name(Vec<u8>),
}

/// The gateway's end of a connection.
pub struct Service {
    incoming: Incoming,
    outgoing: Vec<u8>,
    /// Nothing more is read: the stream is out of step.
    closed: bool,
}

enum Incoming {
    Control(Frames),
    Names(dns::Frames),
}

impl Service {
    /// The control server of [`ebb_wire::CONTROL_PORT`].
    pub fn control() -> Self {
        Self { incoming: Incoming::Control(Frames::default()), outgoing: Vec::new(), closed: false }
    }

    /// The resolver on port 53.
    pub fn resolver() -> Self {
        Self { incoming: Incoming::Names(dns::Frames::default()), outgoing: Vec::new(), closed: false }
    }

    /// Moves bytes between the connection and the service.
    pub fn exchange(&mut self, connection: &mut Connection) {
        if self.closed {
            let (first, second) = connection.readable();
            let count = first.len() + second.len();
            connection.consume(count);
        } else if self.outgoing.len() < OUTGOING_MAX {
            let (first, _) = connection.readable();
            let count = match &mut self.incoming {
                Incoming::Control(frames) => {
                    frames.push(first);
                    first.len()
                }
                Incoming::Names(frames) => frames.push(first),
            };
            connection.consume(count);
        }
        while !self.outgoing.is_empty() {
            let (room, _) = connection.writable();
            let count = room.len().min(self.outgoing.len());
            if count == 0 {
                break;
            }
            room[..count].copy_from_slice(&self.outgoing[..count]);
            connection.commit(count);
            self.outgoing.drain(..count);
        }
        if self.outgoing.is_empty() && (self.closed || connection.remote_finished()) {
            connection.finish();
        }
    }

    /// The next question that arrived in full.
    pub fn take(&mut self) -> Option<Question> {
        if self.closed {
            return None;
        }
        match &mut self.incoming {
            Incoming::Control(frames) => {
                let request = frames.take().transpose()?;
                if let Err(FrameError::TooLong(_)) = request {
                    self.closed = true;
                    return None;
                }
                Some(Question::Control(request))
            }
            Incoming::Names(frames) => frames.take().map(Question::Name),
        }
    }

    /// Queues an answer.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }
}
