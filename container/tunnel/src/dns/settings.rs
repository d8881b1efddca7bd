//! The resolver's policy, each number with its reason.

use std::time::Duration;

/// Limits and times of a [`Resolver`](super::Resolver).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Answers in the cache. A browsing user touches some hundred names an hour.
    pub cache_entries: usize,
    /// Bytes of answers in the cache. Most answers are under 300 bytes, but one over TCP can have 64 KiB.
    pub cache_bytes: usize,
    /// Longest time an answer is kept, whatever its TTL says (RFC 8767, section 4, allows any cap; sessions rarely live
    /// longer than a day).
    pub max_ttl: Duration,
    /// Longest time that a name or a type is believed not to exist. RFC 2308, section 5, proposes one to three hours;
    /// a name that somebody just made should appear sooner.
    pub max_negative_ttl: Duration,
    /// How long a failure is remembered. RFC 9520, section 3.2, demands one second to five minutes; a user who repairs
    /// his network and presses reload must not see the old failure.
    pub failure_ttl: Duration,
    /// TTL of the names known here, also of their absence. Changed names must be seen within two minutes.
    pub local_ttl: Duration,
    /// Queries waiting for upstreams, over all clients. At a round trip of 50 ms this is 10,000 queries a second; each
    /// question holds at most two sockets.
    pub outstanding: usize,
    /// The same for one [`Client::peer`](super::Client::peer). A page with 40 host names asks A, AAAA and HTTPS for each.
    pub outstanding_per_client: usize,
    /// Time until the next upstream is asked as well. Doubles with every attempt. Short, so that a dead first upstream
    /// still leaves an answer within half a second; the first upstream may still answer afterwards.
    pub first_timeout: Duration,
    /// The same for TCP, which needs a round trip more and may resend a SYN after one second (RFC 6298, section 2).
    pub tcp_timeout: Duration,
    /// Attempts per question by timeout; a truncated answer adds one over TCP to each.
    pub attempts: u32,
    /// Time from a query to its answer at the latest. Stub resolvers give up or ask again after 5 s (resolv.conf(5),
    /// `timeout`), so a SERVFAIL has to be there before.
    pub deadline: Duration,
    /// How long an upstream that failed or did not answer in time is asked last.
    pub avoid: Duration,
    /// Longest UDP message, sent and announced. 1232 fits the smallest IPv6 packet, hence every tunnel MTU from 1280,
    /// without fragments (DNS Flag Day 2020; RFC 9715, appendix A). At least 512 (RFC 6891, section 6.2.3).
    pub udp_payload: u16,
    /// Replies with a wrong ID on an attempt's own socket until the question moves to TCP. They are a sign of somebody
    /// guessing (RFC 5452, section 9.3).
    pub forgeries: u32,
    /// Whether an upstream's AD bit reaches clients that ask for it. The way to an upstream is bare UDP, so the bit
    /// proves nothing (RFC 4035, section 4.9.3); those who validate set CD and DO and check by themselves.
    pub trust_ad: bool,
    /// Whether answers of public upstreams that point into places where public names have no business are withheld. Only
    /// tests of such names would turn it off.
    pub rebinding_protection: bool,
    /// Port of the upstream resolvers.
    pub upstream_port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_entries: 4096,
            cache_bytes: 1 << 20,
            max_ttl: Duration::from_hours(24),
            max_negative_ttl: Duration::from_mins(15),
            failure_ttl: Duration::from_secs(1),
            local_ttl: Duration::from_secs(30),
            outstanding: 512,
            outstanding_per_client: 128,
            first_timeout: Duration::from_millis(400),
            tcp_timeout: Duration::from_millis(1500),
            attempts: 4,
            deadline: Duration::from_millis(4500),
            avoid: Duration::from_secs(30),
            udp_payload: 1232,
            forgeries: 3,
            trust_ad: false,
            rebinding_protection: true,
            upstream_port: 53,
        }
    }
}
