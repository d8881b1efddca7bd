//! The document in a blob that has versions, and in an account that is down.

use std::net::TcpListener;
use std::time::Duration;

use ebb::azure::storage::Storage;
use ebb::source::{BlobSource, ReplaceError, Source, SourceError};
use ebb_core::plan::Revision;
use ebb_tests::fake_blob::{CONTAINER, FakeBlob, NAME};
use tokio::time::Instant;

use super::azure;

fn start() -> (FakeBlob, BlobSource) {
    let fake = FakeBlob::start(TcpListener::bind("127.0.0.1:0").unwrap());
    let storage = Storage::open(&azure("https://unused.example").0, "EBB_DOCUMENT", &fake.url()).unwrap();
    (fake, BlobSource::new(storage))
}

#[tokio::test]
async fn every_version_is_told_by_its_id_and_its_time() {
    let (fake, source) = start();
    let first = fake.write("one");
    let fetched = source.fetch(None).await.unwrap();
    assert_eq!(fetched.provenance.version, Some(first));
    assert_eq!(fetched.provenance.authored_at.unwrap().to_string(), "2026-11-20T08:00:00Z");
    let second = fake.write("two");
    assert_eq!(source.fetch(None).await.unwrap().provenance.version, Some(second.clone()));
    assert_eq!(
        source.fetch(None).await.unwrap().provenance.version,
        Some(second),
        "this time without a body"
    );
    assert!(source.is_blob(CONTAINER, NAME) && !source.is_blob(CONTAINER, "other.yaml"));
}

#[tokio::test]
async fn a_blob_is_replaced_by_whoever_has_seen_it_and_by_nobody_else() {
    let (fake, source) = start();
    fake.write("one");
    let seen = source.fetch(None).await.unwrap().revision;
    let written = source.replace("two", &seen).await.unwrap();
    assert_eq!(fake.text().as_deref(), Some("two"));
    let fetched = source.fetch(None).await.unwrap();
    assert_eq!((fetched.revision, fetched.provenance.version), (written.clone(), fake.versions().pop()));

    fake.write("three, by somebody else");
    let late = source.replace("four", &written).await.unwrap_err();
    assert!(matches!(late, ReplaceError::Changed { current: Some(_), .. }), "{late}");
    let never = source.replace("four", &Revision("0000".to_owned())).await.unwrap_err();
    assert!(matches!(never, ReplaceError::Changed { .. }), "{never}");
    assert_eq!(fake.text().as_deref(), Some("three, by somebody else"));
    fake.refuse(Some((403, None)));
    let refused = source.replace("four", &written).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

/// How long the source waits before it wants to be asked again, in virtual time.
async fn wait(source: &BlobSource) -> f64 {
    tokio::time::pause();
    let began = Instant::now();
    source.changed().await;
    let waited = began.elapsed();
    tokio::time::resume();
    waited.as_secs_f64()
}

async fn fail(source: &BlobSource) -> SourceError {
    source.fetch(None).await.unwrap_err()
}

#[tokio::test]
async fn an_account_that_is_down_is_asked_less_and_less_until_it_answers() {
    let (fake, source) = start();
    fake.write("one");
    source.fetch(None).await.unwrap();
    let near = |waited: f64, seconds: f64| (seconds * 0.9..=seconds * 1.1).contains(&waited);
    let waited = wait(&source).await;
    assert!(near(waited, 30.0), "{waited}");
    fake.refuse(Some((503, None)));
    for seconds in [60.0, 120.0, 240.0, 480.0, 600.0, 600.0] {
        assert!(fail(&source).await.to_string().contains("503"));
        let waited = wait(&source).await;
        assert!(near(waited, seconds), "{waited} instead of {seconds}");
    }
    fake.refuse(None);
    source.fetch(None).await.unwrap();
    let waited = wait(&source).await;
    assert!(near(waited, 30.0), "{waited}");
}

#[tokio::test]
async fn an_account_that_asks_for_time_gets_it() {
    let (fake, source) = start();
    fake.refuse(Some((429, Some(200))));
    fail(&source).await;
    let waited = wait(&source).await;
    assert!((180.0..=220.0).contains(&waited), "{waited}");
}

#[tokio::test]
async fn a_failure_lengthens_a_wait_that_has_begun() {
    let (fake, source) = start();
    fake.refuse(Some((500, None)));
    let source = std::sync::Arc::new(source);
    let waiting = tokio::spawn({
        let source = std::sync::Arc::clone(&source);
        async move { source.changed().await }
    });
    tokio::task::yield_now().await;
    for _ in 0..4 {
        fail(&source).await;
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(400)).await;
    assert!(!waiting.is_finished());
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(waiting.is_finished());
    tokio::time::resume();
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_no_failure_of_the_account() {
    let (fake, source) = start();
    assert!(fail(&source).await.to_string().contains("404"));
    assert_eq!(fake.asked(), 1);
    let waited = wait(&source).await;
    assert!((27.0..=33.0).contains(&waited), "{waited}");
}
