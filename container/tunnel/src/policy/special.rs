//! Addresses with a special meaning: the registries of RFC 6890 (IANA IPv4 and IPv6 Special-Purpose Address Registries), and
//! the IPv6 forms of IPv4 addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Refusal;

/// What kind of address it is, before any route is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Refused whatever the routes say.
    Never(Refusal),
    /// Refused unless a route names this range.
    Special(IpNet),
    /// Like any host on the Internet.
    Public,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// Never a destination for users.
const NEVER_V4: [(Ipv4Net, Refusal); 6] = [
    // "This network" (RFC 791, section 3.2). Linux takes 0.0.0.0 for this host.
    (v4(0, 0, 0, 0, 8), Refusal::NotAHost),
    // Loopback (RFC 1122, section 3.2.1.3).
    (v4(127, 0, 0, 0, 8), Refusal::Loopback),
    // Link-local (RFC 3927); 169.254.169.254 is the metadata service of every large cloud.
    (v4(169, 254, 0, 0, 16), Refusal::LinkLocal),
    // Azure's wire server, DNS and health probe ("What is IP address 168.63.129.16?", Azure Virtual Network documentation).
    (v4(168, 63, 129, 16, 32), Refusal::CloudService),
    // Multicast (RFC 5771).
    (v4(224, 0, 0, 0, 4), Refusal::NotAHost),
    // Limited broadcast (RFC 8190).
    (v4(255, 255, 255, 255, 32), Refusal::NotAHost),
];

/// Reachable only when a route names them.
const SPECIAL_V4: [Ipv4Net; 12] = [
    // Private use (RFC 1918).
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    // Shared address space (RFC 6598): carriers, and Azure's and others' internal networks.
    v4(100, 64, 0, 0, 10),
    // IETF protocol assignments (RFC 6890, section 2.1).
    v4(192, 0, 0, 0, 24),
    // Documentation (RFC 5737).
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Deprecated 6to4 relay anycast (RFC 7526).
    v4(192, 88, 99, 0, 24),
    // AS112 service (RFC 7535), meant to stay inside the network that asks.
    v4(192, 31, 196, 0, 24),
    // Benchmarking (RFC 2544).
    v4(198, 18, 0, 0, 15),
    // Reserved (RFC 1112, section 4).
    v4(240, 0, 0, 0, 4),
];

const NEVER_V6: [(Ipv6Net, Refusal); 6] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Refusal::NotAHost),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Refusal::Loopback),
    // IPv4-compatible (RFC 4291, section 2.5.5.1: deprecated) and IPv4-mapped (section 2.5.5.2: an address inside hosts).
    // Given to a socket, the latter would reach the IPv4 address past every IPv4 rule.
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), Refusal::NotAHost),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), Refusal::NotAHost),
    // Link-local (RFC 4291, section 2.5.6).
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Refusal::LinkLocal),
    // Multicast (RFC 4291, section 2.7).
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Refusal::NotAHost),
];

const SPECIAL_V6: [Ipv6Net; 12] = [
    // Unique local (RFC 4193).
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    // Site-local, deprecated but still private (RFC 3879).
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    // Discard-only (RFC 6666).
    v6([0x0100, 0, 0, 0, 0, 0, 0, 0], 64),
    // Local-use translation between IPv4 and IPv6 (RFC 8215): a private network's way to its IPv4 hosts.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    // IPv4-translated (RFC 2765; obsolete, but routable inside a site).
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    // IETF protocol assignments (RFC 2928) without Teredo, which is 2001::/32 and judged by what it embeds. In order:
    // benchmarking (RFC 5180), ORCHID (RFC 4843), ORCHIDv2 (RFC 7343), drone remote ID (RFC 9374).
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28),
    // Documentation (RFC 3849, RFC 9637).
    v6([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    // Segment routing identifiers (RFC 9602).
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
];

pub(super) fn classify_v4(address: Ipv4Addr) -> Class {
    if let Some((_, refusal)) = NEVER_V4.iter().find(|(range, _)| range.contains(&address)) {
        return Class::Never(*refusal);
    }
    match SPECIAL_V4.iter().find(|range| range.contains(&address)) {
        Some(range) => Class::Special(IpNet::V4(*range)),
        None => Class::Public,
    }
}

/// The class, and the IPv4 addresses that packets to it could end up at.
pub(super) fn classify_v6(address: Ipv6Addr) -> (Class, [Option<Ipv4Addr>; 2]) {
    let embedded = embedded(address);
    if let Some((_, refusal)) = NEVER_V6.iter().find(|(range, _)| range.contains(&address)) {
        return (Class::Never(*refusal), embedded);
    }
    match SPECIAL_V6.iter().find(|range| range.contains(&address)) {
        Some(range) => (Class::Special(IpNet::V6(*range)), embedded),
        None => (Class::Public, embedded),
    }
}

fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
    const NAT64_LOCAL: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
    const TRANSLATED: Ipv6Net = v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96);
    const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
    const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    if NAT64.contains(&address) || TRANSLATED.contains(&address) || NAT64_LOCAL.contains(&address) {
        // RFC 6052, section 2.2. The local prefix may be used with other lengths; the last 32 bits are the likely ones,
        // and the range as a whole needs a route anyway.
        return [Some(low), None];
    }
    if SIX_TO_FOUR.contains(&address) {
        // RFC 3056, section 2: bits 16 to 47 are the router's IPv4 address.
        return [Some(Ipv4Addr::from_bits((bits >> 80) as u32)), None];
    }
    if TEREDO.contains(&address) {
        // RFC 4380, section 4: the server in bits 32 to 63, the client inverted in the last 32.
        return [Some(Ipv4Addr::from_bits((bits >> 64) as u32)), Some(Ipv4Addr::from_bits(!(bits as u32)))];
    }
    // ISATAP (RFC 5214, section 6.1): interface identifier 0000:5efe or 0200:5efe before the IPv4 address.
    if matches!((bits >> 32) as u32, 0x0000_5efe | 0x0200_5efe) {
        return [Some(low), None];
    }
    [None, None]
}
