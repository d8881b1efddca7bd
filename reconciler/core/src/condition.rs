//! Facts about a session in the form that Kubernetes users know.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the fact is about.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: Status,
    /// One word in CamelCase, from [`reasons`] or the name of an error class.
    pub reason: Cow<'static, str>,
    /// One sentence for people.
    pub message: Cow<'static, str>,
    /// The generation that the fact is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub observed_generation: Option<u64>,
}

/// What conditions exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionKind {
    /// Of a session: users can connect. Of the deployment: everything is as the newest document wants it.
    Ready,
    /// Whether the session is in use is known.
    TelemetryKnown,
    /// The gateway has the peers, routes and names it should have.
    Configured,
    /// The last attempt to do something for the session succeeded.
    Progressing,
    /// A teardown waits for `ebb approve`.
    TeardownHeld,
    /// Somebody else changed or removed the gateway.
    Drifted,
    /// Somebody took the session out of Ebb's hands.
    Detached,
    /// Of the deployment: the newest version of the document is the one in force.
    DocumentAccepted,
    /// Of the deployment: the version in force carries a signature that is trusted.
    SourceVerified,
    /// It is known what the provider has for the session.
    ProviderKnown,
    /// What the provider keeps between users and the gateway, such as a load balancer, leads to it.
    Connected,
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
            Self::Drifted => "Drifted",
            Self::Detached => "Detached",
            Self::DocumentAccepted => "DocumentAccepted",
            Self::SourceVerified => "SourceVerified",
            Self::ProviderKnown => "ProviderKnown",
            Self::Connected => "Connected",
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
    /// A gateway is gone that nobody here removed.
    pub const VANISHED: &str = "Vanished";
    /// A gateway is not as it was made.
    pub const CHANGED: &str = "Changed";
    /// An operator decided it.
    pub const BY_OPERATOR: &str = "ByOperator";
}

impl Condition {
    /// A condition.
    #[must_use]
    pub fn new(
        kind: ConditionKind,
        status: Status,
        reason: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, status, reason: reason.into(), message: message.into(), observed_generation: None }
    }

    /// The same about a generation.
    #[must_use]
    pub fn observing(self, generation: u64) -> Self {
        Self { observed_generation: Some(generation), ..self }
    }

    /// Whether somebody should look at it: it is not as it should be, and not merely because the session is down on purpose.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        match self.kind {
            ConditionKind::TeardownHeld | ConditionKind::Drifted | ConditionKind::Detached => {
                self.status == Status::True
            }
            ConditionKind::TelemetryKnown
            | ConditionKind::Progressing
            | ConditionKind::DocumentAccepted
            | ConditionKind::SourceVerified
            | ConditionKind::ProviderKnown
            | ConditionKind::Connected
            | ConditionKind::EvidenceAgrees => self.status != Status::True,
            ConditionKind::Ready | ConditionKind::Configured => false,
        }
    }
}
