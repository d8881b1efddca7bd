//! Dividing the shards among the daemons that are there, without anybody who divides.
//!
//! Every daemon takes a seat, which is a lease like that of a shard. The seats that are taken say how many daemons there are, and
//! the order of the seats who of them has a shard more where the shards do not come out even: so each knows its own share, and
//! the shares are all the shards. Whoever has more gives up, whoever has less takes what is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::lease::{ASK_EVERY, BlobLock, Lease, LeaseError};
use super::storage::Storage;
use crate::engine::Busy;
use crate::leadership::{Leadership, Shard};
use crate::store::{Store, StoreError};

/// What is under way for a shard that is given up gets this long, then the lease is left to end by itself.
const LAST_STEPS: Duration = Duration::from_secs(20);

/// The leases of one daemon among several.
pub struct Sharing {
    first: Storage,
    leadership: Arc<Leadership>,
    seat: Option<(u16, Kept)>,
    shards: BTreeMap<Shard, Kept>,
    keepers: JoinSet<String>,
}

/// A lease that is being renewed.
struct Kept {
    lease: Arc<Lease>,
    keeper: AbortHandle,
}

/// Why a share cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SharingError {
    /// A lease cannot be had.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The store cannot be taken over.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sharing {
    /// A daemon without a share. `first` is where the lock of the first shard is.
    #[must_use]
    pub fn new(first: Storage, leadership: Arc<Leadership>) -> Self {
        Self { first, leadership, seat: None, shards: BTreeMap::new(), keepers: JoinSet::new() }
    }

    /// Waits until this daemon leads a shard.
    ///
    /// # Errors
    /// When Azure refuses for good, or a lease was lost meanwhile.
    pub async fn begin(&mut self, store: &dyn Store) -> Result<(), SharingError> {
        let mut told = false;
        loop {
            if let Err(error) = self.take_share(store).await {
                match error {
                    SharingError::Lease(LeaseError::Refused { .. }) => return Err(error),
                    SharingError::Lease(LeaseError::Unanswered(_)) | SharingError::Store(_) => {
                        tracing::warn!("{error}");
                    }
                }
            }
            if !self.shards.is_empty() {
                return Ok(());
            }
            if !told {
                tracing::info!("no shard is free at {}; standing by", self.first.place());
                told = true;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Keeps this daemon's share until a lease is lost; why it is.
    pub async fn keep(&mut self, store: &dyn Store, mut busy: watch::Receiver<Busy>) -> String {
        loop {
            tokio::select! {
                Some(lost) = self.keepers.join_next() => match lost {
                    Ok(why) => return why,
                    // Given back by this daemon itself.
                    Err(error) if error.is_cancelled() => continue,
                    Err(error) => return error.to_string(),
                },
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
            let balanced = match self.take_share(store).await {
                Ok(surplus) => self.give_up(surplus, &mut busy).await,
                Err(error) => Err(error),
            };
            if let Err(error) = balanced {
                tracing::warn!("{error}");
            }
        }
    }

    /// Gives everything back.
    pub async fn release(&mut self) {
        for (_, kept) in std::mem::take(&mut self.shards) {
            kept.release().await;
        }
        if let Some((_, seat)) = self.seat.take() {
            seat.release().await;
        }
    }

    /// Takes free shards up to this daemon's share; how many it has beyond it.
    async fn take_share(&mut self, store: &dyn Store) -> Result<usize, SharingError> {
        let count = self.leadership.count();
        for number in 0..count {
            if self.seat.is_some() {
                break;
            }
            if let Some(lease) = BlobLock::of_seat(&self.first, number).try_acquire().await? {
                self.seat = Some((number, self.kept(lease)));
            }
        }
        let Some((seat, _)) = self.seat else { return Ok(0) };
        let (mut before, mut after) = (0, 0);
        for number in (0..count).filter(|number| *number != seat) {
            if BlobLock::of_seat(&self.first, number).is_held().await? {
                *(if number < seat { &mut before } else { &mut after }) += 1;
            }
        }
        let share = share(count, before, before + after + 1);
        // Each begins somewhere else, so that few ask for the same.
        for shard in (0..count).map(|offset| Shard((seat + offset) % count)) {
            if self.shards.len() >= share {
                break;
            }
            if self.shards.contains_key(&shard) {
                continue;
            }
            let lock = BlobLock::of_shard(&self.first, shard, count);
            if let Some(lease) = lock.try_acquire().await? {
                let fence = lease.fence().clone();
                let kept = self.kept(lease);
                if let Err(error) = store.take_over(&fence).await {
                    kept.release().await;
                    return Err(error.into());
                }
                tracing::info!("leading shard {shard} of {count} in epoch {}", fence.epoch());
                self.shards.insert(shard, kept);
                self.leadership.gain(fence);
            }
        }
        Ok(self.shards.len().saturating_sub(share))
    }

    async fn give_up(
        &mut self,
        surplus: usize,
        busy: &mut watch::Receiver<Busy>,
    ) -> Result<(), SharingError> {
        // The first shard moves last: whoever has it takes documents into force.
        let given: Vec<Shard> = self.shards.keys().rev().take(surplus).copied().collect();
        for shard in given {
            let Some(kept) = self.shards.remove(&shard) else { continue };
            let change = self.leadership.yields(shard);
            let settled = busy.wait_for(|busy| busy.seen >= change && !busy.shards.contains(&shard));
            let settled = tokio::time::timeout(LAST_STEPS, settled).await.is_ok_and(|waited| waited.is_ok());
            tracing::info!("giving up shard {shard} to another daemon");
            self.leadership.lose(shard);
            if settled {
                kept.release().await;
            } else {
                // Somebody else begins when it has ended; what is under way cannot reach beyond that.
                kept.keeper.abort();
                kept.lease.fence().close();
            }
        }
        Ok(())
    }

    fn kept(&mut self, lease: Lease) -> Kept {
        let lease = Arc::new(lease);
        let of_keeper = Arc::clone(&lease);
        let keeper = self.keepers.spawn(async move { of_keeper.keep().await });
        Kept { lease, keeper }
    }
}

impl Kept {
    async fn release(self) {
        self.keeper.abort();
        self.lease.release().await;
    }
}

/// How many of `count` shards a daemon has that comes after `before` others, where there are `daemons`.
fn share(count: u16, before: u16, daemons: u16) -> usize {
    usize::from(count / daemons) + usize::from(before < count % daemons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_all_the_shards_and_differ_by_one_at_most() {
        for count in 1..=16 {
            for daemons in 1..=20 {
                let shares: Vec<_> = (0..daemons).map(|before| share(count, before, daemons)).collect();
                assert_eq!(shares.iter().sum::<usize>(), usize::from(count));
                assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{shares:?}");
            }
        }
    }
}
