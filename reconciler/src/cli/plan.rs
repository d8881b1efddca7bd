//! `ebb plan`: what would happen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ebb_core::plan::{Desired, Revision};
use ebb_core::spec::Keys;

use super::api::{Api, ApiError};
use super::args::{Daemon, Output};
use super::output::json;
use super::{CHANGES, Failure, Outcome};
use crate::clock;
use crate::engine::{Snapshot, SourceStatus};
use crate::preview::{self, Preview};
use crate::provider::{LocalProvider, LocalSettings, Provider as _};
use crate::secrets::{FileSecrets, SecretName, Secrets as _};
use crate::store::{RedbStore, Store as _};

pub(super) async fn plan(
    daemon: &Daemon,
    candidate: Option<PathBuf>,
    document: PathBuf,
    output: Output,
) -> Outcome {
    let preview = match ask(daemon, candidate.as_deref()).await {
        Err(ApiError::NoDaemon { .. }) => offline(daemon, candidate.as_deref().unwrap_or(&document)).await?,
        other => other?,
    };
    match output {
        Output::Json => json(&preview)?,
        Output::Text => print!("{}", render(&preview)),
    }
    let empty = preview.plan.is_empty() && preview.changes.is_empty();
    Ok(if empty { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

async fn ask(daemon: &Daemon, candidate: Option<&Path>) -> Result<Preview, ApiError> {
    let api = Api::open(daemon)?;
    match candidate {
        None => api.get("/api/plan").await,
        Some(file) => match std::fs::read_to_string(file) {
            Ok(text) => api.post_text("/api/plan", text).await,
            Err(error) => Err(ApiError::NoFile { path: file.display().to_string(), error }),
        },
    }
}

/// The same from the files, while no daemon has them open. Nothing is known of use then.
async fn offline(daemon: &Daemon, file: &Path) -> Result<Preview, Failure> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    let document = ebb_desired_state::parse_bytes(&bytes)
        .map_err(|problems| Failure::usage(problems.render(&name, super::output::is_colourful())))?;
    let mut snapshot = Snapshot {
        at: clock::now(),
        passes: 0,
        desired: None,
        source: SourceStatus { origin: name.clone(), ..SourceStatus::default() },
        records: BTreeMap::new(),
        observed: None,
        provider_error: None,
        evidence: BTreeMap::new(),
        keys: Keys::default(),
        report: None,
        store_error: None,
    };
    let state = &daemon.state;
    if state.join("store.redb").exists() {
        let records = RedbStore::open(&state.join("store.redb"))?.records().await?;
        snapshot.records = records.into_iter().map(|(record, _)| (record.session.clone(), record)).collect();
        let secrets = FileSecrets::open(&state.join("secrets"))?;
        for session in &document.sessions {
            if let Some(key) = secrets.get(&SecretName::Gateway(session.name.clone())).await? {
                snapshot.keys.gateways.insert(session.name.clone(), key.public());
            }
        }
        for user in &document.users {
            if let Some(key) = secrets.get(&SecretName::User(user.name.clone())).await? {
                snapshot.keys.users.insert(user.name.clone(), key.public());
            }
        }
        let settings = LocalSettings {
            state: state.canonicalize()?,
            advertise: "127.0.0.1".to_owned(),
            program: Vec::new(),
        };
        snapshot.observed = Some(LocalProvider::open(settings)?.list(&document.deployment).await?);
    } else {
        snapshot.observed = Some(ebb_core::observed::Observed {
            asked_at: snapshot.at,
            lag: jiff::SignedDuration::ZERO,
            gateways: BTreeMap::new(),
        });
    }
    Ok(preview::of(&snapshot, &Desired::new(document, Revision(name))))
}

fn render(preview: &Preview) -> String {
    let mut text = format!("revision {}\n", preview.revision);
    if !preview.changes.is_empty() {
        text.push_str("\ndocument:\n");
        for change in &preview.changes {
            text.push_str(&format!("  {change}\n"));
        }
    }
    text.push_str("\nnext pass:\n");
    for line in preview.plan.to_string().lines() {
        text.push_str(&format!("  {line}\n"));
    }
    let held = preview.report.held_teardowns;
    if held > 0 {
        text.push_str(&format!(
            "\n{held} teardowns are held back until `ebb approve {}`\n",
            preview.revision
        ));
    }
    for session in preview.report.sessions.values() {
        for condition in session.conditions.iter().filter(|condition| condition.is_bad()) {
            let (kind, reason) = (condition.kind.as_str(), &condition.reason);
            text.push_str(&format!("\n{}: {kind} ({reason}): {}\n", session.session, condition.message));
        }
    }
    text
}
