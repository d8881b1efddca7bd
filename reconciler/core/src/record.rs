//! What the store remembers of one session.
//!
//! A record holds decisions, never observations: everything that can be asked again is asked again. It has its own version, so
//! that a newer daemon reads what an older one wrote; an unknown newer version is refused and nothing is deleted because of it.

use std::collections::BTreeMap;

use ebb_desired_state::{Placement, SessionName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::evidence::Moment;
use crate::names::{Generation, Hash, RunId};
use crate::observed::Endpoint;
use crate::operator::{Detached, Suspended};
use crate::outcome::Failure;
use crate::plan::Revision;
use crate::state::{Rest, State, Wait};

/// Version that this code writes.
pub const RECORD_VERSION: u16 = 1;

/// One session's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`RECORD_VERSION`] of the writer.
    pub version: u16,
    /// Which session.
    pub session: SessionName,
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Counts the accepted changes of the session's spec.
    pub generation: Generation,
    /// Hash of that spec, by which a change is found.
    pub spec: Hash,
    /// When it last changed.
    pub changed_at: Timestamp,
    /// The present run, from provisioning to gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<Run>,
    /// Where clients reach the session, as last observed. It stays known while nothing runs, so that people can have their
    /// configuration beforehand.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<Endpoint>,
    /// Host numbers of users inside the tunnel. A user keeps the number as long as the document has the pair.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub hosts: BTreeMap<UserName, u32>,
    /// Since when the session has been wanted without interruption; decides who queues before whom and who is newer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wanted_since: Option<Timestamp>,
    /// When somebody last asked for the session, by a start or a new `wake` value. The newer of two sessions of one user is
    /// the one that was asked for later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked_at: Option<Timestamp>,
    /// The `wake` value that was acted upon.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wake: Option<String>,
    /// The last thing somebody asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<Request>,
    /// Somebody let the session rest until a given moment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub suspended: Option<Suspended>,
    /// Somebody took the session out of Ebb's hands.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detached: Option<Detached>,
    /// Keeps a session at rest although its cause is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latch: Option<Latch>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub failures: u32,
    /// The last failure, kept for people until the next success.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<Failed>,
    /// The last request that the provider accepted, so that a list from before it is not believed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accepted: Option<Accepted>,
    /// Nothing is asked of the provider or the gateway before this, because the last request failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_before: Option<Timestamp>,
    /// The revision of the document whose teardown of the session waits for approval.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<Revision>,
    /// Sums over all runs that have ended.
    #[serde(default)]
    pub totals: Totals,
}

/// One run of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// The generation it was begun for.
    pub generation: Generation,
    /// Hash of the template it was begun with.
    pub template: Hash,
    /// Where its gateway is kept. The document may say otherwise by now, and there the gateway would not be found.
    #[serde(skip_serializing_if = "Placement::is_default", default)]
    pub placement: Placement,
    /// Where its gateway runs; not known of a gateway that was found without a record of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    /// When the session decided to provision.
    pub began_at: Timestamp,
    /// When the provider accepted the create.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_at: Option<Timestamp>,
    /// When the gateway became usable for the first time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_at: Option<Timestamp>,
    /// The same on the gateway's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready: Option<Moment>,
    /// The first handshake of a user that was seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_handshake: Option<Moment>,
    /// The gateway was found, not created: nobody remembers what it was told.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub adopted: bool,
}

/// Something that somebody asked for outside the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What.
    pub kind: RequestKind,
    /// When.
    pub at: Timestamp,
    /// Who, in the words of the audit log.
    pub by: String,
    /// Whether a pass has taken it up.
    pub handled: bool,
}

/// What can be asked of a session outside the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestKind {
    /// Run it.
    Start,
    /// Let it rest.
    Stop,
}

/// A rest that outlasts its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latch {
    /// Why the session rests.
    pub why: Rest,
    /// Since when.
    pub at: Timestamp,
    /// The generation at that time; a newer one ends the rest.
    pub generation: Generation,
}

/// A failure and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// What went wrong.
    pub failure: Failure,
    /// When.
    pub at: Timestamp,
}

/// A request that the provider accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Whether it was a create or a delete.
    pub operation: ProviderOperation,
    /// When.
    pub at: Timestamp,
}

/// What a provider is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProviderOperation {
    /// Create a gateway.
    Create,
    /// Delete a gateway.
    Delete,
}

/// Sums over the runs of a session, so that counters outlive gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Totals {
    /// Runs that have ended.
    pub runs: u64,
    /// Seconds from an accepted create to "gone".
    pub billable_seconds: u64,
    /// Bytes from and to each user.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub users: BTreeMap<UserName, Bytes>,
}

/// Bytes of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// From the user.
    pub received: u64,
    /// To the user.
    pub sent: u64,
}

/// Why a stored record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Written by a newer Ebb.
    #[error(
        "the record of session {session} has version {version}, this Ebb knows up to {RECORD_VERSION}: \
         a newer Ebb wrote it. Use that one; nothing was changed"
    )]
    Newer {
        /// Which session, as far as it can be told.
        session: String,
        /// The version found.
        version: u16,
    },
    /// Not a record.
    #[error("a stored record cannot be read: {why}. Restore it from a backup; nothing was changed")]
    Damaged {
        /// What is wrong with it.
        why: String,
    },
}

impl Record {
    /// The record of a session that is seen for the first time.
    #[must_use]
    pub fn new(session: &SessionName, spec: Hash, wake: Option<String>, now: Timestamp) -> Self {
        Self {
            version: RECORD_VERSION,
            session: session.clone(),
            state: State::Queued { wait: Wait::Turn },
            since: now,
            generation: Generation(1),
            spec,
            changed_at: now,
            run: None,
            endpoint: None,
            hosts: BTreeMap::new(),
            wanted_since: None,
            asked_at: None,
            wake,
            request: None,
            suspended: None,
            detached: None,
            latch: None,
            failures: 0,
            last_failure: None,
            accepted: None,
            not_before: None,
            held: None,
            totals: Totals::default(),
        }
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Head {
            version: u16,
            #[serde(default)]
            session: String,
        }
        let damaged = |error: serde_json::Error| RecordError::Damaged { why: error.to_string() };
        let head: Head = serde_json::from_slice(json).map_err(damaged)?;
        if head.version > RECORD_VERSION {
            return Err(RecordError::Newer { session: head.session, version: head.version });
        }
        serde_json::from_slice(json).map_err(damaged)
    }

    /// The record as it is stored.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings, numbers and sorted maps always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
