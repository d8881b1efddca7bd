//! Requests of the daemon: what is in force, and how it is replaced without touching what stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ebb_tunnel::dns::{Config, ConfigError};
use ebb_tunnel::policy::Policy;
use ebb_tunnel::wireguard::{Addresses, PeerConfig, PeerId};
use ebb_wire::{Digest, FrameError, Live, PublicKey, Refusal, Reply, Request, VERSION};
use ipnet::IpNet;

use super::Plane;
use super::loops::{Agreed, Letter};
use crate::resolv::host_resolvers;

/// What the daemon is told; it asks again.
const SILENT: &str =
    "a loop of the gateway did not answer in time; if it stays so, stop and start the session";

/// The configuration in force.
pub(super) struct InForce {
    pub agreed: Arc<Agreed>,
    pub digest: Digest,
    /// Those of this loop.
    pub peers: BTreeMap<PublicKey, PeerId>,
}

impl Plane {
    /// The answer to a request of the daemon.
    pub(super) fn control(&mut self, request: Result<Request, FrameError>) -> Reply {
        match request {
            Ok(Request::Telemetry) => match self.telemetry() {
                Some(telemetry) => Reply::Telemetry(telemetry),
                None => Reply::Refused(Refusal::Invalid { why: SILENT.into() }),
            },
            Ok(Request::Configure(live)) => match self.configure(&live) {
                Ok(digest) => Reply::Configured { digest },
                Err(refusal) => {
                    tracing::warn!(reason = %refusal, "refused a configuration; the one before stays in force");
                    Reply::Refused(refusal)
                }
            },
            Err(FrameError::Version(_)) => Reply::Refused(Refusal::Version { supported: VERSION }),
            Err(_) => Reply::Refused(Refusal::Unreadable),
        }
    }

    /// Replaces the configuration of all loops.
    fn configure(&mut self, live: &Live) -> Result<Digest, Refusal> {
        let before = self.in_force.as_ref().map(|in_force| Arc::clone(&in_force.agreed));
        if let Some(held) = before.as_ref().map(|before| before.live.generation)
            && live.generation < held
        {
            return Err(Refusal::OlderGeneration { held, offered: live.generation });
        }
        self.check(live).map_err(|why| Refusal::Invalid { why })?;
        let agreed = Arc::new(Agreed::new(live, before.as_deref(), self.post.loops()));
        let digest =
            self.adopt(Arc::clone(&agreed)).map_err(|error| Refusal::Invalid { why: error.to_string() })?;
        let done = self.post.ask(|done| Letter::Configure(Arc::clone(&agreed), done));
        if done.is_none_or(|done| done.contains(&false)) {
            return Err(Refusal::Invalid { why: SILENT.into() });
        }
        tracing::info!(generation = live.generation, %digest, peers = live.peers.len(), "configured");
        Ok(digest)
    }

    /// Puts a configuration in force for this loop's peers. Those that stay keep their sessions and flows.
    pub(super) fn adopt(&mut self, agreed: Arc<Agreed>) -> Result<Digest, ConfigError> {
        let live = &agreed.live;
        // The last thing that can be refused, and the first that is changed.
        self.configure_names(live)?;
        let before = self.in_force.take().map(|in_force| in_force.peers).unwrap_or_default();
        let own = |key: &PublicKey| agreed.owner(key) == Some(self.post.number());
        let gone: Vec<_> = before.iter().filter(|(key, _)| !own(key)).map(|(_, id)| *id).collect();
        let mine: Vec<_> = live.peers.iter().filter(|peer| own(&peer.public_key)).collect();
        for id in gone {
            self.forget(id);
        }
        // Addresses may have changed hands: first nobody has any, then everybody his own.
        for id in before.values() {
            let _ = self.link.tunnel.set_addresses(*id, Addresses::Hosts(Vec::new()));
        }
        let mut peers = BTreeMap::new();
        for peer in mine {
            let addresses = Addresses::Hosts(peer.addresses.clone());
            let id = match before.get(&peer.public_key) {
                Some(id) => self.link.tunnel.set_addresses(*id, addresses).map(|()| *id),
                None => {
                    let config =
                        PeerConfig { key: peer.public_key, addresses, endpoint: None, keepalive: None };
                    self.link.tunnel.add(config)
                }
            };
            // Everything that could be refused here was checked before.
            match id {
                Ok(id) => {
                    self.link.tunnel.set_source_ips(id, peer.source_ips.clone());
                    peers.insert(peer.public_key, id);
                }
                Err(error) => tracing::error!(%error, "a checked peer was refused"),
            }
        }
        let policy = Policy::new(&live.routes, &self.pools(), &self.interfaces);
        self.rules.replace(policy);
        let digest = live.digest();
        self.in_force = Some(InForce { agreed, digest: digest.clone(), peers });
        Ok(digest)
    }

    fn configure_names(&mut self, live: &Live) -> Result<(), ConfigError> {
        let fallback = host_resolvers();
        let config = Config {
            session: &self.boot.session,
            dns: &live.dns,
            peers: &live.peers,
            gateway: &self.link.own(),
            networks: &self.pools(),
            fallback: &fallback,
        };
        self.names.configure(&config)
    }

    /// Takes everything away from a user.
    fn forget(&mut self, id: PeerId) {
        self.link.tunnel.remove(id);
        self.tcp.forget(id);
        self.udp.forget(id);
        self.pings.forget(id);
        self.names.forget(id);
        self.fragments.forget(id);
    }

    /// Looks for contradictions; nothing has changed when there is one.
    fn check(&self, live: &Live) -> Result<(), String> {
        let mut keys = BTreeSet::new();
        let mut owners = BTreeMap::new();
        let own = self.link.own();
        for peer in &live.peers {
            let name = &peer.name;
            if peer.public_key == self.boot.control_key || peer.public_key == self.boot.private_key.public() {
                return Err(format!("{name} has the key of the daemon or of the gateway"));
            }
            if !keys.insert(peer.public_key) {
                return Err(format!("{name} has the key of another user"));
            }
            for address in &peer.addresses {
                if let Some(other) = owners.insert(*address, name) {
                    return Err(format!("{address} belongs to {other} and to {name}"));
                }
                if own.contains(address) {
                    return Err(format!("{address} of {name} is the gateway's own"));
                }
                if !self.pools().iter().any(|pool| pool.contains(address)) {
                    return Err(format!("{address} of {name} lies outside of the session's networks"));
                }
            }
        }
        let control = IpNet::V6(ebb_wire::control_network());
        let overlaps = |route: &&IpNet| control.contains(*route);
        if let Some(route) = live.routes.iter().find(overlaps) {
            return Err(format!("the route {route} leads to the control network"));
        }
        Ok(())
    }
}
