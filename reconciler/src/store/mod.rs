//! Where records, ended runs, history and accepted documents are kept.

mod accepted;
#[cfg(feature = "azure")]
mod ledger;
mod redb;
#[cfg(feature = "azure")]
mod tables;

use std::fmt;

use async_trait::async_trait;
use ebb_core::ended::EndedRun;
use ebb_core::note::Note;
use ebb_core::plan::Revision;
use ebb_core::record::{Record, RecordError};
use ebb_desired_state::SessionName;
use jiff::Timestamp;

use crate::leadership::Fence;

pub use self::accepted::{Accepted, Found, MOST_LINES, PlanSummary, find};
pub use self::redb::RedbStore;
#[cfg(feature = "azure")]
pub use self::tables::TablesStore;

/// The memory of a deployment.
///
/// # Guarantees
/// - What a call reported as done survives a crash and a loss of power.
/// - A record is replaced or removed only if it is still the version that the caller has read.
/// - Each call is all or nothing.
/// - Where several daemons share it, only the leader of a shard can change records and documents, and a record that takes a slot
///   is written only if no other daemon has taken one since the records were read.
///
/// # Assumptions
/// - Records are small (a few KiB) and few enough to be read at start (tens of thousands).
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins the epoch of a fence: whatever an earlier leader of the same shard still writes fails. To be called before anything
    /// is read for the sake of a decision. A store that one process has for itself has nothing to do.
    ///
    /// # Errors
    /// When a later leader has begun, or nobody knows.
    async fn take_over(&self, fence: &Fence) -> Result<(), StoreError> {
        let _ = fence;
        Ok(())
    }

    /// All records.
    ///
    /// # Errors
    /// [`StoreError::Record`] if any of them cannot be read: a daemon that overlooks a session would take its gateway for a
    /// stray.
    async fn records(&self) -> Result<Vec<(Record, Version)>, StoreError>;

    /// Writes a record; `expected` is the version it replaces, `None` if there is none. The run that has `ended` with this change
    /// is kept in the same transaction: both are written or neither is.
    async fn put_record(
        &self,
        record: &Record,
        expected: Option<Version>,
        ended: Option<&EndedRun>,
    ) -> Result<Version, StoreError>;

    /// Removes a record. The run that has `ended` with it is kept in the same transaction.
    async fn remove_record(
        &self,
        session: &SessionName,
        expected: Version,
        ended: Option<&EndedRun>,
    ) -> Result<(), StoreError>;

    /// At most `limit` ended runs of a session, newest first.
    async fn runs(&self, session: &SessionName, limit: usize) -> Result<Vec<EndedRun>, StoreError>;

    /// Removes the runs that ended before `before`; says how many.
    async fn sweep_runs(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Appends lines of history.
    async fn append(&self, notes: &[Note]) -> Result<(), StoreError>;

    /// Lines of history, newest first.
    async fn notes(&self, query: &NoteQuery) -> Result<Vec<Note>, StoreError>;

    /// Removes lines of history from before `before`; says how many.
    async fn sweep_notes(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Keeps an accepted document.
    async fn accept(&self, accepted: &Accepted) -> Result<(), StoreError>;

    /// Accepted documents, newest first.
    async fn accepted(&self, limit: usize) -> Result<Vec<Accepted>, StoreError>;

    /// The accepted document that `wanted` names, as [`find`] understands it.
    async fn accepted_as(&self, wanted: &str) -> Result<Found, StoreError> {
        Ok(find(self.accepted(usize::MAX).await?, wanted))
    }

    /// The revision whose mass teardown somebody has approved.
    async fn approved(&self) -> Result<Option<Revision>, StoreError>;

    /// Approves the mass teardown of a revision; of the empty one, of none.
    async fn approve(&self, revision: &Revision) -> Result<(), StoreError>;
}

/// Version of a stored record, for compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// Which lines of history.
#[derive(Debug, Clone, Default)]
pub struct NoteQuery {
    /// Only of this session.
    pub session: Option<SessionName>,
    /// Only of this kind, by its name.
    pub kind: Option<String>,
    /// At most this many.
    pub limit: usize,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has written the record since it was read.
    #[error("the record of session {session} was changed by somebody else; it is read again")]
    Conflict {
        /// Which.
        session: SessionName,
    },
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store cannot be reached or written.
    #[error("{what}: {why}")]
    Unavailable {
        /// What was tried, and where.
        what: String,
        /// What the system said.
        why: String,
    },
}

impl StoreError {
    /// The store cannot be reached or written.
    pub fn unavailable(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Unavailable { what: what.into(), why: why.to_string() }
    }
}
