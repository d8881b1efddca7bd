//! epoll, with deadlines finer than a millisecond where the kernel has them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::table::Handle;

pub use rustix::event::epoll::EventFlags;

/// Events taken at a time. More wait for the next turn.
const EVENTS: usize = 256;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The WireGuard socket.
    Outer,
    /// SIGTERM and SIGINT.
    Signal,
    /// The health socket.
    Health,
    /// What other loops wrote.
    Letters,
    /// A socket of a TCP flow.
    Tcp(Handle),
    /// A socket of a UDP mapping.
    Udp(Handle),
    /// A ping socket.
    Ping(Handle),
    /// A socket towards an upstream resolver.
    Resolver(Handle),
}

impl Source {
    fn to_bits(self) -> u64 {
        let (kind, handle) = match self {
            Self::Outer => (0, 0),
            Self::Signal => (1, 0),
            Self::Health => (2, 0),
            Self::Letters => (7, 0),
            Self::Tcp(handle) => (3, handle.to_bits()),
            Self::Udp(handle) => (4, handle.to_bits()),
            Self::Ping(handle) => (5, handle.to_bits()),
            Self::Resolver(handle) => (6, handle.to_bits()),
        };
        kind << 56 | handle
    }

    fn from_bits(bits: u64) -> Self {
        let handle = Handle::from_bits(bits);
        match bits >> 56 {
            0 => Self::Outer,
            1 => Self::Signal,
            2 => Self::Health,
            3 => Self::Tcp(handle),
            4 => Self::Udp(handle),
            5 => Self::Ping(handle),
            6 => Self::Resolver(handle),
            _ => Self::Letters,
        }
    }
}

/// The kernel's list of what this process waits for.
pub struct Poller {
    epoll: OwnedFd,
    /// What happened, the last first.
    events: Vec<(Source, EventFlags)>,
    /// Whether the kernel takes timeouts in nanoseconds (`epoll_pwait2`, Linux 5.11).
    fine: bool,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            fine: true,
        })
    }

    /// Starts to wait for something. It ends by itself when the file is closed.
    pub fn add(&self, file: impl AsFd, source: Source, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, file, epoll::EventData::new_u64(source.to_bits()), flags)?)
    }

    /// Waits for something else on the same file.
    pub fn modify(&self, file: impl AsFd, source: Source, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, file, epoll::EventData::new_u64(source.to_bits()), flags)?)
    }

    /// Waits until something happens or the time is over; `None` waits for ever.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.wait_once(timeout) {
            Err(Errno::INTR) => Ok(()),
            // An older kernel, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) if self.fine => {
                self.fine = false;
                Ok(self.wait_once(timeout)?)
            }
            other => Ok(other?),
        }
    }

    fn wait_once(&mut self, timeout: Option<Duration>) -> Result<(), Errno> {
        self.events.clear();
        let timeout = timeout.map(|timeout| {
            let unit = if self.fine { 1 } else { 1_000_000 };
            let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX / 2).next_multiple_of(unit);
            Timespec {
                tv_sec: i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: (nanos % 1_000_000_000) as _,
            }
        });
        let mut room = [MaybeUninit::uninit(); EVENTS];
        let (events, _) = epoll::wait(&self.epoll, &mut room, timeout.as_ref())?;
        self.events.extend(events.iter().map(|event| (Source::from_bits(event.data.u64()), event.flags)));
        Ok(())
    }

    /// The next thing that happened.
    pub fn take(&mut self) -> Option<(Source, EventFlags)> {
        self.events.pop()
    }
}
