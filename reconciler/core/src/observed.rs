//! What the provider reports.

use std::collections::{BTreeMap, BTreeSet};

use ebb_desired_state::{DeploymentName, Document, Network, Placement, SessionName};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::machine::Presence;
use crate::names::{GatewayName, Generation, Hash, RunId};
use crate::outcome::Failure;
use crate::record::Record;

/// One listing of everything that carries the deployment's mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// When the listing was asked for. What happened after that may be missing from it.
    pub asked_at: Timestamp,
    /// How much older than that the listing may be: nothing for a provider that knows its gateways itself, up to half a minute
    /// for one that answers from a cache, as ARM does.
    pub lag: SignedDuration,
    /// Gateways by name. Whatever another deployment owns is not among them.
    pub gateways: BTreeMap<GatewayName, Gateway>,
    /// Sessions that may have a gateway in a place that could not be looked at, and why not. Nothing is done about them: what
    /// is missing from the listing may exist all the same.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub unseen: BTreeMap<SessionName, Failure>,
    /// Sessions whose gateway exists and cannot be reached because of what the provider keeps between it and its users, a load
    /// balancer for example, and what is wrong with that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub blocked: BTreeMap<SessionName, Failure>,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Whose gateways.
    pub deployment: DeploymentName,
    /// Every session that is declared or remembered, with the places in which it has, had or should have a gateway.
    pub places: BTreeMap<SessionName, BTreeSet<Placement>>,
    /// ARM ids of the load balancers that declared sessions name.
    pub load_balancers: BTreeSet<String>,
}

impl Scope {
    /// Everything that `document` declares and `records` remember.
    #[must_use]
    pub fn of(document: &Document, records: &BTreeMap<SessionName, Record>) -> Self {
        let declared = document.sessions.iter().map(|session| (&session.name, &session.placement));
        let remembered =
            records.iter().filter_map(|(name, record)| Some((name, &record.run.as_ref()?.placement)));
        let mut places: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (name, placement) in declared.chain(remembered) {
            places.entry(name.clone()).or_default().insert(placement.clone());
        }
        let named = document.sessions.iter().filter_map(|session| match &session.network {
            Network::Vnet { load_balancer, .. } => load_balancer.clone(),
            Network::Public => None,
        });
        Self { deployment: document.deployment.clone(), places, load_balancers: named.collect() }
    }
}

/// One gateway at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// From its tags.
    pub session: SessionName,
    /// From its tags.
    pub run: RunId,
    /// From its tags: the session's generation when the run began.
    pub generation: Generation,
    /// From its tags: hash of the template it was created from.
    pub hash: Hash,
    /// What it is doing.
    pub phase: Phase,
    /// Where clients reach it, once that is known.
    pub endpoint: Option<Endpoint>,
}

/// What a gateway is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum Phase {
    /// Being created.
    Creating,
    /// Running.
    Running,
    /// Ended by itself.
    Exited {
        /// Exit status; `None` when the provider does not say.
        status: Option<i32>,
    },
    /// The provider gave up on it. It may still bill.
    Failed {
        /// What the provider says.
        message: String,
    },
    /// Being deleted.
    Deleting,
    /// A word that this Ebb does not know. Nothing is done about such a gateway except waiting.
    Other {
        /// The word.
        word: String,
    },
}

/// Where clients reach a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// A DNS name that survives the gateway where the provider has one, else an IP address.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    /// In the form of a WireGuard configuration: an IPv6 address stands in brackets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Gateway {
    /// The gateway's phase as the session machine knows it. `None` for a phase that says nothing.
    #[must_use]
    pub fn presence(&self) -> Option<Presence> {
        match &self.phase {
            Phase::Creating => Some(Presence::Creating),
            Phase::Running if self.endpoint.is_some() => Some(Presence::Running),
            Phase::Running => Some(Presence::Creating),
            Phase::Exited { status: Some(0) } => Some(Presence::Ended),
            Phase::Exited { .. } | Phase::Failed { .. } => Some(Presence::Broken),
            Phase::Deleting => Some(Presence::Deleting),
            Phase::Other { .. } => None,
        }
    }
}
