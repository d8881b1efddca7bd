//! `ebb doctor`: does everything work that the daemon needs, and if not, what to do.
//!
//! Every check asks the real thing in the least harmful way there is, and one that fails does not keep the others from being made.
//! No check prints a secret: keys are looked for and dropped, tokens and signatures stay in headers and queries.

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "azure")]
mod image;
mod machine;
#[cfg(feature = "azure")]
mod permissions;
mod reach;
#[cfg(feature = "azure")]
mod services;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ebb_desired_state::Document;
use serde::Serialize;

use super::args::{Daemon, Output};
use super::{Outcome, output};
use crate::secrets::SecretName;
use crate::setup::{self, ProviderKind, Settings};
use crate::view::StatusView;

/// A check that takes longer has failed. Nothing that works takes half as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Level {
    /// It works.
    Ok,
    /// It was not made, and the message says why.
    Skipped,
    /// It works, but not as it should, or nobody can say.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Skipped => "-",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, in a word or two.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What was found.
    pub(super) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), fix: None }
    }

    pub(super) fn skipped(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Skipped, message: message.into(), fix: None }
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, message: message.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, message: message.into(), fix: Some(fix.into()) }
    }

    /// A failure whose message says itself what to do.
    pub(super) fn failed(check: &'static str, error: impl fmt::Display) -> Self {
        let text = error.to_string();
        let (message, fix) = match text.split_once("What to do: ") {
            Some((message, fix)) => (message.trim_end_matches([' ', '.']).to_owned(), Some(fix.to_owned())),
            None => (text, None),
        };
        Self { check, level: Level::Fail, message, fix }
    }
}

/// Everything that checks look at.
struct Patient<'a> {
    settings: &'a Settings,
    daemon: &'a Daemon,
    /// The document, if it is valid.
    document: Option<Document>,
    /// What a running daemon says.
    status: Option<StatusView>,
}

pub(super) async fn doctor(settings: Settings, daemon: &Daemon, format: Output) -> Outcome {
    let mut findings = Vec::new();
    let status = reach::status(daemon).await;
    let (document, finding) = document(&settings, &daemon.state).await;
    findings.push(finding);
    let patient = Patient { settings: &settings, daemon, document, status };
    findings.push(machine::state(&patient));
    match settings.provider {
        ProviderKind::Local => findings.extend(machine::local(&patient)),
        #[cfg(feature = "azure")]
        ProviderKind::Aci => findings.extend(bounded("Azure", azure::examine(&patient)).await),
    }
    findings.extend(bounded("secrets", secrets(&patient)).await);
    #[cfg(feature = "azure")]
    findings.extend(bounded("storage", services::examine(&patient)).await);
    findings.extend(bounded("reach", reach::examine(&patient)).await);
    match format {
        Output::Json => output::json(&findings)?,
        Output::Text => print!("{}", render(&findings)),
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn bounded(check: &'static str, work: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", PATIENCE.as_secs());
        vec![Finding::fail(check, message, "look at the network between this machine and the service")]
    })
}

fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, level, message, fix } in findings {
        let indented = message.trim_end().replace('\n', &format!("\n{:1$}", "", width + 8));
        text.push_str(&format!("{level:<4}  {check:<width$}  {indented}\n"));
        if let Some(fix) = fix {
            text.push_str(&format!("{:1$}to fix: {fix}\n", "", width + 8));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (ok, warn, fail) = (count(Level::Ok), count(Level::Warn), count(Level::Fail));
    text.push_str(&format!("\n{ok} ok, {warn} to look at, {fail} failed\n"));
    text
}

/// The document, and whether it is valid.
async fn document(settings: &Settings, state: &Path) -> (Option<Document>, Finding) {
    const CHECK: &str = "document";
    let source = match setup::prepare_state(state).and_then(|state| settings.source(&state)) {
        Ok(source) => source,
        Err(error) => return (None, Finding::failed(CHECK, error)),
    };
    let fetched = match source.fetch(None).await {
        Ok(fetched) => fetched,
        Err(error) => {
            let fix = "correct --document (EBB_DOCUMENT), or put the document there; while it is away the last valid one stays in \
                       force";
            return (None, Finding::fail(CHECK, error.to_string(), fix));
        }
    };
    match ebb_desired_state::parse_bytes(&fetched.text) {
        Ok(document) => {
            let (sessions, users) = (document.sessions.len(), document.users.len());
            let message = format!("{}: valid, {sessions} session(s) of {users} user(s)", source.origin());
            (Some(document), Finding::ok(CHECK, message))
        }
        Err(problems) => {
            let message = problems.render(&source.origin(), false);
            (None, Finding::fail(CHECK, message, "correct these lines; `ebb validate` shows them again"))
        }
    }
}

/// Whether the daemon's own key can be had. Nothing is written: a daemon makes it when it first starts.
async fn secrets(patient: &Patient<'_>) -> Vec<Finding> {
    const CHECK: &str = "secrets";
    let settings = patient.settings;
    let secrets = match setup::prepare_state(&patient.daemon.state).and_then(|state| settings.secrets(&state))
    {
        Ok(secrets) => secrets,
        Err(error) => return vec![Finding::failed(CHECK, error)],
    };
    let place = settings.secrets.as_deref().unwrap_or("files in the state directory");
    vec![match secrets.get(&SecretName::Control).await {
        Ok(Some(_)) => Finding::ok(CHECK, format!("{place}: the daemon's key is there")),
        Ok(None) => {
            let message = format!(
                "{place}: can be read, and holds no key of the daemon yet; the first start writes one"
            );
            Finding::ok(CHECK, message)
        }
        Err(error) => Finding::failed(CHECK, error),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_on_a_line_of_its_own() {
        let finding = Finding::failed("x", "cannot do it: no. What to do: try again");
        assert_eq!(
            (finding.message.as_str(), finding.fix.as_deref()),
            ("cannot do it: no", Some("try again"))
        );
        let text = render(&[finding, Finding::ok("longer", "fine")]);
        assert_eq!(
            text,
            "FAIL  x       cannot do it: no\n              to fix: try again\nok    longer  fine\n\n1 ok, 0 to look at, 1 failed\n"
        );
    }
}
