//! Where users may go.
//!
//! A gateway sits in somebody's network with that network's addresses: without a policy, everybody in the tunnel could reach
//! the cloud's metadata service, the host's loopback and the company's private ranges as the gateway itself. The rules, in
//! order; the first that applies decides:
//!
//! | destination | verdict |
//! |---|---|
//! | not a single host, this host, this link, or a cloud's own services | refused, whatever the routes say |
//! | an IPv6 form of an IPv4 address | as the IPv4 address; forms that never appear on a wire are refused |
//! | the gateway's own addresses, the control network | refused, whatever the routes say |
//! | the session's own pool | allowed only when a route lies inside the pool |
//! | in no route | refused |
//! | a special-purpose range (RFC 6890), among them all private ranges | allowed only when a route lies inside the range |
//! | everything else | allowed |
//!
//! A route "lies inside" a range when it is the range or a part of it: `10.0.0.0/8` and `10.1.0.0/16` name the private range
//! 10/8, while `0.0.0.0/0` and the pair `0.0.0.0/1`, `128.0.0.0/1` that some clients write for it do not.

mod special;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use special::{Class, classify_v4, classify_v6};

/// The rules in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    routes: Vec<IpNet>,
    pools: Vec<IpNet>,
    own: Vec<IpAddr>,
}

/// Why a destination is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Unspecified, multicast, broadcast or an IPv4 address in an IPv6 form that belongs on no wire.
    #[error("not the address of a host")]
    NotAHost,
    /// This host.
    #[error("loopback")]
    Loopback,
    /// This link, where clouds keep their metadata services (169.254.169.254).
    #[error("link-local")]
    LinkLocal,
    /// Azure's wire server (168.63.129.16): it answers only to the machine that it serves.
    #[error("a service of the cloud for the gateway's host")]
    CloudService,
    /// The gateway, by one of the addresses of its interfaces.
    #[error("an address of the gateway")]
    Gateway,
    /// The network of gateway and daemon.
    #[error("the control network")]
    ControlNetwork,
    /// Another user of the session.
    #[error("the session's own network")]
    Pool,
    /// No route leads there.
    #[error("in none of the session's routes")]
    NoRoute,
    /// A private or otherwise special range that no route names.
    #[error("a special-purpose range that no route names")]
    Special,
}

impl Policy {
    /// The rules of a session. `pools` are its networks inside the tunnel, `own` the addresses of the gateway's interfaces.
    #[must_use]
    pub fn new(routes: &[IpNet], pools: &[IpNet], own: &[IpAddr]) -> Self {
        Self {
            routes: routes.iter().map(IpNet::trunc).collect(),
            pools: pools.iter().map(IpNet::trunc).collect(),
            own: own.to_vec(),
        }
    }

    /// Replaces the addresses of the gateway's interfaces, which can change while it runs.
    pub fn set_own(&mut self, own: &[IpAddr]) {
        self.own = own.to_vec();
    }

    /// Whether users may reach a destination.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, destination: IpAddr) -> Result<(), Refusal> {
        match destination {
            IpAddr::V4(address) => self.check_v4(address),
            IpAddr::V6(address) => self.check_v6(address),
        }
    }

    fn check_v4(&self, address: Ipv4Addr) -> Result<(), Refusal> {
        let class = classify_v4(address);
        if let Class::Never(refusal) = class {
            return Err(refusal);
        }
        self.check_place(address.into(), class)
    }

    fn check_v6(&self, address: Ipv6Addr) -> Result<(), Refusal> {
        let (class, embedded) = classify_v6(address);
        if let Class::Never(refusal) = class {
            return Err(refusal);
        }
        // An embedded address is where the packet would end up. Routes name it in its IPv6 form, so only what holds
        // without routes is asked of it.
        for embedded in embedded.into_iter().flatten() {
            match classify_v4(embedded) {
                Class::Never(refusal) => return Err(refusal),
                Class::Special(_) => return Err(Refusal::Special),
                Class::Public => {}
            }
            if self.own.contains(&embedded.into()) {
                return Err(Refusal::Gateway);
            }
        }
        self.check_place(address.into(), class)
    }

    fn check_place(&self, address: IpAddr, class: Class) -> Result<(), Refusal> {
        if self.own.contains(&address) {
            return Err(Refusal::Gateway);
        }
        if IpNet::V6(ebb_wire::control_network()).contains(&address) {
            return Err(Refusal::ControlNetwork);
        }
        if let Some(pool) = self.pools.iter().find(|pool| pool.contains(&address)) {
            return if self.named(address, pool) { Ok(()) } else { Err(Refusal::Pool) };
        }
        if !self.routes.iter().any(|route| route.contains(&address)) {
            return Err(Refusal::NoRoute);
        }
        match class {
            Class::Special(range) if !self.named(address, &range) => Err(Refusal::Special),
            _ => Ok(()),
        }
    }

    /// Whether a route to `address` lies inside `range`.
    fn named(&self, address: IpAddr, range: &IpNet) -> bool {
        self.routes.iter().any(|route| route.contains(&address) && range.contains(route))
    }
}

#[cfg(test)]
mod tests;
