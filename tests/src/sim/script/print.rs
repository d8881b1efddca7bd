//! What the commands that look print.

use std::fmt::Write as _;

use ebb_core::condition::{ConditionKind, Status};
use ebb_core::demand;
use ebb_core::explain::{Subject, explain as sentences};
use ebb_desired_state::SessionName;

use super::super::provider::Standing;
use super::super::world::World;

/// Every session: its state and every condition that somebody should look at.
pub(super) fn status(world: &World) -> Result<String, String> {
    let daemon = world.daemon.as_ref().ok_or("the daemon is down")?;
    let report = daemon.report.as_ref().ok_or("there was no pass yet")?;
    let mut text = format!("revision {}\n", report.revision);
    if report.held_teardowns > 0 {
        let _ = writeln!(text, "{} teardowns wait for approval", report.held_teardowns);
    }
    if !report.provider_known {
        text.push_str("the provider cannot be asked\n");
    }
    for (session, of_session) in &report.sessions {
        let ready = of_session.conditions.iter().find(|condition| condition.kind == ConditionKind::Ready);
        let detail = ready.map_or("", |condition| &*condition.message);
        let _ = writeln!(text, "{session:<12} {:<12} {detail}", of_session.state.name());
        for condition in of_session.conditions.iter().filter(|condition| condition.is_bad()) {
            let status = if condition.status == Status::True { "" } else { "not " };
            let _ = writeln!(
                text,
                "             {status}{} ({}): {}",
                condition.kind.as_str(),
                condition.reason,
                condition.message
            );
        }
    }
    Ok(text)
}

/// Why a session is where it is.
pub(super) fn explain(world: &World, session: &SessionName) -> Result<String, String> {
    let daemon = world.daemon.as_ref().ok_or("the daemon is down")?;
    let desired = daemon.desired.as_ref().ok_or("there is no document")?;
    let report = daemon.report.as_ref().and_then(|report| report.sessions.get(session));
    let declared = desired.document.session(session);
    let record = daemon.records.get(session).ok_or_else(|| format!("nobody remembers {session}"))?;
    let subject = Subject {
        session: declared,
        suspension: declared
            .and_then(|session| demand::suspension(&desired.document, session, record, world.clock())),
        record,
        report: report.ok_or_else(|| format!("the last pass knew no {session}"))?,
        evidence: daemon.evidence.get(session),
    };
    // Run ids are random and say nothing to a reader.
    let run = subject.record.run.as_ref().map(|run| run.id.to_string());
    let text = sentences(&subject, world.clock()).into_iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    });
    Ok(run.map_or_else(|| text.clone(), |run| text.replace(&run, "…")))
}

/// What the provider really has, whosever it is.
pub(super) fn groups(world: &mut World) -> String {
    let groups: Vec<_> = world
        .provider
        .groups()
        .iter()
        .map(|(name, group)| {
            (name.clone(), group.deployment.clone(), group.run.clone(), group.standing.clone())
        })
        .collect();
    let mut text = String::new();
    for (name, owner, run, standing) in groups {
        let standing = match standing {
            Standing::Creating { .. } => "is being created".to_owned(),
            Standing::Running => "runs".to_owned(),
            Standing::Exited { status } => format!("ended with status {status}"),
            Standing::Failed => "failed".to_owned(),
            Standing::Deleting { .. } => "is being deleted".to_owned(),
        };
        let _ = writeln!(text, "{name} of {owner}, run {}, {standing}", world.run_number(&run));
    }
    if text.is_empty() { "nothing\n".to_owned() } else { text }
}
