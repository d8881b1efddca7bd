//! The world: time, and what everybody does as it passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ebb_core::action::Action;
use ebb_core::names::{GatewayName, RunId};
use ebb_core::operator::Wish;
use ebb_core::outcome::Failure;
use ebb_core::plan::{Desired, Revision};
use ebb_desired_state::{Document, SessionName};
use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::client::Clients;
use super::daemon::Daemon;
use super::mutation::Mutation;
use super::oracle::{Oracle, Rule, Violation};
use super::pace::Pace;
use super::provider::Provider;
use super::store::Store;

/// More events than this without time passing mean that something goes in circles.
const MAX_EVENTS_AT_ONCE: u32 = 10_000;

/// One line of what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in truth.
    pub at: Timestamp,
    /// To which session.
    pub session: Option<SessionName>,
    /// What.
    pub text: String,
}

/// What the source of the document has.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A valid document.
    Valid(Document, Revision),
    /// Something that is no valid document, or nothing at all.
    Broken,
}

/// A simulated world: one deployment with its daemon, provider, store, gateways and users. Equal seeds and equal commands give
/// equal worlds.
#[derive(Debug)]
pub struct World {
    /// The true time.
    pub now: Timestamp,
    /// How far the daemon's clock is ahead of the truth.
    pub skew: SignedDuration,
    /// Source of everything random.
    pub rng: StdRng,
    /// How long things take.
    pub pace: Pace,
    /// The provider.
    pub provider: Provider,
    /// What outlives the daemon.
    pub store: Store,
    /// People's devices.
    pub clients: Clients,
    /// The daemon, while it runs.
    pub daemon: Option<Daemon>,
    /// A deliberate bug.
    pub mutation: Option<Mutation>,
    /// What must hold.
    pub oracle: Oracle,
    /// What happened.
    pub lines: Vec<Line>,
    /// Effects so far: writes, calls with an effect, made keys.
    pub effects: u64,
    /// Passes so far.
    pub passes: u64,
    /// The daemon crashes after this many effects.
    pub crash_after: Option<u64>,
    /// Requests that are on their way when the daemon dies arrive all the same.
    pub ghosts_arrive: bool,
    /// Logs of gateways can be read.
    pub logs: bool,
    pub(super) ghosts: Vec<(Timestamp, Action)>,
    source: Option<Source>,
    revisions: u64,
    restart_at: Option<Timestamp>,
    zombie: Option<Daemon>,
    unreachable: BTreeSet<SessionName>,
    requests: VecDeque<(SessionName, Wish)>,
    runs: BTreeMap<RunId, usize>,
}

impl World {
    /// A world without a document. The daemon has just started.
    #[must_use]
    pub fn new(seed: u64, now: Timestamp) -> Self {
        let store = Store::default();
        Self {
            now,
            skew: SignedDuration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            pace: Pace::default(),
            provider: Provider::default(),
            daemon: Some(Daemon::start(&store, now)),
            store,
            clients: Clients::default(),
            mutation: None,
            oracle: Oracle::default(),
            lines: Vec::new(),
            effects: 0,
            passes: 0,
            crash_after: None,
            ghosts_arrive: false,
            logs: false,
            ghosts: Vec::new(),
            source: None,
            revisions: 0,
            restart_at: None,
            zombie: None,
            unreachable: BTreeSet::new(),
            requests: VecDeque::new(),
            runs: BTreeMap::new(),
        }
    }

    /// What the daemon's clock shows.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.now + self.skew
    }

    /// The last valid document, if there was one.
    #[must_use]
    pub fn desired(&self) -> Option<&Desired> {
        self.store.desired.as_ref()
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: SignedDuration) {
        let end = self.now + by;
        let mut events = 0;
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            if due > self.now {
                (self.now, events) = (due, 0);
            }
            events += 1;
            if events > MAX_EVENTS_AT_ONCE {
                self.violate(Rule::Converges, "events follow each other without end".to_owned());
                break;
            }
            self.happen();
        }
        self.now = end;
    }

    /// Puts a document where the daemon finds it, or something that is none.
    pub fn publish(&mut self, document: Option<Document>) {
        self.source = Some(match document {
            Some(document) => {
                self.revisions += 1;
                let revision = Revision(format!("r{}", self.revisions));
                Source::Valid(document, revision)
            }
            None => Source::Broken,
        });
        self.read_source();
    }

    /// Approves the teardowns of the revision in force.
    pub fn approve(&mut self) {
        self.store.approved = self.store.desired.as_ref().map(|desired| desired.revision.clone());
        self.trigger();
    }

    /// Asks for something, as the API does.
    pub fn request(&mut self, session: &SessionName, wish: Wish) {
        self.requests.push_back((session.clone(), wish));
        self.trigger();
    }

    /// Closes the control link to a session's gateway, or opens it again. The users' link stays.
    pub fn set_reachable(&mut self, session: &SessionName, reachable: bool) {
        if reachable {
            self.unreachable.remove(session);
        } else {
            self.unreachable.insert(session.clone());
        }
    }

    /// Opens every control link.
    pub fn reach_all(&mut self) {
        self.unreachable.clear();
    }

    /// Whether the daemon can reach a session's gateway through the tunnel.
    #[must_use]
    pub fn is_reachable(&self, session: &SessionName) -> bool {
        !self.unreachable.contains(session)
    }

    /// Kills the daemon. It starts again by itself.
    pub fn crash(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.bury(&daemon);
        }
    }

    /// Stops the daemon's process without killing it; another one takes over at once.
    pub fn freeze(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.zombie = Some(daemon);
            self.restart_at = Some(self.now + self.pace.restart);
        }
    }

    /// Continues the frozen process. It goes on where it was, until the store shows it that it has been replaced.
    pub fn thaw(&mut self) {
        let Some(mut zombie) = self.zombie.take() else { return };
        for _ in 0..100 {
            for flight in zombie.flights.values_mut() {
                flight.due = self.now;
            }
            if zombie.flights.is_empty() || !self.run_flights(&mut zombie) {
                return;
            }
        }
    }

    /// Sets the daemon's clock.
    pub fn jump_clock(&mut self, by: SignedDuration) {
        self.skew += by;
        self.oracle.clock_jumped = true;
    }

    /// Brings the daemon's next pass forward.
    pub fn trigger(&mut self) {
        let at = self.now + self.pace.coalesce;
        if let Some(daemon) = &mut self.daemon {
            daemon.trigger(at);
        }
    }

    /// The name of a session's group.
    #[must_use]
    pub fn name_of(&self, session: &SessionName) -> GatewayName {
        let deployment = self.store.desired.as_ref().map(|desired| &desired.document.deployment);
        deployment
            .map_or_else(|| GatewayName::listed("none"), |deployment| GatewayName::new(deployment, session))
    }

    /// A small number for a run, in the order of their appearance.
    pub fn run_number(&mut self, run: &RunId) -> usize {
        let next = self.runs.len() + 1;
        *self.runs.entry(run.clone()).or_insert(next)
    }

    /// Whether the daemon runs, nothing is under way and the last pass planned nothing.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.ghosts.is_empty()
            && self.requests.is_empty()
            && self.daemon.as_ref().is_some_and(|daemon| daemon.at_rest && daemon.flights.is_empty())
    }

    /// Lets users do what they have been doing until now.
    pub fn catch_up(&mut self, session: &SessionName) {
        let name = self.name_of(session);
        self.clients.catch_up(session, self.provider.gateway(&name), self.now);
    }

    pub(super) fn violate(&mut self, rule: Rule, message: String) {
        self.oracle.violations.push(Violation { at: self.now, rule, message });
    }

    pub(super) fn say(&mut self, session: Option<&SessionName>, text: String) {
        self.lines.push(Line { at: self.now, session: session.cloned(), text });
    }

    pub(super) fn say_call(&mut self, session: &SessionName, what: &str, result: &Result<(), Failure>) {
        let text = match result {
            Ok(()) => format!("provider: {what}"),
            Err(failure) => format!("provider: {what}: {failure}"),
        };
        self.say(Some(session), text);
    }

    /// Counts an effect. Returns whether the daemon crashes after it.
    pub(super) fn count_effect(&mut self) -> bool {
        self.effects += 1;
        self.crash_after == Some(self.effects)
    }

    fn next_due(&self) -> Option<Timestamp> {
        let daemon = self.daemon.as_ref().and_then(Daemon::next_due);
        let ghosts = self.ghosts.iter().map(|(at, _)| *at).min();
        self.provider.next_due().into_iter().chain(daemon).chain(ghosts).chain(self.restart_at).min()
    }

    fn happen(&mut self) {
        if self.provider.next_due().is_some_and(|at| at <= self.now) {
            self.catch_up_all();
            for (session, what) in self.provider.handle(self.now) {
                self.say(Some(&session), format!("provider: the group {what}"));
            }
        }
        self.deliver_ghosts();
        if self.restart_at.is_some_and(|at| at <= self.now) {
            self.restart_at = None;
            self.say(None, "the daemon starts".to_owned());
            self.daemon = Some(Daemon::start(&self.store, self.now));
            self.read_source();
        }
        if let Some(mut daemon) = self.daemon.take() {
            if self.run_daemon(&mut daemon) {
                self.daemon = Some(daemon);
            } else {
                self.bury(&daemon);
            }
        }
    }

    fn run_daemon(&mut self, daemon: &mut Daemon) -> bool {
        if !self.run_flights(daemon) || !self.take_requests(daemon) {
            return false;
        }
        self.run_reads(daemon);
        if daemon.pass_at.is_some_and(|at| at <= self.now) {
            self.pass(daemon);
        }
        true
    }

    /// Writes what people asked for into the records, as the API does between two steps of a session.
    fn take_requests(&mut self, daemon: &mut Daemon) -> bool {
        for (session, wish) in std::mem::take(&mut self.requests) {
            let free = !daemon.flights.contains_key(&session);
            let Some(record) = daemon.records.get(&session).filter(|_| free) else {
                self.requests.push_back((session, wish));
                continue;
            };
            let mut record = record.clone();
            record.take_wish(wish, "somebody", self.clock());
            if let Ok(version) = self.store.put(&record, daemon.versions.get(&session).copied(), None) {
                daemon.versions.insert(session.clone(), version);
                daemon.records.insert(session, record);
            }
            daemon.trigger(self.now + self.pace.coalesce);
            if self.count_effect() {
                return false;
            }
        }
        true
    }

    fn bury(&mut self, daemon: &Daemon) {
        self.say(None, "the daemon dies".to_owned());
        if self.ghosts_arrive {
            let arrives = self.now + self.pace.call;
            let under_way = daemon.flights.values().filter_map(super::executor::Flight::under_way);
            self.ghosts.extend(under_way.map(|action| (arrives, action.clone())));
        }
        self.restart_at = Some(self.now + self.pace.restart);
    }

    fn read_source(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let empty = match (&self.source, self.mutation, &daemon.desired) {
            (Some(Source::Broken), Some(Mutation::BadInputIsEmpty), Some(desired)) => {
                let document = Document { sessions: Vec::new(), ..desired.document.clone() };
                Some(Source::Valid(document, Revision("broken".to_owned())))
            }
            _ => None,
        };
        if let Some(Source::Valid(document, revision)) = empty.as_ref().or(self.source.as_ref())
            && daemon.desired.as_ref().is_none_or(|desired| desired.revision != *revision)
        {
            let desired = Desired::new(document.clone(), revision.clone());
            if empty.is_none() {
                self.oracle.last_valid = Some(revision.clone());
            }
            self.judge_document(&daemon, &desired);
            self.store.desired = Some(desired.clone());
            daemon.desired = Some(desired);
        }
        daemon.trigger(self.now + self.pace.coalesce);
        self.daemon = Some(daemon);
    }

    fn catch_up_all(&mut self) {
        let sessions: Vec<_> = self.provider.groups().values().map(|group| group.session.clone()).collect();
        for session in sessions {
            self.catch_up(&session);
        }
    }
}
