//! What changed between two documents, setting by setting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{Document, Session, SessionName, User, UserName};

/// Settings of a session that are fixed while its gateway runs. A change of one of them needs a new gateway, which ends every
/// connection through the old one.
const FIXED: [&str; 7] = ["region", "subscription", "resourceGroup", "size", "port", "network", "addresses"];

/// Lists whose order means nothing.
const SETS: [&str; 3] = ["users", "routes", "sourceIps"];

/// Maps whose entries are settings of their own. Other maps, such as a schedule, change as a whole.
const GROUPS: [&str; 6] = ["", "limits", "dns", "dns.names", "addresses", "size"];

/// What changed. Order of users and sessions, comments and defaults that are written out are no changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Changes of the deployment first, then of users, then of sessions, each in the order of names.
    pub changes: Vec<Change>,
}

impl Diff {
    /// Whether both documents mean the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// The document as a whole.
    Deployment,
    /// One user.
    User(UserName),
    /// One session.
    Session(SessionName),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Change {
    /// A user or session that was not there before.
    Added {
        /// Which.
        subject: Subject,
    },
    /// A user or session that is gone.
    Removed {
        /// Which.
        subject: Subject,
    },
    /// A setting with another value.
    Changed {
        /// Whose.
        subject: Subject,
        /// The setting in the words of the document, for example `dns.upstream`.
        setting: String,
        /// The value before, in the words of the document; `None` when it was absent.
        old: Option<Value>,
        /// The value from now on; `None` when it is absent.
        new: Option<Value>,
    },
}

impl Change {
    /// Whose change this is.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Added { subject } | Self::Removed { subject } | Self::Changed { subject, .. } => subject,
        }
    }

    /// Whether a running session gets a new gateway by this change, which ends every connection through the old one. Added
    /// and removed sessions have none to replace.
    #[must_use]
    pub fn restarts(&self) -> bool {
        let Self::Changed { subject: Subject::Session(_), setting, .. } = self else { return false };
        let first = setting.split('.').next().unwrap_or_default();
        FIXED.contains(&first)
    }

    /// Where the change is, for example `sessions[alice-east].port`.
    #[must_use]
    pub fn path(&self) -> String {
        match self {
            Self::Added { subject } | Self::Removed { subject } => subject.to_string(),
            Self::Changed { subject: Subject::Deployment, setting, .. } => setting.clone(),
            Self::Changed { subject, setting, .. } => format!("{subject}.{setting}"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment => f.write_str("deployment"),
            Self::User(name) => write!(f, "users[{name}]"),
            Self::Session(name) => write!(f, "sessions[{name}]"),
        }
    }
}

impl fmt::Display for Change {
    /// One line: `+ sessions[a]`, `- users[b]`, `~ sessions[a].port: 41820 -> 41821`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { .. } => write!(f, "+ {}", self.path()),
            Self::Removed { .. } => write!(f, "- {}", self.path()),
            Self::Changed { old, new, .. } => {
                write!(f, "~ {}: {} -> {}", self.path(), show(old.as_ref()), show(new.as_ref()))
            }
        }
    }
}

/// A value as people write it.
fn show(value: Option<&Value>) -> String {
    match value {
        None => "(absent)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|item| show(Some(item))).collect();
            format!("[{}]", items.join(", "))
        }
        Some(Value::Object(map)) => {
            let entries: Vec<_> =
                map.iter().map(|(key, value)| format!("{key}: {}", show(Some(value)))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Some(other) => other.to_string(),
    }
}

/// Compares two documents by what they mean.
#[must_use]
pub fn diff(old: &Document, new: &Document) -> Diff {
    let mut changes = Vec::new();
    compare(&Subject::Deployment, &globals(old), &globals(new), &mut changes);
    compare_all(&users(old), &users(new), &mut changes);
    compare_all(&sessions(old), &sessions(new), &mut changes);
    Diff { changes }
}

fn users(document: &Document) -> BTreeMap<Subject, &User> {
    document.users.iter().map(|user| (Subject::User(user.name.clone()), user)).collect()
}

fn sessions(document: &Document) -> BTreeMap<Subject, &Session> {
    document.sessions.iter().map(|session| (Subject::Session(session.name.clone()), session)).collect()
}

fn globals(document: &Document) -> Value {
    let Document { version, deployment, limits, suspended, drift, users: _, sessions: _ } = document;
    let mut value =
        serde_json::json!({ "version": version, "deployment": deployment, "limits": limits, "drift": drift });
    if let Some(suspended) = suspended {
        value["suspended"] = json(suspended);
    }
    value
}

/// The value in the words of the document. Serialising cannot fail: all keys are text.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn compare_all<T: Serialize + PartialEq>(
    old: &BTreeMap<Subject, &T>,
    new: &BTreeMap<Subject, &T>,
    changes: &mut Vec<Change>,
) {
    let subjects: BTreeSet<&Subject> = old.keys().chain(new.keys()).collect();
    for subject in subjects {
        match (old.get(subject), new.get(subject)) {
            (Some(_), None) => changes.push(Change::Removed { subject: subject.clone() }),
            (None, Some(_)) => changes.push(Change::Added { subject: subject.clone() }),
            (Some(old), Some(new)) if old != new => compare(subject, &json(old), &json(new), changes),
            _ => {}
        }
    }
}

fn compare(subject: &Subject, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", old, &mut before);
    flatten("", new, &mut after);
    let settings: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    for setting in settings {
        let (old, new) = (before.remove(&setting), after.remove(&setting));
        if old != new {
            changes.push(Change::Changed { subject: subject.clone(), setting, old, new });
        }
    }
}

/// Groups become dotted paths; lists stay whole, in a fixed order where order means nothing.
fn flatten(path: &str, value: &Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if GROUPS.contains(&path) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, settings);
            }
        }
        Value::Array(items) if SETS.contains(&path) => {
            let mut items = items.clone();
            items.sort_by_key(ToString::to_string);
            settings.insert(path.to_owned(), Value::Array(items));
        }
        other => {
            settings.insert(path.to_owned(), other.clone());
        }
    }
}
