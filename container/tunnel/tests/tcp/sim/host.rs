//! The ends of a connection as the simulation sees them.

use std::net::SocketAddr;

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Budget, Connection, Flags, Segment, Settings, State, SynInfo, reset_for};

use super::app::App;

/// One end.
pub trait Endpoint {
    fn receive(&mut self, bytes: &[u8], now: Time);
    fn transmit(&mut self, out: &mut [u8], now: Time) -> Option<usize>;
    fn deadline(&self) -> Option<Time>;
    fn expire(&mut self, now: Time);
    /// Lets the application read and write.
    fn pump(&mut self, app: &mut App, now: Time);
    /// Whether this end has nothing more to do.
    fn is_over(&self) -> bool;
    fn connection(&self) -> Option<&Connection> {
        None
    }
}

/// Addresses of the two ends.
pub fn addresses(port: u16) -> (SocketAddr, SocketAddr) {
    (SocketAddr::from(([10, 77, 0, 1], 80)), SocketAddr::from(([10, 77, 0, 2], port)))
}

/// Our endpoint, driven the way the gateway drives it.
pub struct Ours {
    connection: Option<Connection>,
    local: SocketAddr,
    remote: SocketAddr,
    settings: Settings,
    budget: Budget,
    isn: u32,
    /// A SYN that waits for the connect on the other side, and how long that takes.
    pending: Option<(SynInfo, Time)>,
    connect_takes: u64,
    resets: Vec<Vec<u8>>,
    pub memory_max: u64,
}

impl Ours {
    pub fn passive(port: u16, settings: Settings, budget: Budget, isn: u32, connect_takes: u64) -> Self {
        let (local, remote) = addresses(port);
        Self {
            connection: None,
            local,
            remote,
            settings,
            budget,
            isn,
            pending: None,
            connect_takes,
            resets: Vec::new(),
            memory_max: 0,
        }
    }

    pub fn active(port: u16, settings: Settings, budget: Budget, isn: u32, now: Time) -> Self {
        let (remote, local) = addresses(port);
        let connection = Connection::open(local, remote, &settings, &budget, isn, now);
        Self {
            connection: Some(connection),
            local,
            remote,
            settings,
            budget,
            isn,
            pending: None,
            connect_takes: 0,
            resets: Vec::new(),
            memory_max: 0,
        }
    }

    /// The other end of [`Ours::active`], opening as well.
    pub fn opening(port: u16, settings: Settings, budget: Budget, isn: u32, now: Time) -> Self {
        let mut ours = Self::passive(port, settings, budget, isn, 0);
        ours.connection =
            Some(Connection::open(ours.local, ours.remote, &ours.settings, &ours.budget, isn, now));
        ours
    }

    fn answer(&mut self, syn: &SynInfo, now: Time) {
        let connection =
            Connection::answer(self.local, self.remote, syn, &self.settings, &self.budget, self.isn, now);
        self.connection = Some(connection);
    }
}

impl Endpoint for Ours {
    fn receive(&mut self, bytes: &[u8], now: Time) {
        let segment = Segment::parse(bytes).expect("segments in the simulation are well formed");
        match &mut self.connection {
            Some(connection) if connection.ended().is_some() => {
                // As the gateway does once it has forgotten the flow.
                let mut out = [0; 64];
                if let Some(length) = reset_for(&segment, self.local, self.remote, &mut out) {
                    self.resets.push(out[..length].to_vec());
                }
            }
            Some(connection) => connection.receive(&segment, now),
            None => {
                if let Some(syn) = SynInfo::of(&segment) {
                    if self.connect_takes == 0 {
                        self.answer(&syn, now);
                    } else if self.pending.is_none() {
                        let ready = Time::from_micros(now.as_micros() + self.connect_takes);
                        self.pending = Some((syn, ready));
                    }
                } else {
                    assert!(!segment.flags.contains(Flags::SYN) || segment.flags.contains(Flags::ACK));
                }
            }
        }
    }

    fn transmit(&mut self, out: &mut [u8], now: Time) -> Option<usize> {
        if let Some(bytes) = self.resets.pop() {
            out[..bytes.len()].copy_from_slice(&bytes);
            return Some(bytes.len());
        }
        let connection = self.connection.as_mut()?;
        let length = connection.transmit(out, now);
        self.memory_max = self.memory_max.max(connection.statistics().memory);
        length
    }

    fn deadline(&self) -> Option<Time> {
        match (&self.connection, &self.pending) {
            (Some(connection), _) => connection.deadline(),
            (None, Some((_, ready))) => Some(*ready),
            (None, None) => None,
        }
    }

    fn expire(&mut self, now: Time) {
        if let Some(connection) = &mut self.connection {
            connection.expire(now);
        } else if let Some((syn, ready)) = self.pending.take() {
            if ready <= now {
                self.answer(&syn, now);
            } else {
                self.pending = Some((syn, ready));
            }
        }
    }

    fn pump(&mut self, app: &mut App, now: Time) {
        let Some(connection) = &mut self.connection else { return };
        loop {
            let (first, second) = connection.readable();
            let appetite = app.appetite(now);
            let head = (first.len() as u64).min(appetite) as usize;
            let tail = (second.len() as u64).min(appetite - head as u64) as usize;
            app.take(&first[..head], now);
            app.take(&second[..tail], now);
            connection.consume(head + tail);
            if head + tail == 0 {
                break;
            }
        }
        if connection.remote_finished() {
            app.saw_end = true;
        }
        loop {
            let urge = app.urge(now);
            if urge == 0 || connection.room() == 0 {
                break;
            }
            let (first, second) = connection.writable();
            let head = (first.len() as u64).min(urge) as usize;
            let tail = (second.len() as u64).min(urge - head as u64) as usize;
            app.give(&mut first[..head]);
            app.give(&mut second[..tail]);
            connection.commit(head + tail);
            if head + tail == 0 {
                break;
            }
        }
        if app.wants_to_finish() {
            app.finished = true;
            connection.finish();
        }
    }

    fn is_over(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.ended().is_some() || connection.state() == State::TimeWait)
    }

    fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }
}
