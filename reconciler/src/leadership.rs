//! Which sessions this daemon may act for, and until when.
//!
//! Sessions are divided into shards by their names. Whoever leads a shard has a [`Fence`] for it: a number that goes up with every
//! leader, and the time until which nobody else can lead. Everything that changes the cloud is sent through the fence of the
//! session in question, so that a daemon that was paused and wakes up finds its fence closed before it sends another byte. What
//! the clock cannot rule out is said in `decisions/fencing.md`.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::task::Poll;
use std::time::Duration;

use ebb_core::outcome::{Class, Failure};
use ebb_desired_state::SessionName;
use ebb_tunnel::Time;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::clock;

/// Shards that a deployment can be divided into: far more than one daemon can make use of, few enough to be asked for one by one.
pub const MOST_SHARDS: u16 = 16;

/// One part of the sessions, by its number from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl Shard {
    /// Whoever leads this one takes documents into force.
    pub const FIRST: Self = Self(0);

    /// The shard of a session where there are `count`. It depends on the name alone, so that every daemon finds the same.
    #[must_use]
    pub fn of(session: &SessionName, count: u16) -> Self {
        let digest = Sha256::digest(session.as_str().as_bytes());
        let number = digest.iter().take(8).fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        Self(u16::try_from(number % u64::from(count.max(1))).unwrap_or(0))
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// This daemon does not lead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this daemon does not lead shard {shard} any more (epoch {epoch}); another one does or will, and this one changes nothing"
)]
pub struct Deposed {
    /// Of which shard.
    pub shard: Shard,
    /// In which epoch it led, zero if it never did.
    pub epoch: u64,
}

impl From<Deposed> for Failure {
    fn from(deposed: Deposed) -> Self {
        Self::new(Class::Transient, deposed.to_string())
    }
}

/// Reads a monotonic clock that goes on while the machine is suspended.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// The right to change what belongs to one shard, for as long as its lease certainly holds. Clones are the same right.
#[derive(Clone)]
pub struct Fence {
    shard: Shard,
    epoch: u64,
    /// Microseconds on the clock; [`u64::MAX`] where there is no lease that could end.
    until: Arc<AtomicU64>,
    clock: Clock,
}

impl Fence {
    /// A fence that is open until `until` on `clock`.
    #[must_use]
    pub fn new(shard: Shard, epoch: u64, until: Time, clock: Clock) -> Self {
        Self { shard, epoch, until: Arc::new(AtomicU64::new(until.as_micros())), clock }
    }

    /// The fence of a daemon that nobody else can take the lead from.
    #[must_use]
    pub fn open() -> Self {
        Self::new(Shard::FIRST, 0, Time::from_micros(u64::MAX), Arc::new(clock::boottime))
    }

    /// Of which shard.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// How many have led the shard, this one included; zero where there is no lease.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What its clock shows.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.clock)()
    }

    /// How long it stays open if nobody extends it.
    #[must_use]
    pub fn left(&self) -> Duration {
        Time::from_micros(self.until.load(Ordering::SeqCst)).since(self.now())
    }

    /// Keeps it open until then.
    pub fn extend(&self, until: Time) {
        self.until.store(until.as_micros(), Ordering::SeqCst);
    }

    /// Closes it for good.
    pub fn close(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Whether anything may still be sent.
    ///
    /// # Errors
    /// When the lease may have ended.
    pub fn check(&self) -> Result<(), Deposed> {
        if self.left().is_zero() { Err(Deposed { shard: self.shard, epoch: self.epoch }) } else { Ok(()) }
    }

    /// Does `work` for as long as the fence is open. It is looked at before each step of the work, so one that was begun before a
    /// pause of the process does not go on after it: a request that still had to be written is not.
    ///
    /// # Errors
    /// When the fence is closed. What was begun before may have been carried out.
    pub async fn guard<F: Future>(&self, work: F) -> Result<F::Output, Deposed> {
        let mut work = pin!(work);
        let guarded = poll_fn(|context| match self.check() {
            Ok(()) => work.as_mut().poll(context).map(Ok),
            Err(deposed) => Poll::Ready(Err(deposed)),
        });
        if self.epoch == 0 {
            return guarded.await;
        }
        // The timer wakes the work when nothing else does.
        match tokio::time::timeout(self.left(), guarded).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Deposed { shard: self.shard, epoch: self.epoch }),
        }
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence")
            .field("shard", &self.shard)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// All that this daemon leads.
#[derive(Debug)]
pub struct Leadership {
    count: u16,
    held: RwLock<BTreeMap<Shard, Held>>,
    /// Counts the changes of what is led.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Held {
    fence: Fence,
    /// Nothing new is begun, and what is under way may end.
    yielding: bool,
}

impl Leadership {
    /// Of a daemon that leads everything and shares nothing.
    #[must_use]
    pub fn alone() -> Arc<Self> {
        let leadership = Self::of(1);
        leadership.gain(Fence::open());
        leadership
    }

    /// Of a daemon that leads nothing yet, where the sessions are divided into `count` shards.
    #[must_use]
    pub fn of(count: u16) -> Arc<Self> {
        Arc::new(Self { count: count.max(1), held: RwLock::default(), changes: watch::Sender::new(0) })
    }

    fn held(&self) -> RwLockReadGuard<'_, BTreeMap<Shard, Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Shard, Held>)) -> u64 {
        change(&mut self.held.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|changes| *changes += 1);
        *self.changes.borrow()
    }

    /// How many shards there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Leads one more shard.
    pub fn gain(&self, fence: Fence) {
        self.change(|held| drop(held.insert(fence.shard, Held { fence, yielding: false })));
    }

    /// Begins nothing more for a shard, and lets what is under way end; the number of this change.
    pub fn yields(&self, shard: Shard) -> u64 {
        self.change(|held| held.get_mut(&shard).into_iter().for_each(|held| held.yielding = true))
    }

    /// Leads a shard no longer.
    pub fn lose(&self, shard: Shard) {
        self.change(|held| drop(held.remove(&shard)));
    }

    /// Shards that are led.
    #[must_use]
    pub fn shards(&self) -> Vec<Shard> {
        self.held().iter().filter(|(_, held)| !held.yielding).map(|(shard, _)| *shard).collect()
    }

    /// Counts how often a shard was gained or given up.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The shard of a session.
    #[must_use]
    pub fn shard_of(&self, session: &SessionName) -> Shard {
        Shard::of(session, self.count)
    }

    /// Whether a session is one of this daemon's.
    #[must_use]
    pub fn holds(&self, session: &SessionName) -> bool {
        self.held().get(&self.shard_of(session)).is_some_and(|held| !held.yielding)
    }

    /// Whether this daemon takes documents into force.
    #[must_use]
    pub fn holds_first(&self) -> bool {
        self.held().get(&Shard::FIRST).is_some_and(|held| !held.yielding)
    }

    /// What changes of a session's gateway go through.
    ///
    /// # Errors
    /// When another daemon leads its shard.
    pub fn fence(&self, session: &SessionName) -> Result<Fence, Deposed> {
        let shard = self.shard_of(session);
        self.held().get(&shard).map(|held| held.fence.clone()).ok_or(Deposed { shard, epoch: 0 })
    }

    /// What everything else goes through: the right of whoever leads anything.
    ///
    /// # Errors
    /// When this daemon leads nothing.
    pub fn any(&self) -> Result<Fence, Deposed> {
        self.held()
            .values()
            .next()
            .map(|held| held.fence.clone())
            .ok_or(Deposed { shard: Shard::FIRST, epoch: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn name(name: &str) -> SessionName {
        name.parse().unwrap()
    }

    #[test]
    fn a_session_has_the_same_shard_in_every_daemon_and_every_version() {
        let shards = ["alice", "bob", "carol", "home"].map(|session| Shard::of(&name(session), 5).0);
        assert_eq!(shards, [2, 0, 2, 4], "these numbers never change");
        assert_eq!(Shard::of(&name("alice"), 1), Shard::FIRST);
        let mut sessions = [0; 4];
        for number in 0..1000 {
            sessions[usize::from(Shard::of(&name(&format!("s{number}")), 4).0)] += 1;
        }
        assert!(sessions.iter().all(|sessions| (200..300).contains(sessions)), "{sessions:?}");
    }

    #[tokio::test]
    async fn work_that_was_begun_before_a_pause_does_not_go_on_after_it() {
        let time = Arc::new(AtomicU64::new(0));
        let of_clock = Arc::clone(&time);
        let clock: Clock = Arc::new(move || Time::from_millis(of_clock.load(Ordering::SeqCst)));
        let fence = Fence::new(Shard(2), 7, Time::from_millis(25_000), clock);
        let sent = AtomicUsize::new(0);
        let request = async || {
            // Connecting; the process is stopped meanwhile, and goes on a minute later.
            tokio::task::yield_now().await;
            sent.fetch_add(1, Ordering::SeqCst);
        };
        fence.guard(request()).await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), 1);
        let pausing = async {
            time.store(60_000, Ordering::SeqCst);
            request().await;
        };
        let deposed = fence.guard(pausing).await.unwrap_err();
        assert_eq!((sent.load(Ordering::SeqCst), deposed), (1, Deposed { shard: Shard(2), epoch: 7 }));
        assert!(fence.guard(request()).await.is_err());
        assert_eq!(sent.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_daemon_acts_for_the_shards_that_it_leads_and_no_other() {
        let leadership = Leadership::of(2);
        let (mine, other) = (
            "alice",
            (0..9).map(|n| format!("s{n}")).find(|s| Shard::of(&name(s), 2) != Shard::of(&name("alice"), 2)),
        );
        let shard = Shard::of(&name(mine), 2);
        assert!(leadership.any().is_err());
        leadership.gain(Fence::new(shard, 3, Time::from_micros(u64::MAX), Arc::new(clock::boottime)));
        assert_eq!(leadership.fence(&name(mine)).unwrap().epoch(), 3);
        assert!(leadership.fence(&name(&other.unwrap())).is_err());
        leadership.yields(shard);
        assert!(!leadership.holds(&name(mine)), "nothing new is begun");
        assert!(leadership.fence(&name(mine)).is_ok(), "what is under way may end");
        leadership.lose(shard);
        assert!(leadership.any().is_err());
        assert!(Leadership::alone().holds(&name(mine)));
    }
}
