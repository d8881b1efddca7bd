//! One end of a WireGuard tunnel with any number of peers (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel",
//! NDSS 2017), without sockets.
//!
//! ```text
//! datagram ─▶ receive ─▶ inner packet, its source checked      inner packet ─▶ seal ─▶ datagram
//!                 └────▶ transmit ─▶ handshakes, cookies, keepalives ◀── expire (deadline)
//! ```

mod limit;
mod noise;
mod peer;
mod types;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_wire::{PrivateKey, PublicKey};
use hashbrown::HashMap;

pub use noise::OVERHEAD;
pub use peer::{Addresses, Path, PeerConfig, PeerId, Statistics};
pub use types::{AddError, Counters, Received, Sealed};

use crate::Time;
use crate::packet::{Packet, is_data};
use crate::timer::Wheel;
use limit::SourceLimiter;
use noise::{Identity, Index, Kind, Opened, Tick};
use peer::Peer;

/// How often an active peer's timers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Peers of one endpoint: 16 of the 24 bits of an index, the others tell a slot's successive peers apart.
const PEERS_MAX: usize = 1 << 16;
/// Messages that wait to be sent; handshakes beyond it are dropped, and the peer repeats them.
const OUTBOX: usize = 1024;
/// Longest datagram, and so the longest plaintext.
const DATAGRAM_MAX: usize = 65_535;

/// One end of a tunnel.
pub struct Endpoint {
    identity: Identity,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<PublicKey, PeerId>,
    by_address: HashMap<IpAddr, PeerId>,
    /// The peer with [`Addresses::All`].
    default: Option<PeerId>,
    sources: SourceLimiter,
    /// Handshakes computed in the current second.
    handshakes: u64,
    handshakes_since: Time,
    timers: Wheel<PeerId>,
    outbox: VecDeque<(Path, Vec<u8>)>,
    scratch: Box<[u8]>,
    /// Longest inner packet; padding stops there.
    mtu: usize,
    counters: Counters,
}

struct Slot {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Endpoint {
    /// An endpoint without peers. `mtu` is the longest inner packet that will be sent.
    #[must_use]
    pub fn new(key: &PrivateKey, mtu: u16, now: Time) -> Self {
        Self {
            identity: Identity::new(key),
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            by_address: HashMap::new(),
            default: None,
            sources: SourceLimiter::default(),
            handshakes: 0,
            handshakes_since: now,
            timers: Wheel::new(now),
            outbox: VecDeque::new(),
            scratch: vec![0; DATAGRAM_MAX].into_boxed_slice(),
            mtu: usize::from(mtu),
            counters: Counters::default(),
        }
    }

    /// An endpoint with one peer, to which others can be added.
    #[must_use]
    pub fn with_peer(key: &PrivateKey, mtu: u16, peer: PeerConfig, now: Time) -> (Self, PeerId) {
        let mut endpoint = Self::new(key, mtu, now);
        let id = endpoint.insert(peer);
        (endpoint, id)
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
        let keepalive = config.keepalive.map(|every| {
            u16::try_from(every.as_secs() + u64::from(every.subsec_nanos() > 0)).unwrap_or(u16::MAX)
        });
        let index = (id.generation & 0xff) << 16 | slot;
        self.slots[slot as usize].peer = Some(Box::new(Peer {
            key: config.key,
            tunnel: self.identity.tunnel(&config.key, index, keepalive),
            addresses: Addresses::Hosts(Vec::new()),
            path: config.endpoint.map(Path::from),
            timer: self.timers.insert(id),
            unconfirmed: None,
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
        let Some(peer) = slot.peer.take() else { return };
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
    pub fn receive<'a>(&mut self, datagram: &'a mut [u8], path: Path, now: Time) -> Received<'a> {
        let mut challenge = [0; 64];
        let index = match self.identity.classify(datagram, path.remote.ip(), &mut challenge) {
            Kind::Data(index) => return self.receive_data(index, datagram, path, now),
            Kind::Initiation => {
                self.receive_initiation(datagram, path, now);
                return Received::Nothing;
            }
            Kind::Response(index) | Kind::Cookie(index) => index,
            Kind::Challenge(length) => {
                self.counters.challenged += 1;
                self.post(path, challenge[..length].to_vec());
                return Received::Nothing;
            }
            Kind::Invalid => {
                self.counters.invalid += 1;
                return Received::Nothing;
            }
        };
        self.receive_answer(index, datagram, path, now);
        Received::Nothing
    }

    #[inline]
    fn receive_data<'a>(
        &mut self,
        index: Index,
        datagram: &'a mut [u8],
        path: Path,
        now: Time,
    ) -> Received<'a> {
        let Some((id, peer)) = by_index(&mut self.slots, index) else {
            self.counters.unknown += 1;
            return Received::Nothing;
        };
        let opened = peer.tunnel.open(datagram, &mut self.scratch);
        let length = match opened {
            Opened::Packet(length) => length,
            Opened::Nothing => 0,
            Opened::Reply(_) | Opened::Refused => {
                self.counters.refused += 1;
                return Received::Nothing;
            }
        };
        peer.heard_from(path, now);
        let confirmed = peer.unconfirmed == Some(index.0);
        if confirmed {
            peer.unconfirmed = None;
            peer.statistics.last_handshake = Some(now);
        }
        let mut received = Received::Nothing;
        if length > 0 {
            let datagram = &mut datagram[..length];
            datagram.copy_from_slice(&self.scratch[..length]);
            match Packet::parse(datagram) {
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
        if confirmed {
            self.flush(id);
        }
        received
    }

    fn receive_initiation(&mut self, datagram: &[u8], path: Path, now: Time) {
        if now.since(self.handshakes_since) >= Duration::from_secs(1) {
            self.handshakes = 0;
            self.handshakes_since = now;
        }
        self.handshakes += 1;
        // Below the load that demands cookies, addresses prove nothing and a limit by them would only help an attacker
        // to lock somebody out.
        let under_load = self.handshakes > noise::HANDSHAKES_PER_SECOND;
        if under_load && !self.sources.allow(path.remote.ip(), now) {
            self.counters.limited += 1;
            return;
        }
        let Some(id) = self.identity.initiator(datagram).and_then(|key| self.find(&key)) else {
            self.counters.unknown += 1;
            return;
        };
        self.wake(id, now);
        let Some(peer) = peer_mut(&mut self.slots, id) else { return };
        let Opened::Reply(length) = peer.tunnel.open(datagram, &mut self.scratch) else {
            self.counters.refused += 1;
            return;
        };
        let response = self.scratch[..length].to_vec();
        peer.unconfirmed =
            response.get(4..8).and_then(|index| Some(u32::from_le_bytes(index.try_into().ok()?)));
        peer.heard_from(path, now);
        self.post(path, response);
    }

    fn receive_answer(&mut self, index: Index, datagram: &[u8], path: Path, now: Time) {
        let Some((id, peer)) = by_index(&mut self.slots, index) else {
            self.counters.unknown += 1;
            return;
        };
        match peer.tunnel.open(datagram, &mut self.scratch) {
            Opened::Reply(length) => {
                // A response: the reply is the keepalive that confirms the session to the peer.
                let confirmation = self.scratch[..length].to_vec();
                peer.unconfirmed = None;
                peer.heard_from(path, now);
                peer.statistics.last_handshake = Some(now);
                self.post(path, confirmation);
                self.flush(id);
            }
            // A cookie; the next initiation carries it.
            Opened::Nothing => {}
            Opened::Packet(_) | Opened::Refused => self.counters.refused += 1,
        }
    }

    /// Makes a datagram for a peer at the start of `out`. `build` writes the inner packet into a buffer of the MTU and
    /// returns its length; it is called only when the packet can go somewhere.
    ///
    /// `out` must be [`OVERHEAD`] bytes longer than the MTU.
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
        if !self.timers.is_set(peer.timer) {
            self.wake(id, now);
        }
        let Some(peer) = peer_mut(&mut self.slots, id) else { return Sealed::Unreachable };
        let plain = &mut self.scratch[..self.mtu];
        let Some(length) = build(plain) else { return Sealed::Nothing };
        peer.statistics.sent_bytes += length as u64;
        if is_data(&plain[..length]) {
            peer.statistics.last_data = Some(now);
        }
        // Padding to 16 bytes, within the MTU, as the paper's section 5.4.6 and the Linux module do.
        let padded = length.next_multiple_of(16).min(self.mtu);
        plain[length..padded].fill(0);
        match peer.tunnel.seal(&plain[..padded], out) {
            Some(length) => Sealed::Datagram(length, path),
            None => Sealed::Kept,
        }
    }

    /// Starts a handshake, also when one is under way.
    pub fn initiate(&mut self, id: PeerId, now: Time) {
        self.wake(id, now);
        let Some(peer) = peer_mut(&mut self.slots, id) else { return };
        let Some(path) = peer.path else { return };
        if let Some(length) = peer.tunnel.initiate(&mut self.scratch) {
            let message = self.scratch[..length].to_vec();
            self.post(path, message);
        }
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

    /// Drives the timers of the peers that are due.
    pub fn expire(&mut self, now: Time) {
        while let Some(id) = self.timers.pop(now) {
            self.tick(id, now);
        }
    }

    /// Makes the timers of a peer that may have slept run again.
    fn wake(&mut self, id: PeerId, now: Time) {
        let Some(peer) = self.peer(id) else { return };
        if self.timers.is_set(peer.timer) {
            return;
        }
        self.tick(id, now);
        if let Some(peer) = self.peer(id) {
            let timer = peer.timer;
            self.timers.set(timer, Some(now + TICK));
        }
    }

    fn tick(&mut self, id: PeerId, now: Time) {
        let Some(peer) = peer_mut(&mut self.slots, id) else { return };
        let path = peer.path;
        let timer = peer.timer;
        match peer.tunnel.tick(&mut self.scratch) {
            Tick::Expired => return,
            Tick::Nothing => {}
            Tick::Send(length) => {
                if let Some(path) = path {
                    let message = self.scratch[..length].to_vec();
                    self.post(path, message);
                }
            }
        }
        self.timers.set(timer, Some(now + TICK));
    }

    /// Sends what waited for a session.
    fn flush(&mut self, id: PeerId) {
        while let Some(peer) = peer_mut(&mut self.slots, id) {
            let Some(path) = peer.path else { return };
            let Some(length) = peer.tunnel.flush(&mut self.scratch) else { return };
            let message = self.scratch[..length].to_vec();
            self.post(path, message);
        }
    }

    fn post(&mut self, path: Path, message: Vec<u8>) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back((path, message));
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

/// The peer that an index of ours names.
#[inline]
fn by_index(slots: &mut [Slot], index: Index) -> Option<(PeerId, &mut Peer)> {
    let (slot, generation) = (index.peer() & 0xffff, index.peer() >> 16);
    let entry = slots.get_mut(slot as usize).filter(|entry| entry.generation & 0xff == generation)?;
    let id = PeerId { slot, generation: entry.generation };
    entry.peer.as_deref_mut().map(|peer| (id, peer))
}

#[cfg(test)]
mod tests;
