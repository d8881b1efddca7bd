//! Writes that only a leader can make.
//!
//! Each shard has a row with the epoch of its leader, in the same partition as what the leader writes. A write goes in one
//! transaction with a replacement of that row by its ETag, so it succeeds as long as nobody has begun a later epoch, and not a
//! moment longer; no clock has a part in that. Where sessions are divided among daemons, a record that takes one of the limited
//! slots replaces a second row, which all shards share: whoever decides without having seen the last slot taken is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::azure::tables::{Change, Entity, TableError, Tables};
use crate::leadership::{Deposed, Fence, Leadership, Shard};

/// Begins the keys of rows that are no records: after every name of a session.
pub(super) const RESERVED: char = '~';

const SLOTS: &str = "~slots";

/// Whether a change takes a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slots {
    Untouched,
    Taken,
}

/// Why a write was not made.
#[derive(Debug)]
pub(super) enum Refused {
    /// Somebody else has written the row, or has taken a slot.
    Conflict,
    Deposed(Deposed),
    Other(TableError),
}

impl From<TableError> for Refused {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Conflict => Self::Conflict,
            TableError::Other(_) => Self::Other(error),
        }
    }
}

impl From<Deposed> for Refused {
    fn from(deposed: Deposed) -> Self {
        Self::Deposed(deposed)
    }
}

/// The fenced rows of one partition.
pub(super) struct Ledger {
    table: &'static str,
    partition: &'static str,
    leadership: Arc<Leadership>,
    /// One write at a time: each changes the ETags that the next one needs.
    etags: Mutex<Etags>,
}

#[derive(Default)]
struct Etags {
    epochs: BTreeMap<Shard, String>,
    /// The row of the slots when the records were last read: not known, not there, or this ETag.
    slots: Option<Option<String>>,
}

impl Ledger {
    pub(super) fn new(table: &'static str, partition: &'static str, leadership: Arc<Leadership>) -> Self {
        Self { table, partition, leadership, etags: Mutex::default() }
    }

    /// Begins the epoch of a fence: from here on no write of an earlier leader can succeed.
    pub(super) async fn begin(&self, tables: &Tables, fence: &Fence) -> Result<(), Refused> {
        if fence.epoch() == 0 {
            return Ok(());
        }
        let mut etags = self.etags.lock().await;
        let etag = self.claim(tables, fence).await?;
        etags.epochs.insert(fence.shard(), etag);
        Ok(())
    }

    /// To be called before the records are read, so that no slot is taken unseen.
    pub(super) async fn look_at_slots(&self, tables: &Tables) -> Result<(), TableError> {
        if self.leadership.count() > 1 {
            let found = tables.get(self.table, self.partition, SLOTS).await?;
            self.etags.lock().await.slots = Some(found.map(|(_, etag)| etag));
        }
        Ok(())
    }

    /// Makes a change, and with it in one transaction whatever comes `along`; the new ETag of the former, if it is told.
    pub(super) async fn write(
        &self,
        tables: &Tables,
        fence: &Fence,
        change: Change,
        along: Option<Change>,
        slots: Slots,
    ) -> Result<Option<String>, Refused> {
        if fence.epoch() == 0 {
            return self.write_plainly(tables, change, along).await;
        }
        let mut etags = self.etags.lock().await;
        let epoch = match etags.epochs.remove(&fence.shard()) {
            Some(etag) => etag,
            None => self.claim(tables, fence).await?,
        };
        let mut changes = vec![Change::Replace(self.epoch_row(fence), epoch), change];
        let takes = slots == Slots::Taken && self.leadership.count() > 1;
        if takes {
            let row = self.row(SLOTS);
            changes.push(match &etags.slots {
                Some(Some(etag)) => Change::Replace(row, etag.clone()),
                Some(None) => Change::Insert(row),
                None => return Err(Refused::Conflict),
            });
        }
        changes.extend(along);
        match fence.guard(tables.batch(self.table, self.partition, &changes)).await? {
            Ok(told) => {
                let mut told = told.into_iter();
                if let Some(etag) = told.next().flatten() {
                    etags.epochs.insert(fence.shard(), etag);
                }
                let written = told.next().flatten();
                if takes {
                    etags.slots = told.next().flatten().map(Some);
                }
                Ok(written)
            }
            Err(error) => {
                // Which of the rows it was is not told in a way to rely on; whoever leads no more must hear so.
                if takes {
                    etags.slots = None;
                }
                if error == TableError::Conflict {
                    let etag = self.claim(tables, fence).await?;
                    etags.epochs.insert(fence.shard(), etag);
                }
                Err(error.into())
            }
        }
    }

    async fn write_plainly(
        &self,
        tables: &Tables,
        change: Change,
        along: Option<Change>,
    ) -> Result<Option<String>, Refused> {
        if let Some(along) = along {
            let told = tables.batch(self.table, self.partition, &[change, along]).await?;
            return Ok(told.into_iter().next().flatten());
        }
        Ok(match &change {
            Change::Insert(entity) => Some(tables.insert(self.table, entity).await?),
            Change::Put(entity) => Some(tables.put(self.table, entity).await?),
            Change::Replace(entity, etag) => Some(tables.replace(self.table, entity, etag).await?),
            Change::Delete { row, etag } => {
                tables.delete(self.table, self.partition, row, etag).await?;
                None
            }
        })
    }

    /// Makes the epoch row that of this leader, or finds that it is; its ETag.
    async fn claim(&self, tables: &Tables, fence: &Fence) -> Result<String, Refused> {
        let row = self.epoch_row(fence);
        let name = row.get("RowKey").and_then(Value::as_str).unwrap_or_default().to_owned();
        loop {
            let found = fence.guard(tables.get(self.table, self.partition, &name)).await??;
            let written = match found {
                None => fence.guard(tables.insert(self.table, &row)).await?,
                Some((found, etag)) => match epoch(&found) {
                    theirs if theirs > fence.epoch() => {
                        fence.close();
                        return Err(Deposed { shard: fence.shard(), epoch: fence.epoch() }.into());
                    }
                    own if own == fence.epoch() => return Ok(etag),
                    _ => fence.guard(tables.replace(self.table, &row, &etag)).await?,
                },
            };
            match written {
                Ok(etag) => return Ok(etag),
                // The leader before was faster once more.
                Err(TableError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn epoch_row(&self, fence: &Fence) -> Entity {
        let mut row = self.row(&format!("~epoch-{:02}", fence.shard().0));
        row.insert("Epoch".into(), json!(fence.epoch().to_string()));
        row
    }

    fn row(&self, name: &str) -> Entity {
        [("PartitionKey", self.partition), ("RowKey", name)]
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .into_iter()
            .collect()
    }
}

fn epoch(row: &Entity) -> u64 {
    row.get("Epoch").and_then(Value::as_str).and_then(|epoch| epoch.parse().ok()).unwrap_or(0)
}
