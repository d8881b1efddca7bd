//! The judges: each looks at one thing the daemon is about to do, with the truth at hand.

use std::collections::BTreeSet;

use ebb_core::action::Plan;
use ebb_core::idle::{FIRST_HANDSHAKE_GRACE, STALE_AFTER, STALE_LOGS_AFTER};
use ebb_core::names::{GatewayName, Hash, RunId};
use ebb_core::plan::Desired;
use ebb_core::record::Record;
use ebb_core::spec::{self, Template};
use ebb_core::state::{Rest, State, StateName};
use ebb_desired_state::{Document, Session, SessionName, Signal, UserName};
use jiff::SignedDuration;

use super::daemon::Daemon;
use super::oracle::Rule;
use super::provider::Standing;
use super::world::World;

/// Telemetry is on its way for up to this long, and a pass begins a little later.
const IN_TRANSIT: SignedDuration = SignedDuration::from_secs(1);

impl World {
    /// Judges a document that comes into force: what would it end?
    pub(super) fn judge_document(&mut self, daemon: &Daemon, desired: &Desired) {
        let document = &desired.document;
        let ended = |record: &Record| match document.session(&record.session) {
            None => true,
            Some(session) => {
                record.run.as_ref().is_some_and(|run| run.template != Hash::of(&Template::of(session)))
            }
        };
        let ending: BTreeSet<SessionName> = daemon
            .records
            .values()
            .filter(|record| runs(&record.state) && ended(record))
            .map(|record| record.session.clone())
            .collect();
        let limit = usize::try_from(document.limits.max_teardowns_per_pass).unwrap_or(usize::MAX);
        self.oracle.guarded = (ending.len() > limit).then(|| (desired.revision.clone(), ending));
    }

    /// Judges a plan as a whole.
    pub(super) fn judge_plan(&mut self, daemon: &Daemon, plan: &Plan) {
        let revision = daemon.desired.as_ref().map(|desired| &desired.revision);
        if revision != self.oracle.last_valid.as_ref() {
            self.violate(Rule::BadInput, format!("{revision:?} is in force, which is no valid document"));
        }
        let mut seen = BTreeSet::new();
        for step in &plan.steps {
            if !seen.insert(&step.session) {
                self.violate(Rule::Serial, format!("{}: a plan has two steps for it", step.session));
            }
            if daemon.flights.contains_key(&step.session) {
                self.violate(Rule::Serial, format!("{}: planned for while in flight", step.session));
            }
        }
    }

    /// Judges a record that is about to be written.
    pub(super) fn judge_store(&mut self, daemon: &Daemon, record: &Record) {
        let session = &record.session;
        let before = self.store.get(session).expect("a record that the simulation wrote");
        let newest = self.oracle.generations.get(session).copied().unwrap_or(0);
        if before.as_ref().is_some_and(|before| record.generation < before.generation)
            || record.generation.0 < newest
        {
            self.violate(
                Rule::Generation,
                format!("{session}: its generation went back to {}", record.generation),
            );
        }
        self.oracle.generations.insert(session.clone(), record.generation.0);
        let from = before.as_ref().map(|before| &before.state);
        let to = &record.state;
        if from == Some(to) {
            return;
        }
        if *to == State::Active && !matches!(from, Some(State::Active | State::Idle { .. })) {
            self.judge_ready(session, record);
        }
        if matches!(to, State::Provisioning) && from.is_none_or(|from| from.name().is_down()) {
            self.judge_begin(daemon, record);
        }
        if matches!(to, State::Provisioning) && from.is_some_and(|from| from.name().is_up()) {
            self.judge_loss(session, before.as_ref());
        }
        if let State::Terminating { why } = to
            && !matches!(from, Some(State::Terminating { .. }))
        {
            self.judge_teardown(daemon, record, why);
        }
        if to.name().is_down() && matches!(from, Some(State::Terminating { .. })) {
            self.judge_gone(session);
        }
    }

    /// Judges the removal of a record.
    pub(super) fn judge_forget(&mut self, session: &SessionName) {
        self.oracle.generations.remove(session);
        // Whatever is found of it later was not ended by the edit.
        if let Some((_, ending)) = &mut self.oracle.guarded {
            ending.remove(session);
        }
        if self.oracle.strict && self.has_group(session) {
            self.violate(Rule::NoLeak, format!("{session}: forgotten while its group is there"));
        }
    }

    /// Judges a delete.
    pub(super) fn judge_delete(
        &mut self,
        daemon: &Daemon,
        session: &SessionName,
        name: &GatewayName,
        run: &RunId,
    ) {
        let Some(deployment) = daemon.desired.as_ref().map(|desired| &desired.document.deployment) else {
            return;
        };
        let foreign = self
            .provider
            .groups()
            .get(name)
            .is_some_and(|group| group.run == *run && group.deployment != *deployment);
        if foreign {
            self.violate(Rule::Foreign, format!("{session}: deletes {name}, which is not ours"));
        }
    }

    /// Looks at everything that must hold at any time.
    pub fn judge_present(&mut self) {
        let Some(deployment) = self.store.desired.as_ref().map(|desired| desired.document.deployment.clone())
        else {
            return;
        };
        let mut seen = BTreeSet::new();
        let live = self.provider.groups().values().filter(|group| group.deployment == deployment);
        let twice: Vec<_> =
            live.filter(|group| !seen.insert(&group.session)).map(|group| group.session.clone()).collect();
        for session in twice {
            self.violate(Rule::OneGateway, format!("{session}: two groups"));
        }
    }

    fn judge_ready(&mut self, session: &SessionName, record: &Record) {
        self.oracle.usable_since.insert(session.clone(), self.now);
        let name = self.name_of(session);
        let group = self.provider.groups().get(&name);
        let ready = group.is_some_and(|group| {
            record.run.as_ref().is_some_and(|run| run.id == group.run)
                && group.gateway.as_ref().is_some_and(|gateway| gateway.live().is_some())
        });
        if !ready && self.oracle.strict && !self.oracle.disturbed.contains(session) {
            self.violate(Rule::Ready, format!("{session}: said to be usable, but its gateway is not"));
        }
    }

    fn judge_begin(&mut self, daemon: &Daemon, record: &Record) {
        let Some(desired) = &daemon.desired else { return };
        let (document, session) = (&desired.document, &record.session);
        let others = self.store.load().expect("a record that the simulation wrote");
        let holders: Vec<_> = others
            .into_values()
            .map(|(_, record)| record)
            .filter(|other| other.session != *session && other.state.name().holds_slot())
            .collect();
        let mine = self.users_of(document, record);
        let limits = document.limits;
        let sessions = u32::try_from(holders.len()).unwrap_or(u32::MAX) + 1;
        let theirs: BTreeSet<UserName> =
            holders.iter().flat_map(|holder| self.users_of(document, holder)).collect();
        let users = u32::try_from(theirs.union(&mine).count()).unwrap_or(u32::MAX);
        if sessions > limits.active_sessions || users > limits.active_users {
            self.violate(
                Rule::Capacity,
                format!("{session}: begins as one of {sessions} sessions and {users} users"),
            );
        }
        if let Some(user) = theirs.intersection(&mine).next() {
            self.violate(Rule::OneSession, format!("{session}: begins while {user} has another session"));
        }
    }

    fn judge_loss(&mut self, session: &SessionName, before: Option<&Record>) {
        let name = self.name_of(session);
        let there = self.provider.groups().get(&name).is_some_and(|group| {
            group.standing == Standing::Running
                && before.and_then(|record| record.run.as_ref()).is_some_and(|run| run.id == group.run)
        });
        if there && !self.oracle.clock_jumped {
            self.violate(Rule::StaleReads, format!("{session}: given up although its gateway runs"));
        }
    }

    fn judge_teardown(&mut self, daemon: &Daemon, record: &Record, why: &Rest) {
        let session = &record.session;
        if matches!(why, Rest::Removed | Rest::SpecChanged)
            && let (Some((revision, ending)), Some(desired)) = (&self.oracle.guarded, &daemon.desired)
            && desired.revision == *revision
            && ending.contains(session)
            && self.store.approved.as_ref() != Some(revision)
        {
            let count = ending.len();
            self.violate(
                Rule::MassTeardown,
                format!("{session}: torn down as one of {count} without approval"),
            );
        }
        if *why == Rest::Idle
            && let Some(declared) = daemon.desired.as_ref().and_then(|d| d.document.session(session).cloned())
        {
            self.judge_silence(daemon, &declared);
        }
    }

    fn judge_silence(&mut self, daemon: &Daemon, declared: &Session) {
        let session = &declared.name;
        self.catch_up(session);
        let timeout = SignedDuration::try_from(declared.idle.timeout).unwrap_or(SignedDuration::MAX);
        let Some(seen_at) = daemon.evidence_made_at.get(session).copied() else {
            self.violate(Rule::Silence, format!("{session}: torn down as idle without any evidence"));
            return;
        };
        if self.now.duration_since(seen_at) > STALE_AFTER.max(STALE_LOGS_AFTER) {
            self.violate(Rule::Silence, format!("{session}: torn down on evidence from {seen_at}"));
        }
        let group = self.provider.groups().get(&self.name_of(session));
        let created_at = group.map(|group| group.created_at);
        let window = (seen_at - timeout + IN_TRANSIT, seen_at);
        let connected = self
            .clients
            .last_handshake(session)
            .is_some_and(|at| created_at.is_none_or(|created| at >= created));
        let Some(document) = daemon.desired.as_ref().map(|desired| &desired.document) else { return };
        let users: Vec<_> = spec::entitled(document, declared, self.clock()).map(|user| &user.name).collect();
        for user in users {
            let truth = self.clients.truth(session, user);
            let used = match declared.idle.signal {
                Signal::Traffic => truth.used_between(window.0, window.1),
                Signal::Handshake => truth.handshake_at.is_some_and(|at| at > window.0 && at <= window.1),
            };
            if used {
                self.violate(Rule::Silence, format!("{session}: torn down as idle although {user} used it"));
            }
        }
        let up = self.oracle.usable_since.get(session).map(|since| self.now.duration_since(*since));
        if !connected && up.is_some_and(|up| up + IN_TRANSIT < FIRST_HANDSHAKE_GRACE) {
            self.violate(Rule::FirstHandshake, format!("{session}: torn down before anybody could connect"));
        }
    }

    fn judge_gone(&mut self, session: &SessionName) {
        if self.oracle.strict && self.has_group(session) {
            self.violate(Rule::Honest, format!("{session}: said to be down while its group is there"));
        }
    }

    fn has_group(&self, session: &SessionName) -> bool {
        let Some(desired) = &self.store.desired else { return false };
        self.provider.of_session(&desired.document.deployment, session).next().is_some()
    }

    /// Users who hold a slot through this record: the entitled ones, or for a session that is gone from the document all it had.
    fn users_of(&self, document: &Document, record: &Record) -> BTreeSet<UserName> {
        document.session(&record.session).map_or_else(
            || record.hosts.keys().cloned().collect(),
            |session| spec::entitled(document, session, self.clock()).map(|user| user.name.clone()).collect(),
        )
    }
}

fn runs(state: &State) -> bool {
    state.name().holds_slot() && state.name() != StateName::Terminating
}
