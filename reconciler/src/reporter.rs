//! Tells people at the source what became of their change.
//!
//! A change is reported until everything is as it wants it, or it is refused; what happens to sessions after that is nothing that
//! its author has to know.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ebb_core::condition::{Condition, ConditionKind, Status};

use crate::deployment;
use crate::engine::{Handle, Snapshot};
use crate::source::{Report, Source, Standing};

/// Reports are not sent more often: on its way to its end, a change passes through many states.
const PAUSE: Duration = Duration::from_secs(2);

/// A source that could not take a report is not asked again sooner.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// Characters of a report. The error of a document can be long, and shows the line in question at its beginning.
const LONGEST: usize = 2000;

/// A report, and whether another will follow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct News {
    report: Report,
    is_final: bool,
}

/// Reports until the engine ends.
pub async fn run(engine: Handle, source: Arc<dyn Source>) {
    if !source.reports() {
        return;
    }
    let mut passes = engine.passes();
    let mut last: Option<News> = None;
    while passes.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        let Some(snapshot) = engine.snapshot().await else { return };
        let Some(news) = news(&snapshot).filter(|news| is_news(last.as_ref(), news)) else {
            continue;
        };
        match source.report(&news.report).await {
            Ok(()) => last = Some(news),
            Err(error) => {
                tracing::warn!("what became of revision {} was not reported: {error}", news.report.revision);
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

fn is_news(last: Option<&News>, news: &News) -> bool {
    last.is_none_or(|last| last != news && !(last.is_final && last.report.revision == news.report.revision))
}

fn news(snapshot: &Snapshot) -> Option<News> {
    let (revision, desired) = (snapshot.source.seen.clone()?, snapshot.desired.as_ref()?);
    let conditions = deployment::conditions(snapshot);
    let find = |kind| conditions.iter().find(|condition| condition.kind == kind);
    let (accepted, ready) = (find(ConditionKind::DocumentAccepted)?, find(ConditionKind::Ready)?);
    let (standing, summary) = stands(accepted, ready);
    let deployment = desired.document.deployment.to_string();
    let report = Report { revision, deployment, standing, summary, text: render(&conditions) };
    Some(News { is_final: standing == Standing::Success, report })
}

/// Where the version stands, and the line that says why.
fn stands(accepted: &Condition, ready: &Condition) -> (Standing, String) {
    let (standing, condition) = match (accepted.status, ready.status, &*ready.reason) {
        (Status::False, _, _) => (Standing::Failure, accepted),
        (_, Status::True, _) => (Standing::Success, ready),
        (_, _, "Stalled" | "StoreUnavailable" | "ProviderUnavailable") => (Standing::Error, ready),
        _ => (Standing::Pending, ready),
    };
    let message = condition.message.split_whitespace().collect::<Vec<_>>().join(" ");
    (standing, format!("{}: {message}", condition.reason))
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
    use ebb_core::plan::Revision;

    use super::*;

    fn news(revision: &str, text: &str, standing: Standing) -> News {
        let report = Report {
            revision: Revision(revision.to_owned()),
            deployment: "home".to_owned(),
            standing,
            summary: text.to_owned(),
            text: text.to_owned(),
        };
        News { report, is_final: standing == Standing::Success }
    }

    #[test]
    fn a_change_is_reported_until_it_has_happened_and_the_next_one_anew() {
        let moving = news("a", "on the way", Standing::Pending);
        let settled = news("a", "settled", Standing::Success);
        assert!(is_news(None, &moving));
        assert!(!is_news(Some(&moving), &moving));
        assert!(is_news(Some(&moving), &settled));
        assert!(!is_news(Some(&settled), &moving), "a session that idles later is nobody's news");
        assert!(is_news(Some(&settled), &news("b", "on the way", Standing::Pending)));
    }

    #[test]
    fn a_version_stands_where_its_conditions_say() {
        let accepted = |status, reason| {
            Condition::new(
                ConditionKind::DocumentAccepted,
                status,
                reason,
                "line one\n  line two\n".to_owned(),
            )
        };
        let ready = |status, reason| Condition::new(ConditionKind::Ready, status, reason, "why".to_owned());
        let good = accepted(Status::True, "Accepted");
        for (status, reason, standing) in [
            (Status::True, "Settled", Standing::Success),
            (Status::False, "Progressing", Standing::Pending),
            (Status::False, "TeardownsHeld", Standing::Pending),
            (Status::False, "Stalled", Standing::Error),
            (Status::Unknown, "ProviderUnavailable", Standing::Error),
        ] {
            assert_eq!(stands(&good, &ready(status, reason)), (standing, format!("{reason}: why")));
        }
        let refused = accepted(Status::False, "Invalid");
        let expected = (Standing::Failure, "Invalid: line one line two".to_owned());
        assert_eq!(stands(&refused, &ready(Status::False, "DocumentRefused")), expected);
    }
}
