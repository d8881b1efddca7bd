//! Deliberate bugs. Each breaks one promise, and a test shows that the promise's judge notices.

use std::collections::{BTreeMap, BTreeSet};

use ebb_core::action::{Action, Plan};
use ebb_core::evidence::Evidence;
use ebb_core::names::GatewayName;
use ebb_core::observed::Observed;
use ebb_core::plan::{Desired, Revision};
use ebb_core::record::Record;
use ebb_core::spec::Keys;
use ebb_core::state::{State, StateName};
use ebb_desired_state::{SessionName, User};
use jiff::Timestamp;

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Missing or stale telemetry counts as silence.
    UnknownIsIdle,
    /// Open connections without data do not count.
    IgnoreOpenFlows,
    /// A handshake counts as data, so that a keepalive keeps a session alive.
    KeepaliveIsData,
    /// A session that has just started is given no time for its first user.
    NoFirstHandshakeGrace,
    /// A record is dropped as soon as the delete is asked for.
    ForgetBeforeGone,
    /// A failed delete counts as done.
    ForgetFailedDeletes,
    /// Group names differ from run to run.
    RandomNames,
    /// Everything in the subscription counts as ours.
    TouchForeign,
    /// Gateways accept older generations.
    SkipGenerationFence,
    /// Generations begin anew with every change.
    RestartGenerations,
    /// What a listing does not show is gone, however old the listing is.
    BelieveStaleAbsence,
    /// A mass teardown needs no approval.
    IgnoreHeld,
    /// There are no limits.
    IgnoreCapacity,
    /// Users may have any number of sessions.
    ShareUsers,
    /// A session is planned for while its last step is being carried out.
    IgnoreFlights,
    /// A failed call is repeated in the next pass.
    NoBackoff,
    /// Gateways are configured in every pass.
    ConfigureAlways,
    /// What is known of one run counts for the next.
    BelieveOldEvidence,
    /// An unreadable document is an empty one.
    BadInputIsEmpty,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::UnknownIsIdle,
        Self::IgnoreOpenFlows,
        Self::KeepaliveIsData,
        Self::NoFirstHandshakeGrace,
        Self::ForgetBeforeGone,
        Self::ForgetFailedDeletes,
        Self::RandomNames,
        Self::TouchForeign,
        Self::SkipGenerationFence,
        Self::RestartGenerations,
        Self::BelieveStaleAbsence,
        Self::IgnoreHeld,
        Self::IgnoreCapacity,
        Self::ShareUsers,
        Self::IgnoreFlights,
        Self::NoBackoff,
        Self::ConfigureAlways,
        Self::BelieveOldEvidence,
        Self::BadInputIsEmpty,
    ];
}

/// Everything a pass is told, free to be falsified.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) desired: Desired,
    pub(super) records: BTreeMap<SessionName, Record>,
    pub(super) observed: Option<Observed>,
    pub(super) evidence: BTreeMap<SessionName, Evidence>,
    pub(super) in_flight: BTreeSet<SessionName>,
    pub(super) approved: Option<Revision>,
    pub(super) now: Timestamp,
}

impl Mutation {
    pub(super) fn bend_facts(self, facts: &mut Facts) {
        match self {
            Self::UnknownIsIdle => {
                facts.evidence.values_mut().for_each(|evidence| refresh(evidence, facts.now));
            }
            Self::IgnoreOpenFlows => for_peers(facts, |peer| peer.open_flows = 0),
            Self::KeepaliveIsData => {
                for_peers(facts, |peer| peer.data_at = peer.data_at.max(peer.handshake_at));
            }
            Self::NoFirstHandshakeGrace => for_runs(facts, |run| {
                run.first_handshake = run.first_handshake.take().or(run.ready.clone());
            }),
            Self::BelieveStaleAbsence => {
                for record in facts.records.values_mut() {
                    record.accepted = None;
                    if let Some(run) = &mut record.run {
                        run.created_at = None;
                    }
                }
            }
            Self::IgnoreHeld => facts.approved = Some(facts.desired.revision.clone()),
            Self::IgnoreCapacity => {
                let mut document = facts.desired.document.clone();
                document.limits.active_sessions = u32::MAX;
                document.limits.active_users = u32::MAX;
                facts.desired = Desired::new(document, facts.desired.revision.clone());
            }
            Self::IgnoreFlights => facts.in_flight.clear(),
            Self::NoBackoff => {
                for record in facts.records.values_mut() {
                    record.not_before = None;
                    if let State::BackingOff { until } = &mut record.state {
                        *until = facts.now;
                    }
                }
            }
            Self::BelieveOldEvidence => {
                for (session, evidence) in &mut facts.evidence {
                    if let Some(run) = facts.records.get(session).and_then(|record| record.run.as_ref()) {
                        evidence.run = run.id.clone();
                        refresh(evidence, facts.now);
                    }
                }
            }
            Self::ShareUsers => {
                let mut document = facts.desired.document.clone();
                let mut users = Vec::new();
                for session in &mut document.sessions {
                    for user in &mut session.users {
                        *user = format!("{user}-{}", session.name).parse().expect("a name");
                        users.push(User::new(user.clone()));
                    }
                }
                document.users = users;
                facts.desired = Desired::new(document, facts.desired.revision.clone());
            }
            Self::ForgetBeforeGone
            | Self::ForgetFailedDeletes
            | Self::RandomNames
            | Self::TouchForeign
            | Self::SkipGenerationFence
            | Self::RestartGenerations
            | Self::ConfigureAlways
            | Self::BadInputIsEmpty => {}
        }
    }

    pub(super) fn bend_plan(self, plan: &mut Plan, facts: &Facts, _keys: &Keys) {
        for step in &mut plan.steps {
            let deletes = step.actions.iter().any(|action| matches!(action, Action::Delete { .. }));
            match self {
                Self::ForgetBeforeGone
                    if deletes && facts.desired.document.session(&step.session).is_none() =>
                {
                    step.actions.push(Action::Forget { ended: None });
                }
                Self::RandomNames => {
                    for action in &mut step.actions {
                        if let Action::Create { spec } = action {
                            let name = format!("{}-{}", spec.name, &spec.run.as_str()[..4]);
                            spec.name = GatewayName::listed(&name);
                        }
                    }
                }
                Self::RestartGenerations => {
                    for action in &mut step.actions {
                        if let Action::Store { record, .. } = action {
                            record.generation = ebb_core::names::Generation(1);
                        }
                    }
                }
                _ => {}
            }
        }
        if self == Self::ConfigureAlways {
            self.configure_always(plan, facts);
        }
    }

    fn configure_always(self, plan: &mut Plan, facts: &Facts) {
        for record in facts.records.values().filter(|record| record.state.name() == StateName::Active) {
            if plan.steps.iter().any(|step| step.session == record.session)
                || facts.in_flight.contains(&record.session)
            {
                continue;
            }
            let record = Box::new(record.clone());
            let session = record.session.clone();
            plan.steps.push(ebb_core::action::Step {
                session,
                actions: vec![Action::Store { record, ended: None }],
            });
        }
    }
}

fn refresh(evidence: &mut Evidence, now: Timestamp) {
    if let Some(report) = &mut evidence.report {
        report.taken_at = now;
    }
}

fn for_peers(facts: &mut Facts, change: impl Fn(&mut ebb_core::evidence::PeerReport)) {
    let reports = facts.evidence.values_mut().filter_map(|evidence| evidence.report.as_mut());
    reports.flat_map(|report| report.peers.values_mut()).for_each(change);
}

fn for_runs(facts: &mut Facts, change: impl Fn(&mut ebb_core::record::Run)) {
    facts.records.values_mut().filter_map(|record| record.run.as_mut()).for_each(change);
}
