//! The resolver itself: from a query to its answer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use domain::base::Rtype;
use domain::base::iana::{ExtendedErrorCode, OptRcode};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::address::allowed;
use super::cache::{Cache, Outcome};
use super::names::{Names, Source};
use super::outstanding::{Joined, Outstanding};
use super::query::{self, Asked, Failure, Read};
use super::reply::Reply;
use super::upstreams::Upstreams;
use super::{Attempt, Client, Config, ConfigError, Settings, Stats, Upstream, answer};
use crate::Time;

/// Answers queries of peers, from names known here, from its cache or by asking upstreams.
///
/// Its memory is bounded by [`Settings`]: cache, outstanding queries, and queues that the caller empties.
pub struct Resolver {
    pub(super) settings: Settings,
    pub(super) random: StdRng,
    reachable: Box<dyn Fn(IpAddr) -> bool + Send>,
    names: Names,
    pub(super) upstreams: Upstreams,
    cache: Cache,
    pub(super) outstanding: Outstanding,
    answers: VecDeque<(Client, Vec<u8>)>,
    pub(super) commands: VecDeque<Upstream>,
    pub(super) attempts: u64,
    pub(super) stats: Stats,
}

const LIMITED: Failure = Failure::new(
    OptRcode::SERVFAIL,
    ExtendedErrorCode::OTHER,
    "too many queries wait for upstream resolvers; try again",
);
const TOO_LARGE: Failure = Failure::new(
    OptRcode::SERVFAIL,
    ExtendedErrorCode::OTHER,
    "the name has more addresses than an answer holds",
);
const NO_RECURSION: Failure = Failure::new(
    OptRcode::REFUSED,
    ExtendedErrorCode::NOT_AUTHORITATIVE,
    "the query does not ask for recursion, and the name is not known here",
);

impl Resolver {
    /// A resolver without names and without upstreams.
    ///
    /// `seed` must come from the system's random source: message IDs are drawn from it, and forging answers is as hard as
    /// guessing them (RFC 5452, section 4.3). `reachable` is the egress policy, whether users may reach an address through
    /// the tunnel. It is asked about private addresses in answers of public upstreams: unless users may reach them, the
    /// answer is withheld (DNS rebinding). It is asked again for every answer, so it may follow changes of the routes.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32], reachable: Box<dyn Fn(IpAddr) -> bool + Send>) -> Self {
        Self {
            random: StdRng::from_seed(seed),
            reachable,
            names: Names::new(settings.local_ttl),
            upstreams: Upstreams::default(),
            cache: Cache::new(settings.cache_entries, settings.cache_bytes),
            outstanding: Outstanding::new(&settings),
            answers: VecDeque::new(),
            commands: VecDeque::new(),
            attempts: 0,
            stats: Stats::default(),
            settings,
        }
    }

    /// Replaces names and upstreams while queries go on. Cached answers stay, unless the upstreams changed or `reachable`
    /// no longer lets one pass.
    ///
    /// # Errors
    /// When a name is no DNS name. Nothing has changed then.
    pub fn configure(&mut self, config: &Config<'_>) -> Result<(), ConfigError> {
        self.names.configure(config)?;
        if self.upstreams.configure(config, self.settings.upstream_port) {
            // Others may tell other things: a private resolver knows names that a public one denies.
            self.cache.clear();
        }
        let Self { cache, settings, upstreams, reachable, .. } = self;
        let reachable = &**reachable;
        cache.review(|reply, from| {
            !settings.rebinding_protection || allowed(reply, upstreams.is_site(from), reachable)
        });
        Ok(())
    }

    /// Takes a message that a client sent to the gateway. Its answer comes from [`poll_answer`](Self::poll_answer), at once
    /// or within [`Settings::deadline`]; only messages that are no queries get none.
    pub fn query(&mut self, client: Client, message: &[u8], now: Time) {
        self.stats.queries += 1;
        match query::read(message, client.transport, &self.settings) {
            Read::Drop => self.stats.dropped += 1,
            Read::Refuse(answer) => {
                self.stats.refused += 1;
                self.answers.push_back((client, answer));
            }
            Read::Ask(asked) => self.ask(client, asked, now),
        }
    }

    fn ask(&mut self, client: Client, asked: Asked, now: Time) {
        let source = self.names.find(&asked.question);
        let candidates = match &source {
            Source::Here(_) => Vec::new(),
            Source::Site(_) => self.upstreams.candidates(true, now),
            Source::Anywhere => self.upstreams.candidates(false, now),
        };
        let local = match source {
            Source::Here(message) => Some(message),
            Source::Site(message) if candidates.is_empty() => Some(message),
            _ if asked.question.rtype == Rtype::ANY => Some(self.names.any(&asked.question)),
            Source::Site(_) | Source::Anywhere => None,
        };
        if let Some(message) = local {
            self.stats.local += 1;
            return match Reply::local(&message, &asked.question, &self.settings) {
                Some(reply) => self.answer(client, &asked, &reply, Duration::ZERO),
                None => self.fail(client, &asked, TOO_LARGE),
            };
        }
        // Without recursion only local data may be given (RFC 1034, section 4.3.1). The cache is left out: it would tell
        // one user which names another one visits.
        if !asked.recursion_desired {
            self.stats.refused += 1;
            return self.fail(client, &asked, NO_RECURSION);
        }
        if let Some((outcome, age)) = self.cache.get(&asked.question, now) {
            self.stats.cached += 1;
            return match outcome {
                Outcome::Answer(reply, _) => self.answer(client, &asked, &reply, age),
                Outcome::Failure(failure) => self.fail(client, &asked, failure),
            };
        }
        match self.outstanding.join(client, asked, self.upstreams.epoch, candidates, now) {
            Ok(Joined::New(number)) => {
                self.stats.forwarded += 1;
                self.send_next(number, now);
            }
            Ok(Joined::Waiting) => self.stats.forwarded += 1,
            Ok(Joined::Repeated) => self.stats.repeated += 1,
            Err(asked) => {
                self.stats.limited += 1;
                self.fail(client, &asked, LIMITED);
            }
        }
    }

    fn answer(&mut self, client: Client, asked: &Asked, reply: &Reply, age: Duration) {
        let message = answer::answer(asked, reply, age, self.settings.trust_ad);
        self.answers.push_back((client, message));
    }

    fn fail(&mut self, client: Client, asked: &Asked, failure: Failure) {
        self.answers.push_back((client, answer::failure(asked, failure)));
    }

    /// Ends a question: all who wait get this, and so do those who ask within `ttl`.
    pub(super) fn settle(&mut self, number: u64, outcome: Outcome, ttl: Option<Duration>, now: Time) {
        let Some(open) = self.outstanding.close(number) else { return };
        self.commands.extend(open.live.iter().map(|&attempt| Upstream::Forget { attempt }));
        for (client, asked) in &open.waiting {
            match &outcome {
                Outcome::Answer(reply, _) => self.answer(*client, asked, reply, Duration::ZERO),
                Outcome::Failure(failure) => self.fail(*client, asked, *failure),
            }
        }
        // Upstreams that were replaced meanwhile must not speak for their successors.
        if let Some(ttl) = ttl
            && open.epoch == self.upstreams.epoch
        {
            self.cache.insert(open.question, outcome, ttl, now);
        }
    }

    /// Whether a reply may be passed on.
    pub(super) fn may_pass(&self, reply: &Reply, from: SocketAddr) -> bool {
        !self.settings.rebinding_protection || allowed(reply, self.upstreams.is_site(from), &self.reachable)
    }

    /// Drops what `peer` waits for, because it is gone.
    pub fn forget_peer(&mut self, peer: u64) {
        self.answers.retain(|(client, _)| client.peer != peer);
        for number in self.outstanding.forget_peer(peer) {
            if let Some(open) = self.outstanding.close(number) {
                self.commands.extend(open.live.iter().map(|&attempt| Upstream::Forget { attempt }));
            }
        }
    }

    /// The next answer to send.
    pub fn poll_answer(&mut self) -> Option<(Client, Vec<u8>)> {
        self.answers.pop_front()
    }

    /// The next thing to do towards upstreams.
    pub fn poll_upstream(&mut self) -> Option<Upstream> {
        self.commands.pop_front()
    }

    /// When [`expire`](Self::expire) has to be called next; `None` while nothing is outstanding.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.outstanding.deadline()
    }

    /// Does what is due at `now`.
    pub fn expire(&mut self, now: Time) {
        while let Some(number) = self.outstanding.due(now) {
            self.overdue(number, now);
        }
    }

    /// Takes a message that arrived on the socket of `attempt` from `from`.
    pub fn upstream_reply(&mut self, attempt: Attempt, from: SocketAddr, message: &[u8], now: Time) {
        self.reply(attempt, from, message, now);
    }

    /// The socket of `attempt` could not be made, was refused or broke.
    pub fn upstream_failed(&mut self, attempt: Attempt, now: Time) {
        self.broken(attempt, now);
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Queries waiting for upstreams.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.waiting()
    }

    /// Answers in the cache.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cache.len()
    }
}
