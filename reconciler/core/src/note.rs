//! Lines of history for people and auditors.

use std::fmt;

use ebb_desired_state::{SessionName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::RunId;
use crate::state::{Rest, State};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// What, from a closed list.
    pub kind: NoteKind,
    /// How it went.
    pub outcome: Outcome,
    /// To which session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionName>,
    /// In which run of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunId>,
    /// By or to whom.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<UserName>,
    /// One sentence, at most 2,000 characters. Never a secret.
    pub message: String,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// As intended.
    Success,
    /// Not as intended.
    Failure,
    /// As intended, but somebody should know.
    Warning,
}

/// The closed list of what can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the serialised names say it")]
pub enum NoteKind {
    #[serde(rename = "vpn.provision.start")]
    ProvisionStart,
    #[serde(rename = "vpn.provision.success")]
    ProvisionSuccess,
    #[serde(rename = "vpn.provision.failure")]
    ProvisionFailure,
    #[serde(rename = "vpn.stop.start")]
    StopStart,
    #[serde(rename = "vpn.stop.success")]
    StopSuccess,
    #[serde(rename = "vpn.stop.failure")]
    StopFailure,
    #[serde(rename = "vpn.configure.failure")]
    ConfigureFailure,
    #[serde(rename = "vpn.connect.success")]
    ConnectSuccess,
    #[serde(rename = "vpn.disconnect")]
    Disconnect,
    #[serde(rename = "vpn.idle.detected")]
    IdleDetected,
    #[serde(rename = "vpn.auto.shutdown")]
    AutoShutdown,
    #[serde(rename = "auth.success")]
    AuthSuccess,
    #[serde(rename = "auth.failure")]
    AuthFailure,
    #[serde(rename = "config.generated")]
    ConfigGenerated,
    #[serde(rename = "config.downloaded")]
    ConfigDownloaded,
    #[serde(rename = "desired.accepted")]
    DesiredAccepted,
    #[serde(rename = "desired.rejected")]
    DesiredRejected,
    #[serde(rename = "drift.detected")]
    DriftDetected,
    #[serde(rename = "operator.suspend")]
    OperatorSuspend,
    #[serde(rename = "operator.resume")]
    OperatorResume,
    #[serde(rename = "operator.detach")]
    OperatorDetach,
    #[serde(rename = "operator.adopt")]
    OperatorAdopt,
}

impl NoteKind {
    /// The name in the API and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ProvisionStart => "vpn.provision.start",
            Self::ProvisionSuccess => "vpn.provision.success",
            Self::ProvisionFailure => "vpn.provision.failure",
            Self::StopStart => "vpn.stop.start",
            Self::StopSuccess => "vpn.stop.success",
            Self::StopFailure => "vpn.stop.failure",
            Self::ConfigureFailure => "vpn.configure.failure",
            Self::ConnectSuccess => "vpn.connect.success",
            Self::Disconnect => "vpn.disconnect",
            Self::IdleDetected => "vpn.idle.detected",
            Self::AutoShutdown => "vpn.auto.shutdown",
            Self::AuthSuccess => "auth.success",
            Self::AuthFailure => "auth.failure",
            Self::ConfigGenerated => "config.generated",
            Self::ConfigDownloaded => "config.downloaded",
            Self::DesiredAccepted => "desired.accepted",
            Self::DesiredRejected => "desired.rejected",
            Self::DriftDetected => "drift.detected",
            Self::OperatorSuspend => "operator.suspend",
            Self::OperatorResume => "operator.resume",
            Self::OperatorDetach => "operator.detach",
            Self::OperatorAdopt => "operator.adopt",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

/// What a transition means for the history, if anything.
#[must_use]
pub fn of_transition(from: &State, to: &State) -> Option<(NoteKind, Outcome, String)> {
    use Outcome::{Failure, Success, Warning};
    match (from, to) {
        (State::Starting | State::Active | State::Idle { .. }, State::Provisioning) => Some((
            NoteKind::ProvisionStart,
            Warning,
            "the gateway has vanished; creating it again with the same keys and addresses".into(),
        )),
        (_, State::Provisioning) => Some((NoteKind::ProvisionStart, Success, "creating a gateway".into())),
        (State::Starting, State::Active) => {
            Some((NoteKind::ProvisionSuccess, Success, "the gateway answers through the tunnel".into()))
        }
        (State::Active, State::Idle { since, .. }) => {
            Some((NoteKind::IdleDetected, Success, format!("no use since {since}")))
        }
        (State::Idle { .. }, State::Terminating { why: Rest::Idle }) => {
            Some((NoteKind::AutoShutdown, Success, "tearing down: nobody used it".into()))
        }
        (_, State::BackingOff { until }) => {
            Some((NoteKind::ProvisionFailure, Failure, format!("the next attempt is due at {until}")))
        }
        (_, State::Terminating { why: Rest::Vanished }) => Some((
            NoteKind::DriftDetected,
            Warning,
            "somebody else removed the gateway; it is left so".into(),
        )),
        (_, State::Terminating { why }) => {
            Some((NoteKind::StopStart, Success, format!("tearing down: {why}")))
        }
        (State::Terminating { .. }, _) => {
            Some((NoteKind::StopSuccess, Success, "the gateway is gone".into()))
        }
        (
            State::Queued { .. }
            | State::Parked { .. }
            | State::BackingOff { .. }
            | State::Suspended
            | State::Provisioning
            | State::Starting
            | State::Active
            | State::Idle { .. },
            _,
        ) => None,
    }
}
