//! The endpoint's share of a handshake: what is computed for whom, and when packets that waited may go.

use super::handshake::claim;
use super::message::{INITIATION, Kind};
use super::tunnel::{Shared, Tunnel};
use super::{Endpoint, OUTBOX, Path, PeerId, Received, peer_mut};
use crate::Time;

/// Messages that wait to be sent beyond which no cookies are added, so that a flood leaves room for handshakes.
const OUTBOX_COOKIES: usize = OUTBOX / 2;

impl Endpoint {
    /// The peer has proven to have the keys of a session that we answered: only now is the handshake known to be no replay
    /// (WireGuard paper, section 5.1).
    #[cold]
    pub(super) fn confirm(&mut self, id: PeerId, index: u32, now: Time) {
        let Some((peer, mut cx)) = self.shared(id, now) else { return };
        peer.tunnel.confirm(index, &mut cx);
        peer.statistics.last_handshake = Some(now);
        self.flush(id, now);
    }

    #[cold]
    pub(super) fn receive_handshake(
        &mut self,
        kind: Kind,
        datagram: &[u8],
        path: Path,
        now: Time,
    ) -> Received<'static> {
        if !self.passes(kind, datagram, path, now) {
            return Received::Nothing;
        }
        match kind {
            Kind::Response(index) => self.receive_response(index, datagram, path, now),
            _ => self.receive_initiation(datagram, path, now),
        }
    }

    /// Takes an initiation that another endpoint with the same key has found to claim the key of a peer of this one. It has
    /// judged the load already, and its cookies would mean nothing here.
    pub fn receive_vouched(&mut self, initiation: &[u8], path: Path, now: Time) {
        if self.gate.has_mac1(initiation) {
            self.receive_initiation(initiation, path, now);
        }
    }

    /// Whether a handshake message is worth what it costs to look into.
    fn passes(&mut self, kind: Kind, datagram: &[u8], path: Path, now: Time) -> bool {
        if !self.gate.has_mac1(datagram) {
            self.counters.invalid += 1;
            return false;
        }
        // A response that nobody waits for needs no judgement of the load.
        if let Kind::Response(index) = kind
            && self.indices.owner(index).is_none()
        {
            self.counters.unknown += 1;
            return false;
        }
        // Below the load that demands cookies, addresses prove nothing and a limit by them would only help an attacker
        // to lock somebody out.
        if self.load.count(now) {
            if !self.gate.has_mac2(datagram, path.remote, &mut self.entropy, now) {
                self.counters.challenged += 1;
                if self.outbox.len() < OUTBOX_COOKIES {
                    let reply = self.gate.reply(datagram, path.remote, &mut self.entropy, now);
                    self.post(path, reply.to_vec());
                }
                return false;
            }
            if !self.sources.allow(path.remote.ip(), now) {
                self.counters.limited += 1;
                return false;
            }
        }
        true
    }

    fn receive_initiation(&mut self, datagram: &[u8], path: Path, now: Time) -> Received<'static> {
        let Some(message) = datagram.as_array() else { return Received::Nothing };
        let Some(claim) = claim(&self.identity, message) else {
            self.counters.unknown += 1;
            return Received::Nothing;
        };
        let Some(id) = self.find(&claim.initiator) else {
            self.counters.unknown += 1;
            return Received::Stranger(claim.initiator);
        };
        if !self.admits(id, path) {
            return Received::Nothing;
        }
        let Some((peer, mut cx)) = self.shared(id, now) else { return Received::Nothing };
        let Some(response) = peer.tunnel.respond(claim, &mut cx) else {
            self.counters.refused += 1;
            return Received::Nothing;
        };
        self.rearm(id);
        // The answer goes to where the initiation came from. Nothing else does until the peer has used the session: after a
        // restart of ours, an initiation may be a recorded one, sent by anybody from anywhere.
        self.post(path, response.to_vec());
        Received::Nothing
    }

    fn receive_response(&mut self, index: u32, datagram: &[u8], path: Path, now: Time) -> Received<'static> {
        let (Some(message), Some(id)) = (datagram.as_array(), self.indices.owner(index)) else {
            return Received::Nothing;
        };
        if !self.admits(id, path) {
            return Received::Nothing;
        }
        let Some((peer, mut cx)) = self.shared(id, now) else { return Received::Nothing };
        if !peer.tunnel.complete(index, message, &mut cx) {
            self.counters.refused += 1;
            return Received::Nothing;
        }
        peer.heard_from(path, now);
        peer.statistics.last_handshake = Some(now);
        // Without a packet to send, a keepalive tells the peer that the session is there.
        if !self.flush(id, now)
            && let Some(keepalive) = self.peer_mut(id).and_then(|peer| peer.tunnel.keepalive(now))
        {
            self.post(path, keepalive.to_vec());
        }
        self.rearm(id);
        Received::Nothing
    }

    #[cold]
    pub(super) fn receive_cookie(&mut self, index: u32, datagram: &[u8], path: Path, now: Time) {
        let Some(id) = self.indices.owner(index) else {
            self.counters.unknown += 1;
            return;
        };
        if !self.admits(id, path) {
            return;
        }
        let (Some(message), Some(peer)) = (datagram.as_array(), peer_mut(&mut self.slots, id)) else {
            return;
        };
        if !peer.tunnel.take_cookie(message, now) {
            self.counters.refused += 1;
        }
    }

    /// Whether the peer is heard from there; counted if not.
    fn admits(&mut self, id: PeerId, path: Path) -> bool {
        let admits = self.peer_mut(id).is_some_and(|peer| peer.admits(path.remote));
        self.counters.foreign += u64::from(!admits);
        admits
    }

    #[cold]
    pub(super) fn handshake(
        &mut self,
        id: PeerId,
        now: Time,
        make: impl FnOnce(&mut Tunnel, &mut Shared<'_>) -> Option<[u8; INITIATION]>,
    ) {
        let Some((peer, mut cx)) = self.shared(id, now) else { return };
        let Some(path) = peer.path else { return };
        if let Some(initiation) = make(&mut peer.tunnel, &mut cx) {
            self.post(path, initiation.to_vec());
        }
        self.rearm(id);
    }

    /// Sends what waited for a session; false when nothing did.
    pub(super) fn flush(&mut self, id: PeerId, now: Time) -> bool {
        let mut flushed = false;
        while let Some(peer) = self.peer_mut(id) {
            let Some(path) = peer.path else { break };
            let Some(message) = peer.tunnel.flush(now) else { break };
            self.post(path, message);
            flushed = true;
        }
        self.rearm(id);
        flushed
    }

    pub(super) fn post(&mut self, path: Path, message: Vec<u8>) {
        if self.outbox.len() < OUTBOX {
            self.outbox.push_back((path, message));
        }
    }
}
