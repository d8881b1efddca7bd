//! From a declared session to what a provider must create and what a gateway must be told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebb_desired_state::{
    Addresses, DeploymentName, Document, Network, Placement, Session, SessionName, Size, User, UserName,
};
use ebb_wire::{Dns, Live, Peer, PublicKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{GatewayName, Generation, Hash, RunId};

/// Host numbers of users inside a session's networks. 0 is the network, 1 the gateway.
pub const FIRST_HOST: u32 = 2;

/// Everything a provider needs to create a gateway, apart from secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Name at the provider.
    pub name: GatewayName,
    /// Marks who owns it.
    pub deployment: DeploymentName,
    /// For which session.
    pub session: SessionName,
    /// Which run of it.
    pub run: RunId,
    /// The session's generation when the run began.
    pub generation: Generation,
    /// What forces another gateway when it changes.
    pub template: Template,
    /// Hash of the template, to be kept in the gateway's tags.
    pub hash: Hash,
}

/// The part of a session that cannot change while its gateway runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Where it runs.
    pub region: String,
    /// Where it is kept.
    #[serde(flatten)]
    pub placement: Placement,
    /// What it gets.
    pub size: Size,
    /// UDP port it listens on.
    pub port: u16,
    /// How it is connected.
    pub network: Network,
    /// Networks inside the tunnel.
    pub addresses: Addresses,
}

impl Template {
    /// The template of a session.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        Self {
            region: session.region.clone(),
            placement: session.placement.clone(),
            size: session.size,
            port: session.port,
            network: session.network.clone(),
            addresses: session.addresses,
        }
    }
}

/// Public keys by owner. The private halves are in the secret store and enter no plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Gateways.
    pub gateways: BTreeMap<SessionName, PublicKey>,
    /// Users without a key of their own in the document.
    pub users: BTreeMap<UserName, PublicKey>,
}

impl Keys {
    /// The key of a user: the document's, else the one that Ebb keeps.
    #[must_use]
    pub fn user(&self, user: &User) -> Option<PublicKey> {
        user.public_key.or_else(|| self.users.get(&user.name).copied())
    }
}

/// Who knows users by their names.
pub trait Users {
    /// The user of this name.
    fn user(&self, name: &UserName) -> Option<&User>;
}

impl Users for Document {
    fn user(&self, name: &UserName) -> Option<&User> {
        Self::user(self, name)
    }
}

/// Users of `session` who are entitled at `now`, in the order of the session.
pub fn entitled<'a>(
    users: &'a impl Users,
    session: &'a Session,
    now: Timestamp,
) -> impl Iterator<Item = &'a User> {
    session
        .users
        .iter()
        .filter_map(|name| users.user(name))
        .filter(move |user| user.until.is_none_or(|until| now < until))
}

/// Addresses of host number `host` inside the session's networks.
#[must_use]
pub fn addresses(networks: &Addresses, host: u32) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::from_bits(networks.ipv4.network().to_bits() + host),
        Ipv6Addr::from_bits(networks.ipv6.network().to_bits() + u128::from(host)),
    )
}

/// Gives every declared user of `session` a host number. Numbers that were given stay; those of users who are gone are free
/// again. `None` for a user means that the network is full, which the document's validation excludes.
#[must_use]
pub fn allocate(session: &Session, held: &BTreeMap<UserName, u32>) -> BTreeMap<UserName, u32> {
    let last = (1_u32 << (32 - u32::from(session.addresses.ipv4.prefix_len()))).saturating_sub(2);
    let mut hosts: BTreeMap<UserName, u32> = held
        .iter()
        .filter(|(user, host)| session.users.contains(user) && (FIRST_HOST..=last).contains(*host))
        .map(|(user, host)| (user.clone(), *host))
        .collect();
    let mut taken: std::collections::BTreeSet<u32> = hosts.values().copied().collect();
    let mut free = FIRST_HOST..=last;
    for user in &session.users {
        if hosts.contains_key(user) {
            continue;
        }
        if let Some(host) = free.find(|host| !taken.contains(host)) {
            taken.insert(host);
            hosts.insert(user.clone(), host);
        }
    }
    hosts
}

/// What the session's gateway must be told now. Users without a known key are left out until they have one.
#[must_use]
pub fn live(
    users: &impl Users,
    session: &Session,
    generation: Generation,
    hosts: &BTreeMap<UserName, u32>,
    keys: &Keys,
    now: Timestamp,
) -> Live {
    let peers = entitled(users, session, now)
        .filter_map(|user| {
            let (v4, v6) = addresses(&session.addresses, *hosts.get(&user.name)?);
            Some(Peer {
                name: user.name.to_string(),
                public_key: keys.user(user)?,
                addresses: vec![IpAddr::V4(v4), IpAddr::V6(v6)],
                source_ips: user.source_ips.clone(),
            })
        })
        .collect();
    Live {
        generation: generation.0,
        peers,
        routes: session.routes.clone(),
        dns: Dns { names: session.dns.names.clone(), upstream: session.dns.upstream.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(users: &[&str]) -> Session {
        let users = users.iter().map(|user| user.parse().unwrap()).collect();
        Session::new("s".parse().unwrap(), users, "local")
    }

    fn names(hosts: &BTreeMap<UserName, u32>) -> Vec<(&str, u32)> {
        hosts.iter().map(|(user, host)| (user.as_str(), *host)).collect()
    }

    #[test]
    fn a_user_keeps_the_address_whatever_happens_to_others() {
        let first = allocate(&session(&["carol", "alice", "bob"]), &BTreeMap::new());
        assert_eq!(names(&first), [("alice", 3), ("bob", 4), ("carol", 2)]);
        let second = allocate(&session(&["bob", "dave"]), &first);
        assert_eq!(names(&second), [("bob", 4), ("dave", 2)]);
    }

    #[test]
    fn a_host_outside_a_smaller_network_is_given_anew() {
        let mut session = session(&["alice"]);
        let held = BTreeMap::from([("alice".parse().unwrap(), 77)]);
        session.addresses.ipv4 = "10.9.0.0/29".parse().unwrap();
        assert_eq!(names(&allocate(&session, &held)), [("alice", 2)]);
    }
}
