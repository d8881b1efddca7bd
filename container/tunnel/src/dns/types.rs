//! What the resolver and its caller hand to each other.

use std::net::{IpAddr, SocketAddr};

use ebb_wire::{Dns, Peer};
use ipnet::IpNet;

/// How a message travels. Messages cross this interface without the two-byte length of TCP; see [`Frames`](super::Frames).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// One datagram, one message.
    Udp,
    /// A stream of messages, each behind its length in two bytes (RFC 1035, section 4.2.2).
    Tcp,
}

/// Who asked, and where the answer has to go. The resolver hands it back as it came; it looks only at
/// [`peer`](Self::peer), to share itself out fairly, and at [`transport`](Self::transport).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    /// The tunnel peer, in the caller's numbering. The cap per client counts by it, because an address or a port costs
    /// a peer nothing.
    pub peer: u64,
    /// The caller's number for the TCP connection; any constant for UDP.
    pub flow: u64,
    /// Inner address and port that the query came from.
    pub source: SocketAddr,
    /// How the query came, and how the answer goes.
    pub transport: Transport,
}

/// One message sent to one upstream. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// What the caller has to do towards the upstream resolvers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// Send `message` to `to` from a socket made for this attempt alone, bound to no port, so that the kernel draws one
    /// at random, and connected, so that it drops what comes from elsewhere (RFC 5452, section 9.2). UDP: hand every
    /// datagram that arrives on it to [`Resolver::upstream_reply`](super::Resolver::upstream_reply). TCP: connect, send
    /// [`frame`](super::frame)`(message)`, hand over every message that comes back. A socket that cannot be made, is
    /// refused or breaks: [`Resolver::upstream_failed`](super::Resolver::upstream_failed).
    Ask {
        /// Names the attempt in all that follows.
        attempt: Attempt,
        /// The resolver to ask.
        to: SocketAddr,
        /// How.
        transport: Transport,
        /// The query.
        message: Vec<u8>,
    },
    /// Close the socket of this attempt. Comes exactly once for every `Ask`, also after a failure.
    Forget {
        /// Of the `Ask`.
        attempt: Attempt,
    },
}

/// Names that are answered here, and whom to ask for all others.
#[derive(Debug, Clone, Copy)]
pub struct Config<'a> {
    /// Name of the session.
    pub session: &'a str,
    /// Names and upstream resolvers of the desired state.
    pub dns: &'a Dns,
    /// Users by name.
    pub peers: &'a [Peer],
    /// The gateway's own addresses inside the tunnel.
    pub gateway: &'a [IpAddr],
    /// The session's networks inside the tunnel, whose reverse zones are answered here.
    pub networks: &'a [IpNet],
    /// The resolvers of the gateway's host, asked when `dns` names none.
    pub fallback: &'a [IpAddr],
}

/// Why a [`Config`] was refused; the one before it stays in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// RFC 1035, section 2.3.4: labels of 1 to 63 bytes, 253 characters in all.
    #[error("`{name}` is no DNS name: {why}")]
    Name {
        /// As written.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Counters since the resolver was made. Each query adds one to `queries` and one to exactly one of `dropped`,
/// `repeated`, `refused`, `local`, `cached`, `limited` and `forwarded`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages from clients.
    pub queries: u64,
    /// Messages from clients that were no query, or not even a DNS header; they get no answer.
    pub dropped: u64,
    /// Retransmissions of a query that is still outstanding; the first one is answered.
    pub repeated: u64,
    /// Queries answered with FORMERR, NOTIMP, REFUSED or BADVERS at once.
    pub refused: u64,
    /// Queries answered from names known here.
    pub local: u64,
    /// Queries answered from the cache.
    pub cached: u64,
    /// Queries answered with SERVFAIL at once, because too many were outstanding.
    pub limited: u64,
    /// Queries that waited for an upstream, alone or with others that had asked the same.
    pub forwarded: u64,
    /// Messages sent to upstreams.
    pub attempts: u64,
    /// Attempts over TCP.
    pub tcp_attempts: u64,
    /// Attempts that no reply came to in time.
    pub timeouts: u64,
    /// Attempts that ended with an error of the upstream or of its socket.
    pub failures: u64,
    /// Messages from upstreams that answer no question asked there: late, forged or broken.
    pub ignored: u64,
    /// Answers withheld because they point a public name at an address that names must not lead to.
    pub rebinding: u64,
    /// Queries that waited for an upstream and ended with SERVFAIL.
    pub unresolved: u64,
}
