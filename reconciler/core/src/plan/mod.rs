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

mod guard;
mod report;
mod session;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use ebb_desired_state::{Document, Session, SessionName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::{Action, Plan, Step};
use crate::capacity::{self, Candidate};
use crate::evidence::Evidence;
use crate::machine::Demand;
use crate::names::{GatewayName, Hash};
use crate::observed::{Observed, Phase};
use crate::record::Record;
use crate::spec::{self, Keys, Template};
use crate::state::Rest;

pub use report::{Report, SessionReport};
pub(crate) use session::jitter;
pub use session::{LIST_LAG, PROVISION_TIMEOUT, START_TIMEOUT};
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
    hashes: BTreeMap<SessionName, Hashes>,
}

/// What a session's part of the document hashes to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hashes {
    /// Everything that concerns the session, its users included.
    spec: Hash,
    /// What forces another gateway.
    template: Hash,
}

impl Desired {
    /// Takes a document into force.
    #[must_use]
    pub fn new(document: Document, revision: Revision) -> Self {
        let users: BTreeMap<_, _> = document.users.iter().map(|user| (&user.name, user)).collect();
        let hashes = document
            .sessions
            .iter()
            .map(|session| {
                let users: Vec<_> = session.users.iter().filter_map(|name| users.get(name)).collect();
                let template = Hash::of(&Template::of(session));
                (session.name.clone(), Hashes { spec: Hash::of(&(session, users)), template })
            })
            .collect();
        Self { document, revision, hashes }
    }
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
    let document = &inputs.desired.document;
    let declared: BTreeMap<_, _> = document
        .sessions
        .iter()
        .enumerate()
        .map(|(position, session)| (&session.name, (position, session)))
        .collect();
    let mut drafts: Vec<session::Draft<'_>> = names(inputs)
        .into_iter()
        .filter(|name| !inputs.in_flight.contains(name))
        .map(|name| {
            let (position, declaration) =
                declared.get(&name).map_or((usize::MAX, None), |(p, s)| (*p, Some(*s)));
            session::Draft::new(inputs, &name, declaration, position)
        })
        .collect();

    let busy = in_flight_candidates(inputs, &declared);
    let allotment = {
        let candidates: Vec<_> = drafts.iter().map(session::Draft::candidate).chain(busy).collect();
        capacity::allot(&candidates, &document.limits)
    };
    let held = guard::held(&drafts, document.limits.max_teardowns_per_pass, inputs);
    for draft in &mut drafts {
        if let Some(why) = allotment.superseded.get(draft.name()) {
            draft.demand = Demand::Rest(why.clone());
        }
        draft.slot = allotment.slots.get(draft.name()).cloned();
        draft.held = held.contains(draft.name());
    }

    let mut plan = Plan::default();
    let mut report = Report::new(inputs, held.len());
    for draft in drafts {
        let (step, of_session) = steps::finish(draft);
        plan.steps.extend(step);
        report.add(of_session);
    }
    plan.steps.extend(strays(inputs));
    (plan, report)
}

/// Gateways of ours under a name that no session of ours has. Nothing can ever want one.
fn strays(inputs: &Inputs<'_>) -> impl Iterator<Item = Step> {
    let deployment = &inputs.desired.document.deployment;
    let gateways = inputs.observed.into_iter().flat_map(|observed| &observed.gateways);
    gateways
        .filter(|(name, gateway)| {
            **name != GatewayName::new(deployment, &gateway.session)
                && gateway.phase != Phase::Deleting
                && !inputs.in_flight.contains(&gateway.session)
        })
        .map(|(name, gateway)| {
            let delete = Action::Delete { name: name.clone(), run: gateway.run.clone(), why: Rest::Removed };
            Step { session: gateway.session.clone(), actions: vec![delete] }
        })
}

/// Every session that the document, the store or the provider knows.
fn names(inputs: &Inputs<'_>) -> BTreeSet<SessionName> {
    let declared = inputs.desired.document.sessions.iter().map(|session| &session.name);
    let observed = inputs.observed.iter().flat_map(|observed| observed.gateways.values().map(|g| &g.session));
    declared.chain(inputs.records.keys()).chain(observed).cloned().collect()
}

/// Sessions in flight are not planned for, but they occupy what they occupy.
fn in_flight_candidates<'a>(
    inputs: &Inputs<'a>,
    declared: &BTreeMap<&'a SessionName, (usize, &'a Session)>,
) -> Vec<Candidate<'a>> {
    inputs
        .in_flight
        .iter()
        .filter_map(|name| inputs.records.get(name))
        .map(|record| {
            let declaration = declared.get(&record.session);
            Candidate {
                session: &record.session,
                users: users_of(inputs, declaration.map(|(_, session)| *session), record),
                state: record.state.name(),
                wanted_since: record.wanted_since,
                ready: false,
                position: declaration.map_or(usize::MAX, |(position, _)| *position),
            }
        })
        .collect()
}

/// Users who have the session, or had it as long as the document declared it.
fn users_of<'a>(
    inputs: &Inputs<'a>,
    declaration: Option<&'a Session>,
    record: &'a Record,
) -> BTreeSet<&'a UserName> {
    match declaration {
        Some(session) => {
            spec::entitled(&inputs.desired.document, session, inputs.now).map(|user| &user.name).collect()
        }
        None => record.hosts.keys().collect(),
    }
}

/// The gateway that the provider has for `session`, if a listing is there.
fn observed_gateway<'a>(inputs: &Inputs<'a>, session: &SessionName) -> Option<&'a crate::observed::Gateway> {
    let name = GatewayName::new(&inputs.desired.document.deployment, session);
    inputs.observed?.gateways.get(&name)
}
