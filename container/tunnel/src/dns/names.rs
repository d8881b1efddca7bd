//! Names that are answered here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr as _;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::message_builder::{PushError, TreeCompressor};
use domain::base::{CharStr, MessageBuilder, Rtype, Serial, Ttl};
use domain::rdata::{A, Aaaa, Hinfo, Ns, Ptr, Soa};
use ipnet::IpNet;

use super::query::{Name, Question};
use super::special::{self, Kind};
use super::{Config, ConfigError};

/// The zone of sessions and users, in `internal`, which ICANN keeps free for private use.
const ZONE: &str = "ebb.internal";

/// Where the answer to a question comes from.
pub(super) enum Source {
    /// From here: this message.
    Here(Vec<u8>),
    /// From the private resolvers that the desired state names; without one, this message.
    Site(Vec<u8>),
    /// From any upstream.
    Anywhere,
}

pub(super) struct Names {
    hosts: BTreeMap<Name, Vec<IpAddr>>,
    pointers: BTreeMap<Name, Name>,
    /// Zones that exist only here, each with all names in it.
    zones: BTreeSet<Name>,
    special: BTreeMap<Name, Kind>,
    server: Name,
    ttl: Ttl,
    /// Counts configurations, so that it goes up when names change.
    serial: u32,
}

/// What is known about a name here.
enum Known<'a> {
    /// These addresses.
    Host(&'a [IpAddr]),
    /// This name, of an address.
    Pointer(&'a Name),
    /// There is nothing, but the name exists: a zone, or a name above another.
    Empty,
    /// The name does not exist.
    Missing,
}

impl Names {
    pub fn new(ttl: Duration) -> Self {
        Self {
            hosts: BTreeMap::new(),
            pointers: BTreeMap::new(),
            zones: BTreeSet::new(),
            special: special::zones().collect(),
            server: Name::root_vec(),
            ttl: Ttl::from_secs(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)),
            serial: 0,
        }
    }

    /// Replaces all names, or none.
    pub fn configure(&mut self, config: &Config<'_>) -> Result<(), ConfigError> {
        let zone = name(ZONE)?;
        let server = name(&format!("gateway.{ZONE}"))?;
        let mut hosts = BTreeMap::new();
        let mut pointers = BTreeMap::new();
        // The later wins.
        hosts.insert(name(&format!("{}.{ZONE}", config.session))?, config.gateway.to_vec());
        for peer in config.peers {
            let host = name(&format!("{}.{ZONE}", peer.name))?;
            for &address in &peer.addresses {
                pointers.insert(reverse(address), host.clone());
            }
            hosts.insert(host, peer.addresses.clone());
        }
        hosts.insert(server.clone(), config.gateway.to_vec());
        for &address in config.gateway {
            pointers.insert(reverse(address), server.clone());
        }
        for (key, addresses) in &config.dns.names {
            let host = name(key)?;
            // One label and the root.
            if host.label_count() == 2 {
                hosts.insert(name(&format!("{key}.{ZONE}"))?, addresses.clone());
            }
            hosts.insert(host, addresses.clone());
        }
        let mut zones: BTreeSet<_> = config.networks.iter().flat_map(|&net| reverse_zones(net)).collect();
        zones.insert(zone);
        (self.hosts, self.pointers, self.zones, self.server) = (hosts, pointers, zones, server);
        self.serial = self.serial.wrapping_add(1);
        Ok(())
    }

    /// Finds out who answers, and if it is this gateway, what.
    pub fn find(&self, question: &Question) -> Source {
        let name = &question.name;
        let zone = Self::enclosing(name, |suffix| self.zones.get(suffix));
        if let Some(addresses) = self.hosts.get(name) {
            return Source::Here(self.reply(question, zone.unwrap_or(name), &Known::Host(addresses)));
        }
        if let Some(host) = self.pointers.get(name) {
            return Source::Here(self.reply(question, zone.unwrap_or(name), &Known::Pointer(host)));
        }
        let empty = if self.exists(name) { Known::Empty } else { Known::Missing };
        if let Some(zone) = zone {
            return Source::Here(self.reply(question, zone, &empty));
        }
        match Self::enclosing(name, |suffix| self.special.get_key_value(suffix)) {
            None => Source::Anywhere,
            Some((zone, Kind::Loopback)) => {
                let addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                Source::Here(self.reply(question, zone, &Known::Host(&addresses)))
            }
            Some((zone, Kind::Nowhere)) => Source::Here(self.reply(question, zone, &empty)),
            Some((zone, Kind::Site)) => Source::Site(self.reply(question, zone, &empty)),
        }
    }

    /// The answer to a question for ANY about a name that is not known here: one harmless record, which the client keeps
    /// (RFC 8482, section 4.2). To refuse would make it ask again.
    pub fn any(&self, question: &Question) -> Vec<u8> {
        self.reply(question, &question.name, &Known::Host(&[]))
    }

    /// The nearest name at or above `name` for which `find` has something.
    fn enclosing<T>(name: &Name, find: impl Fn(&domain::base::Name<[u8]>) -> Option<T>) -> Option<T> {
        let labels = name.iter();
        let starts = labels.scan(0, |at, label| {
            let start = *at;
            *at += usize::from(label.compose_len());
            Some(start)
        });
        starts.map(|start| name.slice_from(start)).find_map(find)
    }

    /// Whether a name in a zone here has something at or under it (RFC 8020, section 2).
    fn exists(&self, name: &Name) -> bool {
        // Names are in the order that puts a name right before those under it.
        let under = |first: Option<&Name>| first.is_some_and(|first| first.ends_with(name));
        under(self.zones.range::<Name, _>(name..).next())
            || under(self.hosts.range::<Name, _>(name..).next().map(|(name, _)| name))
            || under(self.pointers.range::<Name, _>(name..).next().map(|(name, _)| name))
            || self.special.contains_key(name)
    }

    fn reply(&self, question: &Question, zone: &Name, known: &Known<'_>) -> Vec<u8> {
        // Fails only for a name with more addresses than 64 KiB hold, which no control message can carry.
        self.compose(question, zone, known).unwrap_or_default()
    }

    fn compose(&self, question: &Question, zone: &Name, known: &Known<'_>) -> Result<Vec<u8>, PushError> {
        let Question { name, rtype, .. } = question;
        let mut builder = MessageBuilder::from_target(TreeCompressor::new(Vec::new()))?;
        let header = builder.header_mut();
        header.set_qr(true);
        header.set_aa(true);
        if matches!(known, Known::Missing) {
            header.set_rcode(Rcode::NXDOMAIN);
        }
        let mut question = builder.question();
        question.push((name, *rtype))?;
        let mut answer = question.answer();
        match (*rtype, known) {
            (Rtype::A, Known::Host(addresses)) => {
                for address in *addresses {
                    if let IpAddr::V4(v4) = address {
                        answer.push((name, self.ttl, A::new(*v4)))?;
                    }
                }
            }
            (Rtype::AAAA, Known::Host(addresses)) => {
                for address in *addresses {
                    if let IpAddr::V6(v6) = address {
                        answer.push((name, self.ttl, Aaaa::new(*v6)))?;
                    }
                }
            }
            (Rtype::PTR, Known::Pointer(host)) => answer.push((name, self.ttl, Ptr::new(*host)))?,
            (Rtype::ANY, Known::Host(_) | Known::Pointer(_) | Known::Empty) => {
                let word = |text: &'static str| CharStr::from_octets(text.as_bytes());
                if let (Ok(cpu), Ok(os)) = (word("RFC8482"), word("")) {
                    answer.push((name, self.ttl, Hinfo::new(cpu, os)))?;
                }
            }
            (Rtype::SOA, _) if name == zone => answer.push((zone, self.ttl, self.soa()))?,
            (Rtype::NS, _) if name == zone => answer.push((zone, self.ttl, Ns::new(&self.server)))?,
            _ => {}
        }
        let empty = answer.counts().ancount() == 0;
        let mut authority = answer.authority();
        if empty {
            // RFC 2308, section 3: without it nobody may keep the answer.
            authority.push((zone, self.ttl, self.soa()))?;
        }
        Ok(authority.finish().into_target())
    }

    fn soa(&self) -> Soa<Name> {
        // Nobody transfers these zones, so only the last number means anything; `nobody.invalid` as in RFC 6303, section 3.
        let mailbox =
            Name::from_octets(b"\x06nobody\x07invalid\0".to_vec()).unwrap_or_else(|_| Name::root_vec());
        let hour = Ttl::from_hours(1);
        Soa::new(self.server.clone(), mailbox, Serial(self.serial), hour, hour, hour, self.ttl)
    }
}

fn name(text: &str) -> Result<Name, ConfigError> {
    let error = |why: String| ConfigError::Name { name: text.to_owned(), why };
    let mut name = Name::from_str(text).map_err(|e| error(e.to_string()))?;
    if text.ends_with('.') {
        return Err(error("names are written without a final dot".into()));
    }
    name.make_canonical();
    Ok(name)
}

fn reverse(address: IpAddr) -> Name {
    // At most 32 labels and a suffix: 74 bytes of 255.
    Name::reverse_from_addr(address).unwrap_or_else(|_| Name::root_vec())
}

/// The reverse zones that a network fills: one, or if it ends within a label, up to 128 beside each other.
fn reverse_zones(net: IpNet) -> Vec<Name> {
    // A label is 8 bits of an IPv4 address (RFC 1035, section 3.5) and 4 of an IPv6 address (RFC 3596, section 2.5).
    let bits = if matches!(net, IpNet::V4(_)) { 8 } else { 4 };
    let prefix = net.prefix_len().next_multiple_of(bits).max(bits);
    let spare = usize::from((net.max_prefix_len() - prefix) / bits);
    let Ok(subnets) = net.subnets(prefix) else { return Vec::new() };
    subnets
        .filter_map(|subnet| {
            let full = reverse(subnet.network());
            let mut zone = full.range_from(0);
            for _ in 0..spare {
                zone = zone.parent()?;
            }
            Name::from_octets(zone.as_slice().to_vec()).ok()
        })
        .collect()
}
