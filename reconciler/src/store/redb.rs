//! The embedded store: one file, pure Rust, crash-safe.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ebb_core::ended::EndedRun;
use ebb_core::note::Note;
use ebb_core::plan::Revision;
use ebb_core::record::Record;
use ebb_desired_state::SessionName;
use jiff::Timestamp;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Accepted, NoteQuery, Store, StoreError, Version};

/// Session to version and JSON.
const RECORDS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("records");
/// Microseconds since the epoch and a serial number to JSON.
const NOTES: TableDefinition<'_, (i64, u64), &[u8]> = TableDefinition::new("notes");
/// Microseconds since the epoch at the end, and run, to JSON.
const RUNS: TableDefinition<'_, (i64, &str), &[u8]> = TableDefinition::new("runs");
/// Serial number to JSON.
const ACCEPTED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("accepted");
/// Everything of which there is one.
const SINGLES: TableDefinition<'_, &str, &str> = TableDefinition::new("singles");

const APPROVED: &str = "approved-revision";

/// A [`Store`] in one file of the local disk.
#[derive(Clone)]
pub struct RedbStore {
    path: PathBuf,
    /// `None` after an I/O error: redb then refuses everything until the file is opened again.
    database: Arc<Mutex<Option<Database>>>,
}

impl RedbStore {
    /// Opens the store, creating the file if there is none.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, or is open in another process.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self { path: path.to_owned(), database: Arc::default() };
        store.run("open", |_| Ok(()))?;
        Ok(store)
    }

    fn run<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Database) -> Result<T, Problem>,
    ) -> Result<T, StoreError> {
        let unavailable = |why: &dyn std::fmt::Display| {
            StoreError::unavailable(format!("cannot {what} the store {}", self.path.display()), why)
        };
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let opened = open(&self.path).map_err(|error| unavailable(&error))?;
            *database = Some(opened);
        }
        let Some(open) = database.as_ref() else { return Err(unavailable(&"it is not open")) };
        match work(open) {
            Ok(value) => Ok(value),
            Err(Problem::Store(error)) => Err(error),
            Err(Problem::Redb(error)) => {
                *database = None;
                Err(unavailable(&error))
            }
            Err(Problem::Json(error)) => Err(unavailable(&error)),
        }
    }

    /// Runs blocking work beside the event loop: each write waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Database) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.run(what, work))
            .await
            .map_err(|error| StoreError::unavailable(format!("cannot {what} the store"), error))?
    }
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    let database = Database::create(path)?;
    // Tables exist from the start, so that a reader never meets a missing one.
    let write = database.begin_write()?;
    write.open_table(RECORDS)?;
    write.open_table(NOTES)?;
    write.open_table(RUNS)?;
    write.open_table(ACCEPTED)?;
    write.open_table(SINGLES)?;
    write.commit()?;
    Ok(database)
}

enum Problem {
    Store(StoreError),
    Redb(redb::Error),
    Json(serde_json::Error),
}

impl<E: Into<redb::Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn keep_run(write: &WriteTransaction, ended: Option<&EndedRun>) -> Result<(), Problem> {
    let Some(ended) = ended else { return Ok(()) };
    let json = serde_json::to_vec(ended).map_err(Problem::Json)?;
    write.open_table(RUNS)?.insert((ended.ended_at.as_microsecond(), ended.run.as_str()), json.as_slice())?;
    Ok(())
}

fn store(error: impl Into<StoreError>) -> Problem {
    Problem::Store(error.into())
}

fn conflict(session: &SessionName) -> Problem {
    Problem::Store(StoreError::Conflict { session: session.clone() })
}

#[async_trait]
impl Store for RedbStore {
    async fn records(&self) -> Result<Vec<(Record, Version)>, StoreError> {
        self.blocking("read", |database| {
            let table = database.begin_read()?.open_table(RECORDS)?;
            let mut records = Vec::new();
            for row in table.iter()? {
                let (_, value) = row?;
                let (version, json) = value.value();
                records.push((Record::from_json(json).map_err(store)?, Version(version)));
            }
            Ok(records)
        })
        .await
    }

    async fn put_record(
        &self,
        record: &Record,
        expected: Option<Version>,
        ended: Option<&EndedRun>,
    ) -> Result<Version, StoreError> {
        let (session, json, ended) = (record.session.clone(), record.to_json(), ended.cloned());
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            let next = {
                let mut table = write.open_table(RECORDS)?;
                let found = table.get(session.as_str())?.map(|value| Version(value.value().0));
                if found != expected {
                    return Err(conflict(&session));
                }
                let next = expected.map_or(1, |version| version.0 + 1);
                table.insert(session.as_str(), (next, json.as_slice()))?;
                next
            };
            keep_run(&write, ended.as_ref())?;
            write.commit()?;
            Ok(Version(next))
        })
        .await
    }

    async fn remove_record(
        &self,
        session: &SessionName,
        expected: Version,
        ended: Option<&EndedRun>,
    ) -> Result<(), StoreError> {
        let (session, ended) = (session.clone(), ended.cloned());
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(RECORDS)?;
                let found = table.remove(session.as_str())?.map(|value| Version(value.value().0));
                if found != Some(expected) {
                    return Err(conflict(&session));
                }
            }
            keep_run(&write, ended.as_ref())?;
            write.commit()?;
            Ok(())
        })
        .await
    }

    async fn runs(&self, session: &SessionName, limit: usize) -> Result<Vec<EndedRun>, StoreError> {
        let session = session.clone();
        self.blocking("read", move |database| {
            let table = database.begin_read()?.open_table(RUNS)?;
            let mut runs = Vec::new();
            for row in table.iter()?.rev() {
                if runs.len() >= limit {
                    break;
                }
                let run: EndedRun = serde_json::from_slice(row?.1.value()).map_err(Problem::Json)?;
                if run.session == session {
                    runs.push(run);
                }
            }
            Ok(runs)
        })
        .await
    }

    async fn sweep_runs(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            let mut swept = 0;
            {
                let mut table = write.open_table(RUNS)?;
                for row in table.extract_from_if(..(before.as_microsecond(), ""), |_, _| true)? {
                    row?;
                    swept += 1;
                }
            }
            write.commit()?;
            Ok(swept)
        })
        .await
    }

    async fn append(&self, notes: &[Note]) -> Result<(), StoreError> {
        let notes = notes.to_vec();
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(NOTES)?;
                for note in notes {
                    let micros = note.at.as_microsecond();
                    let mut serial = 0;
                    while table.get((micros, serial))?.is_some() {
                        serial += 1;
                    }
                    let json = serde_json::to_vec(&note).map_err(Problem::Json)?;
                    table.insert((micros, serial), json.as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        })
        .await
    }

    async fn notes(&self, query: &NoteQuery) -> Result<Vec<Note>, StoreError> {
        let query = query.clone();
        self.blocking("read", move |database| {
            let table = database.begin_read()?.open_table(NOTES)?;
            let mut notes = Vec::new();
            for row in table.iter()?.rev() {
                if notes.len() >= query.limit {
                    break;
                }
                let note: Note = serde_json::from_slice(row?.1.value()).map_err(Problem::Json)?;
                let of_session = query.session.is_none() || query.session == note.session;
                let of_kind = query.kind.as_deref().is_none_or(|kind| kind == note.kind.as_str());
                if of_session && of_kind {
                    notes.push(note);
                }
            }
            Ok(notes)
        })
        .await
    }

    async fn sweep_notes(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            let mut swept = 0;
            {
                let mut table = write.open_table(NOTES)?;
                for row in table.extract_from_if(..(before.as_microsecond(), 0), |_, _| true)? {
                    row?;
                    swept += 1;
                }
            }
            write.commit()?;
            Ok(swept)
        })
        .await
    }

    async fn accept(&self, accepted: &Accepted) -> Result<(), StoreError> {
        let accepted = accepted.clone();
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(ACCEPTED)?;
                let serial = table.last()?.map_or(1, |(serial, _)| serial.value() + 1);
                let json = serde_json::to_vec(&accepted).map_err(Problem::Json)?;
                table.insert(serial, json.as_slice())?;
            }
            write.commit()?;
            Ok(())
        })
        .await
    }

    async fn accepted(&self, limit: usize) -> Result<Vec<Accepted>, StoreError> {
        self.blocking("read", move |database| {
            let table = database.begin_read()?.open_table(ACCEPTED)?;
            let mut accepted = Vec::new();
            for row in table.iter()?.rev().take(limit) {
                accepted.push(serde_json::from_slice(row?.1.value()).map_err(Problem::Json)?);
            }
            Ok(accepted)
        })
        .await
    }

    async fn approved(&self) -> Result<Option<Revision>, StoreError> {
        self.blocking("read", |database| {
            let table = database.begin_read()?.open_table(SINGLES)?;
            Ok(table.get(APPROVED)?.map(|value| Revision(value.value().to_owned())))
        })
        .await
    }

    async fn approve(&self, revision: &Revision) -> Result<(), StoreError> {
        let revision = revision.clone();
        self.blocking("write to", move |database| {
            let write = database.begin_write()?;
            write.open_table(SINGLES)?.insert(APPROVED, revision.0.as_str())?;
            write.commit()?;
            Ok(())
        })
        .await
    }
}
