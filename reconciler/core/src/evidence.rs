//! What is known about a gateway's use, and how old the knowledge is.

use std::collections::BTreeMap;

use ebb_wire::{Digest, PublicKey, Telemetry};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::condition::reasons;
use crate::names::RunId;

/// What the daemon knows of one gateway from talking to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The run it is about; what is known of an earlier run says nothing of the present one.
    pub run: RunId,
    /// When the daemon's own handshake with the gateway last succeeded.
    pub handshake_at: Option<Timestamp>,
    /// The newest report, from whichever place it came.
    pub report: Option<Report>,
    /// The newest one from the other place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub other: Option<Report>,
    /// Why the last attempt to reach the gateway through the tunnel failed, if it did.
    pub error: Option<String>,
}

impl Evidence {
    /// Nothing is known of `run` yet.
    #[must_use]
    pub fn none(run: RunId) -> Self {
        Self { run, handshake_at: None, report: None, other: None, error: None }
    }

    /// Takes up a report. One that is older than what is known from the same place says nothing.
    pub fn take(&mut self, report: Report) {
        let place = report.place;
        let known = [self.report.take(), self.other.take()].into_iter().flatten();
        let (same, other): (Vec<_>, Vec<_>) = known.partition(|known| known.place == place);
        let same = same.into_iter().chain([report]).max_by_key(|report| report.taken_at);
        let mut newest_first: Vec<_> = same.into_iter().chain(other).collect();
        newest_first.sort_by_key(|report| std::cmp::Reverse(report.taken_at));
        let mut reports = newest_first.into_iter();
        (self.report, self.other) = (reports.next(), reports.next());
    }

    /// In what the two places exclude each other, if they do.
    #[must_use]
    pub fn disagreement(&self) -> Option<Disagreement> {
        let newest = self.report.as_ref()?;
        if let Some(contradiction) = self.other.as_ref().and_then(|other| contradiction(newest, other)) {
            return Some(contradiction);
        }
        match (newest.place, &self.error) {
            (Place::Logs, Some(error)) => {
                Some(Disagreement::Unreachable { logged_at: newest.taken_at, error: error.clone() })
            }
            (Place::Logs | Place::Tunnel, _) => None,
        }
    }
}

/// How the tunnel and the log can disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disagreement {
    /// The log shows that the gateway lives, and it does not answer through its tunnel.
    Unreachable {
        /// Time of the line.
        logged_at: Timestamp,
        /// Why it cannot be reached.
        error: String,
    },
    /// While one gateway ran, another one wrote to the log.
    TwoGateways {
        /// Time of the other's line.
        logged_at: Timestamp,
    },
    /// A counter of one gateway went down.
    Rewound,
}

impl Disagreement {
    /// One word, as in conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => reasons::TUNNEL_UNREACHABLE,
            Self::TwoGateways { .. } | Self::Rewound => reasons::CONTRADICTION,
        }
    }
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable { logged_at, error } => write!(
                f,
                "the gateway wrote to its log at {logged_at} and does not answer through its tunnel ({error}): \
                 something between the daemon and the gateway drops UDP, or its address has changed"
            ),
            Self::TwoGateways { logged_at } => write!(
                f,
                "another gateway wrote to the log at {logged_at} while the one in the tunnel ran: \
                 two gateways run under one name; look for a second container and end it"
            ),
            Self::Rewound => f.write_str(
                "the log and the tunnel report different traffic for the same moment: \
                 one of them is not from this gateway",
            ),
        }
    }
}

/// Log lines carry the gateway's wall clock; clocks that agree better than this count as agreeing.
const CLOCKS_AGREE: SignedDuration = SignedDuration::from_mins(1);

fn contradiction(one: &Report, two: &Report) -> Option<Disagreement> {
    let (tunnel, log) = if one.place == Place::Tunnel { (one, two) } else { (two, one) };
    if tunnel.boot != log.boot {
        let began = tunnel.started_at.checked_add(CLOCKS_AGREE).unwrap_or(Timestamp::MAX);
        let during = began < log.taken_at && log.taken_at < tunnel.taken_at;
        return during.then_some(Disagreement::TwoGateways { logged_at: log.taken_at });
    }
    // On the gateway's own clock, which both quote.
    let uptime = |report: &Report| report.taken_at.duration_since(report.started_at);
    let (earlier, later) = if uptime(tunnel) < uptime(log) { (tunnel, log) } else { (log, tunnel) };
    let rewound = later.peers.iter().any(|(key, after)| {
        earlier.peers.get(key).is_some_and(|before| {
            before.received_bytes > after.received_bytes || before.sent_bytes > after.sent_bytes
        })
    });
    rewound.then_some(Disagreement::Rewound)
}

/// Where a report came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// Asked through the tunnel.
    Tunnel,
    /// Read from the tail of the container's log.
    Logs,
}

/// A gateway's telemetry, with ages turned into times on the daemon's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Where it came from.
    pub place: Place,
    /// The gateway's boot id; a change means that its memory of handshakes and traffic began anew.
    pub boot: String,
    /// When the gateway started.
    pub started_at: Timestamp,
    /// Generation of the peers, routes and names in force.
    pub generation: Option<u64>,
    /// Digest of the same.
    pub digest: Option<Digest>,
    /// Users by key.
    pub peers: BTreeMap<PublicKey, PeerReport>,
    /// Flows over all users.
    pub flows: u32,
    /// Bytes in flow buffers.
    pub buffered_bytes: u64,
    /// Packets and connections that the egress policy refused.
    pub refused: u64,
}

/// One user's part of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Time of the last handshake; `None` means never since the gateway started.
    pub handshake_at: Option<Timestamp>,
    /// Time of the last data packet either way; `None` means never since the gateway started.
    pub data_at: Option<Timestamp>,
    /// Bytes from the user since the gateway started.
    pub received_bytes: u64,
    /// Bytes to the user since the gateway started.
    pub sent_bytes: u64,
    /// TCP connections that are open at both ends.
    pub open_flows: u32,
    /// Where the user's packets come from.
    pub endpoint: Option<std::net::SocketAddr>,
}

/// A moment on a gateway's own clock. Unlike a time on the daemon's clock it stays right when that clock is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// The gateway's boot id.
    pub boot: String,
    /// Milliseconds after its start.
    pub uptime_ms: u64,
}

impl Report {
    /// The moment that the daemon's clock calls `at`.
    #[must_use]
    pub fn moment(&self, at: Timestamp) -> Moment {
        let uptime_ms = u64::try_from(at.duration_since(self.started_at).as_millis()).unwrap_or(0);
        Moment { boot: self.boot.clone(), uptime_ms }
    }

    /// What the daemon's clock calls `moment`. A moment before a restart is the restart: the gateway knows nothing older.
    #[must_use]
    pub fn time_of(&self, moment: &Moment) -> Timestamp {
        if moment.boot != self.boot {
            return self.started_at;
        }
        let uptime = SignedDuration::from_millis(i64::try_from(moment.uptime_ms).unwrap_or(i64::MAX));
        self.started_at.checked_add(uptime).unwrap_or(Timestamp::MAX)
    }

    /// Reads telemetry that was received at `taken_at`.
    #[must_use]
    pub fn new(telemetry: &Telemetry, place: Place, taken_at: Timestamp) -> Self {
        let at = |age_ms: u64| before(taken_at, age_ms);
        Self {
            taken_at,
            place,
            boot: telemetry.boot.clone(),
            started_at: at(telemetry.uptime_ms),
            generation: telemetry.generation,
            digest: telemetry.digest.clone(),
            peers: telemetry
                .peers
                .iter()
                .map(|peer| {
                    let report = PeerReport {
                        handshake_at: peer.handshake_age_ms.map(at),
                        data_at: peer.data_age_ms.map(at),
                        received_bytes: peer.received_bytes,
                        sent_bytes: peer.sent_bytes,
                        open_flows: peer.open_flows,
                        endpoint: peer.endpoint,
                    };
                    (peer.public_key, report)
                })
                .collect(),
            flows: telemetry.flows.tcp + telemetry.flows.udp + telemetry.flows.icmp,
            buffered_bytes: telemetry.flows.buffered_bytes,
            refused: telemetry.flows.refused,
        }
    }

    /// The newest handshake of any user.
    #[must_use]
    pub fn last_handshake(&self) -> Option<Timestamp> {
        self.peers.values().filter_map(|peer| peer.handshake_at).max()
    }

    /// The newest data packet of any user.
    #[must_use]
    pub fn last_data(&self) -> Option<Timestamp> {
        self.peers.values().filter_map(|peer| peer.data_at).max()
    }

    /// TCP connections of all users that are open at both ends.
    #[must_use]
    pub fn open_flows(&self) -> u32 {
        self.peers.values().map(|peer| peer.open_flows).sum()
    }
}

fn before(at: Timestamp, age_ms: u64) -> Timestamp {
    let age = SignedDuration::from_millis(i64::try_from(age_ms).unwrap_or(i64::MAX));
    at.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use ebb_wire::PrivateKey;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A report taken at this second by a gateway that started at second 0, which says how many bytes one user has sent.
    fn report(place: Place, second: i64, boot: &str, received_bytes: u64) -> Report {
        let peer = PeerReport {
            handshake_at: None,
            data_at: None,
            received_bytes,
            sent_bytes: 0,
            open_flows: 0,
            endpoint: None,
        };
        Report {
            taken_at: at(second),
            place,
            boot: boot.to_owned(),
            started_at: at(0),
            generation: Some(1),
            digest: None,
            peers: [(PrivateKey::from_random([1; 32]).public(), peer)].into(),
            flows: 0,
            buffered_bytes: 0,
            refused: 0,
        }
    }

    fn evidence(reports: impl IntoIterator<Item = Report>, error: Option<&str>) -> Evidence {
        let mut evidence = Evidence::none(RunId::from("run".to_owned()));
        reports.into_iter().for_each(|report| evidence.take(report));
        evidence.error = error.map(str::to_owned);
        evidence
    }

    #[test]
    fn a_tunnel_and_a_log_that_tell_one_story_agree() {
        let both = [report(Place::Tunnel, 300, "a", 50), report(Place::Logs, 240, "a", 40)];
        assert_eq!(evidence(both, None).disagreement(), None);
        // The log is from before a restart of the container, the tunnel from after it.
        let mut restarted = report(Place::Tunnel, 300, "b", 0);
        restarted.started_at = at(280);
        let both = [restarted, report(Place::Logs, 240, "a", 40)];
        assert_eq!(evidence(both, None).disagreement(), None);
    }

    #[test]
    fn a_gateway_that_writes_and_does_not_answer_cannot_be_reached() {
        let logs = [report(Place::Tunnel, 100, "a", 40), report(Place::Logs, 240, "a", 50)];
        let found = evidence(logs.clone(), Some("no answer")).disagreement().unwrap();
        assert_eq!(found.reason(), reasons::TUNNEL_UNREACHABLE);
        assert!(found.to_string().contains("drops UDP"), "{found}");
        // Once it answers again it is the newest that counts.
        let answered = [logs[0].clone(), logs[1].clone(), report(Place::Tunnel, 260, "a", 50)];
        assert_eq!(evidence(answered, None).disagreement(), None);
    }

    #[test]
    fn two_gateways_under_one_name_and_counters_that_go_back_are_told() {
        let both = [report(Place::Tunnel, 300, "a", 50), report(Place::Logs, 240, "b", 40)];
        let found = evidence(both, None).disagreement().unwrap();
        assert_eq!(found, Disagreement::TwoGateways { logged_at: at(240) });
        assert_eq!(found.reason(), reasons::CONTRADICTION);
        let both = [report(Place::Tunnel, 300, "a", 30), report(Place::Logs, 240, "a", 40)];
        assert_eq!(evidence(both, None).disagreement(), Some(Disagreement::Rewound));
    }
}
