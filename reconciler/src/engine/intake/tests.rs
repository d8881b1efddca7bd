//! Documents that must not count: they change nothing, and everybody can see that they do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ebb_core::condition::{ConditionKind, Status};
use ebb_core::spec::Keys;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::deployment;
use crate::engine::Snapshot;
use crate::leadership::{Leadership, Shard};
use crate::metrics::Counters;
use crate::provider::{LocalProvider, LocalSettings};
use crate::secrets::FileSecrets;
use crate::source::{FileSource, SourceError};
use crate::store::{NoteQuery, RedbStore};

const GOOD: &str = "version: 1\ndeployment: home\nusers:\n  - name: alice\n  - name: bob\nsessions:\n  \
                    - { name: home, users: [alice], region: local }\n  \
                    - { name: work, users: [bob], region: local, port: 41821 }\n";

/// The real adapters, in a directory that needs no disk where there is one.
struct World {
    _directory: tempfile::TempDir,
    parts: Parts,
    intake: Intake,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = |name: &str| directory.path().join(name);
        let local = LocalSettings {
            state: directory.path().to_owned(),
            advertise: "127.0.0.1".to_owned(),
            program: vec!["false".into()],
        };
        let parts = Parts {
            source: Arc::new(FileSource::open(&path("desired-state.yaml")).unwrap()),
            provider: Arc::new(LocalProvider::open(local).unwrap()),
            store: Arc::new(RedbStore::open(&path("store.redb")).unwrap()),
            secrets: Arc::new(FileSecrets::open(&path("secrets")).unwrap()),
            lease: Duration::from_secs(900),
            leadership: Leadership::alone(),
            counters: Counters::new(),
        };
        let mut world = Self { intake: Intake::open(&parts).await.unwrap(), parts, _directory: directory };
        let candidate = world.judge(found(GOOD.as_bytes())).await.unwrap();
        world.intake.accept(&world.parts, candidate, None, PlanSummary::default()).await;
        assert!(world.intake.desired().is_some());
        world
    }

    async fn judge(&mut self, outcome: fetch::Outcome) -> Option<Candidate> {
        self.intake.judge(&self.parts, outcome).await
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: Timestamp::UNIX_EPOCH,
            passes: 0,
            desired: self.intake.desired().cloned(),
            source: self.intake.status().clone(),
            records: BTreeMap::new(),
            observed: None,
            provider_error: None,
            evidence: BTreeMap::new(),
            keys: Keys::default(),
            approved: None,
            report: None,
            store_error: None,
            shards: 1,
            led: vec![Shard::FIRST],
        }
    }

    async fn newest_event(&self) -> Note {
        let query = NoteQuery { limit: 1, ..NoteQuery::default() };
        self.parts.store.notes(&query).await.unwrap().pop().unwrap()
    }
}

fn found(text: &[u8]) -> fetch::Outcome {
    Ok(Fetched { text: text.to_vec(), revision: revision_of(text), provenance: Provenance::default() })
}

fn failed(reason: Reason) -> fetch::Outcome {
    let revision = Some(Revision(format!("of {}", reason.as_str())));
    Err(SourceError { origin: "somewhere".to_owned(), reason, why: format!("{reason:?}"), revision })
}

#[tokio::test]
async fn whatever_must_not_count_changes_nothing_and_is_seen_in_a_condition_an_event_and_a_metric() {
    let mut world = World::new().await;
    let in_force = world.intake.desired().cloned();
    let bomb = include_bytes!("../../../../desired-state/tests/reject/alias-bomb.yaml");
    let cut = include_bytes!("../../../../desired-state/tests/reject/end-marker-missing.yaml");
    let large = vec![b'#'; ebb_desired_state::MAX_BYTES + 1];
    let other = GOOD.replace("deployment: home", "deployment: elsewhere");
    let invalid = GOOD.replace("[alice]", "[mallory]");
    let cases = [
        (Reason::Empty, found(b"")),
        (Reason::Truncated, found(cut)),
        (Reason::TooLarge, found(&large)),
        (Reason::TooComplex, found(bomb)),
        (Reason::Invalid, found(invalid.as_bytes())),
        (Reason::NotText, found(&[0xff, 0xfe])),
        (Reason::OtherDeployment, found(other.as_bytes())),
        (Reason::Missing, failed(Reason::Missing)),
        (Reason::NotAFile, failed(Reason::NotAFile)),
        (Reason::FetchFailed, failed(Reason::FetchFailed)),
        (Reason::Unsigned, failed(Reason::Unsigned)),
        (Reason::Untrusted, failed(Reason::Untrusted)),
        (Reason::HistoryRewritten, failed(Reason::HistoryRewritten)),
    ];
    for (number, (reason, outcome)) in (1..).zip(cases) {
        assert!(world.judge(outcome).await.is_none(), "{reason:?}");
        assert_eq!(world.intake.desired(), in_force.as_ref(), "{reason:?}");
        let snapshot = world.snapshot();
        let conditions = deployment::conditions(&snapshot);
        let of = |kind| conditions.iter().find(|condition| condition.kind == kind).unwrap();
        let accepted = of(ConditionKind::DocumentAccepted);
        assert_eq!((accepted.status, &*accepted.reason), (Status::False, reason.as_str()));
        assert_eq!(of(ConditionKind::Ready).reason, "DocumentRefused", "{reason:?}");
        let event = world.newest_event().await;
        assert_eq!((event.kind, event.outcome), (NoteKind::DesiredRejected, Outcome::Failure), "{reason:?}");
        assert!(!event.message.is_empty());
        let metrics = world.parts.counters.render(&snapshot);
        for line in [
            "ebb_desired_rejected 1".to_owned(),
            format!("ebb_desired_documents_total{{result=\"refused\"}} {number}"),
            format!("ebb_deployment_condition{{reason=\"{}\",type=\"DocumentAccepted\"}} 0", reason.as_str()),
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
        }
    }
    assert!(world.judge(found(GOOD.as_bytes())).await.is_none(), "it is in force already");
    assert!(world.parts.counters.render(&world.snapshot()).contains("ebb_desired_rejected 0"));
}

/// Damages a text in a few places.
fn damaged(text: &str, random: &mut StdRng) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(1..60)).min(bytes.len());
        match random.random_range(0..5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, random.random()),
            3 => bytes[at..end].reverse(),
            _ => {
                let piece = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// Documents of one test; four of them make the 100,000.
const DAMAGED: u64 = 25_000;

async fn damage(seed: u64) {
    let mut world = World::new().await;
    let in_force = world.intake.desired().cloned();
    let mut random = StdRng::seed_from_u64(20_261_121 + seed);
    let (mut refused, mut valid) = (0, 0);
    for _ in 0..DAMAGED {
        let text = damaged(GOOD, &mut random);
        match world.judge(found(&text)).await {
            // What is valid is somebody's wish.
            Some(_) => valid += 1,
            None => refused += 1,
        }
        assert_eq!(world.intake.desired(), in_force.as_ref(), "{}", String::from_utf8_lossy(&text));
    }
    // Both must happen, or the damage is too great or too small to show anything.
    assert!(refused > 20_000 && valid > 50, "{refused} refused, {valid} valid");
}

macro_rules! shards {
    ($($name:ident: $seed:literal)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                damage($seed).await;
            }
        )*
    };
}

shards! {
    no_damaged_document_that_is_refused_takes_a_session_away_1: 1
    no_damaged_document_that_is_refused_takes_a_session_away_2: 2
    no_damaged_document_that_is_refused_takes_a_session_away_3: 3
    no_damaged_document_that_is_refused_takes_a_session_away_4: 4
}
