//! What the engine knows, for everybody who wants to look.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_core::evidence::Evidence;
use ebb_core::observed::{Gateway, Observed};
use ebb_core::plan::{Desired, Report, Revision};
use ebb_core::record::Record;
use ebb_core::spec::Keys;
use ebb_desired_state::SessionName;
use jiff::Timestamp;
use serde::Serialize;

use crate::leadership::Shard;
use crate::source::{Provenance, Reason};

/// A copy of the engine's state.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was made.
    pub at: Timestamp,
    /// How many passes there were.
    pub passes: u64,
    /// The document in force.
    pub desired: Option<Arc<Desired>>,
    /// What is known of its source.
    pub source: SourceStatus,
    /// What is remembered.
    pub records: BTreeMap<SessionName, Record>,
    /// What the provider has.
    pub observed: Option<Observed>,
    /// Why the provider cannot be asked.
    pub provider_error: Option<String>,
    /// What is known of use.
    pub evidence: BTreeMap<SessionName, Evidence>,
    /// Public keys.
    pub keys: Keys,
    /// The revision whose mass teardown somebody has approved.
    pub approved: Option<Revision>,
    /// Why the last pass decided what it decided.
    pub report: Option<Arc<Report>>,
    /// Why the store cannot be read or written.
    pub store_error: Option<String>,
    /// Into how many shards the sessions are divided.
    pub shards: u16,
    /// Those that this daemon leads.
    pub led: Vec<Shard>,
}

/// What is known of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Where it is.
    pub origin: String,
    /// When it was last looked at.
    pub fetched_at: Option<Timestamp>,
    /// When the document in force was accepted.
    pub accepted_at: Option<Timestamp>,
    /// Counts the documents that were taken into force; zero before the first.
    pub generation: u64,
    /// Who made the document in force, and who vouches for it.
    pub provenance: Provenance,
    /// The version that was looked at last, whether it was taken into force or not.
    pub seen: Option<Revision>,
    /// What is wrong with the newest version, if anything.
    pub error: Option<String>,
    /// The same for programs.
    pub refusal: Option<Refusal>,
    /// Whether versions have to be signed.
    pub verifies: bool,
    /// When somebody last asked for everything to be looked at.
    pub requested_at: Option<Timestamp>,
    /// The newest such request that has been answered by a fetch, a listing and a pass.
    pub handled_at: Option<Timestamp>,
}

/// Why the newest version is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// What kind of thing is wrong.
    pub reason: Reason,
    /// Which version, if that is known.
    pub revision: Option<Revision>,
}

impl SourceStatus {
    /// Nothing is wrong.
    pub(super) fn clear(&mut self) {
        (self.error, self.refusal) = (None, None);
    }
}

impl Snapshot {
    /// Whether this daemon takes care of a session; another one does if not.
    #[must_use]
    pub fn leads(&self, session: &SessionName) -> bool {
        self.led.contains(&Shard::of(session, self.shards))
    }

    /// A session's gateway at the provider.
    #[must_use]
    pub fn gateway(&self, session: &SessionName) -> Option<&Gateway> {
        self.observed.as_ref()?.gateways.values().find(|gateway| gateway.session == *session)
    }
}
