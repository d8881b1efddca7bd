//! Services of Azure that keep what the daemon knows.

use azure_core::http::Method;
use serde_json::json;

use super::{Finding, Patient};
use crate::azure::storage::{Storage, header, words};
use crate::azure::tables::Tables;
use crate::azure::{Azure, AzureError};

/// A table beside those of the store, with one row for a moment.
const TABLE: &str = "EbbDoctor";

pub(super) async fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let settings = patient.settings;
    let is_address = |text: &&String| text.starts_with("https://") || text.starts_with("http://");
    let mut findings = Vec::new();
    if let Some(url) = settings.store.as_ref().filter(is_address) {
        findings.push(
            match Azure::open(&settings.azure).and_then(|azure| Tables::open(&azure, "EBB_STORE", url)) {
                Ok(tables) => tables_work(&tables).await,
                Err(error) => Finding::failed("tables", error),
            },
        );
    }
    if let Some(url) = settings.lock.as_ref().filter(|url| !url.is_empty()) {
        findings.push(match beside(&settings.azure, url) {
            Ok(storage) => blobs_work(&storage).await,
            Err(error) => Finding::failed("lock", error),
        });
    }
    findings
}

async fn tables_work(tables: &Tables) -> Finding {
    const CHECK: &str = "tables";
    let place = tables.place().to_owned();
    let row = format!("{:016x}", rand::random::<u64>());
    let entity = json!({ "PartitionKey": "doctor", "RowKey": row });
    let Some(entity) = entity.as_object() else { return Finding::skipped(CHECK, "") };
    let work = async {
        tables.ensure(TABLE).await?;
        let etag = tables.insert(TABLE, entity).await?;
        let found = tables.get(TABLE, "doctor", &row).await?;
        tables.delete(TABLE, "doctor", &row, &etag).await?;
        Ok::<_, crate::azure::tables::TableError>(found.is_some())
    };
    match work.await {
        Ok(true) => Finding::ok(CHECK, format!("{place}: a row was written, read and removed")),
        Ok(false) => Finding::fail(
            CHECK,
            format!("{place}: a row that was written cannot be read"),
            "ask Azure's support",
        ),
        Err(error) => {
            let fix = "give the identity the role Storage Table Data Contributor on the account, and let this network through its \
                       firewall";
            Finding::fail(CHECK, format!("{place}: {error}"), fix)
        }
    }
}

/// A blob beside the lock.
fn beside(azure: &crate::azure::AzureSettings, url: &str) -> Result<Storage, AzureError> {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let url = match query {
        Some(query) => format!("{path}.doctor?{query}"),
        None => format!("{path}.doctor"),
    };
    Storage::open(&Azure::open(azure)?, "EBB_LOCK", &url)
}

async fn blobs_work(storage: &Storage) -> Finding {
    const CHECK: &str = "lock";
    let place = storage.place().to_owned();
    let fix = "give the identity the role Storage Blob Data Contributor on the container, which has to exist, and let this network \
               through the account's firewall";
    let mut write = storage.request(Method::Put, "", &[]);
    header(&mut write, "x-ms-blob-type", "BlockBlob");
    header(&mut write, "content-length", "3");
    write.set_body(b"ebb".to_vec());
    let steps = [
        ("written", write),
        ("read", storage.request(Method::Get, "", &[])),
        ("removed", storage.request(Method::Delete, "", &[])),
    ];
    for (step, request) in steps {
        match storage.send(request).await {
            Ok(answer) if answer.is_success() => {}
            Ok(answer) => {
                return Finding::fail(CHECK, format!("{place} cannot be {step}: {}", words(&answer)), fix);
            }
            Err(error) => return Finding::fail(CHECK, format!("{place} cannot be {step}: {error}"), fix),
        }
    }
    Finding::ok(CHECK, format!("{place}: was written, read and removed"))
}
