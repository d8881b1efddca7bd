//! Runs that have ended, as they are kept for people.

use ebb_desired_state::SessionName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::evidence::Report;
use crate::names::{Generation, RunId};
use crate::record::{Failed, Record, Run};
use crate::state::{Rest, State};

/// Characters of a message that are kept, as of a line of history.
const LONGEST_MESSAGE: usize = 2000;

/// What is remembered of a run after its end. An attempt whose create the provider refused is no run that ended: it is a line of
/// history, and the record's last failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedRun {
    /// Whose run it was.
    pub session: SessionName,
    /// Its id.
    pub run: RunId,
    /// The generation it was begun for.
    pub generation: Generation,
    /// Where its gateway ran; `None` when it was found, not created, and nobody remembers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    /// When the session decided to provision.
    pub began_at: Timestamp,
    /// When the provider accepted the create; `None` when it was never heard to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created_at: Option<Timestamp>,
    /// When the gateway became usable; `None` when it never did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub active_at: Option<Timestamp>,
    /// When the provider was known to have nothing of it left.
    pub ended_at: Timestamp,
    /// Why it ended, in one word: those of [`Rest::as_str`].
    pub reason: String,
    /// The same in one sentence of at most 2,000 characters. Never a secret.
    pub message: String,
    /// How it was used, as last observed; `None` when the daemon that saw it end had no report of its gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used: Option<Used>,
}

/// How a run was used, in the last report of its gateway. A gateway that was restarted by itself has counted from zero again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// When that report was taken.
    pub observed_at: Timestamp,
    /// The newest handshake of any user; `None` when there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_handshake: Option<Timestamp>,
    /// Bytes from all users.
    pub received_bytes: u64,
    /// Bytes to all users.
    pub sent_bytes: u64,
}

impl EndedRun {
    /// The run of `record`, which has left the state `from` and with it has ended.
    pub(crate) fn of(
        record: &Record,
        run: &Run,
        from: &State,
        report: Option<&Report>,
        now: Timestamp,
    ) -> Self {
        let (reason, message) = end(record, from);
        Self {
            session: record.session.clone(),
            run: run.id.clone(),
            generation: run.generation,
            region: run.region.clone(),
            began_at: run.began_at,
            created_at: run.created_at,
            active_at: run.active_at,
            ended_at: now,
            reason: reason.to_owned(),
            message: message.chars().take(LONGEST_MESSAGE).collect(),
            used: report.map(Used::of),
        }
    }

    /// How long it lasted, from the decision to provision to its end.
    #[must_use]
    pub fn lasted(&self) -> SignedDuration {
        self.ended_at.duration_since(self.began_at)
    }
}

impl Used {
    fn of(report: &Report) -> Self {
        Self {
            observed_at: report.taken_at,
            last_handshake: report.last_handshake(),
            received_bytes: report.peers.values().map(|peer| peer.received_bytes).sum(),
            sent_bytes: report.peers.values().map(|peer| peer.sent_bytes).sum(),
        }
    }
}

fn end(record: &Record, from: &State) -> (&'static str, String) {
    let State::Terminating { why } = from else {
        let message = "the gateway vanished, and another run took its place".to_owned();
        return (Rest::Vanished.as_str(), message);
    };
    // A later failure is one of the teardown.
    let failed = |failed: &&Failed| *why == Rest::Failed && failed.at <= record.since;
    let message = match record.last_failure.as_ref().filter(failed) {
        Some(failed) => failed.failure.to_string(),
        None => why.to_string(),
    };
    (why.as_str(), message)
}
