//! What a gateway reports about itself.
//!
//! Times are ages in milliseconds on the gateway's monotonic clock, because the two clocks need not agree.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{Digest, PublicKey};

/// One report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Telemetry {
    /// 32 random hexadecimal digits drawn when the gateway started. A change means that all counters began anew.
    pub boot: String,
    /// Milliseconds since the gateway started.
    pub uptime_ms: u64,
    /// Generation of the [`crate::Live`] in force; `None` before the first one.
    pub generation: Option<u64>,
    /// Digest of the [`crate::Live`] in force; `None` before the first one.
    pub digest: Option<Digest>,
    /// Users only: the control peer never appears here.
    pub peers: Vec<PeerTelemetry>,
    /// Load.
    pub flows: Flows,
}

/// One user's handshakes and traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerTelemetry {
    /// Who.
    pub public_key: PublicKey,
    /// Where the last authenticated packet came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<SocketAddr>,
    /// Age of the last completed handshake; `None` means never.
    pub handshake_age_ms: Option<u64>,
    /// Age of the last data packet in either direction; `None` means never. A WireGuard keepalive is no data, nor is a TCP
    /// segment that carries neither payload nor SYN, FIN or RST.
    pub data_age_ms: Option<u64>,
    /// Bytes of inner packets from the user since the gateway started.
    pub received_bytes: u64,
    /// Bytes of inner packets to the user since the gateway started.
    pub sent_bytes: u64,
    /// TCP connections of the user that are open at both ends.
    pub open_flows: u32,
}

/// What a gateway carries, over all users.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flows {
    /// TCP connections, pending ones included.
    pub tcp: u32,
    /// UDP mappings.
    pub udp: u32,
    /// ICMP echo sequences.
    pub icmp: u32,
    /// Packets and connections refused by the egress policy since the start.
    pub refused: u64,
    /// Bytes held in flow buffers.
    pub buffered_bytes: u64,
}

/// The line a gateway prints once a minute, for the case that the tunnel cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Always `telemetry`; tells these lines from all others.
    pub ebb: String,
    /// [`crate::VERSION`].
    pub version: u16,
    /// Name of the session.
    pub session: String,
    /// Seconds since the epoch on the gateway's wall clock, to match lines with the log's own times.
    pub unix_seconds: u64,
    /// The report.
    #[serde(flatten)]
    pub telemetry: Telemetry,
}

impl LogLine {
    /// Finds a telemetry line in a line of log; `None` for every other line, of whatever form.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line: Self = serde_json::from_str(line.trim()).ok()?;
        (line.ebb == "telemetry" && line.version == crate::VERSION).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telemetry_line_is_found_among_other_lines() {
        let line = LogLine {
            ebb: "telemetry".into(),
            version: crate::VERSION,
            session: "s".into(),
            unix_seconds: 1_795_000_000,
            telemetry: Telemetry {
                boot: "00".repeat(16),
                uptime_ms: 61_000,
                peers: vec![PeerTelemetry {
                    public_key: PublicKey::from([3; 32]),
                    endpoint: None,
                    handshake_age_ms: Some(5),
                    data_age_ms: None,
                    received_bytes: 1,
                    sent_bytes: 2,
                    open_flows: 0,
                }],
                ..Telemetry::default()
            },
        };
        let text = serde_json::to_string(&line).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(LogLine::parse(&format!("  {text}\r")), Some(line));
        for other in
            ["", "starting", "{}", r#"{"ebb":"other"}"#, &text.replace("\"version\":1", "\"version\":9")]
        {
            assert_eq!(LogLine::parse(other), None, "{other}");
        }
    }
}
