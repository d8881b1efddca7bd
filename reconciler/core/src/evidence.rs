//! What is known about a gateway's use, and how old the knowledge is.

use std::collections::BTreeMap;

use ebb_wire::{Digest, PublicKey, Telemetry};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

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
    /// Why the last attempt to reach the gateway through the tunnel failed, if it did.
    pub error: Option<String>,
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
