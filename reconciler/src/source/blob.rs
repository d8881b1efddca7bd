//! The document as a blob of Azure Storage.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::Method;

use super::{Base, Fetched, Provenance, Reason, Source, SourceError, revision_of};
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

    fn error(&self, reason: Reason, why: impl ToString) -> SourceError {
        SourceError { origin: self.origin(), reason, why: why.to_string(), revision: None }
    }
}

#[async_trait]
impl Source for BlobSource {
    async fn fetch(&self, _: Option<&Base>) -> Result<Fetched, SourceError> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut request = self.storage.request(Method::Get, "", &[]);
        if let Some((etag, _)) = &last {
            header(&mut request, "if-none-match", etag);
        }
        let answer =
            self.storage.send(request).await.map_err(|error| self.error(Reason::FetchFailed, error))?;
        match (answer.status, last) {
            (304, Some((_, fetched))) => return Ok(fetched),
            (200, _) => {}
            (404, _) => return Err(self.error(Reason::Missing, words(&answer))),
            _ => return Err(self.error(Reason::FetchFailed, words(&answer))),
        }
        if answer.body.len() > LONGEST {
            return Err(self.error(
                Reason::TooLarge,
                format!("it has {} bytes, more than {LONGEST}", answer.body.len()),
            ));
        }
        let etag = answer.header("etag").map(str::to_owned);
        let revision = revision_of(&answer.body);
        let fetched = Fetched { text: answer.body, revision, provenance: Provenance::default() };
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
