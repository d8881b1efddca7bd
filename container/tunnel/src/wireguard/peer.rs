//! One peer: its sessions, where it is, and what it is counted for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_wire::PublicKey;
use ipnet::IpNet;

use super::tunnel::Tunnel;
use crate::Time;
use crate::timer::TimerId;

/// Names a peer of one endpoint. The name of a removed peer never means another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl PeerId {
    /// The name as a number, for those who only tell peers apart.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The way back.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

#[cfg(test)]
impl PeerId {
    /// A name without a peer.
    pub fn for_tests(number: u32) -> Self {
        Self { slot: number, generation: 0 }
    }
}

/// How datagrams reach a peer: where it is, and from which of our addresses it expects to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The peer's outer address.
    pub remote: SocketAddr,
    /// Our address that the peer sent to, so that answers do not come from another one; `None` leaves it to the system.
    pub local: Option<IpAddr>,
}

impl From<SocketAddr> for Path {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}

/// Inner addresses that belong to a peer: it may send from them, and packets to them go to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Everything: the peer is the way to the rest of the world. At most one peer can have it.
    All,
    /// These hosts.
    Hosts(Vec<IpAddr>),
}

/// A peer to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Who.
    pub key: PublicKey,
    /// What belongs to it.
    pub addresses: Addresses,
    /// Where it is, if known; else it has to call first.
    pub endpoint: Option<SocketAddr>,
    /// Interval of keepalives that hold a NAT open; zero is none.
    pub keepalive: Option<Duration>,
}

/// Counters of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Where the last authenticated message came from.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed: both sides have the keys and each knows that the other has.
    pub last_handshake: Option<Time>,
    /// When the last authenticated message of any kind came.
    pub last_received: Option<Time>,
    /// When the last data packet passed, in either direction; see [`crate::packet::is_data`].
    pub last_data: Option<Time>,
    /// Bytes of inner packets from the peer.
    pub received_bytes: u64,
    /// Bytes of inner packets to the peer.
    pub sent_bytes: u64,
    /// Inner packets with a source address that is not the peer's.
    pub wrong_source: u64,
    /// Datagrams from outside of the peer's [source networks](super::Endpoint::set_source_ips).
    pub foreign: u64,
}

pub(super) struct Peer {
    pub key: PublicKey,
    pub tunnel: Tunnel,
    pub addresses: Addresses,
    /// Networks from which the peer is heard; empty: all of them.
    pub source_ips: Vec<IpNet>,
    pub path: Option<Path>,
    pub timer: TimerId,
    /// When the timer will be looked at.
    pub armed: Option<Time>,
    pub statistics: Statistics,
}

impl Peer {
    /// Takes note of an authenticated message.
    #[inline]
    pub fn heard_from(&mut self, path: Path, now: Time) {
        self.statistics.last_received = Some(now);
        if self.path != Some(path) {
            self.path = Some(path);
            self.statistics.endpoint = Some(path.remote);
        }
    }

    /// Whether the peer is heard from an outer address; counted if not.
    #[inline]
    pub fn admits(&mut self, remote: SocketAddr) -> bool {
        let admits = self.source_ips.is_empty() || self.is_listed(remote);
        self.statistics.foreign += u64::from(!admits);
        admits
    }

    fn is_listed(&self, remote: SocketAddr) -> bool {
        let address = remote.ip().to_canonical();
        self.source_ips.iter().any(|network| network.contains(&address))
    }

    /// Hears the peer from these networks alone. A path that leads elsewhere is forgotten.
    pub fn set_source_ips(&mut self, source_ips: Vec<IpNet>) {
        self.source_ips = source_ips;
        let is_foreign = |path: &Path| !self.source_ips.is_empty() && !self.is_listed(path.remote);
        if self.path.as_ref().is_some_and(is_foreign) {
            self.path = None;
            self.statistics.endpoint = None;
        }
    }

    /// Whether the peer may send from an inner address.
    #[inline]
    pub fn owns(&self, address: IpAddr) -> bool {
        match &self.addresses {
            Addresses::All => true,
            Addresses::Hosts(hosts) => hosts.contains(&address),
        }
    }
}
