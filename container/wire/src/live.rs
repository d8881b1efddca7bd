//! The part of a gateway's configuration that changes while it runs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::PublicKey;

/// Peers, routes and names. Always the whole: what is not in it, is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Generation of the session's desired state. A gateway refuses an older one than it has.
    pub generation: u64,
    /// Users. The daemon's own control peer is not among them.
    pub peers: Vec<Peer>,
    /// Destinations that users may reach. A private range is reachable only when it is named here.
    pub routes: Vec<IpNet>,
    /// The resolver inside the tunnel.
    pub dns: Dns,
}

/// One user of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Name of the user, for the resolver.
    pub name: String,
    /// Public key of the user.
    pub public_key: PublicKey,
    /// The only inner source addresses that the user may send from, each a single host.
    pub addresses: Vec<IpAddr>,
    /// Networks that the user's handshakes and packets have to come from, seen by the gateway. Empty: everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub source_ips: Vec<IpNet>,
}

/// Names that the gateway answers by itself, and whom it asks for all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// Lower-case names without a final dot.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Resolvers for every other name, in order of preference, asked on port 53. Empty: those of the gateway's host.
    pub upstream: Vec<IpAddr>,
}

/// SHA-256 over a [`Live`], so that the daemon sees in 64 characters whether a gateway has what it should have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest in lower-case hexadecimal.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl fmt::Display for Digest {
    /// The first 12 characters, enough for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

impl Live {
    /// The digest of this configuration. Order of peers, routes and source networks does not matter; the generation does not enter, so that a
    /// new generation with equal content is no reason to send anything.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut peers: Vec<_> = self.peers.iter().map(Peer::canonical).collect();
        peers.sort_by_key(|peer| peer.public_key);
        let mut routes: Vec<_> = self.routes.iter().collect();
        routes.sort();
        let mut sha = Sha256::new();
        // Neither hashing nor a struct of strings, numbers and sorted maps can fail.
        let _ = serde_json::to_writer(&mut sha, &Canonical { generation: 0, peers, routes, dns: &self.dns });
        Digest(format!("{:x}", sha.finalize()))
    }
}

/// A [`Live`] in the one order and with the one generation that are hashed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Canonical<'a> {
    generation: u64,
    peers: Vec<Cow<'a, Peer>>,
    routes: Vec<&'a IpNet>,
    dns: &'a Dns,
}

impl Peer {
    fn canonical(&self) -> Cow<'_, Self> {
        if self.source_ips.is_sorted() {
            return Cow::Borrowed(self);
        }
        let mut peer = self.clone();
        peer.source_ips.sort();
        Cow::Owned(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> Peer {
        Peer {
            name: format!("user{seed}"),
            public_key: PublicKey::from([seed; 32]),
            addresses: vec![IpAddr::from([10, 8, 0, seed])],
            source_ips: Vec::new(),
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_order_or_generation() {
        let one = Live { generation: 1, peers: vec![peer(2), peer(3)], ..Live::default() };
        let two = Live { generation: 2, peers: vec![peer(3), peer(2)], ..Live::default() };
        assert_eq!(one.digest(), two.digest());
    }

    #[test]
    fn the_digest_is_over_the_sorted_json() {
        let live = Live {
            generation: 9,
            peers: vec![
                Peer {
                    source_ips: vec!["203.0.113.0/24".parse().unwrap(), "192.0.2.0/24".parse().unwrap()],
                    ..peer(3)
                },
                peer(2),
            ],
            routes: vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
            dns: Dns::default(),
        };
        let sorted = Live {
            generation: 0,
            peers: vec![
                peer(2),
                Peer {
                    source_ips: vec!["192.0.2.0/24".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
                    ..peer(3)
                },
            ],
            routes: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            dns: Dns::default(),
        };
        let json = serde_json::to_vec(&sorted).unwrap();
        assert_eq!(live.digest().as_str(), format!("{:x}", Sha256::digest(json)));
    }

    #[test]
    fn the_digest_sees_every_other_change() {
        let base = Live { peers: vec![peer(2)], ..Live::default() };
        let mut moved = base.clone();
        moved.peers[0].addresses = vec![IpAddr::from([10, 8, 0, 9])];
        let routed = Live { routes: vec!["10.0.0.0/8".parse().unwrap()], ..base.clone() };
        let mut named = base.clone();
        named.dns.names.insert("wiki".into(), vec![IpAddr::from([10, 0, 0, 7])]);
        let mut confined = base.clone();
        confined.peers[0].source_ips = vec!["203.0.113.0/24".parse().unwrap()];
        for other in [moved, routed, named, confined] {
            assert_ne!(other.digest(), base.digest());
        }
    }
}
