//! The document as a whole, and the people in it.

use std::time::Duration;

use ebb_wire::PublicKey;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ApiKeyHash, DeploymentName, Session, SessionName, UserName, serial};

/// A valid document with every default filled in.
///
/// Its serialised form uses the words of the document itself, so that the JSON of a resolved document is again a document that
/// means the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// [`crate::VERSION`].
    pub version: u32,
    /// Marks everything that this document owns. Resources of another deployment are never touched.
    pub deployment: DeploymentName,
    /// How much may run, and how much may end, at once.
    pub limits: Limits,
    /// Set: the whole deployment rests. Nothing is started and what runs is torn down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suspended: Option<Suspension>,
    /// What to do about resources that somebody else changed.
    pub drift: Drift,
    /// Everybody who may use a session, in the order of the document. Names are unique.
    pub users: Vec<User>,
    /// The wanted sessions, in the order of the document. Names are unique.
    pub sessions: Vec<Session>,
}

impl Document {
    /// The user of this name.
    #[must_use]
    pub fn user(&self, name: &UserName) -> Option<&User> {
        self.users.iter().find(|user| user.name == *name)
    }

    /// The session of this name.
    #[must_use]
    pub fn session(&self, name: &SessionName) -> Option<&Session> {
        self.sessions.iter().find(|session| session.name == *name)
    }
}

/// How much may run, and how much may end, at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Users with an active session, 0 to 10,000; whoever comes later queues. With 0 nothing runs.
    pub active_users: u32,
    /// Sessions that exist at the provider, 0 to 10,000; later ones queue. With 0 nothing runs.
    pub active_sessions: u32,
    /// Sessions that one change may tear down without `ebb approve`, 0 to 10,000. With 0 each teardown that a change of the
    /// document causes needs approval; idle sessions are not counted.
    pub max_teardowns_per_pass: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { active_users: 3, active_sessions: 3, max_teardowns_per_pass: 3 }
    }
}

/// A deliberate rest, with the reason and the end that keep it from being forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// Why, for whoever finds it later: 1 to 200 characters in one line.
    pub reason: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// What to do about resources of this deployment that somebody else changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Drift {
    /// Bring them back to the document.
    #[default]
    Correct,
    /// Leave them, and raise a condition.
    Warn,
    /// Leave them.
    Ignore,
}

/// Somebody who may use sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Unique in the document.
    pub name: UserName,
    /// The user's own WireGuard key, unique in the document. `None`: Ebb makes a pair and keeps it in the secret store.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<PublicKey>,
    /// SHA-256 of the user's API key, unique in the document. `None`: the user cannot call the API.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub api_key_sha256: Option<ApiKeyHash>,
    /// Networks from which the user may connect; empty means from everywhere.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub source_ips: Vec<IpNet>,
    /// From this moment on the user is treated as absent from every session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// `PersistentKeepalive` of the user's configuration, 1 s to 65,535 s (`wg(8)`). `None` is off, which is right unless the
    /// user must be reachable through a NAT while sending nothing.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "serial::none_duration")]
    pub persistent_keepalive: Option<Duration>,
}

impl User {
    /// A user with nothing but a name.
    #[must_use]
    pub fn new(name: UserName) -> Self {
        Self {
            name,
            public_key: None,
            api_key_sha256: None,
            source_ips: Vec::new(),
            until: None,
            persistent_keepalive: None,
        }
    }
}
