//! The resolver itself: from a query to its answer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Attempt, Client, Config, ConfigError, Settings, Stats, Upstream};
use crate::Time;

/// Answers queries of peers, from names known here, from its cache or by asking upstreams.
///
/// Its memory is bounded by [`Settings`]: cache, outstanding queries, and queues that the caller empties.
pub struct Resolver {
    settings: Settings,
    random: StdRng,
    reachable: Box<dyn Fn(IpAddr) -> bool + Send>,
    answers: VecDeque<(Client, Vec<u8>)>,
    upstream: VecDeque<Upstream>,
    stats: Stats,
}

impl Resolver {
    /// A resolver without names and without upstreams.
    ///
    /// `seed` must come from the system's random source: message IDs are drawn from it, and forging answers is as hard as
    /// guessing them (RFC 5452, section 4.3). `reachable` is the egress policy, whether users may reach an address: an
    /// answer of a public upstream that holds another is withheld (DNS rebinding). It is asked again for every answer, so
    /// it may follow changes of the routes.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32], reachable: Box<dyn Fn(IpAddr) -> bool + Send>) -> Self {
        Self {
            settings,
            random: StdRng::from_seed(seed),
            reachable,
            answers: VecDeque::new(),
            upstream: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Replaces names and upstreams while queries go on. Cached answers stay, unless the upstreams changed or `reachable`
    /// refuses one.
    ///
    /// # Errors
    /// When a name is no DNS name. Nothing has changed then.
    pub fn configure(&mut self, config: &Config<'_>) -> Result<(), ConfigError> {
        let _ = config;
        Ok(())
    }

    /// Takes a message that a client sent to the gateway. Its answer comes from [`poll_answer`](Self::poll_answer), at once
    /// or within [`Settings::deadline`]; only messages that are no queries get none.
    pub fn query(&mut self, client: Client, message: &[u8], now: Time) {
        let _ = (client, message, now, &self.settings, &mut self.random, &self.reachable);
        self.stats.queries += 1;
    }

    /// Takes a message that arrived on the socket of `attempt` from `from`.
    pub fn upstream_reply(&mut self, attempt: Attempt, from: SocketAddr, message: &[u8], now: Time) {
        let _ = (attempt, from, message, now);
    }

    /// The socket of `attempt` could not be made, was refused or broke.
    pub fn upstream_failed(&mut self, attempt: Attempt, now: Time) {
        let _ = (attempt, now);
    }

    /// Drops what `peer` waits for, because it is gone.
    pub fn forget_peer(&mut self, peer: u64) {
        let _ = peer;
    }

    /// The next answer to send.
    pub fn poll_answer(&mut self) -> Option<(Client, Vec<u8>)> {
        self.answers.pop_front()
    }

    /// The next thing to do towards upstreams.
    pub fn poll_upstream(&mut self) -> Option<Upstream> {
        self.upstream.pop_front()
    }

    /// When [`expire`](Self::expire) has to be called next; `None` while nothing is outstanding.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        None
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Time) {
        let _ = now;
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Queries waiting for upstreams.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        0
    }

    /// Answers in the cache.
    #[must_use]
    pub fn cached(&self) -> usize {
        0
    }
}
