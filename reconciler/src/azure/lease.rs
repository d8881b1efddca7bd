//! One leader at a time for each shard: a lease on a blob ("Lease Blob"), and a number that goes up with every holder.
//!
//! | blob | its lease |
//! |---|---|
//! | `LOCK` | shard 0, and the right to take documents into force |
//! | `LOCK-1`, `LOCK-2`, … | the other shards |
//! | `LOCK-seat-0`, … | a daemon that shares the shards with others; see [`super::sharing`] |

use std::sync::Arc;
use std::time::Duration;

use azure_core::http::{Method, Request};

use super::storage::{Storage, error_code, header, words};
use super::{Answer, Unanswered};
use crate::clock;
use crate::leadership::{Fence, MOST_SHARDS, Shard};

/// How long a lease lasts that nobody renews: the longest time for which nobody leads. Azure allows 15 s to 60 s.
const TERM: Duration = Duration::from_secs(30);

/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// How soon it is tried again when there was no answer, for as long as the lease certainly holds.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// How often somebody who waits asks.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(5);

/// A holder sends nothing more this long before the lease ends, so that what is on its way arrives while it holds and clocks that
/// run at different speeds make no two holders.
const MARGIN: Duration = Duration::from_secs(5);

/// A lock in a blob.
#[derive(Debug, Clone)]
pub struct BlobLock {
    storage: Storage,
    what: What,
}

/// What a lock is for.
#[derive(Debug, Clone)]
enum What {
    /// One of so many shards; the other locks are beside the one of the first shard.
    Shard {
        shard: Shard,
        count: u16,
        first: Storage,
    },
    Seat,
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
    fence: Fence,
}

impl BlobLock {
    /// The lock of everything in the blob at this place. The blob is made if there is none.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self::of_shard(&storage, Shard::FIRST, 1)
    }

    /// The lock of one of `count` shards, where that of the first one is at this place.
    #[must_use]
    pub fn of_shard(first: &Storage, shard: Shard, count: u16) -> Self {
        let what = What::Shard { shard, count, first: first.clone() };
        Self { storage: beside(first, shard), what }
    }

    /// The `number`th seat for daemons that share the shards whose first lock is at this place.
    #[must_use]
    pub fn of_seat(first: &Storage, number: u16) -> Self {
        Self { storage: first.beside(&format!("-seat-{number}")), what: What::Seat }
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
        let mut asked_at = clock::boottime();
        let mut answer = self.ask().await?;
        if answer.status == 404 && error_code(&answer) == "BlobNotFound" {
            self.make().await?;
            asked_at = clock::boottime();
            answer = self.ask().await?;
        }
        let id = match answer.status {
            201 => answer.header("x-ms-lease-id").unwrap_or_default().to_owned(),
            409 => return Ok(None),
            _ => return Err(refused(&self.storage, &answer)),
        };
        let (shard, count) = match &self.what {
            What::Shard { shard, count, .. } => (*shard, *count),
            What::Seat => (Shard::FIRST, 0),
        };
        let begun = begin(&self.storage, &id, count).await;
        let epoch = *begun.as_ref().unwrap_or(&0);
        let fence = Fence::new(shard, epoch, asked_at + (TERM - MARGIN), Arc::new(clock::boottime));
        let lease = Lease { storage: self.storage.clone(), id, fence };
        let agreed = match begun {
            Ok(_) => self.is_agreed().await,
            Err(error) => Err(error),
        };
        match agreed {
            Ok(true) => Ok(Some(lease)),
            Ok(false) => {
                lease.release().await;
                Ok(None)
            }
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<Answer, Unanswered> {
        let mut request = lease(&self.storage, "acquire");
        header(&mut request, "x-ms-lease-duration", &TERM.as_secs().to_string());
        self.storage.send(request).await
    }

    /// Whether somebody has the lock at the moment.
    ///
    /// # Errors
    /// When nobody knows.
    pub async fn is_held(&self) -> Result<bool, LeaseError> {
        Ok(held(&self.storage).await?.is_some())
    }

    /// Whether nobody leads who divides the sessions in another way: two such daemons could both take a session for theirs. Each of
    /// two that begin at once has its lock before it looks at the other's, so at least one of them notices.
    async fn is_agreed(&self) -> Result<bool, LeaseError> {
        let What::Shard { shard, count, first } = &self.what else { return Ok(true) };
        for other in (0..MOST_SHARDS).map(Shard).filter(|other| other != shard) {
            let Some(theirs) = held(&beside(first, other)).await? else { continue };
            if theirs != *count {
                tracing::warn!(
                    "a daemon with EBB_SHARDS={theirs} holds the lock of shard {other}, and this one has {count}; it waits \
                     until no such daemon is left"
                );
                return Ok(false);
            }
        }
        Ok(true)
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
            _ => Err(refused(&self.storage, &answer)),
        }
    }
}

fn beside(first: &Storage, shard: Shard) -> Storage {
    if shard == Shard::FIRST { first.clone() } else { first.beside(&format!("-{shard}")) }
}

fn refused(storage: &Storage, answer: &Answer) -> LeaseError {
    LeaseError::Refused { place: storage.place().to_owned(), why: words(answer) }
}

fn lease(storage: &Storage, action: &str) -> Request {
    let mut request = storage.request(Method::Put, "", &[("comp", "lease")]);
    header(&mut request, "x-ms-lease-action", action);
    header(&mut request, "content-length", "0");
    request
}

/// Counts the epoch up; the new one. Only the holder can: the blob refuses metadata without the lease.
async fn begin(storage: &Storage, id: &str, count: u16) -> Result<u64, LeaseError> {
    let answer = storage.send(storage.request(Method::Head, "", &[])).await?;
    if !answer.is_success() {
        return Err(refused(storage, &answer));
    }
    let before = answer.header("x-ms-meta-epoch").and_then(|epoch| epoch.parse().ok());
    // The tables remember the epoch. Where somebody has deleted the lock, the next one has to be higher all the same, and leaders
    // never change as often as once a second.
    let before: u64 = before.unwrap_or_else(|| u64::try_from(clock::now().as_second()).unwrap_or(0));
    let mut request = storage.request(Method::Put, "", &[("comp", "metadata")]);
    header(&mut request, "x-ms-lease-id", id);
    header(&mut request, "x-ms-meta-epoch", &(before + 1).to_string());
    header(&mut request, "x-ms-meta-shards", &count.to_string());
    header(&mut request, "content-length", "0");
    let answer = storage.send(request).await?;
    if answer.is_success() { Ok(before + 1) } else { Err(refused(storage, &answer)) }
}

/// Into how many shards the holder of a lock divides the sessions; `None`: nobody holds it.
async fn held(storage: &Storage) -> Result<Option<u16>, LeaseError> {
    let answer = storage.send(storage.request(Method::Head, "", &[])).await?;
    match answer.status {
        404 => Ok(None),
        200..300 if answer.header("x-ms-lease-state") == Some("leased") => {
            let count = answer.header("x-ms-meta-shards").and_then(|count| count.parse().ok());
            Ok(Some(count.unwrap_or(1)))
        }
        200..300 => Ok(None),
        _ => Err(refused(storage, &answer)),
    }
}

/// What became of an attempt to renew a lease.
enum Renewal {
    Done,
    /// Somebody else has it, or took it away.
    Lost(String),
    /// Nobody knows.
    Failed(String),
}

/// What [`keep`] needs of a lease.
trait Renew: Sync {
    fn renew(&self) -> impl Future<Output = Renewal> + Send;
}

impl Renew for Lease {
    async fn renew(&self) -> Renewal {
        let mut request = lease(&self.storage, "renew");
        header(&mut request, "x-ms-lease-id", &self.id);
        match self.storage.send(request).await {
            Ok(answer) if answer.is_success() => Renewal::Done,
            Ok(answer) if matches!(answer.status, 404 | 409 | 412) => Renewal::Lost(words(&answer)),
            Ok(answer) => Renewal::Failed(words(&answer)),
            Err(error) => Renewal::Failed(error.to_string()),
        }
    }
}

/// Renews a lease and keeps its fence open until it is lost; why it is.
async fn keep(fence: &Fence, place: &str, lease: &impl Renew) -> String {
    let mut wait = RENEW_EVERY;
    let mut trouble = None;
    loop {
        tokio::time::sleep(wait).await;
        let (asked_at, left) = (fence.now(), fence.left());
        if left.is_zero() {
            let paused = || "this process was paused for longer than the lease lasts".to_owned();
            return trouble.unwrap_or_else(paused);
        }
        let why = match tokio::time::timeout(left, lease.renew()).await {
            Ok(Renewal::Done) => {
                fence.extend(asked_at + (TERM - MARGIN));
                (wait, trouble) = (RENEW_EVERY, None);
                continue;
            }
            Ok(Renewal::Lost(why)) => return why,
            Ok(Renewal::Failed(why)) => why,
            Err(_) => "there was no answer while the lease lasted".to_owned(),
        };
        tracing::warn!("cannot renew the lease on {place}: {why}");
        (wait, trouble) = (RETRY_EVERY, Some(why));
    }
}

impl Lease {
    /// What is changed under this lease goes through it.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Keeps the lease until it is lost; why it is.
    pub async fn keep(&self) -> String {
        let why = keep(&self.fence, self.storage.place(), self).await;
        self.fence.close();
        why
    }

    /// Gives the lock back. Nothing goes through its fence any more.
    pub async fn release(&self) {
        self.fence.close();
        let mut request = lease(&self.storage, "release");
        header(&mut request, "x-ms-lease-id", &self.id);
        if let Err(error) = self.storage.send(request).await {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ebb_tunnel::Time;
    use tokio::time::Instant;

    use super::*;

    /// A lease that can be renewed as long as `fails` does not say otherwise; the seconds at which that was tried.
    struct Script<F> {
        fails: F,
        began: Instant,
        tried: Mutex<Vec<u64>>,
    }

    impl<F: Fn(u64) -> Option<Renewal> + Sync> Renew for Script<F> {
        async fn renew(&self) -> Renewal {
            let second = self.began.elapsed().as_secs();
            self.tried.lock().unwrap().push(second);
            (self.fails)(second).unwrap_or(Renewal::Done)
        }
    }

    /// Keeps such a lease in virtual time: when it was tried to renew it, when that ended, and why.
    async fn kept(fails: impl Fn(u64) -> Option<Renewal> + Sync) -> (Vec<u64>, u64, String) {
        let began = Instant::now();
        let clock = Arc::new(move || Time::ZERO + began.elapsed());
        let fence = Fence::new(Shard::FIRST, 1, Time::ZERO + (TERM - MARGIN), clock);
        let script = Script { fails, began, tried: Mutex::default() };
        let why = tokio::time::timeout(Duration::from_secs(3600), keep(&fence, "the lock", &script)).await;
        let tried = script.tried.into_inner().unwrap();
        (tried, began.elapsed().as_secs(), why.unwrap_or_else(|_| "it is kept".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_tried_to_be_renewed_every_two_seconds_until_it_ends() {
        let outage = |from: u64, to: u64| {
            move |second| (from..to).contains(&second).then(|| Renewal::Failed("no route".into()))
        };
        let (tried, end, why) = kept(outage(20, 9999)).await;
        assert_eq!(
            tried,
            [10, 20, 22, 24, 26, 28, 30, 32, 34],
            "renewed at 10 s, it certainly holds until 35 s"
        );
        assert_eq!((end, why.as_str()), (36, "no route"));

        let (tried, end, _) = kept(outage(20, 34)).await;
        assert_eq!(tried[7..10], [32, 34, 44], "the last attempt saves it");
        assert_eq!(end, 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_somebody_else_has_is_given_up_at_once() {
        let (tried, end, why) = kept(|_| Some(Renewal::Lost("HTTP status 409".into()))).await;
        assert_eq!((tried, end, why.as_str()), (vec![10], 10, "HTTP status 409"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_not_waited_for_beyond_the_lease() {
        struct Silent;
        impl Renew for Silent {
            async fn renew(&self) -> Renewal {
                std::future::pending().await
            }
        }
        let began = Instant::now();
        let clock = Arc::new(move || Time::ZERO + began.elapsed());
        let fence = Fence::new(Shard::FIRST, 1, Time::ZERO + (TERM - MARGIN), clock);
        let why = keep(&fence, "the lock", &Silent).await;
        assert!(began.elapsed() < TERM && fence.check().is_err(), "{:?}: {why}", began.elapsed());
    }
}
