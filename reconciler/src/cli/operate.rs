//! Commands that steer the daemon beside the document.

use std::process::ExitCode;
use std::time::Duration;

use ebb_core::condition::{Condition, ConditionKind, Status};
use ebb_desired_state::SessionName;
use jiff::Timestamp;

use super::api::Api;
use super::args::{Ahead, Daemon, Output};
use super::inspect::tell;
use super::output::json;
use super::{Failure, Outcome};
use crate::clock;
use crate::http::{Reconciling, Rest};
use crate::view::StatusView;

/// How often the deployment is looked at while somebody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn suspend(
    daemon: &Daemon,
    session: &SessionName,
    reason: String,
    until: Ahead,
    output: Output,
) -> Outcome {
    let rest = Rest { reason, until: Some(until.from(clock::now())) };
    order(daemon, session, "suspend", &rest, output).await
}

pub(super) async fn resume(daemon: &Daemon, session: &SessionName, output: Output) -> Outcome {
    order(daemon, session, "resume", &(), output).await
}

pub(super) async fn detach(
    daemon: &Daemon,
    session: &SessionName,
    reason: String,
    output: Output,
) -> Outcome {
    order(daemon, session, "detach", &Rest { reason, until: None }, output).await
}

pub(super) async fn adopt(daemon: &Daemon, session: &SessionName, output: Output) -> Outcome {
    order(daemon, session, "adopt", &(), output).await
}

async fn order(
    daemon: &Daemon,
    session: &SessionName,
    verb: &str,
    body: &impl serde::Serialize,
    output: Output,
) -> Outcome {
    let api = Api::open(daemon)?;
    api.post(&format!("/api/sessions/{session}/{verb}"), body).await?;
    tell(&api, session, output).await
}

pub(super) async fn reconcile(
    daemon: &Daemon,
    wait: bool,
    revision: Option<&str>,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let api = Api::open(daemon)?;
    let asked: Reconciling = api.ask("/api/reconcile", &()).await?;
    let status: StatusView = if wait || revision.is_some() {
        let reached = reached(&api, asked.requested_at, wait, revision);
        tokio::time::timeout(timeout, reached).await.map_err(|_| {
            let seconds = timeout.as_secs();
            Failure::new(format!(
                "not everything is as it should be after {seconds} s; `ebb status` says what is missing"
            ))
        })??
    } else {
        api.get("/api/sessions").await?
    };
    match output {
        Output::Json => json(&status)?,
        Output::Text => {
            let condition = of_kind(&status, ConditionKind::Ready);
            println!("{}", condition.map_or("asked for", |condition| &*condition.message));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn reached(
    api: &Api,
    requested_at: Timestamp,
    settled: bool,
    revision: Option<&str>,
) -> Result<StatusView, Failure> {
    loop {
        let status: StatusView = api.get("/api/sessions").await?;
        if status.handled_at.is_some_and(|at| at >= requested_at) {
            let seen = status.seen.as_deref().unwrap_or("no revision");
            if let Some(wanted) = revision.filter(|wanted| !seen.starts_with(*wanted)) {
                return Err(Failure::new(format!("the source is at {seen}, not at {wanted}")));
            }
            let accepted = of_kind(&status, ConditionKind::DocumentAccepted);
            if let Some(refused) = accepted.filter(|condition| condition.status == Status::False) {
                return Err(Failure::new(format!("the newest document is refused: {}", refused.message)));
            }
            let ready = of_kind(&status, ConditionKind::Ready);
            let is_ready = ready.is_some_and(|ready| {
                ready.status == Status::True && ready.observed_generation == Some(status.generation)
            });
            if is_ready || !settled {
                return Ok(status);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn of_kind(status: &StatusView, kind: ConditionKind) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}
