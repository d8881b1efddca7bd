//! What people and programs ask of the engine, and the handle by which they do.

use ebb_core::operator::Wish;
use ebb_core::plan::Revision;
use ebb_desired_state::SessionName;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Busy, Snapshot};
use crate::source::Provenance;
use crate::store::StoreError;

/// What people ask of the engine.
pub enum Order {
    /// Do something with a session.
    Session {
        /// Which.
        session: SessionName,
        /// What.
        wish: Wish,
        /// Who asks, for the history.
        by: String,
        /// Where the answer goes.
        done: oneshot::Sender<Result<(), OrderError>>,
    },
    /// Approve the mass teardown of a revision.
    Approve {
        /// Which.
        revision: Revision,
        /// Where the answer goes.
        done: oneshot::Sender<Result<(), OrderError>>,
    },
    /// Fetch the document and look at everything now.
    Reconcile {
        /// Where the time of the request goes, by which it is recognised when it has been handled.
        done: oneshot::Sender<Timestamp>,
    },
    /// Fetch the document, and answer when what was found has been judged.
    Fetch {
        /// A revision that somebody has just sent, and who.
        announced: Option<(Revision, Provenance)>,
        /// Where the answer goes.
        done: oneshot::Sender<()>,
    },
    /// Somebody says that a fetch would bring something new.
    Hint,
    /// Tell what is known.
    Snapshot {
        /// Where the answer goes.
        done: oneshot::Sender<Snapshot>,
    },
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no such session.
    #[error("there is no session {session}; the document has {known}")]
    NoSession {
        /// The name that was given.
        session: SessionName,
        /// The names that exist.
        known: String,
    },
    /// The revision is not the one in force.
    #[error("revision {given} is not in force, {in_force} is; look at `ebb plan` again before you approve")]
    NotInForce {
        /// The revision that was given.
        given: Revision,
        /// The one in force.
        in_force: Revision,
    },
    /// The session rests by order.
    #[error("session {session} is suspended until {until}: {reason}. {remedy}")]
    Suspended {
        /// Which.
        session: SessionName,
        /// Why it rests.
        reason: String,
        /// When that ends by itself.
        until: Timestamp,
        /// What can be done.
        remedy: String,
    },
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A handle on a running engine.
#[derive(Clone)]
pub struct Handle {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) passes: watch::Receiver<u64>,
    pub(super) busy: watch::Receiver<Busy>,
}

impl Handle {
    /// What the engine knows. `None` while it shuts down.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.ask(|done| Order::Snapshot { done }).await
    }

    /// Changes after every pass.
    #[must_use]
    pub fn passes(&self) -> watch::Receiver<u64> {
        self.passes.clone()
    }

    /// For which shards something is under way.
    #[must_use]
    pub fn busy(&self) -> watch::Receiver<Busy> {
        self.busy.clone()
    }

    /// Has something done with a session.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn wish(&self, session: SessionName, wish: Wish, by: String) -> Result<(), OrderError> {
        self.ask(|done| Order::Session { session, wish, by, done }).await.ok_or_else(gone)?
    }

    /// Approves the mass teardown of a revision.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn approve(&self, revision: Revision) -> Result<(), OrderError> {
        self.ask(|done| Order::Approve { revision, done }).await.ok_or_else(gone)?
    }

    /// Has the document fetched and everything looked at now; returns the time of the request, which
    /// [`super::SourceStatus::handled_at`] reaches when that has been done. `None` while the engine shuts down.
    pub async fn reconcile(&self) -> Option<Timestamp> {
        self.ask(|done| Order::Reconcile { done }).await
    }

    /// Has the document fetched, and returns what is known once it has been judged. `announced` tells who has just sent which
    /// revision. `None` while the engine shuts down.
    pub async fn fetch(&self, announced: Option<(Revision, Provenance)>) -> Option<Snapshot> {
        self.ask(|done| Order::Fetch { announced, done }).await?;
        self.snapshot().await
    }

    /// Brings the next fetch forward.
    pub async fn hint(&self) {
        let _ = self.orders.send(Order::Hint).await;
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).await.ok()?;
        answer.await.ok()
    }
}

fn gone() -> OrderError {
    StoreError::unavailable("cannot take the order", "the daemon is shutting down").into()
}
