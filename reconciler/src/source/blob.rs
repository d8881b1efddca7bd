//! The document as a blob of Azure Storage.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::Method;
use ebb_core::plan::Revision;
use sha2::{Digest as _, Sha256};

use super::{Fetched, Source, SourceError};
use crate::azure::storage::{Storage, header, words};

/// How often to ask whether there is a new version. An answer that there is none has no body.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// No document is longer: 10,000 sessions take 2.2 MB.
const LONGEST: usize = 8 * 1024 * 1024;

/// A [`Source`] that reads a blob, and its content only when its `ETag` has changed.
pub struct BlobSource {
    storage: Storage,
    last: Mutex<Option<(String, Fetched)>>,
}

impl BlobSource {
    /// Reads the blob at this place.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self { storage, last: Mutex::default() }
    }

    fn error(&self, why: impl ToString) -> SourceError {
        SourceError { origin: self.origin(), why: why.to_string() }
    }
}

#[async_trait]
impl Source for BlobSource {
    async fn fetch(&self) -> Result<Fetched, SourceError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = self.storage.request(Method::Get, "", &[]);
        if let Some((etag, _)) = &last {
            header(&mut request, "if-none-match", etag);
        }
        let answer = self.storage.send(request).await.map_err(|error| self.error(error))?;
        match (answer.status, last) {
            (304, Some((_, fetched))) => return Ok(fetched),
            (200, _) => {}
            _ => return Err(self.error(words(&answer))),
        }
        if answer.body.len() > LONGEST {
            return Err(self.error(format!("it has {} bytes, more than {LONGEST}", answer.body.len())));
        }
        let digest = Sha256::digest(&answer.body);
        let revision = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let etag = answer.header("etag").map(str::to_owned);
        let fetched = Fetched { text: answer.body, revision: Revision(revision) };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = etag.map(|etag| (etag, fetched.clone()));
        Ok(fetched)
    }

    async fn changed(&self) {
        tokio::time::sleep(ASK_EVERY).await;
    }

    fn origin(&self) -> String {
        self.storage.place().to_owned()
    }
}
