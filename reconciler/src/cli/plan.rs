//! `ebb plan`: what would happen.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use ebb_core::forecast::Foreseen;
use ebb_core::observed::Scope;
use ebb_core::plan::{Desired, Revision};
use ebb_core::spec::Keys;
use ebb_desired_state::Document;
use jiff::Timestamp;

use super::api::{Api, ApiError};
use super::args::{Daemon, Output, Plan};
use super::output::json;
use super::{CHANGES, Failure, Outcome};
use crate::clock;
use crate::engine::{Snapshot, SourceStatus, renames};
use crate::leadership::{Leadership, Shard};
use crate::preview::{self, Preview};
use crate::secrets::SecretName;
use crate::setup;

pub(super) async fn plan(daemon: &Daemon, options: Plan, output: Output) -> Outcome {
    let until = options.at.map(|ahead| ahead.from(clock::now()));
    let preview = match merged(&options, until)? {
        Some(preview) => preview,
        None => of_deployment(daemon, &options, until).await?,
    };
    match output {
        Output::Json => json(&preview)?,
        Output::Text if options.markdown => print!("{}", markdown(&preview)),
        Output::Text => print!("{}", render(&preview)),
    }
    let empty = preview.plan.is_empty() && preview.changes.is_empty();
    Ok(if empty { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

/// The plan from one file to another, if that is asked for.
fn merged(options: &Plan, until: Option<Timestamp>) -> Result<Option<Preview>, Failure> {
    let (Some(from), Some(to)) = (&options.from, &options.file) else { return Ok(None) };
    let (from, to) = (read(from)?, read(to)?);
    if let Some(why) = renames(&from, &to) {
        return Err(Failure::usage(why));
    }
    Ok(Some(preview::of_merge(from, to, clock::now(), until)))
}

fn read(file: &Path) -> Result<Document, Failure> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    parse(&name, &bytes)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Document, Failure> {
    ebb_desired_state::parse_bytes(bytes)
        .map_err(|problems| Failure::usage(problems.render(name, super::output::is_colourful())))
}

async fn of_deployment(
    daemon: &Daemon,
    options: &Plan,
    until: Option<Timestamp>,
) -> Result<Preview, Failure> {
    Ok(match ask(daemon, options.file.as_deref(), until).await {
        Err(ApiError::NoDaemon { .. }) => offline(daemon, options, until).await?,
        other => other?,
    })
}

async fn ask(
    daemon: &Daemon,
    candidate: Option<&Path>,
    until: Option<Timestamp>,
) -> Result<Preview, ApiError> {
    let api = Api::open(daemon)?;
    let path = until.map_or_else(|| "/api/plan".to_owned(), |until| format!("/api/plan?until={until}"));
    match candidate {
        None => api.get(&path).await,
        Some(file) => match std::fs::read_to_string(file) {
            Ok(text) => api.post_text(&path, text).await,
            Err(error) => Err(ApiError::NoFile { path: file.display().to_string(), error }),
        },
    }
}

/// The same from what the daemon would start with. Nothing is known of use then.
async fn offline(daemon: &Daemon, options: &Plan, until: Option<Timestamp>) -> Result<Preview, Failure> {
    let settings = &options.settings;
    let state = setup::prepare_state(&daemon.state)?;
    let (name, bytes) = match &options.file {
        Some(file) => {
            let name = file.display().to_string();
            let bytes = std::fs::read(file);
            (name.clone(), bytes.map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?)
        }
        None => {
            let source = settings.source(&state)?;
            (source.origin(), source.fetch(None).await?.text)
        }
    };
    let document = parse(&name, &bytes)?;
    let secrets = settings.secrets(&state)?;
    let mut keys = Keys::default();
    for session in &document.sessions {
        let key = secrets.get(&SecretName::Gateway(session.name.clone())).await?;
        keys.gateways.extend(key.map(|key| (session.name.clone(), key.public())));
    }
    for user in &document.users {
        let key = secrets.get(&SecretName::User(user.name.clone())).await?;
        keys.users.extend(key.map(|key| (user.name.clone(), key.public())));
    }
    // It leads nothing, so whatever it did by mistake would be refused.
    let leadership = Leadership::of(1);
    let store = settings.store(&state, &leadership)?;
    let records = store.records().await?.into_iter();
    let records = records.map(|(record, _)| (record.session.clone(), record)).collect();
    let scope = Scope::of(&document, &records);
    let observed = settings.provider(&state, &leadership)?.list(&scope).await?;
    let snapshot = Snapshot {
        // Not before the listing: the planner does not believe one from the future.
        at: clock::now(),
        passes: 0,
        desired: None,
        source: SourceStatus { origin: name.clone(), ..SourceStatus::default() },
        records,
        observed: Some(observed),
        provider_error: None,
        evidence: BTreeMap::new(),
        keys,
        approved: store.approved().await?,
        report: None,
        store_error: None,
        shards: 1,
        led: vec![Shard::FIRST],
    };
    Ok(preview::of(&snapshot, &Desired::new(document, Revision(name)), until))
}

/// For a pull request: what changes, what happens at once, and what happens later.
fn markdown(preview: &Preview) -> String {
    let mut text = format!("### Ebb plan for `{}`\n", preview.revision);
    let mut list = |title: &str, lines: Vec<String>, none: &str| {
        text.push_str(&format!("\n**{title}**\n\n"));
        if lines.is_empty() {
            text.push_str(&format!("{none}\n"));
        }
        lines.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    };
    list("Changes of the document", preview.changes.clone(), "None.");
    let actions = preview.plan.actions().filter(|(_, action)| !action.is_bookkeeping());
    let actions = actions.map(|(session, action)| format!("`{session}`: {action}"));
    list("What happens at once", actions.collect(), "Nothing.");
    if !preview.foreseen.is_empty() {
        list("What happens later", preview.foreseen.iter().map(foreseen).collect(), "");
    }
    list("To look at", warnings(preview), "Nothing.");
    text
}

fn foreseen(event: &Foreseen) -> String {
    let session = event.0.session.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{} {session}: {}", event.0.at, event.0.message)
}

fn warnings(preview: &Preview) -> Vec<String> {
    let held = preview.report.held_teardowns;
    let held = (held > 0)
        .then(|| format!("{held} teardowns are held back until `ebb approve {}`", preview.revision));
    let conditions = preview.report.sessions.values().flat_map(|session| {
        let bad = session.conditions.iter().filter(|condition| condition.is_bad());
        bad.map(|bad| format!("{}: {} ({}): {}", session.session, bad.kind.as_str(), bad.reason, bad.message))
    });
    held.into_iter().chain(conditions).collect()
}

pub(super) fn render(preview: &Preview) -> String {
    let mut text = format!("revision {}\n", preview.revision);
    let mut list = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}:\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    list("document", preview.changes.clone());
    list("next pass", preview.plan.to_string().lines().map(str::to_owned).collect());
    list("later", preview.foreseen.iter().map(foreseen).collect());
    list("to look at", warnings(preview));
    text
}
