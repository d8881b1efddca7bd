//! Looking at sessions, and asking for things to be done with them.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use ebb_core::condition::{ConditionKind, Status};
use ebb_core::explain::{ago, when};
use ebb_core::note::Note;
use ebb_core::state::{State, StateName};
use ebb_desired_state::SessionName;
use jiff::Timestamp;

use super::api::Api;
use super::args::{Daemon, Output};
use super::output::{bytes, json, table};
use super::{Failure, Outcome};
use crate::http::Approval;
use crate::view::{SessionView, StatusView};

/// How often a watched status is drawn again.
const REDRAW: Duration = Duration::from_secs(1);

/// How often a session is looked at while somebody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Provisioning has a budget of 2 minutes and is given up after 10; whoever waits hears of a failure before that.
const PATIENCE: Duration = Duration::from_mins(11);

pub(super) async fn status(daemon: &Daemon, watch: bool, output: Output) -> Outcome {
    let api = Api::open(daemon)?;
    loop {
        let view: StatusView = api.get("/api/sessions").await?;
        if watch && output == Output::Text {
            // Cursor home, clear to the end: no flicker.
            print!("\x1b[H\x1b[J");
        }
        match output {
            Output::Text => print!("{}", render(&view)),
            Output::Json => json(&view)?,
        }
        std::io::stdout().flush()?;
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(REDRAW) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn render(view: &StatusView) -> String {
    let mut text = match (&view.deployment, &view.revision) {
        (Some(deployment), Some(revision)) => {
            let accepted = view.accepted_at.map(|at| ago(at, view.at)).unwrap_or_default();
            format!("deployment {deployment}, revision {revision} accepted {accepted} from {}\n", view.source)
        }
        _ => format!("no document is in force; it is expected at {}\n", view.source),
    };
    let unverified = view.conditions.iter().find(|condition| {
        condition.kind == ConditionKind::SourceVerified && condition.status == Status::False
    });
    if let Some(unverified) = unverified.filter(|_| view.problems.is_empty()) {
        text.push_str(&format!("\nPROBLEM: {}\n", unverified.message));
    }
    for problem in &view.problems {
        text.push_str(&format!("\nPROBLEM: {}\n", problem.trim_end()));
    }
    if view.held_teardowns > 0 {
        text.push_str(&format!(
            "\n{} teardowns wait for approval: look at `ebb plan`, then `ebb approve {}`\n",
            view.held_teardowns,
            view.revision.as_deref().unwrap_or_default()
        ));
    }
    text.push('\n');
    let mut rows = vec![header(&[
        "SESSION",
        "STATE",
        "FOR",
        "ENDPOINT",
        "USER",
        "ADDRESS",
        "HANDSHAKE",
        "DATA",
        "RX",
        "TX",
        "NEXT",
    ])];
    for session in &view.sessions {
        rows.extend(session_rows(session, view.at));
    }
    text.push_str(&if view.sessions.is_empty() { "no sessions\n".to_owned() } else { table(&rows) });
    text
}

fn session_rows(session: &SessionView, now: Timestamp) -> Vec<Vec<String>> {
    let known = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| ago(at, now));
    let mut rows: Vec<Vec<String>> = session
        .users
        .iter()
        .map(|user| {
            let address = user.addresses.first().map(ToString::to_string).unwrap_or_default();
            vec![
                user.user.to_string(),
                address,
                known(user.handshake_at),
                known(user.data_at),
                bytes(user.received_bytes),
                bytes(user.sent_bytes),
            ]
        })
        .collect();
    if rows.is_empty() {
        rows.push(vec!["-".to_owned(); 6]);
    }
    let lead = [
        session.session.to_string(),
        state(&session.state),
        ebb_core::explain::span(now.duration_since(session.since)),
        session.endpoint.clone().unwrap_or_else(|| "-".to_owned()),
    ];
    let next = session.next.map(|at| when(at, now)).unwrap_or_default();
    rows.into_iter()
        .enumerate()
        .map(|(index, row)| {
            let first = index == 0;
            let lead = lead.iter().map(|cell| if first { cell.clone() } else { String::new() });
            let next = if first { next.clone() } else { String::new() };
            lead.chain(row).chain([next]).collect()
        })
        .collect()
}

fn state(state: &State) -> String {
    match state {
        State::Parked { why } | State::Terminating { why } => format!("{} ({})", state.name(), why.as_str()),
        State::Queued { .. }
        | State::BackingOff { .. }
        | State::Suspended
        | State::Provisioning
        | State::Starting
        | State::Active
        | State::Idle { .. } => state.name().to_string(),
    }
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) async fn explain(daemon: &Daemon, session: &SessionName, output: Output) -> Outcome {
    let view = get(&Api::open(daemon)?, session).await?;
    match output {
        Output::Json => json(&view)?,
        Output::Text => {
            println!("{}", view.session);
            for line in &view.because {
                println!("  - {line}");
            }
            for condition in &view.conditions {
                let (kind, status) = (condition.kind.as_str(), condition.status);
                println!("  {kind}={status:?} ({}): {}", condition.reason, condition.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn events(
    daemon: &Daemon,
    session: Option<&SessionName>,
    kind: Option<&str>,
    limit: usize,
    output: Output,
) -> Outcome {
    let session = session.map(|session| format!("&session={session}")).unwrap_or_default();
    let kind = kind.map(|kind| format!("&type={kind}")).unwrap_or_default();
    let notes: Vec<Note> =
        Api::open(daemon)?.get(&format!("/api/events?limit={limit}{session}{kind}")).await?;
    match output {
        Output::Json => json(&notes)?,
        Output::Text => {
            for note in &notes {
                let session = note.session.as_ref().map(ToString::to_string).unwrap_or_default();
                println!("{:.0}  {:<22} {session:<15}  {}", note.at, note.kind.as_str(), note.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn start(daemon: &Daemon, session: &SessionName, wait: bool, output: Output) -> Outcome {
    let api = Api::open(daemon)?;
    order(&api, session, "start").await?;
    if wait {
        await_active(&api, session, |_| ()).await?;
    }
    tell(&api, session, output).await
}

pub(super) async fn stop(daemon: &Daemon, session: &SessionName, wait: bool, output: Output) -> Outcome {
    let api = Api::open(daemon)?;
    order(&api, session, "stop").await?;
    if wait {
        await_state(&api, session, |view| Ok(view.state_name().is_down()), |_| ()).await?;
    }
    tell(&api, session, output).await
}

pub(super) async fn tell(api: &Api, session: &SessionName, output: Output) -> Outcome {
    let view = get(api, session).await?;
    match output {
        Output::Json => json(&view)?,
        Output::Text => println!("{session}: {}", view.because.first().map_or("", String::as_str)),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn approve(daemon: &Daemon, revision: String, output: Output) -> Outcome {
    Api::open(daemon)?.post("/api/approve", &Approval { revision: revision.clone() }).await?;
    match output {
        Output::Json => json(&serde_json::json!({ "approved": revision }))?,
        Output::Text => println!("the teardowns of revision {revision} are approved"),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn get(api: &Api, session: &SessionName) -> Result<SessionView, Failure> {
    Ok(api.get(&format!("/api/sessions/{session}")).await?)
}

/// Asks for a session to be started or stopped.
pub(super) async fn order(api: &Api, session: &SessionName, verb: &str) -> Result<(), Failure> {
    Ok(api.post(&format!("/api/sessions/{session}/{verb}"), &()).await?)
}

/// Waits until a session is usable; `progress` sees every look at it. A session that cannot become usable is an error at once.
pub(super) async fn await_active(
    api: &Api,
    session: &SessionName,
    progress: impl FnMut(&SessionView),
) -> Result<SessionView, Failure> {
    let usable = |view: &SessionView| match view.state_name() {
        StateName::Active | StateName::Idle => Ok(true),
        StateName::BackingOff | StateName::Suspended => Err(Failure::new(view.because.join("\n  "))),
        // An order that was just given is taken up by the next pass.
        StateName::Parked
        | StateName::Queued
        | StateName::Provisioning
        | StateName::Terminating
        | StateName::Starting => Ok(false),
    };
    await_state(api, session, usable, progress).await
}

async fn await_state(
    api: &Api,
    session: &SessionName,
    reached: impl Fn(&SessionView) -> Result<bool, Failure>,
    mut progress: impl FnMut(&SessionView),
) -> Result<SessionView, Failure> {
    let wait = async {
        loop {
            let view = get(api, session).await?;
            progress(&view);
            if reached(&view)? {
                return Ok(view);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = |_| Failure::new(format!("{session} is not there yet; `ebb explain {session}` says why"));
    tokio::time::timeout(PATIENCE, wait).await.map_err(late)?
}
