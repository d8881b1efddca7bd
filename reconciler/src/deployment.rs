//! The deployment as a whole, in the form that programs wait for.

use ebb_core::condition::{Condition, ConditionKind, Status};
use ebb_core::plan::Progress;

use crate::engine::Snapshot;
use crate::source::Reason;

/// Sessions that a message names; the others are counted.
const NAMED: usize = 3;

/// `Ready`, `DocumentAccepted` and, where signatures are asked for, `SourceVerified`.
#[must_use]
pub fn conditions(snapshot: &Snapshot) -> Vec<Condition> {
    let generation = snapshot.source.generation;
    let accepted = document_accepted(snapshot);
    let mut conditions = vec![ready(snapshot, &accepted), accepted];
    conditions.extend(source_verified(snapshot));
    conditions.into_iter().map(|condition| condition.observing(generation)).collect()
}

fn document_accepted(snapshot: &Snapshot) -> Condition {
    let source = &snapshot.source;
    let (status, reason, message) = match (&source.refusal, &snapshot.desired) {
        (Some(refusal), _) => {
            let message = source.error.clone().unwrap_or_default();
            (Status::False, refusal.reason.as_str(), message)
        }
        (None, Some(desired)) => {
            let who = source.provenance.who().map(|who| format!(" by {who}")).unwrap_or_default();
            (Status::True, "Accepted", format!("revision {}{who} is in force", desired.revision))
        }
        (None, None) => (Status::Unknown, "NotFetched", "the document has not been fetched yet".to_owned()),
    };
    Condition::new(ConditionKind::DocumentAccepted, status, reason, message)
}

/// The version in force is what counts; a newer one that nobody trusts is told of as well, because somebody has to act.
fn source_verified(snapshot: &Snapshot) -> Option<Condition> {
    let source = &snapshot.source;
    if !source.verifies {
        return None;
    }
    let (status, reason, message) = match (&source.refusal, &source.provenance.signature) {
        (Some(refusal), _) if refusal.reason.is_about_trust() => {
            (Status::False, refusal.reason.as_str(), source.error.clone().unwrap_or_default())
        }
        (_, Some(signature)) => {
            let format = signature.format.as_str();
            let message = format!("signed by {} with the {format} key {}", signature.signer, signature.key);
            (Status::True, "Verified", message)
        }
        (_, None) if snapshot.desired.is_some() => {
            let message = "the version in force was accepted before signatures were asked for".to_owned();
            (Status::False, Reason::Unsigned.as_str(), message)
        }
        (_, None) => (Status::Unknown, "NotFetched", "there is no version to verify yet".to_owned()),
    };
    Some(Condition::new(ConditionKind::SourceVerified, status, reason, message))
}

fn ready(snapshot: &Snapshot, accepted: &Condition) -> Condition {
    let (status, reason, message) = readiness(snapshot, accepted);
    Condition::new(ConditionKind::Ready, status, reason, message)
}

fn readiness(snapshot: &Snapshot, accepted: &Condition) -> (Status, &'static str, String) {
    let Some(desired) = &snapshot.desired else {
        return (Status::False, "NoDocument", "no document is in force".to_owned());
    };
    if accepted.status != Status::True {
        return (
            Status::False,
            "DocumentRefused",
            format!("the newest document is refused: {}", accepted.reason),
        );
    }
    if let Some(error) = &snapshot.store_error {
        return (Status::False, "StoreUnavailable", error.clone());
    }
    if let Some(error) = &snapshot.provider_error {
        return (Status::Unknown, "ProviderUnavailable", error.clone());
    }
    let planned = snapshot.report.as_ref().filter(|report| {
        report.revision == desired.revision
            && report.provider_known
            && desired.document.sessions.iter().all(|session| report.sessions.contains_key(&session.name))
    });
    let Some(report) = planned else {
        return (Status::False, "Progressing", "no pass has looked at this document yet".to_owned());
    };
    if report.held_teardowns > 0 {
        let message =
            format!("{} teardowns wait for `ebb approve {}`", report.held_teardowns, desired.revision);
        return (Status::False, "TeardownsHeld", message);
    }
    let with = |progress| {
        let sessions = report.sessions.values().filter(move |session| session.progress == progress);
        sessions.map(|session| session.session.as_str()).collect::<Vec<_>>()
    };
    let (stalled, moving) = (with(Progress::Stalled), with(Progress::Moving));
    if !stalled.is_empty() {
        return (
            Status::False,
            "Stalled",
            format!("{} cannot get on; `ebb explain` says why", names(&stalled)),
        );
    }
    if !moving.is_empty() {
        return (Status::False, "Progressing", format!("{} on the way", names(&moving)));
    }
    (Status::True, "Settled", format!("everything is as revision {} wants it", desired.revision))
}

fn names(sessions: &[&str]) -> String {
    let named = sessions.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match sessions.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
