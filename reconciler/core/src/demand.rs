//! Whether a session is wanted now.

use std::borrow::Cow;

use ebb_desired_state::{Document, Session, Suspension};
use jiff::{SignedDuration, Timestamp};

use crate::machine::Demand;
use crate::plan::Desired;
use crate::record::{Latch, Record, RequestKind};
use crate::spec::{self, Users as _};
use crate::state::{Rest, State};

/// Brings what the record remembers of wakes and requests up to date with the document, and says whether the session is wanted.
///
/// `session` is `None` when the document does not have it. Afterwards [`Record::wanted_since`] is set exactly when the answer is
/// [`Demand::Up`].
pub fn demand(
    desired: &Desired,
    session: Option<&Session>,
    record: &mut Cow<'_, Record>,
    now: Timestamp,
) -> Demand {
    let Some(session) = session else {
        want_from(record, None);
        return Demand::Rest(Rest::Removed);
    };
    take_up_wake(session, record, now);
    take_up_request(record, now);
    release_latch(session, record, now);
    if record.suspended.as_ref().is_some_and(|suspended| suspended.suspension.until <= now) {
        record.to_mut().suspended = None;
    }
    match reason_to_rest(desired, session, record, now) {
        Some(why) => {
            want_from(record, None);
            Demand::Rest(why)
        }
        None => {
            let since = record.wanted_since.or(Some(now));
            want_from(record, since);
            Demand::Up
        }
    }
}

fn want_from(record: &mut Cow<'_, Record>, since: Option<Timestamp>) {
    if record.wanted_since != since {
        record.to_mut().wanted_since = since;
    }
}

/// The suspension in force for `session`: the deployment's, else that of its declaration, else an operator's.
#[must_use]
pub fn suspension<'a>(
    document: &'a Document,
    session: &'a Session,
    record: &'a Record,
    now: Timestamp,
) -> Option<&'a Suspension> {
    suspensions(document, session, record).find(|suspension| now < suspension.until)
}

fn suspensions<'a>(
    document: &'a Document,
    session: &'a Session,
    record: &'a Record,
) -> impl Iterator<Item = &'a Suspension> {
    let operators = record.suspended.as_ref().map(|suspended| &suspended.suspension);
    document.suspended.iter().chain(&session.suspended).chain(operators)
}

/// Sets the latch of a rest that outlasts its cause; called when a session begins to rest.
pub(crate) fn latch(record: &mut Record, why: &Rest, now: Timestamp) {
    if why.latches() {
        record.latch = Some(Latch { why: why.clone(), at: now, generation: record.generation });
    }
}

/// When the answer of [`demand`] can change by the mere passing of time.
#[must_use]
pub fn next_change(
    desired: &Desired,
    session: &Session,
    record: &Record,
    now: Timestamp,
) -> Option<Timestamp> {
    let users = session.users.iter().filter_map(|name| desired.user(name)?.until);
    suspensions(&desired.document, session, record)
        .map(|suspension| suspension.until)
        .chain(session.until)
        .chain(users)
        .chain(session.schedule.as_ref().and_then(|schedule| schedule.next_change(now)).map(|(at, _)| at))
        .chain(lifetime_end(session, record))
        .filter(|at| *at > now)
        .min()
}

/// When the present run reaches the session's `maxLifetime`.
#[must_use]
pub fn lifetime_end(session: &Session, record: &Record) -> Option<Timestamp> {
    let run = record.run.as_ref()?;
    let limit = SignedDuration::try_from(session.max_lifetime?).ok()?;
    run.created_at.unwrap_or(run.began_at).checked_add(limit).ok()
}

fn take_up_wake(session: &Session, record: &mut Cow<'_, Record>, now: Timestamp) {
    if session.wake != record.wake {
        let record = record.to_mut();
        record.wake.clone_from(&session.wake);
        if session.wake.is_some() {
            record.latch = None;
            record.asked_at = Some(now);
        }
    }
}

fn take_up_request(record: &mut Cow<'_, Record>, now: Timestamp) {
    if record.request.as_ref().is_none_or(|request| request.handled) {
        return;
    }
    let record = record.to_mut();
    let Some(request) = &mut record.request else { return };
    request.handled = true;
    match request.kind {
        RequestKind::Start => {
            record.latch = None;
            record.asked_at = Some(now);
        }
        RequestKind::Stop => latch(record, &Rest::Stopped, now),
    }
}

fn release_latch(session: &Session, record: &mut Cow<'_, Record>, now: Timestamp) {
    let Some(latch) = &record.latch else { return };
    let respecified = record.generation > latch.generation;
    let reopened = session.schedule.as_ref().is_some_and(|schedule| {
        matches!(schedule.next_change(latch.at), Some((at, opens)) if at <= now && (opens || reopens(schedule, at, now)))
    });
    if respecified || reopened {
        record.to_mut().latch = None;
    }
}

/// Whether a schedule that closed at `closed_at` has opened again by `now`.
fn reopens(schedule: &ebb_desired_state::Schedule, closed_at: Timestamp, now: Timestamp) -> bool {
    matches!(schedule.next_change(closed_at), Some((at, true)) if at <= now)
}

fn reason_to_rest(desired: &Desired, session: &Session, record: &Record, now: Timestamp) -> Option<Rest> {
    if suspension(&desired.document, session, record, now).is_some() {
        return Some(Rest::Suspended);
    }
    if session.until.is_some_and(|until| now >= until) {
        return Some(Rest::Ended);
    }
    if spec::entitled(desired, session, now).next().is_none() {
        return Some(Rest::NoUsers);
    }
    if session.schedule.as_ref().is_some_and(|schedule| !schedule.is_open(now)) {
        return Some(Rest::ScheduleClosed);
    }
    if let Some(latch) = &record.latch {
        return Some(latch.why.clone());
    }
    let running = record.state.name().holds_slot() && !matches!(record.state, State::Terminating { .. });
    (running && lifetime_end(session, record).is_some_and(|end| now >= end)).then_some(Rest::MaxLifetime)
}
