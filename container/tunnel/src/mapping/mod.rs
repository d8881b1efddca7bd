//! Address mappings of users' datagrams and pings: who may be answered, and for how long.
//!
//! A mapping belongs to one inner source (address and port) of one user and holds one socket towards the world, whatever the
//! user sends to: endpoint-independent mapping (RFC 4787, section 4.1), so that STUN, games and peer-to-peer programs find
//! the same outer port everywhere.
//!
//! Filtering is address-dependent (RFC 4787, section 5): only addresses that the user has sent to may answer, from any port.
//! A mapping that has spoken to more than [`REMEMBERED`] addresses belongs to a program that talks to everybody, such as a
//! DHT node, and may be answered by everybody.
//!
//! | a mapping | lives after its last packet |
//! |---|---|
//! | that was never answered | 30 s, as in Linux. RFC 4787, REQ-5, wants two minutes; unanswered datagrams are scans and dead hosts |
//! | that was answered | 120 s (RFC 4787, REQ-5) |
//! | whose every packet went to port 53 | 10 s (REQ-5 allows less for well-known ports) |
//! | of pings | 60 s (RFC 5508, REQ-2) |
//!
//! Packets in both directions refresh it (RFC 4787, REQ-6).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hashbrown::HashMap;

use crate::Time;
use crate::timer::{TimerId, Wheel};
use crate::wireguard::PeerId;

/// Addresses that one mapping remembers.
pub const REMEMBERED: usize = 64;

const NONE: u32 = u32::MAX;

/// How long mappings live, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Life after the last packet of a mapping that was never answered.
    pub unanswered: Duration,
    /// Life after the last packet of one that was.
    pub answered: Duration,
    /// Life after the last packet of one that was only used to ask resolvers.
    pub resolver: Duration,
    /// Mappings of one user. The one unused for longest makes room.
    pub per_peer: u32,
    /// Mappings of all users. Beyond it, the user's own one unused for longest makes room, or nothing does.
    pub total: u32,
}

impl Limits {
    /// For UDP.
    #[must_use]
    pub const fn udp(per_peer: u32, total: u32) -> Self {
        Self {
            unanswered: Duration::from_secs(30),
            answered: Duration::from_secs(120),
            resolver: Duration::from_secs(10),
            per_peer,
            total,
        }
    }

    /// For pings.
    #[must_use]
    pub const fn ping(per_peer: u32, total: u32) -> Self {
        let life = Duration::from_secs(60);
        Self { unanswered: life, answered: life, resolver: life, per_peer, total }
    }
}

/// Names a mapping of one table, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MappingId(u32);

impl MappingId {
    /// A number below the limit of all mappings; it is used again after the mapping is removed.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The name with a number, for whoever keeps sockets in a list by it.
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(index as u32)
    }
}

/// What a packet of a user needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// The mapping exists and was refreshed.
    Known(MappingId),
    /// A mapping was made. When another one had to go for it, its socket has to be closed first.
    New {
        /// The new one.
        id: MappingId,
        /// The one that made room.
        evicted: Option<MappingId>,
    },
    /// There are too many, of other users.
    Full,
}

#[derive(Debug)]
struct Mapping {
    peer: PeerId,
    source: SocketAddr,
    /// Addresses sent to, as long as they are few.
    remotes: Vec<IpAddr>,
    anybody: bool,
    answered: bool,
    only_resolvers: bool,
    last_used: Time,
    timer: TimerId,
    /// Neighbours in the peer's list, which is ordered by last use.
    older: u32,
    newer: u32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
    count: u32,
}

/// The table.
#[derive(Debug)]
pub struct Mappings {
    limits: Limits,
    slots: Vec<Option<Mapping>>,
    free: Vec<u32>,
    by_source: HashMap<(PeerId, SocketAddr), u32>,
    peers: HashMap<PeerId, List>,
    timers: Wheel<u32>,
}

impl Mappings {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits, now: Time) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_source: HashMap::new(),
            peers: HashMap::new(),
            timers: Wheel::new(now),
        }
    }

    /// How many mappings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_source.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_source.is_empty()
    }

    /// A user sends from `source` to `to`.
    pub fn outbound(&mut self, peer: PeerId, source: SocketAddr, to: SocketAddr, now: Time) -> Outbound {
        if let Some(slot) = self.by_source.get(&(peer, source)).copied() {
            self.used(slot, now);
            if let Some(mapping) = &mut self.slots[slot as usize] {
                mapping.remember(to);
            }
            return Outbound::Known(MappingId(slot));
        }
        let own = self.peers.get(&peer).copied();
        let crowded = own.is_some_and(|own| own.count >= self.limits.per_peer)
            || self.len() >= self.limits.total as usize;
        let mut evicted = None;
        if crowded {
            let Some(own) = own else { return Outbound::Full };
            evicted = Some(MappingId(own.oldest));
            self.remove(MappingId(own.oldest));
        }
        let id = self.insert(peer, source, to, now);
        Outbound::New { id, evicted }
    }

    /// Something arrived on the socket of a mapping: the user it is for and the inner address, if `from` may answer.
    pub fn inbound(&mut self, id: MappingId, from: IpAddr, now: Time) -> Option<(PeerId, SocketAddr)> {
        let mapping = self.slots.get_mut(id.index())?.as_mut()?;
        if !mapping.anybody && !mapping.remotes.contains(&from) {
            return None;
        }
        mapping.answered = true;
        let found = (mapping.peer, mapping.source);
        self.used(id.0, now);
        Some(found)
    }

    /// Whose mapping it is, without refreshing it.
    #[must_use]
    pub fn owner(&self, id: MappingId) -> Option<(PeerId, SocketAddr)> {
        self.slots.get(id.index())?.as_ref().map(|mapping| (mapping.peer, mapping.source))
    }

    /// Removes a mapping.
    pub fn remove(&mut self, id: MappingId) {
        let Some(mapping) = self.slots.get_mut(id.index()).and_then(Option::take) else { return };
        self.by_source.remove(&(mapping.peer, mapping.source));
        self.timers.remove(mapping.timer);
        self.unlink(&mapping);
        self.free.push(id.0);
    }

    /// Removes one mapping of a user, whichever; `None` when there is none left.
    pub fn remove_one_of(&mut self, peer: PeerId) -> Option<MappingId> {
        let id = MappingId(self.peers.get(&peer)?.oldest);
        self.remove(id);
        Some(id)
    }

    /// When [`expire`](Self::expire) has to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.timers.deadline()
    }

    /// Removes a mapping whose time is over. Call until `None`.
    pub fn expire(&mut self, now: Time) -> Option<MappingId> {
        while let Some(slot) = self.timers.pop(now) {
            let Some(mapping) = self.slots.get(slot as usize).and_then(Option::as_ref) else { continue };
            // The timer is set once and looked after when it fires, not with every packet.
            let ends = mapping.last_used + self.life(mapping);
            if ends > now {
                let timer = mapping.timer;
                self.timers.set(timer, Some(ends));
                continue;
            }
            self.remove(MappingId(slot));
            return Some(MappingId(slot));
        }
        None
    }

    fn life(&self, mapping: &Mapping) -> Duration {
        match (mapping.only_resolvers, mapping.answered) {
            (true, _) => self.limits.resolver,
            (false, true) => self.limits.answered,
            (false, false) => self.limits.unanswered,
        }
    }

    fn insert(&mut self, peer: PeerId, source: SocketAddr, to: SocketAddr, now: Time) -> MappingId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let timer = self.timers.insert(slot);
        let mapping = Mapping {
            peer,
            source,
            remotes: vec![to.ip()],
            anybody: false,
            answered: false,
            only_resolvers: to.port() == 53,
            last_used: now,
            timer,
            older: NONE,
            newer: NONE,
        };
        // The shortest life: a longer one is found when the timer fires.
        let first_look = self.limits.resolver.min(self.limits.unanswered).min(self.limits.answered);
        self.timers.set(timer, Some(now + first_look));
        self.by_source.insert((peer, source), slot);
        self.slots[slot as usize] = Some(mapping);
        self.link_newest(slot, peer);
        MappingId(slot)
    }

    fn used(&mut self, slot: u32, now: Time) {
        let Some(mapping) = self.slots[slot as usize].as_mut() else { return };
        mapping.last_used = now;
        if mapping.newer == NONE {
            return;
        }
        let peer = mapping.peer;
        let place = Place { peer, older: mapping.older, newer: mapping.newer };
        self.unlink_place(place);
        self.link_newest(slot, peer);
    }

    fn link_newest(&mut self, slot: u32, peer: PeerId) {
        let list = self.peers.entry(peer).or_insert(List { oldest: slot, newest: NONE, count: 0 });
        let before = std::mem::replace(&mut list.newest, slot);
        list.count += 1;
        if let Some(Some(older)) = self.slots.get_mut(before as usize) {
            older.newer = slot;
        }
        if let Some(mapping) = &mut self.slots[slot as usize] {
            mapping.older = before;
            mapping.newer = NONE;
        }
    }

    fn unlink(&mut self, mapping: &Mapping) {
        self.unlink_place(Place { peer: mapping.peer, older: mapping.older, newer: mapping.newer });
    }

    fn unlink_place(&mut self, place: Place) {
        let Some(list) = self.peers.get_mut(&place.peer) else { return };
        list.count -= 1;
        if place.older == NONE {
            list.oldest = place.newer;
        }
        if place.newer == NONE {
            list.newest = place.older;
        }
        if list.count == 0 {
            self.peers.remove(&place.peer);
        }
        if let Some(Some(older)) = self.slots.get_mut(place.older as usize) {
            older.newer = place.newer;
        }
        if let Some(Some(newer)) = self.slots.get_mut(place.newer as usize) {
            newer.older = place.older;
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    peer: PeerId,
    older: u32,
    newer: u32,
}

impl Mapping {
    #[inline]
    fn remember(&mut self, to: SocketAddr) {
        self.only_resolvers &= to.port() == 53;
        if self.anybody || self.remotes.last() == Some(&to.ip()) || self.remotes.contains(&to.ip()) {
            return;
        }
        if self.remotes.len() < REMEMBERED {
            self.remotes.push(to.ip());
        } else {
            self.anybody = true;
            self.remotes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
