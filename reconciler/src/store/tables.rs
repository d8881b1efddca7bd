//! The store of a deployment in Azure: three tables of a storage account.
//!
//! | table | partition | row | what |
//! |---|---|---|---|
//! | `EbbRecords` | `record` | session | a record, its version and its JSON |
//! | | | `~run-`, time of the end counted backwards, and run | a run that has ended, for 30 days |
//! | | | `~approved` | what there is one of |
//! | | | `~epoch-…`, `~slots` | what fences writes; see [`super::ledger`] |
//! | `EbbNotes` | day, counted backwards | time, counted backwards | a line of history, for 5 days |
//! | `EbbDocuments` | `accepted` | time, counted backwards, and part | an accepted document |
//! | | | `~epoch-…` | what fences writes |
//!
//! Rows come in the order of their keys, so times are counted backwards to have the newest first. Records and documents count as
//! soon as they are written, so they are fenced by the leader's epoch; lines of history, and what is swept, by its lease alone. An
//! ended run is in the partition of the records because it is written in one transaction with the record that says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ebb_core::ended::EndedRun;
use ebb_core::note::Note;
use ebb_core::plan::Revision;
use ebb_core::record::Record;
use ebb_desired_state::SessionName;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::ledger::{Ledger, RESERVED, Refused, Slots};
use super::{Accepted, NoteQuery, Store, StoreError, Version};
use crate::azure::tables::{ANY, Change, Entity, MOST_IN_BATCH, TableError, Tables, quoted};
use crate::leadership::{Deposed, Fence, Leadership};

const RECORDS: &str = "EbbRecords";
const NOTES: &str = "EbbNotes";
const DOCUMENTS: &str = "EbbDocuments";

const RECORD: &str = "record";
const ACCEPTED: &str = "accepted";
const APPROVED: &str = "~approved";
const RUN: &str = "~run-";
/// After the keys of all ended runs.
const AFTER_RUNS: &str = "~run~";

/// Characters in one property: 64 KiB of UTF-16 hold at least this many.
const PIECE: usize = 16_000;

/// Pieces in one entity: 1 MiB holds 16 of them, and the rest is for everything else.
const PIECES: usize = 14;

/// A [`Store`] in tables of Azure Storage.
pub struct TablesStore {
    tables: Tables,
    made: OnceCell<()>,
    leadership: Arc<Leadership>,
    records: Ledger,
    documents: Ledger,
    /// What is known of the rows of sessions. Losing it costs a read.
    known: Mutex<HashMap<SessionName, Known>>,
}

#[derive(Clone)]
struct Known {
    version: Version,
    /// `None`: it was not told.
    etag: Option<String>,
    holds_slot: bool,
}

impl TablesStore {
    /// Uses the tables of an account, as the leader of what `leadership` says. They are made when they are first needed.
    #[must_use]
    pub fn new(tables: Tables, leadership: Arc<Leadership>) -> Self {
        let ledger = |table, partition| Ledger::new(table, partition, Arc::clone(&leadership));
        Self {
            tables,
            made: OnceCell::new(),
            records: ledger(RECORDS, RECORD),
            documents: ledger(DOCUMENTS, ACCEPTED),
            leadership,
            known: Mutex::default(),
        }
    }

    async fn tables(&self, what: &str) -> Result<&Tables, StoreError> {
        let make = async || {
            for table in [RECORDS, NOTES, DOCUMENTS] {
                self.tables.ensure(table).await.map_err(|error| self.failed(what, &error))?;
            }
            Ok::<(), StoreError>(())
        };
        self.made.get_or_try_init(make).await?;
        Ok(&self.tables)
    }

    fn failed(&self, what: &str, error: &TableError) -> StoreError {
        StoreError::unavailable(format!("cannot {what} the tables at {}", self.tables.place()), error)
    }

    fn deposed(&self, deposed: &Deposed) -> StoreError {
        StoreError::unavailable(format!("cannot write to the tables at {}", self.tables.place()), deposed)
    }

    fn refused(&self, refused: Refused, conflict: impl FnOnce() -> StoreError) -> StoreError {
        match refused {
            Refused::Conflict => conflict(),
            Refused::Deposed(deposed) => self.deposed(&deposed),
            Refused::Other(error) => self.failed("write to", &error),
        }
    }

    fn refused_record(&self, session: &SessionName, refused: Refused) -> StoreError {
        self.forget(session);
        self.refused(refused, || StoreError::Conflict { session: session.clone() })
    }

    /// What the record of a session is written through: its own leader's right, or for a person's wish that of any leader.
    fn fence(&self, session: &SessionName) -> Result<Fence, StoreError> {
        let own = self.leadership.fence(session).or_else(|_| self.leadership.any());
        own.map_err(|deposed| self.deposed(&deposed))
    }

    fn any_fence(&self) -> Result<Fence, StoreError> {
        self.leadership.any().map_err(|deposed| self.deposed(&deposed))
    }

    /// Makes changes that are not worth a transaction with the epoch.
    async fn batch(&self, table: &str, partition: &str, changes: &[Change]) -> Result<(), StoreError> {
        let fence = self.any_fence()?;
        let tables = self.tables("write to").await?;
        match fence.guard(tables.batch(table, partition, changes)).await {
            Ok(written) => written.map(drop).map_err(|error| self.failed("write to", &error)),
            Err(deposed) => Err(self.deposed(&deposed)),
        }
    }

    /// Removes what a filter finds, batch by batch.
    async fn sweep(&self, table: &str, filter: &str) -> Result<u64, StoreError> {
        let mut old: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        self.rows(table, filter, |entity| {
            let key = |name| entity.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            old.entry(key("PartitionKey"))
                .or_default()
                .push(Change::Delete { row: key("RowKey"), etag: ANY.to_owned() });
            true
        })
        .await?;
        let mut swept = 0;
        for (partition, changes) in old {
            for changes in changes.chunks(MOST_IN_BATCH) {
                self.batch(table, &partition, changes).await?;
                swept += changes.len() as u64;
            }
        }
        Ok(swept)
    }

    fn keep(&self, session: &SessionName, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(session.clone(), known);
    }

    fn known(&self, session: &SessionName, version: Version) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned();
        known.filter(|known| known.version == version)
    }

    fn forget(&self, session: &SessionName) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
    }

    /// The ETag of a record in this version.
    async fn etag(
        &self,
        tables: &Tables,
        session: &SessionName,
        expected: Version,
    ) -> Result<String, StoreError> {
        if let Some(etag) = self.known(session, expected).and_then(|known| known.etag) {
            return Ok(etag);
        }
        let found = tables
            .get(RECORDS, RECORD, session.as_str())
            .await
            .map_err(|error| self.failed("read", &error))?;
        match found {
            Some((entity, etag)) if version(&entity) == Some(expected) => Ok(etag),
            Some(_) | None => Err(StoreError::Conflict { session: session.clone() }),
        }
    }

    async fn rows(
        &self,
        table: &str,
        filter: &str,
        want: impl FnMut(Entity) -> bool,
    ) -> Result<(), StoreError> {
        let tables = self.tables("read").await?;
        tables.query(table, filter, want).await.map_err(|error| self.failed("read", &error))
    }
}

fn entity(partition: &str, row: &str, text: &str) -> Entity {
    let mut entity = Entity::new();
    entity.insert("PartitionKey".into(), json!(partition));
    entity.insert("RowKey".into(), json!(row));
    for (number, piece) in pieces(text, PIECE).into_iter().enumerate() {
        entity.insert(format!("Text{number:02}"), json!(piece));
    }
    entity
}

/// A text in pieces of at most so many characters; at least one.
fn pieces(text: &str, length: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((at, _)) = rest.char_indices().nth(length) {
        let (piece, more) = rest.split_at(at);
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

fn text(entity: &Entity) -> String {
    (0..PIECES).map_while(|number| entity.get(&format!("Text{number:02}"))?.as_str()).collect()
}

fn version(entity: &Entity) -> Option<Version> {
    Some(Version(entity.get("Version")?.as_str()?.parse().ok()?))
}

/// Edm.Int64 is a text with its type beside it; as a plain number it would be refused or cut.
fn with_version(mut entity: Entity, version: u64) -> Entity {
    entity.insert("Version".into(), json!(version.to_string()));
    entity.insert("Version@odata.type".into(), json!("Edm.Int64"));
    entity
}

/// The row of an ended run. The session has a property of its own, by which Azure can look for it.
fn run_row(ended: &EndedRun) -> Result<Entity, StoreError> {
    let json = serde_json::to_string(ended)
        .map_err(|error| StoreError::unavailable("cannot write an ended run", error))?;
    let mut row = entity(RECORD, &format!("{RUN}{}-{}", backwards(ended.ended_at), ended.run), &json);
    row.insert("Session".into(), json!(ended.session.as_str()));
    Ok(row)
}

fn backwards(at: Timestamp) -> String {
    format!("{:019}", i64::MAX - at.as_microsecond())
}

/// Days since year 0, counted backwards.
fn day(at: Timestamp) -> String {
    let date = at.to_zoned(TimeZone::UTC).date();
    let number = i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day());
    format!("{:08}", 99_999_999 - number)
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::unavailable("cannot read the tables", error))
}

#[async_trait]
impl Store for TablesStore {
    async fn take_over(&self, fence: &Fence) -> Result<(), StoreError> {
        let tables = self.tables("write to").await?;
        let contended =
            || StoreError::unavailable("cannot take over the tables", "somebody else writes there");
        for ledger in [&self.records, &self.documents] {
            ledger.begin(tables, fence).await.map_err(|refused| self.refused(refused, contended))?;
        }
        Ok(())
    }

    async fn records(&self) -> Result<Vec<(Record, Version)>, StoreError> {
        let tables = self.tables("read").await?;
        self.records.look_at_slots(tables).await.map_err(|error| self.failed("read", &error))?;
        let mut entities = Vec::new();
        self.rows(RECORDS, &format!("PartitionKey eq '{RECORD}' and RowKey lt '{RESERVED}'"), |entity| {
            entities.push(entity);
            true
        })
        .await?;
        let missing = || StoreError::unavailable("cannot read the tables", "a record has no version");
        let read = |entity: Entity| {
            let record = Record::from_json(text(&entity).as_bytes())?;
            let version = version(&entity).ok_or_else(missing)?;
            let holds_slot = record.state.name().holds_slot();
            if self.known(&record.session, version).is_none() {
                self.keep(&record.session, Known { version, etag: None, holds_slot });
            }
            Ok((record, version))
        };
        entities.into_iter().map(read).collect()
    }

    async fn put_record(
        &self,
        record: &Record,
        expected: Option<Version>,
        ended: Option<&EndedRun>,
    ) -> Result<Version, StoreError> {
        let (session, tables) = (&record.session, self.tables("write to").await?);
        let next = Version(expected.map_or(1, |version| version.0 + 1));
        let json = String::from_utf8_lossy(&record.to_json()).into_owned();
        if json.chars().count() > PIECE * PIECES {
            let why = format!("the record of {session} has {} bytes, more than fit an entity", json.len());
            return Err(StoreError::unavailable("cannot write to the tables", why));
        }
        let entity = with_version(entity(RECORD, session.as_str(), &json), next.0);
        let change = match expected {
            None => Change::Insert(entity),
            Some(expected) => Change::Replace(entity, self.etag(tables, session, expected).await?),
        };
        let holds_slot = record.state.name().holds_slot();
        let held =
            expected.and_then(|expected| self.known(session, expected)).is_some_and(|it| it.holds_slot);
        let slots = if holds_slot && !held { Slots::Taken } else { Slots::Untouched };
        let along = ended.map(run_row).transpose()?.map(Change::Put);
        let written = self.records.write(tables, &self.fence(session)?, change, along, slots).await;
        let etag = written.map_err(|refused| self.refused_record(session, refused))?;
        self.keep(session, Known { version: next, etag, holds_slot });
        Ok(next)
    }

    async fn remove_record(
        &self,
        session: &SessionName,
        expected: Version,
        ended: Option<&EndedRun>,
    ) -> Result<(), StoreError> {
        let tables = self.tables("write to").await?;
        let etag = self.etag(tables, session, expected).await?;
        let change = Change::Delete { row: session.to_string(), etag };
        let (fence, along) = (self.fence(session)?, ended.map(run_row).transpose()?.map(Change::Put));
        let removed = self.records.write(tables, &fence, change, along, Slots::Untouched).await;
        removed.map_err(|refused| self.refused_record(session, refused))?;
        self.forget(session);
        Ok(())
    }

    async fn runs(&self, session: &SessionName, limit: usize) -> Result<Vec<EndedRun>, StoreError> {
        let mut found: Vec<Result<EndedRun, StoreError>> = Vec::new();
        if limit == 0 {
            return Ok(Vec::new());
        }
        let session = quoted(session.as_str());
        let filter = format!(
            "PartitionKey eq '{RECORD}' and RowKey gt '{RUN}' and RowKey lt '{AFTER_RUNS}' and Session eq '{session}'"
        );
        self.rows(RECORDS, &filter, |entity| {
            found.push(parsed(&text(&entity)));
            found.len() < limit
        })
        .await?;
        found.into_iter().collect()
    }

    async fn sweep_runs(&self, before: Timestamp) -> Result<u64, StoreError> {
        // What is older has larger keys.
        let time = backwards(before);
        let filter =
            format!("PartitionKey eq '{RECORD}' and RowKey gt '{RUN}{time}~' and RowKey lt '{AFTER_RUNS}'");
        self.sweep(RECORDS, &filter).await
    }

    async fn append(&self, notes: &[Note]) -> Result<(), StoreError> {
        let mut days: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for note in notes {
            let json = serde_json::to_string(note)
                .map_err(|error| StoreError::unavailable("cannot write a note", error))?;
            let day = day(note.at);
            // Two notes of one moment are two rows, and a repeated append makes none twice as long as nobody repeats it.
            let row = format!("{}-{:016x}", backwards(note.at), rand::random::<u64>());
            days.entry(day.clone()).or_default().push(Change::Insert(entity(&day, &row, &json)));
        }
        for (day, changes) in days {
            for changes in changes.chunks(MOST_IN_BATCH) {
                self.batch(NOTES, &day, changes).await?;
            }
        }
        Ok(())
    }

    async fn notes(&self, query: &NoteQuery) -> Result<Vec<Note>, StoreError> {
        let mut found: Vec<Result<Note, StoreError>> = Vec::new();
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        self.rows(NOTES, "", |entity| {
            match parsed::<Note>(&text(&entity)) {
                Ok(note) => {
                    let of_session = query.session.is_none() || query.session == note.session;
                    let of_kind = query.kind.as_deref().is_none_or(|kind| kind == note.kind.as_str());
                    if of_session && of_kind {
                        found.push(Ok(note));
                    }
                }
                Err(error) => found.push(Err(error)),
            }
            found.len() < query.limit
        })
        .await?;
        found.into_iter().collect()
    }

    async fn sweep_notes(&self, before: Timestamp) -> Result<u64, StoreError> {
        let (day, time) = (day(before), backwards(before));
        // What is older has larger keys.
        let filter = format!("PartitionKey gt '{day}' or (PartitionKey eq '{day}' and RowKey gt '{time}~')");
        self.sweep(NOTES, &filter).await
    }

    async fn accept(&self, accepted: &Accepted) -> Result<(), StoreError> {
        let tables = self.tables("write to").await?;
        let head = Accepted { text: String::new(), ..accepted.clone() };
        let head = serde_json::to_string(&head)
            .map_err(|error| StoreError::unavailable("cannot keep a document", error))?;
        let time = format!("{}-{:016x}", backwards(accepted.at), rand::random::<u64>());
        let parts = pieces(&accepted.text, PIECE * PIECES);
        for (number, part) in parts.iter().enumerate() {
            let row = entity(ACCEPTED, &format!("{time}-{:04}", number + 1), part);
            self.batch(DOCUMENTS, ACCEPTED, &[Change::Put(row)]).await?;
        }
        // Without its head a document does not count, so a crash in between leaves none that is half there.
        let head = with_version(entity(ACCEPTED, &format!("{time}-0000"), &head), parts.len() as u64);
        let written =
            self.documents.write(tables, &self.any_fence()?, Change::Put(head), None, Slots::Untouched).await;
        let contended = || StoreError::unavailable("cannot keep a document", "somebody else writes there");
        written.map(drop).map_err(|refused| self.refused(refused, contended))
    }

    async fn accepted(&self, limit: usize) -> Result<Vec<Accepted>, StoreError> {
        let mut found: Vec<(Accepted, u64)> = Vec::new();
        let mut damaged = None;
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.rows(DOCUMENTS, &format!("PartitionKey eq '{ACCEPTED}' and RowKey lt '{RESERVED}'"), |entity| {
            let row = entity.get("RowKey").and_then(Value::as_str).unwrap_or_default();
            if row.ends_with("-0000") {
                if found.len() == limit {
                    return false;
                }
                match parsed::<Accepted>(&text(&entity)) {
                    Ok(head) => found.push((head, version(&entity).unwrap_or(Version(0)).0)),
                    Err(error) => damaged = Some(error),
                }
            } else if let Some((head, missing)) = found.last_mut().filter(|(_, missing)| *missing > 0) {
                head.text.push_str(&text(&entity));
                *missing -= 1;
            }
            true
        })
        .await?;
        match damaged {
            Some(error) => Err(error),
            None => Ok(found.into_iter().map(|(accepted, _)| accepted).collect()),
        }
    }

    async fn approved(&self) -> Result<Option<Revision>, StoreError> {
        let tables = self.tables("read").await?;
        let found =
            tables.get(RECORDS, RECORD, APPROVED).await.map_err(|error| self.failed("read", &error))?;
        Ok(found.map(|(entity, _)| Revision(text(&entity))))
    }

    async fn approve(&self, revision: &Revision) -> Result<(), StoreError> {
        let tables = self.tables("write to").await?;
        let change = Change::Put(entity(RECORD, APPROVED, &revision.0));
        let put = self.records.write(tables, &self.any_fence()?, change, None, Slots::Untouched).await;
        let contended = || StoreError::unavailable("cannot keep the approval", "somebody else writes there");
        put.map(drop).map_err(|refused| self.refused(refused, contended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_times_have_smaller_keys() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (early, late) = (at("2026-11-20T23:59:59Z"), at("2026-11-21T00:00:00Z"));
        assert!(day(late) < day(early) && backwards(late) < backwards(early));
        assert_eq!(backwards(late).len(), 19);
    }

    #[test]
    fn a_text_is_the_same_after_it_was_in_pieces() {
        let long: String = "aß€😀".chars().cycle().take(PIECE * 3 + 7).collect();
        let entity = entity("p", "r", &long);
        assert_eq!(text(&entity), long);
        assert_eq!(entity.len(), 2 + 4);
        assert_eq!(text(&super::entity("p", "r", "")), "");
    }
}
