//! One daemon at a time: a lease on a blob ("Lease Blob"), and a number that goes up with every holder.

use std::time::Duration;

use azure_core::http::{Method, Request};
use ebb_tunnel::Time;

use super::storage::{Storage, error_code, header, words};
use super::{Answer, Unanswered};
use crate::clock;

/// How long a lease lasts that nobody renews: the longest time for which nobody leads. Azure allows 15 s to 60 s.
const TERM: Duration = Duration::from_secs(30);

/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How soon it is tried again when there was no answer, for as long as the lease certainly holds.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// How often somebody who waits asks.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A holder stops this long before the lease ends, so that clocks that run at different speeds and a step in flight cannot make
/// two of them.
const MARGIN: Duration = Duration::from_secs(5);

/// A lock in a blob.
#[derive(Debug, Clone)]
pub struct BlobLock {
    storage: Storage,
}

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Azure refused.
    #[error("cannot use the lock {place}: {why}")]
    Refused {
        /// Which.
        place: String,
        /// Why.
        why: String,
    },
    /// There was no answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// The lock, held. Dropping it leaves the lease to end by itself; [`Lease::release`] gives it back at once.
#[derive(Debug)]
pub struct Lease {
    storage: Storage,
    id: String,
    epoch: u64,
    renewed_at: Time,
}

impl BlobLock {
    /// The lock in the blob at this place. The blob is made if there is none.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Waits until the lock is free and takes it.
    ///
    /// # Errors
    /// When Azure refuses for good. What passes is waited out.
    pub async fn acquire(&self) -> Result<Lease, LeaseError> {
        let mut told = false;
        loop {
            match self.try_acquire().await {
                Ok(Some(lease)) => return Ok(lease),
                Ok(None) if told => {}
                Ok(None) => {
                    tracing::info!("another daemon holds the lock {}; standing by", self.storage.place());
                    told = true;
                }
                Err(LeaseError::Unanswered(error)) => tracing::warn!("{error}"),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// When nobody knows whether it is.
    pub async fn try_acquire(&self) -> Result<Option<Lease>, LeaseError> {
        let asked_at = clock::monotonic();
        let mut request = lease(&self.storage, "acquire");
        header(&mut request, "x-ms-lease-duration", &TERM.as_secs().to_string());
        let answer = self.storage.send(request).await?;
        let id = match answer.status {
            201 => answer.header("x-ms-lease-id").unwrap_or_default().to_owned(),
            409 => return Ok(None),
            404 if error_code(&answer) == "BlobNotFound" => {
                self.make().await?;
                return Ok(None);
            }
            _ => return Err(self.refused(&answer)),
        };
        let mut lease = Lease { storage: self.storage.clone(), id, epoch: 0, renewed_at: asked_at };
        match lease.begin().await {
            Ok(()) => Ok(Some(lease)),
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    async fn make(&self) -> Result<(), LeaseError> {
        let mut request = self.storage.request(Method::Put, "", &[]);
        header(&mut request, "x-ms-blob-type", "BlockBlob");
        header(&mut request, "if-none-match", "*");
        request.set_body(Vec::new());
        header(&mut request, "content-length", "0");
        let answer = self.storage.send(request).await?;
        match answer.status {
            // Somebody else was first.
            201 | 409 | 412 => Ok(()),
            _ => Err(self.refused(&answer)),
        }
    }

    fn refused(&self, answer: &Answer) -> LeaseError {
        LeaseError::Refused { place: self.storage.place().to_owned(), why: words(answer) }
    }
}

fn lease(storage: &Storage, action: &str) -> Request {
    let mut request = storage.request(Method::Put, "", &[("comp", "lease")]);
    header(&mut request, "x-ms-lease-action", action);
    header(&mut request, "content-length", "0");
    request
}

impl Lease {
    /// How many have held the lock, this one included. What an earlier holder still does can be told from it.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Counts the epoch up. Only the holder can: the blob refuses metadata without the lease.
    async fn begin(&mut self) -> Result<(), LeaseError> {
        let refused = |answer: &Answer| LeaseError::Refused {
            place: self.storage.place().to_owned(),
            why: words(answer),
        };
        let answer = self.storage.send(self.storage.request(Method::Head, "", &[])).await?;
        if !answer.is_success() {
            return Err(refused(&answer));
        }
        let before: u64 = answer.header("x-ms-meta-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        let mut request = self.storage.request(Method::Put, "", &[("comp", "metadata")]);
        header(&mut request, "x-ms-lease-id", &self.id);
        header(&mut request, "x-ms-meta-epoch", &(before + 1).to_string());
        header(&mut request, "content-length", "0");
        let answer = self.storage.send(request).await?;
        if !answer.is_success() {
            return Err(refused(&answer));
        }
        self.epoch = before + 1;
        Ok(())
    }

    /// Keeps the lease until it is lost; why it is.
    pub async fn keep(&mut self) -> String {
        let mut wait = RENEW_EVERY;
        let mut trouble = None;
        loop {
            tokio::time::sleep(wait).await;
            let asked_at = clock::monotonic();
            let left = (self.renewed_at + (TERM - MARGIN)).since(asked_at);
            if !self.holds() {
                let paused = || "this process was paused for longer than the lease lasts".to_owned();
                return trouble.unwrap_or_else(paused);
            }
            let mut request = lease(&self.storage, "renew");
            header(&mut request, "x-ms-lease-id", &self.id);
            let why = match tokio::time::timeout(left, self.storage.send(request)).await {
                Ok(Ok(answer)) if answer.is_success() => {
                    (self.renewed_at, wait, trouble) = (asked_at, RENEW_EVERY, None);
                    continue;
                }
                // Somebody else has it, or took it away.
                Ok(Ok(answer)) if matches!(answer.status, 404 | 409 | 412) => return words(&answer),
                Ok(Ok(answer)) => words(&answer),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "there was no answer while the lease lasted".to_owned(),
            };
            tracing::warn!("cannot renew the lease on {}: {why}", self.storage.place());
            (wait, trouble) = (RETRY_EVERY, Some(why));
        }
    }

    /// Whether the lease certainly holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        clock::monotonic() < self.renewed_at + (TERM - MARGIN)
    }

    /// Gives the lock back.
    pub async fn release(self) {
        let mut request = lease(&self.storage, "release");
        header(&mut request, "x-ms-lease-id", &self.id);
        if let Err(error) = self.storage.send(request).await {
            tracing::warn!("{error}");
        }
    }
}
