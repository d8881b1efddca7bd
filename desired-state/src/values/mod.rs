//! What settings can hold.

mod amounts;
mod names;
mod nets;
mod times;

pub use amounts::reserved_by_aci;
pub(crate) use amounts::{Count, Cpu, EndMarker, Memory, Port, VersionNumber};
pub(crate) use names::{LoadBalancerId, Mode, Reason, Region, ResourceGroup, SubnetId, SubscriptionId, Wake};
pub(crate) use nets::HostName;
pub(crate) use times::{IdleTimeout, Keepalive, Lifetime, Zone};

use std::marker::PhantomData;

use crate::reader::{At, Cx, Value};
use crate::text::{Kind, Node};

/// A list of `MIN` to `MAX` items, each with its index: one that cannot be read is missing here.
#[derive(Debug)]
pub(crate) struct List<T, const MIN: usize, const MAX: usize>(pub Vec<(usize, At<T>)>);

impl<T: Value, const MIN: usize, const MAX: usize> Value for List<T, MIN, MAX> {
    const EXPECTED: &'static str = "a list";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::List(nodes) = &node.kind else {
            let message = format!("expected a list, found {}", node.kind);
            let help = match (&node.kind, MIN) {
                (Kind::Null, 0) => "write `[]` when there are none on purpose".to_owned(),
                (Kind::Null, _) => "put one item per line behind it, each after `- `".to_owned(),
                (Kind::Text(text), _) if text.len() <= 40 => format!("write [{}]", text.escape_debug()),
                _ => String::new(),
            };
            cx.report(node.mark, message, help);
            return None;
        };
        if nodes.len() < MIN {
            cx.report(node.mark, "this list must not be empty", "");
        } else if nodes.len() > MAX {
            cx.report(
                node.mark,
                format!("this list has {} items; at most {MAX} are allowed", nodes.len()),
                "",
            );
        }
        // Whoever has a million too many needs no word about each, and no memory for it.
        Some(Self(items(&nodes[..nodes.len().min(MAX)], cx)))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let mut schema = serde_json::json!({ "type": "array", "items": T::schema(), "maxItems": MAX });
        if MIN > 0 {
            schema["minItems"] = MIN.into();
        }
        schema
    }
}

fn items<T: Value>(nodes: &[Node], cx: &mut Cx<'_>) -> Vec<(usize, At<T>)> {
    let item = |(index, node)| Some((index, cx.index(index, |cx| At::read(node, cx))?));
    nodes.iter().enumerate().filter_map(item).collect()
}

/// One item, or a list of at most 16.
#[derive(Debug)]
pub(crate) struct OneOrMore<T>(pub Vec<T>);

impl<T> OneOrMore<T> {
    const MAX: usize = 16;
}

impl<T: Value> Value for OneOrMore<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::List(nodes) = &node.kind else { return T::read(node, cx).map(|value| Self(vec![value])) };
        if nodes.is_empty() || nodes.len() > Self::MAX {
            cx.report(node.mark, format!("this list must have 1 to {} items", Self::MAX), "");
        }
        Some(Self(items(nodes, cx).into_iter().map(|(_, At { value, .. })| value).collect()))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let list = serde_json::json!({ "type": "array", "items": T::schema(), "minItems": 1, "maxItems": Self::MAX });
        serde_json::json!({ "anyOf": [T::schema(), list] })
    }
}

/// A map with free keys, at most 100 of them.
#[derive(Debug)]
pub(crate) struct Map<K, V>(pub Vec<(At<K>, V)>);

impl<K, V> Map<K, V> {
    const MAX: usize = 100;
}

impl<K: Value, V: Value> Value for Map<K, V> {
    const EXPECTED: &'static str = "a map";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Map(nodes) = &node.kind else {
            cx.expected(node, Self::EXPECTED);
            return None;
        };
        if nodes.len() > Self::MAX {
            cx.report(
                node.mark,
                format!("this map has {} entries; at most {} are allowed", nodes.len(), Self::MAX),
                "",
            );
            return None;
        }
        let mut seen: Vec<(&str, &Node)> = Vec::with_capacity(nodes.len());
        let mut entries = Vec::with_capacity(nodes.len());
        for (key, value) in nodes {
            let Some(name) = cx.text(key, K::EXPECTED) else { continue };
            if let Some((_, first)) = seen.iter().find(|(known, _)| *known == name) {
                crate::reader::duplicate(cx, name, key.mark, first.mark);
            }
            seen.push((name, key));
            cx.field(name, |cx| {
                let (key, value) = (At::read(key, cx), V::read(value, cx));
                entries.extend(key.zip(value));
            });
        }
        Some(Self(entries))
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({
            "type": "object",
            "propertyNames": K::schema(),
            "additionalProperties": V::schema(),
            "maxProperties": Self::MAX,
        })
    }
}

/// A word that stands for the absence of a value, so that a session can undo a default.
pub(crate) trait Word {
    /// The word.
    const WORD: &'static str;
}

/// `none`.
#[derive(Debug)]
pub(crate) enum NoneWord {}

impl Word for NoneWord {
    const WORD: &'static str = "none";
}

/// `always`.
#[derive(Debug)]
pub(crate) enum AlwaysWord {}

impl Word for AlwaysWord {
    const WORD: &'static str = "always";
}

/// A value, or the word for its absence.
#[derive(Debug)]
pub(crate) struct Or<W, T> {
    pub value: Option<T>,
    word: PhantomData<W>,
}

impl<W: Word, T: Value> Value for Or<W, T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Text(text) if text == W::WORD => Some(Self { value: None, word: PhantomData }),
            _ => T::read(node, cx).map(|value| Self { value: Some(value), word: PhantomData }),
        }
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "anyOf": [{ "const": W::WORD }, T::schema()] })
    }
}

/// Reads text by a function that explains what is wrong with it.
fn parsed<T, E: std::fmt::Display>(
    node: &Node,
    cx: &mut Cx<'_>,
    expected: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let text = cx.text(node, expected)?;
    parse(text).map_err(|error| cx.report(node.mark, error.to_string(), "")).ok()
}
