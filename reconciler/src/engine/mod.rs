//! The daemon's loop: gather the present, plan, carry out, publish.
//!
//! ```text
//!   source ──▶ intake ─┐                       ┌─▶ steps ─▶ provider, store, secrets, links
//!   provider ─▶ list ──┼─▶ state ─▶ plan ──────┤
//!   links ───▶ news ───┤     ▲                 └─▶ snapshot ─▶ HTTP, metrics
//!   people ──▶ order ──┘     └── results of steps
//! ```
//!
//! One task owns the state. Whatever arrives is first taken into the state and then forgotten; a pass looks at the state alone.
//! What takes time (listing, steps) runs beside it and comes back as a message.

mod intake;
mod pass;
mod snapshot;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_core::evidence::{Evidence, Place};
use ebb_core::observed::Observed;
use ebb_core::outcome::Failure;
use ebb_core::plan::{Report, Revision};
use ebb_core::record::{Record, Request, RequestKind};
use ebb_core::spec::Keys;
use ebb_desired_state::SessionName;
use ebb_wire::PublicKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock;
use crate::metrics::Counters;
use crate::provider::Provider;
use crate::secrets::{SecretName, Secrets};
use crate::source::Source;
use crate::store::{Store, StoreError, Version};
use crate::telemetry::{Links, News, What};

pub use intake::{Intake, renames};
pub use snapshot::{Snapshot, SourceStatus};

/// Adapters that the engine works with.
#[derive(Clone)]
pub struct Parts {
    /// Where the document comes from.
    pub source: Arc<dyn Source>,
    /// Where gateways run.
    pub provider: Arc<dyn Provider>,
    /// Where records are kept.
    pub store: Arc<dyn Store>,
    /// Where private keys are kept.
    pub secrets: Arc<dyn Secrets>,
    /// How long a gateway goes on without hearing from the daemon or its users.
    pub lease: Duration,
    /// Where events are counted.
    pub counters: Counters,
}

/// What people ask of the engine.
pub enum Order {
    /// Start or stop a session.
    Session {
        /// Which.
        session: SessionName,
        /// What.
        kind: RequestKind,
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
    Reconcile,
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
    /// It could not be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A handle on a running engine.
#[derive(Clone)]
pub struct Handle {
    orders: mpsc::Sender<Order>,
    passes: watch::Receiver<u64>,
}

impl Handle {
    /// What the engine knows. `None` while it shuts down.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (done, answer) = oneshot::channel();
        self.orders.send(Order::Snapshot { done }).await.ok()?;
        answer.await.ok()
    }

    /// Changes after every pass.
    #[must_use]
    pub fn passes(&self) -> watch::Receiver<u64> {
        self.passes.clone()
    }

    /// Starts or stops a session.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn request(
        &self,
        session: SessionName,
        kind: RequestKind,
        by: String,
    ) -> Result<(), OrderError> {
        self.order(|done| Order::Session { session, kind, by, done }).await
    }

    /// Approves the mass teardown of a revision.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn approve(&self, revision: Revision) -> Result<(), OrderError> {
        self.order(|done| Order::Approve { revision, done }).await
    }

    /// Has the document fetched and everything looked at now.
    pub async fn reconcile(&self) {
        let _ = self.orders.send(Order::Reconcile).await;
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), OrderError>>) -> Order,
    ) -> Result<(), OrderError> {
        let gone = || StoreError::unavailable("cannot take the order", "the daemon is shutting down");
        let (done, answer) = oneshot::channel();
        self.orders.send(order(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// The state that one task owns.
pub struct Engine {
    parts: Parts,
    links: Links,
    orders: mpsc::Receiver<Order>,
    news: mpsc::Receiver<News>,
    results: (mpsc::Sender<step::Done>, mpsc::Receiver<step::Done>),
    listings: (mpsc::Sender<Listing>, mpsc::Receiver<Listing>),
    hints: mpsc::Receiver<Hint>,
    passes: watch::Sender<u64>,

    intake: Intake,
    records: BTreeMap<SessionName, Record>,
    versions: BTreeMap<SessionName, Version>,
    observed: Option<Observed>,
    provider_error: Option<Failure>,
    evidence: BTreeMap<SessionName, Evidence>,
    keys: Keys,
    /// Keys that were looked for and do not exist yet.
    keys_missing: BTreeSet<SecretName>,
    approved: Option<Revision>,
    in_flight: BTreeSet<SessionName>,
    report: Option<Report>,
    store_error: Option<String>,
    /// The records in memory may not be those of the store.
    records_doubtful: bool,
    listing: bool,
    list_at: Instant,
    pass_at: Instant,
    not_before: Instant,
}

type Listing = Result<Observed, Failure>;

/// Word from an adapter that looking would show something new.
enum Hint {
    Document,
    Provider,
}

/// What made the engine look up.
enum Stir {
    Order(Order),
    News(News),
    Done(Box<step::Done>),
    Listing(Listing),
    Hint(Hint),
    Time,
}

impl Engine {
    /// Reads the store and stands ready. Nothing is done before [`Engine::run`].
    ///
    /// # Errors
    /// When the store cannot be read: an engine that does not know its records would take gateways for strays.
    pub async fn open(
        parts: Parts,
        links: Links,
        news: mpsc::Receiver<News>,
    ) -> Result<(Self, Handle), StoreError> {
        let approved = parts.store.approved().await?;
        let intake = Intake::open(&parts).await?;
        let (order_sender, orders) = mpsc::channel(64);
        let (pass_sender, passes) = watch::channel(0);
        let now = Instant::now();
        let mut engine = Self {
            links,
            orders,
            news,
            results: mpsc::channel(64),
            listings: mpsc::channel(1),
            hints: watch_for_hints(&parts),
            passes: pass_sender,
            intake,
            records: BTreeMap::new(),
            versions: BTreeMap::new(),
            observed: None,
            provider_error: None,
            evidence: BTreeMap::new(),
            keys: Keys::default(),
            keys_missing: BTreeSet::new(),
            approved,
            in_flight: BTreeSet::new(),
            report: None,
            store_error: None,
            records_doubtful: false,
            listing: false,
            list_at: now,
            pass_at: now,
            not_before: now,
            parts,
        };
        engine.read_records().await?;
        Ok((engine, Handle { orders: order_sender, passes }))
    }

    /// Reconciles until `stop` resolves, then lets the steps in flight finish.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        self.intake.fetch(&self.parts).await;
        loop {
            self.pass().await;
            tokio::select! {
                () = &mut stop => break,
                stir = self.next_stir() => self.take_in(stir).await,
            }
            // Whatever else has arrived meanwhile is part of the same present.
            while let Some(stir) = self.pending_stir() {
                self.take_in(stir).await;
            }
        }
        self.finish().await;
    }

    async fn next_stir(&mut self) -> Stir {
        let can_list = !self.listing && self.intake.desired().is_some();
        let list_at = can_list.then_some(self.list_at);
        let wake_at = list_at.map_or(self.pass_at, |at| at.min(self.pass_at));
        tokio::select! {
            Some(order) = self.orders.recv() => Stir::Order(order),
            Some(news) = self.news.recv() => Stir::News(news),
            Some(done) = self.results.1.recv() => Stir::Done(Box::new(done)),
            Some(listing) = self.listings.1.recv() => Stir::Listing(listing),
            Some(hint) = self.hints.recv() => Stir::Hint(hint),
            () = tokio::time::sleep_until(wake_at) => Stir::Time,
        }
    }

    fn pending_stir(&mut self) -> Option<Stir> {
        let order = self.orders.try_recv().ok().map(Stir::Order);
        order
            .or_else(|| self.news.try_recv().ok().map(Stir::News))
            .or_else(|| self.results.1.try_recv().ok().map(|done| Stir::Done(Box::new(done))))
            .or_else(|| self.listings.1.try_recv().ok().map(Stir::Listing))
            .or_else(|| self.hints.try_recv().ok().map(Stir::Hint))
    }

    async fn take_in(&mut self, stir: Stir) {
        match stir {
            Stir::Order(order) => self.take_order(order).await,
            Stir::News(news) => self.take_news(news),
            Stir::Done(done) => self.take_done(*done),
            Stir::Listing(listing) => self.take_listing(listing),
            Stir::Hint(Hint::Document) => self.intake.fetch(&self.parts).await,
            Stir::Hint(Hint::Provider) => self.list_soon(),
            Stir::Time => {}
        }
    }

    async fn take_order(&mut self, order: Order) {
        match order {
            Order::Session { session, kind, by, done } => {
                let _ = done.send(self.take_request(session, kind, by).await);
            }
            Order::Approve { revision, done } => {
                let _ = done.send(self.take_approval(revision).await);
            }
            Order::Reconcile => {
                self.intake.fetch(&self.parts).await;
                self.list_soon();
            }
            Order::Snapshot { done } => {
                let _ = done.send(self.snapshot());
            }
        }
    }

    /// Writes the request into the session's record, where the next pass finds it.
    async fn take_request(
        &mut self,
        session: SessionName,
        kind: RequestKind,
        by: String,
    ) -> Result<(), OrderError> {
        // A step in flight writes the same record; its end is near, and an order must not be lost.
        while self.in_flight.contains(&session) {
            let Some(done) = self.results.1.recv().await else { break };
            self.take_done(done);
        }
        let Some(record) = self.records.get(&session) else {
            let known: Vec<_> = self.records.keys().map(SessionName::as_str).collect();
            return Err(OrderError::NoSession { session, known: known.join(", ") });
        };
        let request = Some(Request { kind, at: clock::now(), by, handled: false });
        let record = Record { request, ..record.clone() };
        let version = self.parts.store.put_record(&record, self.versions.get(&session).copied()).await?;
        self.versions.insert(session.clone(), version);
        self.records.insert(session, record);
        Ok(())
    }

    async fn take_approval(&mut self, revision: Revision) -> Result<(), OrderError> {
        let in_force = self.intake.desired().map(|desired| desired.revision.clone());
        match in_force {
            Some(in_force) if in_force == revision => {
                self.parts.store.approve(&revision).await?;
                self.approved = Some(revision);
                Ok(())
            }
            Some(in_force) => Err(OrderError::NotInForce { given: revision, in_force }),
            None => Err(OrderError::NotInForce { given: revision, in_force: Revision("none".into()) }),
        }
    }

    fn take_news(&mut self, news: News) {
        let evidence = self.evidence.entry(news.session).or_insert_with(|| Evidence::none(news.run.clone()));
        if evidence.run != news.run {
            *evidence = Evidence::none(news.run);
        }
        match news.what {
            What::Report(report) => {
                evidence.handshake_at = news.handshake_at.or(evidence.handshake_at);
                if report.place == Place::Tunnel {
                    evidence.error = None;
                }
                evidence.take(*report);
            }
            What::Lost(error) => evidence.error = Some(error),
        }
    }

    fn take_done(&mut self, done: step::Done) {
        self.in_flight.remove(&done.session);
        match done.memory {
            step::Memory::Is(record, version) => {
                self.parts.counters.count_change(self.records.get(&done.session), &record);
                self.versions.insert(done.session.clone(), version);
                self.records.insert(done.session, *record);
            }
            step::Memory::Gone => {
                self.versions.remove(&done.session);
                self.records.remove(&done.session);
                self.evidence.remove(&done.session);
            }
            step::Memory::AsBefore => {}
            step::Memory::Doubtful => self.records_doubtful = true,
        }
        self.store_error = done.store_error;
        for (session, key) in done.keys.gateways {
            self.take_key(&SecretName::Gateway(session), key);
        }
        for (user, key) in done.keys.users {
            self.take_key(&SecretName::User(user), key);
        }
        if done.provider_touched {
            self.list_soon();
        } else if self.is_moving() {
            // It began to move since the pause until the next listing was chosen.
            let wait = self.parts.provider.pace().moving;
            self.list_at = self.list_at.min(clock::instant_of(clock::monotonic() + wait));
        }
    }

    fn take_key(&mut self, name: &SecretName, key: PublicKey) {
        self.keys_missing.remove(name);
        match name {
            SecretName::Gateway(session) => drop(self.keys.gateways.insert(session.clone(), key)),
            SecretName::User(user) => drop(self.keys.users.insert(user.clone(), key)),
            SecretName::Control => {}
        }
    }

    fn take_listing(&mut self, listing: Listing) {
        self.listing = false;
        let pace = self.parts.provider.pace();
        let failed = listing.is_err();
        match listing {
            Ok(observed) => {
                self.observed = Some(observed);
                self.provider_error = None;
            }
            Err(failure) => {
                tracing::warn!("{failure}");
                self.observed = None;
                self.provider_error = Some(failure);
            }
        }
        let wait = if failed || self.is_moving() { pace.moving } else { pace.settled };
        self.list_at = clock::instant_of(clock::monotonic() + wait);
    }

    fn is_moving(&self) -> bool {
        self.records.values().any(|record| {
            let state = record.state.name();
            state.holds_slot() && !state.is_up()
        })
    }

    fn list_soon(&mut self) {
        self.list_at = clock::instant_of(clock::monotonic());
    }

    /// Lets the steps in flight end at an action boundary.
    async fn finish(mut self) {
        while !self.in_flight.is_empty() {
            let Some(done) = self.results.1.recv().await else { break };
            self.take_done(done);
        }
    }

    async fn read_records(&mut self) -> Result<(), StoreError> {
        let stored = self.parts.store.records().await?;
        self.versions = stored.iter().map(|(record, version)| (record.session.clone(), *version)).collect();
        self.records = stored.into_iter().map(|(record, _)| (record.session.clone(), record)).collect();
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: clock::now(),
            passes: *self.passes.borrow(),
            desired: self.intake.desired().cloned(),
            source: self.intake.status().clone(),
            records: self.records.clone(),
            observed: self.observed.clone(),
            provider_error: self.provider_error.as_ref().map(ToString::to_string),
            evidence: self.evidence.clone(),
            keys: self.keys.clone(),
            approved: self.approved.clone(),
            report: self.report.clone(),
            store_error: self.store_error.clone(),
        }
    }
}

/// Waits for both adapters in tasks of their own: their futures need not survive being dropped half-way.
fn watch_for_hints(parts: &Parts) -> mpsc::Receiver<Hint> {
    let (sender, hints) = mpsc::channel(4);
    let (source, provider) = (Arc::clone(&parts.source), Arc::clone(&parts.provider));
    let of_source = sender.clone();
    tokio::spawn(async move {
        loop {
            source.changed().await;
            if of_source.send(Hint::Document).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        loop {
            provider.changed().await;
            if sender.send(Hint::Provider).await.is_err() {
                return;
            }
        }
    });
    hints
}
