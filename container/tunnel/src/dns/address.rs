//! Where names may lead.
//!
//! DNS rebinding: somebody points a public name of his own into a private network. The browser of a user then lets pages
//! under that name talk to the printer, router or metadata service there, with the user's place in the network.

use std::net::{IpAddr, Ipv4Addr};

use super::reply::Reply;

/// Azure's resolver for virtual networks and the host's agent. It knows private zones although its address is public
/// (<https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>).
const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether an address belongs to a private network or to the host itself.
pub(super) fn is_private(address: IpAddr) -> bool {
    match unwrap(address) {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4 == AZURE
                // RFC 6598.
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// Whether no name may lead there, whoever says so: the user's own host and link, and on Azure the metadata service
/// (169.254.169.254) and the host's agent, which trust whoever can reach them.
fn is_never_a_destination(address: IpAddr) -> bool {
    match unwrap(address) {
        // The whole of 0.0.0.0/8 means "this host" to some systems (RFC 1122, section 3.2.1.3).
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4 == AZURE,
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// The IPv4 address that packets to an IPv6 address may end up at.
fn unwrap(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, ..] = v6.segments();
    let bits = v6.to_bits();
    let low = Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or_default());
    match [a, b, c, d, e, f] {
        // Mapped (RFC 4291, section 2.5.5.2) and NAT64's well-known prefix (RFC 6052, section 2.1).
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => low.into(),
        // "Compatible" (RFC 4291, section 2.5.5.1), except :: and ::1.
        [0, 0, 0, 0, 0, 0] if bits > 1 => low.into(),
        // 6to4 (RFC 3056, section 2).
        [0x2002, ..] => Ipv4Addr::from_bits(u32::from(b) << 16 | u32::from(c)).into(),
        _ => address,
    }
}

/// Whether a reply may be passed on. Public addresses always: with few routes, users reach them outside the tunnel. Private
/// ones if users may reach them through the tunnel, or if a resolver of that private network says so.
pub(super) fn allowed(reply: &Reply, from_site: bool, reachable: impl Fn(IpAddr) -> bool) -> bool {
    reply.addresses().iter().all(|&address| {
        !is_never_a_destination(address) && (!is_private(address) || from_site || reachable(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_does_not_hide_in_another_family() {
        for hidden in ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "::7f00:1", "2002:7f00:1::", "::1", "::"] {
            assert!(is_never_a_destination(hidden.parse().unwrap()), "{hidden}");
        }
        for public in ["2606:4700:4700::1111", "64:ff9b::101:101", "1.1.1.1", "2002:101:101::1"] {
            let public = public.parse().unwrap();
            assert!(!is_never_a_destination(public) && !is_private(public), "{public}");
        }
    }

    #[test]
    fn private_ranges_end_where_their_documents_say() {
        for (address, private) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("172.15.255.255", false),
            ("172.31.255.255", true),
            ("192.168.0.1", true),
            ("127.0.0.53", true),
            ("169.253.255.255", false),
            ("169.254.0.1", true),
            ("::1", true),
            ("fe80::1", true),
            ("168.63.129.16", true),
            ("168.63.129.17", false),
            ("fbff::1", false),
            ("fc00::1", true),
            ("fdff::1", true),
            ("fe00::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
