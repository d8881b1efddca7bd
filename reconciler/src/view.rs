//! What people and programs see of the daemon: the JSON of the API, which the command line reads too.

use ebb_core::condition::Condition;
use ebb_core::demand;
use ebb_core::explain::{Subject, explain};
use ebb_core::idle::Verdict;
use ebb_core::plan::SessionReport;
use ebb_core::record::Record;
use ebb_core::spec::Users as _;
use ebb_core::state::{State, StateName};
use ebb_desired_state::{Session, SessionName, User, UserName};
use ebb_wire::PublicKey;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::client_config;
use crate::deployment;
use crate::engine::Snapshot;

/// A handshake older than this belongs to a session that WireGuard itself considers over (`REJECT_AFTER_TIME`, WireGuard
/// paper, section 6.1).
const CONNECTED_WITHIN: SignedDuration = SignedDuration::from_secs(180);

/// The deployment as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// When this was true.
    pub at: Timestamp,
    /// Name of the deployment; `None` until a document was accepted.
    pub deployment: Option<String>,
    /// Revision in force.
    pub revision: Option<String>,
    /// Where the document comes from.
    pub source: String,
    /// When the revision was accepted.
    pub accepted_at: Option<Timestamp>,
    /// Counts the documents that were taken into force; zero before the first.
    #[serde(default)]
    pub generation: u64,
    /// The newest version that the source had, in force or not.
    #[serde(default)]
    pub seen: Option<String>,
    /// The newest request to reconcile that has been handled; see `ebb reconcile`.
    #[serde(default)]
    pub handled_at: Option<Timestamp>,
    /// Facts about the deployment as a whole that programs can wait for.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What is wrong with the newest version of the document, the provider or the store. Empty when all is well.
    pub problems: Vec<String>,
    /// Teardowns that wait for approval.
    pub held_teardowns: usize,
    /// Every session that is declared or remembered.
    pub sessions: Vec<SessionView>,
}

/// One session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// Its name.
    pub session: SessionName,
    /// Where it is.
    #[serde(flatten)]
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Generation of its spec.
    pub generation: u64,
    /// Where its gateway runs.
    pub region: Option<String>,
    /// Where clients reach it.
    pub endpoint: Option<String>,
    /// Its run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
    /// Who may use it.
    pub users: Vec<UserView>,
    /// What the evidence says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verdict: Option<Verdict>,
    /// Facts that programs can wait for.
    pub conditions: Vec<Condition>,
    /// When something changes by the passing of time alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Timestamp>,
    /// Why it is where it is.
    pub because: Vec<String>,
}

/// One user of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    /// Who.
    pub user: UserName,
    /// Addresses inside the tunnel.
    pub addresses: Vec<std::net::IpAddr>,
    /// The key, once there is one.
    pub public_key: Option<PublicKey>,
    /// Whether the last handshake is recent enough for the client to be connected.
    pub connected: bool,
    /// The last handshake.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handshake_at: Option<Timestamp>,
    /// The last data packet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_at: Option<Timestamp>,
    /// Bytes from the user in this run.
    pub received_bytes: u64,
    /// Bytes to the user in this run.
    pub sent_bytes: u64,
}

impl SessionView {
    /// The state's name.
    #[must_use]
    pub fn state_name(&self) -> StateName {
        self.state.name()
    }
}

/// Shows the deployment.
#[must_use]
pub fn status(snapshot: &Snapshot) -> StatusView {
    let document = snapshot.desired.as_ref().map(|desired| &desired.document);
    StatusView {
        at: snapshot.at,
        deployment: document.map(|document| document.deployment.to_string()),
        revision: snapshot.desired.as_ref().map(|desired| desired.revision.to_string()),
        source: snapshot.source.origin.clone(),
        accepted_at: snapshot.source.accepted_at,
        generation: snapshot.source.generation,
        seen: snapshot.source.seen.as_ref().map(ToString::to_string),
        handled_at: snapshot.source.handled_at,
        conditions: deployment::conditions(snapshot),
        problems: [&snapshot.source.error, &snapshot.provider_error, &snapshot.store_error]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        held_teardowns: snapshot.report.as_ref().map_or(0, |report| report.held_teardowns),
        sessions: snapshot.records.values().filter_map(|record| of_record(snapshot, record)).collect(),
    }
}

/// Shows one session.
#[must_use]
pub fn session(snapshot: &Snapshot, name: &SessionName) -> Option<SessionView> {
    of_record(snapshot, snapshot.records.get(name)?)
}

fn of_record(snapshot: &Snapshot, record: &Record) -> Option<SessionView> {
    let report = snapshot.report.as_ref()?.sessions.get(&record.session)?;
    let declared = snapshot.desired.as_ref().and_then(|desired| desired.document.session(&record.session));
    let gateway = snapshot.gateway(&record.session);
    let users = declared.map(|session| users(snapshot, session, record)).unwrap_or_default();
    Some(SessionView {
        session: record.session.clone(),
        state: report.state.clone(),
        since: report.since,
        generation: record.generation.0,
        region: declared.map(|session| session.region.clone()),
        endpoint: gateway.and_then(|gateway| gateway.endpoint.as_ref()).map(ToString::to_string),
        session_id: record.run.as_ref().map(|run| run.id.to_string()),
        users,
        verdict: report.verdict.clone(),
        conditions: report.conditions.clone(),
        next: report.next,
        because: because(snapshot, declared, record, report),
    })
}

fn because(
    snapshot: &Snapshot,
    declared: Option<&Session>,
    record: &Record,
    report: &SessionReport,
) -> Vec<String> {
    if !snapshot.leads(&record.session) {
        let message =
            "another daemon of this deployment takes care of it; this one shows what is written down";
        return vec![message.to_owned()];
    }
    let document = snapshot.desired.as_ref().map(|desired| &desired.document);
    let suspension =
        document.zip(declared).and_then(|(document, s)| demand::suspension(document, s, record, snapshot.at));
    let evidence = snapshot.evidence.get(&record.session);
    explain(&Subject { session: declared, suspension, record, report, evidence }, snapshot.at)
}

fn users(snapshot: &Snapshot, session: &Session, record: &Record) -> Vec<UserView> {
    let Some(desired) = &snapshot.desired else { return Vec::new() };
    let declared = session.users.iter().filter_map(|name| desired.user(name));
    declared.map(|user| of_user(snapshot, session, record, user)).collect()
}

fn of_user(snapshot: &Snapshot, session: &Session, record: &Record, user: &User) -> UserView {
    let public_key = snapshot.keys.user(user);
    let report = snapshot.evidence.get(&session.name).and_then(|evidence| evidence.report.as_ref());
    let peer = report.and_then(|report| report.peers.get(&public_key?));
    let host = record.hosts.get(&user.name);
    let handshake_at = peer.and_then(|peer| peer.handshake_at);
    UserView {
        user: user.name.clone(),
        addresses: host.map(|host| client_config::addresses(session, *host).to_vec()).unwrap_or_default(),
        public_key,
        connected: handshake_at.is_some_and(|at| snapshot.at.duration_since(at) < CONNECTED_WITHIN),
        handshake_at,
        data_at: peer.and_then(|peer| peer.data_at),
        received_bytes: peer.map_or(0, |peer| peer.received_bytes),
        sent_bytes: peer.map_or(0, |peer| peer.sent_bytes),
    }
}

#[cfg(test)]
mod tests {
    use ebb_core::state::{Rest, Wait};

    use super::*;

    #[test]
    fn every_state_can_be_read_back_from_a_view() {
        let at = Timestamp::UNIX_EPOCH;
        let states = [
            State::Queued { wait: Wait::Users { active: 1, adds: 2, limit: 3 } },
            State::Parked { why: Rest::Superseded { by: "other".parse().unwrap() } },
            State::BackingOff { until: at },
            State::Suspended,
            State::Provisioning,
            State::Terminating { why: Rest::Idle },
            State::Starting,
            State::Active,
            State::Idle { since: at, deadline: at },
        ];
        assert_eq!(states.clone().map(|state| state.name()), StateName::ALL);
        for state in states {
            let view = SessionView {
                session: "home".parse().unwrap(),
                state: state.clone(),
                since: at,
                generation: 1,
                region: None,
                endpoint: None,
                session_id: None,
                users: Vec::new(),
                verdict: None,
                conditions: Vec::new(),
                next: None,
                because: Vec::new(),
            };
            let json = serde_json::to_string(&view).unwrap();
            let read: SessionView =
                serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
            assert_eq!(read.state, state);
        }
    }
}
