//! Tells people at the source what became of their change.
//!
//! A change is reported until everything is as it wants it, or it is refused; what happens to sessions after that is nothing that
//! its author has to know.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ebb_core::condition::{Condition, ConditionKind, Status};
use ebb_core::plan::Revision;

use crate::deployment;
use crate::engine::{Handle, Snapshot};
use crate::source::Source;

/// Reports are not sent more often: on its way to its end, a change passes through many states.
const PAUSE: Duration = Duration::from_secs(2);

/// A source that could not take a report is not asked again sooner.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Characters of a report. The error of a document can be long, and shows the line in question at its beginning.
const LONGEST: usize = 2000;

/// What is said about one version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    revision: Revision,
    deployment: String,
    text: String,
    is_final: bool,
}

/// Reports until the engine ends.
pub async fn run(engine: Handle, source: Arc<dyn Source>) {
    if !source.reports() {
        return;
    }
    let mut passes = engine.passes();
    let mut last: Option<Report> = None;
    while passes.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        let Some(snapshot) = engine.snapshot().await else { return };
        let Some(report) = report(&snapshot).filter(|report| is_news(last.as_ref(), report)) else {
            continue;
        };
        match source.report(&report.revision, &report.deployment, &report.text).await {
            Ok(()) => last = Some(report),
            Err(error) => {
                tracing::warn!("what became of revision {} was not reported: {error}", report.revision);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

fn is_news(last: Option<&Report>, report: &Report) -> bool {
    last.is_none_or(|last| last != report && !(last.is_final && last.revision == report.revision))
}

fn report(snapshot: &Snapshot) -> Option<Report> {
    let (revision, desired) = (snapshot.source.seen.clone()?, snapshot.desired.as_ref()?);
    let conditions = deployment::conditions(snapshot);
    let status =
        |kind| conditions.iter().find(|condition| condition.kind == kind).map(|condition| condition.status);
    let is_refused = status(ConditionKind::DocumentAccepted) == Some(Status::False);
    let is_settled = status(ConditionKind::Ready) == Some(Status::True);
    Some(Report {
        revision,
        deployment: desired.document.deployment.to_string(),
        text: render(&conditions),
        is_final: is_settled && !is_refused,
    })
}

fn render(conditions: &[Condition]) -> String {
    let text = conditions.iter().fold(String::new(), |mut text, condition| {
        let Condition { kind, status, reason, message, .. } = condition;
        let _ = writeln!(text, "{}={status:?} ({reason}): {}", kind.as_str(), message.trim_end());
        text
    });
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(revision: &str, text: &str, is_final: bool) -> Report {
        let revision = Revision(revision.to_owned());
        Report { revision, deployment: "home".to_owned(), text: text.to_owned(), is_final }
    }

    #[test]
    fn a_change_is_reported_until_it_has_happened_and_the_next_one_anew() {
        let moving = report("a", "on the way", false);
        let settled = report("a", "settled", true);
        assert!(is_news(None, &moving));
        assert!(!is_news(Some(&moving), &moving));
        assert!(is_news(Some(&moving), &settled));
        assert!(!is_news(Some(&settled), &moving), "a session that idles later is nobody's news");
        assert!(is_news(Some(&settled), &report("b", "on the way", false)));
    }
}
