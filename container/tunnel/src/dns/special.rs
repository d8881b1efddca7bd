//! Names that the public DNS must never be asked for.

use super::query::Name;

/// What a special-use name means to a resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The loopback addresses.
    Loopback,
    /// Exists nowhere.
    Nowhere,
    /// May exist in somebody's private network: only the private resolvers that the desired state names may be asked.
    Site,
}

/// Zones and kinds. RFC 6303 numbers: section 4.1 private, 4.2 special IPv4, 4.3 to 4.6 IPv6.
const ZONES: &[(&str, Kind)] = &[
    ("localhost", Kind::Loopback), // RFC 6761, section 6.3
    ("invalid", Kind::Nowhere),    // RFC 6761, section 6.4
    ("onion", Kind::Nowhere),      // RFC 7686, section 2
    // The designated resolver of an upstream cannot stand in for this one (RFC 9462, section 6.1).
    ("resolver.arpa", Kind::Nowhere),
    ("test", Kind::Site),      // RFC 6761, section 6.2
    ("local", Kind::Site),     // RFC 6762, section 22.1; a habit of older Active Directory domains
    ("internal", Kind::Site),  // ICANN board resolution 2024.07.29.06
    ("home.arpa", Kind::Site), // RFC 8375, section 4
    ("10.in-addr.arpa", Kind::Site),
    ("168.192.in-addr.arpa", Kind::Site),
    ("d.f.ip6.arpa", Kind::Site),
    ("0.in-addr.arpa", Kind::Nowhere),
    ("127.in-addr.arpa", Kind::Nowhere),
    ("254.169.in-addr.arpa", Kind::Nowhere),
    ("2.0.192.in-addr.arpa", Kind::Nowhere),
    ("100.51.198.in-addr.arpa", Kind::Nowhere),
    ("113.0.203.in-addr.arpa", Kind::Nowhere),
    ("255.255.255.255.in-addr.arpa", Kind::Nowhere),
    ("0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", Kind::Nowhere),
    ("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa", Kind::Nowhere),
    ("8.e.f.ip6.arpa", Kind::Nowhere),
    ("9.e.f.ip6.arpa", Kind::Nowhere),
    ("a.e.f.ip6.arpa", Kind::Nowhere),
    ("b.e.f.ip6.arpa", Kind::Nowhere),
    ("8.b.d.0.1.0.0.2.ip6.arpa", Kind::Nowhere),
];

/// All of them, with the two rows of /16 zones that are too long to write down.
pub(super) fn zones() -> impl Iterator<Item = (Name, Kind)> {
    let named = ZONES.iter().map(|&(zone, kind)| (zone.to_owned(), kind));
    let private = (16..=31).map(|second| (format!("{second}.172.in-addr.arpa"), Kind::Site));
    // RFC 7793.
    let shared = (64..=127).map(|second| (format!("{second}.100.in-addr.arpa"), Kind::Site));
    named
        .chain(private)
        .chain(shared)
        .filter_map(|(zone, kind)| Some((Name::vec_from_str(&zone).ok()?, kind)))
}
