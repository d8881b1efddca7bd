//! The document as a blob of Azure Storage.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::Method;
use ebb_core::plan::Revision;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Base, Fetched, Provenance, Reason, ReplaceError, Source, SourceError, revision_of};
use crate::azure::storage::{Storage, header, words};
use crate::azure::{Answer, Unanswered};

/// How often to ask whether there is a new version. An answer that there is none has no body.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Each failure doubles the wait, up to this: an account that is throttled or gone for hours is asked less, and a document that
/// comes back is in force before anybody gives up waiting. Event Grid and `ebb reconcile` do not wait.
const ASK_AT_LEAST_EVERY: Duration = Duration::from_mins(10);

/// Waits are spread over this share, so that the daemons of many deployments do not ask one account at once.
const JITTER: f64 = 0.2;

/// No document is longer: 10,000 sessions take 2.2 MB.
const LONGEST: usize = 8 * 1024 * 1024;

/// A [`Source`] that reads a blob, and its content only when its `ETag` has changed.
pub struct BlobSource {
    storage: Storage,
    last: Mutex<Option<Seen>>,
    pace: Mutex<Pace>,
    /// The pace has changed.
    paced: Notify,
}

/// What was read, and the `ETag` that stands for it.
#[derive(Clone)]
struct Seen {
    etag: String,
    fetched: Fetched,
}

/// How it went lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pace {
    failures: u32,
    /// What the account has asked for.
    retry_after: Option<Duration>,
}

impl Pace {
    /// How long to wait before asking again.
    fn wait(self) -> Duration {
        let doubled = ASK_EVERY.saturating_mul(1 << self.failures.min(16));
        let asked_for = self.retry_after.unwrap_or_default().min(ASK_AT_LEAST_EVERY);
        doubled.min(ASK_AT_LEAST_EVERY).max(asked_for)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlobSource {
    /// Reads the blob at this place.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self { storage, last: Mutex::default(), pace: Mutex::default(), paced: Notify::new() }
    }

    fn error(&self, reason: Reason, why: impl ToString) -> SourceError {
        SourceError { origin: self.origin(), reason, why: why.to_string(), revision: None }
    }

    /// What is there, and its `ETag` if it has one.
    async fn look(&self) -> Result<(Fetched, Option<String>), SourceError> {
        let last = lock(&self.last).clone();
        let mut request = self.storage.request(Method::Get, "", &[]);
        if let Some(Seen { etag, .. }) = &last {
            header(&mut request, "if-none-match", etag);
        }
        let answer = self.storage.send(request).await;
        self.keep_pace(&answer);
        let answer = answer.map_err(|error| self.error(Reason::FetchFailed, error))?;
        match (answer.status, last) {
            (304, Some(Seen { etag, fetched })) => return Ok((fetched, Some(etag))),
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
        let provenance = provenance(&answer);
        let fetched = Fetched { revision: revision_of(&answer.body), provenance, text: answer.body };
        *lock(&self.last) = etag.clone().map(|etag| Seen { etag, fetched: fetched.clone() });
        Ok((fetched, etag))
    }

    /// That there is no blob is an answer; the account works.
    fn keep_pace(&self, answer: &Result<Answer, Unanswered>) {
        let retry_after = match answer {
            Ok(answer) if matches!(answer.status, 200 | 304 | 404) => {
                *lock(&self.pace) = Pace::default();
                self.paced.notify_one();
                return;
            }
            Ok(answer) => answer.retry_after(),
            Err(_) => None,
        };
        let mut pace = lock(&self.pace);
        *pace = Pace { failures: pace.failures.saturating_add(1), retry_after };
        self.paced.notify_one();
    }
}

/// When the blob was written, and which of its versions it is, where the account keeps versions
/// (<https://learn.microsoft.com/azure/storage/blobs/versioning-overview>).
fn provenance(answer: &Answer) -> Provenance {
    let written = answer.header("last-modified").and_then(|text| azure_core::time::parse_rfc7231(text).ok());
    Provenance {
        authored_at: written.and_then(|at| Timestamp::from_second(at.unix_timestamp()).ok()),
        version: answer.header("x-ms-version-id").map(str::to_owned),
        ..Provenance::default()
    }
}

#[async_trait]
impl Source for BlobSource {
    async fn fetch(&self, _: Option<&Base>) -> Result<Fetched, SourceError> {
        self.look().await.map(|(fetched, _)| fetched)
    }

    async fn changed(&self) {
        let began = Instant::now();
        let spread = 1.0 + JITTER * (rand::random::<f64>() - 0.5);
        loop {
            let wait = lock(&self.pace).wait().mul_f64(spread);
            tokio::select! {
                () = tokio::time::sleep_until(began + wait) => return,
                () = self.paced.notified() => {}
            }
        }
    }

    async fn replace(&self, text: &str, expected: &Revision) -> Result<Revision, ReplaceError> {
        let failed = |why: String| ReplaceError::Failed { origin: self.origin(), why };
        let (fetched, etag) = self.look().await.map_err(|error| failed(error.why))?;
        if fetched.revision != *expected {
            return Err(ReplaceError::Changed { origin: self.origin(), current: Some(fetched.revision) });
        }
        let etag = etag.ok_or_else(|| failed("the answer to a GET has no ETag".to_owned()))?;
        let mut request = self.storage.request(Method::Put, "", &[]);
        header(&mut request, "x-ms-blob-type", "BlockBlob");
        header(&mut request, "content-type", "application/yaml");
        header(&mut request, "if-match", &etag);
        request.set_body(text.as_bytes().to_vec());
        let answer = self.storage.send(request).await.map_err(|error| failed(error.to_string()))?;
        match answer.status {
            201 => Ok(revision_of(text.as_bytes())),
            412 => Err(ReplaceError::Changed { origin: self.origin(), current: None }),
            _ => Err(failed(words(&answer))),
        }
    }

    fn is_blob(&self, container: &str, blob: &str) -> bool {
        self.storage.is_blob(container, blob)
    }

    fn origin(&self) -> String {
        self.storage.place().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_doubles_the_wait_up_to_ten_minutes() {
        let wait = |failures| Pace { failures, retry_after: None }.wait().as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 40, u32::MAX].map(wait), [30, 60, 120, 240, 480, 600, 600, 600]);
    }

    #[test]
    fn an_account_may_ask_for_more_time_but_not_for_any() {
        let wait = |seconds| Pace { failures: 1, retry_after: Some(Duration::from_secs(seconds)) }.wait();
        assert_eq!([1, 90, 86_400].map(|asked| wait(asked).as_secs()), [60, 90, 600]);
    }
}
