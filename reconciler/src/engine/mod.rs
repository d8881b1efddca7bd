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

mod fetch;
mod intake;
mod order;
mod pass;
mod snapshot;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebb_core::evidence::{Evidence, Place};
use ebb_core::observed::Observed;
use ebb_core::operator::Wish;
use ebb_core::outcome::Failure;
use ebb_core::plan::{Report, Revision};
use ebb_core::record::Record;
use ebb_core::spec::Keys;
use ebb_core::{demand, operator};
use ebb_desired_state::SessionName;
use ebb_wire::PublicKey;
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::clock;
use crate::leadership::{Leadership, Shard};
use crate::metrics::Counters;
use crate::provider::Provider;
use crate::secrets::{SecretName, Secrets};
use crate::source::Source;
use crate::store::{Store, StoreError, Version};
use crate::telemetry::{Links, News, What};

use self::fetch::{Fetching, Outcome};
pub use intake::{Intake, renames};
pub use order::{Handle, Order, OrderError};
pub use snapshot::{Refusal, Snapshot, SourceStatus};

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
    /// Of which sessions this daemon takes care.
    pub leadership: Arc<Leadership>,
    /// How long a gateway goes on without hearing from the daemon or its users.
    pub lease: Duration,
    /// Where events are counted.
    pub counters: Counters,
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
    led: watch::Receiver<u64>,
    busy: watch::Sender<Busy>,
    stopping: watch::Sender<bool>,

    intake: Intake,
    fetching: Fetching,
    /// A request to reconcile whose fetch has been judged, and which a pass has yet to follow.
    judged: Option<Timestamp>,
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
    /// Those of the steps in flight that are being carried out; the others wait, except teardowns.
    turns: Arc<Semaphore>,
    report: Option<Arc<Report>>,
    store_error: Option<String>,
    /// The records in memory may not be those of the store.
    records_doubtful: bool,
    listing: bool,
    list_at: Instant,
    pass_at: Instant,
    not_before: Instant,
    /// When to read what other daemons have written; `None` where there are none.
    follow_at: Option<Instant>,
    sweep_at: Instant,
}

/// For which shards steps are being carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Busy {
    /// The last change of the leadership that the engine has taken into account.
    pub seen: u64,
    /// Shards with a step in flight.
    pub shards: BTreeSet<Shard>,
}

/// How a run of the engine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is under way any more.
    Settled,
    /// Something was, for longer than could be waited; it may still have its effect.
    Abandoned,
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
    Fetched(Outcome),
    Hint(Hint),
    Led,
    Time,
}

/// So many steps are carried out at once. Each takes up some 5 KiB, more while it talks to Azure: 10,000 at once would leave the
/// daemon with 50 MiB that the allocator never gives back.
const TURNS: usize = 500;

/// Steps in flight get this long when the daemon is to end, of the 10 s that it has in all.
const LAST_ACTIONS: Duration = Duration::from_secs(5);

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
        let approved = parts.store.approved().await?.filter(|revision| !revision.0.is_empty());
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
            led: parts.leadership.changes(),
            busy: watch::Sender::default(),
            stopping: watch::Sender::new(false),
            intake,
            fetching: Fetching::new(now),
            judged: None,
            records: BTreeMap::new(),
            versions: BTreeMap::new(),
            observed: None,
            provider_error: None,
            evidence: BTreeMap::new(),
            keys: Keys::default(),
            keys_missing: BTreeSet::new(),
            approved,
            in_flight: BTreeSet::new(),
            turns: Arc::new(Semaphore::new(TURNS)),
            report: None,
            store_error: None,
            records_doubtful: false,
            listing: false,
            list_at: now,
            pass_at: now,
            not_before: now,
            follow_at: (parts.leadership.count() > 1).then_some(now),
            sweep_at: now,
            parts,
        };
        engine.read_records().await?;
        let busy = engine.busy.subscribe();
        Ok((engine, Handle { orders: order_sender, passes, busy }))
    }

    /// Reconciles until `stop` resolves, then lets the actions in flight finish.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Ended {
        let mut stop = std::pin::pin!(stop);
        loop {
            self.start_fetch();
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
        self.finish().await
    }

    async fn next_stir(&mut self) -> Stir {
        let can_list = !self.listing && self.intake.desired().is_some();
        let list_at = can_list.then_some(self.list_at);
        let wake_at = list_at.into_iter().chain(self.follow_at).fold(self.pass_at, Instant::min);
        tokio::select! {
            Some(order) = self.orders.recv() => Stir::Order(order),
            Some(news) = self.news.recv() => Stir::News(news),
            Some(done) = self.results.1.recv() => Stir::Done(Box::new(done)),
            Some(listing) = self.listings.1.recv() => Stir::Listing(listing),
            Some(outcome) = self.fetching.next() => Stir::Fetched(outcome),
            Some(hint) = self.hints.recv() => Stir::Hint(hint),
            Ok(()) = self.led.changed() => Stir::Led,
            () = tokio::time::sleep_until(wake_at) => Stir::Time,
        }
    }

    fn pending_stir(&mut self) -> Option<Stir> {
        let order = self.orders.try_recv().ok().map(Stir::Order);
        order
            .or_else(|| self.news.try_recv().ok().map(Stir::News))
            .or_else(|| self.results.1.try_recv().ok().map(|done| Stir::Done(Box::new(done))))
            .or_else(|| self.listings.1.try_recv().ok().map(Stir::Listing))
            .or_else(|| self.fetching.pending().map(Stir::Fetched))
            .or_else(|| self.hints.try_recv().ok().map(Stir::Hint))
    }

    async fn take_in(&mut self, stir: Stir) {
        match stir {
            Stir::Order(order) => self.take_order(order).await,
            Stir::News(news) => self.take_news(news),
            Stir::Done(done) => self.take_done(*done),
            Stir::Listing(listing) => self.take_listing(listing),
            Stir::Fetched(outcome) => self.take_fetched(outcome).await,
            Stir::Hint(Hint::Document) => self.fetching.ask(),
            Stir::Hint(Hint::Provider) => self.list_soon(),
            Stir::Led => self.take_leadership(),
            Stir::Time => {}
        }
    }

    /// Other sessions are this daemon's. What others have written until a moment ago is read, and looked for at the provider.
    fn take_leadership(&mut self) {
        self.records_doubtful = true;
        self.parts.provider.took_over();
        self.fetching.ask();
        self.list_soon();
    }

    async fn take_order(&mut self, order: Order) {
        match order {
            Order::Session { session, wish, by, done } => {
                let _ = done.send(self.take_wish(session, wish, &by).await);
            }
            Order::Approve { revision, done } => {
                let _ = done.send(self.take_approval(revision).await);
            }
            Order::Reconcile { done } => {
                let at = clock::now();
                self.fetching.request(at);
                self.intake.requested(at);
                self.list_soon();
                let _ = done.send(at);
            }
            Order::Fetch { announced, done } => self.fetching.ask_and_wait(done, announced),
            Order::Hint => self.fetching.ask(),
            Order::Snapshot { done } => {
                let _ = done.send(self.snapshot());
            }
        }
    }

    /// Writes the wish into the session's record, where the next pass finds it.
    async fn take_wish(&mut self, session: SessionName, wish: Wish, by: &str) -> Result<(), OrderError> {
        // A step in flight writes the same record; its end is near, and an order must not be lost.
        while self.in_flight.contains(&session) {
            let Some(done) = self.results.1.recv().await else { break };
            self.take_done(done);
        }
        let Some(record) = self.records.get(&session) else {
            let known: Vec<_> = self.records.keys().map(SessionName::as_str).collect();
            return Err(OrderError::NoSession { session, known: known.join(", ") });
        };
        let now = clock::now();
        if wish == Wish::Start {
            self.check_start(record, now)?;
        }
        let mut record = record.clone();
        let note = operator::note(&session, &wish, by, now);
        record.take_wish(wish, by, now);
        let expected = self.versions.get(&session).copied();
        let version = self.parts.store.put_record(&record, expected, None).await?;
        self.versions.insert(session.clone(), version);
        self.records.insert(session, record);
        if let Some(note) = note
            && let Err(error) = self.parts.store.append(&[note]).await
        {
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// A session that rests by order is not started by another order: one of them must be meant.
    fn check_start(&self, record: &Record, now: Timestamp) -> Result<(), OrderError> {
        let document = self.intake.desired().map(|desired| &desired.document);
        let declared = document.and_then(|document| Some((document, document.session(&record.session)?)));
        let Some((document, declared)) = declared else { return Ok(()) };
        let Some(suspension) = demand::suspension(document, declared, record, now) else { return Ok(()) };
        let ordered = record.suspended.as_ref().is_some_and(|suspended| suspended.suspension == *suspension);
        let remedy = if ordered {
            format!("`ebb resume {}` ends that", record.session)
        } else {
            "The document says so; it has to be changed there".to_owned()
        };
        Err(OrderError::Suspended {
            session: record.session.clone(),
            reason: suspension.reason.clone(),
            until: suspension.until,
            remedy,
        })
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
            state.holds_slot() && !state.is_up() && self.parts.leadership.holds(&record.session)
        })
    }

    fn list_soon(&mut self) {
        self.list_at = clock::instant_of(clock::monotonic());
    }

    /// Lets the steps in flight end at an action boundary. What takes too long is abandoned: whoever starts next finds out what
    /// became of it, as after a crash.
    async fn finish(mut self) -> Ended {
        self.stopping.send_replace(true);
        let until = Instant::now() + LAST_ACTIONS;
        while !self.in_flight.is_empty() {
            match tokio::time::timeout_at(until, self.results.1.recv()).await {
                Ok(Some(done)) => self.take_done(done),
                Ok(None) => break,
                Err(_) => {
                    let names: Vec<_> = self.in_flight.iter().map(SessionName::as_str).collect();
                    tracing::warn!("not waiting any longer for what is under way: {}", names.join(", "));
                    return Ended::Abandoned;
                }
            }
        }
        Ended::Settled
    }

    /// Takes over what the store has, except of sessions whose step is being carried out: its result is on its way.
    async fn read_records(&mut self) -> Result<(), StoreError> {
        let mut stored: BTreeMap<_, _> = BTreeMap::new();
        for (record, version) in self.parts.store.records().await? {
            stored.insert(record.session.clone(), (record, version));
        }
        for session in &self.in_flight {
            stored.remove(session);
            if let (Some(record), Some(version)) = (self.records.remove(session), self.versions.get(session))
            {
                stored.insert(session.clone(), (record, *version));
            }
        }
        self.versions = stored.iter().map(|(session, (_, version))| (session.clone(), *version)).collect();
        self.records = stored.into_iter().map(|(session, (record, _))| (session, record)).collect();
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
            shards: self.parts.leadership.count(),
            led: self.parts.leadership.shards(),
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
