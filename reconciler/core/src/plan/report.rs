//! Why a pass decided what it decided.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ebb_desired_state::SessionName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::session::Draft;
use super::steps::DELETE_RECHECK;
use super::{Inputs, Revision};
use crate::condition::{Condition, ConditionKind, Status, reasons};
use crate::demand;
use crate::evidence::Evidence;
use crate::idle::{Doubt, POLL_INTERVAL, Verdict};
use crate::machine::Demand;
use crate::names::Generation;
use crate::record::Record;
use crate::state::{Rest, State, StateName, Wait};

/// Gateways are asked at most this often, however near a deadline is.
const SHORTEST_POLL: SignedDuration = SignedDuration::from_secs(1);

/// The reasons behind one plan.
#[must_use = "a plan that nobody can explain is half a plan"]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was made.
    pub at: Timestamp,
    /// From which document.
    pub revision: Revision,
    /// Teardowns that wait for approval of that revision.
    pub held_teardowns: usize,
    /// Whether the provider could be asked.
    pub provider_known: bool,
    /// When the next pass is due even if nothing happens.
    pub next: Option<Timestamp>,
    /// Every session.
    pub sessions: BTreeMap<SessionName, SessionReport>,
}

/// The reasons behind one session's part of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionReport {
    /// Which.
    pub session: SessionName,
    /// Where it is after this pass.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Generation of its spec.
    pub generation: Generation,
    /// How far the session is from what is wanted of it.
    pub progress: Progress,
    /// Why it is not wanted; `None`: it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rest: Option<Rest>,
    /// What the evidence says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<Verdict>,
    /// Facts in the form that machines can wait for.
    pub conditions: Vec<Condition>,
    /// When something about the session changes by the passing of time alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Timestamp>,
    /// When its gateway should be asked again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ask_at: Option<Timestamp>,
}

impl Report {
    pub(super) fn new(inputs: &Inputs<'_>, held_teardowns: usize) -> Self {
        Self {
            at: inputs.now,
            revision: inputs.desired.revision.clone(),
            held_teardowns,
            provider_known: inputs.observed.is_some(),
            next: None,
            sessions: BTreeMap::new(),
        }
    }

    /// Adds the reports of all sessions, in the order of their names.
    pub(super) fn with(self, sessions: Vec<SessionReport>) -> Self {
        let next = sessions.iter().filter_map(|session| session.next).min();
        let sessions = sessions.into_iter().map(|session| (session.session.clone(), session)).collect();
        Self { next, sessions, ..self }
    }
}

pub(super) fn of_session(draft: &Draft<'_>) -> SessionReport {
    let verdict = draft.verdict();
    let record = &draft.record;
    let rest = match &draft.demand {
        Demand::Rest(why) => Some(why.clone()),
        Demand::Up => None,
    };
    SessionReport {
        session: record.session.clone(),
        state: record.state.clone(),
        since: record.since,
        generation: record.generation,
        progress: progress(draft),
        rest,
        conditions: conditions(draft, verdict),
        next: next(draft, verdict),
        ask_at: ask_at(draft, verdict),
        verdict: verdict.cloned(),
    }
}

/// How far a session is from what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// It is there: nothing is left to do for this generation, or it waits for something that the document itself limits.
    Settled,
    /// It is on the way.
    Moving,
    /// It does not get on by itself, or only after a pause.
    Stalled,
}

fn progress(draft: &Draft<'_>) -> Progress {
    if draft.held || draft.record.detached.is_some() {
        return Progress::Stalled;
    }
    if draft.in_flight {
        return Progress::Moving;
    }
    match &draft.record.state {
        State::Queued { wait: Wait::Turn }
        | State::Provisioning
        | State::Terminating { .. }
        | State::Starting => Progress::Moving,
        State::Active | State::Idle { .. } if !draft.is_in_step() => {
            if draft.record.last_failure.is_some() {
                Progress::Stalled
            } else {
                Progress::Moving
            }
        }
        State::BackingOff { .. } => Progress::Stalled,
        State::Queued { .. }
        | State::Parked { .. }
        | State::Suspended
        | State::Active
        | State::Idle { .. } => Progress::Settled,
    }
}

fn next(draft: &Draft<'_>, verdict: Option<&Verdict>) -> Option<Timestamp> {
    let (record, now) = (&draft.record, draft.inputs.now);
    let desired = draft.inputs.desired;
    let by_demand = draft.declaration.and_then(|session| demand::next_change(desired, session, record, now));
    // What the provider accepted has not shown yet.
    let must_exist = record.state == State::Provisioning || record.state.name().is_up();
    let accepted = record.accepted.as_ref().filter(|_| draft.gateway.is_some() != must_exist);
    let by_provider =
        accepted.and_then(|accepted| accepted.at.checked_add(DELETE_RECHECK + draft.lag()).ok());
    let by_verdict = match verdict {
        Some(Verdict::Active { until, .. }) => *until,
        Some(Verdict::Idle { .. } | Verdict::Unknown { .. }) | None => None,
    };
    [by_demand, by_provider, by_verdict, draft.deadline(), record.not_before]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
}

/// Usually the slowest pace; sooner when somebody waits for the session or the verdict could turn before that. Counted from the
/// last report, so that passes in between do not put it off.
fn ask_at(draft: &Draft<'_>, verdict: Option<&Verdict>) -> Option<Timestamp> {
    let state = draft.record.state.name();
    if !state.is_up() {
        return None;
    }
    let now = draft.inputs.now;
    // A report from the future is one from before the clock was set back.
    let last = draft.report().map_or(now, |report| report.taken_at.min(now));
    let after = |pause| last.checked_add(pause).unwrap_or(Timestamp::MAX);
    if state == StateName::Starting {
        return Some(after(SHORTEST_POLL));
    }
    let turn = match verdict {
        Some(Verdict::Active { until, .. }) => *until,
        Some(Verdict::Idle { .. } | Verdict::Unknown { .. }) | None => None,
    };
    let deadline = draft.deadline().filter(|_| state == StateName::Idle);
    let soonest = [turn, deadline].into_iter().flatten().chain([after(POLL_INTERVAL)]).min()?;
    Some(soonest.max(after(SHORTEST_POLL)))
}

fn conditions(draft: &Draft<'_>, verdict: Option<&Verdict>) -> Vec<Condition> {
    let record = &draft.record;
    let mut conditions = vec![ready(record).observing(record.generation.0)];
    if record.state.name().is_up() {
        conditions.push(configured(draft));
    }
    conditions.extend(verdict.map(telemetry_known));
    conditions.extend(progressing(record));
    conditions.extend(draft.drift_condition());
    conditions.extend(record.detached.as_ref().map(|detached| {
        let message = format!(
            "{} took it out of Ebb's hands at {}: {}; it is left as it is until `ebb adopt {}`",
            detached.by, detached.at, detached.reason, record.session
        );
        Condition::new(ConditionKind::Detached, Status::True, reasons::BY_OPERATOR, message)
    }));
    conditions.extend(draft.unseen.map(|failure| {
        let (kind, reason) = (ConditionKind::ProviderKnown, failure.class.as_str());
        Condition::new(kind, Status::False, reason, failure.message.clone())
    }));
    conditions.extend(draft.blocked().map(|failure| {
        let (kind, reason) = (ConditionKind::Connected, failure.class.as_str());
        Condition::new(kind, Status::False, reason, failure.message.clone())
    }));
    conditions.extend(draft.evidence.and_then(Evidence::disagreement).map(|disagreement| {
        let (kind, reason) = (ConditionKind::EvidenceAgrees, disagreement.reason());
        Condition::new(kind, Status::False, reason, disagreement.to_string())
    }));
    if draft.held {
        conditions.push(Condition::new(
            ConditionKind::TeardownHeld,
            Status::True,
            reasons::TOO_MANY_TEARDOWNS,
            format!(
                "this document would end more than {} running sessions at once; \
                 if that is meant, run `ebb approve {}`",
                draft.inputs.desired.document.limits.max_teardowns_per_pass, draft.inputs.desired.revision
            ),
        ));
    }
    conditions
}

fn ready(record: &Record) -> Condition {
    let (status, reason, message): (_, _, Cow<'static, str>) = match &record.state {
        State::Active => (Status::True, reasons::USABLE, "users can connect".into()),
        State::Idle { since, deadline } => (
            Status::True,
            reasons::USABLE,
            format!("users can connect; nobody has used it since {since}, it is torn down after {deadline}")
                .into(),
        ),
        State::Queued { wait } => (Status::False, "Queued", format!("waits for {wait}").into()),
        State::Parked { why } => (Status::False, "Parked", format!("rests: {why}").into()),
        State::BackingOff { until } => {
            (Status::False, "BackingOff", format!("the next attempt is due at {until}").into())
        }
        State::Suspended => (Status::False, "Suspended", "an operator suspended it".into()),
        State::Provisioning => (Status::False, "Provisioning", "the gateway is being created".into()),
        State::Terminating { why } => (Status::False, "Terminating", format!("goes: {why}").into()),
        State::Starting => {
            (Status::False, "Starting", "the gateway has not answered through the tunnel yet".into())
        }
    };
    Condition::new(ConditionKind::Ready, status, reason, message)
}

fn configured(draft: &Draft<'_>) -> Condition {
    let (status, reason, message) = if draft.is_in_step() {
        (Status::True, reasons::IN_STEP, "the gateway has the declared peers, routes and names")
    } else {
        (
            Status::False,
            reasons::OUT_OF_STEP,
            "the gateway has not confirmed the declared peers, routes and names",
        )
    };
    Condition::new(ConditionKind::Configured, status, reason, message)
}

fn telemetry_known(verdict: &Verdict) -> Condition {
    let (status, reason, message): (_, _, Cow<'static, str>) = match verdict {
        Verdict::Active { .. } => (Status::True, reasons::FRESH, "the session is in use".into()),
        Verdict::Idle { since, .. } => {
            (Status::True, reasons::FRESH, format!("nobody has used it since {since}").into())
        }
        Verdict::Unknown { why } => {
            let reason = match why {
                Doubt::NoTelemetry => reasons::NO_TELEMETRY,
                Doubt::Stale { .. } => reasons::STALE,
                Doubt::ClockJump { .. } => reasons::CLOCK_JUMP,
                Doubt::Restarted { .. } => reasons::RESTARTED,
                Doubt::Contradiction { .. } => reasons::CONTRADICTION,
            };
            (Status::False, reason, format!("{why}; the session is not torn down while that is so").into())
        }
    };
    Condition::new(ConditionKind::TelemetryKnown, status, reason, message)
}

fn progressing(record: &Record) -> Option<Condition> {
    let failed = record.last_failure.as_ref()?;
    Some(Condition::new(
        ConditionKind::Progressing,
        Status::False,
        failed.failure.class.as_str(),
        failed.failure.message.clone(),
    ))
}
