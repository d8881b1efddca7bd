//! Taking the lead: alone in it, or sharing it with others.

use std::sync::Arc;

use tokio::sync::watch;

use super::lease::{BlobLock, Lease};
use super::sharing::{Sharing, SharingError};
use super::storage::Storage;
use crate::engine::Busy;
use crate::leadership::Leadership;
use crate::store::Store;

/// What this daemon has of the lead.
pub struct Lead {
    kind: Kind,
    leadership: Arc<Leadership>,
}

enum Kind {
    /// All of it or nothing.
    Whole { lock: Box<BlobLock>, lease: Option<Box<Lease>> },
    /// As many shards as come to it.
    Shared(Box<Sharing>),
}

impl Lead {
    /// Has nothing yet. The lock, or that of the first shard, is at `lock`.
    #[must_use]
    pub fn new(lock: Storage, leadership: &Arc<Leadership>) -> Self {
        let kind = match leadership.count() {
            1 => Kind::Whole { lock: Box::new(BlobLock::new(lock)), lease: None },
            _ => Kind::Shared(Box::new(Sharing::new(lock, Arc::clone(leadership)))),
        };
        Self { kind, leadership: Arc::clone(leadership) }
    }

    /// Waits until this daemon leads something, and takes the store over.
    ///
    /// # Errors
    /// When Azure refuses for good, or the store cannot be taken over. What was taken until then is given back, so that nobody has to
    /// wait for the end of a lease that is of no use.
    pub async fn begin(&mut self, store: &dyn Store) -> Result<(), SharingError> {
        let begun = self.take(store).await;
        if begun.is_err() {
            self.release().await;
        }
        begun
    }

    async fn take(&mut self, store: &dyn Store) -> Result<(), SharingError> {
        match &mut self.kind {
            Kind::Whole { lock, lease } => {
                let held = lease.insert(Box::new(lock.acquire().await?));
                store.take_over(held.fence()).await?;
                tracing::info!("leading in epoch {}", held.fence().epoch());
                self.leadership.gain(held.fence().clone());
                Ok(())
            }
            Kind::Shared(sharing) => sharing.begin(store).await,
        }
    }

    /// Keeps the lead until it is lost; why it is.
    pub async fn keep(&mut self, store: &dyn Store, busy: watch::Receiver<Busy>) -> String {
        match &mut self.kind {
            Kind::Whole { lease: Some(lease), .. } => lease.keep().await,
            Kind::Whole { lease: None, .. } => std::future::pending().await,
            Kind::Shared(sharing) => sharing.keep(store, busy).await,
        }
    }

    /// Gives back what it has.
    pub async fn release(&mut self) {
        match &mut self.kind {
            Kind::Whole { lease, .. } => {
                if let Some(lease) = lease.take() {
                    lease.release().await;
                }
            }
            Kind::Shared(sharing) => sharing.release().await,
        }
    }
}
