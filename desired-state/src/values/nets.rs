//! Addresses, networks and host names.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::reader::{Cx, Value};
use crate::text::Node;

/// Reads a network whose address is its first one, so that nobody believes to have named one host while naming a thousand.
fn network(node: &Node, cx: &mut Cx<'_>, expected: &str) -> Option<IpNet> {
    let text = cx.text(node, expected)?;
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = net else {
        let help = match text.split_once('/') {
            Some((_, mask)) if mask.contains('.') => {
                "write the prefix as a number of bits: /24 for 255.255.255.0"
            }
            _ => "",
        };
        cx.report(node.mark, format!("expected {expected}, found {text:?}"), help);
        return None;
    };
    if let IpNet::V6(v6) = net
        && v6.addr().to_ipv4_mapped().is_some()
    {
        cx.report(node.mark, format!("{net} is an IPv4 address in disguise"), "write it as IPv4");
        return None;
    }
    if net.addr() != net.network() {
        let message = format!("{text} is not a network: bits behind the prefix are set");
        let help = format!(
            "the network is {}; a single host is {}/{}",
            net.trunc(),
            net.addr(),
            net.max_prefix_len()
        );
        cx.report(node.mark, message, help);
        return None;
    }
    Some(net)
}

impl Value for IpNet {
    const EXPECTED: &'static str = "a network such as 10.0.0.0/8 or fd00::/8";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        network(node, cx, Self::EXPECTED)
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" })
    }
}

impl Value for Ipv4Net {
    const EXPECTED: &'static str = "a private IPv4 network such as 10.8.0.0/24";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        match network(node, cx, Self::EXPECTED)? {
            IpNet::V4(net) => Some(net),
            IpNet::V6(net) => {
                cx.report(node.mark, format!("expected {}, found {net}", Self::EXPECTED), "");
                None
            }
        }
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9.]+/[0-9]{1,2}$" })
    }
}

impl Value for Ipv6Net {
    const EXPECTED: &'static str = "a private IPv6 network such as fd00:1234::/64";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        match network(node, cx, Self::EXPECTED)? {
            IpNet::V6(net) => Some(net),
            IpNet::V4(net) => {
                cx.report(node.mark, format!("expected {}, found {net}", Self::EXPECTED), "");
                None
            }
        }
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9A-Fa-f:]+/[0-9]{1,3}$" })
    }
}

impl Value for IpAddr {
    const EXPECTED: &'static str = "an IP address";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, Self::EXPECTED)?;
        let address = text.parse().ok();
        if address.is_none() {
            let help = if text.contains('/') { "an address has no prefix" } else { "" };
            cx.report(node.mark, format!("expected {}, found {text:?}", Self::EXPECTED), help);
        }
        address
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+$" })
    }
}

/// A host name: lower-case labels of letters, digits and hyphens (RFC 1123, section 2.1), without a final dot.
#[derive(Debug)]
pub(crate) struct HostName(pub String);

impl Value for HostName {
    const EXPECTED: &'static str = "a host name";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, Self::EXPECTED)?;
        if is_host_name(text) {
            return Some(Self(text.to_owned()));
        }
        let repaired = text.to_lowercase();
        let repaired = repaired.trim_end_matches('.');
        let help = if is_host_name(repaired) { format!("write {repaired}") } else { String::new() };
        let message = "host names are lower-case labels of letters, digits and inner hyphens, joined by dots";
        cx.report(node.mark, message, help);
        None
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let label = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
        serde_json::json!({ "type": "string", "pattern": format!("^{label}(\\.{label})*$"), "maxLength": 253 })
    }
}

fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label) && text.parse::<IpAddr>().is_err()
}
