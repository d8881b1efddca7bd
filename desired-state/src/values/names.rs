//! Names, keys, hashes and other texts.

use ebb_wire::PublicKey;

use super::parsed;
use crate::reader::{Cx, Value};
use crate::similar::closest;
use crate::text::{Kind, Node};
use crate::{ApiKeyHash, DeploymentName, Drift, NameError, SessionName, Signal, UserName};

macro_rules! name_value {
    ($type:ident, $expected:literal) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                let text = cx.text(node, Self::EXPECTED)?;
                text.parse().map_err(|error| report_name::<Self>(node, cx, text, &error)).ok()
            }

            #[cfg(test)]
            fn schema() -> serde_json::Value {
                serde_json::json!({ "type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "maxLength": Self::MAX })
            }
        }
    };
}

name_value!(DeploymentName, "the name of a deployment");
name_value!(UserName, "the name of a user");
name_value!(SessionName, "the name of a session");

fn report_name<T: std::str::FromStr>(node: &Node, cx: &mut Cx<'_>, text: &str, error: &NameError) {
    // Letters with marks have no plain form that everybody agrees on.
    let words: Vec<String> = if text.is_ascii() { text } else { "" }
        .to_lowercase()
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let repaired = words.join("-");
    let help = if repaired.parse::<T>().is_ok() {
        format!("`{repaired}` would do")
    } else {
        "choose another name".to_owned()
    };
    cx.report(node.mark, error.to_string(), help);
}

impl Value for PublicKey {
    const EXPECTED: &'static str = "a WireGuard public key";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, Self::EXPECTED)?;
        // What is no public key may be something that nobody should see.
        text.parse()
            .map_err(|error: ebb_wire::KeyError| cx.report_masked(node.mark, error.to_string(), ""))
            .ok()
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$" })
    }
}

impl Value for ApiKeyHash {
    const EXPECTED: &'static str = "the SHA-256 hash of an API key";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = match &node.kind {
            Kind::Text(text) => text,
            _ => {
                cx.report_masked(node.mark, format!("expected {}, found {}", Self::EXPECTED, kind(node)), "");
                return None;
            }
        };
        text.parse()
            .map_err(|error: crate::HashError| cx.report_masked(node.mark, error.to_string(), ""))
            .ok()
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[0-9A-Fa-f]{64}$" })
    }
}

/// What a node is, without its value.
fn kind(node: &Node) -> &'static str {
    match node.kind {
        Kind::Null => "nothing",
        Kind::Bool(_) => "a truth value",
        Kind::Integer(_) | Kind::Float(_) => "a number",
        Kind::Text(_) => "text",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map",
    }
}

/// A region of the provider.
#[derive(Debug, Clone)]
pub(crate) struct Region(pub String);

impl Value for Region {
    const EXPECTED: &'static str = "a region such as eastus2, or local";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, Self::EXPECTED)?;
        let fits = |text: &str| {
            (1..=30).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if fits(text) {
            return Some(Self(text.to_owned()));
        }
        let short = text.to_lowercase().replace(' ', "");
        let help = if fits(&short) { format!("write `{short}`") } else { String::new() };
        cx.report(
            node.mark,
            "a region is written in its short form: lower-case letters, digits and hyphens",
            help,
        );
        None
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[a-z0-9-]{1,30}$" })
    }
}

/// A subscription of Azure.
#[derive(Debug, Clone)]
pub(crate) struct SubscriptionId(pub String);

impl Value for SubscriptionId {
    const EXPECTED: &'static str = "the id of a subscription";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, Self::EXPECTED)?;
        let groups: Vec<&str> = text.split('-').collect();
        let fits = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
            && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()));
        if fits {
            // Azure prints it in either case.
            return Some(Self(text.to_ascii_lowercase()));
        }
        let help = "it has the form 00000000-0000-0000-0000-000000000000; `az account list -o table` prints those you have";
        cx.report(node.mark, "this is not the id of a subscription", help);
        None
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";
        serde_json::json!({ "type": "string", "pattern": pattern })
    }
}

/// A resource group of Azure. Microsoft.Resources/resourceGroups: 1 to 90 characters, no period at the end ("Naming rules and
/// restrictions for Azure resources"); of the letters Azure allows, those of ASCII.
#[derive(Debug, Clone)]
pub(crate) struct ResourceGroup(pub String);

impl Value for ResourceGroup {
    const EXPECTED: &'static str = "the name of a resource group";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        parsed(node, cx, Self::EXPECTED, |text| {
            let fits = (1..=90).contains(&text.len())
                && !text.ends_with('.')
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.()".contains(&b));
            if fits {
                Ok(Self(text.to_owned()))
            } else {
                Err(
                    "the name of a resource group has 1 to 90 letters, digits, `-`, `_`, `.`, `(` or `)`, and no `.` at the end",
                )
            }
        })
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[-A-Za-z0-9_.()]{0,89}[-A-Za-z0-9_()]$" })
    }
}

/// Why something is suspended.
#[derive(Debug)]
pub(crate) struct Reason(pub String);

impl Value for Reason {
    const EXPECTED: &'static str = "a reason in a few words";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        parsed(node, cx, Self::EXPECTED, |text| {
            let text = text.trim();
            let fits = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            if fits { Ok(Self(text.to_owned())) } else { Err("a reason has 1 to 200 characters in one line") }
        })
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "minLength": 1, "maxLength": 200 })
    }
}

/// A value whose change wakes a session. A plain number is taken as text, because people count.
#[derive(Debug)]
pub(crate) struct Wake(pub String);

impl Value for Wake {
    const EXPECTED: &'static str = "any short text, such as a date";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        if let Kind::Integer(number) = node.kind {
            return Some(Self(number.to_string()));
        }
        parsed(node, cx, Self::EXPECTED, |text| {
            let fits = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            if fits {
                Ok(Self(text.to_owned()))
            } else {
                Err("a wake value has 1 to 64 characters in one line")
            }
        })
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "type": "string", "minLength": 1, "maxLength": 64 }, { "type": "integer" }] })
    }
}

macro_rules! arm_id {
    ($(#[$doc:meta])* $type:ident, $expected:literal, [$($segment:literal),*]) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $type(pub String);

        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                let text = cx.text(node, Self::EXPECTED)?;
                if is_arm_id(text, &[$($segment),*]) {
                    return Some(Self(text.to_owned()));
                }
                let form: Vec<&str> = vec![$($segment),*];
                let help = format!("it has the form /{}; `az … show --query id` prints it", form.join("/"));
                cx.report(node.mark, concat!("this is not ", $expected), help);
                None
            }

            #[cfg(test)]
            fn schema() -> serde_json::Value {
                // Names of segments are compared without regard to case, which patterns cannot say briefly.
                let segments = [$($segment),*].len();
                serde_json::json!({ "type": "string", "pattern": format!("^(/[^/\\s]+){{{segments}}}$") })
            }
        }
    };
}

arm_id! {
    /// A subnet.
    SubnetId, "the ARM id of a subnet",
    ["subscriptions", "*", "resourceGroups", "*", "providers", "Microsoft.Network", "virtualNetworks", "*", "subnets", "*"]
}

arm_id! {
    /// A load balancer.
    LoadBalancerId, "the ARM id of a load balancer",
    ["subscriptions", "*", "resourceGroups", "*", "providers", "Microsoft.Network", "loadBalancers", "*"]
}

/// ARM compares ids without regard to case, and prints them in more than one.
fn is_arm_id(text: &str, form: &[&str]) -> bool {
    let Some(rest) = text.strip_prefix('/') else { return false };
    let segments: Vec<&str> = rest.split('/').collect();
    // A byte order mark is white space to the patterns of JSON Schema, so an editor would object to it.
    let stray = |c: char| c.is_control() || c.is_whitespace() || c == '\u{feff}';
    let clean = |segment: &str| !segment.is_empty() && !segment.contains(stray);
    segments.len() == form.len()
        && segments.iter().zip(form).all(|(segment, form)| {
            if *form == "*" { clean(segment) } else { segment.eq_ignore_ascii_case(form) }
        })
}

/// Reads one of a few words.
pub(super) fn word<T: Copy>(node: &Node, cx: &mut Cx<'_>, expected: &str, words: &[(&str, T)]) -> Option<T> {
    let text = cx.text(node, expected)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let help =
        closest(text, words.iter().map(|(word, _)| *word)).map(|word| format!("did you mean `{word}`?"));
    cx.report(node.mark, format!("expected {expected}, found {text:?}"), help.unwrap_or_default());
    None
}

macro_rules! word_value {
    ($type:ident, $expected:literal, $($word:literal => $value:expr),*) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                word(node, cx, Self::EXPECTED, &[$(($word, $value)),*])
            }

            #[cfg(test)]
            fn schema() -> serde_json::Value {
                serde_json::json!({ "enum": [$($word),*] })
            }
        }
    };
}

word_value!(Signal, "`traffic` or `handshake`", "traffic" => Signal::Traffic, "handshake" => Signal::Handshake);
word_value!(
    Drift, "`correct`, `warn` or `ignore`",
    "correct" => Drift::Correct, "warn" => Drift::Warn, "ignore" => Drift::Ignore
);

/// How a gateway is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Public,
    Vnet,
}

word_value!(Mode, "`public` or `vnet`", "public" => Mode::Public, "vnet" => Mode::Vnet);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_id_has_its_segments_in_any_case_and_no_stray_character() {
        let form = ["subscriptions", "*"];
        for good in ["/subscriptions/a", "/SUBSCRIPTIONS/ü"] {
            assert!(is_arm_id(good, &form), "{good}");
        }
        for bad in [
            "",
            "/subscriptions",
            "/subscriptions/",
            "/subscriptions/a b",
            "/subscriptions/\u{feff}a",
            "/other/a",
        ] {
            assert!(!is_arm_id(bad, &form), "{bad:?}");
        }
    }
}
