//! The lock and the document in Blob storage.

use ebb::azure::lease::BlobLock;
use ebb::azure::storage::{Storage, header};
use ebb::leadership::Shard;
use ebb::source::{BlobSource, Source};

use azure_core::http::Method;

use super::{azure, notice};
use ebb_tests::azurite::Azurite;

pub(crate) fn storage(url: &str) -> Storage {
    Storage::open(&azure("https://unused.example").0, "EBB_LOCK", url).unwrap()
}

pub(crate) async fn with_container(azurite: &Azurite, name: &str) {
    let container = storage(&azurite.blob(name));
    let request = container.request(Method::Put, "", &[("restype", "container")]);
    assert_eq!(container.send(request).await.unwrap().status, 201);
}

async fn write(azurite: &Azurite, path: &str, text: &'static str) {
    let blob = storage(&azurite.blob(path));
    let mut request = blob.request(Method::Put, "", &[]);
    header(&mut request, "x-ms-blob-type", "BlockBlob");
    request.set_body(text.as_bytes().to_vec());
    assert_eq!(blob.send(request).await.unwrap().status, 201);
}

#[tokio::test]
async fn of_two_daemons_one_leads_and_every_leader_has_a_higher_epoch() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    with_container(&azurite, "leader").await;
    let lock = || BlobLock::new(storage(&azurite.blob("leader/lock")));
    let first = lock().try_acquire().await.unwrap().unwrap();
    first.fence().check().unwrap();
    assert!(lock().try_acquire().await.unwrap().is_none(), "it is held");
    first.release().await;
    assert!(first.fence().check().is_err(), "what was given back is not used any more");
    let second = lock().try_acquire().await.unwrap().unwrap();
    assert_eq!(second.fence().epoch(), first.fence().epoch() + 1);

    // Somebody deletes the blob; the tables remember the epoch.
    second.release().await;
    let blob = storage(&azurite.blob("leader/lock"));
    assert_eq!(blob.send(blob.request(Method::Delete, "", &[])).await.unwrap().status, 202);
    let third = lock().try_acquire().await.unwrap().unwrap();
    assert!(third.fence().epoch() >= first.fence().epoch(), "a new lock does not begin anew");
}

#[tokio::test]
async fn daemons_that_divide_the_sessions_in_different_ways_never_lead_at_once() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    with_container(&azurite, "leader").await;
    let first = storage(&azurite.blob("leader/lock"));
    let lock = |shard, count| BlobLock::of_shard(&first, Shard(shard), count);
    let second_of_four = lock(1, 4).try_acquire().await.unwrap().unwrap();
    assert!(lock(0, 1).try_acquire().await.unwrap().is_none());
    assert!(lock(0, 2).try_acquire().await.unwrap().is_none());
    let first_of_four = lock(0, 4).try_acquire().await.unwrap().unwrap();
    assert_eq!(first_of_four.fence().shard(), Shard(0));
    second_of_four.release().await;
    assert!(lock(1, 2).try_acquire().await.unwrap().is_none());
    first_of_four.release().await;
    assert!(lock(1, 2).try_acquire().await.unwrap().is_some());
}

#[tokio::test]
async fn a_document_in_a_blob_is_read_again_only_when_it_has_changed() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    with_container(&azurite, "desired-state").await;
    let source = BlobSource::new(storage(&azurite.blob("desired-state/home.yaml")));
    let missing = source.fetch(None).await.unwrap_err().to_string();
    assert!(missing.contains("404") && !missing.contains("sig="), "{missing}");
    write(&azurite, "desired-state/home.yaml", "version: 1\n").await;
    let first = source.fetch(None).await.unwrap();
    assert_eq!(first.text, b"version: 1\n");
    assert_eq!(source.fetch(None).await.unwrap(), first, "this time without a body");
    write(&azurite, "desired-state/home.yaml", "version: 2\n").await;
    let second = source.fetch(None).await.unwrap();
    assert_eq!(second.text, b"version: 2\n");
    assert_ne!(second.revision, first.revision);
}
