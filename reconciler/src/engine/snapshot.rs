//! What the engine knows, for everybody who wants to look.

use std::collections::BTreeMap;

use ebb_core::evidence::Evidence;
use ebb_core::observed::{Gateway, Observed};
use ebb_core::plan::{Desired, Report, Revision};
use ebb_core::record::Record;
use ebb_core::spec::Keys;
use ebb_desired_state::SessionName;
use jiff::Timestamp;
use serde::Serialize;

/// A copy of the engine's state.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was made.
    pub at: Timestamp,
    /// How many passes there were.
    pub passes: u64,
    /// The document in force.
    pub desired: Option<Desired>,
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
    pub report: Option<Report>,
    /// Why the store cannot be read or written.
    pub store_error: Option<String>,
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
    /// What is wrong with the newest version, if anything.
    pub error: Option<String>,
}

impl Snapshot {
    /// A session's gateway at the provider.
    #[must_use]
    pub fn gateway(&self, session: &SessionName) -> Option<&Gateway> {
        self.observed.as_ref()?.gateways.values().find(|gateway| gateway.session == *session)
    }
}
