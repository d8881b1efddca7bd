//! What a pass decided to do, as plain data.

use std::fmt;

use ebb_desired_state::{SessionName, UserName};
use ebb_wire::Live;
use serde::{Deserialize, Serialize};

use crate::ended::EndedRun;
use crate::names::{GatewayName, RunId};
use crate::note::Note;
use crate::record::Record;
use crate::spec::GatewaySpec;
use crate::state::Rest;

/// Everything one pass decided. Steps of different sessions are independent of each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan {
    /// One step for each session that needs anything.
    pub steps: Vec<Step>,
}

/// What to do for one session, in this order, up to the first failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// For which session.
    pub session: SessionName,
    /// What.
    pub actions: Vec<Action>,
}

/// One thing to do. Each may be repeated without harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Make the key pairs that are missing; keep those that exist.
    EnsureKeys {
        /// Whether the session's gateway needs one.
        gateway: bool,
        /// Users who need one.
        users: Vec<UserName>,
    },
    /// Write the record. It comes before what it announces, so that a crash in between is noticed.
    Store {
        /// What to write.
        record: Box<Record>,
        /// The run that has ended with this change, to be kept in the same transaction.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ended: Option<Box<EndedRun>>,
    },
    /// Remove the record. The session is not declared and the provider has nothing of it.
    Forget {
        /// The run that has ended with it, to be kept in the same transaction.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ended: Option<Box<EndedRun>>,
    },
    /// Create the gateway, unless one of this name and hash exists.
    Create {
        /// What to create.
        spec: Box<GatewaySpec>,
    },
    /// Delete the gateway, provided that it is still of this run.
    Delete {
        /// Which.
        name: GatewayName,
        /// The run that is meant; a gateway of another run is left alone.
        run: RunId,
        /// Why.
        why: Rest,
    },
    /// Send the gateway its peers, routes and names.
    Configure {
        /// All of them.
        live: Live,
    },
    /// Write a line of history.
    Note {
        /// What happened.
        note: Note,
    },
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// All actions, in order.
    pub fn actions(&self) -> impl Iterator<Item = (&SessionName, &Action)> {
        self.steps.iter().flat_map(|step| step.actions.iter().map(|action| (&step.session, action)))
    }
}

impl Action {
    /// Whether it only writes down what is decided elsewhere.
    #[must_use]
    pub const fn is_bookkeeping(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Forget { .. } | Self::Note { .. } => true,
            Self::EnsureKeys { .. } | Self::Create { .. } | Self::Delete { .. } | Self::Configure { .. } => {
                false
            }
        }
    }

    /// One word, as in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EnsureKeys { .. } => "ensure_keys",
            Self::Store { .. } => "store",
            Self::Forget { .. } => "forget",
            Self::Create { .. } => "create",
            Self::Delete { .. } => "delete",
            Self::Configure { .. } => "configure",
            Self::Note { .. } => "note",
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to do\n");
        }
        for step in &self.steps {
            writeln!(f, "{}", step.session)?;
            for action in &step.actions {
                writeln!(f, "  {action}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnsureKeys { gateway, users } => {
                let gateway = gateway.then_some("the gateway");
                let owners: Vec<_> = gateway.into_iter().chain(users.iter().map(UserName::as_str)).collect();
                write!(f, "make keys for {}", owners.join(", "))
            }
            Self::Store { record, .. } => {
                write!(f, "remember: {} (generation {})", record.state.name(), record.generation)
            }
            Self::Forget { .. } => f.write_str("forget the session"),
            Self::Create { spec } => write!(
                f,
                "create {} in {}: {} CPU, {} GiB, port {}/udp",
                spec.name,
                spec.template.region,
                spec.template.size.cpu,
                spec.template.size.memory_gib,
                spec.template.port
            ),
            Self::Delete { name, why, .. } => write!(f, "delete {name}: {why}"),
            Self::Configure { live } => {
                let names: Vec<_> = live.peers.iter().map(|peer| peer.name.as_str()).collect();
                let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
                write!(f, "configure peers: {names}")
            }
            Self::Note { note } => write!(f, "note: {note}"),
        }
    }
}
