//! The resolvers that are asked for everything else.

use std::net::SocketAddr;

use super::Config;
use super::address::is_private;
use crate::Time;

struct Server {
    address: SocketAddr,
    /// Named by the desired state, and in a private network: it knows that network's names.
    site: bool,
    /// Asked last until then.
    avoid: Option<Time>,
}

/// Upstream resolvers in order of preference.
#[derive(Default)]
pub(super) struct Upstreams {
    servers: Vec<Server>,
    /// Counts changes, so that answers of resolvers that are no longer asked are not taken for answers of the others.
    pub epoch: u64,
}

impl Upstreams {
    /// Replaces the resolvers; those that stay keep their reputation. Returns whether anything changed.
    pub fn configure(&mut self, config: &Config<'_>, port: u16) -> bool {
        let named = !config.dns.upstream.is_empty();
        let chosen = if named { config.dns.upstream.as_slice() } else { config.fallback };
        let mut servers: Vec<Server> = Vec::new();
        for &address in chosen {
            let site = named && is_private(address);
            let address = SocketAddr::new(address, port);
            if servers.iter().any(|server| server.address == address) {
                continue;
            }
            let avoid = self.find(address).and_then(|server| server.avoid);
            servers.push(Server { address, site, avoid });
        }
        let order = |servers: &[Server]| -> Vec<_> {
            servers.iter().map(|server| (server.address, server.site)).collect()
        };
        let changed = order(&self.servers) != order(&servers);
        self.servers = servers;
        self.epoch += u64::from(changed);
        changed
    }

    /// Whom to ask, in order.
    pub fn candidates(&self, site_only: bool, now: Time) -> Vec<SocketAddr> {
        let eligible = || self.servers.iter().filter(|server| server.site || !site_only);
        let avoided = |server: &&Server| server.avoid.is_some_and(|until| now < until);
        eligible()
            .filter(|server| !avoided(server))
            .chain(eligible().filter(avoided))
            .map(|server| server.address)
            .collect()
    }

    /// Whether this resolver may speak about private addresses.
    pub fn is_site(&self, address: SocketAddr) -> bool {
        self.find(address).is_some_and(|server| server.site)
    }

    /// It answered.
    pub fn good(&mut self, address: SocketAddr) {
        self.set(address, None);
    }

    /// It failed or kept silent.
    pub fn bad(&mut self, address: SocketAddr, until: Time) {
        self.set(address, Some(until));
    }

    fn set(&mut self, address: SocketAddr, avoid: Option<Time>) {
        if let Some(server) = self.servers.iter_mut().find(|server| server.address == address) {
            server.avoid = avoid;
        }
    }

    fn find(&self, address: SocketAddr) -> Option<&Server> {
        self.servers.iter().find(|server| server.address == address)
    }
}
