//! What the daemon holds in memory between passes. A crash loses all of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ebb_core::action::Action;
use ebb_core::evidence::Evidence;
use ebb_core::names::RunId;
use ebb_core::observed::Observed;
use ebb_core::outcome::Failure;
use ebb_core::plan::{Desired, Report};
use ebb_core::record::Record;
use ebb_desired_state::SessionName;
use ebb_wire::Telemetry;
use jiff::Timestamp;

use super::executor::Flight;
use super::store::{Store, Version};

/// The daemon. Times are true times, except inside the core's own types, which hold what the daemon's clock showed.
#[derive(Debug, Default)]
pub struct Daemon {
    /// The document in force.
    pub desired: Option<Desired>,
    /// Records as last read or written.
    pub records: BTreeMap<SessionName, Record>,
    /// Versions of the same.
    pub versions: BTreeMap<SessionName, Version>,
    /// The last listing.
    pub observed: Option<Observed>,
    /// What is known of use.
    pub evidence: BTreeMap<SessionName, Evidence>,
    /// When the reports in `evidence` were made, in truth.
    pub evidence_made_at: BTreeMap<SessionName, Timestamp>,
    /// The reasons behind the last pass.
    pub report: Option<Report>,
    /// Steps that are being carried out.
    pub flights: BTreeMap<SessionName, Flight>,
    /// When the next pass is due.
    pub pass_at: Option<Timestamp>,
    /// When the next listing is due.
    pub list_at: Option<Timestamp>,
    /// The listing that is under way, and when its answer arrives.
    pub listing: Option<(Timestamp, Result<Observed, Failure>)>,
    /// When gateways are to be asked.
    pub ask_at: BTreeMap<SessionName, Timestamp>,
    /// Questions under way, and when their answers arrive.
    pub asking: BTreeMap<SessionName, (Timestamp, Answer)>,
    /// Runs of the gateways that can be asked, as last listed.
    pub targets: BTreeMap<SessionName, RunId>,
    /// Whether the last pass planned nothing.
    pub at_rest: bool,
}

/// A gateway's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The run that was asked.
    pub run: RunId,
    /// When the answer was made.
    pub made_at: Timestamp,
    /// What it says.
    pub telemetry: Result<Telemetry, String>,
    /// The last line of its log, if the tunnel is closed but the log can be read.
    pub log: Option<(Timestamp, Telemetry)>,
}

impl Daemon {
    /// A daemon that starts with what the store has.
    ///
    /// # Panics
    /// When the store holds a record that cannot be read, which nothing in a simulated world causes.
    #[must_use]
    pub fn start(store: &Store, now: Timestamp) -> Self {
        let loaded = store.load().expect("a record that the simulation wrote");
        let mut daemon = Self { desired: store.desired.clone(), list_at: Some(now), ..Self::default() };
        for (session, (version, record)) in loaded {
            daemon.versions.insert(session.clone(), version);
            daemon.records.insert(session, record);
        }
        daemon
    }

    /// Brings the next pass forward.
    pub fn trigger(&mut self, at: Timestamp) {
        self.pass_at = Some(self.pass_at.map_or(at, |due| due.min(at)));
    }

    /// Sessions whose step is being carried out.
    #[must_use]
    pub fn in_flight(&self) -> BTreeSet<SessionName> {
        self.flights.keys().cloned().collect()
    }

    /// Whether anything at the provider is expected to change soon.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        use ebb_core::state::StateName::{Provisioning, Terminating};
        self.observed.is_none()
            || self.records.values().any(|record| matches!(record.state.name(), Provisioning | Terminating))
    }

    /// When anything happens by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let flights = self.flights.values().map(|flight| flight.due);
        let asking = self.asking.values().map(|(at, _)| *at);
        let asks = self.ask_at.values().copied();
        let list = if self.listing.is_some() { None } else { self.list_at };
        let listing = self.listing.as_ref().map(|(at, _)| *at);
        flights.chain(asking).chain(asks).chain(self.pass_at).chain(list).chain(listing).min()
    }

    /// Begins to carry out `actions` for `session`.
    pub fn begin(&mut self, session: &SessionName, actions: Vec<Action>, now: Timestamp) {
        let flight = Flight::new(VecDeque::from(actions), now);
        self.flights.insert(session.clone(), flight);
    }

    /// Takes over what the store has of `session`, after somebody else has written it.
    ///
    /// # Panics
    /// When the record cannot be read, which nothing in a simulated world causes.
    pub fn reload(&mut self, session: &SessionName, store: &Store) {
        let loaded = store.load().expect("a record that the simulation wrote").remove(session);
        match loaded {
            Some((version, record)) => {
                self.versions.insert(session.clone(), version);
                self.records.insert(session.clone(), record);
            }
            None => {
                self.versions.remove(session);
                self.records.remove(session);
            }
        }
    }
}
