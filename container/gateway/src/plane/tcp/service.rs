//! Services of the gateway itself on TCP.

use ebb_tunnel::tcp::Connection;
use ebb_wire::{FrameError, Frames, Request};

use crate::plane::table::Handle;

/// A question of a service to the loop.
pub struct Asked {
    /// Where the answer goes.
    pub flow: Handle,
    /// What.
    pub request: Result<Request, FrameError>,
}

/// The gateway's end of a connection.
pub struct Service {
    frames: Frames,
    outgoing: Vec<u8>,
    /// Nothing more is read: the stream is out of step.
    closed: bool,
}

/// Unsent bytes of answers beyond which no further request is read: a daemon that does not read is not served.
const OUTGOING_MAX: usize = ebb_wire::MAX_FRAME;

impl Service {
    /// The control server of [`ebb_wire::CONTROL_PORT`].
    pub fn control() -> Self {
        Self { frames: Frames::default(), outgoing: Vec::new(), closed: false }
    }

    /// Moves bytes between the connection and the service.
    pub fn exchange(&mut self, connection: &mut Connection) {
        if self.outgoing.len() < OUTGOING_MAX {
            let (first, second) = connection.readable();
            let count = first.len() + second.len();
            if !self.closed {
                self.frames.push(first);
                self.frames.push(second);
            }
            connection.consume(count);
        }
        self.write_to(connection);
        if self.outgoing.is_empty() && (self.closed || connection.remote_finished()) {
            connection.finish();
        }
    }

    fn write_to(&mut self, connection: &mut Connection) {
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
    }

    /// The next request that arrived in full.
    pub fn take(&mut self) -> Option<Result<Request, FrameError>> {
        if self.closed {
            return None;
        }
        let request = self.frames.take().transpose()?;
        if let Err(FrameError::TooLong(_)) = request {
            self.closed = true;
            return None;
        }
        Some(request)
    }

    /// Queues an answer.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }
}
