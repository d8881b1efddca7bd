//! What every store promises, on redb and on tables.

use ebb::azure::tables::{Change, Entity, TableError, Tables};
use ebb::leadership::Leadership;
use ebb::source::Provenance;
use ebb::store::{Accepted, NoteQuery, PlanSummary, RedbStore, Store, StoreError, TablesStore, Version};
use ebb_core::ended::{EndedRun, Used};
use ebb_core::names::{Generation, Hash};
use ebb_core::note::{Note, NoteKind, Outcome};
use ebb_core::plan::Revision;
use ebb_core::record::Record;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{azure, notice};
use ebb_tests::azurite::Azurite;

pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub(crate) fn record(session: &str) -> Record {
    Record::new(&session.parse().unwrap(), Hash::of(&"spec"), None, now())
}

pub(crate) fn note(session: &str, at: Timestamp, message: &str) -> Note {
    Note {
        at,
        kind: NoteKind::ProvisionFailure,
        outcome: Outcome::Failure,
        session: Some(session.parse().unwrap()),
        run: None,
        user: None,
        message: message.to_owned(),
    }
}

pub(crate) fn ended(session: &str, run: &str, at: Timestamp) -> EndedRun {
    EndedRun {
        session: session.parse().unwrap(),
        run: run.to_owned().into(),
        generation: Generation(3),
        region: Some("eastus2".into()),
        began_at: at - SignedDuration::from_mins(90),
        created_at: Some(at - SignedDuration::from_mins(89)),
        active_at: None,
        ended_at: at,
        reason: "failed".into(),
        message: "it said 'ß€😀' \"and\" went".into(),
        used: Some(Used { observed_at: at, last_handshake: None, received_bytes: 1 << 40, sent_bytes: 0 }),
    }
}

async fn runs(store: &dyn Store, session: &str, limit: usize) -> Vec<String> {
    let runs = store.runs(&session.parse().unwrap(), limit).await.unwrap();
    runs.into_iter().map(|ended| ended.run.to_string()).collect()
}

/// What the trait says of ended runs: a month of them is kept, and each is written with the change of the record that ended it.
async fn keeps_ended_runs(store: &dyn Store, again: &dyn Store) {
    let days = |days: i64| now() - SignedDuration::from_hours(24 * days);
    let home = || record("home");
    let mut version = None;
    // One session's name begins with another's; and two runs end in one moment.
    let before = [("a", 31), ("b", 30), ("c", 30), ("d", 29), ("e", 0)];
    for (run, age) in before {
        version =
            Some(store.put_record(&home(), version, Some(&ended("home", run, days(age)))).await.unwrap());
    }
    let other =
        store.put_record(&record("home-2"), None, Some(&ended("home-2", "x", days(31)))).await.unwrap();
    store
        .remove_record(&record("home-2").session, other, Some(&ended("home-2", "y", days(1))))
        .await
        .unwrap();
    let kept = runs(again, "home", 9).await;
    assert_eq!((&kept[..2], &kept[4..], kept.len()), (&["e".into(), "d".into()][..], &["a".into()][..], 5));
    assert_eq!(runs(store, "home", 2).await, ["e", "d"]);
    assert_eq!(runs(store, "home", 0).await, [""; 0]);
    assert_eq!(runs(again, "home-2", 9).await, ["y", "x"], "also of a session that is forgotten");
    assert_eq!(runs(store, "hom", 9).await, [""; 0]);
    assert_eq!(store.runs(&home().session, 1).await.unwrap(), [ended("home", "e", now())]);

    // Neither the record nor the run is written by whoever has not seen the last change.
    let late = ended("home", "late", now());
    assert!(matches!(again.put_record(&home(), None, Some(&late)).await, Err(StoreError::Conflict { .. })));
    let stale = again.remove_record(&home().session, Version(1), Some(&late)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    assert_eq!(runs(store, "home", 1).await, ["e"]);

    assert_eq!(store.sweep_runs(days(30)).await.unwrap(), 2, "not those of 30 days to the microsecond");
    assert_eq!(store.sweep_runs(days(30)).await.unwrap(), 0);
    assert_eq!(runs(again, "home", 9).await.len(), 4);
    assert_eq!(runs(again, "home-2", 9).await, ["y"]);
    assert_eq!(store.sweep_runs(days(29)).await.unwrap(), 2);
    assert_eq!(runs(store, "home", 9).await, ["e", "d"]);
    let records = again.records().await.unwrap();
    assert_eq!(records, [(home(), version.unwrap())], "a sweep of runs touches nothing else");
    store.remove_record(&home().session, version.unwrap(), None).await.unwrap();
}

async fn messages(store: &dyn Store, query: &NoteQuery) -> Vec<String> {
    store.notes(query).await.unwrap().into_iter().map(|note| note.message).collect()
}

/// The guarantees of the trait, on any store; `again` is a second handle on the same memory.
async fn keeps_its_promises(store: &dyn Store, again: &dyn Store) {
    assert_eq!(store.records().await.unwrap(), []);
    let first = store.put_record(&record("alice"), None, None).await.unwrap();
    let conflict = |result: Result<Version, StoreError>| matches!(result, Err(StoreError::Conflict { .. }));
    assert!(conflict(store.put_record(&record("alice"), None, None).await), "it exists");
    assert!(conflict(again.put_record(&record("bob"), Some(first), None).await), "it does not exist");

    // Another daemon writes; what this one remembers is no longer true.
    let changed = Record { failures: 3, ..record("alice") };
    let second = again.put_record(&changed, Some(first), None).await.unwrap();
    assert!(
        conflict(store.put_record(&record("alice"), Some(first), None).await),
        "somebody else was faster"
    );
    assert!(matches!(
        store.remove_record(&"alice".parse().unwrap(), first, None).await,
        Err(StoreError::Conflict { .. })
    ));
    assert_eq!(store.records().await.unwrap(), [(changed.clone(), second)]);
    let third = store.put_record(&changed, Some(second), None).await.unwrap();
    again.remove_record(&"alice".parse().unwrap(), third, None).await.unwrap();
    assert_eq!(store.records().await.unwrap(), []);
    store.put_record(&record("alice"), None, None).await.unwrap();

    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    let notes: Vec<_> =
        (0..250).map(|n| note(if n % 2 == 0 { "alice" } else { "bob" }, at(n), &n.to_string())).collect();
    store.append(&notes).await.unwrap();
    store
        .append(&[note("carol", at(-100_000), "yesterday ' \"ü"), note("carol", at(0), "of one moment")])
        .await
        .unwrap();
    let query = |session: Option<&str>, limit| NoteQuery {
        session: session.map(|s| s.parse().unwrap()),
        kind: None,
        limit,
    };
    assert_eq!(messages(store, &query(None, 3)).await, ["249", "248", "247"]);
    assert_eq!(messages(again, &query(Some("bob"), 2)).await, ["249", "247"]);
    assert_eq!(messages(store, &query(Some("carol"), 9)).await, ["of one moment", "yesterday ' \"ü"]);
    assert_eq!(messages(store, &query(None, 1000)).await.len(), 252);
    assert_eq!(store.sweep_notes(at(240)).await.unwrap(), 242);
    assert_eq!(messages(store, &query(None, 1000)).await.len(), 10);
    assert_eq!(store.sweep_notes(at(240)).await.unwrap(), 0);

    let document = |number: i64, text: String| Accepted {
        revision: Revision(format!("r{number}")),
        generation: 0,
        at: at(number),
        origin: "here".into(),
        provenance: Provenance { author: Some("Alice ü".into()), ..Provenance::default() },
        changes: vec!["a line".into()],
        plan: PlanSummary::default(),
        text,
    };
    // The second does not fit one entity of Azure's tables, and has characters of every width.
    let long: String = "# ß€😀\n".chars().cycle().take(600_000).collect();
    for (number, text) in [(1, "short".to_owned()), (2, long.clone()), (3, String::new())] {
        store.accept(&document(number, text)).await.unwrap();
    }
    let newest = again.accepted(2).await.unwrap();
    assert_eq!(newest.iter().map(|kept| kept.text.len()).collect::<Vec<_>>(), [0, long.len()]);
    assert_eq!(newest, [document(3, String::new()), document(2, long)]);
    assert_eq!(again.accepted(9).await.unwrap().len(), 3);

    assert_eq!(store.approved().await.unwrap(), None);
    store.approve(&Revision("a'b".into())).await.unwrap();
    store.approve(&Revision("r2".into())).await.unwrap();
    assert_eq!(again.approved().await.unwrap(), Some(Revision("r2".into())));
    assert_eq!(store.records().await.unwrap().len(), 1, "what there is one of is no record");
}

#[tokio::test]
async fn redb_keeps_a_store_s_promises() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(&directory.path().join("store.redb")).unwrap();
    keeps_ended_runs(&store, &store.clone()).await;
    keeps_its_promises(&store, &store.clone()).await;
}

#[tokio::test]
async fn tables_keep_a_store_s_promises() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    let tables = || Tables::open(&azure("https://unused.example").0, "EBB_STORE", &azurite.tables()).unwrap();
    let store = || TablesStore::new(tables(), Leadership::alone());
    keeps_ended_runs(&store(), &store()).await;
    keeps_its_promises(&store(), &store()).await;
    a_batch_is_all_or_nothing(&tables()).await;
}

async fn a_batch_is_all_or_nothing(tables: &Tables) {
    let entity = |row: &str| -> Entity {
        [("PartitionKey", "it's"), ("RowKey", row), ("Value", "50% of a'b & c=d")]
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .into_iter()
            .collect()
    };
    tables.ensure("EbbTest").await.unwrap();
    tables.ensure("EbbTest").await.unwrap();
    tables
        .batch("EbbTest", "it's", &[Change::Insert(entity("1")), Change::Put(entity("o'2"))])
        .await
        .unwrap();
    let failed =
        tables.batch("EbbTest", "it's", &[Change::Insert(entity("3")), Change::Insert(entity("1"))]).await;
    assert_eq!(failed, Err(TableError::Conflict), "although the batch itself was answered with 202");
    assert_eq!(tables.get("EbbTest", "it's", "3").await.unwrap(), None);
    let (found, etag) = tables.get("EbbTest", "it's", "o'2").await.unwrap().unwrap();
    assert_eq!(found["Value"], "50% of a'b & c=d");
    tables.replace("EbbTest", &entity("o'2"), &etag).await.unwrap();
    assert_eq!(tables.replace("EbbTest", &entity("o'2"), &etag).await, Err(TableError::Conflict));

    let many: Vec<Change> =
        (0..1100).map(|number| Change::Put(entity(&format!("many-{number:04}")))).collect();
    for changes in many.chunks(100) {
        tables.batch("EbbTest", "it's", changes).await.unwrap();
    }
    let mut rows = 0;
    tables
        .query("EbbTest", "PartitionKey eq 'it''s'", |_| {
            rows += 1;
            true
        })
        .await
        .unwrap();
    assert_eq!(rows, 1102, "more than one page has");
}
