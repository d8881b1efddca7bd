//! Documents that were in force, and runs that have ended.

use std::process::ExitCode;

use ebb_core::ended::{EndedRun, Used};
use ebb_core::explain::span;
use ebb_desired_state::{Diff, Document, SessionName};
use jiff::Timestamp;
use serde_json::json;

use super::api::Api;
use super::args::{Daemon, Output};
use super::output::{bytes, json, table};
use super::{Failure, Outcome};
use crate::http::{Replaced, Restore, Revisions};
use crate::store::Accepted;

/// Digits of a revision in a table, as git abbreviates a commit.
const SHOWN: usize = 12;

/// Where the source's own name of a version stands: behind the revision.
const VERSION_COLUMN: usize = 2;

pub(super) async fn history(daemon: &Daemon, limit: usize, output: Output) -> Outcome {
    let revisions: Revisions =
        Api::open(daemon)?.get(&format!("/api/desired-state/history?limit={limit}")).await?;
    match output {
        Output::Json => json(&revisions)?,
        Output::Text => print!("{}", render(&revisions)),
    }
    Ok(ExitCode::SUCCESS)
}

fn render(revisions: &[Accepted]) -> String {
    let header = ["GENERATION", "REVISION", "ACCEPTED", "BY", "SIGNED", "PLAN", "CHANGES"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    // Only blobs have versions of their own.
    let has_versions = revisions.iter().any(|accepted| accepted.provenance.version.is_some());
    if has_versions {
        rows[0].insert(VERSION_COLUMN, "VERSION".to_owned());
    }
    rows.extend(revisions.iter().map(|accepted| {
        let provenance = &accepted.provenance;
        let changes = match (&provenance.restores, accepted.changes.as_slice()) {
            (Some(restored), _) => format!("brings {} back", short(&restored.0)),
            (None, []) => provenance.subject.clone().unwrap_or_default(),
            (None, [only]) => only.clone(),
            (None, [first, more @ ..]) => format!("{first} and {} more", more.len()),
        };
        let mut row = vec![
            format!("#{}", accepted.generation),
            short(&accepted.revision.0),
            format!("{:.0}", accepted.at),
            provenance.who().unwrap_or("-").to_owned(),
            provenance.signature.as_ref().map_or("-", |signature| signature.signer.as_str()).to_owned(),
            accepted.plan.to_string(),
            changes,
        ];
        if has_versions {
            row.insert(VERSION_COLUMN, provenance.version.as_deref().unwrap_or("-").to_owned());
        }
        row
    }));
    table(&rows)
}

pub(super) async fn runs(daemon: &Daemon, session: &SessionName, limit: usize, output: Output) -> Outcome {
    let runs: Vec<EndedRun> =
        Api::open(daemon)?.get(&format!("/api/sessions/{session}/runs?limit={limit}")).await?;
    match output {
        Output::Json => json(&runs)?,
        Output::Text if runs.is_empty() => println!("no run of {session} has ended in the last 30 days"),
        Output::Text => print!("{}", render_runs(&runs)),
    }
    Ok(ExitCode::SUCCESS)
}

fn render_runs(runs: &[EndedRun]) -> String {
    let header = ["RUN", "GENERATION", "REGION", "BEGAN", "LASTED", "HANDSHAKE", "RX", "TX", "ENDED BECAUSE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(runs.iter().map(|run| {
        // What nobody has seen is not "never" and not 0.
        let used = |show: &dyn Fn(&Used) -> String| run.used.as_ref().map_or_else(|| "?".to_owned(), show);
        let handshake = |at: Timestamp| format!("{at:.0}");
        vec![
            short(run.run.as_str()),
            format!("#{}", run.generation),
            run.region.clone().unwrap_or_else(|| "?".to_owned()),
            format!("{:.0}", run.began_at),
            span(run.lasted()),
            used(&|used| used.last_handshake.map_or_else(|| "never".to_owned(), handshake)),
            used(&|used| bytes(used.received_bytes)),
            used(&|used| bytes(used.sent_bytes)),
            run.message.clone(),
        ]
    }));
    table(&rows)
}

fn short(revision: &str) -> String {
    revision.chars().take(SHOWN).collect()
}

pub(super) async fn diff(daemon: &Daemon, from: &str, to: Option<&str>, output: Output) -> Outcome {
    let api = Api::open(daemon)?;
    let from = get(&api, from).await?;
    let to = match to {
        Some(to) => get(&api, to).await?,
        None => newest(&api).await?,
    };
    let Diff { changes } = ebb_desired_state::diff(&parse(&from)?, &parse(&to)?);
    match output {
        Output::Json => json(&json!({ "from": from.revision, "to": to.revision, "changes": changes }))?,
        Output::Text => {
            println!("from revision {} to revision {}", from.revision, to.revision);
            for change in &changes {
                println!("  {change}{}", if change.restarts() { " (replaces the gateway)" } else { "" });
            }
            if changes.is_empty() {
                println!("  both say the same");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A generation is written with `#`, which a URL needs escaped.
async fn get(api: &Api, wanted: &str) -> Result<Accepted, Failure> {
    let wanted = wanted.replace('#', "%23");
    if !wanted.chars().all(|c| c.is_ascii_alphanumeric() || "%._-".contains(c)) {
        return Err(Failure::usage(format!("{wanted} is no revision; `ebb history` lists them")));
    }
    Ok(api.get(&format!("/api/desired-state/history/{wanted}")).await?)
}

async fn newest(api: &Api) -> Result<Accepted, Failure> {
    let revisions: Revisions = api.get("/api/desired-state/history?limit=1").await?;
    let newest = revisions.first().ok_or_else(|| Failure::new("no document was ever in force"))?;
    get(api, &format!("#{}", newest.generation)).await
}

fn parse(accepted: &Accepted) -> Result<Document, Failure> {
    let name = format!("revision {}", accepted.revision);
    ebb_desired_state::parse(&accepted.text).map_err(|problems| Failure::new(problems.render(&name, false)))
}

pub(super) async fn rollback(daemon: &Daemon, revision: String, output: Output) -> Outcome {
    let restore = Restore { revision: revision.clone() };
    let replaced: Replaced = Api::open(daemon)?.ask("/api/desired-state/rollback", &restore).await?;
    tell(&replaced, &format!("revision {revision} is back"), output)
}

pub(super) fn tell(replaced: &Replaced, what: &str, output: Output) -> Outcome {
    match output {
        Output::Json => json(replaced)?,
        Output::Text => {
            println!("{what}, as revision {} and generation #{}", replaced.revision, replaced.generation);
        }
    }
    Ok(ExitCode::SUCCESS)
}
