//! Which networks may be routed, which may lie inside a tunnel, and which collide.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::reader::{At, Cx};
use crate::text::Mark;
use crate::written;

/// Networks that a gateway never forwards to, whatever the routes say, and why.
fn never_forwarded() -> Vec<(IpNet, &'static str)> {
    let v4 = |a, b, c, d, prefix| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix));
    let v6 = |first, last, prefix| {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last), prefix))
    };
    vec![
        (v4(0, 0, 0, 0, 8), "is no destination"),
        (v4(127, 0, 0, 0, 8), "is the gateway itself"),
        (v4(169, 254, 0, 0, 16), "is link-local, where clouds keep their metadata services"),
        (v4(168, 63, 129, 16, 32), "is Azure's wire server, which only the platform may use"),
        (v4(224, 0, 0, 0, 4), "is multicast, which WireGuard sessions do not carry"),
        (v4(240, 0, 0, 0, 4), "is reserved"),
        (v6(0, 0, 128), "is no destination"),
        (v6(0, 1, 128), "is the gateway itself"),
        (v6(0xfe80, 0, 10), "is link-local"),
        (v6(0xff00, 0, 8), "is multicast, which WireGuard sessions do not carry"),
        (IpNet::V6(ebb_wire::control_network()), "is where Ebb speaks with its gateways"),
    ]
}

/// Reports a route that a gateway would never follow.
pub(super) fn check_route(route: IpNet, mark: Mark, cx: &mut Cx<'_>) {
    // Wider routes stay useful although a part of them is refused.
    if let Some((net, why)) = never_forwarded().into_iter().find(|(net, _)| net.contains(&route)) {
        let whole = if net == route { String::new() } else { format!("; it lies in {net}") };
        cx.report(
            mark,
            format!("nothing is ever forwarded to {route}: it {why}{whole}"),
            "remove this route",
        );
    }
}

/// Reports networks that cannot lie inside a tunnel.
pub(super) fn check_addresses(addresses: &written::Addresses, cx: &mut Cx<'_>) {
    if let Some(At { value: net, mark }) = addresses.ipv4 {
        cx.field("ipv4", |cx| check_ipv4(net, mark, cx));
    }
    if let Some(At { value: net, mark }) = addresses.ipv6 {
        cx.field("ipv6", |cx| check_ipv6(net, mark, cx));
    }
}

fn check_ipv4(net: Ipv4Net, mark: Mark, cx: &mut Cx<'_>) {
    let private: [(Ipv4Addr, u8); 4] = [
        (Ipv4Addr::new(10, 0, 0, 0), 8),
        (Ipv4Addr::new(172, 16, 0, 0), 12),
        (Ipv4Addr::new(192, 168, 0, 0), 16),
        (Ipv4Addr::new(100, 64, 0, 0), 10),
    ];
    if !private.iter().any(|(address, prefix)| Ipv4Net::new_assert(*address, *prefix).contains(&net)) {
        let message = format!("{net} is not private, so hosts of other people could not be reached");
        let help =
            "use a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918) or 100.64.0.0/10 (RFC 6598)";
        cx.report(mark, message, help);
    } else if !(16..=30).contains(&net.prefix_len()) {
        let message = format!("the prefix of {net} is out of range: expected /16 to /30");
        cx.report(mark, message, "a /24 holds 253 users");
    }
}

fn check_ipv6(net: Ipv6Net, mark: Mark, cx: &mut Cx<'_>) {
    let private = Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7);
    let control = ebb_wire::control_network();
    if !private.contains(&net) {
        let message = format!("{net} is not private, so hosts of other people could not be reached");
        cx.report(mark, message, "use a part of fd00::/8 (RFC 4193)");
    } else if !(48..=120).contains(&net.prefix_len()) {
        cx.report(
            mark,
            format!("the prefix of {net} is out of range: expected /48 to /120"),
            "a /64 is customary",
        );
    } else if net.contains(&control) || control.contains(&net) {
        let message = format!("{net} overlaps {control}, where Ebb speaks with its gateways");
        cx.report(mark, message, "use any other part of fd00::/8");
    }
}

/// Users that both networks can hold: all addresses but the network's own, the gateway's, and IPv4's broadcast address.
pub(super) fn capacity(ipv4: Ipv4Net, ipv6: Ipv6Net) -> (usize, IpNet) {
    let hosts = |bits: u8, taken: usize| {
        1_usize.checked_shl(u32::from(bits)).map_or(usize::MAX, |all| all.saturating_sub(taken))
    };
    let (v4, v6) = (hosts(32 - ipv4.prefix_len(), 3), hosts(128 - ipv6.prefix_len(), 2));
    if v4 <= v6 { (v4, ipv4.into()) } else { (v6, ipv6.into()) }
}

/// Whether a route takes traffic away that belongs into the tunnel. The whole Internet and its halves do not count: clients
/// know the tunnel's own network as the more specific one. Halves are written where `/0` would lock other traffic out.
pub(super) fn collides(route: IpNet, own: IpNet) -> bool {
    route.prefix_len() > 1 && (route.contains(&own) || own.contains(&route))
}

/// An IPv4 network for inside the tunnel that collides with none of the routes.
pub(super) fn free_ipv4(routes: &[IpNet]) -> Option<Ipv4Net> {
    [[10, 8, 0, 0], [172, 22, 8, 0], [192, 168, 208, 0], [100, 96, 8, 0]]
        .map(|octets| Ipv4Net::new_assert(octets.into(), 24))
        .into_iter()
        .find(|net| !routes.iter().any(|route| collides(*route, (*net).into())))
}
