//! Facts about a session in the form that Kubernetes users know.

use serde::{Deserialize, Serialize};

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What the fact is about.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: Status,
    /// One word in CamelCase, from [`reasons`] or the name of an error class.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

/// What conditions exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionKind {
    /// Users can connect.
    Ready,
    /// Whether the session is in use is known.
    TelemetryKnown,
    /// The gateway has the peers, routes and names it should have.
    Configured,
    /// The last attempt to do something for the session succeeded.
    Progressing,
    /// A teardown waits for `ebb approve`.
    TeardownHeld,
    /// It is known what the provider has for the session.
    ProviderKnown,
    /// What the gateway says through its tunnel and what it logs tell one story.
    EvidenceAgrees,
}

impl ConditionKind {
    /// The name of the condition.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::TelemetryKnown => "TelemetryKnown",
            Self::Configured => "Configured",
            Self::Progressing => "Progressing",
            Self::TeardownHeld => "TeardownHeld",
            Self::ProviderKnown => "ProviderKnown",
            Self::EvidenceAgrees => "EvidenceAgrees",
        }
    }
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

/// Reasons that are not the name of an error class.
pub mod reasons {
    /// The session is up and configured.
    pub const USABLE: &str = "Usable";
    /// The gateway has what it should have.
    pub const IN_STEP: &str = "InStep";
    /// The gateway has not confirmed what it should have.
    pub const OUT_OF_STEP: &str = "OutOfStep";
    /// Fresh evidence is there.
    pub const FRESH: &str = "Fresh";
    /// No report at all.
    pub const NO_TELEMETRY: &str = "NoTelemetry";
    /// The last report is too old.
    pub const STALE: &str = "Stale";
    /// The clock was set back.
    pub const CLOCK_JUMP: &str = "ClockJump";
    /// The gateway restarted.
    pub const RESTARTED: &str = "Restarted";
    /// The log shows that the gateway lives; through the tunnel it cannot be reached.
    pub const TUNNEL_UNREACHABLE: &str = "TunnelUnreachable";
    /// Two reports exclude each other.
    pub const CONTRADICTION: &str = "Contradiction";
    /// More teardowns at once than `limits.maxTeardownsPerPass`.
    pub const TOO_MANY_TEARDOWNS: &str = "TooManyTeardowns";
    /// A key is missing.
    pub const KEYS_MISSING: &str = "KeysMissing";
}

impl Condition {
    /// A condition.
    #[must_use]
    pub fn new(kind: ConditionKind, status: Status, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, status, reason: reason.to_owned(), message: message.into() }
    }

    /// Whether somebody should look at it: it is not as it should be, and not merely because the session is down on purpose.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        match self.kind {
            ConditionKind::TeardownHeld => self.status == Status::True,
            ConditionKind::TelemetryKnown
            | ConditionKind::Progressing
            | ConditionKind::ProviderKnown
            | ConditionKind::EvidenceAgrees => self.status != Status::True,
            ConditionKind::Ready | ConditionKind::Configured => false,
        }
    }
}
