//! A store that keeps what was written, and refuses to overwrite what the writer has not seen.

use std::collections::BTreeMap;

use ebb_core::ended::EndedRun;
use ebb_core::note::Note;
use ebb_core::plan::{Desired, Revision};
use ebb_core::record::{Record, RecordError};
use ebb_core::spec::Keys;
use ebb_desired_state::{SessionName, UserName};
use ebb_wire::PublicKey;

/// Somebody else has written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("somebody else has written the record since it was read")]
pub struct Conflict;

/// Counts the writes of one record.
pub type Version = u64;

/// Everything that outlives the daemon.
#[derive(Debug, Default)]
pub struct Store {
    records: BTreeMap<SessionName, (Version, Vec<u8>)>,
    versions: Version,
    /// Public halves of the keys that were made.
    pub keys: Keys,
    /// History.
    pub notes: Vec<Note>,
    /// Runs that have ended.
    pub ended: Vec<EndedRun>,
    /// The last valid document.
    pub desired: Option<Desired>,
    /// The revision whose teardowns were approved.
    pub approved: Option<Revision>,
    /// Writes of records so far.
    pub writes: u64,
}

impl Store {
    /// Reads every record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn load(&self) -> Result<BTreeMap<SessionName, (Version, Record)>, RecordError> {
        self.records
            .iter()
            .map(|(session, (version, json))| Ok((session.clone(), (*version, Record::from_json(json)?))))
            .collect()
    }

    /// Reads one record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn get(&self, session: &SessionName) -> Result<Option<Record>, RecordError> {
        self.records.get(session).map(|(_, json)| Record::from_json(json)).transpose()
    }

    /// Writes a record over the version that the writer has read; `None`: over none. The run that has ended with it is kept.
    ///
    /// # Errors
    /// [`Conflict`], and then nothing is written.
    ///
    /// # Panics
    /// When a run has ended and does not come with the record that says so, or the other way round.
    pub fn put(
        &mut self,
        record: &Record,
        seen: Option<Version>,
        ended: Option<&EndedRun>,
    ) -> Result<Version, Conflict> {
        self.check(&record.session, seen)?;
        let before = self.get(&record.session).ok().flatten().map_or(0, |before| before.totals.runs);
        assert_eq!(before + u64::from(ended.is_some()), record.totals.runs, "{ended:?}");
        self.ended.extend(ended.cloned());
        self.versions += 1;
        self.writes += 1;
        self.records.insert(record.session.clone(), (self.versions, record.to_json()));
        Ok(self.versions)
    }

    /// Removes a record of the version that the writer has read.
    ///
    /// # Errors
    /// [`Conflict`], and then nothing is removed.
    pub fn remove(
        &mut self,
        session: &SessionName,
        seen: Option<Version>,
        ended: Option<&EndedRun>,
    ) -> Result<(), Conflict> {
        self.check(session, seen)?;
        self.ended.extend(ended.cloned());
        self.writes += 1;
        self.records.remove(session);
        Ok(())
    }

    /// Loses all records, as a disk does.
    pub fn lose(&mut self) {
        self.records.clear();
    }

    /// Makes the keys that are missing.
    pub fn ensure_keys(&mut self, gateway: Option<&SessionName>, users: &[UserName]) {
        if let Some(session) = gateway {
            self.keys.gateways.entry(session.clone()).or_insert_with(|| key(&format!("gateway {session}")));
        }
        for user in users {
            self.keys.users.entry(user.clone()).or_insert_with(|| key(&format!("user {user}")));
        }
    }

    /// Whether a writer who has read this version may write.
    ///
    /// # Errors
    /// [`Conflict`].
    pub fn check(&self, session: &SessionName, seen: Option<Version>) -> Result<(), Conflict> {
        let held = self.records.get(session).map(|(version, _)| *version);
        if held == seen { Ok(()) } else { Err(Conflict) }
    }
}

/// The public key that stands for `owner`; nothing here decrypts anything.
#[must_use]
pub fn key(owner: &str) -> PublicKey {
    use sha2::{Digest as _, Sha256};
    PublicKey::from(<[u8; 32]>::from(Sha256::digest(owner)))
}
