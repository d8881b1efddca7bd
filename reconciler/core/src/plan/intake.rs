//! What happens to a record before it is planned with.

use std::borrow::Cow;

use ebb_desired_state::Placement;
use jiff::Timestamp;

use crate::idle::IDLE_GRACE;
use crate::observed::{Gateway, Observed, Phase};
use crate::record::{Record, Run};
use crate::state::State;

/// Brings times that lie in the future back to now: the clock was set back since they were written. Whatever was to happen some
/// time after them keeps its distance, so that nothing waits for as long as the clock was set back.
pub(super) fn rebase(record: &mut Cow<'_, Record>, now: Timestamp) {
    if is_ahead(record, now) {
        bring_back(record.to_mut(), now);
    }
}

fn is_ahead(record: &Record, now: Timestamp) -> bool {
    let run = record.run.as_ref();
    let times = [
        Some(record.since),
        Some(record.changed_at),
        record.asked_at,
        record.wanted_since,
        record.last_failure.as_ref().map(|failed| failed.at),
        record.accepted.as_ref().map(|accepted| accepted.at),
        run.map(|run| run.began_at),
        run.and_then(|run| run.created_at),
        run.and_then(|run| run.active_at),
    ];
    let idle_ahead = matches!(record.state, State::Idle { since, deadline }
        if since > now || now.checked_add(IDLE_GRACE).is_ok_and(|latest| deadline > latest));
    idle_ahead || times.into_iter().flatten().any(|at| at > now)
}

fn bring_back(record: &mut Record, now: Timestamp) {
    if let Some(failed) = &mut record.last_failure
        && failed.at > now
    {
        let distance = failed.at.duration_since(now);
        failed.at = now;
        let back = |at: Timestamp| at.checked_sub(distance).unwrap_or(now);
        record.not_before = record.not_before.map(back);
        if let State::BackingOff { until } = &mut record.state {
            *until = back(*until);
        }
    }
    if let State::Idle { since, deadline } = &mut record.state {
        *since = (*since).min(now);
        *deadline = (*deadline).min(now.checked_add(IDLE_GRACE).unwrap_or(now));
    }
    if let Some(accepted) = &mut record.accepted {
        accepted.at = accepted.at.min(now);
    }
    if let Some(run) = &mut record.run {
        run.began_at = run.began_at.min(now);
        run.created_at = run.created_at.map(|at| at.min(now));
        run.active_at = run.active_at.map(|at| at.min(now));
    }
    record.since = record.since.min(now);
    record.changed_at = record.changed_at.min(now);
    record.asked_at = record.asked_at.map(|at| at.min(now));
    record.wanted_since = record.wanted_since.map(|at| at.min(now));
}

/// Takes over a gateway of ours that the record does not know: because the store was lost, because the answer to a create was, or
/// because somebody else has created it. It has to show that it is usable like any other.
pub(super) fn adopt(
    record: &mut Cow<'_, Record>,
    gateway: Option<&Gateway>,
    observed: Option<&Observed>,
    placement: Option<&Placement>,
    is_new: bool,
    now: Timestamp,
) {
    let (Some(gateway), Some(observed)) = (gateway, observed) else { return };
    let fits = match &record.run {
        None => is_new,
        Some(run) => {
            // An older listing may show the gateway of an earlier run that is gone.
            let began = run.began_at.checked_add(observed.lag).unwrap_or(Timestamp::MAX);
            let expected = record.state == State::Provisioning || record.state.name().is_up();
            run.id != gateway.run && run.template == gateway.hash && expected && observed.asked_at >= began
        }
    };
    if !fits || !is_worth_it(gateway) {
        return;
    }
    let record = record.to_mut();
    // A run that expected this very gateway expected it in its own region.
    let region = record.run.take().and_then(|run| run.region);
    record.run = Some(Run {
        id: gateway.run.clone(),
        generation: gateway.generation,
        template: gateway.hash.clone(),
        placement: placement.cloned().unwrap_or_default(),
        region,
        began_at: now,
        created_at: Some(now),
        active_at: None,
        ready: None,
        first_handshake: None,
        adopted: true,
    });
    record.generation = record.generation.max(gateway.generation);
    if record.state != State::Provisioning {
        record.state = State::Provisioning;
        record.since = now;
    }
}

/// Whether a gateway is worth taking over. One that has ended or is going is replaced instead.
pub(super) fn is_worth_it(gateway: &Gateway) -> bool {
    match gateway.phase {
        Phase::Creating | Phase::Running | Phase::Other { .. } => true,
        Phase::Exited { .. } | Phase::Failed { .. } | Phase::Deleting => false,
    }
}
