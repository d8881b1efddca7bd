//! From what is written to what is meant: checks between settings, then defaults.

mod nets;
mod sessions;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use crate::reader::{At, Cx};
use crate::text::{Mark, ends_with_marker};
use crate::values::{EndMarker, List};
use crate::{Document, Limits, Suspension, User, UserName, written};

/// Checks everything that one setting alone cannot tell, and fills in the defaults. `None` when anything was reported, by this
/// function or before.
pub(crate) fn resolve(document: written::Document, text: &str, cx: &mut Cx<'_>) -> Option<Document> {
    let written::Document {
        version,
        deployment,
        end_marker,
        limits,
        suspended,
        drift,
        defaults,
        users,
        sessions,
    } = document;
    if let Some(At { value: EndMarker(true), mark }) = end_marker {
        let lists = [users.as_ref().map(|at| at.mark), sessions.as_ref().map(|at| at.mark)];
        cx.field("endMarker", |cx| {
            if !ends_with_marker(text) {
                let message = "the document does not end with the line `...`, as it promises here";
                cx.report_truncated(mark, message, "the end is missing; if nothing else is, add the line");
            }
            if lists.into_iter().flatten().any(|list| list < mark) {
                let message =
                    "this promise stands behind a list, so a cut through the list would take it away";
                cx.report(mark, message, "move `endMarker` above `users` and `sessions`");
            }
        });
    }
    let written::Defaults { persistent_keepalive, settings } =
        defaults.map_or_else(empty_defaults, |at| at.value);
    // With a list that cannot be read, every name in it would be reported as unknown.
    let readable = users.is_some();
    let users = users.map_or_else(Vec::new, |at| at.value.0);
    cx.field("users", |cx| check_users(&users, cx));
    let names: BTreeSet<&UserName> =
        users.iter().filter_map(|(_, user)| user.value.name.as_ref()).map(|name| &name.value).collect();
    cx.field("defaults", |cx| settings::check(&settings, cx));
    let sessions = sessions.map_or_else(Vec::new, |at| at.value.0);
    sessions::check(&sessions, &settings, readable.then_some(&names), cx);

    if !cx.is_clean() {
        return None;
    }
    let keepalive = persistent_keepalive.and_then(|at| at.value.value).map(|keepalive| keepalive.0);
    Some(Document {
        version: version?.value.0,
        deployment: deployment?.value,
        limits: limits.map_or_else(Limits::default, |at| resolve_limits(&at.value)),
        suspended: match suspended {
            Some(at) => Some(suspension(at.value)?),
            None => None,
        },
        drift: drift.map(|at| at.value).unwrap_or_default(),
        users: users.into_iter().map(|(_, at)| user(at.value, keepalive)).collect::<Option<_>>()?,
        sessions: sessions
            .into_iter()
            .map(|(_, at)| sessions::session(at.value, &settings))
            .collect::<Option<_>>()?,
    })
}

fn empty_defaults() -> written::Defaults {
    written::Defaults { persistent_keepalive: None, settings: settings::none() }
}

fn resolve_limits(limits: &written::Limits) -> Limits {
    let default = Limits::default();
    let count = |written: &Option<At<crate::values::Count>>, default| {
        written.as_ref().map_or(default, |at| at.value.0)
    };
    Limits {
        active_users: count(&limits.active_users, default.active_users),
        active_sessions: count(&limits.active_sessions, default.active_sessions),
        max_teardowns_per_pass: count(&limits.max_teardowns_per_pass, default.max_teardowns_per_pass),
    }
}

fn suspension(written: written::Suspension) -> Option<Suspension> {
    Some(Suspension { reason: written.reason?.value.0, until: written.until?.value })
}

fn user(written: written::User, default_keepalive: Option<std::time::Duration>) -> Option<User> {
    let persistent_keepalive = match written.persistent_keepalive {
        Some(own) => own.value.value.map(|keepalive| keepalive.0),
        None => default_keepalive,
    };
    Some(User {
        name: written.name?.value,
        public_key: written.public_key.map(|at| at.value),
        api_key_sha256: written.api_key_sha256.map(|at| at.value),
        source_ips: written.source_ips.map_or_else(Vec::new, |at| values(at.value)),
        until: written.until.map(|at| at.value),
        persistent_keepalive,
    })
}

fn values<T, const MIN: usize, const MAX: usize>(list: List<T, MIN, MAX>) -> Vec<T> {
    list.0.into_iter().map(|(_, at)| at.value).collect()
}

fn check_users(users: &[(usize, At<written::User>)], cx: &mut Cx<'_>) {
    let mut names = Unique::default();
    let mut keys = Unique::default();
    let mut hashes = Unique::default();
    for (index, At { value: user, .. }) in users {
        cx.index(*index, |cx| {
            if let Some(At { value, mark }) = &user.name {
                cx.field("name", |cx| {
                    names.check(cx, value, *mark, |line| {
                        (
                            format!("user {value} is declared twice, first on line {line}"),
                            "rename or remove one of the two",
                        )
                    });
                });
            }
            if let Some(At { value, mark }) = &user.public_key {
                cx.field("publicKey", |cx| {
                    keys.check(cx, value, *mark, |line| {
                        let message = format!("another user has the same public key, on line {line}");
                        (message, "a gateway tells users apart by their keys: each needs its own")
                    });
                });
            }
            if let Some(At { value, mark }) = &user.api_key_sha256 {
                cx.field("apiKeySha256", |cx| {
                    hashes.check(cx, value, *mark, |line| {
                        let message = format!("another user has the same API key, on line {line}");
                        (message, "the API tells users apart by their keys: each needs its own")
                    });
                });
            }
            if let Some(At { value: list, .. }) = &user.source_ips {
                cx.field("sourceIps", |cx| check_duplicates(&list.0, cx));
            }
        });
    }
}

/// Values that may appear once, and where each did.
struct Unique<'a, T>(BTreeMap<&'a T, Mark>);

impl<T> Default for Unique<'_, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'a, T: Ord> Unique<'a, T> {
    /// Notes a value; reports it when it was there before, with a text made from the line of the first.
    fn check(
        &mut self,
        cx: &mut Cx<'_>,
        value: &'a T,
        mark: Mark,
        text: impl FnOnce(u32) -> (String, &'static str),
    ) {
        match self.0.get(value) {
            Some(first) => cx.report_with(mark, || {
                let (message, help) = text(first.line);
                (message, help.to_owned())
            }),
            None => {
                self.0.insert(value, mark);
            }
        }
    }
}

/// Reports every item that equals an earlier one of its list.
fn check_duplicates<T: Ord + std::fmt::Display>(list: &[(usize, At<T>)], cx: &mut Cx<'_>) {
    let mut seen = Unique::default();
    for (index, At { value, mark }) in list {
        cx.index(*index, |cx| {
            seen.check(cx, value, *mark, |line| {
                (format!("{value} is listed twice, first on line {line}"), "remove one of the two")
            });
        });
    }
}
