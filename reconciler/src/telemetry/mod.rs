//! The daemon's own links to its gateways, through their tunnels.

mod link;

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_core::evidence::{Place, Report};
use ebb_core::names::{GatewayName, RunId};
use ebb_core::observed::Endpoint;
use ebb_core::outcome::{Class, Failure};
use ebb_desired_state::SessionName;
use ebb_wire::{Live, LogLine, PrivateKey, PublicKey};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::provider::Provider;

/// What a link should be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name at the provider.
    pub gateway: GatewayName,
    /// The run that the gateway serves.
    pub run: RunId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its public key.
    pub gateway_key: PublicKey,
}

/// Something that a link has learnt.
#[derive(Debug)]
pub struct News {
    /// Of which session.
    pub session: SessionName,
    /// Of which run of it.
    pub run: RunId,
    /// When the link last shook hands with the gateway.
    pub handshake_at: Option<Timestamp>,
    /// What.
    pub what: What,
}

/// What a link has learnt.
#[derive(Debug)]
pub enum What {
    /// The gateway has reported.
    Report(Box<Report>),
    /// It cannot be reached, for this reason.
    Lost(String),
}

/// All links. There is one for each session that has a gateway with an address.
pub struct Links {
    key: PrivateKey,
    provider: Arc<dyn Provider>,
    news: mpsc::Sender<News>,
    links: BTreeMap<SessionName, Link>,
}

struct Link {
    target: Target,
    ask_at: watch::Sender<Option<Timestamp>>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A configuration for a gateway, and where the answer goes.
struct Order {
    live: Live,
    done: oneshot::Sender<Result<(), Failure>>,
}

impl Links {
    /// Links under the daemon's own key, which report to `news`. What cannot be reached through its tunnel is asked about at
    /// `provider`.
    #[must_use]
    pub fn new(key: PrivateKey, provider: Arc<dyn Provider>, news: mpsc::Sender<News>) -> Self {
        Self { key, provider, news, links: BTreeMap::new() }
    }

    /// The daemon's public key, which every gateway must know.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Keeps exactly these links. One whose target has not changed goes on undisturbed.
    pub fn keep(&mut self, targets: BTreeMap<SessionName, Target>) {
        self.links.retain(|session, link| targets.get(session) == Some(&link.target));
        for (session, target) in targets {
            if !self.links.contains_key(&session) {
                let link = self.start(session.clone(), target);
                self.links.insert(session, link);
            }
        }
    }

    /// Says when to ask a session's gateway next.
    pub fn ask_at(&self, session: &SessionName, at: Option<Timestamp>) {
        if let Some(link) = self.links.get(session) {
            link.ask_at.send_if_modified(|old| std::mem::replace(old, at) != at);
        }
    }

    /// What [`Configurer::configure`] needs.
    #[must_use]
    pub fn configurer(&self, session: &SessionName) -> Configurer {
        Configurer { orders: self.links.get(session).map(|link| link.orders.clone()) }
    }

    fn start(&self, session: SessionName, target: Target) -> Link {
        let (ask_at, asked) = watch::channel(None);
        // One order at a time is given; the step that gives it waits for the answer.
        let (orders, ordered) = mpsc::channel(1);
        let worker = link::Worker {
            session,
            target: target.clone(),
            key: self.key.clone(),
            provider: Arc::clone(&self.provider),
            news: self.news.clone(),
            ask_at: asked,
            orders: ordered,
            asked: None,
        };
        Link { target, ask_at, orders, task: tokio::spawn(worker.run()) }
    }
}

/// Sends one gateway its configuration.
pub struct Configurer {
    orders: Option<mpsc::Sender<Order>>,
}

impl Configurer {
    /// Sends `live` and waits until the gateway has it in force.
    ///
    /// # Errors
    /// When the gateway refuses it or cannot be reached.
    pub async fn configure(self, live: Live) -> Result<(), Failure> {
        let unreachable =
            || Failure::new(Class::Transient, "the gateway cannot be reached through its tunnel");
        let (done, answer) = oneshot::channel();
        let orders = self.orders.ok_or_else(unreachable)?;
        orders.send(Order { live, done }).await.map_err(|_| unreachable())?;
        answer.await.map_err(|_| unreachable())?
    }
}

/// The newest telemetry of `session` in a container's log. Its time is the gateway's own; one from the future is taken for now.
#[must_use]
pub fn read_log(log: &str, session: &SessionName, now: Timestamp) -> Option<Report> {
    let lines = log.lines().rev().filter_map(LogLine::parse);
    let line = lines.into_iter().find(|line| line.session == session.as_str())?;
    let written_at = Timestamp::from_second(i64::try_from(line.unix_seconds).ok()?).ok()?;
    Some(Report::new(&line.telemetry, Place::Logs, written_at.min(now)))
}
