//! The promises, and where they were broken.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ebb_core::plan::Revision;
use ebb_desired_state::SessionName;
use jiff::Timestamp;

/// A promise. The letters are those of the table of promises in the project's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// P1: after the last fault the world comes to match the document and stays so.
    Converges,
    /// P2: what matches is left alone.
    SteadyState,
    /// P4: a session never has two groups.
    OneGateway,
    /// P5: nothing is forgotten before it is gone, and nothing stays that is not wanted.
    NoLeak,
    /// P6: what is not ours is never touched.
    Foreign,
    /// P7: only a session that was really silent for its whole timeout is torn down as idle.
    Silence,
    /// P8: an idle session is gone soon after its timeout.
    IdleEnds,
    /// P9: a session that has just started waits for its first user.
    FirstHandshake,
    /// P10: a document that is none changes nothing.
    BadInput,
    /// P11: generations never go back.
    Generation,
    /// P12: a listing from the past makes nobody give up a gateway that runs.
    StaleReads,
    /// P13: one session's trouble is not another's; one step of a session at a time.
    Serial,
    /// P14: calls that fail are not repeated without a pause.
    Budget,
    /// P20: a session is said to be down only when nothing of it is there.
    Honest,
    /// More teardowns by one edit than the limit wait for approval.
    MassTeardown,
    /// No session begins beyond the limits.
    Capacity,
    /// No session begins while one of its users has another.
    OneSession,
    /// Readiness is a handshake with this run's gateway.
    Ready,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, in truth.
    pub at: Timestamp,
    /// Which promise.
    pub rule: Rule,
    /// How.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.at, self.rule, self.message)
    }
}

/// What the judges remember.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Broken promises, in order.
    pub violations: Vec<Violation>,
    /// Listings are current and deletes are final, so that the sharper form of some promises applies.
    pub strict: bool,
    /// The daemon's clock was set, so that promises about its own times do not apply.
    pub clock_jumped: bool,
    /// Somebody other than the daemon has disturbed groups, so that a gateway may vanish under it.
    pub disturbed: BTreeSet<SessionName>,
    pub(super) last_valid: Option<Revision>,
    pub(super) guarded: Option<(Revision, BTreeSet<SessionName>)>,
    pub(super) usable_since: BTreeMap<SessionName, Timestamp>,
    pub(super) generations: BTreeMap<SessionName, u64>,
}

impl Oracle {
    /// Forgets what is known of records, because the store has lost them.
    pub fn forget(&mut self) {
        self.generations.clear();
        self.guarded = None;
    }

    /// Whether `rule` was broken.
    #[must_use]
    pub fn caught(&self, rule: Rule) -> bool {
        self.violations.iter().any(|violation| violation.rule == rule)
    }
}
