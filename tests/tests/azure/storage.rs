//! The lock and the document in Blob storage.

use ebb::azure::lease::BlobLock;
use ebb::azure::storage::{Storage, header};
use ebb::source::{BlobSource, Source};

use azure_core::http::Method;

use super::azurite::Azurite;
use super::{azure, notice};

fn storage(url: &str) -> Storage {
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
    assert!(lock().try_acquire().await.unwrap().is_none(), "the blob had to be made first");
    let first = lock().try_acquire().await.unwrap().unwrap();
    assert!(first.holds());
    assert!(lock().try_acquire().await.unwrap().is_none(), "it is held");
    let epoch = first.epoch();
    first.release().await;
    let second = lock().try_acquire().await.unwrap().unwrap();
    assert_eq!((epoch, second.epoch()), (1, 2));
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
