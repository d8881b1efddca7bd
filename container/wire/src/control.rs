//! Requests of the daemon, spoken over TCP inside the tunnel.
//!
//! One connection, one request at a time, each answered by one reply. There is no login: the WireGuard key of
//! [`crate::Boot::control_key`] is the login, and only its holder can send from [`DAEMON_ADDRESS`].

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::{Digest, Live, Telemetry};

/// TCP port of the control connection on [`GATEWAY_ADDRESS`].
pub const CONTROL_PORT: u16 = 6262;

/// The gateway on the control network. "ebb" is 65 62 62 in ASCII; fd00::/8 is RFC 4193's private range.
pub const GATEWAY_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd65, 0x6262, 0, 0xffff, 0, 0, 0, 1);

/// The daemon on the control network.
pub const DAEMON_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd65, 0x6262, 0, 0xffff, 0, 0, 0, 2);

/// The network of both; no user address and no route may overlap it.
#[must_use]
pub fn control_network() -> Ipv6Net {
    Ipv6Net::new_assert(GATEWAY_ADDRESS, 64).trunc()
}

/// What the daemon asks of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Report handshakes, traffic and load. Changes nothing.
    Telemetry,
    /// Replace peers, routes and names by these, without a restart and without touching the flows of peers that stay.
    Configure(Live),
}

/// A gateway's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// Answer to [`Request::Telemetry`].
    Telemetry(Telemetry),
    /// Answer to [`Request::Configure`]: this is in force now.
    Configured {
        /// Digest of what is in force.
        digest: Digest,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a gateway refused a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// A daemon that was paused or replaced must not undo what its successor did.
    #[error("the gateway already has generation {held}, newer than {offered}")]
    OlderGeneration {
        /// Generation in force.
        held: u64,
        /// Generation of the refused request.
        offered: u64,
    },
    /// The request contradicts itself, for example two peers with one address.
    #[error("the configuration contradicts itself: {why}")]
    Invalid {
        /// What contradicts what.
        why: String,
    },
    /// The message has another version than [`crate::VERSION`].
    #[error("the gateway speaks version {supported} of the control protocol")]
    Version {
        /// The version that the gateway speaks.
        supported: u16,
    },
    /// The frame held no request.
    #[error("the gateway could not read the request")]
    Unreadable,
}
