//! Numbers.

use std::ops::RangeInclusive;

use crate::reader::{Cx, Value};
use crate::text::{Kind, Node};
use crate::{Quantity, Session, VERSION};

/// A whole number within a range; everything else is reported.
fn integer(node: &Node, cx: &mut Cx<'_>, expected: &str, range: RangeInclusive<u32>) -> Option<u32> {
    let value = match &node.kind {
        Kind::Integer(value) => u32::try_from(*value).ok().filter(|value| range.contains(value)),
        Kind::Text(text) if text.parse::<u32>().is_ok_and(|value| range.contains(&value)) => {
            cx.report(node.mark, format!("expected {expected}, found text"), "remove the quotes");
            return None;
        }
        _ => {
            cx.report(node.mark, format!("expected {expected}, found {}", node.kind), "");
            return None;
        }
    };
    if value.is_none() {
        cx.report(node.mark, format!("{} is out of range: expected {expected}", node.kind), "");
    }
    value
}

/// The version of the format.
#[derive(Debug)]
pub(crate) struct VersionNumber(pub u32);

impl Value for VersionNumber {
    const EXPECTED: &'static str = "the version of the format, 1";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        match node.kind {
            Kind::Integer(value) if value == i64::from(VERSION) => Some(Self(VERSION)),
            Kind::Integer(value) => {
                let message =
                    format!("version {value} of the format is unknown; this program reads version {VERSION}");
                let help = if value > i64::from(VERSION) { "use a newer release of Ebb" } else { "" };
                cx.report(node.mark, message, help);
                None
            }
            _ => {
                cx.report(
                    node.mark,
                    format!("expected {}, found {}", Self::EXPECTED, node.kind),
                    "write `version: 1`",
                );
                None
            }
        }
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "const": VERSION })
    }
}

/// Whether the document must end with `...`.
#[derive(Debug)]
pub(crate) struct EndMarker(pub bool);

impl Value for EndMarker {
    const EXPECTED: &'static str = "`true` or `false`";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if let Kind::Bool(value) = node.kind {
            return Some(Self(value));
        }
        cx.report(node.mark, format!("expected {}, found {}", Self::EXPECTED, node.kind), "");
        None
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "boolean" })
    }
}

/// A limit of something.
#[derive(Debug)]
pub(crate) struct Count(pub u32);

impl Count {
    const MAX: u32 = 10_000;
}

impl Value for Count {
    const EXPECTED: &'static str = "a whole number from 0 to 10000";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        integer(node, cx, Self::EXPECTED, 0..=Self::MAX).map(Self)
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "integer", "minimum": 0, "maximum": Self::MAX })
    }
}

/// The UDP port of a gateway.
#[derive(Debug)]
pub(crate) struct Port(pub u16);

/// Ports that ACI reserves, from its list of frequently asked questions (container-instances-faq, 2025-11-17). 22, the only
/// other one, lies below the range of allowed ports.
const RESERVED: [RangeInclusive<u16>; 9] = [
    1025..=1027,
    3389..=3399,
    9999..=9999,
    19000..=19000,
    19080..=19080,
    19100..=19100,
    19390..=19390,
    20000..=30000,
    49152..=65534,
];

/// The range of ports around `port` that Azure Container Instances reserves, if it lies in one.
#[must_use]
pub fn reserved_by_aci(port: u16) -> Option<RangeInclusive<u16>> {
    RESERVED.into_iter().find(|range| range.contains(&port))
}

/// The one port below 1024: networks that let nothing else out often let QUIC out, which uses it.
const QUIC: u16 = 443;

/// WireGuard's customary port.
const WIREGUARD: u16 = 51820;

impl Value for Port {
    const EXPECTED: &'static str = "a UDP port, 443 or 1024 to 65535";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let port = u16::try_from(integer(node, cx, Self::EXPECTED, 1..=65535)?).ok()?;
        let default = Session::DEFAULT_PORT;
        if port < 1024 && port != QUIC {
            let message = format!("port {port} is below 1024, and a gateway runs without privileges");
            cx.report(
                node.mark,
                message,
                format!("use {default}, or 443 for networks that let little else out"),
            );
            return None;
        }
        if let Some(range) = reserved_by_aci(port) {
            let (first, last) = (range.start(), range.end());
            let message = match (port, first == last) {
                (WIREGUARD, _) => format!(
                    "port {WIREGUARD}, WireGuard's customary one, lies in {first}-{last}, which Azure Container Instances \
                     reserves"
                ),
                (_, true) => format!("port {port} is reserved by Azure Container Instances"),
                (_, false) => {
                    format!("port {port} lies in {first}-{last}, which Azure Container Instances reserves")
                }
            };
            cx.report(node.mark, message, format!("remove the line to get the default, {default}"));
            return None;
        }
        Some(Self(port))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let reserved: Vec<_> = RESERVED
            .iter()
            .map(|range| serde_json::json!({ "minimum": range.start(), "maximum": range.end() }))
            .chain([serde_json::json!({ "minimum": QUIC + 1, "maximum": 1023 })])
            .collect();
        serde_json::json!({ "type": "integer", "minimum": QUIC, "maximum": 65535, "not": { "anyOf": reserved } })
    }
}

/// A decimal number within a range, in steps.
fn decimal(
    node: &Node,
    cx: &mut Cx<'_>,
    expected: &str,
    range: RangeInclusive<u32>,
    step: u32,
) -> Option<Quantity> {
    let text = match node.kind {
        Kind::Integer(value) => value.to_string(),
        Kind::Float(value) => value.to_string(),
        _ => {
            cx.report(node.mark, format!("expected {expected}, found {}", node.kind), "");
            return None;
        }
    };
    let quantity = text.parse::<Quantity>().ok();
    let fits = quantity
        .filter(|quantity| range.contains(&quantity.milli()) && quantity.milli().is_multiple_of(step));
    if fits.is_none() {
        cx.report(node.mark, format!("expected {expected}, found {text}"), "");
    }
    fits
}

macro_rules! quantity_value {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $range:expr, $step:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $type(pub Quantity);

        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                decimal(node, cx, Self::EXPECTED, $range, $step).map(Self)
            }

            #[cfg(test)]
            fn schema() -> serde_json::Value {
                let [least, most] = [$range.start(), $range.end()].map(|milli| Quantity::from_milli(*milli));
                serde_json::json!({ "type": "number", "minimum": least, "maximum": most })
            }
        }
    };
}

// Upper ends: the largest Standard container group (container-instances-resource-and-quota-limits, 2025-11-17). Lower ends:
// the smallest that is known to run. The least documented size is 1 and 1.
quantity_value! {
    /// Virtual processors.
    Cpu, "0.5 to 31 processors in steps of 0.01", 500..=31_000, 10
}
quantity_value! {
    /// GiB of memory.
    Memory, "0.5 to 240 GiB in steps of 0.1", 500..=240_000, 100
}
