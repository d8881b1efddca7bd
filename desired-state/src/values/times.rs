//! Durations, moments and parts of schedules.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;

use super::parsed;
use crate::duration;
use crate::reader::{Cx, Value};
use crate::schedule::{Days, Hours, Schedule, ScheduleError};
use crate::text::{Kind, Node};

/// A duration within a range; everything else is reported.
fn within(node: &Node, cx: &mut Cx<'_>, expected: &str, range: RangeInclusive<u64>) -> Option<Duration> {
    let text = match &node.kind {
        Kind::Text(text) => text,
        Kind::Integer(number) => {
            let help = format!("give it a unit: {number}s, {number}m or {number}h");
            cx.report(node.mark, format!("expected {expected}, found the number {number}"), help);
            return None;
        }
        _ => {
            cx.expected(node, expected);
            return None;
        }
    };
    let Some(value) = duration::parse(text) else {
        let help = "whole numbers with the units d, h, m and s in this order, such as 90s, 10m, 1h30m or 7d";
        cx.report(node.mark, format!("expected {expected}, found {text:?}"), help);
        return None;
    };
    if range.contains(&value.as_secs()) {
        return Some(value);
    }
    let [least, most] =
        [range.start(), range.end()].map(|seconds| duration::format(Duration::from_secs(*seconds)));
    cx.report(
        node.mark,
        format!("{text} is out of range: expected {expected}"),
        format!("allowed are {least} to {most}"),
    );
    None
}

macro_rules! duration_value {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $range:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $type(pub Duration);

        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
                within(node, cx, Self::EXPECTED, $range).map(Self)
            }

            #[cfg(test)]
            fn schema() -> serde_json::Value {
                // At least one part, each part once, in falling order.
                let pattern = "^[0-9]+(d([0-9]+h)?([0-9]+m)?([0-9]+s)?|h([0-9]+m)?([0-9]+s)?|m([0-9]+s)?|s)$";
                serde_json::json!({ "type": "string", "pattern": pattern })
            }
        }
    };
}

duration_value! {
    /// Below 5 s a client could not answer a lost packet in time; above a day an idle session is a forgotten one.
    IdleTimeout, "a duration such as 10m, from 5s to 24h", 5..=86_400
}
duration_value! {
    /// Up to a year.
    Lifetime, "a duration such as 12h, or none", 5..=31_536_000
}
duration_value! {
    /// The range of `PersistentKeepalive` in `wg(8)`.
    Keepalive, "a duration such as 25s, or none", 1..=65_535
}

impl Value for Timestamp {
    const EXPECTED: &'static str = "a moment such as 2026-12-31T00:00:00Z";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let Kind::Text(text) = &node.kind else {
            // Unlike other text, a number does not become a moment by quotes.
            cx.expected(node, Self::EXPECTED);
            return None;
        };
        let moment = is_rfc3339(text).then(|| text.parse().ok()).flatten();
        if moment.is_none() {
            let repaired = [format!("{text}Z"), format!("{text}T00:00:00Z"), text.replacen(' ', "T", 1)]
                .into_iter()
                .find(|text| is_rfc3339(text) && text.parse::<Self>().is_ok());
            let help = repaired.map(|text| format!("write {text}")).unwrap_or_default();
            cx.report(node.mark, format!("expected {}, found {text:?}", Self::EXPECTED), help);
        }
        moment
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$";
        serde_json::json!({ "type": "string", "pattern": pattern })
    }
}

/// The form of RFC 3339, section 5.6, in capital letters; whether the date exists is for the parser to say.
fn is_rfc3339(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(19) else { return false };
    let shape: String = seconds.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let offset =
        rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset: String = offset.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00" && matches!(offset.as_str(), "Z" | "+00:00" | "-00:00")
}

impl Value for Days {
    const EXPECTED: &'static str = "days such as Mon-Fri";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        parsed(node, cx, Self::EXPECTED, str::parse)
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let day = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)";
        let part = format!(" *{day} *(- *{day} *)?");
        serde_json::json!({ "type": "string", "pattern": format!("^(daily|{part}(,{part})*)$") })
    }
}

impl Value for Hours {
    const EXPECTED: &'static str = "hours such as \"06:00-22:00\"";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        parsed(node, cx, Self::EXPECTED, str::parse)
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        let time = "([01][0-9]|2[0-3]):[0-5][0-9]";
        serde_json::json!({ "type": "string", "pattern": format!("^ *{time} *- *({time}|24:00) *$") })
    }
}

/// The name of a time zone that exists.
#[derive(Debug)]
pub(crate) struct Zone(pub String);

impl Value for Zone {
    const EXPECTED: &'static str = "a time zone such as Europe/Berlin";

    fn read(node: &Node, cx: &mut Cx<'_>) -> Option<Self> {
        let text = cx.text(node, Self::EXPECTED)?;
        match Schedule::new(Days::DAILY, Hours::WHOLE_DAY, text) {
            Ok(_) => Some(Self(text.to_owned())),
            Err(error) => {
                let help = match &error {
                    ScheduleError::Timezone { similar: Some(similar), .. } => {
                        format!("did you mean {similar}?")
                    }
                    _ => String::new(),
                };
                cx.report(node.mark, error.to_string(), help);
                None
            }
        }
    }

    #[cfg(test)]
    fn schema() -> serde_json::Value {
        serde_json::json!({ "type": "string", "pattern": "^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$" })
    }
}
