//! One session's part of a pass, up to its next state.

use std::time::Duration;

use ebb_desired_state::{Session, SessionName};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::{Inputs, observed_gateway, users_of};
use crate::capacity::Candidate;
use crate::demand;
use crate::evidence::Evidence;
use crate::idle::{self, IDLE_GRACE, Memory, STALE_AFTER, Verdict};
use crate::machine::{Demand, Event, Machine, Presence, Slot};
use crate::names::{Hash, RunId};
use crate::observed::{Gateway, Phase};
use crate::outcome::{self, Class, Failure};
use crate::record::{Bytes, Failed, ProviderOperation, Record, Run};
use crate::spec::{self, Template};
use crate::state::{Rest, State};

/// A gateway that does not run after this long never will: Azure gives up after 30 minutes, people long before.
pub const PROVISION_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// A running gateway that does not answer through the tunnel after this long has something in its way that time does not cure.
pub const START_TIMEOUT: SignedDuration = SignedDuration::from_mins(3);

/// A listing may lag behind an accepted create by this much; until then "absent" is not believed.
pub const LIST_LAG: SignedDuration = SignedDuration::from_secs(30);

/// A gateway that was usable for this long before it failed has not failed "again".
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// A session between the document and its plan.
pub(super) struct Draft<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) original: Option<&'a Record>,
    pub(super) record: Record,
    pub(super) declaration: Option<&'a Session>,
    pub(super) gateway: Option<&'a Gateway>,
    pub(super) evidence: Option<&'a Evidence>,
    pub(super) demand: Demand,
    pub(super) slot: Option<Slot>,
    /// Its teardown waits for approval.
    pub(super) held: bool,
    /// The document wants another gateway than the run has.
    pub(super) respecified: bool,
    /// The document has changed since the record was written.
    changed: bool,
    position: usize,
}

impl<'a> Draft<'a> {
    /// Brings the record up to date with the document and asks whether the session is wanted.
    pub(super) fn new(
        inputs: &Inputs<'a>,
        name: &SessionName,
        declaration: Option<&'a Session>,
        position: usize,
    ) -> Self {
        let original = inputs.records.get(name);
        let gateway = observed_gateway(inputs, name);
        let hashes = declaration.and_then(|session| inputs.desired.hashes.get(&session.name));
        let mut record = original.cloned().unwrap_or_else(|| {
            let spec = hashes.map_or_else(|| Hash::of(&()), |hashes| hashes.spec.clone());
            Record::new(name, spec, declaration.and_then(|session| session.wake.clone()), inputs.now)
        });
        let changed = hashes.is_some_and(|hashes| hashes.spec != record.spec);
        if let (true, Some(hashes)) = (changed, hashes) {
            record.generation = record.generation.next();
            record.spec = hashes.spec.clone();
            record.failures = 0;
        }
        if let Some(session) = declaration {
            record.hosts = spec::allocate(session, &record.hosts);
        }
        adopt(&mut record, gateway, original.is_none(), inputs.now);
        let demand = demand::demand(&inputs.desired.document, declaration, &mut record, inputs.now);
        let respecified = match (&record.run, hashes) {
            (Some(run), Some(hashes)) => run.template != hashes.template,
            (None, _) | (_, None) => false,
        };
        let evidence = inputs
            .evidence
            .get(name)
            .filter(|evidence| record.run.as_ref().is_some_and(|run| run.id == evidence.run));
        Self {
            inputs: *inputs,
            original,
            record,
            declaration,
            gateway,
            evidence,
            demand,
            slot: None,
            held: false,
            respecified,
            changed,
            position,
        }
    }

    pub(super) fn name(&self) -> &SessionName {
        &self.record.session
    }

    /// Whether a teardown would end something that is not ending anyway.
    pub(super) fn runs(&self) -> bool {
        self.record.state.name().holds_slot() && !matches!(self.record.state, State::Terminating { .. })
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        let backing_off = matches!(self.record.state, State::BackingOff { until } if until > self.inputs.now);
        Candidate {
            session: &self.record.session,
            users: users_of(&self.inputs, self.declaration, &self.record),
            state: self.record.state.name(),
            wanted_since: self.record.wanted_since,
            ready: self.changed || !backing_off,
            position: self.position,
        }
    }

    /// Tells the machine the present facts, from what is to what is wanted, and writes down what follows from its moves.
    pub(super) fn advance(&mut self) -> Machine {
        let retry_at = self.retry_at();
        let record = &self.record;
        let mut machine = Machine::restore(&record.session, record.generation, &record.state, retry_at);
        if let Some(presence) = self.presence() {
            machine.tell(Event::Provider(presence));
        }
        let ended_by_edit = matches!(&self.demand, Demand::Rest(why) if why.is_edit());
        if !self.held {
            let another_try = self.changed && matches!(self.record.state, State::BackingOff { .. });
            if self.respecified || another_try {
                machine.tell(Event::SpecChanged);
            }
        }
        if self.is_connected() {
            machine.tell(Event::Connected);
        }
        match self.verdict() {
            Some(Verdict::Active { .. }) => machine.tell(Event::InUse),
            Some(Verdict::Idle { since, .. }) => {
                let deadline = self.inputs.now.checked_add(IDLE_GRACE).unwrap_or(Timestamp::MAX);
                machine.tell(Event::Silent { since, deadline });
            }
            Some(Verdict::Unknown { .. }) | None => {}
        }
        // The limit that has passed is that of the state the pass began in.
        if self.deadline_passed() && machine.state() == self.record.state {
            machine.tell(Event::Deadline);
        }
        if !(self.held && ended_by_edit) {
            machine.tell(Event::Demand(self.demand.clone()));
        }
        if let Some(slot) = &self.slot {
            machine.tell(Event::Slot(slot.clone()));
        }
        for (from, to) in machine.transitions().to_vec() {
            self.moved(&from, &to);
        }
        self.remember_first_handshake();
        machine
    }

    /// The verdict on the session's use; `None` while there is nothing to judge.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        if !matches!(self.record.state, State::Active | State::Idle { .. }) {
            return None;
        }
        let idle = self.declaration.map(|session| session.idle)?;
        let run = self.record.run.as_ref()?;
        let memory = Memory {
            active_at: run.active_at.unwrap_or(run.began_at),
            boot: run.boot.as_deref(),
            first_handshake_at: run.first_handshake_at,
        };
        Some(idle::verdict(&idle, &memory, self.evidence, self.inputs.now))
    }

    /// What the gateway should have, and whether it says that it has it.
    pub(super) fn is_in_step(&self) -> bool {
        let (Some(session), Some(report)) =
            (self.declaration, self.evidence.and_then(|evidence| evidence.report.as_ref()))
        else {
            return false;
        };
        report.digest == Some(self.live(session).digest())
    }

    pub(super) fn live(&self, session: &Session) -> ebb_wire::Live {
        let Inputs { desired, keys, now, .. } = self.inputs;
        spec::live(&desired.document, session, self.record.generation, &self.record.hosts, keys, now)
    }

    /// When the limit of the present state is reached.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let after = |limit| self.record.since.checked_add(limit).ok();
        match self.record.state {
            State::Provisioning => after(PROVISION_TIMEOUT),
            State::Starting => after(START_TIMEOUT),
            State::BackingOff { until } => Some(until),
            State::Idle { deadline, .. } => Some(deadline),
            State::Queued { .. }
            | State::Parked { .. }
            | State::Suspended
            | State::Terminating { .. }
            | State::Active => None,
        }
    }

    fn deadline_passed(&self) -> bool {
        if self.deadline().is_none_or(|deadline| self.inputs.now < deadline) {
            return false;
        }
        match self.record.state {
            // Only a look that is newer than the first suspicion confirms it.
            State::Idle { .. } => {
                let fresh = |evidence: &Evidence| {
                    evidence.report.as_ref().is_some_and(|report| report.taken_at > self.record.since)
                };
                matches!(self.verdict(), Some(Verdict::Idle { .. })) && self.evidence.is_some_and(fresh)
            }
            State::Queued { .. }
            | State::BackingOff { .. }
            | State::Parked { .. }
            | State::Suspended
            | State::Provisioning
            | State::Terminating { .. }
            | State::Starting
            | State::Active => true,
        }
    }

    fn is_connected(&self) -> bool {
        let Some(evidence) = self.evidence else { return false };
        let fresh = evidence
            .report
            .as_ref()
            .is_some_and(|report| self.inputs.now.duration_since(report.taken_at) <= STALE_AFTER);
        evidence.handshake_at.is_some() && fresh && self.is_in_step()
    }

    /// What the provider has, as far as it can be believed.
    fn presence(&self) -> Option<Presence> {
        let observed = self.inputs.observed?;
        let accepted = self.record.accepted.as_ref();
        match self.gateway {
            None => {
                let lag = match accepted.map(|accepted| accepted.operation) {
                    Some(ProviderOperation::Create) => LIST_LAG,
                    Some(ProviderOperation::Delete) | None => SignedDuration::ZERO,
                };
                let believed_from = accepted.and_then(|accepted| accepted.at.checked_add(lag).ok());
                believed_from.is_none_or(|from| observed.asked_at >= from).then_some(Presence::Absent)
            }
            // A gateway of another run is not the one that is waited for.
            Some(gateway) if self.record.run.as_ref().is_some_and(|run| run.id != gateway.run) => None,
            Some(gateway) => gateway.presence(),
        }
    }

    fn moved(&mut self, from: &State, to: &State) {
        let now = self.inputs.now;
        let was_terminating = matches!(from, State::Terminating { .. });
        if was_terminating || (from.name().is_up() && *to == State::Provisioning) {
            self.close_run();
        }
        match to {
            State::Provisioning => self.begin_run(),
            State::Active if *from == State::Starting => self.note_active(),
            State::Terminating { why } => {
                demand::latch(&mut self.record, why, now);
                if *why == Rest::Failed {
                    self.count_failure(from);
                }
            }
            State::Active
            | State::Queued { .. }
            | State::Parked { .. }
            | State::BackingOff { .. }
            | State::Suspended
            | State::Starting
            | State::Idle { .. } => {}
        }
        if let State::Parked { why } = to {
            demand::latch_if_unset(&mut self.record, why, now);
        }
        if from.name() != to.name() {
            self.record.since = now;
        }
        self.record.state = to.clone();
    }

    fn begin_run(&mut self) {
        let Some(session) = self.declaration else { return };
        self.record.run = Some(Run {
            id: RunId::new(&self.inputs.seed, &self.record.session),
            generation: self.record.generation,
            template: Hash::of(&Template::of(session)),
            began_at: self.inputs.now,
            created_at: None,
            active_at: None,
            boot: None,
            first_handshake_at: None,
        });
        self.record.accepted = None;
        self.record.not_before = None;
    }

    fn close_run(&mut self) {
        let Some(run) = self.record.run.take() else { return };
        let billed = run.created_at.map_or(SignedDuration::ZERO, |at| self.inputs.now.duration_since(at));
        let totals = &mut self.record.totals;
        totals.runs += 1;
        totals.billable_seconds += u64::try_from(billed.as_secs()).unwrap_or(0);
        let report = self.inputs.evidence.get(&self.record.session).filter(|evidence| evidence.run == run.id);
        if let Some(report) = report.and_then(|evidence| evidence.report.as_ref()) {
            for user in &self.inputs.desired.document.users {
                let Some(peer) = self.inputs.keys.user(user).and_then(|key| report.peers.get(&key)) else {
                    continue;
                };
                let Bytes { received, sent } = totals.users.entry(user.name.clone()).or_default();
                *received += peer.received_bytes;
                *sent += peer.sent_bytes;
            }
        }
    }

    fn note_active(&mut self) {
        let boot = self.evidence.and_then(|evidence| Some(evidence.report.as_ref()?.boot.clone()));
        if let Some(run) = &mut self.record.run {
            run.active_at = Some(self.inputs.now);
            run.boot = boot;
        }
        self.record.last_failure = None;
    }

    fn remember_first_handshake(&mut self) {
        let seen = self.evidence.and_then(|evidence| evidence.report.as_ref()?.last_handshake());
        if let (Some(run), Some(at)) = (&mut self.record.run, seen) {
            run.first_handshake_at.get_or_insert(at);
        }
    }

    fn count_failure(&mut self, from: &State) {
        let message = match self.gateway.map(|gateway| &gateway.phase) {
            Some(Phase::Failed { message }) => format!("the provider gave up on the gateway: {message}"),
            Some(Phase::Exited { status: Some(status) }) => {
                format!("the gateway ended with status {status}; its log says why")
            }
            Some(Phase::Exited { status: None }) => "the gateway was killed".to_owned(),
            Some(Phase::Creating | Phase::Running | Phase::Deleting | Phase::Other { .. }) | None => {
                timeout_message(from, self.evidence)
            }
        };
        self.record.failures = self.failures_after_one_more();
        self.record.last_failure =
            Some(Failed { failure: Failure::new(Class::Transient, message), at: self.inputs.now });
    }

    fn failures_after_one_more(&self) -> u32 {
        let was_stable = self
            .record
            .run
            .as_ref()
            .and_then(|run| run.active_at)
            .is_some_and(|at| self.inputs.now.duration_since(at) >= STABLE_AFTER);
        if was_stable { 1 } else { self.record.failures.saturating_add(1) }
    }

    /// When a session whose gateway is gone because it failed is tried again.
    fn retry_at(&self) -> Timestamp {
        let jitter = jitter(&self.inputs.seed, &self.record.session);
        outcome::retry_at(self.record.failures.max(1), &Class::Transient, jitter, self.inputs.now)
    }
}

/// A byte of randomness that belongs to one session in one pass.
pub(crate) fn jitter(seed: &[u8; 32], session: &SessionName) -> u8 {
    Sha256::new().chain_update(b"jitter").chain_update(seed).chain_update(session.as_str()).finalize()[0]
}

/// Takes over a gateway of ours that the record does not know: because the store was lost, or because a create was carried
/// out whose record was not written.
fn adopt(record: &mut Record, gateway: Option<&Gateway>, is_new: bool, now: Timestamp) {
    let Some(gateway) = gateway else { return };
    let known = record.run.as_ref().is_some_and(|run| run.id == gateway.run);
    let replaceable = record.run.as_ref().is_some_and(|run| run.template == gateway.hash);
    let expects_gateway = record.state == State::Provisioning || record.state.name().is_up();
    if known || !(is_new || (expects_gateway && replaceable)) {
        return;
    }
    record.run = Some(Run {
        id: gateway.run.clone(),
        generation: gateway.generation,
        template: gateway.hash.clone(),
        began_at: now,
        created_at: Some(now),
        active_at: None,
        boot: None,
        first_handshake_at: None,
    });
    if is_new {
        record.state = State::Starting;
        record.generation = record.generation.max(gateway.generation);
    }
}

fn timeout_message(from: &State, evidence: Option<&Evidence>) -> String {
    let detail = evidence.and_then(|evidence| evidence.error.as_deref());
    match (from, detail) {
        (State::Starting, Some(detail)) => format!(
            "the gateway runs but has not answered through the tunnel for {}: {detail}",
            minutes(START_TIMEOUT)
        ),
        (State::Starting, None) => {
            format!("the gateway runs but has not answered through the tunnel for {}", minutes(START_TIMEOUT))
        }
        _ => format!("the gateway did not start within {}", minutes(PROVISION_TIMEOUT)),
    }
}

fn minutes(duration: SignedDuration) -> String {
    let duration = Duration::from_secs(duration.as_secs().unsigned_abs());
    format!("{} minutes", duration.as_secs() / 60)
}
