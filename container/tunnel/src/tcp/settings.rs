//! What a connection can be told from outside.

use std::time::Duration;

/// Parameters of a connection; the defaults suit a gateway in front of WAN clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// MTU of the inner path in bytes: the MSS is this minus 40 (IPv4) or 60 (IPv6) (RFC 9293 3.7.1, RFC 6691). 1420 is
    /// WireGuard's own default for a 1500-byte outer path.
    pub mtu: u16,
    /// Size of a buffer at its first byte; rounded up to a power of two.
    pub ring_min: usize,
    /// Size a buffer may grow to; rounded up to a power of two. 4 MiB carries 800 Mbit/s at 40 ms.
    pub ring_max: usize,
    /// Offer timestamps (RFC 7323) and accept them when offered.
    pub timestamps: bool,
    /// Silence after which the remote end is probed (RFC 9293 3.8.4); none for no keepalive.
    pub keepalive: Option<Keepalive>,
    /// How long data may stay unacknowledged in spite of retransmissions before the connection ends (R2 of RFC 9293
    /// 3.8.3, at least 100 s).
    pub retransmit_timeout: Duration,
    /// How often a SYN or SYN/ACK is sent before the connection ends.
    pub syn_attempts: u8,
    /// How long the end that closed first answers late segments. RFC 9293 3.6.1 asks for 2 MSL = 4 minutes; a WireGuard
    /// receiver drops whatever is thousands of packets old, so old duplicates do not outlive seconds on this path.
    pub time_wait: Duration,
    /// How long a buffer stays allocated while it is empty and nothing moves.
    pub ring_linger: Duration,
}

/// When and how often to probe a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes after which the connection ends as timed out.
    pub probes: u8,
}

impl Default for Keepalive {
    /// 120 s, 15 s, 4: clients of a VPN vanish without a FIN (lid closed, network changed), and every dead flow holds a
    /// socket and keeps a session from being idle. RFC 9293 3.8.4 wants two hours because probes cost money on some links;
    /// here they share a tunnel that is already awake.
    fn default() -> Self {
        Self { idle: Duration::from_secs(120), interval: Duration::from_secs(15), probes: 4 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mtu: 1420,
            ring_min: 16 << 10,
            ring_max: 4 << 20,
            timestamps: false,
            keepalive: Some(Keepalive::default()),
            retransmit_timeout: Duration::from_secs(180),
            syn_attempts: 6,
            time_wait: Duration::from_secs(10),
            ring_linger: Duration::from_secs(1),
        }
    }
}
