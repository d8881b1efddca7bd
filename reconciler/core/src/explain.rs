//! Why a session is where it is, in sentences.

use ebb_desired_state::{Session, Suspension};
use jiff::{SignedDuration, Timestamp};

use crate::evidence::Evidence;
use crate::idle::{Proof, Verdict};
use crate::plan::SessionReport;
use crate::record::{Record, RequestKind};
use crate::state::{State, StateName};

/// What an explanation is made of.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The session as declared; `None` when the document does not have it.
    pub session: Option<&'a Session>,
    /// The suspension in force.
    pub suspension: Option<&'a Suspension>,
    /// What is remembered of it.
    pub record: &'a Record,
    /// What the last pass said of it.
    pub report: &'a SessionReport,
    /// What is known of its use.
    pub evidence: Option<&'a Evidence>,
}

/// One sentence for each link of the chain from the document to the present state.
#[must_use]
pub fn explain(subject: &Subject<'_>, now: Timestamp) -> Vec<String> {
    let mut lines = vec![state(subject, now)];
    lines.extend(detached(subject, now));
    lines.extend(wish(subject));
    lines.extend(run(subject, now));
    lines.extend(evidence(subject, now));
    lines.extend(rule(subject, now));
    lines.extend(failure(subject, now));
    lines.extend(request(subject, now));
    lines.extend(next(subject, now));
    lines
}

fn state(subject: &Subject<'_>, now: Timestamp) -> String {
    let report = subject.report;
    let detail = match &report.state {
        State::Queued { wait } => format!("it waits for {wait}"),
        State::Parked { why } | State::Terminating { why } => why.to_string(),
        State::BackingOff { until } => {
            format!("the last attempt failed, the next is due {}", when(*until, now))
        }
        State::Suspended => "an operator suspended it".to_owned(),
        State::Provisioning => "the provider creates its gateway".to_owned(),
        State::Starting => "its gateway runs and has not answered through the tunnel yet".to_owned(),
        State::Active => "users can connect".to_owned(),
        State::Idle { deadline, .. } => format!("nobody uses it; it is torn down {}", when(*deadline, now)),
    };
    format!("{} since {} ({}): {detail}", report.state.name(), report.since, ago(report.since, now))
}

fn wish(subject: &Subject<'_>) -> Option<String> {
    let generation = subject.record.generation;
    if subject.session.is_none() {
        return Some("the document does not have it".to_owned());
    }
    Some(match (&subject.report.rest, subject.suspension) {
        (None, _) => format!("the document wants it up (generation {generation})"),
        (Some(_), Some(suspension)) => {
            let operators = subject.record.suspended.as_ref().filter(|own| own.suspension == *suspension);
            let by = operators.map(|own| format!(" by {} at {}", own.by, own.at)).unwrap_or_default();
            format!("suspended{by} until {}: {}", suspension.until, suspension.reason)
        }
        (Some(why), None) if why.latches() => format!(
            "it is declared (generation {generation}) and rests because {why}; \
             `ebb start`, a new `wake` value, a changed spec or an opening schedule brings it back"
        ),
        (Some(why), None) => format!("it is declared (generation {generation}) and rests because {why}"),
    })
}

fn detached(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    let detached = subject.record.detached.as_ref()?;
    let (by, since) = (&detached.by, ago(detached.at, now));
    Some(format!("{by} took it out of Ebb's hands {since} ({}); nothing is done about it", detached.reason))
}

fn run(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    let run = subject.record.run.as_ref()?;
    Some(match run.active_at {
        Some(at) => format!(
            "run {} began at {} and was usable {} later",
            run.id,
            run.began_at,
            span(at.duration_since(run.began_at))
        ),
        None => format!("run {} began {}", run.id, ago(run.began_at, now)),
    })
}

fn evidence(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    if !subject.report.state.name().is_up() {
        return None;
    }
    let evidence = subject.evidence?;
    let told = evidence
        .report
        .as_ref()
        .map(|report| format!("its gateway last reported {}", ago(report.taken_at, now)));
    let told = told.unwrap_or_else(|| "its gateway has not reported yet".to_owned());
    Some(match &evidence.error {
        Some(error) => format!("{told}; since then: {error}"),
        None => told,
    })
}

fn rule(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    let timeout = SignedDuration::try_from(subject.session?.idle.timeout).ok()?;
    let rule = format!("it counts as idle after {} without use", span(timeout));
    Some(match subject.report.verdict.as_ref()? {
        Verdict::Active { proof, until } => {
            let turn =
                until.map(|until| format!(", at the earliest {}", when(until, now))).unwrap_or_default();
            format!("in use: {}; {rule}{turn}", seen(proof, now))
        }
        Verdict::Idle { since, evidence } => {
            format!("not in use since {since} ({}): {}; {rule}", ago(*since, now), seen(evidence, now))
        }
        Verdict::Unknown { why } => {
            format!("nobody can say whether it is in use: {why}; that tears nothing down")
        }
    })
}

fn seen(proof: &Proof, now: Timestamp) -> String {
    match proof {
        Proof::OpenFlows { flows: 1 } => "1 connection is open".to_owned(),
        Proof::OpenFlows { flows } => format!("{flows} connections are open"),
        Proof::Data { at } => format!("the last data packet was {}", ago(*at, now)),
        Proof::Handshake { at } => format!("the last handshake was {}", ago(*at, now)),
        Proof::NoDataSinceHandshake { at } => {
            format!("a user connected {} and has sent nothing", ago(*at, now))
        }
        Proof::Renewed { at } => {
            format!("somebody asked for it or changed it {} and nobody has used it since", ago(*at, now))
        }
        Proof::NoHandshake { since } => {
            format!("no user has connected since it became usable {}", ago(*since, now))
        }
    }
}

fn failure(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    let failed = subject.record.last_failure.as_ref()?;
    let (class, times) = (failed.failure.class.as_str(), subject.record.failures);
    Some(format!("last failure {} ({class}, {times} in a row): {}", ago(failed.at, now), failed.failure))
}

fn request(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    let request = subject.record.request.as_ref()?;
    let verb = match request.kind {
        RequestKind::Start => "started",
        RequestKind::Stop => "stopped",
    };
    Some(format!("last {verb} by {} {}", request.by, ago(request.at, now)))
}

fn next(subject: &Subject<'_>, now: Timestamp) -> Option<String> {
    let at = subject.report.next?;
    let up = subject.report.state.name() == StateName::Active;
    let what = if up { "looked at again because time alone could change it" } else { "due next" };
    Some(format!("{what}: {}", when(at, now)))
}

/// `3 m 5 s ago`.
#[must_use]
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let age = now.duration_since(at);
    if age.is_negative() { when(at, now) } else { format!("{} ago", span(age)) }
}

/// `in 3 m 5 s`.
#[must_use]
pub fn when(at: Timestamp, now: Timestamp) -> String {
    let wait = at.duration_since(now);
    if wait.is_positive() { format!("in {}", span(wait)) } else { "now".to_owned() }
}

/// A duration in its two largest units.
#[must_use]
pub fn span(duration: SignedDuration) -> String {
    let millis = duration.unsigned_abs().as_millis();
    let (seconds, minutes, hours, days) =
        (millis / 1000, millis / 60_000, millis / 3_600_000, millis / 86_400_000);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} m", minutes % 60),
        () if minutes > 0 => format!("{minutes} m {} s", seconds % 60),
        () if seconds >= 10 => format!("{seconds} s"),
        () if seconds > 0 => format!("{seconds}.{} s", millis % 1000 / 100),
        () => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        let shown = |millis| span(SignedDuration::from_millis(millis));
        assert_eq!(shown(0), "0 ms");
        assert_eq!(shown(999), "999 ms");
        assert_eq!(shown(1_250), "1.2 s");
        assert_eq!(shown(59_999), "59 s");
        assert_eq!(shown(185_000), "3 m 5 s");
        assert_eq!(shown(3_600_000), "1 h 0 m");
        assert_eq!(shown(90_000_000), "1 d 1 h");
    }

    #[test]
    fn the_future_is_never_ago() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(ago(now + SignedDuration::from_secs(5), now), "in 5.0 s");
        assert_eq!(when(now - SignedDuration::from_secs(5), now), "now");
    }
}
