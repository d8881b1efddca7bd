//! Where a session is, and why it is there.
//!
//! This is the form that is stored and shown. The machine that moves between the states is in [`crate::machine`].

use std::fmt;

use ebb_desired_state::{SessionName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A session's state. The three groups are superstates of the machine: *down* (nothing may exist at the provider), *moving*
/// and *up* (a gateway must exist).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum State {
    /// Down: wanted, but something has to become free first.
    Queued {
        /// What it waits for.
        wait: Wait,
    },
    /// Down: declared, but resting.
    Parked {
        /// Why it rests.
        why: Rest,
    },
    /// Down: the last attempts failed.
    BackingOff {
        /// When the next attempt is due.
        until: Timestamp,
    },
    /// Down: an operator suspended it.
    Suspended,
    /// Moving: the provider was or will be asked for a gateway.
    Provisioning,
    /// Moving: the provider was or will be asked to delete the gateway. Ends only when the provider says that it is gone.
    Terminating {
        /// Why it goes.
        why: Rest,
    },
    /// Up: the gateway runs; the daemon's own handshake through the tunnel is missing.
    Starting,
    /// Up: usable.
    Active,
    /// Up: silent for the idle timeout, in its grace period.
    Idle {
        /// Since when nothing was heard. Views show a state beside the time since when it holds, so the names differ.
        #[serde(rename = "silentSince")]
        since: Timestamp,
        /// End of the grace period.
        deadline: Timestamp,
    },
}

/// The name of a state without its data; the closed list that metrics and the API use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is a variant of State")]
pub enum StateName {
    Queued,
    Parked,
    BackingOff,
    Suspended,
    Provisioning,
    Terminating,
    Starting,
    Active,
    Idle,
}

impl StateName {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Parked,
        Self::BackingOff,
        Self::Suspended,
        Self::Provisioning,
        Self::Terminating,
        Self::Starting,
        Self::Active,
        Self::Idle,
    ];

    /// The name in snake case, as in metrics and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Parked => "parked",
            Self::BackingOff => "backing_off",
            Self::Suspended => "suspended",
            Self::Provisioning => "provisioning",
            Self::Terminating => "terminating",
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Idle => "idle",
        }
    }

    /// Whether a gateway must exist.
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Starting | Self::Active | Self::Idle)
    }

    /// Whether nothing may exist at the provider.
    #[must_use]
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Queued | Self::Parked | Self::BackingOff | Self::Suspended)
    }

    /// Whether the session occupies a slot: it bills, or is about to, or has not surely stopped to.
    #[must_use]
    pub const fn holds_slot(self) -> bool {
        !self.is_down()
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl State {
    /// The state's name.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Queued { .. } => StateName::Queued,
            Self::Parked { .. } => StateName::Parked,
            Self::BackingOff { .. } => StateName::BackingOff,
            Self::Suspended => StateName::Suspended,
            Self::Provisioning => StateName::Provisioning,
            Self::Terminating { .. } => StateName::Terminating,
            Self::Starting => StateName::Starting,
            Self::Active => StateName::Active,
            Self::Idle { .. } => StateName::Idle,
        }
    }
}

/// What a queued session waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "camelCase")]
pub enum Wait {
    /// Its turn in this pass.
    Turn,
    /// `limits.activeSessions` is reached.
    Sessions {
        /// The limit.
        limit: u32,
    },
    /// `limits.activeUsers` is reached.
    Users {
        /// Users of running sessions.
        active: u32,
        /// Users that this session would add.
        adds: u32,
        /// The limit.
        limit: u32,
    },
    /// One of its users has another session; a user has one at a time.
    User {
        /// Who.
        user: UserName,
        /// Which session the user has.
        session: SessionName,
    },
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Turn => f.write_str("its turn in the next pass"),
            Self::Sessions { limit } => {
                write!(f, "one of {limit} running sessions to end (limits.activeSessions)")
            }
            Self::Users { active, adds, limit } => write!(
                f,
                "room for {adds} more user{}: {active} of {limit} are taken (limits.activeUsers)",
                if *adds == 1 { "" } else { "s" }
            ),
            Self::User { user, session } => {
                write!(f, "{user}'s other session {session} to end (one session per user at a time)")
            }
        }
    }
}

/// Why a session rests or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "camelCase")]
pub enum Rest {
    /// Nobody used it for its idle timeout.
    Idle,
    /// Somebody stopped it.
    Stopped,
    /// It ran for its `maxLifetime`.
    MaxLifetime,
    /// Its `until` has passed.
    Ended,
    /// Its `schedule` is closed.
    ScheduleClosed,
    /// None of its users is still entitled.
    NoUsers,
    /// A newer session of its users replaced it while it was provisioning.
    Superseded {
        /// The newer session.
        by: SessionName,
    },
    /// Its gateway ended itself because it heard of nobody for its lease time.
    LeaseEnded,
    /// Somebody else removed its gateway, and the document says to leave that so.
    Vanished,
    /// An operator suspended it.
    Suspended,
    /// The document does not have it.
    Removed,
    /// The document wants another gateway for it.
    SpecChanged,
    /// The gateway failed.
    Failed,
}

impl Rest {
    /// One word, as in metrics and events.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::MaxLifetime => "max_lifetime",
            Self::Ended => "ended",
            Self::ScheduleClosed => "schedule_closed",
            Self::NoUsers => "no_users",
            Self::Superseded { .. } => "superseded",
            Self::LeaseEnded => "lease_ended",
            Self::Vanished => "vanished",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
            Self::SpecChanged => "spec_changed",
            Self::Failed => "failed",
        }
    }

    /// Whether the rest outlasts its cause: an idle session does not start again just because nobody is idle in it.
    /// It ends by a changed spec, a new `wake` value, an opening schedule or a start.
    #[must_use]
    pub const fn latches(&self) -> bool {
        match self {
            Self::Idle
            | Self::Stopped
            | Self::MaxLifetime
            | Self::Superseded { .. }
            | Self::LeaseEnded
            | Self::Vanished => true,
            Self::Ended
            | Self::ScheduleClosed
            | Self::NoUsers
            | Self::Suspended
            | Self::Removed
            | Self::SpecChanged
            | Self::Failed => false,
        }
    }

    /// Whether only an edit of the document can ask for it, so that the mass-teardown limit applies.
    #[must_use]
    pub const fn is_edit(&self) -> bool {
        match self {
            Self::Removed | Self::SpecChanged => true,
            Self::Idle
            | Self::Stopped
            | Self::MaxLifetime
            | Self::Ended
            | Self::ScheduleClosed
            | Self::NoUsers
            | Self::Superseded { .. }
            | Self::LeaseEnded
            | Self::Vanished
            | Self::Suspended
            | Self::Failed => false,
        }
    }

    /// Whether it comes with time, unless an edit of the document moved that time into the past.
    #[must_use]
    pub const fn is_dated(&self) -> bool {
        match self {
            Self::Ended | Self::ScheduleClosed | Self::NoUsers => true,
            Self::Removed
            | Self::SpecChanged
            | Self::Idle
            | Self::Stopped
            | Self::MaxLifetime
            | Self::Superseded { .. }
            | Self::LeaseEnded
            | Self::Vanished
            | Self::Suspended
            | Self::Failed => false,
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("nobody used it"),
            Self::Stopped => f.write_str("somebody stopped it"),
            Self::MaxLifetime => f.write_str("it ran for its maxLifetime"),
            Self::Ended => f.write_str("its `until` has passed"),
            Self::ScheduleClosed => f.write_str("its schedule is closed"),
            Self::NoUsers => f.write_str("none of its users is entitled any more"),
            Self::Superseded { by } => write!(f, "session {by} of the same user replaced it"),
            Self::LeaseEnded => {
                f.write_str("its gateway heard of nobody for its lease time and ended itself")
            }
            Self::Vanished => {
                f.write_str("somebody else removed its gateway, which `drift` says to leave so")
            }
            Self::Suspended => f.write_str("an operator suspended it"),
            Self::Removed => f.write_str("the document no longer has it"),
            Self::SpecChanged => f.write_str("the document wants another gateway for it"),
            Self::Failed => f.write_str("its gateway failed"),
        }
    }
}
