//! The planner: what is wanted, remembered, observed and known, in; what to do, out.
//!
//! One pass goes through every session in four steps:
//!
//! 1. bring its record up to date with the document: generation, host numbers, wakes, requests ([`crate::demand`]);
//! 2. hand out slots ([`crate::capacity`]) and hold back a mass teardown ([`guard`]);
//! 3. tell its machine the present facts ([`crate::machine`]);
//! 4. compare the standing effects of its state with what is observed, and turn the differences into actions.
//!
//! The planner is given no news, only the present, and it is a function: equal inputs give an equal plan. Once everything that a
//! plan asks for is visible in the inputs, the next plan is empty.

mod drift;
mod guard;
mod intake;
mod report;
mod session;
mod steps;
mod walk;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ebb_desired_state::{Document, Session, SessionName, User, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::Plan;
use crate::capacity::{self, Allotment};
use crate::evidence::Evidence;
use crate::machine::Demand;
use crate::names::{GatewayName, Hash};
use crate::observed::{Gateway, Observed};
use crate::record::Record;
use crate::spec::{self, Keys, Template, Users};

use self::walk::Walk;
pub use report::{Progress, Report, SessionReport};
pub(crate) use session::jitter;
pub use session::{PROVISION_TIMEOUT, START_TIMEOUT};
pub use steps::DELETE_RECHECK;

/// Identifies a version of the document: a hash, a commit or an ETag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub String);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last valid document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The document.
    pub document: Document,
    /// Its version.
    pub revision: Revision,
    /// What every pass asks of a session and the document alone answers.
    sessions: BTreeMap<SessionName, Declared>,
    /// Places of users in the document. A pass asks for every user several times, and looking through all of them each time would
    /// take seconds with thousands.
    users: HashMap<UserName, usize>,
}

/// What follows for one session from the document alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    /// Place in the document.
    position: usize,
    /// The name of its gateway.
    gateway: GatewayName,
    /// Hash of everything that concerns the session, its users' keys and terms included.
    spec: Hash,
    /// Hash of what forces another gateway.
    template: Hash,
}

impl Desired {
    /// Takes a document into force.
    #[must_use]
    pub fn new(document: Document, revision: Revision) -> Self {
        let users: BTreeMap<_, _> = document.users.iter().map(|user| (&user.name, user)).collect();
        let sessions = document
            .sessions
            .iter()
            .enumerate()
            .map(|(position, session)| {
                // Whatever concerns only the API starts no session anew.
                let users: Vec<_> = session
                    .users
                    .iter()
                    .filter_map(|name| users.get(name))
                    .map(|user| (&user.name, user.public_key, user.until))
                    .collect();
                let declared = Declared {
                    position,
                    gateway: GatewayName::new(&document.deployment, &session.name),
                    spec: Hash::of(&(spec_of(session), users)),
                    template: Hash::of(&Template::of(session)),
                };
                (session.name.clone(), declared)
            })
            .collect();
        let users =
            document.users.iter().enumerate().map(|(place, user)| (user.name.clone(), place)).collect();
        Self { document, revision, sessions, users }
    }
}

impl Users for Desired {
    fn user(&self, name: &UserName) -> Option<&User> {
        self.document.users.get(*self.users.get(name)?)
    }
}

/// The session without what only says when it runs: taking back a `wake` or a suspension is no reason to start it.
fn spec_of(session: &Session) -> Session {
    Session { wake: None, suspended: None, ..session.clone() }
}

/// Everything a pass may know.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What is wanted.
    pub desired: &'a Desired,
    /// What is remembered.
    pub records: &'a BTreeMap<SessionName, Record>,
    /// What the provider has; `None` while it cannot be asked, and then nothing is done there.
    pub observed: Option<&'a Observed>,
    /// What is known of use.
    pub evidence: &'a BTreeMap<SessionName, Evidence>,
    /// Public keys.
    pub keys: &'a Keys,
    /// Sessions whose last step is still being carried out. They are left alone.
    pub in_flight: &'a BTreeSet<SessionName>,
    /// The revision whose mass teardown somebody has approved.
    pub approved: Option<&'a Revision>,
    /// Fresh randomness, for ids and jitter.
    pub seed: [u8; 32],
    /// The time.
    pub now: Timestamp,
}

/// Decides what to do.
pub fn plan(inputs: &Inputs<'_>) -> (Plan, Report) {
    // A listing from the future is one from before the clock was set back; nobody knows how old it is.
    let observed = inputs.observed.filter(|observed| observed.asked_at <= inputs.now);
    let inputs = &Inputs { observed, ..*inputs };
    let mut drafts = drafts(inputs);
    let allotment = if drafts.iter().any(session::Draft::waits) {
        let candidates: Vec<_> = drafts.iter().map(session::Draft::candidate).collect();
        capacity::allot(&candidates, &inputs.desired.document.limits)
    } else {
        Allotment::default()
    };
    let held = guard::held(&drafts, inputs.desired.document.limits.max_teardowns_per_pass, inputs);
    for draft in &mut drafts {
        if let (Some(why), Demand::Up) = (allotment.superseded.get(draft.name()), &draft.demand) {
            draft.demand = Demand::Rest(why.clone());
        }
        if let Some(place) = allotment.inherited.get(draft.name()) {
            draft.record.to_mut().wanted_since = Some(*place);
        }
        draft.slot = allotment.slots.get(draft.name()).cloned();
        draft.held = held.contains(draft.name());
        let held_by = draft.held.then_some(&inputs.desired.revision);
        if draft.record.held.as_ref() != held_by {
            draft.record.to_mut().held = held_by.cloned();
        }
    }

    let mut plan = Plan::default();
    let mut reports = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let (step, report) = steps::finish(draft);
        plan.steps.extend(step);
        reports.push(report);
    }
    (plan, Report::new(inputs, held.len()).with(reports))
}

fn drafts<'a>(inputs: &Inputs<'a>) -> Vec<session::Draft<'a>> {
    let document = &inputs.desired.document;
    let mut declared = Walk::of(&inputs.desired.sessions);
    let mut records = Walk::of(inputs.records);
    let mut evidence = Walk::of(inputs.evidence);
    // Names of gateways sort like those of their sessions, which they end in.
    let mut gateways = inputs.observed.map(|observed| Walk::of(&observed.gateways));
    let mut strays = strays(inputs);
    names(inputs)
        .into_iter()
        .map(|name| {
            let declared = declared.to(name);
            let gateway_name = declared.map_or_else(
                || Cow::Owned(GatewayName::new(&document.deployment, name)),
                |d| Cow::Borrowed(&d.gateway),
            );
            session::Draft::new(session::Known {
                inputs: *inputs,
                name,
                declared,
                record: records.to(name),
                gateway: gateways.as_mut().and_then(|gateways| gateways.to(&gateway_name)),
                evidence: evidence.to(name),
                strays: strays.remove(name).unwrap_or_default(),
            })
        })
        .collect()
}

/// Gateways of ours under a name that no session of ours has, by the session that their tags name.
fn strays<'a>(inputs: &Inputs<'a>) -> BTreeMap<&'a SessionName, Vec<(&'a GatewayName, &'a Gateway)>> {
    let deployment = &inputs.desired.document.deployment;
    let mut strays: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, gateway) in inputs.observed.into_iter().flat_map(|observed| &observed.gateways) {
        if !name.is_of(deployment, &gateway.session) {
            strays.entry(&gateway.session).or_default().push((name, gateway));
        }
    }
    strays
}

/// Every session that the document, the store or the provider knows.
fn names<'a>(inputs: &Inputs<'a>) -> Vec<&'a SessionName> {
    let gateways = inputs.observed.into_iter().flat_map(|observed| observed.gateways.values());
    let declared = inputs.desired.sessions.keys();
    let mut names: Vec<_> =
        declared.chain(inputs.records.keys()).chain(gateways.map(|gateway| &gateway.session)).collect();
    // Three runs that are sorted or nearly so: this sort merges them.
    names.sort();
    names.dedup();
    names
}

/// Users who have the session, or had it as long as the document declared it.
fn users_of<'a>(
    inputs: &Inputs<'a>,
    declaration: Option<&'a Session>,
    record: &'a Record,
) -> BTreeSet<&'a UserName> {
    match declaration {
        Some(session) => spec::entitled(inputs.desired, session, inputs.now).map(|user| &user.name).collect(),
        None => record.hosts.keys().collect(),
    }
}
