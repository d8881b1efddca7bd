//! One session's part of a pass, up to its next state.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::Duration;

use ebb_desired_state::{Session, SessionName};
use ebb_wire::{Digest, Live};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::drift::Drifted;
use super::intake::{adopt, is_worth_it, rebase};
use super::{Declared, Inputs, users_of};
use crate::capacity::Candidate;
use crate::demand;
use crate::ended::EndedRun;
use crate::evidence::{self, Evidence};
use crate::idle::{self, IDLE_GRACE, Memory, STALE_AFTER, Verdict};
use crate::machine::{Demand, Event, Machine, Presence, Slot};
use crate::names::{GatewayName, Generation, Hash, RunId};
use crate::observed::{Gateway, Phase};
use crate::outcome::{self, Class, Failure};
use crate::record::{Bytes, Failed, ProviderOperation, Record, Run};
use crate::spec;
use crate::state::{Rest, State};

/// A gateway that does not run after this long never will: Azure gives up after 30 minutes, people long before.
pub const PROVISION_TIMEOUT: SignedDuration = SignedDuration::from_mins(10);

/// A running gateway that does not answer through the tunnel after this long has something in its way that time does not cure.
pub const START_TIMEOUT: SignedDuration = SignedDuration::from_mins(3);

/// A session that was usable for this long has overcome its failures; the next one begins a new series.
const STABLE_AFTER: SignedDuration = SignedDuration::from_mins(5);

/// A session between the document and its plan.
pub(super) struct Draft<'a> {
    pub(super) inputs: Inputs<'a>,
    name: &'a SessionName,
    pub(super) original: Option<&'a Record>,
    /// Copied when it first changes, which in most passes it does not.
    pub(super) record: Cow<'a, Record>,
    /// The run that has ended in this pass. There is at most one: a run that begins in a pass outlasts it.
    pub(super) ended: Option<Box<EndedRun>>,
    pub(super) declaration: Option<&'a Session>,
    declared: Option<&'a Declared>,
    pub(super) gateway: Option<&'a Gateway>,
    pub(super) evidence: Option<&'a Evidence>,
    pub(super) demand: Demand,
    pub(super) slot: Option<Slot>,
    /// Its teardown waits for approval.
    pub(super) held: bool,
    /// The document wants another gateway than the run has.
    pub(super) respecified: bool,
    /// The document has changed since the record was written.
    pub(super) changed: bool,
    /// Somebody else changed or removed its gateway.
    pub(super) drifted: Option<Drifted>,
    /// Its last step is still being carried out. It occupies what it occupies, and nothing is done about it.
    pub(super) in_flight: bool,
    /// Gateways that carry its name in their tags and stand under another. Nothing can ever want one.
    pub(super) strays: Vec<(&'a GatewayName, &'a Gateway)>,
    /// Why nobody can say what the provider has for it, when it can be asked about others.
    pub(super) unseen: Option<&'a Failure>,
    verdict: Option<Verdict>,
    live: OnceCell<Option<(Live, Digest)>>,
}

/// What the inputs of a pass have of one session.
pub(super) struct Known<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) name: &'a SessionName,
    pub(super) declared: Option<&'a Declared>,
    pub(super) record: Option<&'a Record>,
    pub(super) gateway: Option<&'a Gateway>,
    pub(super) evidence: Option<&'a Evidence>,
    pub(super) strays: Vec<(&'a GatewayName, &'a Gateway)>,
}

impl<'a> Draft<'a> {
    /// Brings the record up to date with the document and asks whether the session is wanted.
    pub(super) fn new(known: Known<'a>) -> Self {
        let Known { inputs, name, declared, record: original, gateway, evidence, strays } = known;
        let unseen = inputs.observed.and_then(|observed| observed.unseen.get(name));
        // What may exist unseen is neither created nor believed to be gone.
        let inputs = Inputs { observed: inputs.observed.filter(|_| unseen.is_none()), ..inputs };
        let gateway = gateway.filter(|_| unseen.is_none());
        let declaration = declared.and_then(|d| inputs.desired.document.sessions.get(d.position));
        let mut record = original.map_or_else(
            || {
                let spec = declared.map_or_else(|| Hash::of(&()), |declared| declared.spec.clone());
                let wake = declaration.and_then(|session| session.wake.clone());
                Cow::Owned(Record::new(name, spec, wake, inputs.now))
            },
            Cow::Borrowed,
        );
        rebase(&mut record, inputs.now);
        let changed = declared.is_some_and(|declared| declared.spec != record.spec);
        if let (true, Some(declared)) = (changed, declared) {
            let record = record.to_mut();
            record.generation = record.generation.next();
            record.spec = declared.spec.clone();
            record.changed_at = inputs.now;
            record.failures = 0;
        }
        if let Some(session) = declaration.filter(|_| changed || original.is_none()) {
            record.to_mut().hosts = spec::allocate(session, &record.hosts);
        }
        let placement = declaration.map(|session| &session.placement);
        adopt(&mut record, gateway, inputs.observed, placement, original.is_none(), inputs.now);
        let endpoint = gateway.and_then(|gateway| gateway.endpoint.as_ref());
        if endpoint.is_some() && endpoint != record.endpoint.as_ref() {
            record.to_mut().endpoint = endpoint.cloned();
        }
        let demand = demand::demand(inputs.desired, declaration, &mut record, inputs.now);
        let respecified = match (&record.run, declared) {
            (Some(run), Some(declared)) => run.template != declared.template,
            (None, _) | (_, None) => false,
        };
        let evidence =
            evidence.filter(|evidence| record.run.as_ref().is_some_and(|run| run.id == evidence.run));
        let mut draft = Self {
            inputs,
            name,
            original,
            record,
            ended: None,
            declaration,
            declared,
            gateway,
            evidence,
            demand,
            slot: None,
            held: false,
            respecified,
            changed,
            drifted: None,
            in_flight: inputs.in_flight.contains(name),
            strays,
            unseen,
            verdict: None,
            live: OnceCell::new(),
        };
        draft.judge_drift();
        draft.catch_up_with_adopted();
        draft.verdict = draft.judge();
        draft.forgive();
        draft
    }

    pub(super) fn name(&self) -> &'a SessionName {
        self.name
    }

    /// Whether the record has to be written down.
    pub(super) fn differs(&self) -> bool {
        match &self.record {
            Cow::Borrowed(_) => false,
            Cow::Owned(record) => self.original != Some(record),
        }
    }

    /// Why nobody can reach the gateway, where what the provider keeps before it is to blame.
    pub(super) fn blocked(&self) -> Option<&'a Failure> {
        self.inputs.observed?.blocked.get(&self.record.session)
    }

    /// Whether a teardown would end something that is not ending anyway.
    pub(super) fn runs(&self) -> bool {
        self.record.state.name().holds_slot() && !matches!(self.record.state, State::Terminating { .. })
    }

    /// Whether it may want a slot that it does not have.
    pub(super) fn waits(&self) -> bool {
        self.record.state.name().is_down() && self.record.wanted_since.is_some()
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        let backing_off = matches!(self.record.state, State::BackingOff { until } if until > self.inputs.now);
        Candidate {
            session: &self.record.session,
            users: users_of(&self.inputs, self.declaration, &self.record),
            state: self.record.state.name(),
            wanted_since: self.record.wanted_since,
            asked_at: self.record.wanted_since.max(self.record.asked_at),
            ready: !self.in_flight && (self.changed || !backing_off),
            in_flight: self.in_flight,
            position: self.declared.map_or(usize::MAX, |declared| declared.position),
        }
    }

    /// Tells the machine the present facts, from what is to what is wanted, and writes down what follows from its moves.
    pub(super) fn advance(&mut self) -> Machine<'a> {
        let retry_at = self.retry_at();
        let record = &self.record;
        let mut machine = Machine::restore(self.name, record.generation, &record.state, retry_at);
        if self.follows_its_gateway() {
            // Before the absence is told, which would have the gateway created again.
            machine.tell(Event::Demand(self.demand.clone()));
        }
        if let Some(presence) = self.presence() {
            machine.tell(Event::Provider(presence));
        }
        let ended_by_edit = matches!(&self.demand, Demand::Rest(why) if why.is_edit() || why.is_dated());
        if !self.held {
            let another_try = self.changed && matches!(self.record.state, State::BackingOff { .. });
            if self.respecified || another_try {
                machine.tell(Event::SpecChanged);
            }
        }
        if self.is_connected() {
            machine.tell(Event::Connected);
        }
        match &self.verdict {
            Some(Verdict::Active { .. }) => machine.tell(Event::InUse),
            Some(Verdict::Idle { since, .. }) => {
                // A timeout shorter than the grace period can have passed again since somebody came back.
                if matches!(self.record.state, State::Idle { .. }) && *since > self.record.since {
                    machine.tell(Event::InUse);
                }
                let deadline = self.inputs.now.checked_add(IDLE_GRACE).unwrap_or(Timestamp::MAX);
                machine.tell(Event::Silent { since: *since, deadline });
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
        for (from, to) in machine.transitions() {
            self.moved(from, to);
        }
        self.remember_first_handshake();
        machine
    }

    /// The verdict on the session's use in the state that the pass began in; `None` while there is nothing to judge.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    fn judge(&self) -> Option<Verdict> {
        if !matches!(self.record.state, State::Active | State::Idle { .. }) {
            return None;
        }
        let idle = self.declaration.map(|session| session.idle)?;
        let run = self.record.run.as_ref()?;
        let memory = Memory {
            ready: run.ready.as_ref(),
            first_handshake: run.first_handshake.as_ref(),
            renewed_at: self
                .record
                .asked_at
                .map_or(self.record.changed_at, |at| at.max(self.record.changed_at)),
        };
        Some(idle::verdict(&idle, &memory, self.evidence, self.inputs.now))
    }

    /// What the gateway says about itself.
    pub(super) fn report(&self) -> Option<&'a evidence::Report> {
        self.evidence?.report.as_ref()
    }

    /// Whether the gateway says that it has what it should have.
    pub(super) fn is_in_step(&self) -> bool {
        let said = self.report().and_then(|report| report.digest.as_ref());
        said.is_some() && said == self.live().map(|(_, digest)| digest)
    }

    /// What the gateway should have.
    pub(super) fn live(&self) -> Option<&(Live, Digest)> {
        let Inputs { desired, keys, now, .. } = self.inputs;
        let live = || {
            let session = self.declaration?;
            let live = spec::live(desired, session, self.record.generation, &self.record.hosts, keys, now);
            let digest = live.digest();
            Some((live, digest))
        };
        self.live.get_or_init(live).as_ref()
    }

    /// A gateway that was taken over may have been told more than its tags say, and it refuses what is older.
    fn catch_up_with_adopted(&mut self) {
        let held = self.report().and_then(|report| report.generation).map(Generation);
        let is_adopted = self.record.run.as_ref().is_some_and(|run| run.adopted);
        if let Some(held) = held.filter(|held| is_adopted && *held > self.record.generation) {
            self.record.to_mut().generation = held;
        }
    }

    /// Forgets failures that have been overcome.
    fn forgive(&mut self) {
        let Some(run) = self.record.run.as_ref().filter(|_| self.verdict.is_some()) else { return };
        let stable = run.active_at.is_some_and(|at| self.inputs.now.duration_since(at) >= STABLE_AFTER);
        if stable && self.record.failures > 0 && self.is_in_step() {
            self.record.to_mut().failures = 0;
        }
        let failed_at = self.record.last_failure.as_ref().map(|failed| failed.at);
        let looked_since =
            failed_at.is_some_and(|failed| self.report().is_some_and(|report| report.taken_at > failed));
        if looked_since && self.is_in_step() {
            self.record.to_mut().last_failure = None;
        }
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
            // Only a look at the end of the grace period confirms that nobody has come back.
            State::Idle { deadline, .. } => {
                let looked = self.report().is_some_and(|report| report.taken_at >= deadline);
                matches!(self.verdict, Some(Verdict::Idle { .. })) && looked
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
        let fresh = self
            .report()
            .is_some_and(|report| self.inputs.now.duration_since(report.taken_at) <= STALE_AFTER);
        evidence.handshake_at.is_some() && fresh && self.is_in_step()
    }

    /// What the provider has, as far as it can be believed.
    fn presence(&self) -> Option<Presence> {
        self.inputs.observed?;
        match self.gateway {
            None => self.believes_absence().then_some(Presence::Absent),
            // A gateway of another run is not the one that is waited for.
            Some(gateway) if self.record.run.as_ref().is_some_and(|run| run.id != gateway.run) => None,
            Some(gateway) => gateway.presence(),
        }
    }

    /// How much older than its question a listing may be.
    pub(super) fn lag(&self) -> SignedDuration {
        self.inputs.observed.map_or(SignedDuration::ZERO, |observed| observed.lag)
    }

    /// Whether the gateway that is there is the one that an attempt would create.
    pub(super) fn is_adoptable(&self) -> bool {
        let fits =
            |gateway: &Gateway| self.declared.is_some_and(|declared| declared.template == gateway.hash);
        self.gateway.is_some_and(|gateway| is_worth_it(gateway) && fits(gateway))
    }

    /// Whether a listing that does not show the gateway is from a time at which it would have.
    pub(super) fn believes_absence(&self) -> bool {
        let Some(observed) = self.inputs.observed else { return false };
        let accepted = self.record.accepted.as_ref();
        let created_at = accepted
            .filter(|accepted| accepted.operation == ProviderOperation::Create)
            .map(|accepted| accepted.at)
            .max(self.record.run.as_ref().and_then(|run| run.created_at));
        let shown_from = created_at.and_then(|at| at.checked_add(observed.lag).ok());
        let believed_from = shown_from.max(accepted.map(|accepted| accepted.at));
        believed_from.is_none_or(|from| observed.asked_at >= from)
    }

    fn moved(&mut self, from: &State, to: &State) {
        let now = self.inputs.now;
        if let State::Terminating { why } = from {
            self.close_run(from);
            if *why != Rest::Failed {
                let record = self.record.to_mut();
                record.failures = 0;
                record.last_failure = None;
            }
        }
        if from.name().is_up() && *to == State::Provisioning {
            self.close_run(from);
        }
        match to {
            State::Provisioning => self.begin_run(),
            State::Active if *from == State::Starting => self.note_active(),
            State::Terminating { why } => {
                let record = self.record.to_mut();
                demand::latch(record, why, now);
                record.not_before = None;
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
        let record = self.record.to_mut();
        if from.name() != to.name() {
            record.since = now;
        }
        record.state = to.clone();
    }

    fn begin_run(&mut self) {
        let Some(declared) = self.declared else { return };
        // What is known of the earlier run says nothing of this one.
        self.evidence = None;
        let record = self.record.to_mut();
        record.accepted = None;
        record.not_before = None;
        record.run = Some(Run {
            id: RunId::new(&self.inputs.seed, self.name),
            generation: record.generation,
            template: declared.template.clone(),
            placement: self.declaration.map(|session| session.placement.clone()).unwrap_or_default(),
            region: self.declaration.map(|session| session.region.clone()),
            began_at: self.inputs.now,
            created_at: None,
            active_at: None,
            ready: None,
            first_handshake: None,
            adopted: false,
        });
    }

    fn close_run(&mut self, from: &State) {
        let record = self.record.to_mut();
        let Some(run) = record.run.take() else { return };
        let evidence = self.inputs.evidence.get(self.name).filter(|evidence| evidence.run == run.id);
        let report = evidence.and_then(|evidence| evidence.report.as_ref());
        self.ended = Some(Box::new(EndedRun::of(record, &run, from, report, self.inputs.now)));
        let billed = run.created_at.map_or(SignedDuration::ZERO, |at| self.inputs.now.duration_since(at));
        let totals = &mut record.totals;
        totals.runs += 1;
        totals.billable_seconds += u64::try_from(billed.as_secs()).unwrap_or(0);
        if let Some(report) = report {
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
        let now = self.inputs.now;
        let ready = self.report().map(|report| report.moment(now));
        let record = self.record.to_mut();
        if let Some(run) = &mut record.run {
            run.active_at = Some(now);
            run.ready = ready;
        }
        record.last_failure = None;
    }

    fn remember_first_handshake(&mut self) {
        if self.record.run.as_ref().is_none_or(|run| run.first_handshake.is_some()) {
            return;
        }
        let seen = self.report().and_then(|report| Some(report.moment(report.last_handshake()?)));
        let Some(seen) = seen else { return };
        if let Some(run) = &mut self.record.to_mut().run {
            run.first_handshake = Some(seen);
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
        let record = self.record.to_mut();
        record.failures = record.failures.saturating_add(1);
        record.last_failure =
            Some(Failed { failure: Failure::new(Class::Transient, message), at: self.inputs.now });
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
