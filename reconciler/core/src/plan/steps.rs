//! From a session's standing effects and what is observed to actions.

use ebb_desired_state::UserName;
use jiff::SignedDuration;

use super::report::{self, SessionReport};
use super::session::Draft;
use crate::action::{Action, Step};
use crate::machine::{Machine, Operation};
use crate::names::GatewayName;
use crate::note::{self, Note, NoteKind};
use crate::observed::{Gateway, Phase};
use crate::record::ProviderOperation;
use crate::spec::{self, GatewaySpec, Template};
use crate::state::{Rest, State};

/// An accepted delete is repeated if the gateway is still listed after this long: on ACI deleted groups sometimes live on.
pub const DELETE_RECHECK: SignedDuration = SignedDuration::from_secs(30);

/// Finishes a draft: moves its machine and compares what must hold with what is.
pub(super) fn finish(mut draft: Draft<'_>) -> (Option<Step>, SessionReport) {
    if draft.in_flight || is_left_alone(&draft) {
        return (None, report::of_session(&draft));
    }
    let machine = draft.advance();
    let mut actions = Vec::new();
    actions.extend(keys(&draft));
    if draft.differs() && !is_over(&draft) {
        let record = Box::new(draft.record.clone().into_owned());
        actions.push(Action::Store { record, ended: draft.ended.clone() });
    }
    actions.extend(notes(&draft, &machine));
    for effect in machine.effects() {
        actions.extend(match effect.operation {
            Operation::EnsureGateway => ensure_gateway(&draft),
            Operation::EnsureNoGateway => ensure_no_gateway(&draft),
            Operation::EnsureConfigured => ensure_configured(&draft),
        });
    }
    actions.extend(
        draft.strays.iter().filter_map(|(name, gateway)| delete(&draft, name, gateway, Rest::Removed)),
    );
    if is_over(&draft) && draft.original.is_some() {
        actions.push(Action::Forget { ended: draft.ended.take() });
    }
    let report = report::of_session(&draft);
    let step = (!actions.is_empty()).then(|| Step { session: draft.name().clone(), actions });
    (step, report)
}

/// Whether somebody took the session out of Ebb's hands. A session that is declared nowhere and has nothing left at the provider
/// is forgotten all the same.
fn is_left_alone(draft: &Draft<'_>) -> bool {
    let over = draft.declaration.is_none() && draft.gateway.is_none() && draft.believes_absence();
    draft.record.detached.is_some() && !over
}

/// Whether nothing of the session is left to remember.
fn is_over(draft: &Draft<'_>) -> bool {
    let removed = draft.record.state == State::Parked { why: Rest::Removed };
    removed && draft.inputs.observed.is_some() && draft.gateway.is_none() && draft.strays.is_empty()
}

fn keys(draft: &Draft<'_>) -> Option<Action> {
    let session = draft.declaration?;
    let (gateway, users) = missing_keys(draft, session);
    (gateway || !users.is_empty()).then_some(Action::EnsureKeys { gateway, users })
}

fn missing_keys(draft: &Draft<'_>, session: &ebb_desired_state::Session) -> (bool, Vec<UserName>) {
    let keys = draft.inputs.keys;
    let users = spec::entitled(draft.inputs.desired, session, draft.inputs.now)
        .filter(|user| keys.user(user).is_none())
        .map(|user| user.name.clone())
        .collect();
    (!keys.gateways.contains_key(&session.name), users)
}

fn notes(draft: &Draft<'_>, machine: &Machine<'_>) -> Vec<Action> {
    let run = draft.record.run.as_ref().or(draft.original.and_then(|record| record.run.as_ref()));
    let corrected = draft.is_corrected().then(|| {
        let message = "somebody else changed the gateway's tags; replacing it".to_owned();
        (NoteKind::DriftDetected, note::Outcome::Warning, message)
    });
    let moved = machine.transitions().iter().filter_map(|(from, to)| note::of_transition(from, to));
    let corrected = corrected.filter(|_| !machine.transitions().is_empty());
    corrected
        .into_iter()
        .chain(moved)
        .map(|(kind, outcome, message)| Action::Note {
            note: Note {
                at: draft.inputs.now,
                kind,
                outcome,
                session: Some(draft.name().clone()),
                run: run.map(|run| run.id.clone()),
                user: None,
                message,
            },
        })
        .collect()
}

fn ensure_gateway(draft: &Draft<'_>) -> Option<Action> {
    let (session, run) = (draft.declaration?, draft.record.run.as_ref()?);
    draft.inputs.observed?;
    if is_paused(draft) {
        return None;
    }
    match draft.gateway {
        None if draft.record.state == State::Provisioning => {
            let deployment = &draft.inputs.desired.document.deployment;
            let spec = GatewaySpec {
                name: GatewayName::new(deployment, &session.name),
                deployment: deployment.clone(),
                session: session.name.clone(),
                run: run.id.clone(),
                generation: run.generation,
                template: Template::of(session),
                hash: run.template.clone(),
            };
            draft.believes_absence().then(|| Action::Create { spec: Box::new(spec) })
        }
        None => None,
        Some(gateway) if gateway.run == run.id => None,
        // It is taken over as soon as a listing is there that is surely from this run's time.
        Some(_) if draft.is_adoptable() => None,
        // A gateway of an earlier run stands where the new one belongs.
        Some(_) => delete_own(draft, Rest::SpecChanged),
    }
}

fn ensure_no_gateway(draft: &Draft<'_>) -> Option<Action> {
    // Perhaps the answer to the last create was lost. The next attempt takes over what it made.
    if matches!(draft.record.state, State::BackingOff { .. }) && draft.is_adoptable() {
        return None;
    }
    let why = match &draft.record.state {
        State::Terminating { why } | State::Parked { why } => why.clone(),
        State::Suspended => Rest::Suspended,
        State::BackingOff { .. } => Rest::Failed,
        State::Queued { .. } | State::Provisioning | State::Starting | State::Active | State::Idle { .. } => {
            Rest::SpecChanged
        }
    };
    delete_own(draft, why)
}

fn delete_own(draft: &Draft<'_>, why: Rest) -> Option<Action> {
    let name = GatewayName::new(&draft.inputs.desired.document.deployment, draft.name());
    delete(draft, &name, draft.gateway?, why)
}

fn delete(draft: &Draft<'_>, name: &GatewayName, gateway: &Gateway, why: Rest) -> Option<Action> {
    let pending = gateway.phase == Phase::Deleting || was_deleted_just_now(draft);
    let delete = || Action::Delete { name: name.clone(), run: gateway.run.clone(), why };
    (!pending && !is_paused(draft)).then(delete)
}

fn ensure_configured(draft: &Draft<'_>) -> Option<Action> {
    draft.evidence?.handshake_at?;
    draft.report()?;
    let (live, _) = draft.live()?;
    (!draft.is_in_step() && !is_paused(draft)).then(|| Action::Configure { live: live.clone() })
}

fn is_paused(draft: &Draft<'_>) -> bool {
    draft.record.not_before.is_some_and(|until| draft.inputs.now < until)
}

/// Whether the provider accepted a delete so recently that its effect need not show yet.
fn was_deleted_just_now(draft: &Draft<'_>) -> bool {
    let accepted = draft.record.accepted.as_ref();
    accepted
        .filter(|accepted| accepted.operation == ProviderOperation::Delete)
        .and_then(|accepted| accepted.at.checked_add(DELETE_RECHECK + draft.lag()).ok())
        .is_some_and(|until| draft.inputs.now < until)
}
