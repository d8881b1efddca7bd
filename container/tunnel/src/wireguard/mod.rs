//! One end of a WireGuard tunnel with any number of peers (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel",
//! NDSS 2017), without sockets.
//!
//! ```text
//! datagram ─▶ receive ─▶ inner packet, its source checked      inner packet ─▶ seal ─▶ datagram
//!                 └────▶ transmit ─▶ handshakes, cookies, keepalives ◀── expire (deadline)
//! ```

mod cookie;
mod crypto;
mod handshake;
mod limit;
mod message;
mod negotiate;
mod peer;
mod replay;
mod session;
mod timers;
mod tunnel;
mod types;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_wire::{PrivateKey, PublicKey};
use hashbrown::HashMap;
use ipnet::IpNet;

pub use message::OVERHEAD;
pub use peer::{Addresses, Path, PeerConfig, PeerId, Statistics};
pub use types::{AddError, Counters, Received, Sealed, Share, Start};

use crate::Time;
use crate::packet::{Packet, is_data};
use crate::timer::Wheel;
use cookie::Gate;
use crypto::Entropy;
use handshake::Identity;
use limit::{Load, SourceLimiter};
use message::{DATA_HEADER, INITIATION, Kind};
use peer::Peer;
use tunnel::{Expired, Indices, Shared, Tunnel};

/// Peers of one endpoint. Nobody has as many; it bounds what a configuration can ask for.
const PEERS_MAX: usize = 1 << 16;
/// Messages that wait to be sent; handshakes beyond it are dropped, and the peer repeats them.
const OUTBOX: usize = 1024;
/// Shortest MTU that an endpoint can have: what every IPv4 host takes (RFC 791, section 3.1).
const MTU_MIN: u16 = 576;

/// One end of a tunnel.
pub struct Endpoint {
    identity: Identity,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<PublicKey, PeerId>,
    by_address: HashMap<IpAddr, PeerId>,
    /// The peer with [`Addresses::All`].
    default: Option<PeerId>,
    indices: Indices,
    gate: Gate,
    load: Load,
    sources: SourceLimiter,
    entropy: Entropy,
    /// Both clocks at the start.
    started: (Time, Duration),
    timers: Wheel<PeerId>,
    outbox: VecDeque<(Path, Vec<u8>)>,
    /// Longest inner packet; padding stops there.
    mtu: usize,
    counters: Counters,
}

struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Endpoint {
    /// An endpoint without peers. `mtu` is the longest inner packet that will be sent, at least 576.
    #[must_use]
    pub fn new(key: &PrivateKey, mtu: u16, start: Start) -> Self {
        let identity = Identity::new(key);
        let mut entropy = Entropy::new(start.seed);
        Self {
            gate: Gate::new(&identity.public, &mut entropy, start.now),
            identity,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            by_address: HashMap::new(),
            default: None,
            indices: Indices::default(),
            load: Load::new(start.now),
            sources: SourceLimiter::default(),
            entropy,
            started: (start.now, start.unix),
            timers: Wheel::new(start.now),
            outbox: VecDeque::new(),
            mtu: usize::from(mtu.max(MTU_MIN)),
            counters: Counters::default(),
        }
    }

    /// An endpoint with one peer, to which others can be added.
    #[must_use]
    pub fn with_peer(key: &PrivateKey, mtu: u16, peer: PeerConfig, start: Start) -> (Self, PeerId) {
        let mut endpoint = Self::new(key, mtu, start);
        let id = endpoint.insert(peer);
        (endpoint, id)
    }

    /// Makes it one of several endpoints with the same key. For one that has no peers yet.
    #[must_use]
    pub fn with_share(mut self, share: Share) -> Self {
        self.indices.share = share;
        self
    }

    /// Adds a peer.
    ///
    /// # Errors
    /// See [`AddError`]; nothing has changed then.
    pub fn add(&mut self, config: PeerConfig) -> Result<PeerId, AddError> {
        if self.by_key.contains_key(&config.key) {
            return Err(AddError::Key);
        }
        self.check_addresses(&config.addresses, None)?;
        if self.free.is_empty() && self.slots.len() >= PEERS_MAX {
            return Err(AddError::Full);
        }
        Ok(self.insert(config))
    }

    fn insert(&mut self, config: PeerConfig) -> PeerId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, peer: None });
            self.slots.len() as u32 - 1
        });
        let id = PeerId { slot, generation: self.slots[slot as usize].generation };
        let remote = self.identity.towards(&config.key);
        self.slots[slot as usize].peer = Some(Box::new(Peer {
            key: config.key,
            tunnel: Tunnel::new(remote, config.key.as_bytes(), config.keepalive),
            addresses: Addresses::Hosts(Vec::new()),
            source_ips: Vec::new(),
            path: config.endpoint.map(Path::from),
            timer: self.timers.insert(id),
            armed: None,
            statistics: Statistics { endpoint: config.endpoint, ..Statistics::default() },
        }));
        self.by_key.insert(config.key, id);
        self.assign_addresses(id, config.addresses);
        id
    }

    /// Removes a peer: from here on nothing is accepted from it or sealed for it.
    pub fn remove(&mut self, id: PeerId) {
        self.assign_addresses(id, Addresses::Hosts(Vec::new()));
        let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)
        else {
            return;
        };
        let Some(mut peer) = slot.peer.take() else { return };
        peer.tunnel.wipe(&mut self.indices);
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.by_key.remove(&peer.key);
        self.timers.remove(peer.timer);
    }

    /// Replaces the inner addresses of a peer.
    ///
    /// # Errors
    /// When one belongs to another peer; nothing has changed then.
    pub fn set_addresses(&mut self, id: PeerId, addresses: Addresses) -> Result<(), AddError> {
        self.check_addresses(&addresses, Some(id))?;
        self.assign_addresses(id, addresses);
        Ok(())
    }

    /// Hears a peer only from these networks; from everywhere when there is none, as at the start. Handshakes and data from
    /// elsewhere are dropped before anything is computed or remembered, and nothing is sent to where the peer was if that is
    /// not among them. Its sessions stay: it goes on from an address that is.
    pub fn set_source_ips(&mut self, id: PeerId, networks: Vec<IpNet>) {
        if let Some(peer) = self.peer_mut(id) {
            peer.set_source_ips(networks);
        }
    }

    /// Sends to another address from here on, until the peer is heard from somewhere else.
    pub fn set_endpoint(&mut self, id: PeerId, endpoint: SocketAddr) {
        if let Some(peer) = self.peer_mut(id) {
            peer.path = Some(endpoint.into());
            peer.statistics.endpoint = Some(endpoint);
        }
    }

    /// The peer with a key.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// The peer that an inner address belongs to.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<PeerId> {
        self.by_address.get(&address).copied().or(self.default)
    }

    /// Counters of a peer; `None` when it is gone.
    #[must_use]
    pub fn statistics(&self, id: PeerId) -> Option<Statistics> {
        self.peer(id).map(|peer| peer.statistics)
    }

    /// What was dropped.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes a datagram that arrived by `path`.
    #[inline]
    pub fn receive<'a>(&mut self, datagram: &'a mut [u8], path: Path, now: Time) -> Received<'a> {
        match Kind::of(datagram) {
            Some(Kind::Data(index)) => return self.receive_data(index, datagram, path, now),
            Some(Kind::Cookie(index)) => self.receive_cookie(index, datagram, path, now),
            Some(kind) => return self.receive_handshake(kind, datagram, path, now),
            None => self.counters.invalid += 1,
        }
        Received::Nothing
    }

    #[inline]
    fn receive_data<'a>(
        &mut self,
        index: u32,
        datagram: &'a mut [u8],
        path: Path,
        now: Time,
    ) -> Received<'a> {
        let Some(id) = self.indices.owner(index) else {
            self.counters.unknown += 1;
            return Received::Nothing;
        };
        let Some(peer) = peer_mut(&mut self.slots, id) else { return Received::Nothing };
        if !peer.admits(path.remote) {
            self.counters.foreign += 1;
            return Received::Nothing;
        }
        let Some(opened) = peer.tunnel.open(index, datagram, now) else {
            self.counters.refused += 1;
            return Received::Nothing;
        };
        peer.heard_from(path, now);
        arm(&mut self.timers, peer);
        let mut received = Received::Nothing;
        if opened.length > 0 {
            match Packet::parse(&datagram[DATA_HEADER..DATA_HEADER + opened.length]) {
                Ok(packet) if peer.owns(packet.source) => {
                    peer.statistics.received_bytes += packet.bytes.len() as u64;
                    if is_data(packet.bytes) {
                        peer.statistics.last_data = Some(now);
                    }
                    received = Received::Packet { peer: id, packet };
                }
                _ => {
                    peer.statistics.wrong_source += 1;
                    self.counters.wrong_source += 1;
                }
            }
        }
        if opened.confirms {
            self.confirm(id, index, now);
        }
        if opened.renew {
            self.handshake(id, now, Tunnel::want);
        }
        received
    }

    /// Makes a datagram for a peer at the start of `out`. `build` writes the inner packet into a buffer of the MTU, in its
    /// final place, and returns its length; it is called only when the packet can go somewhere.
    ///
    /// `out` must be [`OVERHEAD`] bytes longer than the MTU; nothing is built otherwise.
    #[inline]
    pub fn seal(
        &mut self,
        id: PeerId,
        out: &mut [u8],
        now: Time,
        build: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Sealed {
        let Some(peer) = peer_mut(&mut self.slots, id) else { return Sealed::Unreachable };
        let Some(path) = peer.path else { return Sealed::Unreachable };
        let Some(out) = out.get_mut(..self.mtu + OVERHEAD) else { return Sealed::Nothing };
        let plain = &mut out[DATA_HEADER..DATA_HEADER + self.mtu];
        let Some(length) = build(plain) else { return Sealed::Nothing };
        peer.statistics.sent_bytes += length as u64;
        if is_data(&plain[..length]) {
            peer.statistics.last_data = Some(now);
        }
        // Padding to 16 bytes, within the MTU, as the paper's section 5.4.6 and the Linux module do.
        let padded = length.next_multiple_of(16).min(self.mtu);
        plain[length..padded].fill(0);
        let Some(sealed) = peer.tunnel.seal(out, padded, true, now) else {
            peer.tunnel.keep(&out[DATA_HEADER..DATA_HEADER + padded]);
            return self.begin(id, out, path, now);
        };
        arm(&mut self.timers, peer);
        if sealed.renew {
            self.handshake(id, now, Tunnel::want);
        }
        Sealed::Datagram(sealed.length, path)
    }

    /// There is a packet and no session: an initiation goes out in its place, unless one is under way.
    #[cold]
    fn begin(&mut self, id: PeerId, out: &mut [u8], path: Path, now: Time) -> Sealed {
        let initiation = self.shared(id, now).and_then(|(peer, mut cx)| peer.tunnel.want(&mut cx));
        self.rearm(id);
        let (Some(initiation), Some(out)) = (initiation, out.first_chunk_mut()) else { return Sealed::Kept };
        *out = initiation;
        Sealed::Datagram(INITIATION, path)
    }

    /// Starts a handshake, also when one is under way.
    pub fn initiate(&mut self, id: PeerId, now: Time) {
        self.handshake(id, now, Tunnel::insist);
    }

    /// Writes the next message that is no answer to [`seal`](Self::seal) to `out`; `out` must hold the longest datagram
    /// that was ever sealed. Call until `None`.
    pub fn transmit(&mut self, out: &mut [u8]) -> Option<(usize, Path)> {
        let (path, message) = self.outbox.pop_front()?;
        out.get_mut(..message.len())?.copy_from_slice(&message);
        Some((message.len(), path))
    }

    /// When [`expire`](Self::expire) has to be called next; `None` while no peer is active.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.timers.deadline()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Time) {
        while let Some(id) = self.timers.pop(now) {
            if let Some(peer) = self.peer_mut(id) {
                peer.armed = None;
            }
            let mut renew = false;
            while let Some((peer, mut cx)) = self.shared(id, now) {
                let path = peer.path;
                let message = match peer.tunnel.expire(&mut cx) {
                    None => break,
                    Some(Expired::Initiation(message)) => message.to_vec(),
                    Some(Expired::Keepalive(message)) => {
                        renew = peer.tunnel.is_to_be_renewed(now);
                        message.to_vec()
                    }
                    Some(Expired::Nothing) => continue,
                };
                if let Some(path) = path {
                    self.post(path, message);
                }
            }
            if renew {
                self.handshake(id, now, Tunnel::want);
            }
            self.rearm(id);
        }
    }

    /// A peer, and what its handshakes need beside it.
    fn shared(&mut self, id: PeerId, now: Time) -> Option<(&mut Peer, Shared<'_>)> {
        let (started, unix) = self.started;
        let shared = Shared {
            identity: &self.identity,
            entropy: &mut self.entropy,
            indices: &mut self.indices,
            peer: id,
            now,
            unix: unix + now.since(started),
        };
        Some((peer_mut(&mut self.slots, id)?, shared))
    }

    fn rearm(&mut self, id: PeerId) {
        if let Some(peer) = peer_mut(&mut self.slots, id) {
            arm(&mut self.timers, peer);
        }
    }

    fn check_addresses(&self, addresses: &Addresses, owner: Option<PeerId>) -> Result<(), AddError> {
        match addresses {
            Addresses::All if self.default.is_some() && self.default != owner => Err(AddError::Default),
            Addresses::All => Ok(()),
            Addresses::Hosts(hosts) => {
                let taken =
                    |host: &&IpAddr| self.by_address.get(*host).is_some_and(|other| Some(*other) != owner);
                hosts.iter().find(taken).map_or(Ok(()), |host| Err(AddError::Address(*host)))
            }
        }
    }

    fn assign_addresses(&mut self, id: PeerId, addresses: Addresses) {
        let Some(peer) = peer_mut(&mut self.slots, id) else { return };
        match &peer.addresses {
            Addresses::All => self.default = None,
            Addresses::Hosts(hosts) => {
                for host in hosts {
                    self.by_address.remove(host);
                }
            }
        }
        match &addresses {
            Addresses::All => self.default = Some(id),
            Addresses::Hosts(hosts) => self.by_address.extend(hosts.iter().map(|host| (*host, id))),
        }
        peer.addresses = addresses;
    }

    fn peer(&self, id: PeerId) -> Option<&Peer> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.peer.as_deref()
    }

    fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        peer_mut(&mut self.slots, id)
    }
}

/// Whether a datagram is a handshake initiation.
#[must_use]
pub fn is_initiation(datagram: &[u8]) -> bool {
    datagram.first() == Some(&1)
}

// Free functions over the slots alone, so that the other fields stay usable beside the peer.

#[inline]
fn peer_mut(slots: &mut [Slot], id: PeerId) -> Option<&mut Peer> {
    let slot = slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
    slot.peer.as_deref_mut()
}

/// Sees to it that the peer's next timer is looked at in time. A timer that was pushed back is looked at once too often.
#[inline]
fn arm(timers: &mut Wheel<PeerId>, peer: &mut Peer) {
    if let Some(next) = peer.tunnel.timers.next()
        && peer.armed.is_none_or(|armed| next < armed)
    {
        peer.armed = Some(next);
        timers.set(peer.timer, Some(next));
    }
}

#[cfg(test)]
mod tests;
